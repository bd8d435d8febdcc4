"""Files of tokens, and batches from them that resume where they stopped.

A token file is a header of 64 bytes and then the tokens, two or four bytes
each, little-endian. It is mapped into memory, not read: a file of a hundred
gigabytes opens at once, and a batch touches only its own pages.

Left out: compression. Several files as one are in `shards`.
"""

import re
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
import torch
from torch import Tensor

from scratchlm.text.files import FileError, read_bytes, replacing
from scratchlm.text.tokenizer import Batch, Tokenizer, encode_batch

MAGIC = b"SCRLMTOK"
VERSION = 1
# magic, version, bytes per token, vocabulary, tokens, tokenizer's SHA-256
HEADER = struct.Struct("<8sIIQQ32s")


class TokenFileError(FileError):
    """The file cannot be used; the message says why and what to do."""


def token_type(vocab_size: int) -> np.dtype[Any]:
    """The smallest unsigned type that holds every token.

    >>> token_type(65536), token_type(65537)
    (dtype('uint16'), dtype('uint32'))
    """
    return np.dtype("<u2" if vocab_size <= 1 << 16 else "<u4")


@dataclass(frozen=True)
class TokenFile:
    """Tokens on disk, and the tokenizer that made them."""

    tokens: np.ndarray  # (N,), mapped, read-only
    vocab_size: int
    fingerprint: str


class TokenWriter:
    """Appends tokens to a file and counts them; the header comes last."""

    def __init__(
        self, file: BinaryIO, vocab_size: int, fingerprint: str
    ) -> None:
        """Leave room for the header at the beginning of an open file."""
        self.file = file
        self.vocab_size = vocab_size
        if not re.fullmatch("[0-9a-f]{64}", fingerprint):
            raise ValueError(
                "a fingerprint has 64 hexadecimal digits, and not "
                f"{fingerprint!r}"
            )
        self.seal = bytes.fromhex(fingerprint)
        self.kind = token_type(vocab_size)
        self.count = 0
        file.write(bytes(HEADER.size))

    def append(self, ids: Any) -> None:
        """Write more tokens (N,); ValueError for some that do not fit."""
        ids = np.asarray(ids)
        if ids.ndim != 1:
            raise ValueError(f"tokens are one row of numbers, not {ids.shape}")
        if ids.size and ids.dtype.kind not in "iu":
            raise ValueError(f"tokens are whole numbers, not {ids.dtype}")
        if ids.size and not 0 <= ids.min() <= ids.max() < self.vocab_size:
            raise ValueError(
                f"tokens from {ids.min()} to {ids.max()} do not fit into a "
                f"vocabulary of {self.vocab_size}"
            )
        self.file.write(ids.astype(self.kind).data)
        self.count += ids.size

    def finish(self) -> None:
        """Write the header, now that the number of tokens is known."""
        self.file.seek(0)
        self.file.write(HEADER.pack(
            MAGIC,
            VERSION,
            self.kind.itemsize,
            self.vocab_size,
            self.count,
            self.seal,
        ))


@contextmanager
def token_writer(
    path: Path, vocab_size: int, fingerprint: str
) -> Iterator[TokenWriter]:
    """Write a token file of any size: the whole file, or nothing.

    It gets its name when the block ends, and none if an error ends it.
    `fingerprint` is the tokenizer's SHA-256, 64 hexadecimal digits.
    """
    with replacing(path) as partial, open(partial, "wb") as file:
        writer = TokenWriter(file, vocab_size, fingerprint)
        yield writer
        writer.finish()


def write_tokens(
    path: Path, ids: Any, vocab_size: int, fingerprint: str
) -> None:
    """Write a row of tokens (N,) with their header, or nothing."""
    with token_writer(path, vocab_size, fingerprint) as writer:
        writer.append(ids)


def open_tokens(path: Path, fingerprint: str | None = None) -> TokenFile:
    """Map a token file; with `fingerprint`, only if that tokenizer made it.

    Raises TokenFileError for a file of another kind or version, for one
    that was cut short, and for one that another tokenizer made.
    """
    head = read_bytes(path, HEADER.size)
    if len(head) < HEADER.size or not head.startswith(MAGIC):
        raise TokenFileError(f"{path} is no token file")
    _, version, width, vocab_size, count, seal = HEADER.unpack(head)
    if version != VERSION:
        raise TokenFileError(
            f"{path} has version {version}, this program reads {VERSION}; "
            "encode the text again"
        )
    kind = token_type(vocab_size)
    if width != kind.itemsize:
        raise TokenFileError(
            f"{path} is damaged: it says {width} bytes for a token, and a "
            f"vocabulary of {vocab_size:,} takes {kind.itemsize}; encode the "
            "text again"
        )
    wanted, size = HEADER.size + width * count, path.stat().st_size
    if size != wanted:
        raise TokenFileError(
            f"{path} should have {wanted:,} bytes and has {size:,}; it was "
            "cut short or changed: encode the text again"
        )
    if fingerprint is not None and seal.hex() != fingerprint:
        raise TokenFileError(
            f"{path} was made by the tokenizer {seal.hex()[:12]}…, not by "
            f"{fingerprint[:12]}…; encode the text with this one"
        )
    tokens = np.zeros(0, kind)
    if count:  # an empty file cannot be mapped
        tokens = np.memmap(path, kind, "r", HEADER.size, (count,))
    return TokenFile(tokens, vocab_size, seal.hex())


def encode_documents(
    tokenizer: Tokenizer, documents: Iterable[str]
) -> np.ndarray:
    """All documents in one row (N,), the end token after each.

    Text that spells a special token stays text. Raises ValueError for what
    is no text, with the number of the document, counted from 0.
    """
    batch = Batch(0, list(documents))
    ids = encode_batch(tokenizer.to_json(), batch, separate=True)
    return ids.astype(token_type(tokenizer.vocab_size))


class Row(Protocol):
    """What a cursor asks of tokens: their number, and some in a row."""

    def __len__(self) -> int: ...

    def __getitem__(self, places: slice, /) -> np.ndarray: ...


class BatchCursor:
    """Batches of windows in a shuffled order, epoch after epoch.

    In each epoch the tokens are cut into windows of `context` + 1, beginning
    at a new offset, and every window is used once. Which windows come when
    depends on seed and epoch alone, so three numbers are the whole state.
    """

    def __init__(
        self, tokens: Row, context: int, batch_size: int, seed: int
    ) -> None:
        """Stand before the first batch of tokens (N,)."""
        if min(context, batch_size) < 1:
            raise ValueError("context and batch size must be 1 or more")
        if len(tokens) < 2 * context:
            raise ValueError(
                f"{len(tokens)} tokens are too few for windows of {context}; "
                f"have {2 * context} at least, or a shorter context"
            )
        self.tokens = tokens
        self.context = context
        self.batch_size = batch_size
        self.seed = seed
        self.start_epoch(0)

    def start_epoch(self, epoch: int, used: int = 0) -> None:
        """Shuffle the windows of an epoch; `used` of them are done."""
        random = np.random.default_rng([self.seed, epoch])
        offset = int(random.integers(self.context))
        count = (len(self.tokens) - 1 - offset) // self.context
        starts = offset + self.context * np.arange(count)
        self.starts = random.permutation(starts)
        self.epoch, self.used = epoch, used

    def next_start(self) -> int:
        """Where the next window begins."""
        if self.used == len(self.starts):
            self.start_epoch(self.epoch + 1)
        self.used += 1
        return int(self.starts[self.used - 1])

    def next_batch(self) -> tuple[Tensor, Tensor]:
        """Inputs and targets, int64 (B, T); targets are one token ahead."""
        length = self.context + 1
        rows = []
        for _ in range(self.batch_size):
            start = self.next_start()
            rows.append(self.tokens[start : start + length])
        batch = torch.from_numpy(np.stack(rows).astype(np.int64))
        return batch[:, :-1], batch[:, 1:]  # (B, T), (B, T)

    def state_dict(self) -> dict[str, int]:
        """Where the cursor stands, and on what, as JSON can hold it."""
        return {
            "epoch": self.epoch,
            "used": self.used,
            "seed": self.seed,
            "context": self.context,
            "tokens": len(self.tokens),
        }

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Stand where a cursor over the same tokens stood."""
        mine = self.state_dict()
        for name in ("seed", "context", "tokens"):
            if state[name] != mine[name]:
                raise FileError(
                    f"the saved cursor has {name} {state[name]}, this one "
                    f"{mine[name]}: they would not go the same way"
                )
        self.start_epoch(state["epoch"], state["used"])
