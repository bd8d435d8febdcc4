"""The solutions of the exercises on the tokenizer."""

import random

import pytest

from scratchlm.text.tokenizer import Tokenizer
from scratchlm.text.toytown import join, write_corpus
from solutions.text.tokenizer import (
    bytes_per_token,
    encode_with_dropout,
    healed_prompt,
    truncate,
)

TEXT = join(write_corpus(40_000))
TOWN = Tokenizer.train(TEXT, 700)


def test_text_of_the_town_is_shorter_than_other_text() -> None:
    other = "Quantum chromodynamics, gluons & Feynman's rules."
    assert bytes_per_token(TOWN, TEXT) > 2 * bytes_per_token(TOWN, other) > 2


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_dropout_changes_tokens_but_not_text(share: float) -> None:
    piece = b" loaves"
    ids = encode_with_dropout(piece, TOWN.ranks, share, random.Random(1))
    assert TOWN.decode_bytes(ids) == piece
    if share == 0:
        assert ids == TOWN.encode_piece(piece)
    if share == 1:
        assert ids == list(piece)


def test_truncated_text_is_a_start_of_it() -> None:
    text = "Mrs Pell \N{BREAD} bakes"
    for count in range(len(TOWN.encode(text)) + 1):
        start = truncate(TOWN, text, count)
        assert text.startswith(start)
        assert len(TOWN.encode(start)) <= count
    assert truncate(TOWN, text, 99) == text


def test_a_healed_prompt_can_end_the_word() -> None:
    prompt = "Mrs Pell counts her l"
    start, numbers = healed_prompt(TOWN, prompt)
    pieces = {TOWN.tokens[n] for n in numbers}
    assert any(piece.startswith(b" l") and len(piece) > 3 for piece in pieces)
    assert prompt.startswith(start)
    assert healed_prompt(TOWN, "")[1] == sorted(TOWN.tokens)


@pytest.mark.parametrize("prompt", ["caf\u00e9", "Hi \N{BREAD}", "\u00e9"])
@pytest.mark.parametrize(
    "tokenizer", [TOWN, Tokenizer([], TOWN.special_tokens)]
)
def test_a_healed_prompt_ends_with_a_whole_character(
    tokenizer: Tokenizer, prompt: str
) -> None:
    start, numbers = healed_prompt(tokenizer, prompt)
    assert prompt.startswith(start)
    left = prompt.removeprefix(start).encode()
    assert all(tokenizer.tokens[n].startswith(left) for n in numbers)


def test_a_healed_prompt_does_not_end_the_text() -> None:
    """The name of a special token is no spelling of it."""
    start, numbers = healed_prompt(TOWN, "1 <")
    assert "1 <".startswith(start)
    assert TOWN.end_id not in numbers
