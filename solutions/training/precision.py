"""Solutions of the exercises on number formats."""

import torch
from torch import Tensor

from scratchlm.training.precision import BFLOAT16, Format, round_to


def add_up(values: Tensor, form: Format = BFLOAT16) -> float:
    """The sum (N,) with an accumulator in the format, one by one."""
    total = torch.zeros((), dtype=torch.float64)
    for value in values.double():
        total = round_to(total + value, form)
    return float(total)


def add_up_kahan(values: Tensor, form: Format = BFLOAT16) -> float:
    """The same with a second number for what was lost (Kahan, 1965)."""
    total = torch.zeros((), dtype=torch.float64)
    lost = torch.zeros((), dtype=torch.float64)
    for value in values.double():
        small = round_to(value - lost, form)
        new = round_to(total + small, form)
        lost = round_to(round_to(new - total, form) - small, form)
        total = new
    return float(total)


def round_randomly(x: Tensor, form: Format, seed: int) -> Tensor:
    """Up or down by chance, so that the mean is x (stochastic rounding)."""
    generator = torch.Generator().manual_seed(seed)
    x = x.double()
    _, exponent = torch.frexp(x)
    exponent = (exponent - 1).clamp(min=1 - form.bias)
    grid = torch.ldexp(torch.ones_like(x), exponent - form.mantissa)
    chance = torch.rand(x.shape, generator=generator, dtype=torch.float64)
    return torch.floor(x / grid + chance) * grid


def smallest_useful_step(weight: float, form: Format = BFLOAT16) -> float:
    """The smallest relative change of a weight that the format can hold."""
    here = torch.tensor(weight, dtype=torch.float64)
    _, exponent = torch.frexp(here)
    gap = 2.0 ** (int(exponent) - 1 - form.mantissa)
    return gap / 2 / abs(weight)
