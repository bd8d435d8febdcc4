"""The solutions of the exercises on byte pairs."""

from collections import Counter

from scratchlm.text.bpe import count_words, learn_merges
from scratchlm.text.toytown import join, write_corpus
from solutions.text.bpe import (
    learn_merges_scanning,
    tokens_per_merge,
    unused_tokens,
)

WORDS = count_words([join(write_corpus(20_000))])


def test_every_merge_saves_tokens() -> None:
    sizes = tokens_per_merge(WORDS, 50)
    assert sizes[0] == sum(len(word) * n for word, n in WORDS.items())
    savings = [a - b for a, b in zip(sizes, sizes[1:], strict=False)]
    assert min(savings) > 0
    assert savings[0] == max(savings)


def test_scanning_learns_the_same() -> None:
    assert learn_merges_scanning(WORDS, 60) == learn_merges(WORDS, 60)
    few = Counter({b"ab": 1})
    assert learn_merges_scanning(few, 9) == [(97, 98)]


def test_steps_on_the_way_go_out_of_use() -> None:
    words = Counter({b"abcd": 9})
    merges = learn_merges(words, 3)
    assert unused_tokens(words, merges) == [b"ab", b"cd"]
