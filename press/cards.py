"""What a topic's card says: the head of its listing, and what it takes.

The words come from ``roadmap.yml``, the code from the sources, the minutes
from the chapter and the seconds from a record. Each figure says how it is
known: counted, estimated or measured.
"""

import ast
from dataclasses import dataclass
from functools import lru_cache

from press.effort import effort, running
from press.roadmap import Roadmap, Topic
from press.sources import Definition, Snippet, find, tree_of

LONGEST = 10  # lines of code on a card
WIDEST = 76  # letters of its lines where parameters are packed
FIELDS = 6  # lines of them for the fields of a class
HOUR = 60
MIB = 1024**2


@dataclass(frozen=True)
class Figure:
    """One of a card's figures, with what it is and how it is known."""

    what: str
    amount: str
    known: str  # counted, estimated or measured


def symbol(topic: Topic) -> str:
    """The dotted name of the listing that stands for a topic."""
    return f"{topic.module}.{topic.symbol}"


@lru_cache(maxsize=128)
def definition(snippet: Snippet) -> Definition | None:
    """The definition that fills a snippet; None where it is none."""
    for node in ast.walk(tree_of(snippet.path)):
        if isinstance(node, Definition) and node.end_lineno == snippet.last:
            marks = [d.lineno for d in node.decorator_list]
            if min([node.lineno, *marks]) == snippet.first:
                return node
    return None


def head(topic: Topic) -> str:
    """The signature of a topic's listing, with what its docstring says first.

    Its parameters are packed into few lines, since a card has half a page. A
    class has its fields, too, as far as there is room.
    """
    snippet = find(symbol(topic))
    node = definition(snippet)
    lines = snippet.text.splitlines()
    if node is None:
        return "\n".join(lines[:LONGEST])
    start = node.body[0].lineno - snippet.first
    margin = "    " if node.body[0].lineno > node.lineno else ""
    shown = packed(lines[:start]) if margin else lines
    words = ast.get_docstring(node)
    if words:
        summary = words.partition("\n\n")[0].splitlines()
        shown = [*shown, f'{margin}"""{summary[0]}']
        shown += [margin + line for line in summary[1:]]
        shown[-1] += '"""'
    if isinstance(node, ast.ClassDef):
        shown += fields(node, snippet, lines)[:FIELDS]
    return "\n".join(shown)


def packed(lines: list[str]) -> list[str]:
    """A signature with as many of its parameters on a line as fit.

    >>> packed(["def f(", "    a: int,", "    b: int,", ") -> int:"])
    ['def f(', '    a: int, b: int,', ') -> int:']
    """
    found: list[str] = []
    for line in lines:
        both = f"{found[-1]} {line.strip()}" if found else ""
        inside = line.startswith("    ") and both.startswith("    ")
        if inside and both.count("#") == 0 and len(both) <= WIDEST:
            found[-1] = both
        else:
            found.append(line)
    return found


def fields(node: ast.ClassDef, snippet: Snippet, lines: list[str]) -> list[str]:
    """The lines of a class that say its fields."""
    found = []
    for part in node.body:
        if isinstance(part, ast.AnnAssign):
            end = part.end_lineno or part.lineno
            found += lines[
                part.lineno - snippet.first : end - snippet.first + 1
            ]
    return found


def hours(minutes: int) -> str:
    """Minutes as people say them.

    >>> hours(45), hours(60), hours(405), hours(450)
    ('45 min', '1 h', '6¾ h', '7½ h')
    """
    if minutes < HOUR:
        return f"{minutes} min"
    whole, quarters = divmod(round(minutes / 15), 4)
    return f"{whole}{('', '¼', '½', '¾')[quarters]} h"


def figures(topic: Topic) -> list[Figure]:
    """What a topic takes: minutes, seconds and memory."""
    asked = effort(topic)
    both = f"{hours(asked.warm_ups)} and {hours(asked.exercises)}"
    found = [
        Figure("reading", hours(asked.reading), "counted"),
        Figure("exercises", both, "estimated"),
    ]
    used = running(topic)
    if used is None:
        return found
    return [
        *found,
        Figure("run", f"{max(1, round(used.seconds))} s", "measured"),
        Figure("in", f"{round(used.bytes / MIB)} MiB", "measured"),
    ]


def neighbors(topic: Topic, book: Roadmap) -> list[tuple[str, list[str]]]:
    """The topics that it needs, and those that need it, with their words."""
    pairs = [
        ("Needs", list(topic.requires)),
        ("Needed by", book.followers(topic.id)),
    ]
    return [(words, names) for words, names in pairs if names]
