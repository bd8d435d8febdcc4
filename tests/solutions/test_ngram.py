"""The solutions of the exercises on counting."""

import numpy as np
import pytest

from scratchlm.model.ngram import NGram
from scratchlm.text.characters import CharTokenizer
from scratchlm.text.toytown import join, split_stories, write_corpus
from solutions.model.ngram import Interpolated, sample, share_unseen

SPLITS = split_stories(write_corpus(120_000))
ALL = join(SPLITS.train + SPLITS.validation + SPLITS.test)
LETTERS = CharTokenizer.train(ALL)
TRAIN = LETTERS.encode(join(SPLITS.train))
HELD = LETTERS.encode(join(SPLITS.validation))
TEST = LETTERS.encode(join(SPLITS.test))


def test_a_mixture_beats_each_of_its_parts() -> None:
    mixture = Interpolated(6, LETTERS.vocab_size).fit(TRAIN)
    before = mixture.nats(TEST)
    mixture.tune(HELD)
    assert mixture.weights.sum() == pytest.approx(1)
    alone = [model.nats(TEST) for model in mixture.models]
    assert mixture.nats(TEST) < before
    assert mixture.nats(TEST) < min(alone)


def test_samples_follow_the_counts() -> None:
    model = NGram(2, 2, 1e-6).fit([0, 1] * 20)
    assert sample(model, [0], 6, seed=1) == [0, 1, 0, 1, 0, 1, 0]


def test_long_contexts_are_often_new() -> None:
    shares = [
        share_unseen(NGram(n, LETTERS.vocab_size, 0.1).fit(TRAIN), TEST)
        for n in (2, 4, 6, 8)
    ]
    assert shares == sorted(shares)
    assert shares[0] < 0.01 < shares[-1]
    assert np.isclose(share_unseen(NGram(3, 9, 1.0).fit([1] * 9), [2] * 9), 1)
