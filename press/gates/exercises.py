"""Gates on exercises: enough of them, a way in, and an answer that reasons."""

import re

from press.gates.book import Book
from press.gates.pages import Block, Page

AT_LEAST = 6  # exercises in a chapter
WARM_UPS = 2  # of them, which take minutes
GRADES = ("0", "1", "2", "3")  # `:hours:`; 0 is a warm-up
HINT = "*Hint:*"
HINTED = 4  # characters, so that a formula or a reference may be a hint
REASONED = 25  # words of prose that a solution needs to be one
WORD = re.compile(r"[^\W\d_]{2,}")


def exercises(book: Book) -> list[str]:
    """Six exercises in each chapter, two warm-ups, hints, reasoned answers."""
    problems = []
    for topic, page in book.chapters():
        asked = page.named("exercise")
        problems += enough(page, asked)
        if more := book.pages.get(f"book/appendix/{topic}.md"):
            asked = asked + more.named("exercise")  # the topic goes on there
        for block in asked:
            where = f"{page.name}:{block.line}: {block.option('name')}"
            problems += [f"{where} {what}" for what in lacking(block)]
        answers = book.pages.get(f"book/appendix/solutions/{topic}.md")
        problems += unmatched(page, asked, answers)
        if answers is not None:
            problems += bare(answers)
    return problems


def enough(page: Page, asked: list[Block]) -> list[str]:
    """Whether a chapter has exercises enough, and warm-ups among them."""
    problems = []
    if len(asked) < AT_LEAST:
        what = f"{len(asked)} exercises, not {AT_LEAST}"
        problems.append(f"{page.name}: {what}")
    warm = sum(str(block.option("hours")) == "0" for block in asked)
    if warm < WARM_UPS:
        what = f"{warm} warm-ups (:hours: 0), not {WARM_UPS}"
        problems.append(f"{page.name}: {what}")
    return problems


def lacking(block: Block) -> list[str]:
    """What an exercise lacks: its grade, its hint."""
    found = []
    if str(block.option("hours")) not in GRADES:
        found.append("has no grade")
    _, mark, hint = block.body.rpartition(HINT)
    if not mark or len(hint.strip(" .\n")) < HINTED:
        found.append(f"has no hint: end it with {HINT} and the first step")
    return found


def unmatched(
    page: Page, asked: list[Block], answers: Page | None
) -> list[str]:
    """The names that are not asked once and solved once."""
    questions = [str(block.option("name")) for block in asked]
    solved = answers.named("solution") if answers else []
    given = [block.argument for block in solved]
    return [
        f"{page.name}: {name} is not both asked and solved, once each"
        for name in sorted({*questions, *given})
        if questions.count(name) != 1 or given.count(name) != 1
    ]


def bare(answers: Page) -> list[str]:
    """The solutions that show something and say nothing."""
    problems = []
    solved = answers.named("solution")
    ends = [block.line for block in solved[1:]] + [10**9]
    for block, end in zip(solved, ends, strict=True):
        said = sum(
            len(WORD.findall(passage.words))
            for passage in answers.passages
            if block.line < passage.line < end
        )
        if said < REASONED:
            where = f"{answers.name}:{block.line}: {block.argument}"
            what = f"is solved in {said} words: say why"
            problems.append(f"{where} {what}")
    return problems
