"""Solutions on pairs: strengths, doubts, and three other losses."""

import math

import pytest
import torch

from scratchlm.tuning.preference import dpo_loss
from solutions.tuning.preference import (
    ipo_loss,
    push,
    simpo_loss,
    smoothed_loss,
    strengths,
)


def gained(*margins: float) -> torch.Tensor:
    """Gains (2, B) with these margins, in float64."""
    chosen = torch.tensor(margins, dtype=torch.float64)
    return torch.stack([chosen, torch.zeros_like(chosen)])


def test_a_push_is_the_slope() -> None:
    margins = torch.linspace(-30, 30, 7, dtype=torch.float64)
    margins.requires_grad_()
    change = torch.stack([margins, torch.zeros_like(margins)])
    (7 * dpo_loss(change, 0.3)).backward()  # the sum over seven pairs
    assert margins.grad is not None
    torch.testing.assert_close(-margins.grad, push(margins.detach(), 0.3))


def test_strengths_have_the_highest_likelihood() -> None:
    wins = {("a", "b"): 7, ("b", "a"): 2, ("b", "c"): 4, ("c", "b"): 3,
            ("c", "a"): 1, ("a", "c"): 5}  # fmt: skip
    found = strengths(wins)
    assert sum(found.values()) == pytest.approx(1)

    def likelihood(s: dict[str, float]) -> float:
        return sum(k * math.log(s[w] / (s[w] + s[v]))
                   for (w, v), k in wins.items())  # fmt: skip

    best = likelihood(found)
    for name in found:
        for factor in (0.9, 1.1):
            assert likelihood({**found, name: found[name] * factor}) < best


def test_doubt_puts_an_end_to_the_margin() -> None:
    assert smoothed_loss(gained(1.0, -2.0), wrong=0.0) == dpo_loss(
        gained(1.0, -2.0)
    )
    best = math.log(0.9 / 0.1) / 0.1
    at = smoothed_loss(gained(best), 0.1, 0.1)
    for other in (best - 1, best + 1):
        assert smoothed_loss(gained(other), 0.1, 0.1) > at
    assert dpo_loss(gained(best + 1)) < dpo_loss(gained(best))


def test_ipo_stops_at_its_margin() -> None:
    assert ipo_loss(gained(5.0), 0.1) == 0
    assert ipo_loss(gained(4.0), 0.1) == ipo_loss(gained(6.0), 0.1) == 1
    assert ipo_loss(gained(0.0), 0.5) == 1


def test_simpo_asks_for_a_gap_in_the_means() -> None:
    log_probs = torch.tensor([[-4.0], [-12.0]])
    lengths = torch.tensor([[2], [6]])
    even = simpo_loss(log_probs, lengths, gap=0.0)
    assert even.item() == pytest.approx(math.log(2))
    wanted = math.log1p(math.exp(1.5))
    assert simpo_loss(log_probs, lengths, gap=1.5).item() == pytest.approx(
        wanted
    )
