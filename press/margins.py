"""Notes in the margin of the PDF: where they stand, and what they run into.

Code, figures, tables and boxes are wider than the prose and use the margin,
too. `book.sty` makes each begin below the note that hangs beside it, and TeX
writes to its .aux file where everything came to stand. We read that file and
name every note that runs into something, or off the page.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from press.pages import DESIGN, text_block

POINT = 65536  # TeX's unit is the scaled point
PLACE = re.compile(r"\\bookplace\{(\w+)\}\{(-?\d+)\}\{(\d+)\}\{(\d+)\}")
MILLIMETRE = 72.27 / 25.4  # in TeX's points
SPARE = 3.0  # points that a note may hang below the last line


@dataclass(frozen=True)
class Place:
    """What begins where: points from the foot of the page."""

    kind: str  # note or wide; a card and its parts have heights alone
    page: int  # the number that is printed
    top: float
    height: float

    @property
    def bottom(self) -> float:
        """Where a note ends."""
        return self.top - self.height


def places(aux: Path) -> list[Place]:
    """All notes, and what is wide on their pages."""
    text = aux.read_text(encoding="utf-8", errors="replace")
    return [
        Place(kind, int(page), int(top) / POINT, int(height) / POINT)
        for kind, page, top, height in PLACE.findall(text)
    ]


def page_foot(paper: str) -> float:
    """How far above the foot of the page its text ends, in points."""
    text = DESIGN.read_text(encoding="utf-8")
    sizes = re.search(rf"\{{{paper}\}}\{{\\bookpage\{{\S+?\}}\{{(.+?)\}}", text)
    assert sizes is not None, paper
    number, unit = sizes[1][:-2], sizes[1][-2:]
    whole = float(number) * (25.4 if unit == "in" else 1)
    top, height = text_block(paper)
    return (whole - top - height) * MILLIMETRE


def collisions(aux: Path, paper: str = "book") -> list[str]:
    """Notes that something wide cuts, or the foot of the page."""
    foot = page_foot(paper) - SPARE
    known = [x for x in places(aux) if x.kind in ("note", "wide")]
    found = []
    for note in known:
        if note.kind != "note":
            continue
        where = f"page {note.page}: a note in the margin runs"
        if note.bottom < foot:
            found.append(f"{where} off the page")
        cuts = (
            other.page == note.page and note.bottom < other.top < note.top
            for other in known
        )
        if any(cuts):
            found.append(f"{where} into what stands below it")
    return found
