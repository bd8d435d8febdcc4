"""Solutions of the exercises on optimizers."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


def descend(
    gradient: Callable[[Tensor], Tensor], start: Tensor, lr: float, steps: int
) -> Tensor:
    """The path (steps + 1, n) of plain gradient descent."""
    path = [start]
    for _ in range(steps):
        path.append(path[-1] - lr * gradient(path[-1]))
    return torch.stack(path)


def best_rate(smallest: float, largest: float) -> tuple[float, float]:
    """The best constant rate on a quadratic, and its factor per step.

    For curvatures from `smallest` to `largest` the error shrinks by at least
    this factor with each step, and no rate does better.
    """
    rate = 2 / (smallest + largest)
    return rate, (largest - smallest) / (largest + smallest)


class Lion(Optimizer):
    """The sign of a moving mean (Chen et al., 2023, algorithm 2).

    One moment instead of two; every parameter moves by exactly `lr`.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
    ) -> None:
        """Take parameters or groups of them."""
        defaults = {"lr": lr, "betas": betas, "weight_decay": weight_decay}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move all parameters that have a gradient."""
        for group in self.param_groups:
            lr, (beta1, beta2) = group["lr"], group["betas"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state["exp_avg"] = torch.zeros_like(p)
                exp_avg = state["exp_avg"]
                direction = exp_avg.lerp(p.grad, 1 - beta1).sign()
                p.mul_(1 - lr * group["weight_decay"])
                p.sub_(direction, alpha=lr)
                exp_avg.lerp_(p.grad, 1 - beta2)


def halving_steps(lr: float, weight_decay: float) -> float:
    """Steps in which decay alone halves a weight."""
    return math.log(0.5) / math.log(1 - lr * weight_decay)


def clip_each(gradients: Iterable[Tensor], limit: float) -> None:
    """Cut every single value to ±limit, in place; the direction changes."""
    for gradient in gradients:
        gradient.clamp_(-limit, limit)
