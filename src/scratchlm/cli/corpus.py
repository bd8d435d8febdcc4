"""The commands about text: get, write, clean and encode it."""

import math
import os
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from scratchlm.cli.errors import UserError, users_input
from scratchlm.text import corpus
from scratchlm.text import toytown as town
from scratchlm.text.characters import CharTokenizer
from scratchlm.text.prepare import (
    load_tokenizer,
    read_texts,
    train_tokenizer,
)
from scratchlm.text.shards import MANIFEST, SIZE, Manifest, write_shards
from scratchlm.text.tokenizer import Tokenizer

DATA = Path("data")  # where downloads are kept
PARTS = ("train", "validation")  # of a corpus, each with shards of its own
LN2 = math.log(2)  # nats in a bit


def mirror() -> Path | None:
    """The folder named by SCRATCHLM_MIRROR, for places without internet."""
    name = os.environ.get("SCRATCHLM_MIRROR")
    return Path(name) if name else None


def get(
    what: Annotated[
        str, Parameter(help="shakespeare, an address, or a file")
    ],
    /,
    *,
    out: Annotated[Path, Parameter(help="folder for it (data)")] = DATA,
    sha256: Annotated[
        str | None, Parameter(help="the checksum that it must have")
    ] = None,
) -> None:
    """Fetch a text.

    Its checksum is verified and the file is kept. Without internet, name a
    folder that has it in SCRATCHLM_MIRROR.

    Example:
      python -m scratchlm corpus get shakespeare

    Next: python -m scratchlm train --corpus shakespeare
    Book: Gathering text without regret: a clean corpus
    """
    with users_input():
        path = corpus.get(what, out, mirror=mirror(), sha256=sha256)
    print(f"{path}: {path.stat().st_size:,} bytes")


def toytown(
    *,
    characters: Annotated[
        int, Parameter(help="how much (1000000)")
    ] = 1_000_000,
    seed: Annotated[int, Parameter(help="which stories (2026)")] = 2026,
    out: Annotated[
        Path, Parameter(help="the file to write (data/toytown.jsonl)")
    ] = DATA / "toytown.jsonl",
) -> None:
    """Write stories from Toytown, whose entropy is known.

    Each line is a JSON object: a text, and its log-probability in nats.

    Example:
      python -m scratchlm corpus toytown --characters 1000000

    Next: python -m scratchlm train --corpus toytown
    Book: A town whose entropy we know
    """
    if characters < 1:
        raise UserError(f"--characters {characters}: ask for 1 or more")
    if seed < 0:
        raise UserError(f"--seed {seed}: choose 0 or more")
    stories = town.write_corpus(characters, seed)
    lines = [{"text": s.text, "log_prob": s.log_prob} for s in stories]
    corpus.write_documents(out, lines)
    nats = town.entropy_per_character(stories)
    print(f"{out}: {len(stories):,} stories")
    print(f"entropy: {nats:.4f} nats a character, {nats / LN2:.4f} bits")


def prepare(
    file: Annotated[
        Path, Parameter(help="UTF-8 text, JSON lines, or a folder of them")
    ],
    /,
    *,
    out: Annotated[Path, Parameter(help="new folder for the three parts")],
    license: Annotated[
        str | None, Parameter(help="the text's license, for the manifest")
    ] = None,
    keep_pii: Annotated[
        bool, Parameter(negative="", help="leave personal data as it is")
    ] = False,
) -> None:
    """Clean a text and split it.

    Documents (lines of JSON with a "text", what stands between empty lines,
    or the files of a folder) are normalized. E-mail addresses, telephone
    numbers and the like are replaced, and duplicates removed, near ones too.
    The rest is split 90:5:5 without leaks; a manifest says where it is from.

    Example:
      python -m scratchlm corpus prepare notes.txt --out data/notes \\
          --license CC-BY-4.0

    Next: python -m scratchlm train --corpus data/notes
    Book: Gathering text without regret: a clean corpus
    """
    with users_input():
        done = corpus.prepare(file, out, license, keep_pii=keep_pii)
    print(f"documents         {done.documents:,}")
    print(f"personal data     {sum(done.redacted.values()):,} {done.redacted}")
    print(f"duplicates        {done.duplicates:,}")
    print(f"near-duplicates   {done.near_duplicates:,}")
    print(f"leaks             {done.leaks:,}")
    parts = done.splits
    print(
        f"kept              {len(parts.train):,} to learn from, "
        f"{len(parts.validation):,} for validation, "
        f"{len(parts.test):,} for the test"
    )


def holds_shards(folder: Path) -> bool:
    """Whether a folder has shards of each part, perhaps not all of them."""
    return all((folder / part / MANIFEST).is_file() for part in PARTS)


def part_files(folder: Path, part: str) -> list[Path]:
    """The files of a part, train.jsonl or many, in the order of their names."""
    found = sorted(folder.glob(f"{part}*.jsonl"))
    if not found:
        raise UserError(
            f"{folder} has no {part}.jsonl; make it from a text: "
            f"corpus prepare TEXT --out {folder}"
        )
    return found


def shard_tokenizer(
    files: Sequence[Path], kept: Path, own: Path | None, vocab_size: int
) -> Tokenizer:
    """The tokenizer named, the one that was begun with, or one that learns.

    `kept` is where it is, or will be, beside the shards.
    """
    place = own or kept
    if place.exists() or own:
        found = load_tokenizer(place)
    else:
        texts = chain.from_iterable(map(read_texts, files))
        found = train_tokenizer("bpe", texts, vocab_size)
    if isinstance(found, CharTokenizer):
        raise UserError(f"{place} is of characters; shards take byte pairs")
    if kept.exists() and load_tokenizer(kept).fingerprint != found.fingerprint:
        raise UserError(
            f"{kept.parent} was begun with another tokenizer; leave "
            "--tokenizer out, or name a new folder with --out"
        )
    return found


def shards(
    folder: Annotated[
        Path, Parameter(help="a folder that `corpus prepare` wrote")
    ],
    /,
    *,
    out: Annotated[
        Path, Parameter(help="folder for the shards; named again, it goes on")
    ],
    tokenizer: Annotated[
        Path | None, Parameter(help="its file (one that learns from the text)")
    ] = None,
    vocab_size: Annotated[
        int, Parameter(help="how many tokens, if it learns (1024)")
    ] = 1024,
    piece_bytes: Annotated[
        int, Parameter(help="bytes of text for a shard (268435456)")
    ] = SIZE,
    workers: Annotated[
        int | None, Parameter(help="processes that encode (all there are)")
    ] = None,
) -> None:
    """Encode a corpus that takes hours, shard by shard.

    A shard is whole or not there. If the command was stopped or killed, type
    it again: what is done stays, and what changed is made anew. Takes all
    train*.jsonl and validation*.jsonl, in the order of their names.

    Example:
      python -m scratchlm corpus shards data/notes --out data/notes-tokens

    Next: python -m scratchlm train --corpus data/notes-tokens
    Book: A corpus that takes days: shards
    """
    if workers is not None and workers < 1:
        raise UserError(f"--workers {workers}: choose 1 or more")
    if out.resolve() == folder.resolve():
        raise UserError(f"--out {out}: the shards need a folder of their own")
    files = {part: part_files(folder, part) for part in PARTS}
    kept = out / "tokenizer.json"
    with users_input():
        known = shard_tokenizer(files["train"], kept, tokenizer, vocab_size)
        if not kept.exists():
            out.mkdir(parents=True, exist_ok=True)
            known.save(kept)
        for part, paths in files.items():
            place = out / part
            there = (place / MANIFEST).exists()
            old = Manifest.read(place).shards if there else {}
            new = write_shards(known, paths, place, piece_bytes, workers).shards
            same = sum(old.get(name) == shard for name, shard in new.items())
            tokens = sum(shard.tokens for shard in new.values())
            print(
                f"{part:12}{tokens:,} tokens in {len(new)} shards, "
                f"{same} of them done before"
            )
