"""Encoding and decoding: inverse, safe, fast, and the same on disk."""

import doctest
import json
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scratchlm.text import tokenizer as module
from scratchlm.text.bpe import (
    GPT2_PATTERN,
    PATTERN,
    in_blocks,
    merge_word,
    unicode_version,
)
from scratchlm.text.tokenizer import (
    END,
    Tokenizer,
    encode_long,
    encode_short,
    split_special,
)
from scratchlm.text.toytown import join, write_corpus

ANY = st.text(st.characters(codec="utf-8"), max_size=80)


@pytest.fixture(scope="module")
def town() -> Tokenizer:
    """A tokenizer of Toytown with 600 tokens."""
    return Tokenizer.train(join(write_corpus(60_000)), 600)


@pytest.fixture(scope="module")
def letters() -> Tokenizer:
    """A tokenizer of long runs of two letters: ties and overlaps."""
    return Tokenizer.train(["aab" * 20 + "a" * 30 + "abba" * 9], 290)


def test_the_examples_hold() -> None:
    assert doctest.testmod(module).failed == 0


@settings(deadline=None, max_examples=200)
@given(text=ANY)
def test_decoding_undoes_encoding(town: Tokenizer, text: str) -> None:
    assert town.decode(town.encode(text)) == text
    assert town.decode(town.encode(text)) == text  # now from the cache


@settings(deadline=None, max_examples=100)
@given(piece=st.binary(max_size=60))
def test_any_bytes_survive(town: Tokenizer, piece: bytes) -> None:
    assert town.decode_bytes(town.encode_piece(piece)) == piece


@settings(deadline=None, max_examples=200)
@given(text=st.text("ab", max_size=70))
def test_scan_and_list_give_the_same_tokens(
    letters: Tokenizer, text: str
) -> None:
    piece = text.encode()
    expected = encode_short(piece, letters.ranks)
    assert encode_long(piece, letters.ranks) == expected


def test_a_noted_place_may_be_out_of_date() -> None:
    """In aaa both pairs are noted; joining the first ends the second."""
    assert encode_long(b"aaa", {(97, 97): 256}) == [256, 97]


def test_a_joined_token_is_joined_again_on_either_side() -> None:
    assert encode_long(b"abc", {(97, 98): 256, (256, 99): 257}) == [257]
    assert encode_long(b"cab", {(97, 98): 256, (99, 256): 257}) == [257]


@settings(deadline=None, max_examples=100)
@given(text=st.text("ab", max_size=40))
def test_encoding_is_merging_in_the_order_of_learning(
    letters: Tokenizer, text: str
) -> None:
    """The definition: apply every merge in turn, from the left."""
    ids = list(text.encode())
    for i, pair in enumerate(letters.merges):
        ids = merge_word(ids, pair, 256 + i)
    assert encode_short(text.encode(), letters.ranks) == ids


class Counting(dict[tuple[int, int], int]):
    """Ranks that count how often they are asked."""

    asked = 0

    def get(self, *arguments: Any) -> Any:
        self.asked += 1
        return super().get(*arguments)


@pytest.mark.parametrize("sign", ["a", " ", "\n", "中"])
def test_a_long_piece_takes_work_in_proportion(sign: str) -> None:
    """Twice the characters, twice the looks at a rank; counted, not timed."""
    tokenizer = Tokenizer.train([sign * 40], 300)

    def looks(characters: int) -> int:
        piece, ranks = (sign * characters).encode(), Counting(tokenizer.ranks)
        assert tokenizer.decode_bytes(encode_long(piece, ranks)) == piece
        assert ranks.asked < 6 * len(piece)
        return ranks.asked

    assert looks(20_000) < 2.1 * looks(10_000)


def test_a_megabyte_of_spaces_is_encoded_in_seconds() -> None:
    tokenizer = Tokenizer.train([" " * 40], 300)
    start = time.process_time()
    tokenizer.encode(" " * 250_000)
    assert time.process_time() - start < 5  # a quarter of it took 4 before


def test_common_words_of_the_town_are_one_token(town: Tokenizer) -> None:
    for word in (" the", " and", ".\n"):
        assert len(town.encode(word)) == 1


def test_special_tokens_never_come_from_text(town: Tokenizer) -> None:
    text = f"one{END}two"
    assert town.end_id not in town.encode(text)
    assert town.decode(town.encode(text)) == text
    ids = town.encode(text, allowed_special={END})
    assert ids.count(town.end_id) == 1
    assert town.decode(ids) == text


def test_the_longest_special_token_wins() -> None:
    special = {"<|a|>": 256, "<|a|><|b|>": 257}
    tokenizer = Tokenizer([], special)
    ids = tokenizer.encode("<|a|><|b|><|a|>", allowed_special=set(special))
    assert ids == [257, 256]
    ids = tokenizer.encode("<|a|><|b|>", allowed_special={"<|a|>"})
    assert ids[0] == 256
    assert len(ids) == 6


def test_unknown_special_tokens_are_refused(town: Tokenizer) -> None:
    with pytest.raises(ValueError, match=r"<\|mine\|>"):
        town.encode("x", allowed_special={"<|mine|>"})


def test_training_does_not_learn_from_special_tokens() -> None:
    texts = [f"ab{END}" * 50]
    tokenizer = Tokenizer.train(texts, 300)
    assert not any(b"end" in t for i, t in tokenizer.tokens.items()
                   if i < 256 + len(tokenizer.merges))
    assert tokenizer.vocab_size == 258  # ab, and the end


@settings(deadline=None, max_examples=200)
@given(text=ANY)
def test_a_stream_is_the_text_in_whole_characters(
    town: Tokenizer, text: str
) -> None:
    pieces = list(town.decode_stream(iter(town.encode(text))))
    assert "".join(pieces) == text
    assert "\N{REPLACEMENT CHARACTER}" not in "".join(pieces) or (
        "\N{REPLACEMENT CHARACTER}" in text
    )


def test_a_stream_holds_half_a_character_back(town: Tokenizer) -> None:
    halves = list("é".encode())
    seen = []
    for piece in town.decode_stream(halves):
        seen.append(piece)
    assert seen == ["é"]
    assert list(town.decode_stream(halves[:1])) == ["\ufffd"]


def test_the_vocabulary_has_the_size_that_was_asked_for(
    town: Tokenizer,
) -> None:
    assert town.vocab_size == 600
    assert town.end_id == 599
    assert sorted(town.tokens) == list(range(600))


def test_too_small_a_vocabulary_is_refused() -> None:
    with pytest.raises(ValueError, match="256 bytes"):
        Tokenizer.train("text", 256)


def test_without_an_end_token_asking_for_it_is_an_error() -> None:
    with pytest.raises(ValueError, match="no special token"):
        Tokenizer([]).end_id  # noqa: B018


@pytest.mark.parametrize(
    ("merges", "special", "message"),
    [
        ([(97, 256)], {}, "merge 0"),
        ([(97, 98), (-1, 3)], {}, "merge 1"),
        ([(97, 98), (97, 98)], {}, "twice"),
        ([(97, 98)], {"<|a|>": 256}, "from 257 on"),
        ([], {"<|a|>": 256, "<|b|>": 256}, "numbers of their own"),
        ([], {"": 256}, "empty"),
    ],
)
def test_contradictions_are_refused(
    merges: list[tuple[int, int]], special: dict[str, int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Tokenizer(merges, special)


@pytest.mark.parametrize("ids", [[600], [-1], [0, 10**9]])
def test_tokens_that_do_not_exist_are_refused(
    town: Tokenizer, ids: list[int]
) -> None:
    with pytest.raises(ValueError, match="no token"):
        town.decode(ids)


def test_saved_and_loaded_it_is_the_same(
    town: Tokenizer, tmp_path: Path
) -> None:
    town.save(tmp_path / "tokenizer.json")
    again = Tokenizer.load(tmp_path / "tokenizer.json")
    assert again.fingerprint == town.fingerprint
    text = "Mrs Pell counts 12 loaves."
    assert again.encode(text) == town.encode(text)
    assert [p.name for p in tmp_path.iterdir()] == ["tokenizer.json"]
    data = json.loads((tmp_path / "tokenizer.json").read_text())
    assert data.pop("unicode") == unicode_version()
    assert data == json.loads(town.to_json())


def test_fingerprints_differ_where_tokens_do(town: Tokenizer) -> None:
    fewer = Tokenizer(town.merges[:-1], {END: 598})
    other = Tokenizer(town.merges, {END: 599}, GPT2_PATTERN)
    assert len({t.fingerprint for t in (town, fewer, other)}) == 3


def test_a_file_from_another_unicode_is_read_with_a_warning(
    tmp_path: Path,
) -> None:
    path = tmp_path / "tokenizer.json"
    tokenizer = Tokenizer([(97, 98)])
    tokenizer.save(path)
    data = json.loads(path.read_text())
    path.write_text(json.dumps(data | {"unicode": "older"}))
    said = f"saved with the letters of Unicode older.*{unicode_version()}"
    with pytest.warns(UserWarning, match=said):
        assert Tokenizer.load(path).fingerprint == tokenizer.fingerprint
    del data["unicode"]
    path.write_text(json.dumps(data))  # it says nothing, and so do we
    assert Tokenizer.load(path).fingerprint == tokenizer.fingerprint


@pytest.mark.parametrize(
    "change",
    [
        {"format": "something else"},
        {"merges": [[1]]},
        {"merges": [[97, 999]]},
        {"pattern": "("},
        {"special_tokens": None, "pattern": 3},
        {"merges": [[97.5, 98]]},
        {"merges": [["a", "b"]]},
        {"merges": 3},
        {"special_tokens": {"<|a|>": 900.5}},
        {"special_tokens": {"<|a|>": "900"}},
        {"special_tokens": [1]},
    ],
)
def test_broken_files_are_refused(
    town: Tokenizer, tmp_path: Path, change: dict[str, object]
) -> None:
    path = tmp_path / "tokenizer.json"
    data = {**json.loads(town.to_json()), **change}
    path.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(ValueError, match="holds no tokenizer"):
        Tokenizer.load(path)


@pytest.mark.parametrize("text", ["[", "[]", "[" * 100_000])
def test_a_file_that_is_no_json_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="holds no tokenizer"):
        Tokenizer.load(path)


def test_tokens_too_long_for_any_memory_are_refused() -> None:
    """Forty merges, each of the last token with itself: a terabyte."""
    twice = [(97, 97), *((256 + i, 256 + i) for i in range(39))]
    assert len(Tokenizer(twice[:16]).tokens[271]) == 1 << 16
    with pytest.raises(ValueError, match=r"merge 16 makes .* 65,536 bytes"):
        Tokenizer(twice)


def test_the_cache_is_emptied_when_it_is_full(
    town: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CACHED", 1000)
    fresh = Tokenizer(town.merges)
    text = "one two three four five six seven eight nine ten eleven"
    assert fresh.encode(text) == town.encode(text)
    assert 1 <= len(fresh.cache) <= 5


def test_the_cache_counts_bytes_and_not_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Long words fill it, too: 40 of 1,000 letters are not all kept."""
    monkeypatch.setattr(module, "CACHED", 30_000)
    tokenizer = Tokenizer([])
    for i in range(40):
        tokenizer.encode(chr(97 + i % 26) * (1000 + i))
    assert len(tokenizer.cache) < 10
    tracemalloc.start()
    for i in range(40):
        tokenizer.encode(chr(97 + i % 26) * (1000 + i))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 2 * 30_000


EDGES = st.text("aé中'.<12 \n\r\u00a0\u3002", max_size=60)


@settings(deadline=None, max_examples=150)
@given(
    text=st.one_of(EDGES, ANY),
    size=st.sampled_from([1, 2, 7, 50]),
    pattern=st.sampled_from([PATTERN, GPT2_PATTERN, r"\w+"]),
)
def test_a_text_in_blocks_has_the_tokens_of_the_whole(
    town: Tokenizer, text: str, size: int, pattern: str
) -> None:
    tokenizer = Tokenizer(town.merges, pattern=pattern)
    blocks = [text[i : i + size] for i in range(0, len(text), size)]
    words = [
        number
        for word in module.pre_tokenize(text, pattern)
        for number in encode_short(word.encode(), tokenizer.ranks)
    ]
    assert list(tokenizer.encode_stream(blocks)) == words
    assert tokenizer.encode(text) == words


def test_a_stream_is_encoded_in_constant_memory(town: Tokenizer) -> None:
    """Ten times the text takes no more memory, and far less than it has."""
    page = join(write_corpus(20_000))

    def peak(pages: int) -> int:
        tracemalloc.start()
        count = 0
        for _ in town.encode_stream(page for _ in range(pages)):
            count += 1
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert count > 3_000 * pages
        return most

    peak(1)  # fills the cache
    most = peak(10)
    assert most < 1.3 * peak(2)
    assert most < 25 * len(page)


def test_tokens_come_before_the_stream_ends(town: Tokenizer) -> None:
    def blocks() -> Iterator[str]:
        yield "Mrs Pell counts her loaves. "
        raise AssertionError("it read on")

    assert next(town.encode_stream(blocks())) == town.encode("Mrs")[0]


@pytest.mark.parametrize("allowed", [frozenset(), {END}])
def test_half_a_surrogate_pair_is_named_with_its_place(
    town: Tokenizer, allowed: frozenset[str]
) -> None:
    text = "Mrs Pell " * 20_000 + f"said{END} \ud83d and left."
    place = f"{text.index(chr(0xD83D)):,}"
    with pytest.raises(ValueError, match=f"character {place}.*surrogate"):
        town.encode(text, allowed_special=allowed)
    with pytest.raises(ValueError, match=f"character {place}.*surrogate"):
        list(town.encode_stream(in_blocks(text)))


@pytest.mark.parametrize(
    "ids", [[3.7], [np.float32(3)], ["3"], [None], [torch.tensor(2.5)]]
)
def test_only_whole_numbers_are_tokens(
    town: Tokenizer, ids: list[object]
) -> None:
    with pytest.raises(TypeError):
        town.decode(ids)  # type: ignore[arg-type]


def test_whole_numbers_of_any_library_are_tokens(town: Tokenizer) -> None:
    ids = town.encode("Mrs Pell")
    assert town.decode(np.array(ids, dtype=np.uint16)) == "Mrs Pell"
    assert town.decode(torch.tensor(ids)) == "Mrs Pell"


def test_all_special_tokens_can_be_allowed_by_one_word() -> None:
    special = {"<|a|>": 256, "<|b|>": 257}
    tokenizer = Tokenizer([], special)
    assert tokenizer.encode("<|a|>x<|b|>", allowed_special="all") == [
        256, ord("x"), 257,
    ]
    assert Tokenizer([]).encode("x", allowed_special="all") == [ord("x")]
    with pytest.raises(ValueError, match='or "all", and not'):
        tokenizer.encode("x", allowed_special="<|a|>")  # type: ignore[arg-type]


def test_learning_from_half_a_surrogate_pair_is_refused() -> None:
    with pytest.raises(ValueError, match=r"ud83d' holds half of"):
        Tokenizer.train(["Mrs", "Pell\ud83d and"], 300)


def test_a_special_token_given_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="stands twice"):
        Tokenizer.train("text", 300, ("<|a|>", "<|b|>", "<|a|>"))


def test_text_without_special_tokens_stays_whole() -> None:
    assert split_special("abc", []) == ["abc"]


def test_a_worker_follows_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C is left to the parent, and its end ends the worker."""
    ignored, ended = [], []
    parent = type("Parent", (), {"sentinel": 7})
    monkeypatch.setattr(module.signal, "signal", lambda *a: ignored.append(a))
    monkeypatch.setattr(module.multiprocessing, "parent_process", parent)
    monkeypatch.setattr(module.connection, "wait", ended.append)
    monkeypatch.setattr(module.os, "_exit", ended.append)
    module.follow_parent()
    deadline = time.monotonic() + 10
    while len(ended) < 2 and time.monotonic() < deadline:
        time.sleep(0.001)
    assert ended == [[7], 1]
    assert ignored == [(module.signal.SIGINT, module.signal.SIG_IGN)]


def test_an_error_that_nobody_can_place_is_still_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "check_text", lambda text, done: None)
    with pytest.raises(UnicodeEncodeError):
        list(Tokenizer([], {}).encode_stream(["\ud800 "]))
