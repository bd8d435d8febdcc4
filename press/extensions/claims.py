"""``{claim}`words <test>```: the prose says it, and the build asserts it.

A comparison in prose ("the nearest", "a quarter of", "fewer than before") is
a claim, like a number. The role prints its words. Its test is a Python
expression in the names of the page's cells; a hidden cell behind the last one
asserts it in the page's kernel, and so a build fails where the prose is wrong.

    Min-p makes {claim}`fewer mistakes <mistakes["min-p"] < mistakes["top-p"]>`.
"""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxRole

WRITTEN = re.compile(r"\{claim\}`([^`]+)`")
PARTS = re.compile(r"\s*([^<]*[^<\s])\s*<(.+)>\s*", re.DOTALL)
CELL = "\n\n```{{code-cell}}\n:tags: [remove-cell]\n{body}\n```\n"


class Claim(NamedTuple):
    """What the prose says, the expression that must hold, and the line."""

    words: str
    test: str
    line: int


def split(content: str) -> tuple[str, str]:
    """The words and the test of a role's content; ValueError without both.

    >>> split("fewer mistakes <few < many>")
    ('fewer mistakes', 'few < many')
    """
    found = PARTS.fullmatch(content)
    if not found:
        raise ValueError(
            f"“{content}” has no test; write {{claim}}`words <a < b>`"
        )
    return " ".join(found[1].split()), " ".join(found[2].split())


def claims_of(text: str) -> Iterator[Claim]:
    """The claims of a page's text, in order."""
    for found in WRITTEN.finditer(text):
        line = text.count("\n", 0, found.start()) + 1
        yield Claim(*split(found[1]), line)


def assert_claims(app: Any, docname: str, source: list[str]) -> None:
    """Put a hidden cell behind the page's last one that tests its claims."""
    try:
        claims = list(claims_of(source[0]))
    except ValueError as error:
        raise ExtensionError(f"{docname}: {error}") from error
    if not claims:
        return
    if "```{code-cell}" not in source[0]:
        raise ExtensionError(f"{docname} has claims and no cell to test them")
    lines = []
    for words, test, line in claims:
        message = f"{docname}:{line}: “{words}” is not so: {test}"
        lines.append(f"assert ({test}), {message!r}")
    source[0] += CELL.format(body="\n".join(lines))


class ClaimRole(SphinxRole):
    """Role: the words of a claim, without its test."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        words, _ = split(self.text)
        return [nodes.Text(words)], []


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_role("claim", ClaimRole())
    # Before the page's digest is taken, so that `ahead` sees the same text.
    app.connect("source-read", assert_claims, priority=400)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
