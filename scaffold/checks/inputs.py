"""What the checks put in: the same numbers on every machine.

No random number is among them. Two versions of PyTorch may draw other ones
from the same seed; a sine is what it is.
"""

import math
from typing import TypeVar

import torch
from torch import Tensor, nn

Model = TypeVar("Model", bound=nn.Module)


def waves(*shape: int, step: float = 1.7) -> Tensor:
    """Numbers between -1 and 1: sines of 1, 2, 3 … times the step."""
    return torch.sin(step * torch.arange(1.0, math.prod(shape) + 1)).view(shape)


def settled(model: Model, size: float = 1.0, step: float = 1.7) -> Model:
    """The model with waves of a size for weights, which are not small."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(size * waves(*parameter.shape, step=step))
    return model


def scattered(model: Model, size: float) -> Model:
    """The model with sines of squares for weights, which look like chance.

    No two matrices are the same, and none has fewer directions than columns,
    as one of plain waves has.
    """
    count = 0
    with torch.no_grad():
        for parameter in model.parameters():
            end = count + parameter.numel()
            places = torch.arange(count, end, dtype=torch.float64)
            sines = torch.sin(1.7 * places**2)
            parameter.copy_(size * sines.view(parameter.shape))
            count = end
    return model
