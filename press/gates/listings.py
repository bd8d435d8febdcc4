"""Gates on listings and figures: what leads to them, what they say."""

import re
from itertools import pairwise

from press.gates.book import Book
from press.gates.pages import Block, Page

ENOUGH = 60  # words of prose for each listing of a page
LONGEST = 80  # characters of a caption
SPOKEN = ("paragraph", "formula", "cell")  # passages that say something
WORD = re.compile(r"[^\W\d_]{2,}")


def listings(book: Book) -> list[str]:
    """Each listing says what it does, and two have a sentence between."""
    problems = []
    for _, page in book.chapters():
        blocks = page.named("listing")
        problems += captions(page, blocks)
        problems += neighbors(page, blocks)
        prose = " ".join(passage.words for passage in page.passages)
        words = len(WORD.findall(prose))
        if blocks and words < ENOUGH * len(blocks):
            each = words // len(blocks)
            problems.append(f"{page.name}: {each} words for each listing")
    return problems


def captions(page: Page, blocks: list[Block]) -> list[str]:
    """Captions that are missing, too long, no sentence, or there twice."""
    problems, seen = [], set[str]()
    for block in blocks:
        caption = str(block.option("caption") or "")
        where = f"{page.name}:{block.line}: {block.argument}"
        if not caption:
            problems.append(f"{where} has no caption: what does it do?")
        elif not caption.endswith((".", "?")) or len(caption) > LONGEST:
            problems.append(f"{where}: a caption is one short sentence")
        elif caption in seen:
            problems.append(f"{where} has another one's caption")
        seen.add(caption)
    return problems


def neighbors(page: Page, blocks: list[Block]) -> list[str]:
    """Listings that follow one another without a sentence between."""
    spoken = sorted(
        passage.line
        for passage in page.passages
        if passage.kind in SPOKEN and passage.box != "margin"
    )
    return [
        f"{page.name}:{second.line}: {second.argument} follows a listing "
        "without a sentence between"
        for first, second in pairwise(sorted(blocks, key=lambda b: b.line))
        if not any(first.line < line < second.line for line in spoken)
    ]


def colons(book: Book) -> list[str]:
    """No colon announces a figure, which in print may stand elsewhere."""
    problems = []
    for page in book.pages.values():
        figures = [b.line for b in page.blocks if b.option("figure")]
        starts = sorted(
            [passage.line for passage in page.passages]
            + [block.line for block in page.blocks]
        )
        for passage in page.passages:
            announces = passage.words.rstrip().endswith(":")
            after = next((x for x in starts if x > passage.line), 0)
            if announces and passage.kind == "paragraph" and after in figures:
                problems.append(
                    f"{page.name}:{passage.line}: a colon before a figure: "
                    "name the figure with {numref}"
                )
    return problems
