"""Solutions on gathering text."""

import doctest
import random

import pytest

from scratchlm.text.corpus import jaccard, shingles
from scratchlm.text.toytown import write_corpus
from solutions.text import corpus
from solutions.text.corpus import (
    agreement,
    choose_bands,
    is_iban,
    minhash,
    proposed,
    redact_ibans,
    remove_repeated_lines,
)


def test_minhash_estimates_the_similarity() -> None:
    stories = [shingles(story.text, 2) for story in write_corpus(3_000)]
    sketches = [minhash(runs) for runs in stories]
    for i in range(len(stories)):
        assert agreement(sketches[i], sketches[i]) == 1
        for j in range(i):
            gap = agreement(sketches[i], sketches[j])
            gap -= jaccard(stories[i], stories[j])
            assert abs(gap) < 5 * 0.0442
    assert minhash(stories[0], seed=2) != sketches[0]


def test_the_error_falls_with_the_root_of_the_numbers() -> None:
    a, b = frozenset(map(str, range(30))), frozenset(map(str, range(10, 40)))
    for numbers in (64, 256, 1024):
        errors = [
            agreement(minhash(a, numbers, seed), minhash(b, numbers, seed))
            - jaccard(a, b)
            for seed in range(20)
        ]
        root = (sum(e * e for e in errors) / len(errors)) ** 0.5
        assert root == pytest.approx(0.5 / numbers**0.5, rel=0.5)


def test_bands_against_chance() -> None:
    """Throwing coins gives the share that the formula says."""
    generator = random.Random(0)
    bands, rows, similarity, trials = 8, 3, 0.5, 4000
    hits = sum(
        any(
            all(generator.random() < similarity for _ in range(rows))
            for _ in range(bands)
        )
        for _ in range(trials)
    )
    wanted = proposed(similarity, bands, rows)
    assert hits / trials == pytest.approx(wanted, abs=0.03)


def test_choosing_bands() -> None:
    assert choose_bands(0.7, 128, risk=0.001) == 4
    rows = choose_bands(0.8, 128, risk=0.01)
    assert 1 - proposed(0.8, 128 // rows, rows) <= 0.01
    assert 1 - proposed(0.8, 128 // (rows + 1), rows + 1) > 0.01
    with pytest.raises(ValueError, match="take more"):
        choose_bands(0.1, 4, risk=0.001)


def test_ibans() -> None:
    good = "DE89 3704 0044 0532 0130 00"
    assert is_iban(good)
    assert not is_iban(good[:-1] + "1")
    text = f"Pay to {good} OR CALL. Not to DE89 3704 0044 0532 0130 01."
    assert redact_ibans(text) == (
        "Pay to <iban> OR CALL. Not to DE89 3704 0044 0532 0130 01."
    )
    assert redact_ibans("GB82WEST12345698765432, please") == "<iban>, please"


def test_lines_on_every_page() -> None:
    menu = "Home | Bread | Contact"
    pages = [f"{menu}\n\nStory {i}\nThe end" for i in range(3)]
    pages.append("Another\n\nThe end?")
    assert remove_repeated_lines(pages) == [
        "\nStory 0",
        "\nStory 1",
        "\nStory 2",
        "Another\n\nThe end?",
    ]
    assert remove_repeated_lines(pages, limit=3) == pages
    assert doctest.testmod(corpus).failed == 0
