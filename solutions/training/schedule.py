"""Solutions of the exercises on learning-rate schedules."""

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from scratchlm.training.schedule import Schedule, linear


def distance(schedule: Schedule) -> float:
    """The sum of all rates, in steps at the peak.

    >>> distance(Schedule(peak=0.1, steps=10, decay=linear))
    5.5
    """
    rates = [schedule.rate(step) for step in range(schedule.steps)]
    return round(sum(rates) / schedule.peak, 9)


def transformer_rate(step: int, channels: int, warmup: int) -> float:
    """The rate of Vaswani et al. (2017), eq. 3; `step` counts from 1."""
    return channels**-0.5 * min(step**-0.5, step * warmup**-1.5)


def branch(schedule: Schedule, step: int, decay: int) -> Schedule:
    """The schedule that leaves the peak at `step` and falls to 0.

    Only a step of the stable part will do: before it the peak is not
    reached, after it the fall has begun.
    """
    first, last = schedule.warmup, schedule.warmup + schedule.stable
    if not first <= step <= last:
        raise ValueError(f"branch from {first} to {last}, not at {step}")
    return Schedule(
        schedule.peak,
        step + decay,
        schedule.warmup,
        step - schedule.warmup,
        decay=linear,
    )


def as_torch(optimizer: Optimizer, schedule: Schedule) -> LambdaLR:
    """The same schedule as one of torch's, for a loop that wants one.

    torch multiplies each group's rate by the returned factor; so the
    optimizer is to be made with ``lr=1.0``.
    """
    return LambdaLR(optimizer, schedule.rate)
