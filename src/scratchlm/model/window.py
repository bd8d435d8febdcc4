"""Longer than it was trained for: a window to look through, or slower waves.

Two ways to let a model with rotary positions read more than its context.
Either each position sees the last few only (Beltagy et al., 2020), and the
first ones, which attention leans on (Xiao et al., 2024). Or the rotation is
made slower, so that a long text keeps to angles that training has shown: all
of it alike (Chen et al., 2023), by another base, or wave by wave as in YaRN
(Peng et al., 2024).

Left out: kernels that skip what a window hides, windows in some layers only,
and positions that are counted inside the window.
"""

import copy
import math
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scratchlm.model.attention import causal_mask
from scratchlm.model.embeddings import Rotary, slow_down, wave_frequencies
from scratchlm.model.gpt import GPT
from scratchlm.model.heads import KVStore, MultiHeadAttention

WAYS = ("plain", "linear", "ntk", "llama", "yarn")


def window_mask(
    queries: int,
    keys: int,
    window: int,
    sinks: int = 0,
    device: torch.device | None = None,
) -> Tensor:
    """True where a query may look: (queries, keys), booleans.

    At the last `window` positions, its own among them, and at the first
    `sinks` keys. The queries are the last positions of the keys, as in
    `causal_mask`. Raises ValueError for a window of nothing.

    >>> window_mask(2, 5, window=2, sinks=1).int()
    tensor([[1, 0, 1, 1, 0],
            [1, 0, 0, 1, 1]], dtype=torch.int32)
    """
    if window < 1:
        raise ValueError(f"a window of {window} sees nothing: choose 1 or more")
    seen = causal_mask(queries, keys, device)
    near = seen.triu(diagonal=keys - queries - window + 1)
    first = torch.arange(keys, device=device) < sinks
    return near | (seen & first)


class WindowedAttention(nn.Module):
    """A model's own attention, which sees a window and a few sinks."""

    def __init__(
        self, inner: MultiHeadAttention, window: int, sinks: int = 0
    ) -> None:
        """With the weights of `inner`, and none of its own."""
        super().__init__()
        self.inner = inner
        self.window = window
        self.sinks = sinks

    def forward(self, x: Tensor, store: KVStore | None = None) -> Tensor:
        """(B, T, C) → (B, T, C); with a store, after what it holds."""
        inner = self.inner
        q, k, v = inner.split(x, 0 if store is None else store.length)
        if store is not None:
            k, v = store.append(k, v)
        mask = window_mask(
            q.shape[2], k.shape[2], self.window, self.sinks, x.device
        )
        attended = F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, enable_gqa=q.shape[1] != k.shape[1]
        )
        return inner.dropout(inner.out(attended.transpose(1, 2).flatten(2)))


def see_window(model: GPT, window: int, sinks: int = 0) -> GPT:
    """A copy of the model in which all attention looks through a window."""
    model = copy.deepcopy(model)
    for block in model.blocks:
        block.attention = WindowedAttention(block.attention, window, sinks)
    return model


class RollingStore:
    """A `KVStore` that forgets what the window has passed.

    It holds the first `sinks` positions and the last `window` - 1, which is
    all that the next token can see besides itself.
    """

    def __init__(self, window: int, sinks: int = 0) -> None:
        """Empty; it learns the shapes from what comes first."""
        self.window = window
        self.sinks = sinks
        self.length = 0  # positions seen, and not positions held
        self.held: tuple[Tensor, Tensor] | None = None

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Add (B, K, T, D) each; return what is held and these."""
        if self.held is not None:
            k = torch.cat([self.held[0], k], dim=2)
            v = torch.cat([self.held[1], v], dim=2)
            self.length += k.shape[2] - self.held[0].shape[2]
        else:
            self.length = k.shape[2]
        self.held = self.trim(k), self.trim(v)
        return k, v

    def trim(self, x: Tensor) -> Tensor:
        """The first and the last positions of (B, K, T, D)."""
        last = x.shape[2] - (self.window - 1)
        if last <= self.sinks:
            return x.detach()
        parts = [x[:, :, : self.sinks], x[:, :, last:]]
        return torch.cat(parts, dim=2).detach()


def yarn_frequencies(
    head_size: int,
    base: float,
    factor: float,
    original: int,
    fast: float = 32.0,
    slow: float = 1.0,
) -> Tensor:
    """The waves of a model made for `original` positions, for `factor` times.

    Those of more than `fast` turns in the original context stay, those of
    fewer than `slow` get `factor` times as long, and between them the share
    falls from wave to wave (Peng et al., 2024, section 3.2, in the authors'
    code, whose ramp runs over the number of the wave).
    """
    frequencies = wave_frequencies(head_size, base)
    low, high = (
        head_size
        * math.log(original / (2 * math.pi * turns))
        / (2 * math.log(base))
        for turns in (fast, slow)
    )  # the numbers of the waves that make so many turns
    low = max(math.floor(low), 0)
    high = max(min(math.ceil(high), head_size - 1), low + 0.001)
    slowed = (torch.arange(head_size // 2) - low) / (high - low)
    slowed = slowed.clamp(0, 1)
    return frequencies * (1 - slowed + slowed / factor)


def stretched_waves(
    way: str, head_size: int, base: float, factor: float, original: int
) -> tuple[Tensor, float]:
    """Frequencies (D / 2,) for a context `factor` times as long; their size.

    `plain` leaves all as it was, `linear` slows all waves alike, `ntk`
    changes the base so that the slowest is slowed by the factor and the
    quickest stays; `llama` and `yarn` decide wave by wave. YaRN also makes
    the waves larger, for sharper attention (Peng et al., 2024, section 3.4).
    """
    waves = wave_frequencies(head_size, base)
    if way == "plain":
        return waves, 1.0
    if way == "linear":
        return waves / factor, 1.0
    if way == "ntk":
        base = base * factor ** (head_size / (head_size - 2))
        return wave_frequencies(head_size, base), 1.0
    if way == "llama":
        return slow_down(waves, factor, original), 1.0
    if way == "yarn":
        waves = yarn_frequencies(head_size, base, factor, original)
        return waves, 0.1 * math.log(factor) + 1
    raise ValueError(f"no way {way!r}: choose one of {', '.join(WAYS)}")


class StretchedRotary(Rotary):
    """A rotation for `factor` times the positions that were trained."""

    def __init__(
        self,
        way: str,
        head_size: int,
        base: float,
        factor: float,
        original: int,
    ) -> None:
        """Tables for original · factor positions."""
        self.way = way
        context = int(original * factor)
        super().__init__(head_size, context, base, factor, original)

    def tables(self) -> tuple[Tensor, Tensor]:
        """Cosines and sines of all angles, (T, D / 2) each."""
        frequencies, size = stretched_waves(
            self.way, self.head_size, self.base, self.factor, self.original
        )
        time = torch.arange(self.context, dtype=torch.float32)
        angles = torch.outer(time, frequencies)
        return size * angles.cos(), size * angles.sin()


def stretch(model: GPT, way: str, factor: float) -> GPT:
    """A copy of a rotary model that reads `factor` times its context.

    Its weights are those of the model. Raises ValueError for a model
    without rotary positions.
    """
    c = model.config
    if c.position != "rotary":
        raise ValueError(f"{c.position} positions have no waves to stretch")
    model = copy.deepcopy(model)
    rotary = StretchedRotary(
        way, c.channels_per_head, c.rope_base, factor, c.context
    )
    for block in model.blocks:
        block.attention.rotary = rotary
    model.config = replace(c, context=rotary.context)
    return model
