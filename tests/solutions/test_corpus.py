"""Solutions on gathering text."""

import doctest
import random

import numpy as np
import pytest

from scratchlm.text.corpus import jaccard, shingles
from scratchlm.text.toytown import write_corpus
from solutions.text import corpus
from solutions.text.corpus import (
    LETTERS,
    agreement,
    choose_bands,
    is_dni,
    minhash,
    proposed,
    redact_dnis,
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
    generator = np.random.default_rng(0)
    both = generator.integers(1 << 62, size=40, dtype=np.uint64)
    a, b = both[:30], both[10:]
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


def test_identity_numbers() -> None:
    assert is_dni("12345678Z")
    assert is_dni("12345678-Z")
    assert not is_dni("12345679Z")
    text = "12345678Z, (00000023-T), not 12345678A, A12345678Z, 12345678Za"
    assert redact_dnis(text) == (
        "<dni>, (<dni>), not 12345678A, A12345678Z, 12345678Za"
    )
    letters = [next(c for c in LETTERS if is_dni(f"{n:08}{c}"))
               for n in range(23)]  # fmt: skip
    assert "".join(letters) == LETTERS
    assert len(set(LETTERS)) == 23


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
