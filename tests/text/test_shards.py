"""Shards: the same tokens, whatever happens on the way."""

import json
import os
import resource
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from scratchlm.text import shards
from scratchlm.text.files import FileError
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


def test_old_and_new_are_never_read_as_one_corpus(
    tokenizer: Tokenizer, corpus: list[Path], tmp_path: Path
) -> None:
    """A change shifts all pieces, and the run stops before the first one."""
    folder = tmp_path / "s"
    write_shards(tokenizer, corpus, folder, 60)
    corpus[0].write_bytes(lines(["Somebody is gone."]) + corpus[0].read_bytes())
    with pytest.MonkeyPatch.context() as patch:
        counting(patch, 0)
        with pytest.raises(KeyboardInterrupt):
            write_shards(tokenizer, corpus, folder, 60)
    with pytest.raises(TokenFileError, match="shards; encode again"):
        open_shards(folder)
    whole = tmp_path / "whole"
    write_shards(tokenizer, corpus, folder, 60)
    write_shards(tokenizer, corpus, whole, 60)
    for path in whole.iterdir():
        assert (folder / path.name).read_bytes() == path.read_bytes()


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


def test_a_source_that_became_shorter_has_an_end(corpus: list[Path]) -> None:
    """Its pieces were cut when there was more of it."""
    pieces = cut_files(corpus[:1], 999)
    whole = list(pieces[0])
    corpus[0].write_bytes(corpus[0].read_bytes().partition(b"\n")[0])
    assert len(list(islice(pieces[0].lines(), 9))) == 1
    assert list(pieces[0]) == whole[:1]


def test_what_changes_while_it_is_encoded_is_encoded_again(
    tokenizer: Tokenizer, corpus: list[Path], tmp_path: Path
) -> None:
    text, encode = corpus[0].read_bytes(), encode_to_file

    def changing(*given: object) -> object:
        done = encode(*given)  # type: ignore
        corpus[0].write_bytes(text.replace(b"One story", b"ONE STORY"))
        return done

    folder = tmp_path / "s"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "encode_to_file", changing)
        write_shards(tokenizer, corpus[:1], folder, 999)
    with pytest.MonkeyPatch.context() as patch:
        names = counting(patch)
        write_shards(tokenizer, corpus[:1], folder, 999)
    assert names == ["00000.tokens"]
    assert "ONE STORY" in tokenizer.decode(open_shards(folder)[:].tolist())


def test_more_shards_than_files_that_may_be_open(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(lines(["bread"] * 90))
    row = write_shards(tokenizer, [path], tmp_path / "s", 20, workers=1)
    assert len(row.shards) > 80
    open_now = {int(name) for name in os.listdir("/dev/fd")}
    few = [n for n in range(4096) if n not in open_now][40]  # 40 more, then
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (few, hard))
    try:
        tokens = open_shards(tmp_path / "s")
        count = join_shards(tmp_path / "s", tmp_path / "joined.tokens")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(tokens) == count


def test_the_limit_stays_where_there_is_none_or_no_more() -> None:
    limit = resource.RLIMIT_NOFILE
    soft, hard = resource.getrlimit(limit)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "name", "nt")  # which has none
        shards.allow_files(1)
    assert resource.getrlimit(limit) == (soft, hard)
    try:
        shards.allow_files(1 << 40)
        assert resource.getrlimit(limit)[1] == hard
    finally:
        resource.setrlimit(limit, (soft, hard))


def test_the_row_has_the_order_of_the_corpus(
    tokenizer: Tokenizer,
    corpus: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also where names of shards have different lengths."""
    monkeypatch.setattr(shards, "shard_name", "{}.tokens".format)
    done = write_shards(tokenizer, corpus, tmp_path / "s", 40)
    assert len(done.shards) > 10
    wanted = encode_documents(tokenizer, SOME + SOME[::-1] * 2)
    assert open_shards(tmp_path / "s")[:].tolist() == wanted.tolist()


@pytest.mark.parametrize("verify", [True, False])
def test_a_missing_shard_is_named(
    tokenizer: Tokenizer, corpus: list[Path], tmp_path: Path, verify: bool
) -> None:
    write_shards(tokenizer, corpus, tmp_path / "s", 60)
    (tmp_path / "s" / "00002.tokens").unlink()
    told = r"00002\.tokens is not there; encode again"
    with pytest.raises(TokenFileError, match=told):
        open_shards(tmp_path / "s", verify=verify)


def test_a_corpus_without_text_has_no_row(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    empty = tmp_path / "empty.jsonl"
    empty.touch()
    write_shards(tokenizer, [empty], tmp_path / "s")
    with pytest.raises(TokenFileError, match="has no shards, since its texts"):
        open_shards(tmp_path / "s")


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


@pytest.mark.parametrize(
    "text", ["[]", '{"pieces": 1}', '{"shards": 3}', "{", "[" * 100_000]
)
def test_a_damaged_manifest_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / MANIFEST).write_text(text)
    told = r"shards\.json is damaged; delete it, and encode again"
    with pytest.raises(TokenFileError, match=told):
        Manifest.read(tmp_path)


def test_a_manifest_that_is_not_there_is_not_damaged(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"shards\.json is not there"):
        Manifest.read(tmp_path)
    (tmp_path / MANIFEST).mkdir()
    with pytest.raises(FileError, match="cannot be read: Is a directory"):
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
