"""What a reader is told: in at most 25 lines, the reader's files and lines."""

import ast
import textwrap
from pathlib import Path
from typing import Any

from check.cells import origin
from check.diagnose import failures
from check.errors import TooLong
from check.holes import functions
from check.mine import Mine
from check.places import Site
from check.verdict import Verdict

LINES, WIDTH = 24, 79  # of one topic; a line with the count comes below
MARGIN = 6
PROGRAM = "python -m check"


def item(label: str, text: str) -> list[str]:
    """A label and its text, on as many lines as it needs.

    >>> item("got", "1.5")
    ['      got       1.5']
    """
    first = f"{' ' * MARGIN}{label:<10}"
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=first,
        subsequent_indent=" " * len(first),
        max_lines=4,
        placeholder=" …",
    )


def some(count: int, one: str, many: str) -> str:
    """How many there are of something.

    >>> some(1, "check fails", "checks fail"), some(2, "topic", "topics")
    ('1 check fails', '2 topics')
    """
    return f"{count} {one if count == 1 else many}"


def shown_line(site: Site, mine: Mine, file: str, line: int) -> str:
    """A file and line as a reader would look for it."""
    for each in mine.given:
        if each.source and each.file.resolve() == Path(file):
            where = origin(each.file, line)
            if each.source.is_dir():
                return where
            return f"{shown_path(site, str(each.source))}, {where}"
    return f"{shown_path(site, file)}:{line}"


def shown_path(site: Site, file: str) -> str:
    """A file as one would type it from the repository's root."""
    path = Path(file)
    if path.is_relative_to(site.root):
        return path.relative_to(site.root).as_posix()
    return path.name


def place(site: Site, verdict: Verdict, failed: dict[str, Any]) -> str:
    """File and line: of the error, else of the first definition in use."""
    told = failed["told"]
    if told["file"]:
        return shown_line(site, verdict.mine, told["file"], told["line"])
    if verdict.mine.given:
        return own_place(site, verdict, failed)
    path = site.path(verdict.topic)
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return shown_path(site, str(path))
    used = set(failed.get("used", ()))
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name in used:
            inner = {n: f for n, f in functions(node) if n in used}
            line = min([f.lineno for f in inner.values()] or [node.lineno])
            return f"{shown_path(site, str(path))}:{line} ({node.name})"
        if isinstance(node, ast.FunctionDef) and node.name in used:
            where = shown_path(site, str(path))
            return f"{where}:{node.lineno} ({node.name})"
    return shown_path(site, str(path))


def own_place(site: Site, verdict: Verdict, failed: dict[str, Any]) -> str:
    """Where the code given with --mine begins that the check asks for."""
    placed = verdict.report.get("placed") or {}
    asked = [placed[name] for name in failed.get("used", ()) if name in placed]
    for name, file, line in [*asked, *placed.values()]:
        if file:
            where = shown_line(site, verdict.mine, file, line)
            return f"{where} ({name})"
    return str(verdict.mine.given[0].file)


def chapter(verdict: Verdict, failed: dict[str, Any]) -> str:
    """Where the book tells it."""
    topic = verdict.topic
    section = topic.section(set(failed.get("used", ())))
    title = f"chapter “{topic.chapter or topic.title}”"
    title += f", “{section}”" if section else ""
    page = topic.page(section)
    return f"{title}, page {page} of the PDF" if page else title


def first_failure(verdict: Verdict) -> dict[str, Any]:
    """The first check that fails, with all that is known of it."""
    return dict(next(iter(failures(verdict.report).values())))


def explained(site: Site, verdict: Verdict) -> list[str]:
    """The first failure, in its parts."""
    failed = first_failure(verdict)
    told = failed["told"]
    lines = textwrap.wrap(
        told["what"],
        WIDTH,
        initial_indent=" " * MARGIN,
        subsequent_indent=" " * MARGIN,
        max_lines=4,
        placeholder=" …",
    )
    for label, key in (("expected", "wanted"), ("got", "got")):
        lines += item(label, told[key]) if told[key] else []
    lines += item("allowed", told["allowed"]) if told["allowed"] else []
    lines += item("in", place(site, verdict, failed))
    printed = " ".join(verdict.report["printed"].split())
    lines += item("printed", printed) if printed else []
    if verdict.state == "blocked":
        lines += item(
            "blocked",
            f"your {verdict.topic.id} is right: it passes "
            f"on the book's other modules. Mend {verdict.blocker} "
            "first",
        )
    elif verdict.cause is not None and verdict.cause.text:
        label = "likely" if verdict.cause.names else "cause"
        lines += item(label, verdict.cause.text)
    lines += item("read", chapter(verdict, failed))
    return [*lines, f"{' ' * MARGIN}{'next':<10}{following(verdict)}"]


def following(verdict: Verdict) -> str:
    """The command to type next, whole, so that it can be copied."""
    if verdict.state == "blocked":
        return f"{PROGRAM} {verdict.blocker}"
    program = "%check" if verdict.mine.in_session else PROGRAM
    return f"{program} hint {verdict.topic.id}{verdict.mine.options}"


def waiting(site: Site, verdict: Verdict) -> list[str]:
    """What is still to be written."""
    name = shown_path(site, str(site.path(verdict.topic)))
    lines = []
    for hole in verdict.holes[:5]:
        lines.append(f"  ○ write {hole.name}, {name}:{hole.line}")
    if more := len(verdict.holes) - 5:
        lines += [f"  ○ and {more} more"] if more > 0 else []
    if not verdict.holes:
        told = next(
            failed["told"]
            for failed in failures(verdict.report).values()
            if failed["told"]["kind"] == "NotImplementedError"
            and failed["told"]["file"]
        )
        where = f"{shown_path(site, told['file'])}:{told['line']}"
        lines.append(f"  ○ write what stands at {where}")
    title = verdict.topic.chapter or verdict.topic.title
    return [*lines, *item("read", f"chapter “{title}”")]


def summary(site: Site, verdict: Verdict) -> list[str]:
    """All that is printed of a topic, its checks in their order."""
    report = verdict.report
    title = report["title"] or verdict.topic.title
    lines = [f"{verdict.topic.id}: {title}", *stands_for(verdict)]
    good = [f"  ✓ {c['title']}" for c in verdict.passed]
    if verdict.state == "todo":
        return fit(lines, good, waiting(site, verdict), [], [])
    if not failures(report):  # the present form, whatever its length
        return lines + good + aside(verdict) + lacking(verdict)
    bad = [c for c in report["checks"] if not c["passed"]]
    name = bad[0]["title"] if bad else ending(report)
    details = [f"  ✗ {name}", *explained(site, verdict)]
    others = [f"  ✗ {c['title']}" for c in bad[1:]]
    beside = aside(verdict) + lacking(verdict)
    return fit(lines, good, details, others, beside)


def stands_for(verdict: Verdict) -> list[str]:
    """Of which of the book's the code was taken, where nobody said it."""
    if all(each.book or not each.name for each in verdict.mine.given):
        return []
    placed = verdict.report.get("placed") or {}
    given = {each.name for each in verdict.mine.given if not each.book}
    return [
        f"  {name} stands for {book}"
        for book, (name, _, _) in placed.items()
        if name in given and name != book
    ]


def aside(verdict: Verdict) -> list[str]:
    """How many checks do not run the reader's code, and what they ask for."""
    left = verdict.aside
    if not left:
        return []
    given = {each.book or each.name for each in verdict.mine.given}
    asked = {name for check in left for name in check["used"]} - given
    sections = dict.fromkeys(n for n, _ in verdict.topic.sections)
    names = [n for n in sections if n in asked]
    does = "check does not run your code", "checks do not run your code"
    text = f"  – {some(len(left), *does)}"
    text += f"; asked for: {', '.join(names)}" if names else ""
    return textwrap.wrap(text, WIDTH, subsequent_indent=" " * 4, max_lines=3)


def lacking(verdict: Verdict) -> list[str]:
    """How many checks are about a switch that the reader's code has not."""
    does = "check is", "checks are"
    left = verdict.lacking
    if not left:
        return []
    names = ", ".join(dict.fromkeys(c["lacks"] for c in left))
    text = f"  – {some(len(left), *does)} about what your code does not take, "
    text += f"whole or in part: {names}"
    return textwrap.wrap(text, WIDTH, subsequent_indent=" " * 4, max_lines=3)


def ending(report: dict[str, Any]) -> str:
    """Why there is no check to name."""
    if report["broken"]:
        return "it cannot be imported"
    if report["ended"]["kind"] == TooLong.__name__:
        return "it does not come to an end"
    return "it came to an end before its checks had"


def fit(
    head: list[str],
    good: list[str],
    details: list[str],
    bad: list[str],
    beside: list[str],
) -> list[str]:
    """At most 24 lines, so that the count below them is the 25th.

    What passes gives way first, then what else fails, then what the checks
    did not judge. Of the details the middle does: the end says what to do.
    """
    if len(head + good + details + bad + beside) > LINES and good:
        passing = "check passes", "checks pass"
        good = [f"  ✓ {some(len(good), *passing)}"]
    room = LINES - len(head + good + details + beside)
    if len(bad) > room:
        kept = max(0, room - 1)
        left = some(len(bad) - kept, "other fails", "others fail")
        bad = [*bad[:kept], f"  ✗ {left}, too"]
    if len(head + good + details + bad + beside) > LINES:
        beside = []
    details = without_middle(details, LINES - len(head + good + bad))
    return head + good + details + bad + beside


def without_middle(lines: list[str], room: int) -> list[str]:
    """The lines, or as many from both ends as there is room for.

    >>> without_middle(["a", "b", "c", "d", "e"], 4)
    ['a', '      …', 'd', 'e']
    """
    if len(lines) <= room:
        return lines
    first = (room - 1) // 2
    last = len(lines) - (room - 1 - first)
    return [*lines[:first], f"{' ' * MARGIN}…", *lines[last:]]
