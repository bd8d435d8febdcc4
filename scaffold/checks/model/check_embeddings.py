"""What vectors for tokens and for positions must do."""

import math
from functools import partial
from unittest import mock

import torch

from scratchlm.model import embeddings

from ..expect import close, equal, raises, true

COS1, SIN1 = 0.5403023, 0.8414710  # of one radian


def check_lookup() -> None:
    """Each id picks its row of the table, wherever it stands."""
    table = embeddings.TokenEmbedding(vocab_size=3, channels=2)
    with torch.no_grad():
        table.weight.copy_(torch.tensor([[1.0, 2], [3, 4], [5, 6]]))
    got = table(torch.tensor([[2, 0], [2, 1]]))
    wanted = torch.tensor([[[5.0, 6], [1, 2]], [[5, 6], [3, 4]]])
    equal(got, wanted, "the rows of ids [[2, 0], [2, 1]]")


def check_learned_positions() -> None:
    """A learned position is a row; past the last row is an error."""
    positions = embeddings.LearnedPositions(context=4, channels=2)
    with torch.no_grad():
        positions.weight.copy_(torch.arange(8.0).view(4, 2))
    wanted = torch.tensor([[4.0, 5], [6, 7]])
    equal(positions(2, 2), wanted, "two positions, starting at 2")
    raises(
        ValueError,
        lambda: positions(3, 2),
        "three positions, starting at 2, with a context of 4",
        hint="slicing cuts off silently: compare with the context first",
    )


def check_waves() -> None:
    """Sines stand in even channels, cosines in odd ones."""
    close(
        embeddings.sinusoidal_positions(2, 4),
        [[0, 1, 0, 1], [SIN1, COS1, 0.0099998, 0.9999500]],
        "positions 0 and 1 in four channels",
        hint="pair i has angle t / 10000^(2i / C): with C = 4, t and t / 100",
    )


def check_one_radian() -> None:
    """Position 0 turns nothing, position 1 turns pair 0 by one radian."""
    rotary = embeddings.Rotary(head_size=2, context=4)
    x = torch.tensor([[[[1.0, 0.0], [1.0, 0.0]]]])
    close(
        rotary.apply_rotary(x, 0)[0, 0],
        [[1, 0], [COS1, SIN1]],
        "[1, 0] at positions 0 and 1",
        hint="the sign: (a cos - b sin, b cos + a sin)",
    )


def check_half_split_pairs() -> None:
    """Channel i turns with channel i + D/2, and later pairs turn slower."""
    rotary = embeddings.Rotary(head_size=4, context=4)
    x = torch.eye(4).view(1, 4, 1, 4)  # four heads, one channel lit in each
    slow_cos, slow_sin = 0.9999500, 0.0099998  # of 1/100 radian
    close(
        rotary.apply_rotary(x, 1)[0, :, 0],
        [
            [COS1, 0, SIN1, 0],
            [0, slow_cos, 0, slow_sin],
            [-SIN1, 0, COS1, 0],
            [0, -slow_sin, 0, slow_cos],
        ],
        "each unit vector of four channels at position 1",
        hint="channels 0 and 2 are a pair, and 1 and 3: not 0 and 1",
    )


def check_distance_only() -> None:
    """The product of two rotated vectors knows their distance only."""
    rotary = embeddings.Rotary(head_size=4, context=64)
    q = torch.tensor([[[[0.3, -1.2, 0.8, 0.5]]]])
    k = torch.tensor([[[[1.1, 0.4, -0.7, 0.9]]]])
    at_5_and_2 = (rotary.apply_rotary(q, 5) * rotary.apply_rotary(k, 2)).sum()
    at_45_and_42 = (
        rotary.apply_rotary(q, 45) * rotary.apply_rotary(k, 42)
    ).sum()
    close(at_45_and_42, at_5_and_2, "the product at 45 and 42, and at 5 and 2")
    at_45_and_40 = (
        rotary.apply_rotary(q, 45) * rotary.apply_rotary(k, 40)
    ).sum()
    true(
        abs(float(at_45_and_40 - at_5_and_2)) > 0.01,
        "another distance gives another product",
    )


def check_float32_tables() -> None:
    """Casting the model to bfloat16 leaves the angles in float32."""
    rotary = embeddings.Rotary(head_size=2, context=300).to(torch.bfloat16)
    x = torch.tensor([[[[1.0, 0.0]]]])
    close(
        rotary.apply_rotary(x, 257)[0, 0, 0],
        [0.8193055, -0.5733572],
        "[1, 0] at position 257, after .to(torch.bfloat16)",
        hint="bfloat16 keeps 8 bits: build the tables again after a cast",
    )


def check_tables_in_empty_memory() -> None:
    """After to_empty() the tables have their numbers, and their base."""
    rotary = embeddings.Rotary(head_size=4, context=9, base=100.0)
    filled = partial(torch.full_like, fill_value=7.5)  # what memory may hold
    with mock.patch.object(torch, "empty_like", filled):
        rotary.to_empty(device="cpu")
    x = torch.tensor([[[[1.0, 1.0, 0.0, 0.0]]]])
    # Angles 8 and 0.8 at position 8.
    close(
        rotary.apply_rotary(x, 8)[0, 0, 0],
        [-0.1455, 0.696707, 0.989358, 0.717356],
        "[1, 1, 0, 0] at position 8, after .to_empty()",
        hint="to_empty leaves memory as it is: make the tables again",
    )


def check_order_of_pairs() -> None:
    """Interleaved channels come to halves: evens first, then odds."""
    equal(
        embeddings.halves_from_pairs(6).tolist(),
        [0, 2, 4, 1, 3, 5],
        "the order for six channels",
    )


def check_slow_waves() -> None:
    """Long waves get four times as long, short ones stay, others mix."""
    waves = 2 * math.pi / torch.tensor([10.0, 25.0, 50.0, 100.0, 400.0])
    close(
        embeddings.slow_down(waves, factor=4.0, original=100) / waves,
        [1.0, 1.0, 1 / 3 + 2 / 3 / 4, 1 / 4, 1 / 4],
        "how much slower waves of 10, 25, 50, 100 and 400 positions are",
        hint="those of up to a quarter of the context stay",
    )
    slow = embeddings.Rotary(2, 9, factor=4.0, original=2)
    x = torch.tensor([[[[1.0, 0.0]]]])
    wanted = [math.cos(2.0), math.sin(2.0)]
    close(slow.apply_rotary(x, 8)[0, 0, 0], wanted, "[1, 0] at 8, slowed down")


def check_types_and_refusals() -> None:
    """Rotation keeps the type; odd channels and small bases are refused."""
    rotary = embeddings.Rotary(head_size=4, context=6)
    for dtype in (torch.float32, torch.bfloat16):
        x = torch.ones(2, 3, 5, 4, dtype=dtype)
        got = rotary.apply_rotary(x, 1)
        equal((got.dtype, tuple(got.shape)), (dtype, (2, 3, 5, 4)), "type")
        alone = torch.stack([rotary.apply_rotary(row, 1) for row in x])
        close(got, alone, "two texts at once, and one at a time")
    waves = embeddings.wave_frequencies(6)
    equal(waves.dtype, torch.float32, "the type of frequencies")
    places = embeddings.sinusoidal_positions(3, 6)
    equal((places.dtype, tuple(places.shape)), (torch.float32, (3, 6)), "waves")
    for name, wrong in (
        ("3 channels", lambda: embeddings.wave_frequencies(3)),
        ("a base of 1/2", lambda: embeddings.wave_frequencies(4, 0.5)),
        ("a head of 3", lambda: embeddings.Rotary(3, 4)),
        ("a start of -1", lambda: rotary.apply_rotary(x, -1)),
        ("too many positions", lambda: rotary.apply_rotary(x, 2)),
    ):
        raises(ValueError, wrong, name)
    equal(list(rotary.state_dict()), [], "what is saved of the tables")
    for table in (
        embeddings.TokenEmbedding(500, 40),
        embeddings.LearnedPositions(500, 40),
    ):
        spread = float(table.weight.detach().std())
        close(spread, 0.02, "the spread at the start", tol=1e-3)


def check_usual_waves() -> None:
    """A base of 10,000 unless told: the slowest of 4 takes 100 radians."""
    close(embeddings.wave_frequencies(4), [1.0, 0.01], "frequencies of 4")
    one, two = embeddings.Rotary(8, 900), embeddings.Rotary(8, 900, 10000.0)
    x = torch.ones(1, 1, 1, 8)
    equal(one.apply_rotary(x, 899), two.apply_rotary(x, 899), "position 899")
    usual, told = (
        embeddings.rotary_tables(8, 900, *base) for base in ((), (10000.0,))
    )
    equal(usual[0], told[0], "the table of cosines, without a base")


BUGS = {
    "the rotation turns the other way": (
        "a * cos - b * sin, b * cos + a * sin",
        "a * cos + b * sin, b * cos - a * sin",
    ),
    "positions count from 0 whatever the start": (
        "cos = self.cos[start : start + length]  # (T, D / 2)\n"
        "        sin = self.sin[start : start + length]",
        "cos, sin = self.cos[:length], self.sin[:length]",
    ),
    "neighboring channels are paired": (
        "a, b = x.chunk(2, dim=-1)",
        "a, b = x[..., ::2], x[..., 1::2]",
    ),
    "the exponent of the frequencies is halved": (
        "-2 * pair / channels",
        "-pair / channels",
    ),
    "sines fill the first half of the channels": (
        "torch.stack([angles.sin(), angles.cos()], dim=-1)",
        "torch.stack([angles.sin(), angles.cos()], dim=1)",
    ),
    "a slice past the context is cut off silently": (
        "start < 0 or start + length > context",
        "start < 0",
    ),
    "the tables lose bits with the model": (
        "self.cos, self.sin = (table.to(device) for table in self.tables())",
        "pass",
    ),
    "the tables are made again only where they lost bits": (
        "super()._apply(fn, recurse)\n",
        "super()._apply(fn, recurse)\n"
        "        if self.cos.dtype == torch.float32:\n"
        "            return self\n",
    ),
    "the base is forgotten when the tables are made again": (
        "for table in self.tables())",
        "for table in rotary_tables(self.head_size, self.context))",
    ),
    "waves are slowed down at once": (
        "kept = ((turns - 1) / (4 - 1)).clamp(0, 1)",
        "kept = (turns > 1).float()",
    ),
    "a factor is not used": (
        "    if factor != 1.0:\n",
        "    if False:\n",
    ),
    "a rotation comes back in more bits": (
        "return rotated.to(x.dtype)",
        "return rotated.double()",
    ),
    "channels that make no pairs are taken": (
        "    if channels % 2:\n",
        "    if False:\n",
    ),
    "tables are saved with the model": (
        'self.register_buffer("sin", sin, persistent=False)',
        'self.register_buffer("sin", sin)',
    ),
    "frequencies come in 64 bits": (
        "torch.arange(channels // 2, dtype=torch.float32)",
        "torch.arange(channels // 2, dtype=torch.float64)",
    ),
}
