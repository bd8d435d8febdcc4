"""The commands about text: get, write and clean it."""

import math
import os
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from scratchlm.cli.errors import UserError, users_input
from scratchlm.text import corpus
from scratchlm.text import toytown as town

DATA = Path("data")  # where downloads are kept
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
