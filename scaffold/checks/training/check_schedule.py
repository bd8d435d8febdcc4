"""What a learning-rate schedule must do."""

from functools import partial
from typing import Any

import torch
from torch import nn

from scratchlm.training import schedule

from ..expect import close, equal, raises, true


def check_warm_up_is_a_straight_line_that_does_not_begin_at_zero() -> None:
    """Four steps of warm-up take a quarter more each."""
    line = schedule.Schedule(peak=1.0, steps=8, warmup=4)
    close(
        [line.rate(step) for step in range(4)],
        [0.25, 0.5, 0.75, 1.0],
        "the rates of the first four steps",
        hint="(step + 1) / warmup: a first step at rate 0 learns nothing",
    )


def check_cosine_is_half_way_down_in_the_middle() -> None:
    """With warm-up 7, 21 steps and floor 0.1: 1.0, 0.55, 0.1."""
    curve = schedule.cosine(peak=1.0, warmup=7, steps=21, floor=0.1)
    close(
        [curve.rate(step) for step in (6, 7, 14, 21, 99)],
        [1.0, 1.0, 0.55, 0.1, 0.1],
        "the rates at the corners",
        hint="progress is counted from the end of the warm-up to the end",
    )
    close(
        curve.rate(9),
        0.1 + 0.9 * 0.9504844,
        "the rate at a seventh of the fall",
        hint="a cosine is flat at the top: (1 + cos(pi * progress)) / 2",
    )


def check_the_peak_is_held_and_left_in_a_straight_line() -> None:
    """Warm-up, stable, decay: the last fifth falls to zero."""
    curve = schedule.warmup_stable_decay(peak=1.0, warmup=2, steps=20)
    close(
        [curve.rate(step) for step in (0, 1, 10, 16, 17, 18, 20)],
        [0.5, 1.0, 1.0, 1.0, 0.75, 0.5, 0.0],
        "the rates at the corners",
        hint="the last decay_fraction * steps steps decay",
    )


def check_after_the_last_step_the_floor_remains() -> None:
    """A run that goes on longer than planned stays at the floor."""
    curve = schedule.Schedule(peak=1.0, steps=10, floor=0.2)
    close(
        [curve.rate(step) for step in (10, 11, 1000)],
        [0.2, 0.2, 0.2],
        "rates after the end",
        hint="a cosine that goes on rises again",
    )


def check_groups_keep_their_scale() -> None:
    """A group of scale one half gets half of the rate."""
    one, two = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    groups: list[dict[str, Any]] = [{"params": [one]}, {"params": [two]}]
    groups[1]["scale"] = 0.5
    optimizer = torch.optim.SGD(groups, lr=7.0)
    schedule.set_learning_rate([optimizer], 0.2)
    equal(
        [group["lr"] for group in optimizer.param_groups],
        [0.2, 0.1],
        "the rates of the two groups",
        hint="rate times the group's own scale, which is 1 if none is set",
    )


def check_impossible_schedules_are_refused() -> None:
    """A warm-up longer than the run, and a floor above the peak."""
    raises(
        ValueError,
        lambda: schedule.Schedule(peak=1.0, steps=10, warmup=11),
        "a warm-up of 11 steps in a run of 10",
    )
    raises(
        ValueError,
        lambda: schedule.Schedule(peak=1.0, steps=10, floor=2.0),
        "a floor above the peak",
    )
    raises(
        ValueError,
        lambda: schedule.warmup_stable_decay(1.0, warmup=9, steps=10),
        "a warm-up of 9 and a decay of 2 in a run of 10",
    )
    flat = schedule.Schedule(peak=1.0, steps=10, floor=1.0)
    equal([flat.rate(step) for step in (0, 5, 10)], [1.0] * 3, "a flat rate")
    true(
        schedule.Schedule(peak=1.0, steps=10, warmup=10).rate(9) == 1.0,
        "a run that is all warm-up ends at the peak",
    )


def check_noise_of_gradients() -> None:
    """Slopes (2, 1) and (2, -1): noise 2, slope squared 4 - 1."""
    two = torch.tensor([[2.0, 1.0], [2.0, -1.0]])
    got = schedule.gradient_noise_scale(two, size=6)
    close(got, 4.0, "the noise scale of batches of 6")
    true(type(got) is float, "the noise scale is a plain number")
    # mean (3, 0), spread 8 / 2 = 4, length 9 - 4/3
    three = torch.tensor([[3.0, 2.0], [3.0, -2.0], [3.0, 0.0]])
    got = schedule.gradient_noise_scale(three, size=1)
    close(got, 4 / (9 - 4 / 3), "the noise scale of three batches")


def check_usual_floor() -> None:
    """Without a floor the cosine ends at a tenth of its peak."""
    for floor, wanted in ((None, 0.2), (0.0, 0.0), (0.5, 0.5)):
        curve = schedule.cosine(peak=2.0, warmup=0, steps=8, floor=floor)
        close(curve.rate(8), wanted, f"the last rate, floor={floor}")
    for fraction in (0.0, 1.5):
        raises(
            ValueError,
            partial(schedule.warmup_stable_decay, 1.0, 0, 9, fraction),
            f"a decay over {fraction} of the run",
        )
    flat = schedule.warmup_stable_decay(1.0, 0, 10)
    rates = [flat.rate(step) for step in (7, 8, 9, 10)]
    close(rates, [1.0, 1.0, 0.5, 0.0], "the usual decay, a fifth of a run")


BUGS = {
    "the first step has rate zero": (
        "self.peak * (step + 1) / self.warmup",
        "self.peak * step / self.warmup",
    ),
    "the fall begins at the start of the run": (
        "progress = (step - start) / (self.steps - start)",
        "progress = step / self.steps",
    ),
    "a whole cosine instead of half of one": (
        "math.cos(math.pi * progress)",
        "math.cos(2 * math.pi * progress)",
    ),
    "after the end the cosine goes on": (
        "        if step >= self.steps:\n            return self.floor\n",
        "",
    ),
    "groups lose their scale": (
        'rate * group.get("scale", 1.0)',
        "rate",
    ),
    "the stable part takes the time of the warm-up": (
        "stable = steps - warmup - decay",
        "stable = steps - decay",
    ),
    "the noise is divided by all batches": (
        "/ (count - 1)",
        "/ count",
    ),
    "noise is taken for slope": (
        "mean.square().sum() - spread / count",
        "mean.square().sum()",
    ),
    "the usual floor is 0": (
        "peak / 10 if floor is None else floor",
        "floor or 0.0",
    ),
}
