"""How high the cards are in the PDF, in shares of a page's text.

A card is meant for half a page. `book.sty` has TeX write to its .aux file where
each one begins and where it ends; a card may go on on the next page, and then
counts as high as it would be with nothing between its parts but their pages.
"""

from pathlib import Path

from press.margins import MILLIMETRE, Place, places
from press.pages import text_block

HALF = 0.5


def shares(aux: Path, paper: str = "book") -> list[float]:
    """The height of each card in the order of the book: 1.0 is a page.

    Raises ValueError where an end is missing.
    """
    ends = [x for x in places(aux) if x.kind in ("card", "cardend")]
    if [x.kind for x in ends] != ["card", "cardend"] * (len(ends) // 2):
        raise ValueError(f"{aux}: a card has no end, or an end no card")
    pairs = zip(ends[::2], ends[1::2], strict=True)
    return [share(begin, end, paper) for begin, end in pairs]


def share(begin: Place, end: Place, paper: str) -> float:
    """How much of a page's text lies between two places."""
    height = text_block(paper)[1] * MILLIMETRE
    return end.page - begin.page + (begin.top - end.top) / height


def told(aux: Path, paper: str = "book") -> str:
    """How many cards are higher than half a page, and how high they get."""
    found = shares(aux, paper)
    if not found:
        return "no cards"
    high = sum(x > HALF for x in found)
    return (
        f"{len(found)} cards, {high} of them higher than half a page, "
        f"the highest {max(found):.2f} of a page"
    )
