"""The book's module stands in for one that its reader has still to write.

A module in which a function waits for its body is not used; the book's is, in
its place. So what uses the whole library works from the first minute, and each
module comes into use when it is written. Nothing remembers this; it is read
from the files each time.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from pathlib import Path
from typing import Any

from check import LIBRARY
from check.holes import unwritten


def stood_in(sources: Path, reference: Path, name: str) -> tuple[str, ...]:
    """The functions for which a file's place is taken; () if it is used."""
    mine, book = sources / name, reference / name
    if not (mine.is_file() and book.is_file()):
        return ()
    text = mine.read_text(encoding="utf-8", errors="replace")
    return unwritten(text, book.read_text(encoding="utf-8"))


class StandIn(importlib.abc.MetaPathFinder):
    """Finds the book's module in the place of one that is not written."""

    def __init__(self, sources: Path, reference: Path, but: str = "") -> None:
        """Of the library in `sources`; the module `but` is taken as it is."""
        self.sources, self.reference, self.but = sources, reference, but

    def find_spec(
        self, fullname: str, path: Any, target: Any = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The book's module, or None where the reader's is written."""
        if not fullname.startswith(f"{LIBRARY}.") or fullname == self.but:
            return None
        name = fullname.replace(".", "/") + ".py"
        if not stood_in(self.sources, self.reference, name):
            return None
        place = self.reference / name
        return importlib.util.spec_from_file_location(fullname, place)


def stand_in(init: str) -> None:
    """Let the book's modules stand in, from now on and in this process.

    `init` is the file of the library's own package. The checks have come
    before where they look at one module as it is.
    """
    if any(isinstance(finder, StandIn) for finder in sys.meta_path):
        return
    root = Path(init).resolve().parents[1]
    sys.meta_path.insert(0, StandIn(root, root / "check" / "reference"))
