"""The gate on notes in the margin: short, few, and beside prose."""

from press.gates.book import Book
from press.gates.pages import Page, parser

LONGEST = 40  # words of a note
FEW = 2  # notes of a page
BESIDE = 2.0  # letters of prose for each of a note: as many lines as it has
PROSE = {"paragraph_open", "inline", "paragraph_close", "math_block"}
UNSEEN = ("{index}",)  # what prints nothing where it stands
FENCES = ("fence", "colon_fence")


def margins(book: Book) -> list[str]:
    """Notes in the margin are short, two a page, and hang beside prose."""
    problems = []
    for page in book.pages.values():
        if "{margin}" not in page.text:
            continue
        notes = page.named("margin")
        if len(notes) > FEW:
            count = f"{len(notes)} notes in the margin"
            problems.append(f"{page.name}: {count}, more than {FEW}")
        found = beside(page)
        for note in notes:
            where = f"{page.name}:{note.line}: a note in the margin"
            words = len(note.body.split())
            if note.argument or not note.body.strip():
                problems.append(f"{where} has text, and no title")
            if words > LONGEST:
                problems.append(f"{where} of {words} words, over {LONGEST}")
            if not plain(note.body):
                problems.append(f"{where} holds more than paragraphs")
            if note.line not in found:
                problems.append(f"{where} stands in a box or a list")
                continue
            heading, letters = found[note.line]
            if heading:
                problems.append(f"{where} follows a heading at once")
            if letters < BESIDE * len(note.body):
                problems.append(f"{where} has too little prose beside it")
    return problems


def plain(text: str) -> bool:
    """Whether a text is nothing but paragraphs."""
    kinds = {token.type for token in parser().parse(text)}
    return kinds <= {"paragraph_open", "inline", "paragraph_close"}


def beside(page: Page) -> dict[int, tuple[bool, int]]:
    """Of each note by its line: is it under a heading, over how much prose?

    Prose counts up to the next block that may use the margin itself. A
    chapter's title begins a page: no page ends between it and a note.
    """
    tokens = [t for t in parser().parse(page.text) if t.level == 0 or t.content]
    found = {}
    for i, token in enumerate(tokens):
        if token.type not in FENCES or token.level:
            continue
        if token.info.strip() != "{margin}":
            continue
        letters, place = 0, i + 1
        while place < len(tokens) and tokens[place].type in PROSE:
            inline = tokens[place].type == "inline"
            letters += len(tokens[place].content) if inline else 0
            place += 1
        above = [t for t in tokens[:i] if not t.info.startswith(UNSEEN)]
        under = bool(above) and above[-1].type == "heading_close"
        line = (token.map or [0])[0] + 1
        found[line] = under and above[-1].tag != "h1", letters
    return found
