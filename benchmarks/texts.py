"""The texts that are measured on, made or fetched once."""

import os
from pathlib import Path

from benchmarks.measure import OUT
from scratchlm.text.corpus import get
from scratchlm.text.files import replacing
from scratchlm.text.toytown import SEPARATOR, write_stories


def shakespeare() -> str:
    """Tiny Shakespeare, from the mirror or the web when first asked for."""
    mirror = os.environ.get("SCRATCHLM_MIRROR")
    path = get("shakespeare", OUT, Path(mirror) if mirror else None)
    return path.read_text(encoding="utf-8")


def toytown(characters: int) -> Path:
    """A file of stories of so many characters together, written once.

    A NUL stands behind each story, so that they can be told apart again.
    """
    path = OUT / f"toytown-{characters}.txt"
    if path.exists():
        return path
    total, stories = 0, write_stories(seed=2026)
    with replacing(path) as partial, open(partial, "wb") as file:
        while total < characters:
            text = next(stories).text + SEPARATOR
            file.write((text + "\0").encode())
            total += len(text)
    return path
