"""What a transformer block must do."""

import torch
from torch import Tensor, nn

from scratchlm.model import block

from ..expect import close, equal


class Times(nn.Module):
    """Stands for attention, a norm or an MLP: x → f · x + c."""

    def __init__(self, factor: float, plus: float = 0.0) -> None:
        """Remember both, and every input."""
        super().__init__()
        self.factor, self.plus = factor, plus
        self.stores: list[object] = []

    def forward(self, x: Tensor, store: object = None) -> Tensor:
        """Multiply and add."""
        self.stores.append(store)
        return self.factor * x + self.plus


def made_of_factors(order: str = "pre") -> block.Block:
    """Norms · 2 + 1 and + 3, attention × 10, feed-forward × 100.

    A norm that only added could stand before or behind a sum.
    """
    parts = Times(2, plus=1), Times(10), Times(1, plus=3), Times(100)
    return block.Block(*parts, order)  # type: ignore[arg-type]


def check_pre_norm_by_hand() -> None:
    """With parts that add and multiply, the two lines can be computed."""
    # 2 + 10 · (2 · 2 + 1) = 52;  52 + 100 · (52 + 3) = 5552
    close(
        made_of_factors()(torch.tensor([[[2.0]]])),
        [[[5552.0]]],
        "2 through norms · 2 + 1 and + 3, attention × 10, MLP × 100",
        hint="x + attention(norm1(x)), then x + mlp(norm2(x))",
    )


def check_post_norm_by_hand() -> None:
    """In the old order the norms stand after each sum.

    And in that of OLMo 2 on what is added.
    """
    # 2 · (2 + 20) + 1 = 45;  (45 + 4500) + 3 = 4548
    close(
        made_of_factors("post")(torch.tensor([[[2.0]]])),
        [[[4548.0]]],
        "2 through the same parts in the post-norm order",
        hint="norm1(x + attention(x)), then norm2(x + mlp(x))",
    )
    # 2 + (2 · 20 + 1) = 43;  43 + (4300 + 3) = 4346
    close(
        made_of_factors("branch")(torch.tensor([[[2.0]]])),
        [[[4346.0]]],
        "2 through the same parts, with norms on the branches",
        hint="x + norm1(attention(x)), then x + norm2(mlp(x))",
    )


def check_the_stream_is_not_touched() -> None:
    """If both parts say nothing, the stream passes bit for bit."""
    parts = nn.LayerNorm(4), Times(0), nn.LayerNorm(4), Times(0)
    silent = block.Block(*parts)  # type: ignore[arg-type]
    x = torch.tensor([[[1000.0, -3.0, 0.1, 7.0]]])
    equal(
        silent(x),
        x,
        "a row through a block whose parts say nothing",
        hint="add to x itself, not to the normalized x",
    )


def check_the_store_reaches_attention() -> None:
    """The store goes to the attention and to nothing else."""
    for order in ("pre", "post", "branch"):
        made, store = made_of_factors(order), object()
        made(torch.zeros(1, 1, 1), store)  # type: ignore[arg-type]
        parts = made.norm1, made.attention, made.norm2, made.mlp
        found = [part.stores for part in parts]  # type: ignore[union-attr]
        equal(
            found,
            [[None], [store], [None], [None]],
            f"what the parts got as a store, norm order {order}",
        )


def check_depth_profile_by_hand() -> None:
    """Three doublings: sizes 5, 10, 20, 40, and gradients halve each time."""
    x = torch.full((1, 2, 3), 5.0)
    streams, gradients = block.depth_profile([Times(2)] * 3, x)
    close(streams, [5, 10, 20, 40], "sizes of the stream")
    last = gradients[-1]
    close(
        [g / last for g in gradients],
        [8.0, 4.0, 2.0, 1.0],
        "sizes of the gradient, in units of the last",
        hint="the gradient at each stream, the input first",
    )
    close(block.rms(torch.tensor([1.0, 7.0])), 5.0, "the rms of 1 and 7")


BUGS = {
    "the residual around attention is missing": (
        "x = x + self.attention(self.norm1(x), store)",
        "x = self.attention(self.norm1(x), store)",
    ),
    "the residual around the feed-forward layer is missing": (
        "return x + self.mlp(self.norm2(x))",
        "return self.mlp(self.norm2(x))",
    ),
    "the normalized stream is what is added to": (
        "return x + self.mlp(self.norm2(x))",
        "x = self.norm2(x)\n        return x + self.mlp(x)",
    ),
    "one norm serves twice": (
        "return x + self.mlp(self.norm2(x))",
        "return x + self.mlp(self.norm1(x))",
    ),
    "the store is forgotten": (
        "self.attention(self.norm1(x), store)",
        "self.attention(self.norm1(x))",
    ),
    "both parts read the same stream": (
        "x = x + self.attention(self.norm1(x), store)\n"
        "        return x + self.mlp(self.norm2(x))",
        "attended = self.attention(self.norm1(x), store)\n"
        "        return x + attended + self.mlp(self.norm2(x))",
    ),
}
