"""The solutions on filters of quality."""

import doctest

import numpy as np
import pytest

from solutions.text import quality
from solutions.text.quality import (
    compressed_share,
    cut_overlaps,
    keep_evenly,
    keep_noisy,
)

WORDS = [f"word{i}" for i in range(100)]


def test_doctests() -> None:
    assert doctest.testmod(quality).failed == 0


def test_noise_keeps_by_the_chance_that_it_says() -> None:
    generator = np.random.default_rng(0)
    for score in (0.1, 0.5, 0.9):
        kept = keep_noisy([score] * 20_000, 9, generator)
        assert np.mean(kept) == pytest.approx((2 - score) ** -9, abs=0.01)


def test_noise_has_a_seed() -> None:
    one, other = (
        keep_noisy([0.5] * 99, 9, np.random.default_rng(1)) for _ in range(2)
    )
    assert one == other
    assert keep_noisy([], 9, np.random.default_rng(1)) == []


def test_what_is_shared_is_cut_out() -> None:
    item = " ".join(WORDS[30:50])
    before, after = " ".join(WORDS[:30]), " ".join(WORDS[50:70])
    text = f"{before.capitalize()}: {item.upper()}. {after}!"
    assert cut_overlaps(text, [item]) == [
        f"{before.capitalize()}:",
        f"{after}!",
    ]


def test_short_pieces_go() -> None:
    item = " ".join(WORDS[30:50])
    text = " ".join(WORDS[15:69])
    assert cut_overlaps(text, [item]) == []
    assert cut_overlaps(text, [item], least=19) == [" ".join(WORDS[50:69])]
    assert cut_overlaps(text, [item], least=15)[0] == " ".join(WORDS[15:30])


def test_a_text_that_shares_nothing_stays() -> None:
    assert cut_overlaps("One  line.", [" ".join(WORDS)]) == ["One line."]


def test_repeated_words_are_compressed() -> None:
    text = " ".join(WORDS)
    assert compressed_share(text) > compressed_share(text * 3)
    assert compressed_share("") > 1  # the frame alone


def test_each_group_keeps_the_same_share() -> None:
    scores, groups = [0.9, 0.8, 0.7, 0.2, 0.3, 0.1], list("aaabbb")
    kept = keep_evenly(scores, groups, 1 / 3)
    assert kept == [True, False, False, False, True, False]
