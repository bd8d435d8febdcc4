"""Notes in the margin: where they may stand, and what they run into."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from docutils import nodes
from docutils.utils import new_document

from press.extensions.margin import BesideParagraph, beside, margin_note
from press.gates.book import Book
from press.gates.listings import neighbors
from press.gates.margins import margins
from press.margins import POINT, collisions, page_foot

PAGE = "book/model/attention.md"
NOTE = "```{margin}\nA note of some few words.\n```\n"
PROSE = "Prose that stands beside the note, and is longer than it. " * 3


def told(text: str) -> list[str]:
    """What the gate says of a page."""
    return margins(Book(changes={PAGE: text}))


def test_a_note_beside_prose_is_a_note() -> None:
    assert told(f"# A\n\nA word.\n\n{NOTE}\n{PROSE}\n") == []


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (f"# A\n\n## B\n\n{NOTE}\n{PROSE}\n", "follows a heading"),
        (
            f"# A\n\n## B\n\n```{{index}} C\n```\n\n{NOTE}\n{PROSE}\n",
            "follows a heading",
        ),
        (f"# A\n\nA word.\n\n{NOTE}\nTwo words.\n", "too little prose"),
        (f"# A\n\nA word.\n\n{NOTE}\n```\ncode\n```\n", "too little prose"),
        (f"# A\n\nA word.\n\n- a list\n\n  {NOTE}", "too little prose|list"),
        (f"# A\n\nB.\n\n````{{aside}} B\n{NOTE}````\n\n{PROSE}", "in a box"),
        ("# A\n\nB.\n\n" + f"{NOTE}{PROSE}\n\n" * 3, "3 notes"),
        (
            f"# A\n\nB.\n\n{NOTE.replace('few', 'few ' * 50)}\n{PROSE * 9}",
            "55 words",
        ),
        (
            f"# A\n\nB.\n\n{NOTE.replace('A note', '- A list')}\n{PROSE}",
            "more than paragraphs",
        ),
        (f"# A\n\nB.\n\n{NOTE.replace('}', '} Title', 1)}\n{PROSE}", "title"),
    ],
)
def test_where_no_note_may_stand(text: str, why: str) -> None:
    found = told(text)
    assert found
    assert any(re.search(why, problem) for problem in found), found


def test_a_note_is_no_sentence_between_two_listings() -> None:
    block = "```{listing} scratchlm.model.attention.causal_mask\n```\n"
    text = f"# A\n\nB.\n\n{block}\n{NOTE}\n{block}"
    page = Book(changes={PAGE: text}).pages[PAGE]
    assert len(neighbors(page, page.named("listing"))) == 1


def written(path: Path, *places: tuple[str, int, float, float]) -> Path:
    """An .aux file in which TeX has said where things stand."""
    lines = [
        f"\\bookplace{{{kind}}}{{{page}}}{{{top * POINT:.0f}}}"
        f"{{{height * POINT:.0f}}}"
        for kind, page, top, height in places
    ]
    path.write_text("\n".join(["\\relax", *lines]), encoding="utf-8")
    return path


def test_what_runs_into_a_note_is_found(tmp_path: Path) -> None:
    note = ("note", 7, 400.0, 60.0)
    aux = tmp_path / "book.aux"
    below, beside = ("wide", 7, 339.0, 0.0), ("wide", 7, 341.0, 0.0)
    above, later = ("wide", 7, 450.0, 0.0), ("wide", 8, 350.0, 0.0)
    assert collisions(written(aux, note, below, above, later)) == []
    assert collisions(written(aux, note, beside)) == [
        "page 7: a note in the margin runs into what stands below it"
    ]
    second = ("note", 7, 350.0, 20.0)
    assert len(collisions(written(aux, note, second))) == 1


def test_a_note_off_the_page_is_found(tmp_path: Path) -> None:
    foot = page_foot("book")
    assert foot == pytest.approx(25 / 25.4 * 72.27)
    low = ("note", 3, foot + 40, 60.0)
    (found,) = collisions(written(tmp_path / "book.aux", low))
    assert found == "page 3: a note in the margin runs off the page"


@pytest.mark.parametrize(
    ("builder", "order"), [("html", [0, 1, 2]), ("epub", [1, 2, 0])]
)
def test_a_note_and_its_paragraph_are_tied(
    builder: str, order: list[int]
) -> None:
    """Labels go with the paragraph; in an e-reader the note comes last."""
    document = new_document("page")
    app = SimpleNamespace(builder=SimpleNamespace(name=builder))
    document.settings.env = SimpleNamespace(app=app)
    before, behind = nodes.paragraph("", "a"), nodes.paragraph("", "c")
    parts = [margin_note(), nodes.target(), nodes.paragraph("", "b")]
    document += [before, *parts, behind]
    BesideParagraph(document).run()
    assert [type(child) for child in document.children] == [
        nodes.paragraph, beside, nodes.paragraph
    ]
    assert document[1].children == [parts[number] for number in order]
