"""Solutions on guessing ahead: how far, how warm, and which stops are fair."""

import pytest
import torch
from torch import Tensor

from scratchlm.generation.generate import generate
from scratchlm.generation.sampling import SamplingConfig
from scratchlm.generation.speculative import (
    LookupDraft,
    ModelDraft,
    draw_token,
    speculate,
    speedup,
    verify,
)
from scratchlm.model.gpt import GPT, gpt2_config
from solutions.generation.speculative import (
    Cautious,
    FirstOf,
    ThreeAlike,
    best_guesses,
    best_temperature,
    dropped,
    without_chance,
)

GREEDY = SamplingConfig(temperature=0)


def model(seed: int = 0) -> GPT:
    torch.manual_seed(seed)
    return GPT(gpt2_config(13, 32, 1, 2, 16)).eval()


def rows(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator).mul(2)


@pytest.mark.parametrize(
    ("alpha", "cost"), [(0.9, 0.1), (0.6, 0.02), (0.5, 0.03)]
)
def test_one_guess_more_or_less_gains_less(alpha: float, cost: float) -> None:
    best = best_guesses(alpha, cost)
    for other in (best - 1, best + 1):
        assert speedup(alpha, other, cost) <= speedup(alpha, best, cost)


def test_guessing_pays_if_it_is_kept_more_often_than_it_costs() -> None:
    for alpha in (0.1, 0.5, 0.9):
        assert best_guesses(alpha, alpha + 0.01) == 0
        assert best_guesses(alpha, alpha - 0.01) > 0


def test_the_best_temperature_makes_equals_of_equals() -> None:
    scores = rows(20, 9)
    warm = [0.5, 1.0, 1.5, 2.0]
    for wanted in warm:
        p = (scores / wanted).softmax(-1)
        assert best_temperature(p, scores, warm) == wanted


def test_the_first_with_something_to_say_is_asked() -> None:
    draft = FirstOf(LookupDraft(13), ModelDraft(model(1)))
    assert draft.propose([1, 2, 3, 1, 2], 2, GREEDY)[0] == [3, 1]
    assert len(draft.propose([1, 2, 3], 2, GREEDY)[0]) == 2
    nobody = FirstOf(LookupDraft(13)).propose([1, 2, 3], 2, GREEDY)
    assert nobody[0] == []


@pytest.mark.parametrize(
    ("ids", "guesses"),
    [
        ([1, 2, 3, 4, 1, 2, 3], [4, 1]),
        ([5, 2, 3, 4, 1, 2, 3], []),  # two match, and three do not
        ([6, 6, 6, 6], [6]),
        ([1, 2, 3], []),
        ([2], []),
    ],
)
def test_it_guesses_where_three_match(
    ids: list[int], guesses: list[int]
) -> None:
    found, q = ThreeAlike(13).propose(ids, 2, GREEDY)
    assert found == guesses
    assert q.shape == (len(guesses), 13)
    second = FirstOf(ThreeAlike(13), ModelDraft(model(1)))
    assert len(second.propose(ids, 2, GREEDY)[0]) == len(guesses or "ab")


@pytest.mark.parametrize("least", [0.0, 0.1, 1.1])
def test_a_cautious_draft_changes_no_token(least: float) -> None:
    target = model()
    draft = Cautious(ModelDraft(model(1)), least)
    plain = generate(target, torch.tensor([[1, 2]]), 20, GREEDY)
    rounds = speculate(target, draft, [1, 2], 20, 3, GREEDY)
    found = [token for new in rounds for token in new]
    assert found == [int(step) for step in plain]


def test_it_stops_before_it_draws() -> None:
    config = SamplingConfig()
    whole, q = ModelDraft(model(1)).propose(
        [1, 2], 3, config, torch.Generator().manual_seed(0)
    )
    least = sorted(q.amax(-1).tolist())[0] + 1e-6  # one row is not so sure
    guesses, rest = Cautious(ModelDraft(model(1)), least).propose(
        [1, 2], 3, config, torch.Generator().manual_seed(0)
    )
    assert guesses == whole[: len(guesses)]
    assert len(guesses) == len(rest) == int(q.amax(-1).argmin())


def frequencies(p: Tensor, q: Tensor, least: float) -> Tensor:
    """The first token, where unlikely guesses are not shown: a simulation."""
    generator, counts = torch.Generator().manual_seed(0), torch.zeros(len(p))
    both = p.expand(2, len(p))
    for _ in range(4000):
        guess = draw_token(q, generator)
        shown = [guess] if q[guess] >= least else []
        new = verify(
            shown, both[: len(shown) + 1], q[None][: len(shown)], generator
        )
        counts[new[0]] += 1
    return counts / 4000


@pytest.mark.always
def test_guesses_that_are_dropped_are_missed() -> None:
    p, q = rows(2, 6, seed=3).softmax(-1)
    assert torch.allclose(dropped(p, q, 0), p)
    least = q.median().item() + 1e-6
    wrong = dropped(p, q, least)
    assert wrong.sum().item() == pytest.approx(1)
    assert (wrong - p).abs().sum() > 0.05
    got = frequencies(p, q, least)
    torch.testing.assert_close(got, wrong, atol=0.03, rtol=0)


def test_a_rule_without_chance_leans() -> None:
    p, q = rows(2, 6, seed=3).softmax(-1)
    wrong = without_chance(p, q)
    assert wrong.sum().item() == pytest.approx(1)
    assert (wrong - p).abs().sum() > 0.05
    assert torch.allclose(without_chance(p, p), p)
