"""What token files and the batch cursor must do."""

import json
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import torch

from scratchlm.text import tokens
from scratchlm.text.tokenizer import END, Tokenizer

from ..expect import equal, raises, true

SEAL = "ab" * 32


def empty_place() -> Path:
    """Where a file can be written, in a folder of its own."""
    return Path(tempfile.mkdtemp()) / "train.tokens"


def written(ids: list[int], vocab_size: int = 1024) -> Path:
    """A token file in a folder of its own."""
    path = empty_place()
    tokens.write_tokens(path, ids, vocab_size, SEAL)
    return path


def check_what_was_written_is_read() -> None:
    """Tokens, vocabulary and fingerprint come back; two bytes a token."""
    path = written([1, 258, 1023])
    found = tokens.open_tokens(path, SEAL)
    equal(found.tokens.tolist(), [1, 258, 1023], "the tokens")
    equal(found.vocab_size, 1024, "the vocabulary")
    equal(path.stat().st_size, 64 + 2 * 3, "the size of the file in bytes")


def check_large_vocabularies_get_four_bytes() -> None:
    """Token 65536 does not fit into two bytes."""
    path = written([0, 65536], vocab_size=65537)
    equal(
        tokens.open_tokens(path).tokens.tolist(),
        [0, 65536],
        "tokens of a large vocabulary",
        hint="65,537 tokens are numbered to 65,536: one more than 16 bits",
    )


def check_files_that_do_not_fit_are_refused() -> None:
    """Another tokenizer's, one cut short, and one of another kind."""
    path = written([1, 2, 3])
    raises(
        tokens.TokenFileError,
        lambda: tokens.open_tokens(path, "cd" * 32),
        "opening the tokens of another tokenizer",
    )
    path.write_bytes(path.read_bytes()[:-1])
    raises(
        tokens.TokenFileError,
        lambda: tokens.open_tokens(path),
        "opening a file that lost its last byte",
        hint="compare the size with what the header promises",
    )
    path.write_bytes(b"PK" + bytes(70))
    raises(
        tokens.TokenFileError,
        lambda: tokens.open_tokens(path),
        "opening a file of another kind",
    )


def check_targets_are_one_token_ahead() -> None:
    """On the tokens 0, 1, 2, … each target is its input plus one."""
    cursor = tokens.BatchCursor(np.arange(100), 8, 4, seed=0)
    for _ in range(5):
        x, y = cursor.next_batch()
        equal(tuple(x.shape), (4, 8), "the shape of the inputs")
        equal(y, x + 1, "the targets", hint="a window has T + 1 tokens")


def check_an_epoch_shows_each_window_once() -> None:
    """No window twice, none left out, and another order each time."""
    cursor = tokens.BatchCursor(np.arange(1000), 10, 1, seed=3)
    orders = []
    for epoch in range(2):
        cursor.start_epoch(epoch)
        # From any offset below 10 there is room for 99 windows and a target.
        starts = [cursor.next_start() for _ in range(99)]
        gaps = sorted(
            {b - a for a, b in zip(sorted(starts), sorted(starts)[1:])}
        )
        equal(gaps, [10], "the distances between an epoch's 99 windows")
        true(min(starts) < 10, "the first window begins within the first 10")
        orders.append(starts)
    true(orders[0] != orders[1], "two epochs go in different orders")
    true(orders[0] != sorted(orders[0]), "windows are shuffled")
    other = tokens.BatchCursor(np.arange(1000), 10, 1, seed=4)
    starts = [other.next_start() for _ in range(99)]
    true(starts != orders[0], "another seed goes in another order")


def check_epochs_begin_at_other_offsets() -> None:
    """Over many epochs windows begin at every place."""
    cursor = tokens.BatchCursor(np.arange(100), 5, 1, seed=1)
    offsets = set()
    for epoch in range(60):
        cursor.start_epoch(epoch)
        # 19 windows of 5 tokens and a target, from any offset below 5.
        offsets.add(min(cursor.next_start() for _ in range(19)))
    equal(
        sorted(offsets),
        [0, 1, 2, 3, 4],
        "where the first windows of 60 epochs begin",
        hint="draw an offset below the context in each epoch",
    )


def check_a_file_is_written_piece_by_piece() -> None:
    """The same bytes as at once, and no file before the end."""
    path = written([1, 2, 3, 4, 5])
    beside = path.with_name("beside.tokens")
    with tokens.token_writer(beside, 1024, SEAL) as writer:
        for row in ([1, 2], [], [3, 4, 5]):
            writer.append(row)
        true(not beside.exists(), "there is no file before the end")
    equal(beside.read_bytes(), path.read_bytes(), "the bytes of the file")


def check_a_cursor_goes_on_where_another_stopped() -> None:
    """Through JSON, over the end of an epoch, to the same batches."""
    one = tokens.BatchCursor(np.arange(200), 8, 5, seed=1)
    for _ in range(7):
        one.next_batch()
    state = json.loads(json.dumps(one.state_dict()))
    two = tokens.BatchCursor(np.arange(200), 8, 5, seed=1)
    two.load_state_dict(state)
    for number in range(6):
        got, wanted = two.next_batch()[0], one.next_batch()[0]
        equal(got, wanted, f"batch {number} after resuming")
    other = tokens.BatchCursor(np.arange(200), 8, 5, seed=2)
    raises(
        ValueError,
        lambda: other.load_state_dict(state),
        "resuming with another seed",
        hint="the same state means other windows there",
    )
    true(isinstance(got, torch.Tensor), "batches are tensors")


def check_documents_in_one_row() -> None:
    """The end token stands behind each document, and never in it."""
    tokenizer = Tokenizer([(97, 98)], {END: 257})
    ids = tokens.encode_documents(tokenizer, ["aab", "", f"a{END}"])
    wanted = [97, 256, 257, 257, 97, *END.encode(), 257]
    equal(ids.tolist(), wanted, "tokens of aab, of nothing, and of a and END")
    equal(ids.dtype, np.dtype("uint16"), "the type of the tokens")
    raises(
        ValueError,
        lambda: tokens.encode_documents(tokenizer, ["a", "\ud800"]),
        "encoding what is no text",
    )


def check_a_cursor_begins_at_the_beginning() -> None:
    """A new cursor stands in epoch 0, and all batches are int64."""
    new = tokens.BatchCursor(np.arange(40, dtype=np.uint16), 4, 2, seed=5)
    same = tokens.BatchCursor(np.arange(40, dtype=np.uint16), 4, 2, seed=5)
    same.start_epoch(0)
    got, wanted = new.next_batch(), same.next_batch()
    equal(got[0], wanted[0], "the first batch, and that of epoch 0")
    equal([part.dtype for part in got], [torch.int64] * 2, "types")
    for cursor, skipped in ((new, 7), (same, 0)):
        for _ in range(skipped):
            cursor.next_start()
    same.start_epoch(1)
    equal(new.next_start(), same.next_start(), "the start behind 9 windows")


def check_short_texts_are_refused() -> None:
    """Two windows must fit, so that there is one from every offset."""
    for count, context, batch_size in ((9, 5, 1), (20, 0, 1), (20, 5, 0)):
        raises(
            ValueError,
            partial(
                tokens.BatchCursor, np.arange(count), context, batch_size, 0
            ),
            f"{count} tokens, a context of {context}, {batch_size} rows",
        )
    cursor = tokens.BatchCursor(np.arange(10), 5, 1, seed=0)
    equal(tuple(cursor.next_batch()[0].shape), (1, 5), "10 tokens for 5")


def check_what_is_no_token_is_refused() -> None:
    """No table, no fraction, none below 0 or beyond the vocabulary."""
    for ids in ([[1, 2]], [1.5], [-1], [4]):
        raises(
            ValueError,
            lambda ids=ids: written(ids, vocab_size=4),  # type: ignore
            f"writing {ids} for a vocabulary of 4",
        )
    raises(
        ValueError,
        lambda: tokens.write_tokens(empty_place(), [1], 4, "ab"),
        "a fingerprint that is no SHA-256",
    )
    for ids in ([2], [3, 3], [0, 0, 0]):
        found = tokens.open_tokens(written(ids, vocab_size=4))
        equal(found.tokens.tolist(), ids, f"{ids}, written and read")
    empty = tokens.open_tokens(written([], vocab_size=4))
    equal(len(empty.tokens), 0, "tokens in an empty file")
    equal(empty.tokens.dtype, np.dtype("<u2"), "their type")
    equal(empty.fingerprint, SEAL, "the fingerprint in the file")


def check_damaged_headers_are_refused() -> None:
    """Another version, or a width that the vocabulary does not have."""
    whole = written([1, 2, 3]).read_bytes()
    for name, place, value in (("version", 8, 2), ("width", 12, 4)):
        path = written([1, 2, 3])
        path.write_bytes(whole[:place] + bytes([value]) + whole[place + 1 :])
        raises(
            tokens.TokenFileError,
            lambda path=path: tokens.open_tokens(path),  # type: ignore
            f"opening a file with another {name}",
        )
    for count in (5, 63):
        path.write_bytes(whole[:count])
        raises(
            tokens.TokenFileError,
            lambda: tokens.open_tokens(path),
            f"opening the first {count} bytes of a file",
        )


BUGS = {
    "every epoch begins at the first token": (
        "offset = int(random.integers(self.context))",
        "offset = 0",
    ),
    "only the last piece is counted": (
        "self.count += ids.size",
        "self.count = ids.size",
    ),
    "targets are the inputs": (
        "return batch[:, :-1], batch[:, 1:]",
        "return batch[:, :-1], batch[:, :-1]",
    ),
    "every epoch has the same order": (
        "np.random.default_rng([self.seed, epoch])",
        "np.random.default_rng([self.seed, 0])",
    ),
    "every seed has the same order": (
        "np.random.default_rng([self.seed, epoch])",
        "np.random.default_rng([0, epoch])",
    ),
    "resuming begins the epoch again": (
        'self.start_epoch(state["epoch"], state["used"])',
        'self.start_epoch(state["epoch"])',
    ),
    "two bytes for every vocabulary": (
        '"<u2" if vocab_size <= 1 << 16 else "<u4"',
        '"<u2"',
    ),
    "a file that was cut short is opened": (
        "    if size != wanted:\n",
        "    if size < 64:\n",
    ),
    "windows are drawn at random": (
        "self.starts = random.permutation(starts)",
        "self.starts = random.choice(starts, len(starts))",
    ),
    "documents have no end": (
        "batch, separate=True)",
        "batch, separate=False)",
    ),
    "documents are encoded in other bytes": (
        "return ids.astype(token_type(tokenizer.vocab_size))",
        "return ids",
    ),
    "the first epoch is counted as 1": (
        "self.start_epoch(0)",
        "self.start_epoch(1)",
    ),
    "one window is enough": (
        "if len(tokens) < 2 * context:",
        "if len(tokens) < context + 1:",
    ),
    "a table is written as a row": (
        "        if ids.ndim != 1:\n",
        "        if False:\n",
    ),
    "tokens beyond the vocabulary are written": (
        "ids.max() < self.vocab_size",
        "ids.max() < 1 << 16",
    ),
    "files of another version are read": (
        "    if version != VERSION:\n",
        "    if version < VERSION:\n",
    ),
    "an empty file has other tokens": (
        "tokens = np.zeros(0, kind)",
        "tokens = np.zeros(0)",
    ),
}
