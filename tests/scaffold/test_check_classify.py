"""The check on classes takes other shapes of the right answer, too."""

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from check import running as runner
from scratchlm.tuning import classify


def picked_by_gather(x: Tensor, lengths: Tensor) -> Tensor:
    """The same choice by `gather`."""
    at = (lengths - 1)[:, None, None].expand(-1, 1, x.shape[2])
    return x.gather(1, at)[:, 0]


def fitted_by_steps(
    features: Tensor,
    labels: Tensor,
    classes: int,
    penalty: float = 1e-3,
    weights: Tensor | None = None,
) -> Tensor:
    """The same minimum, by Newton steps on all numbers of the head."""
    x, k = features.double(), classes
    each = torch.ones(k) if weights is None else weights
    share = each.to(x)[labels] / each.to(x)[labels].sum()

    def loss(flat: Tensor) -> Tensor:
        logs = (x @ flat.view(k, -1).T).log_softmax(1)
        nats = -logs[torch.arange(len(x)), labels]
        return (share * nats).sum() + penalty * flat.square().sum()

    flat = torch.zeros(k * x.shape[1], dtype=x.dtype)
    for _ in range(30):
        slope = torch.func.grad(loss)(flat)
        curve = torch.func.hessian(loss)(flat)
        flat = flat - torch.linalg.lstsq(curve, slope).solution
    return flat.view(k, -1)


def looped_confusion(labels: Tensor, guesses: Tensor, classes: int) -> Tensor:
    """The same table, text by text."""
    table = torch.zeros(classes, classes, dtype=torch.long)
    for label, guess in zip(labels, guesses, strict=True):
        table[label, guess] += 1
    return table


def counted(ids: Sequence[int], longest: int) -> dict[tuple[int, ...], int]:
    """The same runs, with a loop and a plain dictionary."""
    found: dict[tuple[int, ...], int] = {}
    for i in range(len(ids)):
        for stop in range(i + 1, min(i + longest, len(ids)) + 1):
            run = tuple(ids[i:stop])
            found[run] = found.get(run, 0) + 1
    return found


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("pick_last", picked_by_gather),
        ("fit_softmax", fitted_by_steps),
        ("confusion", looped_confusion),
        ("grams", counted),
    ],
)
def test_the_check_takes_code_of_another_shape(
    monkeypatch: pytest.MonkeyPatch, name: str, other: Callable[..., object]
) -> None:
    monkeypatch.setattr(classify, name, other)
    assert runner.run_topic("classify") == 0
