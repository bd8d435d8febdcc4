"""Solutions of the exercises on overfitting."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from scratchlm.model.gpt import GPT
from scratchlm.training.overfitting import Curves, stop_early, watch
from scratchlm.training.trainer import TrainConfig


def with_decay(
    model: GPT,
    text: np.ndarray,
    other: np.ndarray,
    decay: float,
    folder: Path,
    steps: int = 400,
) -> Curves:
    """Both curves of a run whose matrices are pulled towards zero."""
    config = TrainConfig(
        steps=steps,
        learning_rate=4e-3,
        warmup=30,
        weight_decay=decay,
        evaluate_every=max(1, steps // 8),
    )
    return watch(model, text, other, config, folder)


def smoothed_stop(
    losses: Sequence[float], patience: int, over: int
) -> tuple[int, int]:
    """`stop_early`, deciding by the mean of the last `over` evaluations.

    >>> smoothed_stop([3.0, 2.0, 2.2, 2.2, 1.6, 1.5], patience=2, over=1)
    (1, 3)
    >>> smoothed_stop([3.0, 2.0, 2.2, 2.2, 1.6, 1.5], patience=2, over=3)
    (5, 5)
    """
    means = [
        sum(part) / len(part)
        for end in range(1, len(losses) + 1)
        for part in [losses[max(0, end - over) : end]]
    ]
    return stop_early(means, patience)


def flattery(runs: int, spread: float, trials: int = 20_000) -> float:
    """By how much the best of some equal runs seems better than it is.

    Each is measured with an error of the standard deviation `spread`.
    """
    generator = torch.Generator().manual_seed(0)
    errors = spread * torch.randn(trials, runs, generator=generator)
    return -errors.min(dim=1).values.mean().item()


@torch.no_grad()
def committee(model: GPT, ids: Tensor, members: int) -> Tensor:
    """Probabilities (B, T, V): the mean over dropouts that differ."""
    was_training = model.training
    model.train()  # dropout on
    total = sum(model(ids).softmax(-1) for _ in range(members))
    model.train(was_training)
    return torch.as_tensor(total) / members
