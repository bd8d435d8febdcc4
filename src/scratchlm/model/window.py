"""Longer than it was trained: windows, and rotations that are stretched.

Two ways to read a text that is longer than any that a model was trained on.
With a window (Beltagy et al., 2020; Jiang et al., 2023) every position looks
back on the same small number of keys, and a cache keeps no more than that.
With a stretched rotation (Chen et al., 2023; Peng et al., 2023) it looks back
on everything, by angles that training has seen. Both take a trained `GPT` and
leave its weights as they are.

Left out: windows in some layers alone, sinks that are learned, kernels that
skip what a mask hides, frequencies that are searched for (LongRoPE).
"""

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from scratchlm.model.attention import causal_mask
from scratchlm.model.embeddings import Rotary, wave_frequencies
from scratchlm.model.gpt import GPT
from scratchlm.model.heads import MultiHeadAttention, repeat_kv

# --- windows -----------------------------------------------------------------


def window_mask(
    queries: int,
    keys: int,
    window: int,
    sinks: int = 0,
    device: torch.device | None = None,
) -> Tensor:
    """True where a query may look: itself and the `window` - 1 before it.

    Booleans (queries, keys). As in `causal_mask` the queries are the last
    positions of the keys. The first `sinks` keys are seen from everywhere.
    Raises ValueError for a window below 1.

    >>> window_mask(4, 4, window=2, sinks=1).int()
    tensor([[1, 0, 0, 0],
            [1, 1, 0, 0],
            [1, 1, 1, 0],
            [1, 0, 1, 1]], dtype=torch.int32)
    """
    if window < 1 or sinks < 0:
        raise ValueError(
            f"a window of {window} and {sinks} sinks: a query sees itself at "
            "least, so choose a window of 1 or more, and 0 sinks or more"
        )
    seen = causal_mask(queries, keys, device)
    near = seen.triu(diagonal=keys - queries - window + 1)
    near[:, :sinks] = seen[:, :sinks]
    return near


def reach(layers: int, window: int) -> int:
    """How many tokens can have a part in one output, its own among them.

    In each layer, news travels `window` - 1 positions (Beltagy et al., 2020,
    here with windows to one side).

    >>> reach(layers=4, window=16)
    61
    """
    return 1 + layers * (window - 1)


def masked_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    window: int,
    sinks: int = 0,
    dropout: float = 0.0,
) -> Tensor:
    """Attention under `window_mask`: what is hidden is computed all the same.

    q (B, H, Tq, D), k and v (B, K, Tk, D) → (B, H, Tq, D).
    """
    mask = window_mask(q.shape[2], k.shape[2], window, sinks, q.device)
    return F.scaled_dot_product_attention(
        q,
        k,
        v,
        attn_mask=mask,
        dropout_p=dropout,
        enable_gqa=q.shape[1] != k.shape[1],
    )


def banded_attention(
    q: Tensor, k: Tensor, v: Tensor, window: int, dropout: float = 0.0
) -> Tensor:
    """As `masked_attention` without sinks, in time T · window and not T².

    q, k and v are (B, H, T, D). The text is cut into blocks as long as the
    window; a query of a block finds all its keys there and in the block
    before (Beltagy et al., 2020, have a form like it).
    """
    length = q.shape[2]
    pad = -length % window
    q = F.pad(q, (0, 0, 0, pad)).unflatten(2, (-1, window))  # (B, H, n, w, D)
    k, v = (
        torch.cat([x[:, :, :-1], x[:, :, 1:]], dim=3)  # (B, H, n, 2w, D)
        for x in (
            F.pad(x, (0, 0, window, pad)).unflatten(2, (-1, window))
            for x in (k, v)
        )
    )
    mask = window_mask(window, 2 * window, window, device=q.device)
    mask = mask.repeat(q.shape[2], 1, 1)  # (n, w, 2w)
    mask[0, :, :window] = False  # before the first block there is nothing
    out = F.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, dropout_p=dropout
    )
    return out.flatten(2, 3)[:, :, :length]


class WindowAttention(MultiHeadAttention):
    """A layer of attention that exists, and now looks through a window."""

    def __init__(
        self, full: MultiHeadAttention, window: int, sinks: int = 0
    ) -> None:
        """The same weights, under the same names, for another mask."""
        torch.nn.Module.__init__(self)
        vars(self).update(vars(full))  # the layer itself, not a copy of it
        self.window = window
        self.sinks = sinks

    def attention(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """What each query attended to in its window: (B, H, T, D)."""
        p = self.dropout.p if self.training else 0.0
        length = k.shape[2]
        if self.sinks or q.shape[2] != length or length <= self.window:
            return masked_attention(q, k, v, self.window, self.sinks, p)
        groups = self.heads // self.kv_heads
        k, v = repeat_kv(k, groups), repeat_kv(v, groups)
        return banded_attention(q, k, v, self.window, p)

    def head_weights(self, x: Tensor) -> Tensor:
        """Each head's weights on (B, T, C), for pictures: (B, H, T, T)."""
        q, k, v = self.split(x, start=0)
        b, heads, t, _ = v.shape
        rows = torch.eye(t, dtype=v.dtype, device=v.device)
        rows = rows.expand(b, heads, t, t)  # a mean of these is the weights
        return masked_attention(q, k, rows, self.window, self.sinks)


def use_window(model: GPT, window: int, sinks: int = 0) -> GPT:
    """Let every layer of a model look through a window; returns the model.

    Weights and their names stay. Raises ValueError for a window below 1.
    """
    window_mask(1, 1, window, sinks)  # refuses what is no window
    for block in model.blocks:
        layer = block.get_submodule("attention")
        assert isinstance(layer, MultiHeadAttention)
        block.attention = WindowAttention(layer, window, sinks)
    return model


class RollingCache:
    """Keys and values of the last `window` positions of one layer.

    A `KVStore`: position t is kept in the slot t mod `window`, where it takes
    the place of the one that has left the window (Jiang et al., 2023,
    section 2). It keeps numbers, not gradients.
    """

    def __init__(
        self, batch_size: int, kv_heads: int, window: int, head_size: int
    ) -> None:
        """Empty, at full size: (B, K, window, D) for keys and for values."""
        shape = (batch_size, kv_heads, window, head_size)
        self.k, self.v = torch.zeros(shape), torch.zeros(shape)
        self.length = 0  # positions seen, kept or not

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Add (B, K, T, D) each; return what the new ones may look at.

        A single new position gets the slots as they lie: its window is all
        that is kept, and attention does not ask for an order. Several get
        the past in its order, and then themselves. Raises ValueError for
        a batch size or heads other than those the cache was built for.
        """
        window, new, start = self.k.shape[2], k.shape[2], self.length
        sizes = tuple(self.k.shape[:2])
        if tuple(k.shape[:2]) != sizes or k.shape != v.shape:
            raise ValueError(
                f"keys {tuple(k.shape)} and values {tuple(v.shape)} do not "
                f"fit a cache for {sizes} texts and heads"
            )
        self.k, self.v = self.k.to(k), self.v.to(v)  # the model's type, device
        past = torch.arange(max(0, start - window), start) % window
        at = torch.arange(start, start + new)[-window:] % window
        self.length += new
        seen = []
        for memory, x in ((self.k, k), (self.v, v)):
            whole = torch.cat([memory[:, :, past], x], dim=2)
            memory[:, :, at] = x[:, :, -window:].detach()
            kept = memory[:, :, : self.length]
            seen.append(whole if new > 1 else kept)
        return seen[0], seen[1]


def rolling_caches(model: GPT, batch_size: int = 1) -> list[RollingCache]:
    """One empty cache for each layer of a model that uses a window.

    Raises ValueError for a model without, and for one with sinks, which such
    a cache would overwrite.
    """
    c, caches = model.config, []
    for block in model.blocks:
        layer = block.get_submodule("attention")
        if not isinstance(layer, WindowAttention) or layer.sinks:
            raise ValueError(
                "a rolling cache is for layers that have a window and no "
                "sinks: call use_window(model, window) first"
            )
        sizes = c.key_heads, layer.window, c.channels_per_head
        caches.append(RollingCache(batch_size, *sizes))
    return caches


# --- stretched rotations -----------------------------------------------------


def check_stretch(frequencies: Tensor, factor: float) -> None:
    """Raise ValueError for what cannot be stretched."""
    if not 1 <= factor < math.inf:
        raise ValueError(
            f"a factor of {factor} stretches nothing: it is the new context "
            "divided by the old one, 1 or more"
        )
    if len(frequencies) < 2:
        raise ValueError(
            "a single pair of channels is both the fastest and the slowest: "
            "use heads of 4 channels or more"
        )


def interpolate(frequencies: Tensor, factor: float) -> Tensor:
    """All waves, `factor` times as slow: (D/2,) radians per position.

    The same as positions divided by the factor (Chen et al., 2023).

    >>> interpolate(torch.tensor([1.0, 0.1, 0.01]), factor=4.0)
    tensor([0.2500, 0.0250, 0.0025])
    """
    check_stretch(frequencies, factor)
    return frequencies / factor


def raise_base(frequencies: Tensor, factor: float) -> Tensor:
    """The waves of a larger base: the slowest `factor` times as slow.

    The first wave stays, and each one after it is slowed by the same ratio
    more than the one before: "NTK-aware" (Peng et al., 2023). The base is
    multiplied by factor^(D / (D - 2)).

    >>> raise_base(torch.tensor([1.0, 0.1, 0.01]), factor=4.0)
    tensor([1.0000, 0.0500, 0.0025])
    """
    check_stretch(frequencies, factor)
    last = len(frequencies) - 1
    return frequencies * factor ** (-torch.arange(last + 1) / last)


def yarn(
    frequencies: Tensor, factor: float, original: int, fast: float = 32.0
) -> Tensor:
    """Fast waves stay, slow ones are slowed, with a linear ramp between them.

    Fast are those of `fast` turns and more within the `original` context,
    slow those of one turn and less. The ramp is linear in the number of
    the pair, from one whole number to another, as in the published code; in
    the paper (Peng et al., 2023) it is linear in the turns, as that of
    `slow_down` is. Raises ValueError unless fast > 1.

    >>> yarn(torch.tensor([1.0, 0.1, 0.01]), 4.0, original=628, fast=100)
    tensor([1.0000, 0.0625, 0.0025])
    """
    check_stretch(frequencies, factor)
    if not 1 < fast < math.inf:
        raise ValueError(
            f"fast={fast}: a fast wave turns more than once in the context"
        )
    if frequencies[0] == frequencies[1]:
        raise ValueError("all waves are equally fast: use interpolate")
    step = math.log(frequencies[0] / frequencies[1])  # in logarithms
    low, high = (
        math.log(original / (2 * math.pi * turns)) / step
        for turns in (fast, 1.0)
    )
    low = max(math.floor(low), 0)
    high = min(math.ceil(high), 2 * len(frequencies) - 1)
    pair = torch.arange(len(frequencies))
    slowed = ((pair - low) / max(high - low, 0.001)).clamp(0, 1)
    return frequencies * (1 - slowed + slowed / factor)


def sharpness(factor: float) -> float:
    """What YaRN multiplies queries and keys by, after they are turned.

    More keys make a softmax flatter; larger scores make it sharper again
    (Peng et al., 2023, as the root of 1 / t).

    >>> round(sharpness(4.0), 4)
    1.1386
    """
    return 0.1 * math.log(factor) + 1


class StretchedRotary(Rotary):
    """A rotation by waves of any kind, for more positions than before."""

    def __init__(
        self, frequencies: Tensor, context: int, size: float = 1.0
    ) -> None:
        """Tables of these waves (D/2,), and of rotations times `size`."""
        self.frequencies = frequencies  # before the rest: tables() asks
        self.size = size
        super().__init__(2 * len(frequencies), context)

    def tables(self) -> tuple[Tensor, Tensor]:
        """Cosines and sines, (context, D/2) each, times the size."""
        time = torch.arange(self.context, dtype=torch.float32)
        angles = torch.outer(time, self.frequencies)
        return self.size * angles.cos(), self.size * angles.sin()


def stretch(
    model: GPT,
    context: int,
    change: Callable[[Tensor], Tensor],
    size: float = 1.0,
) -> GPT:
    """Give a model another context and changed waves; returns the model.

    `change` takes the model's own waves (D/2,) to the new ones. Weights
    stay. Raises ValueError for a model without rotary positions, or whose
    waves have been changed already.
    """
    c = model.config
    if c.position != "rotary":
        raise ValueError(
            f"position={c.position!r}: a table that was learned has no rows "
            "for longer texts; only rotary positions can be stretched"
        )
    if c.rope_factor != 1:
        raise ValueError(
            f"rope_factor={c.rope_factor}: these waves are slowed already"
        )
    first = model.blocks[0].get_submodule("attention")
    if isinstance(first.rotary, StretchedRotary):
        raise ValueError(
            "these waves have been changed already: stretch the model as it "
            "was trained"
        )
    config = replace(c, context=context)  # before the layers: it may refuse
    waves = change(wave_frequencies(c.channels_per_head, c.rope_base))
    rotary = StretchedRotary(waves, context, size).to(model.token.weight.device)
    for block in model.blocks:
        layer = block.get_submodule("attention")
        assert isinstance(layer, MultiHeadAttention)
        layer.rotary = rotary
    model.config = config
    return model
