"""Pages that are too empty are found; papers and exceptions are read."""

from pathlib import Path

import matplotlib.pyplot as plt
import pikepdf
import pytest
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.lines import Line2D
from matplotlib.patches import Polygon

from press import build, pages

MM = 1 / 25.4


def printed(path: Path, *shares: float) -> Path:
    """A book of one chapter: how far down is each page printed?"""
    top, height = pages.text_block("book")
    with PdfPages(path) as pdf:
        for share in shares:
            figure = plt.figure(figsize=(190.5 * MM, 235 * MM))
            figure.text(0.2, 1 - top / 235, "The first line", va="top")
            last = 1 - (top + share * height) / 235
            figure.text(0.2, last, "The last line", va="bottom")
            figure.text(0.5, 0.02, "foot")
            pdf.savefig(figure)
            plt.close(figure)
    with pikepdf.open(path, allow_overwriting_input=True) as file:
        with file.open_outline() as outline:
            part = pikepdf.OutlineItem("I A part", 0)
            part.children.append(pikepdf.OutlineItem("A chapter", 1))
            part.children.append(pikepdf.OutlineItem("The end", 4))
            outline.root.append(part)
        names = pikepdf.Dictionary(Names=pikepdf.Array())
        file.Root.Names = pikepdf.Dictionary(Dests=names)
        file.save(path)
    return path


def test_half_a_page_is_found_but_not_at_the_end(tmp_path: Path) -> None:
    # A part's opener and a chapter's last page may be as empty as they are.
    path = printed(tmp_path / "book.pdf", 0.2, 0.9, 0.5, 0.3, 0.3)
    top, height = pages.text_block("book")
    full = pages.fullness(path, top, height)
    assert full == pytest.approx([0.2, 0.9, 0.5, 0.3, 0.3], abs=0.02)
    assert pages.sparse(path) == ["page 3 of 'A chapter' is 51% full"]


def test_an_empty_frame_is_found(tmp_path: Path) -> None:
    """A strip alone, gray or between two edges; not one with text, nor a rule.

    Where a frame was divided, its second part has no edge above.
    """
    top, _ = pages.text_block("book")
    path = tmp_path / "frames.pdf"
    with PdfPages(path) as pdf:
        for points, ground, text in (
            (6, "#F5F7F9", ""),
            (6, "white", ""),
            (30, "#F5F7F9", "code"),
            (18, "white", "True"),
            (0, "white", ""),
        ):
            figure = plt.figure(figsize=(190.5 * MM, 235 * MM))
            high = 1 - top / 235
            low = high - points / 72 / (235 * MM)
            around = [(0.1, high), (0.1, low), (0.9, low), (0.9, high)]
            figure.add_artist(Polygon(around, fc=ground, ec="none"))
            edge = Line2D(*zip(*around, strict=True), c="0.7")
            edge.set_solid_capstyle("butt")
            figure.add_artist(edge)
            figure.text(0.16, (low + high) / 2, text, va="center", fontsize=9)
            figure.text(0.16, low - 0.1, "The text goes on")
            pdf.savefig(figure)
            plt.close(figure)
    what = "begins with an empty frame"
    assert pages.empty_frames(path) == [f"page 1 {what}", f"page 2 {what}"]


def test_the_design_names_its_papers() -> None:
    assert pages.papers() == ["book", "a4", "letter", "screen"]
    assert [pages.text_block(p)[1] for p in pages.papers()] == [
        184,
        232,
        216,
        176,
    ]
    with pytest.raises(ValueError, match="knows no paper a5"):
        pages.text_block("a5")


def words(figure: plt.Figure, lines: list[tuple[str, str]]) -> None:
    """Lines of text from above, each in normal letters or bold ones."""
    for i, (text, weight) in enumerate(lines):
        figure.text(
            0.2, 0.8 - i / 20, text, weight=weight, family="STIXGeneral"
        )


def test_a_heading_at_the_foot_is_found(tmp_path: Path) -> None:
    text = [(f"Line {i} of the text", "normal") for i in range(5)]
    heading = [("4.2 A heading", "bold")]
    with PdfPages(tmp_path / "book.pdf") as pdf:
        for lines in (text + heading, heading + text, heading):
            figure = plt.figure(figsize=(190.5 * MM, 235 * MM))
            words(figure, lines)
            figure.text(0.5, 0.02, "the foot", weight="bold")
            pdf.savefig(figure)
            plt.close(figure)
    # The first alone: a heading may open a page, and a part has one to itself.
    found = pages.stranded(tmp_path / "book.pdf")
    assert found == ["page 1 ends with a heading"]


def test_a_heading_that_is_a_link_is_a_heading() -> None:
    page = """<text top="700" left="1" font="4"><b>Solution of </b></text>
<text top="700" left="90" font="4"><a href="a.html"><b>Exercise 1</b></a></text>
<text top="650" left="1" font="3">A line with <b>strong</b> words</text>
<text top="640" left="1" font="3"><a href="a.html"> </a></text>
"""
    assert pages.lines_of(page) == [
        (700, "4", True),
        (700, "4", True),
        (650, "3", False),
    ]


def test_where_chapters_and_sections_are_printed(tmp_path: Path) -> None:
    path = printed(tmp_path / "book.pdf", 1, 1, 1, 1, 1)
    with pikepdf.open(path, allow_overwriting_input=True) as file:
        with file.open_outline() as outline:
            chapter = outline.root[0].children[0]
            section = pikepdf.OutlineItem("The town’s way", 2)
            section.children.append(pikepdf.OutlineItem("Inside", 3))
            chapter.children.append(section)
        roman = pikepdf.Dictionary(S=pikepdf.Name.r)
        body = pikepdf.Dictionary(S=pikepdf.Name.D)
        numbers = pikepdf.Array([0, roman, 2, body])
        file.Root.PageLabels = pikepdf.Dictionary(Nums=numbers)
        file.save(path)
    assert pages.printed_at(path) == {
        "A chapter": {"": "ii", "The town's way": "1", "Inside": "2"},
        "The end": {"": "3"},
    }


def test_pages_do_not_see_where_they_were_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "book-pages.json"
    monkeypatch.setattr(build, "PRINTED", place)
    with build.unprinted():
        assert list(tmp_path.iterdir()) == []
    place.write_text("{}", encoding="utf-8")
    with build.unprinted():
        assert not place.exists()
    assert [path.name for path in tmp_path.iterdir()] == [place.name]
