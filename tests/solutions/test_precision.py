"""The solutions of the exercises on number formats."""

import pytest
import torch

from scratchlm.training.precision import BFLOAT16, FLOAT32, round_to
from solutions.training.precision import (
    add_up,
    add_up_kahan,
    round_randomly,
    smallest_useful_step,
)


def test_a_sum_of_ones_stalls_at_256() -> None:
    ones = torch.ones(400)
    assert add_up(ones) == 256
    assert add_up(ones, FLOAT32) == 400
    assert add_up_kahan(ones) == 400


def test_kahan_is_near_the_true_sum() -> None:
    torch.manual_seed(0)
    values = round_to(torch.rand(600), BFLOAT16)
    true = values.sum().item()
    assert abs(add_up(values) - true) > 10
    assert abs(add_up_kahan(values) - true) < 2


def test_random_rounding_is_right_in_the_mean() -> None:
    x = torch.full((20_000,), 1.002)
    rounded = round_randomly(x, BFLOAT16, seed=1)
    assert set(rounded.tolist()) == {1.0, 1.0078125}
    assert rounded.mean().item() == pytest.approx(1.002, abs=2e-4)
    assert round_to(x, BFLOAT16).mean().item() == 1.0


def test_steps_below_a_quarter_of_a_percent_are_lost() -> None:
    step = smallest_useful_step(1.0)
    assert step == 2**-8
    for weight in (0.013, 1.7, 240.0):
        weight = round_to(torch.tensor(weight), BFLOAT16).item()
        needed = smallest_useful_step(weight)
        more = torch.tensor(weight * (1 + 1.01 * needed))
        less = torch.tensor(weight * (1 + 0.49 * needed))
        assert round_to(more, BFLOAT16).item() > weight
        assert round_to(less, BFLOAT16).item() == weight
