"""What five ways to say positions must do."""

import math

import torch

from scratchlm.model import positions
from scratchlm.model.embeddings import Rotary, sinusoidal_positions

from ..expect import close, equal, raises, true
from ..inputs import settled, waves

CPU = torch.device("cpu")


def built(way: positions.Positions) -> positions.PositionedModel:
    """A model of one layer whose weights are not random."""
    model = positions.PositionedModel(9, way, layers=1, heads=2, channels=8)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.copy_(0.3 * waves(*parameter.shape))
    return model


def check_silence() -> None:
    """The plain form adds nothing, turns nothing, and hides the future."""
    silent, x = positions.Positions(), waves(1, 3, 4)
    close(silent.add(x), x, "what goes into the first block")
    close(silent.turn(x), x, "queries")
    wanted = [[0, -math.inf, -math.inf], [0, 0, -math.inf], [0, 0, 0]]
    close(silent.bias(3, CPU), wanted, "what is added to three scores")


def check_slopes() -> None:
    """For 8 heads 1/2, 1/4 … 1/256; for 2 heads 1/16 and 1/256."""
    eight = [2.0**-i for i in range(1, 9)]
    close(positions.alibi_slopes(8), eight, "slopes of 8 heads")
    close(positions.alibi_slopes(2), [1 / 16, 1 / 256], "slopes of 2 heads")
    close(positions.alibi_slopes(1), [1 / 256], "the slope of a single head")
    for heads in (0, 3, 6):
        raises(
            ValueError,
            lambda heads=heads: positions.alibi_slopes(heads),  # type: ignore
            f"slopes of {heads} heads",
        )


def check_penalties() -> None:
    """Two heads, three positions: slope times distance is subtracted."""
    rows = positions.ALiBi(2).bias(3, CPU)
    for head, slope in enumerate((1 / 16, 1 / 256)):
        close(
            rows[head, 2],
            [-2 * slope, -slope, 0],
            f"what head {head} adds to the last row of scores",
            hint="the nearest key loses nothing, the farthest most",
        )
        close(rows[head, 0, 1:], [-math.inf] * 2, "the future of the first")


def check_what_is_added() -> None:
    """A learned row, or waves of the size asked for."""
    x = waves(1, 4, 6)
    learned = positions.Learned(5, 6)
    close(learned.add(x) - x, learned.table.weight[None, :4], "learned rows")
    got = positions.Sinusoidal(0.5).add(x) - x
    close(got, 0.5 * sinusoidal_positions(4, 6)[None], "waves of size 0.5")


def check_what_is_turned() -> None:
    """Queries and keys are turned; values are not."""
    layer = settled(positions.PositionedAttention(8, 2), 0.3)
    x = waves(1, 5, 8)
    qkv = layer.qkv(x).view(1, 5, 3, 2, 4).permute(2, 0, 3, 1, 4)
    rotary = Rotary(4, 5)
    q, k = rotary.apply_rotary(qkv[0]), rotary.apply_rotary(qkv[1])
    future = torch.ones(5, 5).triu(1).bool()
    scores = (q @ k.transpose(-2, -1) / 2).masked_fill(future, -math.inf)
    mixed = (scores.softmax(dim=-1) @ qkv[2]).transpose(1, 2).flatten(2)
    close(
        layer(x, positions.Turned(4, 5)),
        layer.out(mixed),
        "attention with turned queries and keys",
        hint="turn both queries and keys, and leave the values",
    )


def check_order() -> None:
    """One layer tells two orders apart with positions, and not without."""
    ids = torch.tensor([[4, 7, 1, 2], [7, 1, 4, 2]])
    for name, way, told in (
        ("none", positions.Positions(), False),
        ("learned", positions.Learned(4, 8), True),
        ("sinusoidal", positions.Sinusoidal(), True),
        ("RoPE", positions.Turned(4, 4), True),
        ("ALiBi", positions.ALiBi(2), True),
    ):
        last = built(way)(ids)[:, -1]
        gap = float((last[0] - last[1]).abs().max().detach())
        equal(gap > 1e-4, told, f"{name}: whether the order shows")


def check_every_part_is_used() -> None:
    """The scores reach each parameter: there is none that nobody reads."""
    model = built(positions.Learned(4, 8))
    model(torch.tensor([[4, 7, 1, 2]])).square().sum().backward()
    for name, parameter in model.named_parameters():
        true(
            parameter.grad is not None and bool(parameter.grad.any()),
            f"a gradient reaches {name}",
            hint="a norm before each part, and the last one before the head",
        )


BUGS = {
    "the future is not hidden": (
        "return super().bias(length, device) - slopes * distance",
        "return -slopes * distance",
    ),
    "distance is rewarded": (
        "device) - slopes * distance",
        "device) + slopes * distance",
    ),
    "slopes end too early": (
        "return 2.0 ** (-8 * torch.arange(1, heads + 1) / heads)",
        "return 2.0 ** (-4 * torch.arange(1, heads + 1) / heads)",
    ),
    "only queries are turned": (
        "q, k = positions.turn(q), positions.turn(k)",
        "q = positions.turn(q)",
    ),
    "values are turned, too": (
        "q, k = positions.turn(q), positions.turn(k)",
        "q, k, v = (positions.turn(y) for y in (q, k, v))",
    ),
    "positions are not added": (
        "x = self.positions.add(self.token(ids))",
        "x = self.token(ids)",
    ),
    "waves have their full size": (
        "return x + self.size * waves",
        "return x + waves",
    ),
}
