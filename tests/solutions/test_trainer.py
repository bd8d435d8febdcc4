"""The solutions about the loop."""

import numpy as np
import pytest
import torch
from torch import nn

from scratchlm.model.gpt import GPT, gpt2_config
from scratchlm.text.tokens import BatchCursor
from solutions.training.trainer import MovingAverage, rate_test, utilization

CONFIG = gpt2_config(
    vocab_size=11, context=8, layers=1, heads=2, channels=16
)


def test_moving_average() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 0.0)
    average = MovingAverage(model, decay=0.9)
    nn.init.constant_(model.weight, 1.0)
    for step in range(1, 4):
        average.update(model)
        wanted = 1 - 0.9**step
        assert average.model.weight.item() == pytest.approx(wanted)
    assert model.weight.item() == 1.0


def test_utilization() -> None:
    # (6 x 1000 + 12 x 1 x 16 x 8) x 10 operations a second, of 150,720.
    assert utilization(CONFIG, 1000, 10.0, 150_720) == pytest.approx(0.5)


def test_rate_test() -> None:
    torch.manual_seed(0)
    model = GPT(CONFIG)
    before = [p.clone() for p in model.parameters()]
    tokens = np.arange(300) % 11
    found = rate_test(model, BatchCursor(tokens, 8, 4, 0), 1e-4, 1.0, 9)
    rates = [rate for rate, _ in found]
    assert rates[0] == pytest.approx(1e-4)
    assert rates[4] == pytest.approx(1e-2)
    assert rates[-1] == pytest.approx(1.0)
    losses = [loss for _, loss in found]
    assert min(losses) < losses[0]
    for parameter, old in zip(model.parameters(), before, strict=True):
        assert torch.equal(parameter, old)
