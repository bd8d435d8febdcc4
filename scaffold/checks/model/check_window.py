"""What windows and stretched rotations must do."""

import math
from functools import partial

import torch
from torch import Tensor

from scratchlm.model import window
from scratchlm.model.embeddings import Rotary, wave_frequencies
from scratchlm.model.gpt import GPT, gpt2_config, llama_config

from ..expect import close, equal, raises, true
from ..inputs import waves

FORM = llama_config(9, 12, layers=2, heads=2, channels=8)


def built() -> GPT:
    """A model of two layers whose weights are not random."""
    model = GPT(FORM).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.copy_(waves(*parameter.shape))
    return model


def ids(length: int = 12) -> Tensor:
    """A text of so many tokens: (1, T)."""
    return (torch.arange(length) ** 2 % 9)[None]


def check_mask() -> None:
    """A window of 2: each query sees itself and the one before."""
    close(
        window.window_mask(3, 3, 2),
        [[1, 0, 0], [1, 1, 0], [0, 1, 1]],
        "the mask of three queries",
        hint="the query itself is one of the window",
    )
    close(
        window.window_mask(2, 5, 2),
        [[0, 0, 1, 1, 0], [0, 0, 0, 1, 1]],
        "the mask of two queries after three keys",
        hint="the queries are the last positions of the keys",
    )
    raises(ValueError, lambda: window.window_mask(3, 3, 0), "a window of 0")


def check_sinks() -> None:
    """Sinks are seen from everywhere, but not before their time."""
    close(
        window.window_mask(4, 4, 1, sinks=2),
        [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 0, 1]],
        "a window of 1 with two sinks",
        hint="the causal mask holds for sinks, too",
    )


def check_bands() -> None:
    """Seven tokens in blocks of three: the bands give what the mask gives."""
    q, k, v = (waves(1, 2, 7, 4, step=s) for s in (1.7, 2.3, 0.9))
    scores = (q @ k.transpose(-2, -1) / 2).masked_fill(
        ~window.window_mask(7, 7, 3), -math.inf
    )
    wanted = scores.softmax(dim=-1) @ v
    close(window.masked_attention(q, k, v, 3), wanted, "masked attention")
    close(
        window.banded_attention(q, k, v, 3),
        wanted,
        "banded attention",
        hint="a block sees itself and the block before; the first has none",
    )


def check_reach() -> None:
    """Two layers with a window of 3 pass news on by four positions."""
    model = window.use_window(built(), 3)
    equal(window.reach(2, 3), 5, "the reach of two layers")
    changed = ids()
    changed[0, 2] = (changed[0, 2] + 1) % 9
    with torch.no_grad():
        gap = (model(ids()) - model(changed)).abs().amax(dim=-1)[0]
    moved = (gap > 1e-6).nonzero().flatten().tolist()
    equal(
        moved,
        [2, 3, 4, 5, 6],
        "the positions that a changed token 2 reaches",
        hint="every layer gets the window, and passes on window - 1",
    )


def check_sinks_of_a_model() -> None:
    """A window of 1 and two sinks: who hears of tokens 1 and 2."""
    model = window.use_window(built(), 1, sinks=2)
    for token, wanted in ((1, list(range(1, 12))), (2, [2])):
        changed = ids()
        changed[0, token] = (changed[0, token] + 1) % 9
        with torch.no_grad():
            gap = (model(ids()) - model(changed)).abs().amax(dim=-1)[0]
        equal(
            (gap > 1e-6).nonzero().flatten().tolist(),
            wanted,
            f"the positions that a changed token {token} reaches",
            hint="sinks are seen from everywhere, but not before their time",
        )


def check_cache() -> None:
    """Read in parts with a rolling cache, a text gives the same logits."""
    model = window.use_window(built(), 3)
    for parts in ([1] * 12, [4, 1, 1, 1, 5], [2, 2, 8]):
        caches = window.rolling_caches(model)
        with torch.no_grad():
            got = [model(x, caches) for x in ids().split(parts, dim=1)]
            close(
                torch.cat(got, dim=1),
                model(ids()),
                f"logits of a text in parts of {parts}",
                hint="position t lies in slot t mod window; several new "
                "positions need the past in its order",
            )


def check_what_is_kept() -> None:
    """Of six positions, a window of four keeps the last four."""
    cache = window.RollingCache(1, 1, 4, 1)
    for t in range(6):
        one = torch.full((1, 1, 1, 1), float(t))
        keys, values = cache.append(one, one)
    equal(cache.length, 6, "positions seen")
    held = set(keys.flatten().tolist())
    true(held >= {2, 3, 4, 5}, "the sixth sees itself and the three before")
    true(0 not in held, "the first is forgotten", "it is out of every window")
    close(values, keys, "values, which lie where their keys lie")


def check_waves() -> None:
    """Three waves of 1, 0.1 and 0.01, for four times the context."""
    slow = torch.tensor([1.0, 0.1, 0.01])
    close(
        window.interpolate(slow, 4.0),
        [0.25, 0.025, 0.0025],
        "interpolated waves",
    )
    close(
        window.raise_base(slow, 4.0),
        [1.0, 0.05, 0.0025],
        "waves of a larger base",
        hint="the first stays, the last is divided by the whole factor",
    )
    close(
        window.yarn(slow, 4.0, original=628, fast=100.0),
        [1.0, 0.1 * (0.5 + 0.5 / 4), 0.0025],
        "YaRN's waves",
        hint="a wave of many turns stays; one of a turn or less is slowed",
    )
    raises(
        ValueError, partial(window.interpolate, slow, 0.25), "a factor below 1"
    )


def check_yarn_rounds_outwards() -> None:
    """Of 32 waves the first 9 stay, and from the 21st on all are slowed."""
    plain = wave_frequencies(64)
    ratio = plain / window.yarn(plain, 8.0, original=2048)
    close(ratio[:9], [1.0] * 9, "the fast waves")
    close(ratio[21:], [8.0] * 11, "the slow waves")
    true(
        bool(1 < ratio[9] < ratio[20] < 8),
        "the waves between are slowed by less than the factor",
    )
    close(window.sharpness(math.e**5), 1.5, "the size for a factor of e⁵")


def check_stretched_model() -> None:
    """More positions, the same weights; size² on every score."""
    model = window.stretch(built(), 48, partial(window.interpolate, factor=4.0))
    equal(model.config.context, 48, "the new context")
    rotary = model.get_submodule("blocks.1.attention").rotary
    assert isinstance(rotary, Rotary)
    old = Rotary(4, 12)
    close(
        rotary.cos[::4],
        old.cos,
        "every fourth position of the stretched tables",
        hint="four times the context, and each wave a fourth as fast",
    )
    large = window.StretchedRotary(wave_frequencies(4), 12, size=1.5)
    close(large.sin, 1.5 * old.sin, "sines times a size")
    close(large.cos, 1.5 * old.cos, "cosines times a size")


def check_models_that_cannot() -> None:
    """A learned table is refused, and a cache without a window."""
    learned = GPT(gpt2_config(9, 12, 1, 2, 8))
    raises(
        ValueError,
        lambda: window.stretch(learned, 24, lambda x: x),
        "a model with learned positions",
    )
    raises(
        ValueError,
        lambda: window.rolling_caches(built()),
        "a rolling cache for a model that has no window",
    )


BUGS = {
    "the window has one key too many": (
        "near = seen.triu(diagonal=keys - queries - window + 1)",
        "near = seen.triu(diagonal=keys - queries - window)",
    ),
    "the window is counted from the first key": (
        "near = seen.triu(diagonal=keys - queries - window + 1)",
        "near = seen.triu(diagonal=1 - window)",
    ),
    "sinks are seen before their time": (
        "near[:, :sinks] = seen[:, :sinks]",
        "near[:, :sinks] = True",
    ),
    "sinks are forgotten": (
        "near[:, :sinks] = seen[:, :sinks]",
        "pass",
    ),
    "the first block sees its padding": (
        "mask[0, :, :window] = False",
        "pass",
    ),
    "a block does not see the one before": (
        "mask[0, :, :window] = False",
        "mask[:, :, :window] = False",
    ),
    "the reach counts a window for each layer": (
        "return 1 + layers * (window - 1)",
        "return layers * window",
    ),
    "no layer gets the window": (
        "block.attention = WindowAttention(layer, window, sinks)",
        "block.window = WindowAttention(layer, window, sinks)",
    ),
    "a new position goes to the slot of its neighbor": (
        "at = torch.arange(start, start + new)[-window:] % window",
        "at = (1 + torch.arange(start, start + new)[-window:]) % window",
    ),
    "the cache keeps the first of many, not the last": (
        "memory[:, :, at] = x[:, :, -window:].detach()",
        "memory[:, :, at] = x[:, :, :window].detach()",
    ),
    "the past comes in the order of its slots": (
        "past = torch.arange(max(0, start - window), start) % window",
        "past = torch.arange(min(start, window))",
    ),
    "positions are counted up to the window alone": (
        "self.length += new",
        "self.length = min(self.length + new, window)",
    ),
    "interpolation makes waves faster": (
        "return frequencies / factor",
        "return frequencies * factor",
    ),
    "the base is raised by the factor and no more": (
        "return frequencies * factor ** (-torch.arange(last + 1) / last)",
        "return frequencies * factor ** (-torch.arange(last + 1) / (last + 1))",
    ),
    "the ramp is upside down": (
        "return frequencies * (1 - slowed + slowed / factor)",
        "return frequencies * (slowed + (1 - slowed) / factor)",
    ),
    "the ramp ends one pair early": (
        "high = min(math.ceil(high), 2 * len(frequencies) - 1)",
        "high = min(math.floor(high), 2 * len(frequencies) - 1)",
    ),
    "turns are taken for radians": (
        "math.log(original / (2 * math.pi * turns)) / step",
        "math.log(original / turns) / step",
    ),
    "the size is a logarithm to the base of ten": (
        "return 0.1 * math.log(factor) + 1",
        "return 0.1 * math.log10(factor) + 1",
    ),
    "the size is left out of the sines": (
        "return self.size * angles.cos(), self.size * angles.sin()",
        "return self.size * angles.cos(), angles.sin()",
    ),
    "the waves are changed, and the model keeps its own": (
        "layer.rotary = rotary",
        "layer.old_rotary = rotary",
    ),
}
