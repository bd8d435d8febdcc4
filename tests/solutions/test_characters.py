"""The solutions of the exercises on characters."""

import doctest
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from solutions.text import characters as module
from solutions.text.characters import (
    ByteTokenizer,
    TokenizerWithUnknown,
    character_entropy,
)

ANY = st.text(st.characters(codec="utf-8"), max_size=40)


def test_the_examples_hold() -> None:
    assert doctest.testmod(module).failed == 0


def test_entropy_is_at_most_the_logarithm_of_the_alphabet() -> None:
    assert character_entropy("aaaa") == 0
    text = "the smith counts his nails"
    assert 0 < character_entropy(text) < math.log(len(set(text)))


def test_unknown_characters_have_a_number_of_their_own() -> None:
    tokenizer = TokenizerWithUnknown("abc")
    assert tokenizer.encode("abz") == [0, 1, 3]
    assert tokenizer.decode([0, 3, 1]) == "a\ufffdb"
    assert tokenizer.vocab_size == 4


@pytest.mark.always
@settings(deadline=None, max_examples=60)
@given(ANY)
def test_bytes_hold_every_text(text: str) -> None:
    ids = ByteTokenizer().encode(text)
    assert ByteTokenizer().decode(ids) == text
    assert max(ids, default=0) < ByteTokenizer.vocab_size
