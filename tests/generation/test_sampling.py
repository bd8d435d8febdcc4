"""Sampling: closed forms, properties, the library's filters, statistics."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from scratchlm.generation.sampling import (
    SamplingConfig,
    adjust,
    keep_min_p,
    keep_top_k,
    keep_top_p,
    penalize,
    probabilities,
    sample,
)

BREAD = torch.tensor([0.5, 0.25, 0.15, 0.1]).log()


def rows(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(*shape, generator=generator)


def close(got: Tensor, wanted: list[float]) -> bool:
    return torch.allclose(got, torch.tensor(wanted).float(), atol=1e-6)


def test_defaults_are_the_softmax() -> None:
    logits = rows(2, 3, 10)
    got = probabilities(logits, SamplingConfig())
    assert torch.equal(got, logits.softmax(-1))


def test_temperature_is_a_power_of_the_probabilities() -> None:
    got = probabilities(BREAD, SamplingConfig(temperature=0.5))
    powers = torch.tensor([0.5, 0.25, 0.15, 0.1]).square()
    assert torch.allclose(got, powers / powers.sum(), atol=1e-6)


@pytest.mark.parametrize("temperature", [0.0, 1e-30, 1e-6])
def test_cold_is_greedy(temperature: float) -> None:
    config = SamplingConfig(temperature=temperature, top_p=0.9, top_k=3)
    assert close(probabilities(BREAD, config), [1, 0, 0, 0])
    assert sample(BREAD, config) == 0


def test_hot_is_uniform() -> None:
    got = probabilities(BREAD, SamplingConfig(temperature=1e8))
    assert close(got, [0.25] * 4)


def test_greedy_takes_the_first_of_the_best_and_no_chance() -> None:
    generator = torch.Generator().manual_seed(5)
    before = generator.get_state()
    logits = torch.tensor([[1.0, 7.0, 7.0], [2.0, 0.0, 1.0]])
    got = sample(logits, SamplingConfig(temperature=0), generator)
    assert got.tolist() == [1, 0]
    assert torch.equal(generator.get_state(), before)
    penalized = SamplingConfig(temperature=0, repetition_penalty=2)
    sample(logits, penalized, generator, seen=torch.tensor([[1], [0]]))
    assert torch.equal(generator.get_state(), before)
    one = probabilities(logits, SamplingConfig(temperature=0))
    assert one.tolist() == [[0, 1, 0], [1, 0, 0]]


@pytest.mark.parametrize(
    ("settings_", "wanted"),
    [
        ({"top_k": 1}, [1, 0, 0, 0]),
        ({"top_k": 2}, [2 / 3, 1 / 3, 0, 0]),
        ({"top_k": 99}, [0.5, 0.25, 0.15, 0.1]),
        ({"top_p": 1e-6}, [1, 0, 0, 0]),
        ({"top_p": 0.5}, [1, 0, 0, 0]),
        ({"top_p": 0.51}, [2 / 3, 1 / 3, 0, 0]),
        ({"top_p": 0.7}, [2 / 3, 1 / 3, 0, 0]),
        ({"top_p": 0.76}, [5 / 9, 2.5 / 9, 1.5 / 9, 0]),
        ({"top_p": 1.0}, [0.5, 0.25, 0.15, 0.1]),
        ({"min_p": 0.49}, [2 / 3, 1 / 3, 0, 0]),
        ({"min_p": 0.51}, [1, 0, 0, 0]),
        ({"min_p": 1.0}, [1, 0, 0, 0]),
        ({"top_k": 3, "top_p": 0.8}, [2 / 3, 1 / 3, 0, 0]),
        # p^(1/T) is 100 : 25 : 9 : 4, and 100 / 138 < 0.75 < 125 / 138
        ({"temperature": 0.5, "top_p": 0.75}, [0.8, 0.2, 0, 0]),
        ({"top_k": 2, "min_p": 0.6}, [1, 0, 0, 0]),
        # 0.75 is not enough; of what min-p leaves, 0.83 would be
        ({"top_p": 0.8, "min_p": 0.25}, [5 / 9, 2.5 / 9, 1.5 / 9, 0]),
    ],
)
def test_closed_forms(settings_: dict[str, float], wanted: list[float]) -> None:
    order = torch.tensor([2, 0, 3, 1])  # the likeliest need not come first
    got = probabilities(BREAD[order], SamplingConfig(**settings_))
    assert close(got, [wanted[i] for i in order])


def test_top_k_keeps_k_of_ties() -> None:
    got = keep_top_k(torch.zeros(2, 9), 3)
    assert torch.isfinite(got).sum(-1).tolist() == [3, 3]


def test_a_penalty_lowers_what_was_seen_once() -> None:
    logits = torch.tensor([[2.0, -2.0, 2.0, 0.0], [1.0, 1.0, 1.0, 1.0]])
    seen = torch.tensor([[0, 1, 0], [3, 3, 3]])
    config = SamplingConfig(repetition_penalty=2)
    got = adjust(logits, config, seen)
    assert got.tolist() == [[1, -4, 2, 0], [1, 1, 1, 0.5]]
    assert torch.equal(
        sample(logits, SamplingConfig(0, repetition_penalty=2), seen=seen),
        torch.tensor([2, 0]),
    )


def test_a_penalty_hides_no_scores_that_are_no_numbers() -> None:
    logits = torch.tensor([math.nan, 1.0, -math.inf])
    found = penalize(logits, torch.tensor([0, 1]), 2.0)
    assert found[0].isnan()
    assert found[1:].tolist() == [0.5, -math.inf]


def test_a_penalty_below_one_raises_what_was_seen() -> None:
    config = SamplingConfig(repetition_penalty=0.5)
    got = adjust(torch.tensor([2.0, -2.0, 1.0]), config, torch.tensor([0, 1]))
    assert got.tolist() == [4, -1, 1]
    greedy = SamplingConfig(0, repetition_penalty=0.25)
    best = sample(torch.tensor([3.0, 1.0]), greedy, seen=torch.tensor([1]))
    assert best == 1


def test_a_penalty_comes_before_the_temperature() -> None:
    config = SamplingConfig(temperature=0.5, repetition_penalty=2.0)
    got = adjust(torch.tensor([4.0, 3.0, 1.0]), config, torch.tensor([0]))
    assert got.softmax(-1).tolist() == pytest.approx(
        torch.tensor([4.0, 6.0, 2.0]).softmax(-1).tolist()
    )


def test_what_is_ruled_out_scores_minus_infinity() -> None:
    for config, kept in (
        (SamplingConfig(temperature=0), 1),
        (SamplingConfig(top_k=2), 2),
        (SamplingConfig(top_p=0.6), 2),
        (SamplingConfig(min_p=0.4), 2),
    ):
        got = adjust(BREAD, config)
        assert got.isneginf().tolist() == [False] * kept + [True] * (4 - kept)
    # However unlikely all of it is: logits without a floor.
    low = torch.tensor([-2e4, -3e4, -2.0001e4])
    for config in (
        SamplingConfig(0),
        SamplingConfig(top_k=1),
        SamplingConfig(top_p=0.5),
        SamplingConfig(min_p=0.5),
    ):
        assert probabilities(low, config).tolist() == [1, 0, 0]


def test_each_row_has_its_own_best() -> None:
    logits = torch.stack([BREAD, BREAD.flip(0) + 9])
    for config in (
        SamplingConfig(min_p=0.4),
        SamplingConfig(top_k=2),
        SamplingConfig(top_p=0.7),
        SamplingConfig(temperature=1e-30),
    ):
        both = probabilities(logits, config)
        assert torch.allclose(both[0], both[1].flip(0))
        assert torch.allclose(both[0], probabilities(BREAD, config))


def test_the_whole_nucleus_is_everything() -> None:
    # Sums of so many shares reach 1 by rounding before the last of them.
    logits = rows(200_000)
    shares = logits.softmax(-1).sort(descending=True).values
    assert (shares.cumsum(-1) - shares >= 1).any()
    assert torch.equal(keep_top_p(logits, 1.0), logits)


def test_no_temperature_overflows() -> None:
    logits = torch.tensor([[200.0, 100.0], [1.0, 300.0]])
    for temperature in (1e-38, 1e-46, 5e-324):
        got = probabilities(logits, SamplingConfig(temperature))
        assert got.tolist() == [[1, 0], [0, 1]]
    got = probabilities(logits, SamplingConfig(1e308))
    assert got.tolist() == [[0.5, 0.5]] * 2


@pytest.mark.parametrize("share", [1e-38, 1e-46, 5e-324])
def test_the_smallest_nucleus_is_the_likeliest_token(share: float) -> None:
    for name in ("top_p", "min_p"):
        config = SamplingConfig(**{name: share})
        got = probabilities(BREAD.flip(0), config)
        assert got.argmax() == 3
        assert close(got.sum(), [1.0])
    assert keep_top_p(BREAD, share).isfinite().tolist() == [True] + [False] * 3


@pytest.mark.parametrize("penalty", [5e-324, 1e-40, 1e39, 1e308])
def test_no_penalty_overflows(penalty: float) -> None:
    config = SamplingConfig(repetition_penalty=penalty)
    for scores in ([2.0, -3.0, 0.0], [-1.0, -2.0, -3.0], [0.0, 0.0, 0.0]):
        for seen in ([0], [0, 1, 2]):
            got = probabilities(
                torch.tensor(scores), config, torch.tensor(seen)
            )
            assert got.isfinite().all()
            assert close(got.sum(), [1.0])


def test_seen_ids_of_half_the_bytes() -> None:
    seen = torch.tensor([0, 1, 0])
    wanted = penalize(BREAD, seen, 1.5)
    assert torch.equal(penalize(BREAD, seen.int(), 1.5), wanted)


def test_probable_ties_with_the_floor_are_kept() -> None:
    logits = torch.tensor([0.0, math.log(0.5), math.log(0.49)])
    assert keep_min_p(logits, 0.5).isfinite().tolist() == [True, True, False]


def test_functions_leave_their_argument_alone() -> None:
    logits = rows(3, 8)
    copy, seen = logits.clone(), torch.zeros(3, 2, dtype=torch.long)
    config = SamplingConfig(0.7, 5, 0.9, 0.05, 1.3)
    adjust(logits, config, seen)
    sample(logits, config, seen=seen)
    assert torch.equal(logits, copy)


def test_half_precision_is_computed_in_float32() -> None:
    logits = rows(4, 50).to(torch.bfloat16)
    got = probabilities(logits, SamplingConfig(top_p=0.9))
    assert got.dtype == torch.float32
    config = SamplingConfig(temperature=0.7)
    assert torch.equal(adjust(logits, config), adjust(logits.float(), config))
    assert torch.allclose(got.sum(-1), torch.ones(4))


def test_equals_the_filters_of_transformers() -> None:
    logits, seen = rows(6, 200, seed=1), torch.arange(60).view(6, 10)
    pairs = [
        (keep_top_k(logits, 7), TopKLogitsWarper(7)),
        (keep_top_p(logits, 0.8), TopPLogitsWarper(0.8)),
        (keep_min_p(logits, 0.1), MinPLogitsWarper(0.1)),
        (penalize(logits, seen, 1.3), RepetitionPenaltyLogitsProcessor(1.3)),
    ]
    for ours, theirs in pairs:
        assert torch.equal(ours, theirs(seen, logits.clone()))


def naive_nucleus(p: list[float], share: float) -> set[int]:
    """The definition, in words: the likeliest first, until it is enough."""
    kept, total = set(), 0.0
    for token in sorted(range(len(p)), key=lambda i: -p[i]):
        kept.add(token)
        total += p[token]
        if total >= share:
            break
    return kept


@settings(deadline=None, max_examples=80)
@given(
    weights=st.lists(
        st.integers(1, 10**6), min_size=1, max_size=12, unique=True
    ),
    share=st.floats(0.01, 0.99),
)
def test_the_nucleus_is_that_of_the_definition(
    weights: list[int], share: float
) -> None:
    logits = torch.tensor(weights, dtype=torch.float64).log()
    p = logits.softmax(-1).tolist()
    kept = keep_top_p(logits, share).isfinite().nonzero().flatten().tolist()
    wanted = naive_nucleus(p, share)
    sums = torch.tensor(sorted(p, reverse=True)).cumsum(0)
    if (sums - share).abs().min() > 1e-6:  # not on the edge of rounding
        assert set(kept) == wanted


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 99),
    temperature=st.floats(0.1, 4),
    top_k=st.none() | st.integers(1, 30),
    top_p=st.none() | st.floats(0.01, 1),
    min_p=st.none() | st.floats(0.01, 1),
)
def test_filters_keep_the_best_in_proportion(
    seed: int,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
    min_p: float | None,
) -> None:
    logits = rows(20, seed=seed)
    config = SamplingConfig(temperature, top_k, top_p, min_p)
    p = probabilities(logits, config)
    plain = (logits / temperature).softmax(-1)
    kept = p > 0
    assert kept[logits.argmax()]
    assert torch.isclose(p.sum(), torch.tensor(1.0))
    assert plain[kept].min() >= plain[~kept].max() if (~kept).any() else True
    assert torch.allclose(p[kept], plain[kept] / plain[kept].sum(), atol=1e-5)


def test_draws_follow_the_distribution() -> None:
    config = SamplingConfig(top_p=0.9)  # 5/9, 2.5/9, 1.5/9, 0
    generator = torch.Generator().manual_seed(0)
    count = 10_000
    drawn = sample(BREAD.expand(count, 4), config, generator)
    seen = torch.bincount(drawn, minlength=4)
    wanted = count * probabilities(BREAD, config)
    assert seen[3] == 0
    chi2 = ((seen - wanted)[:3] ** 2 / wanted[:3]).sum()
    assert chi2 < 13.8  # 2 degrees of freedom: once in a thousand seeds


def test_shapes_and_seeds() -> None:
    logits = rows(2, 3, 10)
    for shape in ((10,), (3, 10), (2, 3, 10)):
        part = logits[tuple(0 for _ in range(3 - len(shape)))]
        got = [
            sample(part, SamplingConfig(), torch.Generator().manual_seed(7))
            for _ in range(2)
        ]
        assert got[0].shape == shape[:-1]
        assert torch.equal(got[0], got[1])


def test_the_generator_is_the_only_source_of_chance() -> None:
    logits, config = torch.zeros(64, 1000), SamplingConfig()
    texts = []
    for seed in (7, 7, 8):
        torch.manual_seed(len(texts))  # does not matter
        chance = torch.Generator().manual_seed(seed)
        texts.append(sample(logits, config, chance))
    assert torch.equal(texts[0], texts[1])
    assert not torch.equal(texts[0], texts[2])
    assert len(texts[0].unique()) > 50  # and not the likeliest


@pytest.mark.parametrize(
    "settings_",
    [
        {"temperature": -0.1},
        {"temperature": math.nan},
        {"temperature": math.inf},
        {"top_k": 0},
        {"top_p": 0.0},
        {"top_p": 1.5},
        {"min_p": -0.1},
        {"min_p": math.nan},
        {"min_p": 0.0},
        {"min_p": 1.01},
        {"top_p": math.nan},
        {"top_k": -1},
        {"repetition_penalty": 0.0},
        {"repetition_penalty": math.inf},
        {"repetition_penalty": math.nan},
    ],
)
def test_refused(settings_: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings_))):
        SamplingConfig(**settings_)


def test_a_penalty_without_a_text_is_refused() -> None:
    with pytest.raises(ValueError, match="pass seen"):
        sample(BREAD, SamplingConfig(repetition_penalty=1.2))
