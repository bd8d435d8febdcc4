"""The solutions of the exercises on overfitting."""

from pathlib import Path

import numpy as np
import pytest
import torch

from scratchlm.model.gpt import GPT, gpt2_config
from scratchlm.training import overfitting
from scratchlm.training.trainer import read_train_config
from solutions.training.overfitting import (
    committee,
    flattery,
    smoothed_stop,
    with_decay,
)


def small(dropout: float) -> GPT:
    torch.manual_seed(0)
    return GPT(gpt2_config(7, 8, 1, 2, 16, dropout))


def test_the_run_has_the_decay_that_was_asked_for(tmp_path: Path) -> None:
    text, runs = np.arange(100) % 7, {}
    for decay in (0.0, 30.0):
        folder = tmp_path / str(decay)
        model = small(0.0)
        curves = with_decay(model, text, text[:30], decay, folder, steps=8)
        assert curves.steps == tuple(range(1, 9))
        assert read_train_config(folder).weight_decay == decay
        runs[decay] = model.blocks[0].mlp.down.weight.norm().item()
    assert runs[30.0] < runs[0.0]


def test_smoothing_looks_over_a_bump() -> None:
    losses = [3.0, 2.0, 2.2, 2.2, 1.6, 1.5]
    assert smoothed_stop(losses, 2, 1) == overfitting.stop_early(losses, 2)
    assert smoothed_stop(losses, 2, 3) == (5, 5)


def test_the_best_of_many_is_flattered() -> None:
    assert flattery(1, 0.1) == pytest.approx(0, abs=0.003)
    two = 0.1 / np.pi**0.5  # the mean of the smaller of two
    assert flattery(2, 0.1) == pytest.approx(two, rel=0.05)
    assert flattery(20, 0.1) > 3 * flattery(2, 0.1)


def test_a_committee_of_one_kind_is_the_model() -> None:
    ids = torch.arange(6)[None]
    calm = small(0.0).eval()
    one = committee(calm, ids, 3)
    torch.testing.assert_close(one, calm(ids).softmax(-1))
    noisy = small(0.3).eval()
    many = committee(noisy, ids, 400)
    assert not noisy.training
    torch.testing.assert_close(many.sum(-1), torch.ones(1, 6))
    gap = (many - noisy(ids).softmax(-1)).abs().max()
    single = (committee(noisy, ids, 1) - noisy(ids).softmax(-1)).abs().max()
    assert gap < single


def test_a_committee_loses_no_more_than_its_members_do() -> None:
    ids, targets = torch.arange(6)[None], torch.tensor([1, 2, 3, 4, 5, 6])
    model = small(0.5).eval()
    torch.manual_seed(1)
    together = committee(model, ids, 20)[0]
    torch.manual_seed(1)  # the same members, one by one
    members = [committee(model, ids, 1)[0] for _ in range(20)]
    torch.testing.assert_close(together, torch.stack(members).mean(dim=0))
    at = torch.arange(6)
    losses = [-member[at, targets].log().mean() for member in members]
    assert -together[at, targets].log().mean() < sum(losses) / 20
