"""The solutions of the exercises on schedules."""

import pytest
import torch
from torch import nn

from scratchlm.training.schedule import (
    Schedule,
    cosine,
    warmup_stable_decay,
)
from solutions.training.schedule import (
    as_torch,
    branch,
    distance,
    transformer_rate,
)


def test_distances_in_closed_form() -> None:
    assert distance(cosine(0.3, 0, 1000)) == pytest.approx(550, rel=1e-3)
    flat = warmup_stable_decay(0.3, 0, 1000, decay_fraction=0.2)
    assert distance(flat) == pytest.approx(900, rel=1e-3)


def test_the_transformer_rate_peaks_at_the_end_of_the_warm_up() -> None:
    rates = [transformer_rate(step, 512, 40) for step in range(1, 200)]
    assert rates.index(max(rates)) + 1 == 40
    assert max(rates) == pytest.approx((512 * 40) ** -0.5)
    assert rates[159] == pytest.approx(max(rates) / 2)


def test_a_branch_agrees_until_it_leaves() -> None:
    trunk = warmup_stable_decay(1.0, 10, 1000)
    leaf = branch(trunk, 200, 50)
    for step in range(201):
        assert leaf.rate(step) == trunk.rate(step)
    assert leaf.rate(225) == 0.5
    assert leaf.rate(250) == 0.0
    for wrong in (5, 900):
        with pytest.raises(ValueError, match="branch from 10"):
            branch(trunk, wrong, 50)


def test_torch_sees_the_same_rates() -> None:
    schedule = cosine(0.3, 5, 30)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = as_torch(optimizer, schedule)
    for step in range(40):
        assert optimizer.param_groups[0]["lr"] == schedule.rate(step)
        optimizer.step()
        scheduler.step()


def test_a_straight_fall_is_half() -> None:
    assert distance(Schedule(2.0, 100, decay=lambda p: 1 - p)) == 50.5
