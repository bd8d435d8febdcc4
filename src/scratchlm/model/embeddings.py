"""Where a token lives, and when: a vector for what, and one for where.

`TokenEmbedding` turns ids into vectors. Three ways to say where a token
stands: a learned table (GPT-2), fixed waves (Vaswani et al., 2017, section
3.5), and the rotation of queries and keys (Su et al., 2021), in the
half-split form that Llama's published weights use.

Left out: stretching the angles beyond the trained context (NTK, YaRN) and
positions as a bias on the scores (ALiBi, T5).
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class TokenEmbedding(nn.Module):
    """A table with one row of `channels` numbers for each token id.

    Looking a row up is the product of a one-hot row with the table, without
    the multiplications by zero.
    """

    def __init__(self, vocab_size: int, channels: int) -> None:
        """Start small: normal numbers with standard deviation 0.02."""
        super().__init__()
        self.weight = nn.Parameter(torch.empty(vocab_size, channels))
        nn.init.normal_(self.weight, std=0.02)

    def forward(self, ids: Tensor) -> Tensor:
        """The rows of `ids`: (B, T) integers → (B, T, C)."""
        return F.embedding(ids, self.weight)


def check_positions(start: int, length: int, context: int) -> None:
    """Raise ValueError unless positions from `start` on fit the context."""
    if start < 0 or start + length > context:
        raise ValueError(
            f"positions {start} to {start + length - 1} do not fit a "
            f"context of {context}: feed fewer tokens, or build the model "
            "with a longer context"
        )


class LearnedPositions(nn.Module):
    """A table with one learned row for each position, as in GPT-2."""

    def __init__(self, context: int, channels: int) -> None:
        """Start as the tokens do, at standard deviation 0.02."""
        super().__init__()
        self.weight = nn.Parameter(torch.empty(context, channels))
        nn.init.normal_(self.weight, std=0.02)

    def forward(self, length: int, start: int = 0) -> Tensor:
        """The rows of `length` positions from `start` on: (T, C)."""
        check_positions(start, length, self.weight.shape[0])
        return self.weight[start : start + length]


def wave_frequencies(channels: int, base: float = 10000.0) -> Tensor:
    """Radians per position of channels/2 waves, from 1 down to ~1/base.

    Vaswani et al. (2017), section 3.5; Su et al. (2021), eq. 15. Raises
    ValueError where the channels do not come in pairs, and for a base that
    is not 1 or more.

    >>> wave_frequencies(4)
    tensor([1.0000, 0.0100])
    """
    if channels % 2:
        raise ValueError(
            f"{channels} channels do not make pairs: use an even number"
        )
    if not 1 <= base < math.inf:
        raise ValueError(
            f"a base of {base} makes no waves: choose 1 or more, 10000 for "
            "instance"
        )
    pair = torch.arange(channels // 2, dtype=torch.float32)
    return base ** (-2 * pair / channels)  # (C / 2,)


def sinusoidal_positions(context: int, channels: int) -> Tensor:
    """Sines in the even channels, cosines in the odd ones: (context, C).

    Vaswani et al. (2017), section 3.5. Nothing in it is learned.

    >>> sinusoidal_positions(2, 4)
    tensor([[0.0000, 1.0000, 0.0000, 1.0000],
            [0.8415, 0.5403, 0.0100, 0.9999]])
    """
    time = torch.arange(context, dtype=torch.float32)
    angles = torch.outer(time, wave_frequencies(channels))  # (T, C / 2)
    pairs = torch.stack([angles.sin(), angles.cos()], dim=-1)
    return pairs.flatten(1)  # (T, C)


def slow_down(
    frequencies: Tensor, factor: float, original: int
) -> Tensor:
    """The waves of a model made for `original` positions, slowed for more.

    Waves longer than `original` positions get `factor` times as long, those
    shorter than a quarter of it stay, and in between it is a mixture: this
    is what Llama 3.1 does (Grattafiori et al., 2024), in its published code.

    >>> waves = torch.tensor([1.0, 0.01])
    >>> slow_down(waves, factor=4.0, original=500)
    tensor([1.0000, 0.0025])
    """
    turns = original * frequencies / (2 * math.pi)  # in the first context
    kept = ((turns - 1) / (4 - 1)).clamp(0, 1)
    return frequencies * (kept + (1 - kept) / factor)


def rotary_tables(
    head_size: int,
    context: int,
    base: float = 10000.0,
    factor: float = 1.0,
    original: int = 8192,
) -> tuple[Tensor, Tensor]:
    """Cosines and sines of every position's angles, (context, D/2) each."""
    frequencies = wave_frequencies(head_size, base)
    if factor != 1.0:
        frequencies = slow_down(frequencies, factor, original)
    time = torch.arange(context, dtype=torch.float32)
    angles = torch.outer(time, frequencies)
    return angles.cos(), angles.sin()


class Rotary(nn.Module):
    """Turns queries and keys by angles that grow with their position.

    Su et al. (2021), section 3.2, half-split: channel i is paired with
    channel i + D/2, as in the weights of Llama that Hugging Face publishes.
    The tables are float32 whatever the model is cast to, move with it, and
    are not saved: they follow from the arguments. With a `factor`, waves
    are slowed down as `slow_down` says.
    """

    cos: Tensor
    sin: Tensor

    def __init__(
        self,
        head_size: int,
        context: int,
        base: float = 10000.0,
        factor: float = 1.0,
        original: int = 8192,
    ) -> None:
        """Tables for `context` positions; ValueError for an odd head."""
        super().__init__()
        self.head_size = head_size
        self.context = context
        self.base = base
        self.factor = factor
        self.original = original
        cos, sin = self.tables()
        self.register_buffer("cos", cos, persistent=False)  # (T, D / 2)
        self.register_buffer("sin", sin, persistent=False)

    def tables(self) -> tuple[Tensor, Tensor]:
        """Both tables, as they follow from the arguments."""
        waves = self.base, self.factor, self.original
        return rotary_tables(self.head_size, self.context, *waves)

    def apply_rotary(self, x: Tensor, start: int = 0) -> Tensor:
        """Rotate (B, H, T, D), whose first token stands at `start`."""
        length = x.shape[-2]
        check_positions(start, length, self.context)
        if self.cos.device != x.device:  # built on meta, and never moved
            self.to_empty(device=x.device)
        cos = self.cos[start : start + length]  # (T, D / 2)
        sin = self.sin[start : start + length]
        a, b = x.chunk(2, dim=-1)  # (B, H, T, D / 2) each
        rotated = torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)
        return rotated.to(x.dtype)

    def _apply(
        self, fn: Callable[[Tensor], Tensor], recurse: bool = True
    ) -> Any:
        """Follow the model to its device, and make the tables anew there.

        That way they keep their bits under `bfloat16()`, and their numbers
        after `to_empty()`, which leaves whatever was in memory.
        """
        super()._apply(fn, recurse)
        device = self.cos.device
        self.cos, self.sin = (table.to(device) for table in self.tables())
        return self


def halves_from_pairs(head_size: int) -> Tensor:
    """The order that takes interleaved channels to half-split ones: (D,).

    Su et al. and Meta's own Llama files pair channels 2i and 2i + 1;
    `Rotary` pairs i and i + D/2. Index the rows of each head's query and
    key weights with this order and the scores stay the same.

    >>> halves_from_pairs(6)
    tensor([0, 2, 4, 1, 3, 5])
    """
    return torch.arange(head_size).view(-1, 2).t().flatten()
