"""``{card}``: a topic on half a page, with links to all that belongs to it.

Everything on it comes from ``roadmap.yml``, the sources, the chapter and the
record of the pages; see `press.cards`. On the site and in the PDF each file
can be taken along; an e-reader can run none of the cells.
"""

import math
from itertools import groupby
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from press.budgets import BUDGETS, Budget, budgets
from press.cards import figures, head, neighbors, symbol
from press.duties import command, sources
from press.estimates import EstimateError, by_budget, money
from press.exports import FOLDER, names
from press.extensions.boxes import (
    box_title,
    depart_box_html,
    depart_box_latex,
    download,
    reference,
)
from press.extensions.exports import RUNS_NOTHING
from press.extensions.listing import source_link
from press.extensions.roadmap_figure import COLORS
from press.files import ROOT
from press.identity import book_roadmap
from press.roadmap import Duty, Roadmap, Topic, course, load, of_edition
from press.sources import find

# Letters of a line, and its height in lines of the book's text, for the idea
# and the rows; the height of a line of code; what a reference gets in print.
IDEA, ROW, CODE = (80, 0.82), (92, 0.74), 0.73
PAGE = " (page 1234)"


class card(nodes.General, nodes.Element):
    """The frame of a topic's card, in the color of its part."""


class card_rows(nodes.General, nodes.Element):
    """The rows below the card's code."""


class card_row(nodes.TextElement):
    """A row: a label, and what it labels."""


def place(topic: str) -> str:
    """The name of a topic's card, for references to it.

    >>> place("attention")
    'card-attention'
    """
    return f"card-{topic}"


class Card(SphinxDirective):
    """Directive: the card of a topic, named by its id."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        if self.arguments[0] not in load().by_id:
            raise self.error(f"no topic {self.arguments[0]} in the roadmap")
        topic = self.edition().by_id.get(self.arguments[0])
        if topic is None:
            return []  # this book is a course, or an edition without it
        frame = card(color=COLORS[topic.part][1].lstrip("#"))
        frame["names"].append(place(topic.id))
        self.state.document.note_explicit_target(frame, frame)
        self.set_source_info(frame)
        title = box_title("", "", reference("ref", topic.id, topic.title))
        title += [nodes.Text(" "), nodes.literal("", topic.id)]
        idea = nodes.paragraph("", "", *self.words(topic.explanation))
        frame += [title, idea]
        frame += self.code(topic)
        rows = card_rows()
        try:
            found = self.rows(topic)
        except (LookupError, EstimateError) as error:
            raise self.error(f"{topic.id}: {error}") from error
        for label, content in found:
            rows += card_row("", "", *content, label=label)
        frame += rows
        frame["lines"] = height(frame)
        return [frame]

    def edition(self) -> Roadmap:
        """The roadmap of what this book has."""
        whole = book_roadmap()
        there = of_edition(whole, self.config.book_track)
        return course(whole, [topic.id for topic in there])

    def words(self, text: str) -> list[nodes.Node]:
        """A text of the roadmap, its Markdown read."""
        inline, messages = self.state.inline_text(text, self.lineno)
        return [*inline, *messages]

    def code(self, topic: Topic) -> nodes.literal_block:
        """The head of the topic's listing."""
        snippet = find(symbol(topic))
        shown = getattr(self.env, "listing_files", {})  # see listing.py
        shown.setdefault(self.env.docname, set()).add(snippet.file)
        self.env.listing_files = shown  # type: ignore[attr-defined]
        text = head(topic)
        block = nodes.literal_block(text, text, language="python")
        self.set_source_info(block)
        return block

    def rows(self, topic: Topic) -> list[tuple[str, list[nodes.Node]]]:
        """The rows of the card: label and content."""
        found = [
            ("Done when", self.words(topic.done)),
            ("Beware", self.words(topic.hazard)),
            ("Tools", self.tools(topic)),
        ]
        if topic.compliance:
            found.append(("Duties", self.duties(topic.compliance)))
        return [
            *found,
            ("Takes", self.takes(topic)),
            *budgeted(topic),
            *gpus(topic),
            *experiment(topic),
            ("Files", self.files(topic)),
            ("Links", self.links(topic)),
        ]

    def tools(self, topic: Topic) -> list[nodes.Node]:
        """What does the job in production, with link and license."""
        line: list[nodes.Node] = []
        for tool in topic.tools:
            line += [nodes.Text("; ")] if line else []
            link = nodes.reference("", tool.name, refuri=tool.url)
            known = nodes.Text(f" ({tool.license}): ")
            line += [link, known, *self.words(tool.use)]
        return [*line, nodes.Text(".")]

    def duties(self, duty: Duty) -> list[nodes.Node]:
        """What is owed, what looks after it, and where it is written."""
        line = self.words(duty.note)
        written = "; ".join(map(str, sources(duty)))
        if run := command(duty):
            line += [nodes.Text(" "), nodes.literal("", run)]
        return [*line, nodes.Text(f" ({written})")] if written else line

    def takes(self, topic: Topic) -> list[nodes.Node]:
        """Time and memory, and how those that stand together are known."""
        line: list[nodes.Node] = []
        for known, group in groupby(figures(topic), lambda x: x.known):
            line += [nodes.Text(" · ")] if line else []
            amounts = ", ".join(f"{x.what} {x.amount}" for x in group)
            line += [nodes.Text(f"{amounts} "), nodes.emphasis("", known)]
        return line

    def files(self, topic: Topic) -> list[nodes.Node]:
        """Downloads: script, notebook, module, tests, check and its command."""
        kinds = ("module", "tests", "check")
        offered = [(kind, topic.files[kind]) for kind in kinds]
        app = self.env.app
        page = topic.files["chapter"]
        if app.builder.name not in RUNS_NOTHING and page in getattr(
            app, "exports", []
        ):
            cells = [FOLDER / name for name in names(page)]
            paths = [path.relative_to(ROOT).as_posix() for path in cells]
            offered = [*zip(("script", "notebook"), paths), *offered]
        line: list[nodes.Node] = []
        for kind, path in offered:
            if not (ROOT / path).exists():
                raise self.error(f"{path} is not there")
            line += [nodes.Text(" · ")] if line else []
            line.append(download(self.env.docname, path, kind))
            line += self.above(topic) if kind == "module" else []
        command = nodes.literal("", f"python -m check {topic.id}")
        return [*line, nodes.Text(": "), command]

    def above(self, topic: Topic) -> list[nodes.Node]:
        """Where in the module the code stands that the card shows."""
        snippet = find(symbol(topic))
        link = source_link(file=snippet.file, line=snippet.first)
        link += nodes.Text(f"line {snippet.first}")
        return [nodes.Text(", "), link]

    def links(self, topic: Topic) -> list[nodes.Node]:
        """Links to the chapter, to the neighbors' cards, and back."""
        line: list[nodes.Node] = [reference("ref", topic.id, "chapter")]
        for words, found in neighbors(topic, self.edition()):
            line.append(nodes.Text(f" · {words.lower()} "))
            for i, name in enumerate(found):
                line += [nodes.Text(", ")] if i else []
                line.append(reference("ref", place(name), name))
        back = reference("ref", "fig-roadmap", "roadmap")
        return [*line, nodes.Text(" · "), back]


def height(frame: card) -> int:
    """About how many lines of the book's text a card takes in print."""
    _, idea, code, rows = frame.children

    def lines(node: nodes.Node, form: tuple[int, float]) -> float:
        letters, high = form
        pages = len(PAGE) * len(list(node.findall(addnodes.pending_xref)))
        return high * math.ceil((len(node.astext()) + pages) / letters)

    parts = [lines(idea, IDEA), *(lines(row, ROW) for row in rows.children)]
    parts += [CODE * (1 + len(code.astext().splitlines()))]
    return math.ceil(2 + sum(parts))


class Prices(SphinxDirective):
    """Directive: the machines of the budgets, with price, source and day."""

    def run(self) -> list[nodes.Node]:
        self.env.note_dependency(str(BUDGETS))
        found = nodes.bullet_list()
        for machine in budgets():
            line = nodes.paragraph("", "", nodes.literal("", machine.id))
            line += nodes.Text(f": {machine.title}, {price(machine)}")
            found += nodes.list_item("", line)
        return [found]


def price(machine: Budget) -> str:
    """What an hour of a machine costs, and who said so on which day.

    >>> price(Budget("cpu", "two cores", 4 * 10**9, gpus=0))
    'counted as free.'
    """
    if not machine.price:
        return "counted as free."
    many = f"{machine.gpus} × " if machine.gpus > 1 else ""
    return (
        f"{many}{machine.card} at {money(machine.price)} an hour "
        f"({machine.source}; {machine.seen})."
    )


def budgeted(topic: Topic) -> list[tuple[str, list[nodes.Node]]]:
    """The row of what a topic's runs take, where it has any."""
    if not topic.runs:
        return []
    many = f"{topic.runs} run{'s' * (topic.runs > 1)}, "
    known = nodes.emphasis("", "estimated")
    row = [nodes.Text(many), known, nodes.Text(f": {by_budget(topic)}")]
    return [("By budget", row)]


def experiment(topic: Topic) -> list[tuple[str, list[nodes.Node]]]:
    """The row with the command of a topic's experiment, where it has one."""
    if not topic.experiment:
        return []
    command = f"python -m check experiment {topic.experiment}"
    return [("Measure", [nodes.literal("", command)])]


def gpus(topic: Topic) -> list[tuple[str, list[nodes.Node]]]:
    """The row that says how many GPUs a topic takes, where it takes any."""
    if not topic.gpus:
        return []
    words = f"{topic.gpus}, to do what the topic is for; "
    return [("GPUs", [nodes.Text(words + "chapter and check run without.")])]


def visit_html(self: Any, node: card) -> None:
    self.body.append(
        self.starttag(
            node,
            "div",
            CLASS="admonition bookbox bookbox-card",
            style=f"--edge: #{node['color']}",
        )
    )


def visit_rows_html(self: Any, node: card_rows) -> None:
    self.body.append('<dl class="card-rows">\n')


def depart_rows_html(self: Any, node: card_rows) -> None:
    self.body.append("</dl>\n")


def visit_row_html(self: Any, node: card_row) -> None:
    self.body.append(f"<dt>{node['label']}</dt><dd>")


def depart_row_html(self: Any, node: card_row) -> None:
    self.body.append("</dd>\n")


def visit_latex(self: Any, node: card) -> None:
    color = node["color"].upper()
    self.body.append(f"\n\\definecolor{{bookcard}}{{HTML}}{{{color}}}%\n")
    self.body.append("\\begin{bookbox}{card}{0}%\n")
    for name in node["ids"]:
        self.body.append(self.hypertarget(name))
    self.body.append("%\n")


def nothing(self: Any, node: card_rows) -> None:
    """In print the rows need no frame of their own."""


def visit_row_latex(self: Any, node: card_row) -> None:
    self.body.append(f"\n\\bookrow{{{node['label']}}}{{")


def depart_row_latex(self: Any, node: card_row) -> None:
    self.body.append("}\n")


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_node(
        card,
        html=(visit_html, depart_box_html),
        latex=(visit_latex, depart_box_latex),
    )
    app.add_node(
        card_rows,
        html=(visit_rows_html, depart_rows_html),
        latex=(nothing, nothing),
    )
    app.add_node(
        card_row,
        html=(visit_row_html, depart_row_html),
        latex=(visit_row_latex, depart_row_latex),
    )
    app.add_directive("card", Card, override=True)  # not sphinx-design's
    app.add_directive("prices", Prices)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
