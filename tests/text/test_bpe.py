"""Byte-pair encoding: the fast form equals the naive one, ties included."""

import doctest
import unicodedata
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from scratchlm.text import bpe
from scratchlm.text.bpe import (
    COMPLETE,
    GPT2_PATTERN,
    LONGEST,
    PATTERN,
    PairIndex,
    count_pairs,
    count_words,
    in_blocks,
    in_parts,
    learn_merges,
    learn_merges_naive,
    merge_word,
    pre_tokenize,
    spell,
)
from scratchlm.text.toytown import join, write_corpus

ANY = st.text(st.characters(codec="utf-8"), max_size=80)
WORDS = st.dictionaries(
    st.text("abc", min_size=1, max_size=12).map(str.encode),
    st.integers(1, 5),
    min_size=1,
    max_size=12,
).map(Counter)


def test_the_examples_hold() -> None:
    assert doctest.testmod(bpe).failed == 0


@settings(deadline=None, max_examples=150)
@given(WORDS, st.integers(0, 40))
def test_fast_learning_equals_naive_learning(
    words: Counter[bytes], merges: int
) -> None:
    """On few letters, where ties and overlaps are everywhere."""
    assert learn_merges(words, merges) == learn_merges_naive(words, merges)


@settings(deadline=None, max_examples=60)
@given(WORDS)
def test_counts_stay_those_of_a_recount(words: Counter[bytes]) -> None:
    """After each merge the index holds what counting again would give."""
    index = PairIndex(words)
    for new in range(256, 276):
        pair = index.pop()
        if pair is None:
            break
        index.merge(pair, new)
        fresh = count_pairs(zip(index.words, index.times, strict=True))
        kept = {pair: n for pair, n in index.counts.items() if n}
        assert kept == dict(fresh)
        for other, places in index.places.items():
            holding = {
                i
                for i, word in enumerate(index.words)
                if other in zip(word, word[1:], strict=False)
            }
            assert holding <= places


def test_fast_learning_equals_naive_learning_on_toytown() -> None:
    words = count_words([join(write_corpus(30_000))])
    assert learn_merges(words, 150) == learn_merges_naive(words, 150)


def test_the_classic_example_by_hand() -> None:
    """low ×5, lower ×2, newest ×6, widest ×3: Sennrich et al. (2016)."""
    words = Counter({b"low": 5, b"lower": 2, b"newest": 6, b"widest": 3})
    learned = learn_merges(words, 4)
    assert spell(learned)[256:] == [b"es", b"est", b"lo", b"low"]


def test_ties_go_to_the_smaller_pair() -> None:
    words = Counter({b"zy": 3, b"ba": 3, b"bb": 3})
    learned = learn_merges(words, 3)
    assert spell(learned)[256:] == [b"ba", b"bb", b"zy"]


def test_learning_stops_when_no_pair_is_left() -> None:
    words = Counter({b"ab": 2})
    for learn in (learn_merges, learn_merges_naive):
        assert learn(words, 10) == [(97, 98)]
        assert learn(Counter(), 10) == []


@settings(deadline=None, max_examples=150)
@given(ANY, st.sampled_from([PATTERN, GPT2_PATTERN]))
def test_words_joined_are_the_text(text: str, pattern: str) -> None:
    words = pre_tokenize(text, pattern)
    assert "".join(words) == text
    assert all(words)


# Where words begin and end: letters, marks, digits, signs, white space.
EDGES = st.text("aZé中ſ'’.,:;!-_<|>12 \t\n\r\u00a0\u2028\u0301\u3002")


@settings(deadline=None, max_examples=300)
@given(
    st.lists(st.one_of(EDGES, ANY), max_size=4).map("".join),
    st.sampled_from([*COMPLETE, r"\w+"]),
    st.sampled_from([1, 2, 7, 1000]),
)
def test_the_words_of_the_parts_are_the_words_of_the_text(
    text: str, pattern: str, size: int
) -> None:
    blocks = [text[i : i + size] for i in range(0, len(text), size)]
    parts = list(in_parts(blocks, pattern))
    assert "".join(parts) == text
    assert all(parts)
    words = [word for part in parts for word in pre_tokenize(part, pattern)]
    assert words == pre_tokenize(text, pattern)


def test_every_two_characters_may_stand_at_an_edge() -> None:
    """All pairs of kinds of characters, before and behind the cut."""
    signs = "aé'.<1 \n\u00a0\u0301\u3002"
    for pattern in COMPLETE:
        for text in (
            a + b + c + d
            for a in "x'"
            for b in signs
            for c in signs
            for d in signs
        ):
            parts = list(in_parts([text, "s"], pattern))
            words = [w for part in parts for w in pre_tokenize(part, pattern)]
            assert words == pre_tokenize(text + "s", pattern)


def test_parts_are_cut_and_not_held_back() -> None:
    read = []

    def blocks() -> Iterator[str]:
        for block in ("The baker", " and the sm", "ith"):
            read.append(block)
            yield block

    parts = in_parts(blocks())
    assert next(parts) == "The"
    assert read == ["The baker"]
    assert list(parts) == [" baker and the", " smith"]


def test_the_version_of_unicode_is_found_by_its_letters(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known = bpe.unicode_version()
    assert known in bpe.NEW_LETTERS
    versions = [tuple(map(int, v.split("."))) for v in bpe.NEW_LETTERS]
    assert versions == sorted(versions, reverse=True)
    for version, letter in bpe.NEW_LETTERS.items():
        monkeypatch.setattr(bpe, "NEW_LETTERS", {version: letter})
        old = unicodedata.unidata_version.split(".")[:2]
        if tuple(map(int, old)) >= tuple(map(int, version.split("."))):
            assert unicodedata.category(letter)[0] == "L"
            assert bpe.unicode_version() == version
    monkeypatch.setattr(bpe, "NEW_LETTERS", {"99.0": "\U000e0fff"})
    assert bpe.unicode_version() == "older"


def test_text_is_cut_into_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bpe, "BLOCK", 3)
    assert list(in_blocks("abcdefgh")) == ["abc", "def", "gh"]
    assert list(in_blocks("")) == []


@settings(deadline=None, max_examples=150)
@given(
    st.text("ab, 1", max_size=20),
    st.sampled_from([r"\w+", r"\w*", r"(a)(b)?", "b", r"(?=a)", "^a"]),
)
def test_what_a_pattern_leaves_out_is_kept(text: str, pattern: str) -> None:
    words = pre_tokenize(text, pattern)
    assert "".join(words) == text
    assert all(words)
    for match in regex.finditer(pattern, text):
        assert not match[0] or match[0] in words


def test_gaps_are_words_of_their_own() -> None:
    assert pre_tokenize("a b, c", r"\w+") == ["a", " ", "b", ", ", "c"]
    assert pre_tokenize("xaby", "(a)(b)") == ["x", "ab", "y"]
    assert count_words(["a b"], r"\w+") == Counter({b"a": 1, b" ": 1, b"b": 1})


def test_a_very_long_word_is_counted_in_pieces() -> None:
    counts = count_words(["é" * (2 * LONGEST + 1)])
    whole = ("é" * LONGEST).encode()
    assert counts == Counter({whole: 2, "é".encode(): 1})


def test_learning_from_one_long_word_grows_with_its_length(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What merges rewrite is counted: twice the word, twice the work."""
    rewritten = 0
    merge_in = PairIndex.merge_in

    def counted(self: PairIndex, i: int, *rest: Any) -> None:
        nonlocal rewritten
        rewritten += len(self.words[i])
        merge_in(self, i, *rest)

    monkeypatch.setattr(PairIndex, "merge_in", counted)

    def work(characters: int) -> int:
        nonlocal rewritten
        rewritten = 0
        signs = [chr(0x4E00 + i * i % 701) for i in range(characters)]
        learn_merges(count_words(["".join(signs)]), 200)
        return rewritten

    cut = work(8_000)
    assert 0 < cut < 2.3 * work(4_000)
    monkeypatch.setattr(bpe, "LONGEST", 10**9)
    assert work(8_000) > 3 * cut  # left whole, each merge rewrites all of it


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Mrs Pell's loaves", ["Mrs", " Pell", "'s", " loaves"]),
        ("12345 nails", ["123", "45", " nails"]),
        ("a  b", ["a", " ", " b"]),
        ("end.\n\nNew", ["end", ".\n\n", "New"]),
        ("DON'T", ["DON", "'T"]),
    ],
)
def test_where_words_end(text: str, words: list[str]) -> None:
    assert pre_tokenize(text) == words


def test_gpt2_keeps_long_numbers_together() -> None:
    assert pre_tokenize("12345 s", GPT2_PATTERN) == ["12345", " s"]


def test_a_string_is_one_text_and_no_row_of_letters() -> None:
    assert count_words("so so") == count_words(["so so"])


def test_words_are_counted_over_all_texts() -> None:
    counts = count_words(["so so", "so"], GPT2_PATTERN)
    assert counts == Counter({b"so": 2, b" so": 1})


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 2), max_size=12))
def test_merging_a_word_leaves_its_bytes(word: list[int]) -> None:
    merged = merge_word(word, (1, 1), 9)
    back = [x for token in merged for x in ([1, 1] if token == 9 else [token])]
    assert back == word
    assert (1, 1) not in zip(merged, merged[1:], strict=False)


def test_no_merge_crosses_the_edge_of_a_word() -> None:
    words = count_words([join(write_corpus(30_000))])
    for token in spell(learn_merges(words, 300))[256:]:
        text = token.decode()
        assert len(pre_tokenize(text)) == 1


def test_the_collector_is_as_before_after_learning() -> None:
    """Off meanwhile, on again afterwards, and left off where it was off."""
    import gc

    from scratchlm.text.bpe import collector_off

    with collector_off():
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(KeyError), collector_off():
        raise KeyError
    assert gc.isenabled()
    gc.disable()
    try:
        learn_merges(count_words(["so so"]), 2)
        assert not gc.isenabled()
    finally:
        gc.enable()
