"""``{milestones}`` and ``{notes}``: a track's phases, and pages to write on.

A table of milestones has the weeks of a track, counted, and offers its
calendar. A page of notes has a phase's topics, the book's numbers with room
for the reader's own beside them, and lines; in print it is a page.
"""

from typing import Any

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from press.extensions.boxes import download, reference
from press.extensions.exports import RUNS_NOTHING
from press.files import ROOT
from press.identity import book_roadmap
from press.plan import (
    FIRST_DAY,
    FOLDER,
    PACE,
    Phase,
    name_of,
    pace,
    phases,
    write_offered,
)
from press.roadmap import TRACKS, Topic, load, of_edition

WIDTHS = (24, 10, 10, 56)  # of the milestones' columns, in percent
NUMBERS = (44, 30, 26)  # of the columns of a table of numbers
ASKED = (  # what a page of notes asks, and the lines for an answer
    ("What I did", 3),
    ("What surprised me", 3),
    ("What I would ask", 3),
)


class ruled(nodes.General, nodes.Element):
    """Lines to write on."""


def label(milestone: str) -> str:
    """The name of the section with a phase's page of notes.

    >>> label("built")
    'notes-built'
    """
    return f"notes-{milestone}"


def listed(topics: list[Topic]) -> list[nodes.Node]:
    """Topics by their short names, each a link to its chapter."""
    line: list[nodes.Node] = []
    for topic in topics:
        line += [nodes.Text(", ")] if line else []
        line.append(reference("ref", topic.id, topic.id))
    return line


class Milestones(SphinxDirective):
    """Directive: when a track reaches what, and its calendar."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        track = directives.choice(self.arguments[0], TRACKS)
        for path in (ROOT / "roadmap.yml", PACE):
            self.env.note_dependency(str(path))
        hours = pace(track)
        found = phases(book_roadmap(), track, hours)
        if not found:
            return []  # a course may have nothing that a track has to read
        weeks = found[-1].last.week
        words = f"At {hours:g} hours a week, this takes {weeks} weeks."
        line = nodes.paragraph("", words)
        if self.env.app.builder.name not in RUNS_NOTHING:
            name = name_of(track)
            write_offered(track)
            self.env.note_dependency(str(FOLDER / name))
            offered = (FOLDER / name).relative_to(ROOT).as_posix()
            line += nodes.Text(" As a calendar: ")
            line += download(self.env.docname, offered, name)
            day = f"{FIRST_DAY.day} {FIRST_DAY:%B %Y}"
            line += nodes.Text(f", whose week 1 begins on {day}.")
        return [self.table(found), line]

    def table(self, found: list[Phase]) -> nodes.table:
        """A row for each phase."""
        group = nodes.tgroup(cols=len(WIDTHS))
        for width in WIDTHS:
            group += nodes.colspec(colwidth=width)
        heads = ("Milestone", "Weeks", "Hours", "What you have, and see")
        texts = [nodes.paragraph("", text) for text in heads]
        body = nodes.tbody("", *(row(self.cells(phase)) for phase in found))
        group += [nodes.thead("", row([[text] for text in texts])), body]
        kinds = ["colwidths-given", "longtable"]  # may go on behind a page
        return nodes.table("", group, classes=kinds)

    def cells(self, phase: Phase) -> list[list[nodes.Node]]:
        """What stands in a row: milestone, weeks, hours, result."""
        milestone = phase.milestone
        link = reference("ref", label(milestone.id), "")
        name = nodes.paragraph("", "", link)
        return [
            [name],
            [nodes.paragraph("", phase.span)],
            [nodes.paragraph("", f"{phase.minutes / 60:.1f}")],
            [
                nodes.paragraph("", f"You have {milestone.holds}."),
                nodes.paragraph("", "", nodes.literal("", milestone.shows)),
            ],
        ]


def row(cells: list[list[nodes.Node]]) -> nodes.row:
    """A row of a table."""
    return nodes.row("", *(nodes.entry("", *cell) for cell in cells))


class Notes(SphinxDirective):
    """Directive: the page of notes of a phase, its numbers as the body."""

    has_content = True
    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        self.env.note_dependency(str(ROOT / "roadmap.yml"))
        known = {m.id: m for m in load().milestones}
        milestone = known.get(self.arguments[0])
        if milestone is None:
            names = ", ".join(known)
            raise self.error(
                f"no milestone {self.arguments[0]}; there are: {names}"
            )
        there = of_edition(book_roadmap(), self.config.book_track)
        topics = [t for t in there if t.part in milestone.parts]
        if not topics:
            return []  # no phase of this book
        frame = nodes.container(classes=["notes"])
        line = nodes.paragraph("", "", nodes.Text("From "), *listed(topics))
        line += nodes.Text(f". At the end you have {milestone.holds}. ")
        line += nodes.literal("", milestone.shows)
        line += nodes.Text(" shows it.")
        frame += line
        self.set_source_info(frame)
        self.state.nested_parse(self.content, self.content_offset, frame)
        for table in frame.findall(nodes.table):
            spread(table)
        for words, count in ASKED:
            frame += nodes.paragraph("", "", nodes.strong("", words))
            frame += ruled(count=count)
        return [frame]


def spread(table: nodes.table) -> None:
    """Give a table of numbers its widths, and room in its last column."""
    table["classes"].append("colwidths-given")
    for spec, width in zip(table.findall(nodes.colspec), NUMBERS, strict=True):
        spec["colwidth"] = width
    for line in list(table.findall(nodes.row)):
        last = line.children[-1]
        assert isinstance(last, nodes.entry)
        if not last.astext():
            last["classes"].append("to-fill")
            last += nodes.raw("", r"\rule{0pt}{17pt}", format="latex")


def visit_html(self: Any, node: ruled) -> None:
    line = '<hr class="notes-line" aria-hidden="true" />'
    self.body.append(f'<div class="notes-lines">{line * node["count"]}</div>\n')
    raise nodes.SkipNode


def visit_latex(self: Any, node: ruled) -> None:
    self.body.append(f"\n\\bookruled{{{node['count']}}}\n")
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_node(ruled, html=(visit_html, None), latex=(visit_latex, None))
    app.add_directive("milestones", Milestones)
    app.add_directive("notes", Notes)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
