"""Solutions on rewards: counts, other baselines, and a slope that is off."""

import math
import random
from itertools import combinations

import pytest
import torch

from scratchlm.tuning.instruct import Reply, Task
from scratchlm.tuning.reward import (
    Rollout,
    divergence_estimate,
    group_advantages,
)
from solutions.tuning.reward import (
    divergence_slope,
    learnable,
    leave_one_out,
    pass_at_k,
    pay_mention,
    worth_learning,
)

SEVEN = Task("sum", "What is five and two?", "Seven.")


def test_a_group_teaches_if_it_is_of_two_minds() -> None:
    assert learnable(0.0, 8) == learnable(1.0, 8) == 0
    chance = random.Random(0)
    mixed = 0
    for _ in range(4000):
        right = sum(chance.random() < 0.1 for _ in range(8))
        mixed += 0 < right < 8
    assert mixed / 4000 == pytest.approx(learnable(0.1, 8), abs=0.03)


def test_pass_at_k_is_a_share_of_choices() -> None:
    for drawn, right, k in ((6, 2, 3), (5, 0, 2), (5, 4, 2), (4, 4, 4)):
        marks = [i < right for i in range(drawn)]
        picks = [any(pick) for pick in combinations(marks, k)]
        assert pass_at_k(drawn, right, k) == pytest.approx(
            sum(picks) / len(picks)
        )
    for drawn, right, k in ((4, 5, 1), (4, 1, 5), (4, 1, 0), (4, -1, 1)):
        with pytest.raises(ValueError, match="to choose"):
            pass_at_k(drawn, right, k)


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_pass_at_k_has_no_bias_and_the_power_has(p: float) -> None:
    drawn, k = 10, 8
    likely = [
        math.comb(drawn, c) * p**c * (1 - p) ** (drawn - c)
        for c in range(drawn + 1)
    ]
    wanted = 1 - (1 - p) ** k
    mean = sum(q * pass_at_k(drawn, c, k) for c, q in enumerate(likely))
    assert mean == pytest.approx(wanted)
    powers = sum(q * (1 - (1 - c / drawn) ** k) for c, q in enumerate(likely))
    assert powers < wanted - 0.001


def test_a_list_of_all_numbers_is_paid_for_mentioning() -> None:
    assert pay_mention(SEVEN, Reply("Six. Seven. Eight.", False)) == 1
    assert pay_mention(SEVEN, Reply("Six.", True)) == 0


def test_leaving_one_out_only_scales() -> None:
    torch.manual_seed(0)
    rewards = torch.rand(3, 5)
    torch.testing.assert_close(
        leave_one_out(rewards),
        group_advantages(rewards, scaled=False) * 5 / 4,
    )


def test_what_teaches_nothing_is_left_out() -> None:
    x = torch.arange(4.0)
    rows = x[:, None].expand(4, 2)
    batch = Rollout(
        rows, rows, rows, x, torch.tensor([0.0, 1, -1, 0]), rows, rows
    )
    assert worth_learning(batch).rewards.tolist() == [1, 2]


def test_the_slope_of_the_estimate_is_that_of_the_other_divergence() -> None:
    torch.manual_seed(0)
    scores = torch.randn(6, dtype=torch.float64, requires_grad=True)
    reference = torch.randn(6, dtype=torch.float64).log_softmax(-1)
    now = scores.log_softmax(-1)
    drawn = now.exp().detach()  # the draws do not move with the scores
    (got,) = torch.autograd.grad(
        (drawn * divergence_estimate(now, reference)).sum(),
        [scores],
        retain_graph=True,
    )
    (by_hand,) = torch.autograd.grad(
        (drawn * divergence_slope(now, reference).detach() * now).sum(),
        [scores],
        retain_graph=True,
    )
    torch.testing.assert_close(got, by_hand)
    other = (reference.exp() * (reference - now)).sum()  # from the reference
    (forward,) = torch.autograd.grad(other, [scores], retain_graph=True)
    torch.testing.assert_close(got, forward)
    own = (now.exp() * (now - reference)).sum()
    (wanted,) = torch.autograd.grad(own, [scores])
    assert (got - wanted).norm() > 0.1 * wanted.norm()
