"""Help after a check: hints, explanations, and mistakes to find."""

import ast
import difflib
import random
import re
import textwrap

from check.diagnose import failures, known_bugs, with_bug
from check.holes import Function, Hole, functions, stub
from check.message import (
    chapter,
    explained,
    first_failure,
    place,
    shown_path,
)
from check.places import Site, Topic
from check.process import run
from check.verdict import Verdict

LEVELS = (1, 2, 3, 4)


def filled(text: str, indent: str = "  ") -> list[str]:
    """The text in lines."""
    return textwrap.wrap(
        text, 79, initial_indent=indent, subsequent_indent=indent
    )


def hint(site: Site, verdict: Verdict, level: int) -> list[str]:
    """A hint: 1 where to look, 2 the cause, 3 the book's line, 4 the code."""
    if not failures(verdict.report):
        return [f"{verdict.topic.id} passes: there is nothing to hint at"]
    if verdict.holes:
        return hint_at_hole(site, verdict, verdict.holes[0], level)
    failed = first_failure(verdict)
    if level == 4 and verdict.mine.given:
        return counterpart(site, verdict)
    if level == 4:
        return difference(site, verdict.topic)
    if level == 3:
        return spoken(site, verdict)
    if level == 2:
        cause = verdict.cause
        if cause is None or not cause.text:
            return ["there is no known mistake to compare with"]
        return filled(f"likely: {cause.text}" if cause.names else cause.text)
    told = failed["told"]
    look = told["hint"] or told["what"]
    lines = filled(f"look at: {look}")
    lines += filled(f"in {place(site, verdict, failed)}")
    return lines + filled(f"read the {chapter(verdict, failed)}")


def spoken(site: Site, verdict: Verdict) -> list[str]:
    """What the book's definition says of itself, and the line in question."""
    topic = verdict.topic
    names = verdict.cause.names if verdict.cause else ()
    if names:
        old, _ = known_bugs(site, topic)[names[0]]
        return ["  where you differ, the book says:", *old.splitlines()]
    found = definition(stub(book_text(site, topic)), asked(verdict))
    if found:
        return ["  its signature:", *found]
    return ["  there is no line of the book that says more than level 1"]


def asked(verdict: Verdict) -> set[str]:
    """Names that the first failing check uses; of given code, its alone."""
    used = set(first_failure(verdict).get("used", ()))
    placed = set(verdict.report.get("placed") or ())
    return used & placed or placed or used


def book_text(site: Site, topic: Topic) -> str:
    """The book's module."""
    return (site.reference / topic.file).read_text(encoding="utf-8")


def definition(text: str, names: set[str]) -> list[str]:
    """The lines of the first class or function of these names, or [].

    >>> definition("a = 1\\ndef f():\\n    return a\\n", {"f"})
    ['def f():', '    return a']
    """
    tree = ast.parse(text)
    found: list[tuple[str, Function | ast.ClassDef]] = [*functions(tree)]
    found += [(n.name, n) for n in tree.body if isinstance(n, ast.ClassDef)]
    for name, node in sorted(found, key=lambda each: each[1].lineno):
        if name in names or name.rpartition(".")[2] in names:
            starts = [node.lineno, *(d.lineno for d in node.decorator_list)]
            return text.splitlines()[min(starts) - 1 : node.end_lineno]
    return []


def hint_at_hole(
    site: Site, verdict: Verdict, hole: Hole, level: int
) -> list[str]:
    """A hint about a function that waits for its body."""
    topic = verdict.topic
    book = book_text(site, topic)
    if level == 4:
        mine = site.path(topic).read_text(encoding="utf-8")
        names = {hole.name}
        lines = changed(definition(mine, names), definition(book, names))
        return [f"  {hole.name}:", *lines]
    if level == 3:
        return ["  its signature:", *definition(stub(book), {hole.name})]
    if level == 2:
        return ["  nothing is written there yet: there is no mistake to name"]
    where = f"{shown_path(site, str(site.path(topic)))}:{hole.line}"
    lines = filled(f"look at: {hole.name}, which is still to be written")
    lines += filled(f"in {where}")
    used = {"used": [hole.name.partition(".")[0]]}
    return lines + filled(f"read the {chapter(verdict, used)}")


def changed(mine: list[str], book: list[str]) -> list[str]:
    """From the reader's lines to the book's."""
    found = difflib.unified_diff(mine, book, "yours", "the book's", lineterm="")
    return list(found) or ["yours is the book's"]


def difference(site: Site, topic: Topic) -> list[str]:
    """From the reader's module to the book's."""
    mine = site.path(topic).read_text(encoding="utf-8", errors="replace")
    return changed(mine.splitlines(), book_text(site, topic).splitlines())


def counterpart(site: Site, verdict: Verdict) -> list[str]:
    """What stands in the book where the code of --mine does."""
    found = definition(book_text(site, verdict.topic), asked(verdict))
    return ["  the book's:", *found]


def explain(site: Site, topic: Topic, state: str) -> list[str]:
    """What a topic is for, and what its known mistakes are."""
    lines = [f"{topic.id}: {topic.title}"]
    lines += filled(topic.explanation)
    if topic.gives:
        lines += filled(f"You have {topic.gives}.")
    lines += ["", *filled(f"The mistake that costs most: {topic.hazard}")]
    lines += filled(f"Done when: {topic.done}")
    bugs = known_bugs(site, topic)
    lines += ["", f"  {len(bugs)} mistakes that its checks know:"]
    lines += [f"    - {bug}" for bug in bugs]
    if state != "pass":
        return [*lines, f"  next: python -m check {topic.id}"]
    return [*lines, f"  try:  python -m check break {topic.id}"]


def keep(site: Site, topic: Topic, empty: bool) -> str:
    """Put the book's code, or its stub, back; returns where yours is kept."""
    path = site.path(topic)
    book = (site.reference / topic.file).read_text(encoding="utf-8")
    kept = ""
    if path.exists():
        number = 1
        while (beside := path.with_name(f"{path.name}.{number}")).exists():
            number += 1
        path.replace(beside)
        kept = shown_path(site, str(beside))
    path.write_text(stub(book) if empty else book, encoding="utf-8")
    return kept


def riddle(site: Site, topic: Topic, seed: int) -> tuple[str, list[str]]:
    """A mistake, and what a check says of it; planted in a copy."""
    bugs = known_bugs(site, topic)
    bug = random.Random(seed).choice(list(bugs))
    report = run(with_bug(site, topic, bugs[bug]))
    verdict = Verdict(topic, "fail", report)
    lines = [f"One of {len(bugs)} mistakes was planted in a copy."]
    lines += [f"  ✗ {first_failure(verdict).get('title', topic.id)}"]
    lines += [
        line
        for line in explained(site, verdict)
        if not re.match(r" {6}(?:in {8}|next {6}|read {6})", line)
    ]
    return bug, lines
