"""The solutions of the exercises on exchanging tokenizers."""

import pytest
import tiktoken

from scratchlm.text.bpe import GPT2_PATTERN, pre_tokenize
from scratchlm.text.exchange import to_tiktoken
from scratchlm.text.tokenizer import Tokenizer
from scratchlm.text.toytown import join, write_corpus
from solutions.text.exchange import (
    cut_vocabulary,
    first_difference,
    pairs_that_tiktoken_joins,
)

TEXT = join(write_corpus(40_000))
TOWN = Tokenizer.train(TEXT, 600)


def test_two_patterns_differ_in_a_few_characters() -> None:
    other = Tokenizer(TOWN.merges, TOWN.special_tokens, GPT2_PATTERN)
    texts = ["all the same", "It was 12345 o'clock, they say."]
    found = first_difference(texts, TOWN.encode, other.encode)
    assert found is not None
    assert len(found) <= 6
    assert first_difference(texts, TOWN.encode, TOWN.encode) is None


def test_a_smaller_vocabulary_is_a_start_of_the_larger() -> None:
    small = cut_vocabulary(TOWN, 400)
    assert small.vocab_size == 400
    assert small.end_id == 399
    assert small.merges == Tokenizer.train(TEXT, 400).merges
    with pytest.raises(ValueError, match="not between"):
        cut_vocabulary(TOWN, 10_000)
    with pytest.raises(ValueError, match="256 is not between 257 and 600"):
        cut_vocabulary(TOWN, 256)


def test_other_pairs_exist_and_never_meet() -> None:
    others = pairs_that_tiktoken_joins(TOWN)
    assert others
    ids = TOWN.encode(TEXT)
    inside = {
        pair
        for word in pre_tokenize(TEXT)
        for pair in zip(TOWN.encode(word), TOWN.encode(word)[1:], strict=False)
    }
    assert not others & inside
    theirs = tiktoken.Encoding(**to_tiktoken(TOWN))
    assert theirs.encode_ordinary(TEXT) == ids
