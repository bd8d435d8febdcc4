"""``{decisions}``: questions in a column, and where each answer leads.

The body is a list in YAML. An entry has the question that it `asks`, the
label of the section to which a *no* `leads`, and the `causes` that are found
there; the last one asks nothing, and is what remains. Each box leads to its
section, on the site and in the PDF. The roadmap's own drawing, its links and
its letters serve here, too (`press.extensions.roadmap_figure`).
"""

import textwrap
from collections.abc import Sequence
from html import escape
from itertools import pairwise
from typing import Any

import yaml
from docutils import nodes
from sphinx.application import Sphinx

from press.extensions.roadmap_figure import COLORS, Drawing
from press.tracks import titles

ROWS = ("evaluation", "text", "first", "generation", "training", "model")
QUESTION, ANSWER = 27, 44  # letters in a line of a box
WIDTHS = (1.72, 2.6)  # inches of the two columns
MARGIN = 0.07  # inches between a box and its words
TABLE = (
    '<TABLE BORDER="0" CELLBORDER="0" CELLPADDING="0" CELLSPACING="0" '
    'WIDTH="{}"><TR><TD ALIGN="LEFT" BALIGN="LEFT">{}</TD></TR></TABLE>'
)


class Decisions(Drawing):
    """Directive: a tree of questions, which lead to sections."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        try:
            rows = read_rows("\n".join(self.content))
        except ValueError as error:
            raise self.error(f"decisions: {error}") from error
        return self.framed(draw(rows))


def read_rows(text: str) -> list[dict[str, Any]]:
    """The rows of a body; ValueError says what is wrong with it.

    >>> read_rows("- {leads: pitfalls, causes: [all of them]}")
    [{'leads': 'pitfalls', 'causes': ['all of them']}]
    """
    try:
        rows = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"the body is no YAML: {error}") from error
    if not isinstance(rows, list) or not rows:
        raise ValueError("write a list of questions and where they lead")
    for i, row in enumerate(rows):
        names = {"leads", "causes"} | ({"asks"} if i + 1 < len(rows) else set())
        if not isinstance(row, dict) or set(row) != names:
            raise ValueError(f"row {i + 1} needs {', '.join(sorted(names))}")
        if row["leads"] not in titles():
            raise ValueError(f"no section is called {row['leads']!r}")
    return rows


def packed(words: Sequence[str], width: int) -> list[str]:
    """Words with dots between them, in lines that cut none of them.

    >>> packed(["one", "two and a half", "three"], 9)
    ['one', 'two and a half', 'three']
    >>> packed(["one", "two", "three"], 9)
    ['one · two', 'three']
    """
    lines: list[str] = []
    for word in words:
        joined = f"{lines[-1]} · {word}" if lines else word
        if lines and len(joined) <= width:
            lines[-1] = joined
        else:
            lines.append(word)
    return lines


def answer(name: str, row: dict[str, Any], letters: int, inches: float) -> str:
    """The box of a section in DOT: its title, and what is found there."""
    title = titles()[row["leads"]]
    fill, edge = COLORS[name]
    lines = [f"<B>{escape(title)}</B>"]
    lines += [escape(line) for line in packed(row["causes"], letters)]
    points = round(72 * (inches - 2 * MARGIN))
    label = TABLE.format(points, "<BR/>".join(lines))
    return (
        f'label=<{label}>, tooltip="{escape(title)}", fillcolor="{fill}", '
        f'color="{edge}", ref="{row["leads"]}"'
    )


def draw(rows: Sequence[dict[str, Any]]) -> str:
    """The tree in DOT: each question beside the box to which *no* leads."""
    left, right = WIDTHS
    out = [
        "digraph decisions { rankdir=TB; nodesep=0.4; ranksep=0.16; margin=0;",
        'pad=0.02; bgcolor="transparent";',
        'node [shape=box, style="rounded,filled", fontname="DejaVu Sans",'
        f' fontsize=7.6, margin="{MARGIN},0.05"];',
        'edge [color="#5f6b76", arrowsize=0.5, fontname="DejaVu Sans",'
        " fontsize=7.6];",
    ]
    *asked, last = rows
    for i, row in enumerate(asked):
        words = "\\n".join(textwrap.wrap(escape(row["asks"]), QUESTION))
        box = answer(ROWS[i % len(ROWS)], row, ANSWER, right)
        out += [
            f'q{i} [label="{words}", width={left}, fillcolor="#ffffff", '
            'color="#1d2730"];',
            f"a{i} [width={right}, {box}];",
            f"{{rank=same; q{i} -> a{i} [label=no]}}",
        ]
    end = f"q{len(asked)}"
    out.append(
        f"{end} [width={left}, {answer(ROWS[0], last, QUESTION, left)}];"
    )
    names = [f"q{i}" for i in range(len(rows))]
    for one, two in pairwise(names):
        out.append(f'{one} -> {two} [label=" yes", weight=9];')
    for one, two in pairwise(names[:-1]):
        out.append(f"a{one[1:]} -> a{two[1:]} [style=invis];")
    return "\n".join([*out, "}"])


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("decisions", Decisions)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
