"""Solutions of the exercises on shards, and shards by an engine."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from scratchlm.text.corpus import parse_document
from scratchlm.text.files import read_json, replacing, write_json
from scratchlm.text.shards import (
    Manifest,
    Piece,
    Shard,
    TokenRow,
    begin,
    cut_files,
    encode_piece,
    shard_name,
    write_shards,
)
from scratchlm.text.tokenizer import Tokenizer


def encode_by_ray(
    tokenizer: Tokenizer, files: Sequence[Path], folder: Path, size: int
) -> Manifest:
    """Encode all pieces by the workers of Ray, which has to be running."""
    import ray  # it is not among this book's requirements

    step = ray.remote(encode_piece)
    pieces = cut_files(files, size)
    manifest = begin(tokenizer, folder, size, len(pieces))
    tasks = [
        step.remote(tokenizer, piece, folder / shard_name(number))
        for number, piece in enumerate(pieces)
    ]
    manifest.shards = {shard.name: shard for shard in ray.get(tasks)}
    manifest.write(folder)
    return manifest


class CarelessPiece(Piece):
    """A piece that looks for a line from its first byte on: the bug."""

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """The lines of the piece, but not the one that begins it."""
        with open(self.path, "rb") as file:
            file.seek(self.start)
            if self.start:
                file.readline()
            at = file.tell()
            while at < self.stop and (line := file.readline()):
                yield at, line
                at += len(line)


def encode_share(
    tokenizer: Tokenizer,
    files: Sequence[Path],
    folder: Path,
    size: int,
    rank: int,
    machines: int,
) -> None:
    """Encode every n-th piece, and write the rows into a file of our own."""
    pieces = cut_files(files, size)
    begin(tokenizer, folder, size, len(pieces))  # it may refuse the folder
    rows = [
        asdict(encode_piece(tokenizer, piece, folder / shard_name(number)))
        for number, piece in enumerate(pieces)
        if number % machines == rank
    ]
    write_json(folder / f"rows-{rank}.json", rows)


def gather(
    tokenizer: Tokenizer,
    files: Sequence[Path],
    folder: Path,
    size: int,
    machines: int,
) -> Manifest:
    """One manifest out of the rows of all machines."""
    manifest = begin(tokenizer, folder, size, len(cut_files(files, size)))
    for rank in range(machines):
        for row in read_json(folder / f"rows-{rank}.json"):
            manifest.shards[row["name"]] = Shard(**row)
    manifest.write(folder)
    return manifest


def share_lost(shard: float, death: float, start: float) -> float:
    """Minutes lost for each minute of work; all three are in minutes."""
    return start / shard + shard / (2 * death)


def best_shard(death: float, start: float) -> float:
    """The minutes for a shard with which least is lost.

    >>> best_shard(death=600, start=0.1)
    10.954451150103322
    """
    return math.sqrt(2 * start * death)


def mixture(rows: Sequence[TokenRow], shares: Sequence[int]) -> TokenRow:
    """A row in which the rows stand in these shares, all whole at least once.

    The one that is largest for its share is taken once, the others as often
    as their shares ask.
    """
    unit = max(len(row) / share for row, share in zip(rows, shares))
    parts = []
    for row, share in zip(rows, shares):
        times, rest = divmod(round(unit * share), len(row))
        parts += list(row.parts) * times
        for part in row.parts:  # row[:rest] would be a copy
            parts.append(part[:rest])
            rest = max(0, rest - len(part))
    return TokenRow(parts)


def forget(
    name: str,
    tokenizer: Tokenizer,
    files: Sequence[Path],
    folder: Path,
    size: int,
    keep_length: bool = False,
) -> list[str]:
    """Take out all documents with a name; which shards are new?

    With `keep_length` a blank line of the same length stays in their place.
    """
    before = Manifest.read(folder).shards
    for path in files:
        with replacing(path) as partial, open(partial, "wb") as new:
            for line in path.read_bytes().splitlines(keepends=True):
                blank = not line.strip()
                text = line.decode("utf-8-sig")  # a mark may begin the file
                if blank or name not in parse_document(text):
                    new.write(line)
                elif keep_length:
                    new.write(b" " * (len(line) - 1) + b"\n")
    after = write_shards(tokenizer, files, folder, size, workers=1).shards
    return [key for key in after if after[key] != before.get(key)]
