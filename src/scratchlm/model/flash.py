"""Attention without the matrix: the online softmax, block by block.

`blockwise_attention` computes what `scaled_dot_product_attention` does and
never holds more scores than a block of queries has with a block of keys. It
rests on a softmax that reads its scores once (Milakov and Gimelshein, 2018);
Rabe and Staats (2021) used it to attend in little memory, Dao et al. (2022)
to be fast as well: FlashAttention.

Left out: the way back, which an exercise adds, and the kernel itself, which
keeps its blocks in the fast memory of a graphics card.
"""

import math
import weakref
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from scratchlm.model.attention import causal_mask


def online_total(scores: Iterable[float]) -> tuple[float, float]:
    """The largest score and the sum of all exp(score - largest).

    Each score is read once and then forgotten. Milakov and Gimelshein
    (2018), algorithm 3, lines 1 to 6; the scores are finite.

    >>> largest, total = online_total([0.0, 1000.0, 1000.0])
    >>> largest, total
    (1000.0, 2.0)
    """
    largest, total = -math.inf, 0.0
    for score in scores:
        now = max(largest, score)
        total = total * math.exp(largest - now) + math.exp(score - now)
        largest = now
    return largest, total


def attend_over_blocks(
    q: Tensor, k: Tensor, v: Tensor, causal: bool, block: int
) -> Tensor:
    """A few queries (..., Tq, D) over all keys, `block` keys at a time.

    With `causal` the queries are the last positions of the keys. Returns
    (..., Tq, E); holds scores of the shape (..., Tq, block).
    """
    queries, keys = q.shape[-2], k.shape[-2]
    largest = q.new_full((*q.shape[:-1], 1), -math.inf)  # (..., Tq, 1)
    total = torch.zeros_like(largest)
    mixed = q.new_zeros(*q.shape[:-1], v.shape[-1])  # (..., Tq, E)
    seen = causal_mask(queries, keys, q.device) if causal else None
    for start in range(0, keys, block):
        part = slice(start, start + block)
        scores = q @ k[..., part, :].transpose(-2, -1)  # (..., Tq, block)
        scores = scores / math.sqrt(q.shape[-1])
        if seen is not None:
            scores = scores.masked_fill(~seen[:, part], -math.inf)
        now = torch.maximum(largest, scores.amax(dim=-1, keepdim=True))
        shrink = torch.exp(largest - now)  # 1 where no larger one came
        weights = torch.exp(scores - now)
        total = total * shrink + weights.sum(dim=-1, keepdim=True)
        mixed = mixed * shrink + weights @ v[..., part, :]
        largest = now
    return mixed / total


def blockwise_attention(
    q: Tensor, k: Tensor, v: Tensor, causal: bool = True, block: int = 64
) -> Tensor:
    """As `scaled_dot_product_attention`, in blocks of queries and of keys.

    q (..., Tq, D), k (..., Tk, D), v (..., Tk, E) → (..., Tq, E). With
    `causal`, keys after the last query of a block are not visited at all.
    Summed in float32 or better. Dao et al. (2022), algorithm 1, with the two
    loops exchanged.

    >>> nothing = torch.zeros(3, 2)
    >>> values = torch.tensor([[1.0], [2.0], [6.0]])
    >>> blockwise_attention(nothing, nothing, values, block=2)
    tensor([[1.0000],
            [1.5000],
            [3.0000]])
    """
    if block < 1:
        raise ValueError(f"blocks of {block} hold nothing: choose 1 or more")
    queries, keys, kind = q.shape[-2], k.shape[-2], v.dtype
    wide = torch.promote_types(kind, torch.float32)  # for sums of many keys
    q, k, v = (x.to(wide) for x in (q, k, v))
    pieces = []
    for start in range(0, max(1, queries), block):
        end = min(start + block, queries)
        last = keys - queries + end if causal else keys  # keys in sight
        piece = attend_over_blocks(
            q[..., start:end, :],
            k[..., :last, :],
            v[..., :last, :],
            causal,
            block,
        )
        pieces.append(piece)
    return torch.cat(pieces, dim=-2).to(kind)


class PeakMemory(TorchDispatchMode):
    """Counts the bytes of tensors made inside a `with`, and the most at once.

    Torch reports every operation to it, and it looks at the memory behind
    the result. A view has no memory of its own, and what was there before
    is not counted. What a kernel uses and gives back within one operation
    stays unseen.

    >>> with PeakMemory() as memory:
    ...     x = torch.zeros(1000)  # 4,000 bytes
    ...     x = x + 1  # 4,000 more, then the first are given back
    >>> memory.held, memory.peak
    (4000, 8000)
    """

    def __init__(self) -> None:
        """Nothing held."""
        super().__init__()
        self.held = 0
        self.peak = 0
        self.known: set[int] = set()

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run one operation, and count what it made."""
        for given in tree_leaves((args, kwargs)):
            self.count(given, made=False)
        result = func(*args, **(kwargs or {}))
        for part in tree_leaves(result):
            self.count(part, made=True)
        return result

    def count(self, part: Any, made: bool) -> None:
        """Remember the memory behind a tensor; add it if it is new."""
        if not isinstance(part, Tensor):
            return
        storage = part.untyped_storage()
        key, size = storage._cdata, storage.nbytes() if made else 0
        if key not in self.known:
            self.known.add(key)
            self.held += size
            self.peak = max(self.peak, self.held)
            weakref.finalize(storage, self.forget, key, size)

    def forget(self, key: int, size: int) -> None:
        """Called when nobody needs this memory any longer."""
        self.known.discard(key)
        self.held -= size
