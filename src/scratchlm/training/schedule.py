"""Learning-rate schedules: up, along, and down.

Every schedule in this book has one form: a straight warm-up, a stretch at
the peak, and a decay to a floor. Without the stretch and with half a cosine
for the decay it is the schedule of Loshchilov and Hutter (2017), as used by
GPT-3; with a stretch it is warm-up, stable, decay (Hu et al., 2024), here with
a straight fall (Hägele et al., 2024). The noise of the gradients tells what a
larger batch would change.

Left out: restarts, rates that react to the loss, and batches that grow.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from torch import Tensor
from torch.optim import Optimizer


def half_cosine(progress: float) -> float:
    """From 1 down to 0, slowly at both ends, as progress goes from 0 to 1.

    >>> half_cosine(0.0), half_cosine(1.0)
    (1.0, 0.0)
    """
    return 0.5 * (1 + math.cos(math.pi * progress))


def linear(progress: float) -> float:
    """From 1 down to 0 in a straight line.

    >>> linear(0.25)
    0.75
    """
    return 1 - progress


@dataclass(frozen=True)
class Schedule:
    """The learning rate of every step, counted from 0.

    Rises in `warmup` steps to `peak`, stays there for `stable` steps, and
    then follows `decay` down to `floor`, where it arrives at step `steps`.
    """

    peak: float
    steps: int
    warmup: int = 0
    stable: int = 0
    floor: float = 0.0
    decay: Callable[[float], float] = half_cosine

    def __post_init__(self) -> None:
        """Refuse what is not a schedule, and say why."""
        if not 0 <= self.floor <= self.peak:
            raise ValueError(
                f"the floor, {self.floor}, must be from 0 to the peak, "
                f"{self.peak}"
            )
        if self.warmup < 0 or self.stable < 0:
            raise ValueError("warmup and stable cannot be negative")
        if self.steps < max(1, self.warmup + self.stable):
            raise ValueError(
                f"{self.warmup} steps of warm-up and {self.stable} at the "
                f"peak do not fit into {self.steps}: train longer, or warm "
                "up in fewer"
            )

    def rate(self, step: int) -> float:
        """The learning rate of a step; the first one is not 0.

        >>> Schedule(peak=1.0, steps=8, warmup=4).rate(0)
        0.25
        """
        if step < 0:
            raise ValueError(f"steps count from 0, not {step}")
        if step < self.warmup:
            return self.peak * (step + 1) / self.warmup
        start = self.warmup + self.stable
        if step <= start:
            return self.peak if step < self.steps else self.floor
        if step >= self.steps:
            return self.floor
        progress = (step - start) / (self.steps - start)  # 0 to 1
        return self.floor + (self.peak - self.floor) * self.decay(progress)


def cosine(
    peak: float, warmup: int, steps: int, floor: float | None = None
) -> Schedule:
    """Warm-up, then half a cosine down to `floor`, or a tenth of the peak.

    >>> schedule = cosine(peak=1.0, warmup=7, steps=21, floor=0.1)
    >>> [round(schedule.rate(step), 4) for step in (6, 7, 14, 21, 99)]
    [1.0, 1.0, 0.55, 0.1, 0.1]
    """
    floor = peak / 10 if floor is None else floor
    return Schedule(peak, steps, warmup, floor=floor)


def warmup_stable_decay(
    peak: float, warmup: int, steps: int, decay_fraction: float = 0.2
) -> Schedule:
    """Warm-up, peak, and a linear decay to 0 in the last part of the run.

    `decay_fraction` is the part of all steps that the decay takes; ValueError
    if that and the warm-up are more than the run.

    >>> schedule = warmup_stable_decay(peak=1.0, warmup=2, steps=20)
    >>> [schedule.rate(step) for step in (0, 1, 15, 16, 18, 20)]
    [0.5, 1.0, 1.0, 1.0, 0.5, 0.0]
    """
    if not 0 < decay_fraction <= 1:
        raise ValueError(
            "decay_fraction must be above 0 and at most 1, not "
            f"{decay_fraction}"
        )
    decay = round(decay_fraction * steps)
    stable = steps - warmup - decay
    if stable < 0:
        raise ValueError(
            f"a warm-up of {warmup} steps and a decay of {decay} are more than "
            f"the {steps} of the run: shorten one"
        )
    return Schedule(peak, steps, warmup, stable, decay=linear)


def set_learning_rate(optimizers: Iterable[Optimizer], rate: float) -> None:
    """Give every parameter group this rate, times its own "scale".

    A group that is to learn faster or slower than the others says so by
    ``{"params": …, "scale": 0.5}``; without one the scale is 1.
    """
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = rate * group.get("scale", 1.0)


def gradient_noise_scale(gradients: Tensor, size: int) -> float:
    """The batch at which noise and gradient have the same length, squared.

    gradients (N, P): the gradient of each of N ≥ 2 batches of `size`
    examples, all at the same weights. The answer is in examples, and
    infinite or negative where N batches are too few to see any gradient.
    Source: McCandlish et al. (2018), equation 2.9 and appendix A.1.

    >>> gradient_noise_scale(Tensor([[2.0, 1.0], [2.0, -1.0]]), size=6)
    4.0
    """
    count = len(gradients)
    mean = gradients.mean(dim=0)  # (P,)
    spread = (gradients - mean).square().sum() / (count - 1)
    length = mean.square().sum() - spread / count  # of the true gradient
    return float(size * spread / length)
