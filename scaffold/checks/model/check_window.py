"""What windows and stretched waves must do."""

import math

import torch
from torch import Tensor

from scratchlm.model import window
from scratchlm.model.gpt import GPT, llama_config

from ..expect import close, equal, raises


def small() -> GPT:
    """A model whose attention is not even, as if it were trained."""
    torch.manual_seed(0)
    config = llama_config(20, 12, layers=2, heads=2, channels=16, hidden=16)
    model = GPT(config).eval()
    for block in model.blocks:
        block.attention.qkv.weight.data *= 10
        block.attention.out.weight.data *= 20
    return model


def text(length: int) -> Tensor:
    """Tokens that are the same on every machine."""
    return (torch.arange(length) ** 2 % 17)[None]


def check_mask_by_hand() -> None:
    """Three queries after a past of two, with a window of two."""
    close(
        window.window_mask(3, 5, 2).int(),
        [[0, 1, 1, 0, 0], [0, 0, 1, 1, 0], [0, 0, 0, 1, 1]],
        "a window of two",
        hint="a position is in its own window, and the queries are the last "
        "positions of the keys",
    )


def check_sinks() -> None:
    """The first key is seen by all, and the future by nobody."""
    close(
        window.window_mask(3, 3, 1, sinks=2).int(),
        [[1, 0, 0], [1, 1, 0], [1, 1, 1]],
        "a window of one and two sinks",
        hint="a sink that is yet to come is not seen",
    )


def check_no_window() -> None:
    """A window of nothing is refused."""
    raises(
        ValueError,
        lambda: window.window_mask(2, 2, 0),
        "window_mask with a window of 0",
    )


@torch.no_grad()
def check_wide_window() -> None:
    """A window as wide as the text changes nothing."""
    model = small()
    close(
        window.see_window(model, 12)(text(12)),
        model(text(12)),
        "logits with a window of the whole text",
    )


@torch.no_grad()
def check_rolling_store() -> None:
    """What a store holds is enough, and no more than it needs."""
    for sinks in (0, 2):
        model = window.see_window(small(), 3, sinks)
        stores = [window.RollingStore(3, sinks) for _ in range(2)]
        cuts = text(12).split([1, 5, 1, 1, 4], dim=1)
        parts = [model(part, stores) for part in cuts]
        close(
            torch.cat(parts, dim=1),
            model(text(12)),
            f"logits by way of a store with {sinks} sinks",
            hint="`length` counts all positions seen, since the rotation "
            "goes by it; held are the sinks and the last window - 1",
        )
        held = stores[0].held
        equal(
            held is not None and held[0].shape[2] <= 3 + sinks,
            True,
            "no more than the window and the sinks are held",
        )


def check_waves_by_hand() -> None:
    """A head of four, base 100: waves of 1 and 0.1 for four times as long."""
    wanted = {
        "plain": [1, 0.1],
        "linear": [1 / 4, 0.1 / 4],
        "ntk": [1, 0.1 / 4],
    }
    for way, waves in wanted.items():
        got, size = window.stretched_waves(way, 4, 100.0, 4, 50)
        close(
            got,
            waves,
            f"the waves of {way}",
            hint="ntk: base · factor to the power of D / (D - 2), so that "
            "the slowest wave is slowed by just the factor",
        )
        close(size, 1.0, f"the size of the waves of {way}")


def check_yarn() -> None:
    """Quick waves stay, slow ones are slowed, and all are a little larger."""
    plain, _ = window.stretched_waves("plain", 64, 10000.0, 4, 4096)
    got, size = window.stretched_waves("yarn", 64, 10000.0, 4, 4096)
    ratio = plain / got
    close(ratio[:5], [1.0] * 5, "by how much quick waves are slowed")
    close(ratio[-5:], [4.0] * 5, "by how much slow waves are slowed", tol=1e-4)
    close(size, 0.1 * math.log(4) + 1, "the size of YaRN's waves")


@torch.no_grad()
def check_stretch() -> None:
    """Twice the context, and the size of the waves in the tables."""
    model = small()
    longer = window.stretch(model, "yarn", 2)
    equal(longer.config.context, 24, "the longer context")
    equal(longer(text(24)).shape, (1, 24, 20), "the shape of its logits")
    rotary = longer.blocks[0].attention.rotary
    close(
        rotary.cos.square() + rotary.sin.square(),
        torch.full((24, 4), (0.1 * math.log(2) + 1) ** 2),
        "cos² + sin² of all angles",
        hint="both tables are multiplied by the size",
    )
    close(
        window.stretch(model, "plain", 2)(text(12)),
        model(text(12)),
        "a short text, if the waves are left as they were",
    )


BUGS = {
    "a window is one too wide": (
        "seen.triu(diagonal=keys - queries - window + 1)",
        "seen.triu(diagonal=keys - queries - window)",
    ),
    "queries are taken for the first positions": (
        "seen.triu(diagonal=keys - queries - window + 1)",
        "seen.triu(diagonal=1 - window)",
    ),
    "sinks are seen before they come": (
        "return near | (seen & first)",
        "return near | first",
    ),
    "the store holds one too few": (
        "last = x.shape[2] - (self.window - 1)",
        "last = x.shape[2] - (self.window - 2)",
    ),
    "the store holds everything": (
        "if last <= self.sinks:",
        "if True:",
    ),
    "the store forgets its sinks": (
        "parts = [x[:, :, : self.sinks], x[:, :, last:]]",
        "parts = [x[:, :, :0], x[:, :, last:]]",
    ),
    "positions begin anew when something is forgotten": (
        "self.length += k.shape[2] - self.held[0].shape[2]",
        "self.length = k.shape[2]",
    ),
    "waves become quicker": (
        "return waves / factor, 1.0",
        "return waves * factor, 1.0",
    ),
    "the base is multiplied by the factor itself": (
        "base = base * factor ** (head_size / (head_size - 2))",
        "base = base * factor",
    ),
    "the ramp runs the wrong way": (
        "return frequencies * (1 - slowed + slowed / factor)",
        "return frequencies * (slowed + (1 - slowed) / factor)",
    ),
    "YaRN's waves keep their size": (
        "return waves, 0.1 * math.log(factor) + 1",
        "return waves, 1.0",
    ),
    "the tables forget the size": (
        "return size * angles.cos(), size * angles.sin()",
        "return angles.cos(), angles.sin()",
    ),
    "the context stays as it was": (
        "context = int(original * factor)",
        "context = int(original)",
    ),
}
