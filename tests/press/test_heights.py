"""How high a card is: on one page, over two, and what cannot be."""

from pathlib import Path

import pytest

from press.heights import shares, told
from press.margins import MILLIMETRE, POINT, collisions, page_foot
from press.pages import text_block

BOTTOM = page_foot("book")
HEIGHT = text_block("book")[1] * MILLIMETRE


def written(path: Path, *places: tuple[str, int, float]) -> Path:
    """An .aux file in which TeX has said how high above the text's foot."""
    lines = [
        f"\\bookplace{{{kind}}}{{{page}}}{{{(BOTTOM + up) * POINT:.0f}}}{{0}}"
        for kind, page, up in places
    ]
    path.write_text("\n".join(["\\relax", *lines]), encoding="utf-8")
    return path


def test_a_card_is_as_high_as_from_its_begin_to_its_end(
    tmp_path: Path,
) -> None:
    aux = written(
        tmp_path / "book.aux",
        ("wide", 7, HEIGHT),
        ("card", 7, HEIGHT),
        ("cardend", 7, 0.75 * HEIGHT),
        ("card", 7, 0.2 * HEIGHT),
        ("cardend", 8, 0.4 * HEIGHT),  # it goes on for 0.6 of a page
    )
    assert shares(aux) == pytest.approx([0.25, 0.8], abs=1e-4)
    assert told(aux) == (
        "2 cards, 1 of them higher than half a page, "
        "the highest 0.80 of a page"
    )


def test_a_book_may_have_no_cards(tmp_path: Path) -> None:
    assert told(written(tmp_path / "book.aux", ("wide", 1, 9.0))) == "no cards"


def test_a_card_without_an_end_is_an_error(tmp_path: Path) -> None:
    aux = written(
        tmp_path / "book.aux", ("card", 7, 100.0), ("card", 7, 50.0)
    )
    with pytest.raises(ValueError, match="a card has no end"):
        shares(aux)


def test_a_card_cuts_no_note(tmp_path: Path) -> None:
    """What is wide does, and a card's box says so itself."""
    note = f"\\bookplace{{note}}{{7}}{{{300 * POINT}}}{{{50 * POINT}}}"
    aux = written(tmp_path / "book.aux", ("cardend", 7, 280.0 - BOTTOM))
    aux.write_text(aux.read_text("utf-8") + "\n" + note, encoding="utf-8")
    assert collisions(aux) == []
