"""What can be clicked in the finished PDF: ``python -m press.clicks``.

From each drawing of the topics a box has to lead to each card, from each card
a link back to the roadmap; and a card holds its files. Counted are the
annotations of the PDF itself, whatever the pages meant to become.
"""

import argparse
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pikepdf

from press.dependencies import BUILD
from press.parity import TEX, destinations

DRAWINGS = ("fig-stages", "fig-roadmap")
BACK = "fig-roadmap"  # what a card leads back to
FILES = 5  # of a card: script, notebook, module, tests, check
LABEL = re.compile(
    r"^\\newlabel\{[^{}]*:([\w-]+)\}\{.*\{([^{}]+)\}\{\}\}$", re.M
)
CARD = "card-"


@dataclass
class Page:
    """Where the links of a page lead, and how many files are pinned to it."""

    links: list[str] = field(default_factory=list)
    files: int = 0


@dataclass
class Clicks:
    """What was counted; `boxes` has the cards that each drawing leads to."""

    cards: list[str]
    boxes: dict[str, set[str]]
    back: int
    files: int


def read_page(page: Any) -> Page:
    """The annotations of a page that a click does something with."""
    found = Page()
    for item in page.get("/Annots", []):
        if item.get("/Subtype") == "/FileAttachment":
            found.files += 1
        elif "/A" in item and "/D" in item.A:
            found.links.append(str(item.A.D))
    return found


def end_of(last: int, places: dict[str, int]) -> int:
    """The page behind the cards, the last of which begins on page `last`.

    It may go on over the page, unless a chapter begins there.
    """
    chapters = {n for name, n in places.items() if name.startswith("chapter.")}
    return last + 1 if last + 1 in chapters else last + 2


def read(pdf: Path, aux: Path) -> Clicks:
    """Count in a PDF; TeX's .aux file knows what its places are called."""
    text = aux.read_text(encoding="utf-8", errors="replace")
    anchors = dict(LABEL.findall(text))
    cards = [name for name in anchors if name.startswith(CARD)]
    called = {anchors[card]: card for card in cards}
    places = destinations(pdf)
    with pikepdf.open(pdf) as file:
        pages = [read_page(page) for page in file.pages]
    drawn = [name for name in DRAWINGS if name in anchors]
    at = {name: pages[places[anchors[name]]] for name in drawn}
    shown = [places[anchors[card]] for card in cards]
    inside = pages[min(shown) : end_of(max(shown), places)] if shown else []
    return Clicks(
        cards,
        {n: {called[x] for x in p.links if x in called} for n, p in at.items()},
        sum(page.links.count(anchors.get(BACK, "")) for page in inside),
        sum(page.files for page in inside),
    )


def faults(found: Clicks) -> list[str]:
    """What leads nowhere, and what no click reaches."""
    wanted = len(found.cards)
    absent = [name for name in DRAWINGS if name not in found.boxes]
    said = [f"{name} is not in the PDF" for name in absent]
    for name, reached in found.boxes.items():
        lost = [card for card in found.cards if card not in reached]
        said += [f"no box of {name} leads to {card}" for card in lost]
    if found.back != wanted:
        said.append(f"{found.back} links lead back from {wanted} cards")
    if found.files != FILES * wanted:
        said.append(f"{found.files} files hang on {wanted} cards")
    return said if wanted else [*said, "there are no cards"]


def table(found: Clicks) -> str:
    """What was counted, in lines."""
    lines = [f"{'cards':<24}{len(found.cards):>5}"]
    lines += [f"boxes of {n:<15}{len(x):>5}" for n, x in found.boxes.items()]
    lines.append(f"{'links back from cards':<24}{found.back:>5}")
    lines.append(f"{'files on cards':<24}{found.files:>5}")
    return "\n".join(lines)


def count(build: Path = BUILD) -> Clicks:
    """Read a build's PDF; FileNotFoundError says what makes it."""
    pdf, aux = build / "book.pdf", build / TEX / "book.aux"
    for path in (pdf, aux):
        if not path.exists():
            raise FileNotFoundError(f"{path} is not built: make pdf")
    return read(pdf, aux)


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m press.clicks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--build", type=Path, default=BUILD, help="the folder of the outputs"
    )
    try:
        found = count(parser.parse_args(arguments).build)
    except FileNotFoundError as error:
        parser.error(str(error))
    print(table(found))
    said = faults(found)
    print("\n".join(said) if said else "every click leads somewhere")
    return int(bool(said))


if __name__ == "__main__":
    sys.exit(main())
