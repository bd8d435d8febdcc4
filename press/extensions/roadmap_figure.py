"""``{roadmap}``: the topics as a graph whose boxes lead to their cards.

HTML gets an inline SVG, whose boxes can be reached by keyboard and have names
for screen readers, and what ``roadmap.js`` has to know to filter them and to
mark what is done; the PDF gets the drawing with a link laid over each box,
since Graphviz writes no links into its PDF. Where the page of the cards is
not built, a box leads to its chapter.
"""

import html
import json
import re
import subprocess
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import networkx as nx
from docutils import nodes
from docutils.parsers.rst import directives
from lxml import etree
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.docutils import SphinxDirective

from press.budgets import BUDGETS, budgets
from press.effort import RECORD
from press.files import ROOT
from press.identity import book_roadmap
from press.pdf import timeless
from press.plan import minutes
from press.roadmap import TRACKS, Topic, of_edition

COLORS = {  # part → fill, edge
    "first": ("#e4eef7", "#1f6fb2"),
    "text": ("#fbeede", "#d97a12"),
    "model": ("#e2f2ee", "#1a8a6b"),
    "data": ("#f3efdc", "#8a7420"),
    "training": ("#f0e9f5", "#7b4f9d"),
    "generation": ("#f8e6e3", "#b8412f"),
    "evaluation": ("#eaedf0", "#5f6b76"),
    "tuning": ("#f6e6ef", "#a8447f"),
    "serving": ("#e2f0f3", "#23788c"),
}
SVG = "http://www.w3.org/2000/svg"
XLINK = "http://www.w3.org/1999/xlink"
FACTS = '<script type="application/json" class="roadmap-facts">%s</script>'
ROOM = 44  # letters in a row of boxes, so that the column is wide enough


class roadmap_node(nodes.General, nodes.Element):
    """The graph, until it is known for which format."""


class Drawing(SphinxDirective):
    """What the directives have in common that draw topics: the figure."""

    required_arguments = 1
    final_argument_whitespace = True
    option_spec = {
        "name": directives.unchanged,
        "alt": directives.unchanged_required,
        "track": lambda word: directives.choice(word, TRACKS),
    }

    def framed(self, graph: str) -> list[nodes.Node]:
        """The figure of a graph in DOT, with its caption and its name."""
        self.env.note_dependency(str(ROOT / "roadmap.yml"))
        figure = nodes.figure()
        figure += roadmap_node(dot=graph, alt=self.options.get("alt", ""))
        inline, messages = self.state.inline_text(
            self.arguments[0], self.lineno
        )
        figure += nodes.caption("", "", *inline)
        self.set_source_info(figure)
        self.add_name(figure)
        return [figure, *messages]


class RoadmapFigure(Drawing):
    """Directive: the whole roadmap, or one track's with ``:track:``."""

    def run(self) -> list[nodes.Node]:
        edition = self.config.book_track
        track = self.options.get("track", edition)
        for path in (BUDGETS, RECORD):
            self.env.note_dependency(str(path))
        drawn = self.framed(draw(track, edition))
        topics = of_edition(book_roadmap(), edition)
        for node in drawn[0].findall(roadmap_node):
            node["facts"] = facts(topics)
            node["key"] = key([t for t in topics if is_drawn(t, track)])
        return drawn


class PlanTable(SphinxDirective):
    """Directive: the topics of a track in order, with depth and hours."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        track = directives.choice(self.arguments[0], TRACKS)
        self.env.note_dependency(str(ROOT / "roadmap.yml"))
        topics = of_edition(book_roadmap(), self.config.book_track)
        topics = [t for t in topics if t.tracks[track] != "skim"]
        hours = 0.0
        rows = [["Topic", "What you will have", "Depth", "Hours"]]
        for topic in topics:
            hours += minutes(topic, track) / 60
            rows.append(
                [
                    topic.id,
                    topic.gives,
                    topic.tracks[track],
                    f"{hours:.1f}",
                ]
            )
        return [table(rows, (32, 42, 15, 11))]


def table(rows: list[list[str]], widths: tuple[int, ...]) -> nodes.table:
    """A table whose first column names topics; the first row is the head."""
    from press.extensions.boxes import reference

    group = nodes.tgroup(cols=len(widths))
    for width in widths:
        group += nodes.colspec(colwidth=width)
    head, body = nodes.thead(), nodes.tbody()
    for i, cells in enumerate(rows):
        row = nodes.row()
        for j, cell in enumerate(cells):
            text = nodes.paragraph()
            link = i and not j
            text += reference("ref", cell, "") if link else nodes.Text(cell)
            if link:
                text += [nodes.Text(" "), nodes.literal("", cell)]
            row += nodes.entry("", text)
        (body if i else head).append(row)
    group += [head, body]
    return nodes.table("", group, classes=["colwidths-given", "longtable"])


def facts(topics: Sequence[Topic]) -> str:
    """What a browser has to know of the topics and the machines, as JSON.

    It stands within a page, so that no `<` may be in it.
    """
    machines = budgets()
    known = {
        "budgets": {machine.id: machine.title for machine in machines},
        "topics": [
            {
                "id": topic.id,
                "title": topic.title,
                "tracks": topic.tracks,
                "lacks": {m.id: m.lacks(topic) for m in machines},
            }
            for topic in topics
        ],
    }
    return json.dumps(known, ensure_ascii=False).replace("<", "\\u003c")


def draw(track: str, edition: str = "") -> str:
    """The roadmap in DOT; optional topics of a track are dashed.

    A box has the topic's name, since titles would not fit on a page. An
    edition for one track shows what it has.
    """
    out = [
        "digraph roadmap { rankdir=TB; nodesep=0.04; ranksep=0.14; margin=0;",
        'pad=0.02; bgcolor="transparent";',
        'node [shape=box, style="rounded,filled", fontname="DejaVu Sans",'
        ' fontsize=8.5, width=0.2, height=0.2, margin="0.06,0.03"];',
        'edge [color="#5f6b76", arrowsize=0.5];',
    ]
    topics = of_edition(book_roadmap(), edition)
    shown = {t.id for t in topics if is_drawn(t, track)}
    for topic in topics:
        if topic.id not in shown:
            continue
        out.append(box(topic, track))
    out += [f"{a} -> {b};" for a, b in arrows(topics, shown)]
    rows = in_rows([topic for topic in topics if topic.id in shown])
    out += ["{rank=same; " + "; ".join(row) + "}" for row in rows]
    heads = [row[0] for row in rows]
    out += [f"{a} -> {b} [style=invis];" for a, b in pairwise(heads)]
    return "\n".join([*out, "}"])


def box(topic: Topic, track: str, more: str = "") -> str:
    """A topic's box in DOT, with `more` attributes; optional ones dashed."""
    fill, edge = COLORS[topic.part]
    style = "rounded,filled"
    if track and topic.tracks[track] == "optional":
        style += ",dashed"
    return (
        f'{topic.id} [tooltip="{topic.title}", fillcolor="{fill}", '
        f'color="{edge}", style="{style}", ref="{topic.id}"{more}];'
    )


def is_drawn(topic: Topic, track: str) -> bool:
    """Whether the roadmap of a track has a box for the topic."""
    return not track or topic.tracks[track] != "skim"


def key(topics: Iterable[Topic]) -> list[tuple[str, str, str]]:
    """The parts that some topics belong to, in the order of the book.

    Each has its title, and what its boxes are filled and framed with.
    """
    there = {topic.part for topic in topics}
    parts = book_roadmap().parts.items()
    return [(title, *COLORS[part]) for part, title in parts if part in there]


def key_in_html(parts: Iterable[tuple[str, str, str]]) -> str:
    """What the colors mean, as a list."""
    lines = [
        f'<li style="background: {fill}; border-color: {edge}">'
        f"{html.escape(title)}</li>"
        for title, fill, edge in parts
    ]
    return f'<ul class="roadmap-key">{"".join(lines)}</ul>'


def key_in_tex(parts: Iterable[tuple[str, str, str]]) -> str:
    """What the colors mean, in print: one framed word after the other."""
    words = [
        rf"\bookkey{{{edge[1:].upper()}}}{{{fill[1:].upper()}}}{{{title}}}"
        for title, fill, edge in parts
    ]
    return rf"{{\centering {' '.join(words)}\par}}"


def in_rows(topics: Sequence[Topic], room: int = ROOM) -> list[list[str]]:
    """Each topic below its needs, in the first row that has room for it.

    Left alone, Graphviz makes a row as wide as it has topics, and what is
    too wide for the page is printed with letters that are too small.
    """
    rows: list[list[str]] = []
    place: dict[str, int] = {}
    for topic in topics:  # needs come first
        at = 1 + max((place.get(n, -1) for n in topic.requires), default=-1)
        while at < len(rows) and letters([*rows[at], topic.id]) > room:
            at += 1
        rows += [[] for _ in range(at + 1 - len(rows))]
        rows[at].append(topic.id)
        place[topic.id] = at
    return rows


def letters(row: Sequence[str]) -> int:
    """How wide a row of boxes is: names, and two letters for each frame."""
    return sum(len(name) + 2 for name in row)


def arrows(topics: Iterable[Topic], shown: set[str]) -> list[tuple[str, str]]:
    """What is needed for what, without the needs of a need."""
    needs = nx.DiGraph()
    needs.add_nodes_from(t.id for t in topics if t.id in shown)
    for topic in topics:
        pairs = ((need, topic.id) for need in topic.requires)
        needs.add_edges_from(p for p in pairs if shown.issuperset(p))
    return sorted(nx.transitive_reduction(needs).edges)


def dot(source: str, form: str) -> bytes:
    """Lay the graph out with Graphviz."""
    try:
        run = subprocess.run(
            ["dot", "-T" + form],
            input=source.encode(),
            capture_output=True,
            check=True,
        )
    except FileNotFoundError as error:
        raise ExtensionError("the roadmap needs Graphviz (dot)") from error
    return run.stdout


class ResolveRoadmap(SphinxPostTransform):
    """Draw each graph for the format that is being written."""

    default_priority = 8

    def run(self, **kwargs: Any) -> None:
        for node in list(self.document.findall(roadmap_node)):
            form = self.app.builder.format
            if form == "html":
                text = self.svg(node) + key_in_html(node.get("key", []))
                if "facts" in node and self.app.builder.name == "html":
                    text += FACTS % node["facts"]
                node.replace_self(nodes.raw("", text, format=form))
            elif form == "latex":
                text = self.tex(node) + key_in_tex(node.get("key", []))
                node.replace_self(nodes.raw("", text, format=form))

    def place(self, name: str) -> tuple[str, str] | None:
        """Page and anchor of a topic's card; None where neither is built.

        Without the card it is that of the chapter.
        """
        labels = self.env.get_domain("std").anonlabels  # type: ignore
        return labels.get(f"card-{name}", labels.get(name))

    def svg(self, node: roadmap_node) -> str:
        """Inline SVG in which each box links to its card."""

        def url(match: re.Match[str]) -> str:
            where = self.place(match[1])
            if where is None:
                return ""
            uri = self.app.builder.get_relative_uri(self.env.docname, where[0])
            return f'URL="{uri}#{where[1]}", target="_top"'

        source = re.sub(r'ref="([^"]+)"', url, node["dot"])
        return spoken(dot(source, "svg").decode(), node["alt"])

    def tex(self, node: roadmap_node) -> str:
        """The drawing, and over each box a link to its card."""
        name = f"roadmap-{abs(hash_text(node['dot'])):x}.pdf"
        (Path(self.app.outdir) / name).write_bytes(
            timeless(dot(node["dot"], "pdf"))
        )
        graph = json.loads(dot(node["dot"], "json0"))
        left, bottom, right, top = map(float, graph["bb"].split(","))
        width, height = right - left, top - bottom
        # Printed at its own size: the width of the column for code.
        out = [
            r"\begin{tikzpicture}\node[inner sep=0](m)"
            r"{\includegraphics{%s}};" % name,
        ]
        for item in graph["objects"]:
            where = self.place(item["ref"]) if "ref" in item else None
            if where is None:
                continue
            x, y = map(float, item["pos"].split(","))
            out.append(
                r"\node[inner sep=0] at ($(m.center)+(%.1fbp,%.1fbp)$)"
                r"{\hyperref[\detokenize{%s:%s}]{\XeTeXLinkBox{"
                r"\phantom{\rule{%.1fbp}{%.1fbp}}}}};"
                % (
                    x - width / 2,
                    y - height / 2,
                    *where,
                    72 * float(item["width"]),
                    72 * float(item["height"]),
                )
            )
        out.append(r"\end{tikzpicture}\par")
        return "\n".join(out)


def spoken(svg: str, alt: str) -> str:
    """Graphviz's SVG for a page, with words for those who cannot see it.

    The drawing is a group of links: each has the topic's title as its name,
    and a keyboard reaches them in reading order, the order of the boxes. The
    arrows are silent, since the cards say what a topic needs.
    """
    root = etree.fromstring(svg.encode())
    for size in ("width", "height"):
        root.attrib.pop(size, None)
    words = {"class": "roadmap", "role": "group", "aria-label": alt}
    root.attrib.update(words)
    groups = list(root.iter(f"{{{SVG}}}g"))
    for group in sorted((g for g in groups if is_box(g)), key=number):
        group.getparent().append(group)
    for group in groups:
        title = group.find(f"{{{SVG}}}title")
        if title is not None:
            group.remove(title)
        if group.get("class") == "edge":
            group.set("aria-hidden", "true")
    for link in root.iter(f"{{{SVG}}}a"):
        link.set("aria-label", link.attrib.pop(f"{{{XLINK}}}title"))
    for part in root.iter("*"):  # a page may have several drawings
        part.attrib.pop("id", None)
    return etree.tostring(root, encoding="unicode")


def is_box(group: Any) -> bool:
    """Whether a group of Graphviz's SVG is a box."""
    return str(group.get("class")) == "node"


def number(group: Any) -> int:
    """The place of a box among all that the graph defines."""
    return int(str(group.get("id")).removeprefix("node"))


def hash_text(text: str) -> int:
    """A hash that is the same in every process."""
    from zlib import crc32

    return crc32(text.encode())


def add_script(
    app: Sphinx, page: str, template: str, context: Any, doctree: Any
) -> None:
    """Give the pages with boxes to mark the script that marks them."""
    if app.builder.name != "html" or doctree is None:
        return
    from press.extensions.cards import card

    shown = 'class="roadmap-facts"' in context.get("body", "")
    if shown or next(iter(doctree.findall(card)), None) is not None:
        app.add_js_file("roadmap.js", loading_method="defer")


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_node(roadmap_node)
    app.add_directive("roadmap", RoadmapFigure)
    app.add_directive("plan", PlanTable)
    app.add_post_transform(ResolveRoadmap)
    app.connect("html-page-context", add_script)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
