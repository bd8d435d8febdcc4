"""How high a card is: in one part, in two, and what cannot be."""

from pathlib import Path

import pytest

from press.heights import shares, told, too_high
from press.margins import MILLIMETRE, POINT, collisions
from press.pages import text_block

HEIGHT = text_block("book")[1] * MILLIMETRE


def written(path: Path, *places: tuple[str, float]) -> Path:
    """An .aux file in which TeX has said how high something is, in pages."""
    lines = [
        f"\\bookplace{{{kind}}}{{7}}{{0}}{{{share * HEIGHT * POINT:.0f}}}"
        for kind, share in places
    ]
    path.write_text("\n".join(["\\relax", *lines]), encoding="utf-8")
    return path


def test_a_card_is_as_high_as_its_parts(tmp_path: Path) -> None:
    parts = [("card", 0.0), ("part", 0.25), ("wide", 0.0), ("card", 0.0)]
    parts += [("part", 0.2), ("part", 0.6)]  # it turns a page
    aux = written(tmp_path / "book.aux", *parts)
    assert shares(aux) == pytest.approx([0.25, 0.8], abs=1e-4)
    assert told(aux) == "2 cards, the highest 0.80 of a page"
    (line,) = too_high(aux)
    assert line.startswith("card 2 has 0.80 of a page")


def test_a_book_may_have_no_cards(tmp_path: Path) -> None:
    assert told(written(tmp_path / "book.aux", ("wide", 0.0))) == "no cards"


@pytest.mark.parametrize(
    ("kinds", "message"),
    [
        (("card", "card", "part"), "a card has no height"),
        (("part", "card"), "stands before all"),
    ],
)
def test_what_cannot_be_is_an_error(
    kinds: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    aux = written(tmp_path / "book.aux", *((kind, 0.1) for kind in kinds))
    if kinds[0] == "card":
        aux = written(aux, ("card", 0.0), ("card", 0.0), ("part", 0.1))
    with pytest.raises(ValueError, match=message):
        shares(aux)


def test_a_card_cuts_no_note(tmp_path: Path) -> None:
    """What is wide does, and a card's box says so itself."""
    aux = written(tmp_path / "book.aux", ("card", 0.0), ("part", 0.4))
    note = f"\\bookplace{{note}}{{7}}{{{300 * POINT}}}{{{50 * POINT}}}"
    part = f"\\bookplace{{part}}{{7}}{{{280 * POINT}}}{{0}}"
    text = aux.read_text("utf-8")
    aux.write_text("\n".join([text, note, part]), encoding="utf-8")
    assert collisions(aux) == []
