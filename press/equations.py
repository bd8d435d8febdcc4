"""Which line of the sources computes which numbered equation of the book.

``book/equations.yml`` names, for each equation, a definition and the
beginning of one of its lines. Where the line stands is found, not written:
its number in the listing, and the listing's label on its page.
"""

import ast
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from press.files import ROOT
from press.sources import find

TABLE = "book/equations.yml"
# How a line stands to its equation: in the note below the equation, and in
# the note below the listing, before and after the line's number.
WORDS = {
    "computes": ("computed in", "computes"),
    "implies": ("follows from", "implies"),
    "needs": ("the reason for", "is there because of"),
}
LISTING = re.compile(
    r"^ {0,3}`{3,}\{listing\}[ \t]+(\S+)[ \t]*\n((?:[ \t]*:.*\n)*)", re.M
)
NAME = re.compile(r"^[ \t]*:name:[ \t]*(\S+)", re.M)
LABELLED = re.compile(r"\$\$[ \t]*\((eq-[\w-]+)\)")


@dataclass(frozen=True)
class Line:
    """A line of a definition, by its beginning, and what it has to do."""

    equation: str
    how: str
    symbol: str
    code: str

    def number(self) -> int:
        """Where the line stands in its listing; LookupError if not once."""
        lines = find(self.symbol).text.splitlines()
        found = [
            number
            for number, text in enumerate(lines, 1)
            if text.strip().startswith(self.code)
        ]
        if len(found) != 1:
            raise LookupError(
                f"{self.symbol} has {len(found)} lines that begin with "
                f"“{self.code}”"
            )
        return found[0]

    def statement(self) -> ast.stmt:
        """The statement that begins on the line."""
        tree = ast.parse(find(self.symbol).text)
        for node in ast.walk(tree):
            if isinstance(node, ast.stmt) and node.lineno == self.number():
                return node
        raise LookupError(f"no statement of {self.symbol} begins there")


def parse(text: str) -> dict[str, list[Line]]:
    """The lines of each equation; ValueError for what says neither."""
    table: dict[str, list[Line]] = {}
    for equation, entries in (yaml.safe_load(text) or {}).items():
        for entry in entries:
            how = next(iter(set(entry) & set(WORDS)), "")
            if set(entry) != {how, "line"}:
                raise ValueError(
                    f"{TABLE}: {equation} needs a line and one of "
                    f"{', '.join(WORDS)}, not {sorted(entry)}"
                )
            line = Line(equation, how, entry[how], entry["line"])
            table.setdefault(equation, []).append(line)
    return table


def table(root: Path = ROOT) -> dict[str, list[Line]]:
    """The lines of each equation, as the file says them now."""
    path = root / TABLE
    return parse(path.read_text(encoding="utf-8")) if path.exists() else {}


def names_in(text: str) -> dict[str, str]:
    """The label of each listing of a page, by the symbol that it shows."""
    found = {}
    for symbol, options in LISTING.findall(text):
        if name := NAME.search(options):
            found[symbol] = name[1]
    return found


@lru_cache(maxsize=4)
def names_of(pages: tuple[Any, ...]) -> dict[str, str]:
    """As `names_in`, of all pages (path, change time)."""
    found: dict[str, str] = {}
    for path, _ in pages:
        found |= names_in(path.read_text(encoding="utf-8"))
    return found


def names(root: Path = ROOT) -> dict[str, str]:
    """The label of each listing of the book, by its symbol."""
    paths = sorted((root / "book").rglob("*.md"))
    return names_of(tuple((path, path.stat().st_mtime_ns) for path in paths))
