"""The checks of rewards let other ways to write the same thing pass."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from check.running import check_functions
from scaffold.checks.tuning import check_reward
from scratchlm.model.gpt import GPT
from scratchlm.training.memory import IGNORED
from scratchlm.tuning import reward

CHECKS = check_functions(check_reward)


def advantages(rewards: Tensor, scaled: bool = True) -> Tensor:
    """Group by group, with torch's own deviation and a small number added."""
    if not bool(torch.isfinite(rewards).all()):
        raise ValueError("not finite")
    rows = []
    for group in rewards:
        gained = group - group.mean()
        if scaled:
            gained = gained / (group.std(unbiased=False) + 1e-6)
        rows.append(gained)
    return torch.stack(rows)


def gain(log_ratio: Tensor, advantages: Tensor, clip: float = 0.2) -> Tensor:
    """By cases: what is far and goes on has no slope."""
    ratio = log_ratio.exp()
    a = advantages.unsqueeze(-1).expand_as(ratio)
    far = ((a > 0) & (ratio > 1 + clip)) | ((a < 0) & (ratio < 1 - clip))
    edge = torch.where(a > 0, 1 + clip, 1 - clip)
    return torch.where(far, edge, ratio) * a


def estimate(now: Tensor, reference: Tensor) -> Tensor:
    """With a ratio and its logarithm, as the papers have it."""
    ratio = torch.exp(reference) / torch.exp(now)
    return ratio - torch.log(ratio) - 1


def weights(said: Tensor, average: str, longest: int) -> Tensor:
    """With loops over rows and places."""
    table = torch.zeros(said.shape)
    for i, row in enumerate(said):
        for t, spoken in enumerate(row.tolist()):
            if spoken and average == "sequence":
                table[i, t] = 1 / (len(said) * int(row.sum()))
            elif spoken and average == "token":
                table[i, t] = 1 / int(said.sum())
            elif spoken:
                table[i, t] = 1 / (len(said) * longest)
    return table


def log_probs(model: GPT, ids: Tensor, targets: Tensor) -> Tensor:
    """A softmax and a gather, and zeros where nothing was said."""
    logs = F.log_softmax(model(ids), dim=-1)
    said = targets != IGNORED
    index = targets.where(said, torch.zeros_like(targets))
    picked = logs.gather(-1, index.unsqueeze(-1)).squeeze(-1)
    return picked * said


OTHERS = {
    "group_advantages": advantages,
    "clipped_gain": gain,
    "divergence_estimate": estimate,
    "token_weights": weights,
    "token_log_probs": log_probs,
}


@pytest.mark.parametrize("check", CHECKS)
def test_other_shapes_pass(
    check: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, function in OTHERS.items():
        monkeypatch.setattr(reward, name, function)
    check()
