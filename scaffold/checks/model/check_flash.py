"""What attention in blocks must do."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from scratchlm.model import flash
from scratchlm.model.attention import scaled_dot_product_attention

from ..expect import close, equal, raises, true
from ..inputs import waves


class Largest(TorchDispatchMode):
    """Remembers how many numbers the largest tensor made inside has."""

    numbers = 0

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run one operation and look at its result."""
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            self.numbers = max(self.numbers, result.numel())
        return result


def check_total_by_hand() -> None:
    """Scores ln 1, ln 2 and ln 5, read once: largest ln 5, total 8 / 5."""
    for order in ((1, 2, 5), (5, 1, 2), (2, 5, 1)):
        got = flash.online_total([math.log(n) for n in order])
        close(
            got,
            [math.log(5), 8 / 5],
            f"largest and total of ln {order}",
            hint="when a larger score comes, shrink the sum by "
            "exp(old largest - new largest)",
        )


def check_large_scores() -> None:
    """Scores of 1,000 do not overflow."""
    close(flash.online_total([0.0, 1000.0, 1000.0]), [1000, 2], "the total")


def check_equals_attention() -> None:
    """Equal to the form with a matrix, for blocks of any size."""
    q, k, v = 3 * waves(2, 9, 4), 3 * waves(2, 9, 4, step=2.3), waves(2, 9, 3)
    for causal in (True, False):
        for block in (1, 2, 4, 9, 50):
            close(
                flash.blockwise_attention(q, k, v, causal, block),
                scaled_dot_product_attention(q, k, v, causal),
                f"attention in blocks of {block}, causal={causal}",
                hint="both the sum and the mixed values shrink when a "
                "larger score turns up",
            )


def check_fewer_queries_than_keys() -> None:
    """Three queries after a past of six."""
    q, k, v = waves(3, 4), waves(9, 4, step=2.3), waves(9, 2)
    for block in (1, 2, 5):
        close(
            flash.blockwise_attention(q, k, v, block=block),
            scaled_dot_product_attention(q, k, v),
            f"the last three of nine positions, in blocks of {block}",
            hint="query i stands at position keys - queries + i",
        )


def check_growing_scores() -> None:
    """The largest score comes last, and the sum has to shrink each time."""
    q = torch.ones(1, 1)
    k = torch.arange(0.0, 60.0, 10.0).view(6, 1)
    v = torch.arange(6.0).view(6, 1)
    close(
        flash.blockwise_attention(q, k, v, block=2),
        scaled_dot_product_attention(q, k, v),
        "one query whose scores grow by 10",
    )


def check_no_matrix() -> None:
    """No tensor has more numbers than a few blocks of queries and keys."""
    q, k, v = waves(256, 4), waves(256, 4, step=2.3), waves(256, 4)
    with Largest() as seen:
        flash.blockwise_attention(q, k, v, block=16)
    limit = 16 * 256  # a block of queries with all keys: 4,096
    equal(
        seen.numbers <= limit,
        True,
        f"a tensor of {seen.numbers:,} numbers was made; at most {limit:,}",
        hint="cut the queries into blocks, too",
    )


def check_block_size() -> None:
    """Blocks of nothing are refused."""
    q = waves(2, 2)
    raises(
        ValueError,
        lambda: flash.blockwise_attention(q, q, q, block=0),
        "blockwise_attention with block=0",
    )


def check_memory_by_hand() -> None:
    """Two tensors of 4,000 bytes, of which the first is given back."""
    for _ in range(2):  # memory that was given back may come again
        with flash.PeakMemory() as memory:
            x = torch.zeros(1000)
            x = x + 1
            true(x[:10].sum() == 10, "what is computed inside is right")
        equal(memory.held, 4000, "bytes that are still in use")
        true(
            8000 <= memory.peak < 8100,
            "the most at once are both, and a few numbers",
        )
    with flash.PeakMemory() as memory:
        for _ in range(20):
            x = torch.zeros(1000)
            del x
    equal((memory.held, memory.peak), (0, 4000), "one after the other")
    with flash.PeakMemory() as memory:
        for size in (1000, 3000, 9000):  # each may lie where the last did
            x = torch.zeros(size)
            del x
    equal(memory.peak, 36_000, "the most at once, of ever larger ones")


BUGS = {
    "the running total does not shrink": (
        "total = total * math.exp(largest - now) + math.exp(score - now)",
        "total = total + math.exp(score - now)",
    ),
    "the largest score is not remembered": (
        "now = max(largest, score)",
        "now = score",
    ),
    "the total of the blocks does not shrink": (
        "total = total * shrink + weights.sum(dim=-1, keepdim=True)",
        "total = total + weights.sum(dim=-1, keepdim=True)",
    ),
    "the mixed values do not shrink": (
        "mixed = mixed * shrink + weights @ v[..., part, :]",
        "mixed = mixed + weights @ v[..., part, :]",
    ),
    "the division at the end is forgotten": (
        "return mixed / total",
        "return mixed",
    ),
    "scores are not divided by the root of D": (
        "scores = scores / math.sqrt(q.shape[-1])",
        "scores = scores / 1",
    ),
    "queries are taken for the first positions": (
        "last = keys - queries + end if causal else keys",
        "last = end if causal else keys",
    ),
    "all queries are one block": (
        "for start in range(0, max(1, queries), block):\n"
        "        end = min(start + block, queries)",
        "for start in range(0, queries, queries):\n        end = queries",
    ),
}
