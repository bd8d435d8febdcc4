"""n-grams: distributions, closed forms, and the published numbers."""

import doctest
import math
import time
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scratchlm.model import ngram as module
from scratchlm.model.ngram import SMOOTHINGS, NGram, choose_ngram
from scratchlm.text.characters import CharTokenizer
from scratchlm.text.toytown import (
    entropy_per_character,
    join,
    split_stories,
    write_corpus,
)

IDS = st.lists(st.integers(0, 4), min_size=6, max_size=60)


def test_the_example_holds() -> None:
    assert doctest.testmod(module).failed == 0


@settings(deadline=None, max_examples=100)
@given(IDS, st.integers(1, 4), st.floats(0.01, 2))
def test_counts_are_those_of_a_dictionary(
    ids: list[int], order: int, k: float
) -> None:
    """The plain way: a Counter of tuples, and of their contexts."""
    model = NGram(order, 5, k).fit(ids)
    grams = [tuple(ids[i : i + order]) for i in range(len(ids) - order + 1)]
    count = Counter(grams)
    context = Counter(gram[:-1] for gram in grams)
    nats = [
        -math.log((count[g] + k) / (context[g[:-1]] + 5 * k)) for g in grams
    ]
    assert model.nats(ids) == pytest.approx(sum(nats) / len(nats))


@settings(deadline=None, max_examples=100)
@given(IDS, st.integers(1, 4), st.lists(st.integers(0, 4), min_size=3))
def test_probabilities_add_up_to_one(
    ids: list[int], order: int, context: list[int]
) -> None:
    model = NGram(order, 5, 0.1).fit(ids)
    p = model.next_probabilities(context)
    assert p.shape == (5,)
    assert p.sum() == pytest.approx(1)
    assert p.min() > 0


def test_an_unseen_context_gives_the_uniform_distribution() -> None:
    model = NGram(3, 4, 0.5).fit([0, 1, 2, 0, 1])
    assert model.next_probabilities([3, 3]).tolist() == [0.25] * 4


def test_before_anything_is_counted_all_is_equally_likely() -> None:
    model = NGram(2, 8, 1.0)
    assert model.nats([1, 2, 3]) == pytest.approx(math.log(8))
    for kept in (model.grams, model.counts, model.contexts, model.totals):
        assert kept.shape == (0,)
        assert kept.dtype == np.int64


def test_by_hand() -> None:
    """abab, then b: b follows a twice of two, a follows b once."""
    model = NGram(2, 2, 1.0).fit([0, 1, 0, 1])
    assert model.next_probabilities([0]).tolist() == [0.25, 0.75]
    p = model.next_probabilities([1])
    assert p.tolist() == pytest.approx([2 / 3, 1 / 3])


def test_a_large_vocabulary_is_scored_at_once() -> None:
    p = NGram(2, 10**6, 1.0).fit([7, 5, 7, 5]).next_probabilities([9, 7])
    assert p.shape == (10**6,)
    assert p.argmax() == 5
    assert p[5] == pytest.approx(3 / (10**6 + 2))


def test_shakespeare(shakespeare: str) -> None:
    """Nats per character on the last tenth, as measured independently.

    The smoothing is chosen on the first nine tenths alone.
    """
    ids = np.array(CharTokenizer.train(shakespeare).encode(shakespeare))
    cut = int(0.9 * len(ids))
    for order, k, nats in (
        (2, 0.3, 2.4824),
        (3, 0.1, 2.0458),
        (4, 0.03, 1.7793),
        (5, 0.03, 1.7503),
        (6, 0.03, 1.9790),
    ):
        model = choose_ngram(ids[:cut], 65, [order])
        assert model.smoothing == k
        assert model.nats(ids[cut:]) == pytest.approx(nats, abs=0.0001)
    assert choose_ngram(ids[:cut], 65, range(3, 7)).order == 5
    for order, k, nats in ((1, 1.0, 3.3473), (4, 0.1, 1.7840)):
        model = NGram(order, 65, k).fit(ids[:cut])
        assert model.nats(ids[cut:]) == pytest.approx(nats, abs=0.0001)


def test_where_there_is_no_order_adding_one_is_best() -> None:
    ids = np.random.default_rng(0).integers(9, size=300, dtype=np.uint8)
    for text in (ids, ids.tolist()):
        assert choose_ngram(text, 9, [3]).smoothing == 1.0


def test_the_best_is_chosen_on_the_last_tenth() -> None:
    """As plain loops choose it; and it has counted the whole text."""
    splits = split_stories(write_corpus(40_000))
    letters = CharTokenizer.train(join(splits.train))
    ids = letters.encode(join(splits.train))
    cut = int(0.9 * len(ids))
    losses = {
        (order, k): NGram(order, letters.vocab_size, k)
        .fit(ids[:cut])
        .nats(ids[cut:])
        for order in (1, 2, 3, 4)
        for k in SMOOTHINGS
    }
    model = choose_ngram(ids, letters.vocab_size, iter((1, 2, 3, 4)))
    assert (model.order, model.smoothing) == min(losses, key=losses.__getitem__)
    assert model.counts.sum() == len(ids) - model.order + 1
    three = choose_ngram(ids, letters.vocab_size, [3])
    assert three.order == 3
    assert losses[3, three.smoothing] == min(losses[3, k] for k in SMOOTHINGS)


@settings(deadline=None, max_examples=50)
@given(IDS, st.integers(1, 4), st.lists(st.integers(0, 4), min_size=3))
def test_next_probabilities_one_by_one(
    ids: list[int], order: int, context: list[int]
) -> None:
    """Each is that of the n-gram which the token completes."""
    model = NGram(order, 5, 0.3).fit(ids)
    last = context[len(context) - order + 1 :]
    wanted = [
        model.probability(model.windows([*last, token]))[0]
        for token in range(5)
    ]
    assert model.next_probabilities(context).tolist() == wanted


def test_a_large_vocabulary_is_no_loop() -> None:
    model = NGram(3, 50_000, 0.1).fit(range(50_000))
    start = time.process_time()
    for _ in range(20):
        assert model.next_probabilities([7, 8]).argmax() == 9
    assert time.process_time() - start < 1


def test_counting_stays_above_the_entropy_of_the_town() -> None:
    splits = split_stories(write_corpus(200_000))
    letters = CharTokenizer.train(join(splits.train + splits.validation))
    train = letters.encode(join(splits.train))
    held = letters.encode(join(splits.validation))
    floor = entropy_per_character(splits.validation)
    losses = [
        NGram(n, letters.vocab_size, 0.01).fit(train).nats(held)
        for n in range(1, 7)
    ]
    assert min(losses) > floor
    assert losses[0] > losses[1] > losses[2] > losses[3]


@pytest.mark.parametrize(
    ("order", "size", "k", "message"),
    [
        (0, 5, 0.1, "1 or more"),
        (2, 0, 0.1, "1 or more"),
        (2, 5, 0.0, "smoothing"),
        (2, 5, math.nan, "smoothing"),
        (2, 5, math.inf, "smoothing"),
        (12, 65, 0.1, "63 bits"),
        (12, np.int64(65), 0.1, "63 bits"),  # whose powers wrap around
        (np.uint8(12), np.uint8(65), 0.1, "63 bits"),
    ],
)
def test_impossible_models_are_refused(
    order: int, size: int, k: float, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        NGram(order, size, k)


def test_impossible_texts_are_refused() -> None:
    model = NGram(3, 5, 0.1)
    with pytest.raises(ValueError, match="no window of 3"):
        model.fit([1, 2])
    with pytest.raises(ValueError, match="from 0 to 4"):
        model.fit([1, 2, 5])
    with pytest.raises(ValueError, match="context of 2"):
        model.next_probabilities([1])
    with pytest.raises(ValueError, match="from 0 to 4"):
        model.next_probabilities([1, 5])


def test_a_short_text_holds_a_window_to_be_judged_by() -> None:
    assert choose_ngram([0, 1] * 7 + [0], 2, (1, 2, 3)).order == 2
