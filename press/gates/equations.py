"""The gates on formulas: a line that computes each, and words for each."""

from collections.abc import Iterator

from lxml import etree

from press import epub, speech
from press.equations import LABELLED, TABLE, Line, names_in, parse
from press.gates.book import Book
from press.gates.pages import Page

CHAPTERS = "book/model/"
TEST = "tests/press/test_equations.py"


def equations(book: Book) -> list[str]:
    """Each numbered equation of the model has its line and its naive form."""
    try:
        table = parse(book.read(TABLE))
    except ValueError as error:
        return [str(error)]
    where: dict[str, str] = {}
    listings: set[str] = set()
    for name, page in book.pages.items():
        listings |= set(names_in(page.text))
        for found in LABELLED.finditer(page.text):
            line = page.text.count("\n", 0, found.start()) + 1
            where[found[1]] = f"{name}:{line}"
    problems = [
        f"{place}: no line of code for {label}; add it to {TABLE}"
        for label, place in where.items()
        if place.startswith(CHAPTERS) and label not in table
    ]
    naive = book.read(TEST)
    for label, lines in table.items():
        if label not in where:
            problems.append(f"{TABLE}: no page has the equation {label}")
        if f'"{label}"' not in naive:
            problems.append(f"{TEST} does not know {label}")
        problems += [
            fault for line in lines if (fault := wrong(line, listings))
        ]
    return problems


def wrong(line: Line, listings: set[str]) -> str:
    """What is wrong with a line; "" if nothing."""
    try:
        line.number()
    except LookupError as error:
        return f"{TABLE}: {line.equation}: {error}"
    if line.symbol not in listings:
        return f"{TABLE}: {line.equation}: no named listing of {line.symbol}"
    return ""


def formulas(page: Page) -> Iterator[tuple[int, str]]:
    """The formulas of a page, each with its line; rows as Sphinx sets them."""
    for passage in page.passages:
        for piece in passage.pieces:
            if piece.kind == "math":
                text = piece.text.strip()
                if r"\\" in text:
                    text = rf"\begin{{split}}{text}\end{{split}}"
                yield piece.line, text


def aloud(book: Book) -> list[str]:
    """Each formula can be read aloud: it is MathML, and has its words."""
    problems = []
    for name, page in book.pages.items():
        for line, text in formulas(page):
            try:
                written = epub.as_mathml(text, "block")
                speech.reading(etree.fromstring(written))
            except ValueError as error:
                problems.append(f"{name}:{line}: {error}")
    return problems
