"""Schedules: their corners, their limits, and torch's own for comparison."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR

from scratchlm.training.schedule import (
    Schedule,
    cosine,
    gradient_noise_scale,
    half_cosine,
    linear,
    set_learning_rate,
    warmup_stable_decay,
)


@st.composite
def schedules(draw: st.DrawFn) -> Schedule:
    """Any schedule that is one."""
    warmup = draw(st.integers(0, 30))
    stable = draw(st.integers(0, 30))
    fall = draw(st.integers(0, 30))
    peak = draw(st.floats(1e-5, 10))
    floor = draw(st.floats(0, 1)) * peak
    steps = max(1, warmup + stable + fall)
    shape = draw(st.sampled_from([half_cosine, linear]))
    return Schedule(peak, steps, warmup, stable, floor, shape)


@settings(deadline=None, max_examples=200)
@given(schedules())
def test_rates_rise_stay_and_fall(schedule: Schedule) -> None:
    rates = [schedule.rate(step) for step in range(schedule.steps + 3)]
    top = max(schedule.warmup - 1, 0)
    assert all(a < b for a, b in zip(rates[:top], rates[1 : top + 1]))
    tail = zip(rates[top:], rates[top + 1 :])
    assert all(b <= a * (1 + 1e-12) for a, b in tail)
    assert max(rates) <= schedule.peak * (1 + 1e-12)
    assert rates[-1] == schedule.floor


@settings(deadline=None, max_examples=100)
@given(schedules())
def test_the_peak_is_reached_and_held(schedule: Schedule) -> None:
    if schedule.warmup + schedule.stable == schedule.steps == 0:
        return
    start = max(schedule.warmup - 1, 0)
    end = min(schedule.warmup + schedule.stable, schedule.steps - 1)
    for step in range(start, end + 1):
        assert schedule.rate(step) == pytest.approx(schedule.peak)


@settings(deadline=None, max_examples=100)
@given(schedules())
def test_no_step_jumps_further_than_the_warm_up_or_the_fall(
    schedule: Schedule,
) -> None:
    """Between neighbors the rate changes at most by the steepest slope.

    And by the rounding of two rates, which no schedule escapes: a floor one
    step of a float below the peak is reached in one jump of that size.
    """
    fall = schedule.steps - schedule.warmup - schedule.stable
    slopes = [schedule.peak / schedule.warmup if schedule.warmup else 0.0]
    height = schedule.peak - schedule.floor
    slopes.append(height * math.pi / 2 / fall if fall else height)
    limit = max(slopes) * (1 + 1e-9) + 2 * math.ulp(schedule.peak)
    for step in range(schedule.steps + 1):
        change = schedule.rate(step + 1) - schedule.rate(step)
        assert abs(change) <= limit


def test_a_floor_next_to_the_peak_is_no_jump() -> None:
    floor = math.nextafter(1.0, 0.0)
    schedule = Schedule(1.0, 4, floor=floor, decay=linear)
    rates = [schedule.rate(step) for step in range(6)]
    assert set(rates) == {1.0, floor}
    assert sorted(rates, reverse=True) == rates


def test_each_form_of_decay_is_the_one_asked_for() -> None:
    # In the middle of a decay both are at a half: look elsewhere.
    curved = Schedule(1.0, 8, decay=half_cosine)
    straight = Schedule(1.0, 8, decay=linear)
    assert curved.rate(2) == pytest.approx((1 + math.sqrt(0.5)) / 2)
    assert straight.rate(2) == 0.75
    assert Schedule(1.0, 8).rate(2) == curved.rate(2)
    assert cosine(1.0, 0, 8, floor=0.0).rate(2) == curved.rate(2)
    last = warmup_stable_decay(1.0, 0, 8, decay_fraction=1.0)
    assert last.rate(2) == straight.rate(2)


def test_cosine_is_torchs_cosine() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.3)
    theirs = CosineAnnealingLR(optimizer, T_max=40, eta_min=0.01)
    ours = Schedule(0.3, 40, floor=0.01)
    for step in range(41):
        got = optimizer.param_groups[0]["lr"]
        assert ours.rate(step) == pytest.approx(got, abs=1e-12)
        optimizer.step()
        theirs.step()


def test_cosine_falls_to_a_tenth_unless_told() -> None:
    assert cosine(2.0, 3, 10).rate(10) == pytest.approx(0.2)
    assert cosine(2.0, 3, 10, floor=0.0).rate(10) == 0.0
    half = cosine(1.0, 0, 10, floor=0.0).rate(5)
    assert half == pytest.approx(0.5)


def test_warmup_stable_decay_has_its_three_parts() -> None:
    schedule = warmup_stable_decay(1.0, 10, 100, decay_fraction=0.25)
    assert schedule.rate(0) == pytest.approx(0.1)
    assert schedule.rate(9) == schedule.rate(75) == 1.0
    assert schedule.rate(80) == pytest.approx(0.8)
    assert schedule.rate(100) == 0.0


def test_a_run_without_a_stretch_rises_and_falls() -> None:
    schedule = warmup_stable_decay(1.0, 2, 4, decay_fraction=0.5)
    assert [schedule.rate(i) for i in range(5)] == [0.5, 1.0, 1.0, 0.5, 0.0]


@pytest.mark.parametrize(("warmup", "part"), [(2, 1.0), (10, 0.2), (9, 0.5)])
def test_a_decay_that_the_warm_up_leaves_no_room_is_refused(
    warmup: int, part: float
) -> None:
    with pytest.raises(ValueError, match="more than the 10 of the run"):
        warmup_stable_decay(1.0, warmup, 10, decay_fraction=part)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"peak": 0.1, "steps": 10, "floor": 0.2}, "floor"),
        ({"peak": 0.1, "steps": 10, "floor": -0.1}, "floor"),
        ({"peak": 0.1, "steps": 10, "warmup": -1}, "negative"),
        ({"peak": 0.1, "steps": 10, "stable": -1}, "negative"),
        ({"peak": 0.1, "steps": 10, "warmup": 11}, "do not fit into 10"),
        ({"peak": 0.1, "steps": 0}, "do not fit into 0"),
    ],
)
def test_what_is_no_schedule_is_refused(
    arguments: dict[str, float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Schedule(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("decay", [0.0, -0.1, 1.1])
def test_a_decay_that_is_no_share_is_refused(decay: float) -> None:
    with pytest.raises(ValueError, match="decay_fraction must be"):
        warmup_stable_decay(1.0, 1, 10, decay)


def test_steps_before_the_first_are_refused() -> None:
    with pytest.raises(ValueError, match="count from 0"):
        Schedule(1.0, 10).rate(-1)


def test_set_rate_respects_the_scale_of_a_group() -> None:
    a, b = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    groups = [{"params": [a]}, {"params": [b], "scale": 0.5}]
    optimizers = [torch.optim.SGD(groups, lr=9.0)]
    set_learning_rate(optimizers, 0.2)
    rates = [group["lr"] for group in optimizers[0].param_groups]
    assert rates == [0.2, 0.1]


def test_the_shapes_meet_their_ends_and_their_middle() -> None:
    for shape in (half_cosine, linear):
        assert shape(0.0) == 1.0
        assert shape(0.5) == pytest.approx(0.5)
        assert shape(1.0) == 0.0


def test_the_rate_is_set_in_every_optimizer_and_group() -> None:
    parameters = [nn.Parameter(torch.zeros(1)) for _ in range(4)]
    optimizers = [
        torch.optim.SGD([{"params": [p]} for p in pair], lr=9.0)
        for pair in (parameters[:2], parameters[2:])
    ]
    set_learning_rate(optimizers, 0.2)
    for optimizer in optimizers:
        assert [group["lr"] for group in optimizer.param_groups] == [0.2, 0.2]


def test_the_noise_scale_of_gradients_that_were_made_by_hand() -> None:
    """Example by example the noise is 9 in all, and the gradient is (2, 0)."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(4000, 16, 2, generator=generator) * 4.5**0.5
    examples = torch.tensor([2.0, 0.0]) + noise
    for size in (1, 4, 16):
        gradients = examples[:, :size].mean(dim=1)
        found = gradient_noise_scale(gradients, size)
        assert found == pytest.approx(9 / 4, rel=0.1)
    alike = torch.ones(3, 5)
    assert gradient_noise_scale(alike, 8) == 0
