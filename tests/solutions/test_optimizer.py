"""The solutions of the exercises on optimizers."""

import pytest
import torch
from torch import nn

from solutions.training.optimizer import (
    Lion,
    best_rate,
    clip_each,
    descend,
    halving_steps,
)

CURVES = torch.tensor([1.0, 25.0])


def test_the_best_rate_is_best() -> None:
    rate, factor = best_rate(1.0, 25.0)
    start = torch.tensor([1.0, 1.0])
    for lr in (0.8 * rate, rate, 1.03 * rate):
        path = descend(lambda x: CURVES * x, start, lr, 30)
        worst = path[-1].abs().max().item()
        assert worst >= factor**30 * 0.99
        if lr == rate:
            assert worst == pytest.approx(factor**30, rel=1e-3)
    far = descend(lambda x: CURVES * x, start, 2.1 / 25, 30)
    assert far[-1].abs().max() > 10


def test_lion_moves_by_the_rate() -> None:
    p = nn.Parameter(torch.zeros(3))
    optimizer = Lion([p], lr=0.5)
    p.grad = torch.tensor([5.0, -0.001, 0.0])
    optimizer.step()
    assert p.tolist() == [-0.5, 0.5, 0.0]
    p.grad = None
    optimizer.step()
    assert p.tolist() == [-0.5, 0.5, 0.0]


def test_lion_learns() -> None:
    p = nn.Parameter(torch.tensor([3.0, -2.0]))
    optimizer = Lion([p], 0.02, (0.9, 0.9), weight_decay=0.01)
    for _ in range(300):
        optimizer.zero_grad()
        p.square().sum().backward()
        optimizer.step()
    assert p.abs().max() < 0.2


def test_half_lives() -> None:
    steps = halving_steps(1e-3, 0.1)
    assert (1 - 1e-4) ** steps == pytest.approx(0.5)
    assert 6900 < steps < 6950


def test_clipping_values_turns_the_gradient() -> None:
    gradient = torch.tensor([3.0, 0.4])
    clip_each([gradient], 1.0)
    torch.testing.assert_close(gradient, torch.tensor([1.0, 0.4]))
