"""Where the repository is, and how a file is written whole.

Set-up imports this with whatever Python there is, so it uses nothing new.
"""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).parents[1]


def write_whole(path: Path, text: str) -> None:
    """Write a file so that it is there whole, or as it was before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_changed(path: Path, text: str) -> None:
    """Write a file whole, unless it says that already.

    What is made from the file is made again when the file is newer, so one
    that has not changed has to stay as old as it is.
    """
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        write_whole(path, text)
