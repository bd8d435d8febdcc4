"""Shards: the same tokens, whatever happens on the way."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from scratchlm.text import shards
from scratchlm.text.prepare import MaterialError, encode_to_file, whole_file
from scratchlm.text.shards import (
    MANIFEST,
    Manifest,
    Piece,
    TokenRow,
    cut_files,
    join_shards,
    open_shards,
    write_shards,
)
from scratchlm.text.tokenizer import Tokenizer
from scratchlm.text.tokens import (
    BatchCursor,
    TokenFileError,
    encode_documents,
    open_tokens,
)

TEXTS = ["Mrs Pell keeps the bakery.", "é and 🍞", "", "a\u2028b\nc", "last"]
SOME = ["One story. " * 9, "Another one, of Mrs Pell.", "Bread", "and jam " * 5]


def lines(texts: list[str], end: str = "\n") -> bytes:
    rows = (json.dumps({"text": text}, ensure_ascii=False) for text in texts)
    return (end.join(rows) + end).encode()


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(["Mrs Pell keeps the bakery. Bread and jam."], 270)


@pytest.fixture
def corpus(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    for path, texts in zip(paths, (SOME, SOME[::-1] * 2), strict=True):
        path.write_bytes(lines(texts))
    return paths


@pytest.mark.parametrize(
    "content",
    [
        lines(TEXTS),
        lines(TEXTS, "\r\n"),
        lines(TEXTS).rstrip(b"\n"),
        b"\xef\xbb\xbf" + lines(TEXTS),
        b"\n  \n" + lines(TEXTS, "\n\n"),
    ],
)
def test_wherever_it_is_cut_each_document_comes_once(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(content)
    for size in range(1, len(content) + 2):
        pieces = cut_files([path], size)
        assert [text for piece in pieces for text in piece] == TEXTS
        assert sum(piece.bytes for piece in pieces) == len(content)


def test_shards_read_as_one_are_the_corpus(
    tokenizer: Tokenizer, corpus: list[Path], tmp_path: Path
) -> None:
    wanted = encode_documents(tokenizer, SOME + SOME[::-1] * 2)
    for size in (30, 50, 10_000):
        folder = tmp_path / str(size)
        manifest = write_shards(tokenizer, corpus, folder, size)
        row = open_shards(folder, tokenizer.fingerprint)
        assert row[:].tolist() == wanted.tolist()
        assert len(row) == sum(s.tokens for s in manifest.shards.values())
        names = [p.name for p in folder.iterdir()]
        assert sorted(names) == [*sorted(manifest.shards), MANIFEST]


def test_joined_they_are_the_file_that_is_written_at_once(
    tokenizer: Tokenizer, corpus: list[Path], tmp_path: Path
) -> None:
    one, other = tmp_path / "one.tokens", tmp_path / "other.tokens"
    write_shards(tokenizer, corpus[:1], tmp_path / "s", 40)
    count = join_shards(tmp_path / "s", one)
    done = encode_to_file(tokenizer, whole_file(corpus[0]), True, other, 1)
    assert one.read_bytes() == other.read_bytes()
    assert count == done.tokens
    sizes = Manifest.read(tmp_path / "s").shards.values()
    assert sum(shard.bytes for shard in sizes) == done.bytes


def test_every_slice_of_the_row_is_that_of_one_array() -> None:
    whole = np.arange(11, dtype=np.uint16)
    row = TokenRow([whole[:4], whole[4:4], whole[4:9], whole[9:]])
    assert len(row) == 11
    for start in range(-12, 13):
        for stop in range(-12, 13):
            found = row[start:stop]
            assert found.tolist() == whole[start:stop].tolist()
            assert found.dtype == np.uint16
    with pytest.raises(ValueError, match="steps of 2"):
        row[::2]
    with pytest.raises(ValueError, match="one part or more"):
        TokenRow([])


def test_a_cursor_goes_the_same_way_over_shards() -> None:
    whole = np.arange(100)
    row = TokenRow(np.split(whole, [1, 30, 31, 77]))
    one, other = (BatchCursor(t, 6, 5, seed=3) for t in (whole, row))
    for _ in range(12):  # into the fourth epoch
        for a, b in zip(one.next_batch(), other.next_batch(), strict=True):
            assert a.equal(b)
    assert one.state_dict() == other.state_dict()


Encode = Callable[..., shards.Shard]


def counting(patch: pytest.MonkeyPatch, stop: int = -1) -> list[str]:
    """The names of shards as they are encoded; dies before number `stop`."""
    names: list[str] = []
    encode: Encode = shards.encode_piece

    def counted(*given: object) -> shards.Shard:
        if len(names) == stop:
            raise KeyboardInterrupt
        path = given[2]
        assert isinstance(path, Path)
        names.append(path.name)
        return encode(*given)

    patch.setattr(shards, "encode_piece", counted)
    return names


def test_a_run_that_was_killed_goes_on(
    tokenizer: Tokenizer, corpus: list[Path], tmp_path: Path
) -> None:
    whole = tmp_path / "whole"
    total = len(write_shards(tokenizer, corpus, whole, 60).shards)
    assert total > 5
    for stop in range(total):
        folder = tmp_path / str(stop)
        with pytest.MonkeyPatch.context() as patch:
            counting(patch, stop)
            with pytest.raises(KeyboardInterrupt):
                write_shards(tokenizer, corpus, folder, 60)
        if stop:
            told = f"has {stop} of {total} shards; encode again"
            with pytest.raises(TokenFileError, match=told):
                open_shards(folder)
        with pytest.MonkeyPatch.context() as patch:
            names = counting(patch)
            write_shards(tokenizer, corpus, folder, 60)
        assert len(names) == total - stop
        for path in whole.iterdir():
            assert (folder / path.name).read_bytes() == path.read_bytes()


def test_only_what_changed_is_encoded_again(
    tokenizer: Tokenizer, corpus: list[Path], tmp_path: Path
) -> None:
    folder = tmp_path / "s"
    before = write_shards(tokenizer, corpus, folder, 60)
    names = sorted(before.shards)
    text = corpus[0].read_bytes()
    corpus[0].write_bytes(text.replace(b"Bread", b"Dough"))
    damaged = folder / names[-1]
    damaged.write_bytes(damaged.read_bytes()[:-2])
    (folder / names[-2]).unlink()
    told = f"{names[-1]} is not as it was written"
    (folder / names[-2]).touch()
    with pytest.raises(TokenFileError, match=f"{names[-2]}|{told}"):
        open_shards(folder)
    with pytest.MonkeyPatch.context() as patch:
        again = counting(patch)
        after = write_shards(tokenizer, corpus, folder, 60)
    place = text.index(b"Bread") // 60
    assert set(again) <= {names[place - 1], names[place], *names[-2:]}
    assert len(again) == 3
    changed = [n for n in names if after.shards[n] != before.shards[n]]
    assert changed == again[:1]
    assert len(open_shards(folder)) > 0


def test_one_bit_is_seen_and_can_be_overlooked(
    tokenizer: Tokenizer, corpus: list[Path], tmp_path: Path
) -> None:
    write_shards(tokenizer, corpus, tmp_path / "s", 60)
    shard = sorted((tmp_path / "s").glob("*.tokens"))[1]
    content = bytearray(shard.read_bytes())
    content[-2] ^= 1  # of the last token, which is still one
    shard.write_bytes(content)
    with pytest.raises(TokenFileError, match=f"{shard.name} is not as it was"):
        open_shards(tmp_path / "s")
    assert len(open_shards(tmp_path / "s", verify=False)) > 0


def test_a_corpus_may_grow_or_shrink(
    tokenizer: Tokenizer, corpus: list[Path], tmp_path: Path
) -> None:
    folder = tmp_path / "s"
    write_shards(tokenizer, corpus, folder, 60)
    before = {path.name for path in folder.iterdir()}
    (folder / "7.tokens").touch()  # a file of somebody else
    (folder / "joined.tokens").touch()
    manifest = write_shards(tokenizer, corpus[:1], folder, 60)
    assert open_shards(folder)[:].tolist() == (
        encode_documents(tokenizer, SOME).tolist()
    )
    after = {path.name for path in folder.iterdir()}
    assert before - after  # what its documents left is not kept
    others = {"7.tokens", "joined.tokens"}
    assert after == others | {"shards.json", *manifest.shards}


def test_a_folder_keeps_to_what_it_was_begun_with(
    tokenizer: Tokenizer, corpus: list[Path], tmp_path: Path
) -> None:
    folder = tmp_path / "s"
    write_shards(tokenizer, corpus, folder, 60)
    other = Tokenizer.train(SOME, 265)
    kept = {p.name: p.read_bytes() for p in folder.iterdir()}
    with pytest.raises(MaterialError, match="begun with another piece_bytes"):
        write_shards(tokenizer, corpus, folder, 61)
    with pytest.raises(MaterialError, match="begun with another fingerprint"):
        write_shards(other, corpus, folder, 60)
    with pytest.raises(TokenFileError, match="was made by the tokenizer"):
        open_shards(folder, other.fingerprint)
    assert kept == {p.name: p.read_bytes() for p in folder.iterdir()}


@pytest.mark.parametrize("text", ["[]", '{"pieces": 1}', '{"shards": 3}'])
def test_a_damaged_manifest_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / MANIFEST).write_text(text)
    with pytest.raises(TokenFileError, match=r"shards\.json is damaged"):
        Manifest.read(tmp_path)


def test_bad_input_is_named_before_anything_is_written(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    novel, lost = tmp_path / "novel.txt", tmp_path / "lost.jsonl"
    novel.write_text("It was a dark night.")
    for path in (novel, lost):
        with pytest.raises(MaterialError, match="no file of JSON lines"):
            write_shards(tokenizer, [path], tmp_path / "s")
    with pytest.raises(ValueError, match="choose 1 or more"):
        cut_files([], 0)
    bad = tmp_path / "bad.jsonl"
    bad.write_bytes(lines(["fine"]) + b'{"text": 3}\n')
    with pytest.raises(ValueError, match=r"bad.jsonl, the line at byte 17,"):
        list(Piece(bad, 5, 100, 95))
    bad.write_bytes(lines(["fine"]) + b'{"text": "\xff"}\n')
    with pytest.raises(ValueError, match=r"at byte 17, .* mend the line"):
        write_shards(tokenizer, [bad], tmp_path / "s", 10)
    assert open_tokens(tmp_path / "s" / "00000.tokens").tokens.size > 0
