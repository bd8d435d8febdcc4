"""A roadmap whose boxes lead nowhere is noticed in the finished PDF."""

from collections.abc import Callable
from pathlib import Path

import pikepdf
import pytest

from press import clicks

AUX = r"""\relax
\newlabel{book/way:fig-stages}{{4.1}{1}{The stages.\relax }{figure.1}{}}
\newlabel{book/way:fig-roadmap}{{4.2}{1}{By needs.\relax }{figure.2}{}}
\newlabel{book/cards:card-one}{{62.1}{2}{First}{section*.1}{}}
\newlabel{book/cards:card-two}{{62.1}{3}{First}{section*.2}{}}
"""
PAGES = {"figure.1": 0, "figure.2": 0, "section*.1": 1, "section*.2": 2}
CARDS = ["section*.1", "section*.2"]
Change = Callable[[list[list[str]]], object]


def write(folder: Path, links: list[list[str]], files: int = 5) -> Path:
    """A build with a PDF of three pages; each has these links."""
    tex = folder / clicks.TEX
    tex.mkdir(parents=True)
    (tex / "book.aux").write_text(AUX, encoding="utf-8")
    with pikepdf.new() as pdf:
        for _ in range(3):
            pdf.add_blank_page()
        dests = pikepdf.NameTree.new(pdf)
        for name, number in PAGES.items():
            place = [pdf.pages[number].obj, pikepdf.Name.Fit]
            dests[name] = pikepdf.Array(place)
        pdf.Root.Names = pikepdf.Dictionary(Dests=dests.obj)
        for number, places in enumerate(links):
            notes = [
                pikepdf.Dictionary(
                    Subtype=pikepdf.Name.Link,
                    A=pikepdf.Dictionary(S=pikepdf.Name.GoTo, D=place),
                )
                for place in places
            ]
            pinned = pikepdf.Dictionary(Subtype=pikepdf.Name.FileAttachment)
            notes += [pinned] * (files if number else 0)
            pdf.pages[number].obj.Annots = pikepdf.Array(notes)
        pdf.save(folder / "book.pdf")
    return folder


def right() -> list[list[str]]:
    """Both drawings on the first page, and a card on each of the others."""
    return [[*CARDS, "chapter.1"], ["figure.2", "chapter.1"], ["figure.2"]]


def test_all_that_can_be_clicked_is_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build = write(tmp_path, right())
    assert clicks.main(["--build", str(build)]) == 0
    lines = capsys.readouterr().out.splitlines()
    counts = [line.split()[-1] for line in lines[:-1]]
    assert counts == ["2", "2", "2", "2", "10"]
    assert lines[-1] == "every click leads somewhere"


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda x: x[0].remove(CARDS[1]), "no box of fig-stages leads to card"),
        (lambda x: x[2].clear(), "1 links lead back from 2 cards"),
    ],
)
def test_a_link_that_is_missing_is_named(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: Change,
    fault: str,
) -> None:
    links = right()
    change(links)
    assert clicks.main(["--build", str(write(tmp_path, links))]) == 1
    assert fault in capsys.readouterr().out


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    found = clicks.count(write(tmp_path, right(), files=4))
    assert clicks.faults(found) == ["8 files hang on 2 cards"]


def test_a_book_without_drawing_or_cards_is_no_roadmap(tmp_path: Path) -> None:
    build = write(tmp_path, right())
    aux = build / clicks.TEX / "book.aux"
    lines = AUX.splitlines(keepends=True)
    aux.write_text("".join(lines[:1] + lines[2:]), encoding="utf-8")
    said = clicks.faults(clicks.count(build))
    assert said == ["fig-stages is not in the PDF"]
    aux.write_text("".join(lines[:3]), encoding="utf-8")
    assert "there are no cards" in clicks.faults(clicks.count(build))


def test_what_is_not_built_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        clicks.main(["--build", str(tmp_path)])
    assert "make pdf" in capsys.readouterr().err


def test_the_files_of_the_next_chapter_are_not_on_a_card() -> None:
    """A card may end over the page, where a chapter may begin instead."""
    assert clicks.end_of(2, {"section*.2": 2, "chapter.1": 0}) == 4
    assert clicks.end_of(2, {"section*.2": 2, "chapter.2": 3}) == 3
