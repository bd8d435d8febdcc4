"""How large the letters in the printed figures are.

A figure is drawn at one size and printed at another: TeX shrinks what is wider
than its column, and every label with it. So we do not ask the drawing; we read
the finished PDF, follow each figure's scale down to its letters, and name the
figure and the label where they are too small to be read.

The size of a label is that of its largest letters; an index or an exponent may
be smaller, but not as small as it likes.
"""

import html
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pikepdf
from pikepdf import Matrix

SMALLEST = 7.0  # points, for a label
INDEX = 5.0  # points, for what stands lower or higher in it
ROUNDING = 0.05  # points: what is printed as 7.0 is 7
PLACES = "q Q cm Do BT ET Tf Tm Td TD Tj TJ"  # what sets and places text


@dataclass(frozen=True)
class Label:
    """A piece of text in a figure: where on the page, and how large."""

    page: int  # from 1
    x: float  # points from the left
    y: float  # points from the bottom
    size: float  # points, of its largest letters
    least: float  # points, of its smallest


def labels(pdf: Path) -> Iterator[Label]:
    """Every label of every figure, page by page."""
    with pikepdf.open(pdf) as file:
        for number, page in enumerate(file.pages, 1):
            if any(form(x) for x in drawings(page).values()):
                yield from inside(page, Matrix(), number, False)


def drawings(part: Any) -> dict[str, Any]:
    """What a page or a drawing can place by name."""
    found = part.get("/Resources", {}).get("/XObject", {})
    return dict(found.items())


def form(item: Any) -> bool:
    """Whether an item is a drawing, and not an image of dots."""
    return item.get("/Subtype") == "/Form"


def numbers(operands: Any) -> list[float]:
    """The operands of an instruction as floating-point numbers."""
    return [float(x) for x in operands]


def inside(part: Any, now: Matrix, page: int, figure: bool) -> Iterator[Label]:
    """The labels of a page's drawings, or of a drawing.

    `now` takes the part's own coordinates to those of the page. Text that
    stands on the page itself is no label: it is passed over.
    """
    names = drawings(part)
    kept: list[Matrix] = []
    line = Matrix()
    size = 0.0
    runs: list[tuple[float, float, float]] = []
    for step in pikepdf.parse_content_stream(part, PLACES):
        operands, sign = step.operands, str(step.operator)
        if sign == "q":
            kept.append(now)
        elif sign == "Q" and kept:
            now = kept.pop()
        elif sign == "cm":
            now = Matrix(*numbers(operands)) @ now
        elif sign == "Do" and form(names[str(operands[0])]):
            item = names[str(operands[0])]
            placed = Matrix(*numbers(item.get("/Matrix", Matrix().as_array())))
            yield from inside(item, placed @ now, page, True)
        elif not figure:
            continue
        elif sign == "BT":
            line, runs = Matrix(), []
        elif sign == "Tf":
            size = float(operands[1])
        elif sign == "Tm":
            line = Matrix(*numbers(operands))
        elif sign in ("Td", "TD"):
            line = Matrix().translated(*numbers(operands)) @ line
        elif sign in ("Tj", "TJ"):
            runs.append(printed(line @ now, size))
        elif sign == "ET" and runs:
            sizes = [run[2] for run in runs]
            yield Label(page, *runs[0][:2], max(sizes), min(sizes))


def printed(matrix: Matrix, size: float) -> tuple[float, float, float]:
    """Place and size on the page of letters set at `size`."""
    height = size * (matrix.c**2 + matrix.d**2) ** 0.5
    return matrix.e, matrix.f, height


def too_small(pdf: Path) -> list[str]:
    """The labels that are too small, in words: page, figure, label, size."""
    wrong: dict[int, list[Label]] = {}
    for label in labels(pdf):
        lacks = SMALLEST - label.size, INDEX - label.least
        if max(lacks) > ROUNDING:
            wrong.setdefault(label.page, []).append(label)
    found: dict[str, None] = {}
    for page, few in wrong.items():
        words, captions = read(pdf, page)
        for label in few:
            size = min(label.size, label.least)
            where = f"page {page}, {caption_of(label, captions)}"
            found[f"{where}: “{text_of(label, words)}” is {size:.2f} pt"] = None
    return list(found)


Word = tuple[str, float, float, float, float]  # left, bottom, right, top
WORD = re.compile(
    r'<word xMin="([-\d.]+)" yMin="([-\d.]+)" xMax="([-\d.]+)" '
    r'yMax="([-\d.]+)">(.*?)</word>'
)


def read(pdf: Path, page: int) -> tuple[list[Word], list[Word]]:
    """A page's words with their places, and the numbers of its figures."""
    command = ["pdftotext", "-bbox", "-f", str(page), "-l", str(page)]
    done = subprocess.run(
        [*command, str(pdf), "-"], capture_output=True, text=True, check=True
    )
    tall = re.search(r'<page width="[\d.]+" height="([\d.]+)"', done.stdout)
    height = float(tall[1]) if tall else 0.0
    words: list[Word] = []
    for match in WORD.finditer(done.stdout):
        left, top, right, bottom = map(float, match.groups()[:4])
        text = html.unescape(match[5])
        words.append((text, left, height - bottom, right, height - top))
    captions = [
        (f"Figure {second[0]}", *first[1:])
        for first, second in zip(words, words[1:], strict=False)
        if first[0] == "Figure" and second[0][:1].isalnum()
    ]
    return words, captions


def text_of(label: Label, words: list[Word]) -> str:
    """The word that stands where the label begins."""

    def away(word: Word) -> float:
        across = max(word[1] - label.x, 0.0, label.x - word[3])
        return across + max(word[2] - label.y, 0.0, label.y - word[4])

    return min(words, key=away)[0] if words else "?"


def caption_of(label: Label, captions: list[Word]) -> str:
    """The number of the first caption below the label."""
    below = [word for word in captions if word[4] <= label.y]
    return max(below, key=lambda word: word[4])[0] if below else "a figure"
