"""How high the cards are in the PDF, in shares of a page's text.

A card has half a page, so that two of them fill one. `book.sty` has TeX write
to its .aux file how high each one is.
"""

from pathlib import Path

from press.margins import MILLIMETRE, places
from press.pages import text_block

HALF = 0.5


def shares(aux: Path, paper: str = "book") -> list[float]:
    """The height of each card in the order of the book: 1.0 is a page.

    Raises ValueError for a card that has none, or a part without a card.
    """
    found: list[float] = []
    for place in places(aux):
        if place.kind == "card":
            found.append(0.0)
        elif place.kind == "part":
            if not found:
                raise ValueError(f"{aux}: a part of a card stands before all")
            found[-1] += place.height
    if not all(found):
        raise ValueError(f"{aux}: a card has no height")
    text = text_block(paper)[1] * MILLIMETRE
    return [height / text for height in found]


def too_high(aux: Path) -> list[str]:
    """What to say of each card of the book that is higher than its half."""
    return [
        f"card {number} has {share:.2f} of a page, and half a page is its "
        "limit: shorten its entry in roadmap.yml"
        for number, share in enumerate(shares(aux), 1)
        if share > HALF
    ]


def told(aux: Path, paper: str = "book") -> str:
    """How many cards there are, and how high they get."""
    found = shares(aux, paper)
    if not found:
        return "no cards"
    return f"{len(found)} cards, the highest {max(found):.2f} of a page"
