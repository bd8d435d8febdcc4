"""The solutions of the exercises on pieces of words."""

import math
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scratchlm.text.pieces import Unigram, from_counts, improve
from solutions.text.pieces import (
    cost_of_greed,
    cut_with_bytes,
    improve_sparsely,
    join_with_bytes,
    n_best,
)

MODEL = Unigram({"a": -2.0, "b": -2.5, "ab": -3.0, "ba": -3.7, "aba": -5.1})


def all_cuts(word: str) -> list[list[str]]:
    """Every way to cut a word."""
    if not word:
        return [[]]
    return [
        [word[:end], *rest]
        for end in range(1, len(word) + 1)
        for rest in all_cuts(word[end:])
    ]


@settings(max_examples=40, deadline=None)
@given(st.text("ab", min_size=1, max_size=8), st.integers(1, 9))
def test_the_best_of_all_cuts_in_order(word: str, count: int) -> None:
    wanted = sorted(
        (
            (sum(MODEL.scores[piece] for piece in cut), cut)
            for cut in all_cuts(word)
            if MODEL.scores.keys() >= set(cut)
        ),
        reverse=True,
    )[:count]
    got = n_best(MODEL, word, count)
    assert [score for score, _ in got] == pytest.approx(
        [score for score, _ in wanted]
    )
    assert all("".join(cut) == word for _, cut in got)
    assert got[0][0] == pytest.approx(MODEL.best(word)[1])


def test_greed_never_wins() -> None:
    model = Unigram({"a": -5.0, "b": -1.0, "ab": -5.0, "bb": -1.5})
    changed, lost = cost_of_greed(model, ["abb", "ab", "bb"])
    assert changed == 0
    assert lost == 0.0
    model = Unigram({"a": -1.0, "b": -5.0, "ab": -2.0, "bb": -1.0})
    changed, lost = cost_of_greed(model, ["abb", "ab"])
    assert changed == 1
    assert lost == pytest.approx(7.0 - 2.0)  # ab·b instead of a·bb


def test_half_an_occurrence_less_is_nearly_the_prior() -> None:
    """exp(digamma(n)) is n - 1/2 but for little, from n = 1 on."""
    counts = torch.tensor([1.0, 2.0, 5.0, 100.0, 1e5], dtype=torch.double)
    exact = torch.digamma(counts).exp()
    gaps = (exact - (counts - 0.5)).abs()
    assert gaps.max() < 0.07
    assert (gaps[1:] / exact[1:]).max() < 0.02


def test_half_an_occurrence_less_hurts_the_rare() -> None:
    model = from_counts({"a": 5, "b": 5, "ab": 3, "bab": 1})
    words = Counter({"bab": 2, "ab": 40, "b": 9})
    plain, sparse = improve(model, words), improve_sparsely(model, words)
    assert "bab" in plain.scores
    assert "bab" not in sparse.scores
    assert {"a", "b"} <= sparse.scores.keys()
    total = sum(map(math.exp, sparse.scores.values()))
    assert total == pytest.approx(1)


@given(st.text("Zoab ë東\U0001f600", min_size=1, max_size=12))
def test_bytes_make_every_word_known(word: str) -> None:
    model = Unigram({"Z": -3.0, "o": -3.0, "Zo": -3.5, " ": -2.0})
    pieces = cut_with_bytes(model, word)
    assert join_with_bytes(pieces) == word
    assert all(p in model.scores or p.startswith("<0x") for p in pieces)
