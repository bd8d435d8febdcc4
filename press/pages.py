"""How full the printed pages are, and on which papers the book is set.

A page that is half empty makes a reader ask whether something is missing.
So each page but the last of a chapter is full to seven tenths. A few cannot
be; the build names them, and fails where they are more than that. No page
begins with a frame around nothing, which TeX leaves where code ended with the
page before. And no page ends with a heading: what it announces stands on the
same page.
"""

import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pikepdf
from matplotlib import image

from press.files import ROOT

DESIGN = ROOT / "book" / "_latex" / "design.sty"
FULL = 0.7  # of the height of the text
FEW = 10  # pages of the whole book may be emptier
DOTS = 20  # per inch; enough to see whether a line is there
FINE = 72  # dots to see what stands in a frame: one for each point
FOOT = range(3, 11)  # points from a page's top to the line below an empty frame
RUNNING = re.compile(r"Serif|Mono|DejaVu")  # the fonts of text and figures
OPENER = 4  # lines at most on a part's first page, which is a heading alone


def papers() -> list[str]:
    """The papers that ``design.sty`` knows, the book's own first."""
    text = DESIGN.read_text(encoding="utf-8")
    return re.findall(r"\\ifdefstring\{\\bookpaper\}\{(\w+)\}", text)


def text_block(paper: str) -> tuple[float, float]:
    """Where the text of a page begins, and its height, in millimetres."""
    text = DESIGN.read_text(encoding="utf-8")
    sizes = re.search(rf"\{{{paper}\}}\{{\\bookpage(.*?)\}}\{{\}}", text)
    if sizes is None:
        raise ValueError(f"{DESIGN} knows no paper {paper}: {papers()}")
    found = re.findall(r"\{([\d.]+)mm", sizes[1] + "}")
    return float(found[-2]), float(found[-1])


def pictures(pdf: Path, dots: int, top: float, height: float) -> Iterator[Any]:
    """Of each page, `height` mm from `top`, at so many dots per inch.

    (rows, columns) of numbers from 0, black, to 1, white.
    """
    first, rows = round(top / 25.4 * dots), round(height / 25.4 * dots)
    crop = ["-x", "0", "-W", "9999", "-y", str(first), "-H", str(rows)]
    with tempfile.TemporaryDirectory() as folder:
        command = ["pdftoppm", "-r", str(dots), "-gray", "-png", *crop]
        subprocess.run([*command, str(pdf), f"{folder}/page"], check=True)
        for path in sorted(Path(folder).iterdir()):
            yield np.atleast_3d(image.imread(path))[..., 0]  # gray


def fullness(pdf: Path, top: float, height: float) -> list[float]:
    """How far down each page is printed: 1 for the last line of the text."""
    found = []
    for picture in pictures(pdf, DOTS, top - 2, height + 2):
        rows = np.nonzero((picture < 0.92).any(1))[0]
        found.append((max(rows, default=-1) + 1) / len(picture))
    return found


def is_empty_frame(picture: Any) -> bool:
    """Whether the first thing there is the foot of a frame, and no text in it.

    Its first rows are alike, edges or a ground; then comes a line, then white.
    """
    printed = picture < 0.98  # also on a light ground
    first = printed.any(1).argmax()
    rows = printed[first : first + FOOT.stop + 3]
    if len(rows) < FOOT.stop + 3:
        return False
    lines = [row for row in FOOT if rows[row].mean() > 0.5]
    alike = bool((rows[: FOOT.start] == rows[0]).all())
    return alike and bool(lines) and not rows[lines[-1] + 2 :][:2].any()


def empty_frames(pdf: Path, paper: str = "book") -> list[str]:
    """Pages that begin with a frame around nothing, in words."""
    top, _ = text_block(paper)
    seen = pictures(pdf, FINE, top - 2, 12)
    return [
        f"page {number} begins with an empty frame"
        for number, picture in enumerate(seen, 1)
        if is_empty_frame(picture)
    ]


def finder(file: pikepdf.Pdf) -> Callable[[pikepdf.OutlineItem], int]:
    """What tells the page of an entry of the outline, counted from 0."""
    pages: dict[Any, int] = {
        page.objgen: i for i, page in enumerate(file.pages)
    }
    named = dict(pikepdf.NameTree(file.Root.Names.Dests).items())

    def place(item: pikepdf.OutlineItem) -> int:
        target: Any = item.destination
        if target is None and item.action is not None:
            target = item.action.D
        if isinstance(target, pikepdf.String):
            target = named[str(target)]
        if isinstance(target, pikepdf.Dictionary):
            target = target.D
        return pages[target[0].objgen]

    return place


def starts(pdf: Path) -> list[tuple[str, int]]:
    """Parts and chapters by the outline: their titles and first pages."""
    with pikepdf.open(pdf) as file:
        place = finder(file)
        with file.open_outline() as outline:
            top = list(outline.root)
            chapters = [item for part in top for item in part.children]
            found = [(item.title, place(item)) for item in [*top, *chapters]]
    return sorted(set(found), key=lambda start: start[1])


def straight(title: str) -> str:
    """A title as its chapter has it: the printed apostrophe is a bent one."""
    return title.replace("’", "'")


def printed_at(pdf: Path) -> dict[str, dict[str, str]]:
    """The page of each chapter, under "", and of its sections, by title.

    A page is named as it is printed, which is what readers of PDF show, too.
    """
    found: dict[str, dict[str, str]] = {}
    with pikepdf.open(pdf) as file:
        place = finder(file)

        def name(item: pikepdf.OutlineItem) -> str:
            return file.pages[place(item)].label

        def enter(known: dict[str, str], item: pikepdf.OutlineItem) -> None:
            for child in item.children:
                known.setdefault(straight(child.title), name(child))
                enter(known, child)

        with file.open_outline() as outline:
            for part in outline.root:
                for chapter in part.children:
                    known = found.setdefault(straight(chapter.title), {})
                    known.setdefault("", name(chapter))
                    enter(known, chapter)
    return found


def sparse(pdf: Path, paper: str = "book") -> list[str]:
    """Pages that are too empty, in words."""
    full = fullness(pdf, *text_block(paper))
    found = []
    for (title, start), (_, end) in pairwise([*starts(pdf), ("", len(full))]):
        for page in range(start, end - 1):  # the last may end where it does
            if full[page] < FULL:
                share = f"{full[page]:.0%}"
                found.append(f"page {page + 1} of {title!r} is {share} full")
    return found


def lines_of(page: str) -> list[tuple[int, str, bool]]:
    """The pieces of a page's text: distance from above, font, is it bold?"""
    found = re.findall(r'<text top="(\d+)".*? font="(\d+)">(.*)</text>', page)
    return [
        (int(top), font, not without_tags(re.sub(r"<b>.*?</b>", "", text)))
        for top, font, text in found
        if without_tags(text)
    ]


def without_tags(text: str) -> str:
    """A line's letters: a heading may be a link, too."""
    return re.sub(r"<.*?>", "", text).strip()


def stranded(pdf: Path, paper: str = "book") -> list[str]:
    """Headings at a page's foot, far from what they announce, in words."""
    top, height = text_block(paper)
    command = ["pdftohtml", "-xml", "-i", "-stdout", "-zoom", "1", str(pdf)]
    made = subprocess.run(command, check=True, capture_output=True)
    pages = made.stdout.decode("utf-8", errors="replace").split("<page ")[1:]
    fonts: dict[str, str] = {}
    found = []
    for number, page in enumerate(pages, 1):
        named = r'<fontspec id="(\d+)".*? family="([^"]*)"'
        fonts |= dict(re.findall(named, page))
        foot = (top + height) / 25.4 * 72
        lines = [line for line in lines_of(page) if line[0] < foot]
        last = [x for x in lines if x[0] > max(lines)[0] - 3]
        if len(lines) > OPENER and all(
            bold and not RUNNING.search(fonts[font]) for _, font, bold in last
        ):
            found.append(f"page {number} ends with a heading")
    return found
