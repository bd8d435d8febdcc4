"""Solutions to the exercises on ways to say positions."""

import math

import torch
from torch import Tensor, nn

from scratchlm.model.attention import scaled_dot_product_attention
from scratchlm.model.positions import Positions, alibi_slopes


def reach(slope: float, share: float = 0.01) -> int:
    """From how far on an equal key weighs less than `share` of a near one.

    >>> reach(0.25), reach(1 / 256)
    (19, 1179)
    """
    return math.floor(-math.log(share) / slope) + 1


def any_slopes(heads: int) -> Tensor:
    """`alibi_slopes` for any number of heads: (H,).

    Those of the power of two below, and between them every second one of
    twice as many (the code of Press et al., 2022).
    """
    power = 1 << (heads.bit_length() - 1)
    more = alibi_slopes(2 * power)[0::2]
    return torch.cat([alibi_slopes(power), more[: heads - power]])


class LearnedBias(Positions):
    """A learned number for each head and distance is added to the scores.

    From `far` on all distances share one number (in the spirit of T5,
    Raffel et al., 2020, section 2.1, which has wider and wider buckets).
    """

    def __init__(self, heads: int, far: int) -> None:
        """All distances equal, at first."""
        super().__init__()
        self.table = nn.Parameter(torch.zeros(heads, far + 1))

    def bias(self, length: int, device: torch.device) -> Tensor:
        """(H, T, T), −∞ for the future."""
        time = torch.arange(length, device=device)
        distance = (time[:, None] - time).clamp(0, self.table.shape[1] - 1)
        return super().bias(length, device) + self.table[:, distance]


def told_by_the_mask(length: int) -> Tensor:
    """1/1, 1/2, 1/3 …: what a head that asks nothing can know: (T,).

    The first token says 1 and all others say 0; the mean of what came
    before is one over the position.
    """
    nothing = torch.zeros(length, 1)
    values = torch.zeros(length, 1)
    values[0] = 1
    return scaled_dot_product_attention(nothing, nothing, values)[:, 0]
