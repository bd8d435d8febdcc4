"""Saying when: five ways to tell a model where its tokens stand.

A position can enter in three places: added to the stream, applied to queries
and keys as a turn, or subtracted from the scores. `Positions` is the interface
of all three, and by itself says nothing; each way overrides one of them. A
small model takes any of the five, so that a run can compare them.

Left out: relative positions that are learned (T5), and stretching the angles
of a trained model (NTK, YaRN).
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scratchlm.model.attention import causal_mask
from scratchlm.model.embeddings import (
    LearnedPositions,
    Rotary,
    TokenEmbedding,
    sinusoidal_positions,
)
from scratchlm.model.layers import GELUMLP, LayerNorm


class Positions(nn.Module):
    """Where a position can enter; this one says nothing anywhere.

    Under a causal mask even that tells a little: the first token has one key
    to look at, the hundredth has a hundred (Haviv et al., 2022).
    """

    def add(self, x: Tensor) -> Tensor:
        """What goes into the first block, from the tokens (B, T, C)."""
        return x

    def turn(self, x: Tensor) -> Tensor:
        """Queries or keys (B, H, T, D), before their product."""
        return x

    def bias(self, length: int, device: torch.device) -> Tensor:
        """What is added to scores: (T, T) or (H, T, T), -inf for the future."""
        future = ~causal_mask(length, length, device)
        return torch.zeros(length, length, device=device).masked_fill(
            future, -math.inf
        )


class Learned(Positions):
    """A learned row for each of `context` positions is added (GPT-2)."""

    def __init__(self, context: int, channels: int) -> None:
        """Rows that training has not reached stay as they are drawn."""
        super().__init__()
        self.table = LearnedPositions(context, channels)

    def add(self, x: Tensor) -> Tensor:
        """(B, T, C) with the row of its position added to each token."""
        return x + self.table(x.shape[1])


class Sinusoidal(Positions):
    """Waves are added (Vaswani et al., 2017, section 3.5)."""

    def __init__(self, size: float = 0.2) -> None:
        """Waves of this size; embeddings start at 0.02 and grow."""
        super().__init__()
        self.size = size

    def add(self, x: Tensor) -> Tensor:
        """(B, T, C) with the waves of its position added to each token."""
        waves = sinusoidal_positions(*x.shape[1:]).to(x)  # (T, C)
        return x + self.size * waves


class Turned(Positions):
    """Queries and keys are turned (Su et al., 2021)."""

    def __init__(self, head_size: int, context: int) -> None:
        """Angles for `context` positions; none is learned."""
        super().__init__()
        self.rotary = Rotary(head_size, context)

    def turn(self, x: Tensor) -> Tensor:
        """(B, H, T, D), each pair of channels turned by its angle."""
        return self.rotary.apply_rotary(x)


def alibi_slopes(heads: int) -> Tensor:
    """The penalty for one token of distance, for each head: (H,).

    A geometric sequence that ends at 1/256 (Press et al., 2022, section 3),
    for a number of heads that is a power of two.

    >>> alibi_slopes(4)
    tensor([0.2500, 0.0625, 0.0156, 0.0039])
    """
    if heads < 1 or heads & (heads - 1):
        raise ValueError(f"{heads} heads: choose a power of two")
    return 2.0 ** (-8 * torch.arange(1, heads + 1) / heads)


class ALiBi(Positions):
    """Distance is subtracted from the scores (Press et al., 2022)."""

    def __init__(self, heads: int) -> None:
        """A slope for each head; none is learned."""
        super().__init__()
        self.register_buffer("slopes", alibi_slopes(heads), persistent=False)

    def bias(self, length: int, device: torch.device) -> Tensor:
        """−slope · distance for each head and pair, (H, T, T)."""
        time = torch.arange(length, device=device)
        distance = time[:, None] - time  # (T, T), of query and key
        slopes = self.get_buffer("slopes").float()  # 8 bits lose distances
        slopes = slopes.view(-1, 1, 1)
        return super().bias(length, device) - slopes * distance


class PositionedAttention(nn.Module):
    """Many heads, with positions in whatever way they are said."""

    def __init__(self, channels: int, heads: int) -> None:
        """Heads of channels / heads numbers, without biases."""
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(channels, 3 * channels, bias=False)
        self.out = nn.Linear(channels, channels, bias=False)

    def forward(self, x: Tensor, positions: Positions) -> Tensor:
        """(B, T, C) → (B, T, C)."""
        b, t, c = x.shape
        qkv = self.qkv(x).view(b, t, 3, self.heads, c // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # (B, H, T, D) each
        q, k = positions.turn(q), positions.turn(k)
        bias = positions.bias(t, x.device)  # in place of a mask
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        return self.out(mixed.transpose(1, 2).flatten(2))


class PositionedModel(nn.Module):
    """A small language model that is told positions in one of the ways."""

    def __init__(
        self,
        vocab_size: int,
        positions: Positions,
        layers: int = 2,
        heads: int = 4,
        channels: int = 64,
    ) -> None:
        """Pre-norm blocks; the head shares the table of the tokens."""
        super().__init__()
        self.token = TokenEmbedding(vocab_size, channels)
        self.positions = positions
        self.parts = nn.ModuleList()
        for _ in range(layers):
            self.parts.append(PositionedAttention(channels, heads))
            self.parts.append(GELUMLP(channels, bias=False))
        self.norms = nn.ModuleList(
            LayerNorm(channels) for _ in range(2 * layers + 1)
        )

    def forward(self, ids: Tensor) -> Tensor:
        """Logits of the next tokens: (B, T) → (B, T, V)."""
        x = self.positions.add(self.token(ids))
        for norm, part in zip(self.norms, self.parts):
            attends = isinstance(part, PositionedAttention)
            extra = (self.positions,) if attends else ()
            x = x + part(norm(x), *extra)
        return self.norms[-1](x) @ self.token.weight.T
