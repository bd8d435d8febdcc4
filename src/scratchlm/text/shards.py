"""A corpus in many files of tokens: encoded piece by piece, read as one.

A piece is a range of bytes of a file of JSON lines, and becomes a shard, a
token file of its own. No piece needs another, so a run that was killed goes
on with the first shard that is missing, and several machines can share the
work. A manifest says what the shards were made from, and seals each.

Left out: mixtures of sources, and shards that lie on another machine.
"""

import hashlib
import json
import os
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Self

import numpy as np

from scratchlm.text.corpus import has_json_lines, parse_document
from scratchlm.text.files import file_sha256, read_bytes, write_json
from scratchlm.text.prepare import (
    MaterialError,
    Share,
    encode_to_file,
    processors,
)
from scratchlm.text.tokenizer import Tokenizer
from scratchlm.text.tokens import TokenFileError, open_tokens, token_writer

MANIFEST = "shards.json"
SIZE = 1 << 28  # bytes of text for a shard: a few minutes of work


# --- pieces of a corpus ------------------------------------------------------


@dataclass(frozen=True)
class Piece(Share):
    """The documents whose lines begin within a range of a file's bytes.

    Here `start` and `stop` count bytes. Whoever reads a piece goes to its
    first byte at once, however large the file is.
    """

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """The lines of the piece, each with the byte at which it begins."""
        with open(self.path, "rb") as file:
            if self.start:
                file.seek(self.start - 1)
                file.readline()  # the rest of a line that began before
            at = file.tell()
            while at < self.stop and (line := file.readline()):
                yield at, line
                at += len(line)

    def __iter__(self) -> Iterator[str]:
        """Its documents; ValueError, with the place, for what is none."""
        for at, line in self.lines():
            code = "utf-8" if at else "utf-8-sig"
            try:
                if line.strip(b" \t\r\n"):
                    yield parse_document(line.decode(code))
            except ValueError as error:
                raise ValueError(
                    f'{self.path}, the line at byte {at:,}, is no {{"text": '
                    f'"..."}}: {error}; mend the line, or remove it'
                ) from error

    def digest(self) -> str:
        """The SHA-256 of its lines: has the piece changed?"""
        found = hashlib.sha256()
        for _, line in self.lines():
            found.update(line)
        return found.hexdigest()


def cut_files(paths: Sequence[Path], size: int = SIZE) -> list[Piece]:
    """The files in pieces of `size` bytes, the last of each file shorter.

    Raises MaterialError for a file not of JSON lines, since only those
    show where a document ends, and for one that is not there.
    """
    if size < 1:
        raise ValueError(f"pieces of {size} bytes: choose 1 or more")
    pieces = []
    for path in paths:
        if not has_json_lines(path) or not path.is_file():
            raise MaterialError(
                f"{path} is no file of JSON lines; make one of it first: "
                f"corpus prepare {path} --out FOLDER"
            )
        end = path.stat().st_size
        for start in range(0, end, size):
            stop = min(start + size, end)
            pieces.append(Piece(path, start, stop, stop - start))
    return pieces


# --- writing -----------------------------------------------------------------


@dataclass(frozen=True)
class Shard:
    """A shard that is done: what it was made from, and what it holds."""

    name: str
    source: str  # SHA-256 of the piece's lines
    bytes: int  # of text
    tokens: int
    sha256: str


def encode_piece(
    tokenizer: Tokenizer, piece: Piece, path: Path, workers: int = 1
) -> Shard:
    """Write the tokens of a piece, an end token after each document.

    The file depends on tokenizer and piece alone, wherever it is written.
    """
    source = piece.digest()  # first, so that a change meanwhile is seen
    done = encode_to_file(tokenizer, piece, True, path, workers)
    return Shard(
        path.name,
        source,
        done.bytes,
        done.tokens,
        file_sha256(path),
    )


@dataclass
class Manifest:
    """What is in a folder of shards, and what is still to come."""

    fingerprint: str  # of the tokenizer
    vocab_size: int
    piece_bytes: int
    pieces: int
    shards: dict[str, Shard]  # those that are done, by their name

    def write(self, folder: Path) -> None:
        """Write the manifest into a folder: all of it, or nothing."""
        found = asdict(self)
        rows = found["shards"]
        found["shards"] = {name: rows[name] for name in sorted(rows)}
        write_json(folder / MANIFEST, found)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The manifest of a folder; TokenFileError for one that is damaged."""
        path = folder / MANIFEST
        text = read_bytes(path)
        try:
            found = json.loads(text)
            rows = found.pop("shards").items()
            return cls(**found, shards={k: Shard(**row) for k, row in rows})
        except (
            AttributeError, KeyError, RecursionError, TypeError, ValueError
        ) as error:  # fmt: skip
            raise TokenFileError(
                f"{path} is damaged; delete it, and encode again"
            ) from error


def begin(
    tokenizer: Tokenizer, folder: Path, piece_bytes: int, pieces: int
) -> Manifest:
    """The manifest to go on with: a new one, or the folder's own.

    Raises MaterialError where the folder was begun with other settings.
    """
    wanted = Manifest(
        tokenizer.fingerprint, tokenizer.vocab_size, piece_bytes, pieces, {}
    )
    if not (folder / MANIFEST).exists():
        return wanted
    found = Manifest.read(folder)
    for name in ("fingerprint", "piece_bytes"):
        if getattr(found, name) != getattr(wanted, name):
            raise MaterialError(
                f"{folder} was begun with another {name}; go on with "
                f"{getattr(found, name)}, or name a new folder"
            )
    names = set(map(shard_name, range(pieces)))
    shards = found.shards.items()
    return replace(wanted, shards={k: v for k, v in shards if k in names})


def shard_name(number: int) -> str:
    """The name of a shard's file; those of one length sort as numbers do."""
    return f"{number:05d}.tokens"


def is_done(shard: Shard | None, piece: Piece, path: Path) -> bool:
    """Whether a shard is there, and piece and file are as they were."""
    return (
        shard is not None
        and path.is_file()
        and shard.source == piece.digest()
        and shard.sha256 == file_sha256(path)
    )


def plan_shards(
    tokenizer: Tokenizer,
    paths: Sequence[Path],
    folder: Path,
    piece_bytes: int = SIZE,
) -> tuple[Manifest, dict[Path, Piece]]:
    """The shards that are done, and those to be made, with their pieces.

    What has changed is struck from the manifest at once, so that nobody
    reads old and new as one corpus.
    """
    pieces = cut_files(paths, piece_bytes)
    manifest = begin(tokenizer, folder, piece_bytes, len(pieces))
    missing = {}
    for number, piece in enumerate(pieces):
        path = folder / shard_name(number)
        if not is_done(manifest.shards.get(path.name), piece, path):
            manifest.shards.pop(path.name, None)
            missing[path] = piece
    manifest.write(folder)
    return manifest, missing


def write_shards(
    tokenizer: Tokenizer,
    paths: Sequence[Path],
    folder: Path,
    piece_bytes: int = SIZE,
    workers: int | None = None,
) -> Manifest:
    """Encode files of JSON lines into shards: those that are not done yet.

    The manifest is written after each shard, so a run that is killed loses
    one at most. Shards whose pieces no longer exist are deleted. `workers`
    is as in `write_material`, and leaves no trace.
    """
    manifest, missing = plan_shards(tokenizer, paths, folder, piece_bytes)
    for path, piece in missing.items():
        manifest.shards[path.name] = encode_piece(
            tokenizer, piece, path, workers or processors()
        )
        manifest.write(folder)
    for path in folder.glob("[0-9][0-9][0-9][0-9][0-9]*.tokens"):
        if path.stem.isdigit() and int(path.stem) >= manifest.pieces:
            path.unlink()
    return manifest


# --- reading -----------------------------------------------------------------


class TokenRow:
    """Rows of tokens, one after the other, that look like a single one.

    It has a length, and a slice of it is an array: that is all that a
    cursor asks for. Nothing is copied but what a slice wants.
    """

    def __init__(self, parts: Sequence[np.ndarray]) -> None:
        """The parts (N₁,), (N₂,), …, usually mapped into memory."""
        if not parts:
            raise ValueError("a row of tokens takes one part or more")
        self.parts = parts
        self.ends = list(accumulate(map(len, parts)))

    def __len__(self) -> int:
        """How many tokens there are in all parts."""
        return self.ends[-1]

    def __getitem__(self, places: slice) -> np.ndarray:
        """Tokens (n,) from all the parts in which they lie."""
        start, stop, step = places.indices(len(self))
        if step != 1:
            raise ValueError(f"a slice has no steps of {step} here")
        found = [self.parts[0][:0]]
        part = bisect_right(self.ends, start)
        while start < stop:
            end = self.ends[part]
            begin = end - len(self.parts[part])
            found.append(self.parts[part][start - begin : stop - begin])
            start, part = end, part + 1
        return np.concatenate(found)


def open_shards(
    folder: Path, fingerprint: str | None = None, verify: bool = True
) -> TokenRow:
    """All shards of a folder as one row of tokens.

    Raises TokenFileError if encoding was never finished, if a shard is
    missing or has changed, and for a tokenizer other than `fingerprint`.
    """
    manifest = Manifest.read(folder)
    if len(manifest.shards) != manifest.pieces:
        raise TokenFileError(
            f"{folder} has {len(manifest.shards)} of {manifest.pieces} "
            "shards; encode again, and it goes on where it stopped"
        )
    if not manifest.shards:
        raise TokenFileError(
            f"{folder} has no shards, since its texts are empty; encode some"
        )
    names = sorted(manifest.shards, key=lambda name: (len(name), name))
    for path in (folder / name for name in names):
        if not path.is_file():
            raise TokenFileError(
                f"{path} is not there; encode again, and this shard is made "
                "anew"
            )
    if verify:
        verify_shards(folder, manifest.shards)
    allow_files(len(names))
    mark = fingerprint or manifest.fingerprint
    return TokenRow([open_tokens(folder / name, mark).tokens for name in names])


def allow_files(count: int) -> None:
    """Let `count` more files be open than now, if the system permits it.

    A mapped file stays open, and a Mac grants 256 unless it is asked.
    """
    if os.name != "posix":  # Windows has no such limit
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY:
        more = soft + count
        wanted = more if hard == resource.RLIM_INFINITY else min(more, hard)
        with suppress(OSError, ValueError):  # then we may still be lucky
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def verify_shards(folder: Path, shards: Mapping[str, Shard]) -> None:
    """Refuse shards that are not as they were written, by their SHA-256.

    Several are read at once, since hashing lets other threads work.
    """
    paths = [folder / name for name in shards]
    with ThreadPoolExecutor(processors()) as pool:
        for path, found in zip(paths, pool.map(file_sha256, paths)):
            if found != shards[path.name].sha256:
                raise TokenFileError(
                    f"{path} is not as it was written; encode again, and "
                    "this shard is made anew"
                )


def join_shards(folder: Path, path: Path) -> int:
    """One token file out of all shards; returns how many tokens it has."""
    manifest, row = Manifest.read(folder), open_shards(folder)
    size, mark = manifest.vocab_size, manifest.fingerprint
    with token_writer(path, size, mark) as writer:
        for part in row.parts:
            writer.append(part)
    return writer.count
