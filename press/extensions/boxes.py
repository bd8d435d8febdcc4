"""The book's boxes: topic cards, checks, exercises, pitfalls and others."""

import math
from itertools import islice
from typing import Any

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from press import checks
from press.effort import effort
from press.files import ROOT
from press.roadmap import TRACKS, Topic, load, of_edition

LOG = logging.getLogger(__name__)
GRADES = {"0": "· minutes", "1": "①", "2": "②", "3": "③"}  # by its hours
KINDS = {  # kind → what stands before the author's title
    "pitfall": "Pitfall",
    "production": "In production",
    "security": "Security",
    "cost": "Cost",
    "aside": "",
}
LINE = 74  # letters of a box's line in print
HEADING = 4  # lines of a section's heading, with the space about it
SOLUTION = 10  # lines that must be free where a solution begins
TEXT = 8  # of it, or of an exercise, if it begins with text: that is split
SPLIT = 11  # lines of a box that may go on on the next page


class box(nodes.General, nodes.Element):
    """A frame with a title and a kind that gives it its color."""


class exercise(nodes.General, nodes.Element):
    """A numbered exercise; its number is the same in every format."""


class box_title(nodes.TextElement):
    """The title line of a box or an exercise."""


class Box(SphinxDirective):
    """Directive: a box of the kind by whose name it is called."""

    has_content = True
    optional_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        words = [KINDS[self.name], *self.arguments]
        line = ": ".join(word for word in words if word)
        frame = box(kind=self.name)
        inline, messages = self.state.inline_text(line, self.lineno)
        frame += box_title(line, "", *inline)
        self.state.nested_parse(self.content, self.content_offset, frame)
        self.set_source_info(frame)
        return [frame, *messages]


class Exercise(SphinxDirective):
    """Directive: an exercise with a name, a grade and a link to its answer."""

    has_content = True
    required_arguments = 1
    final_argument_whitespace = True
    option_spec = {
        "name": directives.unchanged_required,
        "hours": lambda word: directives.choice(word, tuple(GRADES)),
    }

    def run(self) -> list[nodes.Node]:
        title, name = self.arguments[0], self.options["name"]
        node = exercise(title=title)
        self.set_source_info(node)
        self.add_name(node)
        inline, messages = self.state.inline_text(title, self.lineno)
        head = box_title(title, "", *inline)
        head += nodes.Text(" " + GRADES[self.options.get("hours", "1")])
        node += head
        self.state.nested_parse(self.content, self.content_offset, node)
        env: Any = self.env
        answers = getattr(env, "exercises", {})
        answers[name] = (env.docname, title)
        env.exercises = answers
        return [node, *messages]


class Solution(SphinxDirective):
    """Directive: the head of an exercise's solution, linked to it."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        name = self.arguments[0]
        env: Any = self.env
        solved = getattr(env, "solutions", {})
        solved[name] = env.docname
        env.solutions = solved
        head = nodes.rubric()
        head += nodes.Text("Solution of ")
        head += reference("numref", name, "")
        self.set_source_info(head)
        return [room(SOLUTION), head]


def room(lines: int, how: str = "needspace") -> nodes.raw:
    """In print: a new page, unless there is room for so many lines."""
    need = f"\\{how}{{{lines}\\baselineskip}}\n"
    return nodes.raw("", need, format="latex", classes=["room"])


def needed(node: nodes.Node) -> int:
    """The lines that must be free where this begins, in print; 0 for text.

    A box wants to be whole. A long one is split, but not before its code.
    """
    assert isinstance(node, nodes.Element)
    if "room" in node["classes"]:  # a solution: its head, then what it says
        after = node.findall(include_self=False, descend=False, siblings=True)
        first = next(islice(after, 1, None), None)
        return TEXT if isinstance(first, nodes.paragraph) else SOLUTION
    if "lines" in node:  # it has counted them itself
        return int(node["lines"])
    if isinstance(node, exercise):
        return TEXT
    if not isinstance(node, box):
        return 0
    lines = 2.0  # the title and the edges
    for child in node.children[1:]:
        text = child.astext()
        if isinstance(child, nodes.literal_block):
            lines += 2 + 0.8 * len(text.splitlines())
        else:
            lines += 0.5 + math.ceil(len(text) / LINE)
    coded = any(isinstance(n, nodes.literal_block) for n in node.children[:2])
    return math.ceil(min(lines, 2 * SPLIT if coded else SPLIT))


def reference(role: str, target: str, text: str) -> addnodes.pending_xref:
    """A reference that Sphinx resolves once it knows all pages."""
    xref = addnodes.pending_xref(
        "",
        nodes.inline(text, text),
        refdomain="std",
        reftype=role,
        reftarget=target,
        refexplicit=bool(text),
        refwarn=True,
    )
    return xref


def download(docname: str, path: str, name: str) -> nodes.Node:
    """A link to a file of the repository; in print, it is attached."""
    return addnodes.download_reference(
        "",
        "",
        nodes.literal("", name),
        refdoc=docname,
        reftarget="/" + path,
        refdomain="",
        reftype="download",
        refexplicit=True,
        refwarn=True,
    )


class Check(SphinxDirective):
    """Directive: the check of a topic, with the command and its output."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        topic = load().by_id.get(self.arguments[0])
        if topic is None:
            raise self.error(f"no topic {self.arguments[0]} in the roadmap")
        frame = box(kind="check")
        frame += box_title("", "Check: is yours right?")
        text = "python -m check " + topic.id
        output = f"$ {text}\n{self.output(topic)}\n"
        block = nodes.literal_block(output, output, language="text")
        self.set_source_info(block)
        frame += block
        return [frame]

    def output(self, topic: Topic) -> str:
        """What the check prints; a warning, and all of it, where it fails."""
        try:
            return checks.output(topic)
        except checks.CheckFailed as failure:
            LOG.warning(
                "the check of %s fails:\n%s",
                topic.id,
                failure,
                location=self.get_location(),
            )
            return str(failure)


class TopicCard(SphinxDirective):
    """Directive: what a topic needs, gives and takes, and where it lives."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        topic = load().by_id.get(self.arguments[0])
        if topic is None:
            raise self.error(f"no topic {self.arguments[0]} in the roadmap")
        frame = box(kind="topic")
        line = nodes.paragraph()
        there = {t.id for t in of_edition(load(), self.config.book_track)}
        if needs := [name for name in topic.requires if name in there]:
            line += nodes.strong("", "You need ")
            for i, need in enumerate(needs):
                if i:
                    line += nodes.Text(", ")
                line += reference("ref", need, "")
            line += nodes.Text(". ")
        line += nodes.strong("", "You will have ")
        line += nodes.Text(f"{topic.gives}. ")
        line += nodes.strong("", "It takes ")
        minutes = effort(topic, self.config.book_track).minutes
        line += nodes.Text(
            f"about {minutes} minutes, with its short exercises."
        )
        frame += line
        frame += self.files(topic)
        depth = " · ".join(f"{t} {topic.tracks[t]}" for t in TRACKS)
        frame += nodes.paragraph("", "", nodes.Text(f"Tracks: {depth}."))
        return [frame]

    def files(self, topic: Topic) -> nodes.paragraph:
        """Downloads of the module, its tests and its check."""
        line = nodes.paragraph("", "", nodes.Text("Files: "))
        for i, kind in enumerate(("module", "tests", "check")):
            path = topic.files[kind]
            if i:
                line += nodes.Text(", ")
            if not (ROOT / path).exists():
                raise self.error(f"{path} is not there")
            short = path.removeprefix("src/")
            line += download(self.env.docname, path, short)
        line += nodes.Text(".")
        return line


def visit_box_html(self: Any, node: box) -> None:
    kind = f"admonition bookbox bookbox-{node['kind']}"
    self.body.append(self.starttag(node, "div", CLASS=kind))


def depart_box_html(self: Any, node: nodes.Element) -> None:
    self.body.append("</div>\n")


def visit_exercise_html(self: Any, node: exercise) -> None:
    start = self.starttag(node, "div", CLASS="admonition bookbox exercise")
    self.body.append(start)


def visit_title_html(self: Any, node: box_title) -> None:
    self.body.append('<p class="admonition-title">')
    if isinstance(node.parent, exercise):
        self.add_fignumber(node.parent)


def depart_title_html(self: Any, node: box_title) -> None:
    self.body.append("</p>\n")


def visit_box_latex(self: Any, node: box) -> None:
    form = "\n\\begin{bookbox}{%s}{%d}\n"
    self.body.append(form % (node["kind"], needed(node)))


def depart_box_latex(self: Any, node: box) -> None:
    self.body.append("\n\\end{bookbox}\n")


def visit_exercise_latex(self: Any, node: exercise) -> None:
    self.body.append("\n\\begin{bookexercise}")
    for name in node["ids"]:
        self.body.append(self.hypertarget(name, anchor=False))
    self.body.append("%\n")


def depart_exercise_latex(self: Any, node: exercise) -> None:
    self.body.append("\n\\end{bookexercise}\n")


def visit_title_latex(self: Any, node: box_title) -> None:
    numbered = isinstance(node.parent, exercise)
    self.body.append("\\exercisetitle{" if numbered else "\\boxtitle{")


def depart_title_latex(self: Any, node: box_title) -> None:
    self.body.append("}\n\n")


def exercise_title(node: nodes.Node) -> str:
    """What `numref` may use as the name of an exercise."""
    assert isinstance(node, nodes.Element)
    return str(node["title"])


def keep_heads(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """In print a section's heading stays with the box that follows it."""
    if app.builder.format != "latex":
        return
    for section in list(doctree.findall(nodes.section)):
        content = [n for n in section if not isinstance(n, nodes.Invisible)]
        if len(content) > 1 and (lines := needed(content[1])):
            parent, place = above(section)
            how = "bookneed" if "lines" in content[1] else "needspace"
            parent.insert(place, room(HEADING + lines, how))


def above(section: nodes.section) -> tuple[nodes.Element, int]:
    """The place in front of a section and of its names, which stay with it.

    Where another section is before it, the names are that one's last nodes.
    """
    parent, place = section.parent, section.parent.index(section)
    while place and isinstance(parent[place - 1], nodes.target | nodes.section):
        if isinstance(parent[place - 1], nodes.target):
            place -= 1
        else:
            parent = parent[place - 1]
            place = len(parent)
    return parent, place


def forget(app: Sphinx, env: Any, docname: str) -> None:
    for table in ("exercises", "solutions"):
        known = getattr(env, table, {})
        for name in [k for k, v in known.items() if docname in v]:
            del known[name]


def merge(app: Sphinx, env: Any, names: Any, other: Any) -> None:
    for table in ("exercises", "solutions"):
        known = getattr(env, table, {})
        known.update(getattr(other, table, {}))
        setattr(env, table, known)


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_node(
        box,
        html=(visit_box_html, depart_box_html),
        latex=(visit_box_latex, depart_box_latex),
    )
    app.add_node(
        box_title,
        html=(visit_title_html, depart_title_html),
        latex=(visit_title_latex, depart_title_latex),
    )
    app.add_enumerable_node(
        exercise,
        "exercise",
        exercise_title,
        html=(visit_exercise_html, depart_box_html),
        latex=(visit_exercise_latex, depart_exercise_latex),
    )
    for kind in KINDS:
        app.add_directive(kind, Box, override=True)
    app.add_directive("exercise", Exercise)
    app.add_directive("solution", Solution)
    app.add_directive("check", Check)
    app.add_directive("topic", TopicCard)
    app.connect("doctree-resolved", keep_heads)
    app.connect("env-purge-doc", forget)
    app.connect("env-merge-info", merge)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
