"""Token files that refuse what does not fit; batches that resume exactly."""

import doctest
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scratchlm.text import tokens as module
from scratchlm.text.tokenizer import END, Tokenizer
from scratchlm.text.tokens import (
    HEADER,
    BatchCursor,
    TokenFileError,
    encode_documents,
    open_tokens,
    token_type,
    token_writer,
    write_tokens,
)

SEAL = "ab" * 32


def test_the_examples_hold() -> None:
    assert doctest.testmod(module).failed == 0


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_what_was_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    vocab_size = data.draw(st.sampled_from([1, 300, 65536, 65537, 1 << 20]))
    ids = data.draw(st.lists(st.integers(0, vocab_size - 1), max_size=50))
    path = tmp_path_factory.mktemp("tokens") / "train.tokens"
    write_tokens(path, np.array(ids, dtype=np.int64), vocab_size, SEAL)
    found = open_tokens(path, SEAL)
    assert found.tokens.tolist() == ids
    assert (found.vocab_size, found.fingerprint) == (vocab_size, SEAL)
    width = 2 if vocab_size <= 65536 else 4
    assert path.stat().st_size == 64 + width * len(ids)
    assert [p.name for p in path.parent.iterdir()] == ["train.tokens"]


def test_the_header_is_what_the_book_draws(tmp_path: Path) -> None:
    path = tmp_path / "a.tokens"
    write_tokens(path, [1, 258], 1024, SEAL)
    raw = path.read_bytes()
    assert HEADER.size == 64
    assert raw[:8] == b"SCRLMTOK"
    assert raw[8:16] == bytes([1, 0, 0, 0, 2, 0, 0, 0])
    assert int.from_bytes(raw[16:24], "little") == 1024
    assert int.from_bytes(raw[24:32], "little") == 2
    assert raw[32:64].hex() == SEAL
    assert raw[64:] == bytes([1, 0, 2, 1])


def test_tokens_are_mapped_and_cannot_be_changed(tmp_path: Path) -> None:
    write_tokens(tmp_path / "a", np.arange(9), 9, SEAL)
    tokens = open_tokens(tmp_path / "a").tokens
    assert isinstance(tokens, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        tokens[0] = 3


def test_another_tokenizer_is_refused(tmp_path: Path) -> None:
    write_tokens(tmp_path / "a", [1, 2], 9, SEAL)
    with pytest.raises(TokenFileError, match="ababababab"):
        open_tokens(tmp_path / "a", "cd" * 32)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: raw[:-1], "cut short"),
        (lambda raw: raw + b"x", "cut short"),
        (lambda raw: raw[:40], "no token file"),
        (lambda raw: b"", "no token file"),
        (lambda raw: b"PK" + raw[2:], "no token file"),
        (lambda raw: b"SCRLMTAX" + raw[8:], "no token file"),
        (lambda raw: raw[:8] + b"\x09" + raw[9:], "version 9"),
        (lambda raw: raw[:8] + b"\x00" + raw[9:], "version 0"),
        (lambda raw: raw[:12] + b"\x04" + raw[13:] + bytes(6), "4 bytes"),
        (lambda raw: raw[:12] + b"\x01" + raw[13:67], "1 bytes"),
        (lambda raw: raw[:18] + b"\x01" + raw[19:], "a vocabulary of 65,545"),
    ],
)
def test_damaged_files_are_refused(
    tmp_path: Path, change: object, message: str
) -> None:
    path = tmp_path / "a"
    write_tokens(path, [1, 2, 3], 9, SEAL)
    path.write_bytes(change(path.read_bytes()))  # type: ignore[operator]
    with pytest.raises(TokenFileError, match=message):
        open_tokens(path)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([9], "vocabulary of 9"),
        ([-1], "vocabulary of 9"),
        ([[1]], "one row"),
        ([1.5, 2.0], "whole numbers, not float64"),
        (["1"], "whole numbers"),
        ([True, False], "whole numbers, not bool"),
        ([None], "whole numbers, not object"),
    ],
)
def test_impossible_tokens_are_refused_and_nothing_is_written(
    tmp_path: Path, ids: list[object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        write_tokens(tmp_path / "a", ids, 9, SEAL)
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_written_piece_by_piece(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with token_writer(path, 300, SEAL) as writer:
        for row in ([1, 2], [], np.arange(5), [299]):
            writer.append(row)
        assert not path.exists()
        assert writer.count == 8
    write_tokens(tmp_path / "b", [1, 2, 0, 1, 2, 3, 4, 299], 300, SEAL)
    assert path.read_bytes() == (tmp_path / "b").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, MemoryError])
def test_a_file_that_is_not_finished_is_not_there(
    tmp_path: Path, error: type[BaseException]
) -> None:
    write_tokens(tmp_path / "a", [1, 2], 300, SEAL)
    before = (tmp_path / "a").read_bytes()

    def write() -> None:
        with token_writer(tmp_path / "a", 9, SEAL) as writer:
            writer.append([3] * 100_000)
            raise error

    with pytest.raises(error):
        write()
    assert (tmp_path / "a").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("seal", ["", "ab", "ab" * 31, "ab" * 33, "zz" * 32])
def test_what_is_no_fingerprint_is_refused(tmp_path: Path, seal: str) -> None:
    with pytest.raises(ValueError, match="64 hexadecimal digits"):
        write_tokens(tmp_path / "a", [1], 9, seal)
    assert list(tmp_path.iterdir()) == []


def test_the_type_is_the_smallest_that_fits() -> None:
    assert token_type(2).itemsize == 2
    assert token_type(1 << 17).itemsize == 4


def test_documents_end_with_the_end_token() -> None:
    tokenizer = Tokenizer.train(["a baker", "a smith"], 270)
    ids = encode_documents(tokenizer, ["a baker", f"a{END}b"])
    assert (ids == tokenizer.end_id).sum() == 2
    assert ids[-1] == tokenizer.end_id
    text = tokenizer.decode(ids)
    assert text == f"a baker{END}a{END}b{END}"
    assert len(encode_documents(tokenizer, [])) == 0


def test_a_document_that_is_no_text_is_named() -> None:
    tokenizer = Tokenizer.train(["a baker", "a smith"], 270)
    with pytest.raises(ValueError, match=r"document 1: character 2, .*ud83d"):
        encode_documents(tokenizer, ["a baker", "a \ud83d", "a smith"])


@st.composite
def cursors(draw: st.DrawFn) -> BatchCursor:
    context = draw(st.integers(1, 9))
    length = draw(st.integers(2 * context, 90))
    batch = draw(st.integers(1, 7))
    return BatchCursor(
        np.arange(length), context, batch, draw(st.integers(0, 99))
    )


@settings(deadline=None, max_examples=100)
@given(cursors())
def test_targets_are_inputs_one_token_on(cursor: BatchCursor) -> None:
    for _ in range(4):
        x, y = cursor.next_batch()
        assert x.shape == y.shape == (cursor.batch_size, cursor.context)
        assert x.dtype == y.dtype == torch.int64
        assert torch.equal(y, x + 1)  # the tokens are 0, 1, 2, …


@settings(deadline=None, max_examples=100)
@given(cursors())
def test_an_epoch_shows_every_window_once(cursor: BatchCursor) -> None:
    for epoch in range(3):
        cursor.start_epoch(epoch)
        seen = [cursor.next_start() for _ in range(len(cursor.starts))]
        assert cursor.epoch == epoch
        gaps = np.diff(sorted(seen))
        assert (gaps == cursor.context).all()
        assert min(seen) < cursor.context
        last = max(seen) + cursor.context
        assert len(cursor.tokens) - cursor.context <= last
        assert last < len(cursor.tokens)


@settings(deadline=None, max_examples=100)
@given(cursors(), st.integers(0, 30))
def test_a_cursor_resumes_exactly(cursor: BatchCursor, steps: int) -> None:
    for _ in range(steps):
        cursor.next_batch()
    state = json.loads(json.dumps(cursor.state_dict()))
    again = BatchCursor(
        cursor.tokens, cursor.context, cursor.batch_size, cursor.seed
    )
    again.load_state_dict(state)
    for _ in range(5):
        for one, two in zip(
            cursor.next_batch(), again.next_batch(), strict=True
        ):
            assert torch.equal(one, two)


def test_epochs_and_seeds_differ() -> None:
    cursor = BatchCursor(np.arange(1000), 10, 4, seed=1)
    first = cursor.starts.tolist()
    cursor.start_epoch(1)
    second = cursor.starts.tolist()
    other = BatchCursor(np.arange(1000), 10, 4, seed=2).starts.tolist()
    assert first != second != other != first
    assert first != sorted(first)


def test_epochs_begin_at_other_offsets() -> None:
    """Over many epochs, windows begin at every place there is."""
    cursor = BatchCursor(np.arange(100), 5, 1, seed=1)
    offsets = set()
    for epoch in range(60):
        cursor.start_epoch(epoch)
        offsets.add(min(cursor.starts))
    assert offsets == {0, 1, 2, 3, 4}


@pytest.mark.parametrize("change", [{"seed": 2}, {"context": 5}, {"tokens": 7}])
def test_the_state_of_another_cursor_is_refused(
    change: dict[str, int],
) -> None:
    cursor = BatchCursor(np.arange(100), 10, 4, seed=1)
    with pytest.raises(ValueError, match=next(iter(change))):
        cursor.load_state_dict({**cursor.state_dict(), **change})


@pytest.mark.parametrize(
    ("length", "context", "batch", "message"),
    [(19, 10, 1, "too few"), (99, 0, 1, "1 or more"), (99, 9, 0, "1 or more")],
)
def test_impossible_cursors_are_refused(
    length: int, context: int, batch: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        BatchCursor(np.arange(length), context, batch, seed=0)
