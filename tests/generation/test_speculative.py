"""Guessing ahead: the same distribution, the same greedy text, fewer reads."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers.generation import utils

from scratchlm.generation.generate import generate, window_start
from scratchlm.generation.sampling import SamplingConfig, probabilities
from scratchlm.generation.speculative import (
    Draft,
    LookupDraft,
    ModelDraft,
    NGramDraft,
    Reader,
    common_length,
    continuation,
    draw_token,
    expected_tokens,
    overlap,
    residual,
    speculate,
    speedup,
    verify,
)
from scratchlm.model.gpt import GPT, GPTConfig, gpt2_config, llama_config
from scratchlm.model.ngram import NGram

GREEDY = SamplingConfig(temperature=0)
MIXED = SamplingConfig(temperature=0.8, top_k=4, top_p=0.9)


def build(config: GPTConfig, seed: int = 1) -> GPT:
    """A model whose next token depends on all before it."""
    torch.manual_seed(seed)
    model = GPT(config).eval()
    for parameter in model.parameters():
        if parameter.ndim == 2:
            nn.init.normal_(parameter, std=0.3)
    return model


MODELS = {
    "gpt2": build(gpt2_config(29, 16, 2, 2, 16)),
    "llama": build(llama_config(29, 16, 2, 4, 16, kv_heads=2)),
}
TINY = build(gpt2_config(5, 6, 1, 1, 8))
TINY_DRAFT = build(gpt2_config(5, 4, 1, 1, 4), seed=2)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def table(vocab_size: int, order: int = 3) -> NGram:
    """Counts of a random text."""
    ids = torch.randint(vocab_size, (400,), generator=seeded(4))
    return NGram(order, vocab_size, 0.1).fit(ids.numpy())


def drafts(vocab_size: int) -> dict[str, Draft]:
    """One draft of each kind, and the best and the worst that there can be."""
    small = build(gpt2_config(vocab_size, 8, 1, 1, 8), seed=3)
    found: dict[str, Draft] = {
        "lookup": LookupDraft(vocab_size),
        "counts": NGramDraft(table(vocab_size)),
        "model": ModelDraft(small),
    }
    if vocab_size == 29:
        found["itself"] = ModelDraft(MODELS["gpt2"])
    return found


def rows(*shape: int, seed: int = 0) -> Tensor:
    """Random distributions."""
    return torch.randn(shape, generator=seeded(seed)).mul(2).softmax(-1)


def p_value(counts: Tensor, shares: Tensor) -> float:
    """How often chance alone strays so far from these shares: Pearson's χ².

    Cells that cannot occur must be empty; the rare ones count as one.
    """
    assert counts[shares == 0].sum() == 0
    counts = counts.double()
    wanted = shares.double() * counts.sum()
    often = wanted >= 5
    counts, wanted = (
        torch.cat([x[often], x[~often].sum()[None]]) for x in (counts, wanted)
    )
    counts, wanted = counts[wanted > 0], wanted[wanted > 0]
    statistic = ((counts - wanted).square() / wanted).sum()
    half = torch.tensor((len(counts) - 1) / 2, dtype=torch.float64)
    return float(torch.special.gammaincc(half, statistic / 2))


# --- the rule ----------------------------------------------------------------


def test_kept_and_drawn_anew_make_p_exactly() -> None:
    """Every token of a tiny vocabulary, by both ways it can come."""
    for seed in range(50):
        p, q = rows(2, 7, seed=seed).double()
        kept = q * (p / q).clamp_max(1)
        anew = (1 - kept.sum()) * residual(p, q)
        torch.testing.assert_close(kept + anew, p)
        torch.testing.assert_close(overlap(p, q), kept.sum())


def test_equal_distributions_leave_no_residual() -> None:
    p = rows(7)
    assert torch.equal(residual(p, p), p)
    for seed in range(50):
        guess = draw_token(p, seeded(seed))
        both = p.expand(2, 7)
        assert verify([guess], both, both[:1], seeded(seed))[0] == guess


def test_the_rule_is_that_of_transformers() -> None:
    """The same chance, the same tokens, 150 times."""
    lengths = set()
    for seed in range(150):
        count = 1 + seed % 5
        logits = torch.randn(2, 1, count + 1, 11, generator=seeded(seed))
        q, p = logits.softmax(-1)[:, 0]
        guesses = [draw_token(row, seeded(seed + 1)) for row in q[:count]]
        torch.manual_seed(seed)
        ours = verify(guesses, p, q[:count])
        torch.manual_seed(seed)
        theirs, matches = utils._speculative_sampling(
            torch.tensor([guesses]), logits[0, :, :count], count, logits[1]
        )
        assert ours == theirs[0].tolist()
        assert len(ours) == matches + 1
        lengths.add(len(ours))
    assert lengths == {1, 2, 3, 4, 5, 6}


def test_a_certain_guess_is_kept_as_often_as_p_says() -> None:
    """A one-hot q: kept with p, and otherwise anything but the guess."""
    p, q = torch.tensor([0.3, 0.6, 0.1]), torch.tensor([[1.0, 0.0, 0.0]])
    generator = seeded()
    first = [verify([0], p.expand(2, 3), q, generator)[0] for _ in range(2000)]
    counts = torch.bincount(torch.tensor(first), minlength=3)
    assert p_value(counts, p) > 0.001


def test_two_steps_have_the_distribution_of_p() -> None:
    """Tokens one and two, of 25 pairs, with two guesses at a time."""
    p, q = rows(3, 5, seed=5), rows(2, 5, seed=6)
    generator, counts = seeded(), torch.zeros(5, 5)
    for _ in range(3000):
        guesses = [draw_token(row, generator) for row in q]
        new = verify(guesses, p, q, generator)
        if len(new) == 1:  # the next round would draw it
            new.append(draw_token(p[1], generator))
        counts[new[0], new[1]] += 1
    wanted = p[0, :, None] * p[1]
    assert p_value(counts.flatten(), wanted.flatten()) > 0.001


@pytest.mark.parametrize(
    ("p", "q"), [((3, 5), (3, 5)), ((4, 5), (2, 5)), ((4, 5), (3, 6))]
)
def test_shapes_that_do_not_fit_are_refused(
    p: tuple[int, int], q: tuple[int, int]
) -> None:
    with pytest.raises(ValueError, match="3 guesses need p of shape"):
        verify([0, 1, 2], rows(*p), rows(*q))


# --- drafts ------------------------------------------------------------------


def naive_continuation(ids: list[int], longest: int) -> list[int]:
    """By text: the longest end that stands earlier, at its latest place."""
    text = "".join(chr(97 + i) for i in ids)
    for size in range(min(longest, len(text) - 1), 0, -1):
        at = text.rfind(text[-size:], 0, len(text) - 1)
        if at >= 0:
            return ids[at + size :]
    return []


@settings(deadline=None, max_examples=200)
@given(st.lists(st.integers(0, 3), max_size=20), st.integers(1, 4))
def test_a_continuation_is_what_a_search_finds(
    ids: list[int], longest: int
) -> None:
    assert continuation(ids, longest) == naive_continuation(ids, longest)


@pytest.mark.parametrize("kind", drafts(29))
def test_guesses_come_with_the_rows_that_they_were_drawn_from(
    kind: str,
) -> None:
    text = [3, 1, 4, 1, 5, 9, 3, 1]
    for count in (0, 1, 3):
        guesses, q = drafts(29)[kind].propose(text, count, MIXED, seeded())
        assert len(guesses) == count
        assert q.shape == (count, 29)
        torch.testing.assert_close(q.sum(-1), torch.ones(count))
        assert all(row[guess] > 0 for row, guess in zip(q, guesses))
    guesses, q = drafts(29)[kind].propose(text, 3, GREEDY)
    assert q.argmax(-1).tolist() == guesses
    assert q.max(-1).values.tolist() == [1, 1, 1]


def test_counts_need_a_context_and_get_settings() -> None:
    draft = NGramDraft(table(29))
    guesses, q = draft.propose([3], 4, MIXED)
    assert (guesses, q.shape) == ([], (0, 29))
    _, q = draft.propose([3, 1], 1, MIXED, seeded())
    logits = torch.from_numpy(np.log(draft.counts.next_probabilities([3, 1])))
    torch.testing.assert_close(q[0], probabilities(logits, MIXED))


def test_nothing_is_found_in_a_text_without_repeats() -> None:
    guesses, q = LookupDraft(29).propose([1, 2, 3], 4, GREEDY)
    assert (guesses, q.shape) == ([], (0, 29))


@torch.no_grad()
def test_a_reader_follows_any_text() -> None:
    """Longer, shorter, parted in the middle, moved: the same scores."""
    for model in MODELS.values():
        reader, generator = Reader(model), seeded(2)
        text = [3, 1, 4, 1, 5]
        for step in range(30):
            keep = int(torch.randint(len(text) + 1, (), generator=generator))
            more = torch.randint(29, (1 + step % 5,), generator=generator)
            text = (text[:keep] + more.tolist())[-16:]
            last = 1 + step % min(3, len(text))
            got = reader.logits(text, last)
            wanted = model(torch.tensor([text]))[0, -last:]
            torch.testing.assert_close(got, wanted, atol=1e-4, rtol=1e-4)
            assert reader.known == text
            assert reader.cache.length == len(text)


def test_a_model_with_dropout_on_is_refused() -> None:
    model = GPT(gpt2_config(5, 6, 1, 1, 8, dropout=0.1))
    with pytest.raises(ValueError, match="dropout is on"):
        Reader(model)
    Reader(model.eval())


def test_shared_beginnings_are_counted() -> None:
    assert common_length([], [1]) == 0
    assert common_length([1, 2], [1, 2]) == 2
    assert common_length([1, 2, 3], [1, 2]) == 2
    assert common_length([0, 2, 3], [1, 2, 3]) == 0


# --- the loop ----------------------------------------------------------------


def flat(rounds: list[list[int]]) -> list[int]:
    return list(itertools.chain.from_iterable(rounds))


@pytest.mark.parametrize("form", MODELS)
@pytest.mark.parametrize("kind", drafts(29))
@pytest.mark.parametrize("guesses", [1, 4, 9])
def test_greedy_equals_greedy_token_for_token(
    form: str, kind: str, guesses: int
) -> None:
    """Far beyond the context, whatever the draft."""
    model, prompt = MODELS[form], [3, 1, 4, 1, 5]
    rounds = list(
        speculate(model, drafts(29)[kind], prompt, 60, guesses, GREEDY)
    )
    steps = generate(model, torch.tensor([prompt]), 60, GREEDY)
    assert flat(rounds) == [int(step) for step in steps]
    assert all(1 <= len(new) <= guesses + 1 for new in rounds)
    place = len(prompt)
    for new in rounds:  # none across a move of the window
        last = place + len(new) - 1
        assert window_start(last, 16) == window_start(place, 16)
        place += len(new)


def test_a_model_that_guesses_for_itself_is_always_right() -> None:
    model = MODELS["gpt2"]
    draft = ModelDraft(model)
    for sampling in (GREEDY, MIXED):
        rounds = list(
            speculate(model, draft, [3, 1], 12, 3, sampling, seeded())
        )
        assert [len(new) for new in rounds] == [4, 4, 4]


@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_as_many_tokens_as_were_asked_for(count: int) -> None:
    for draft in drafts(29).values():
        model = MODELS["gpt2"]
        rounds = list(speculate(model, draft, [3, 1, 4], count))
        assert len(flat(rounds)) == count


def test_nothing_comes_after_the_stop_token() -> None:
    """Not before the third round of five tokens, either."""
    model, draft = MODELS["gpt2"], ModelDraft(MODELS["gpt2"])

    def write(stop: int | None) -> list[int]:
        chance = torch.Generator().manual_seed(1)
        settings = (4, SamplingConfig(), chance, stop)
        return flat(list(speculate(model, draft, [3], 30, *settings)))

    plain = write(None)
    stop = next(x for i, x in enumerate(plain) if i > 9 and x not in plain[:i])
    assert write(stop) == plain[: plain.index(stop) + 1]


def test_a_repetition_penalty_is_refused() -> None:
    penalty = SamplingConfig(repetition_penalty=1.1)
    steps = speculate(TINY, LookupDraft(5), [1], 3, sampling=penalty)
    with pytest.raises(ValueError, match="no repetition penalty"):
        next(steps)


def test_a_draft_with_another_vocabulary_is_refused() -> None:
    steps = speculate(TINY, LookupDraft(6), [1, 2, 1], 3)
    with pytest.raises(ValueError, match="the vocabulary of the model"):
        next(steps)


@torch.no_grad()
def exactly(
    model: GPT, prompt: list[int], count: int, sampling: SamplingConfig
) -> Tensor:
    """The probability of each continuation of so many tokens, by reading."""
    size = model.config.vocab_size
    chances = torch.ones([size] * count, dtype=torch.float64)
    for depth in range(count):
        for begin in itertools.product(range(size), repeat=depth):
            text = [*prompt, *begin]
            view = text[window_start(len(text), model.config.context) :]
            logits = model(torch.tensor([view]))[0, -1]
            shape = [size] + [1] * (count - depth - 1)
            row = probabilities(logits, sampling).double().view(shape)
            chances[begin] *= row
    return chances.flatten()


def counted(
    draft: Draft,
    prompt: list[int],
    count: int,
    sampling: SamplingConfig,
    runs: int,
) -> Tensor:
    """How often each continuation came."""
    generator, size = seeded(), TINY.config.vocab_size
    counts = torch.zeros([size] * count)
    for _ in range(runs):
        rounds = speculate(TINY, draft, prompt, count, 2, sampling, generator)
        counts[tuple(flat(list(rounds)))] += 1
    return counts.flatten()


TINY_DRAFTS: dict[str, Draft] = {
    "lookup": LookupDraft(5),
    "counts": NGramDraft(table(5)),
    "model": ModelDraft(TINY_DRAFT),
}


@pytest.mark.parametrize("kind", TINY_DRAFTS)
def test_pairs_come_as_often_as_the_model_says(kind: str) -> None:
    """χ² over all 25 continuations, with temperature, top-k and top-p."""
    wanted = exactly(TINY, [1, 2, 1], 2, MIXED)
    assert wanted.sum().item() == pytest.approx(1, abs=1e-5)
    counts = counted(TINY_DRAFTS[kind], [1, 2, 1], 2, MIXED, 300)
    assert p_value(counts, wanted) > 0.001


@pytest.mark.judge
@pytest.mark.parametrize("kind", TINY_DRAFTS)
@pytest.mark.parametrize("sampling", [SamplingConfig(), MIXED])
def test_so_do_texts_of_four(kind: str, sampling: SamplingConfig) -> None:
    """χ² over 625 continuations, across a move of the window."""
    prompt, runs = [1, 2, 1, 0, 1], 4000
    assert window_start(8, TINY.config.context) > 0
    wanted = exactly(TINY, prompt, 4, sampling)
    counts = counted(TINY_DRAFTS[kind], prompt, 4, sampling, runs)
    assert p_value(counts, wanted) > 0.001


# --- accounts ----------------------------------------------------------------


def test_expected_tokens_are_those_of_independent_guesses() -> None:
    for alpha, guesses in ((0.0, 4), (0.3, 1), (0.8, 5), (1.0, 3)):
        by_length = [
            (i + 1) * alpha**i * (1 if i == guesses else 1 - alpha)
            for i in range(guesses + 1)
        ]
        assert expected_tokens(alpha, guesses) == pytest.approx(sum(by_length))
    closed = (1 - 0.8**6) / (1 - 0.8)
    assert expected_tokens(0.8, 5) == pytest.approx(closed)


def test_the_measured_length_is_the_expected() -> None:
    """With the same p and q at each place, the formula is exact."""
    p, q = rows(1, 9, seed=7)[0], rows(1, 9, seed=8)[0]
    alpha, generator = overlap(p, q).item(), seeded()
    lengths = []
    for _ in range(1500):
        guesses = [draw_token(q, generator) for _ in range(3)]
        new = verify(guesses, p.expand(4, 9), q.expand(3, 9), generator)
        lengths.append(len(new))
    mean = sum(lengths) / 1500
    assert mean == pytest.approx(expected_tokens(alpha, 3), abs=0.1)


def test_a_guess_that_costs_as_much_as_a_read_gains_nothing() -> None:
    for alpha in (0.2, 0.9, 1.0):
        assert speedup(alpha, 4, cost=1) <= 1
    assert speedup(0.8, 4, cost=0) == expected_tokens(0.8, 4)
    assert math.isclose(speedup(0.8, 4, 0.05), expected_tokens(0.8, 4) / 1.2)


@torch.no_grad()
def test_a_reader_forgets_what_it_could_not_read() -> None:
    model = MODELS["gpt2"]
    reader = Reader(model)
    reader.logits([1, 2, 3, 4])
    with pytest.raises(ValueError, match="token 999"):
        reader.logits([1, 999])
    got = reader.logits([1, 2, 3, 4, 5])
    wanted = model(torch.tensor([[1, 2, 3, 4, 5]]))[0, -1:]
    assert torch.allclose(got, wanted, atol=1e-4)


def test_an_empty_text_is_refused() -> None:
    with pytest.raises(ValueError, match="B and T"):
        list(speculate(MODELS["gpt2"], LookupDraft(29), [], 3))
