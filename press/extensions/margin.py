"""``{margin}``: a short note beside the paragraph that follows it.

On the site it stands in the margin, as the theme has it; in print in the
margin that code and figures use, too, so `book.sty` keeps it clear of them.
Phones and e-readers have no margin: there it follows the paragraph.
"""

from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.docutils import SphinxDirective


class margin_note(nodes.General, nodes.Element):
    """A note in the margin."""


class beside(nodes.General, nodes.Element):
    """A note and its paragraph, on the site."""


class Margin(SphinxDirective):
    """Directive: paragraphs for the margin, without a title."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        self.assert_has_content()
        note = margin_note()
        self.state.nested_parse(self.content, self.content_offset, note)
        self.set_source_info(note)
        return [note]


class BesideParagraph(SphinxPostTransform):
    """Tie a note to its paragraph, so that a phone can show it after that."""

    default_priority = 700
    formats = ("html",)

    def run(self, **kwargs: Any) -> None:
        for note in list(self.document.findall(margin_note)):
            parent = note.parent
            first = last = parent.index(note) + 1
            while isinstance(parent[last], nodes.Invisible | nodes.target):
                last += 1  # an entry of the index, a label
            text = parent[first : last + 1]
            parts = [note, *text]
            if self.app.builder.name == "epub":
                parts = [*text, note]
            parent[first - 1 : last + 1] = [beside("", *parts)]


def visit_beside(self: Any, node: beside) -> None:
    self.body.append(self.starttag(node, "div", CLASS="beside"))


def depart_beside(self: Any, node: beside) -> None:
    self.body.append("</div>\n")


def visit_html(self: Any, node: margin_note) -> None:
    no_margin = self.builder.name == "epub"
    kind = "marginnote" if no_margin else "sidebar margin"
    self.body.append(self.starttag(node, "aside", CLASS=kind))


def depart_html(self: Any, node: margin_note) -> None:
    self.body.append("</aside>\n")


def visit_latex(self: Any, node: margin_note) -> None:
    self.body.append("\n\\begin{bookmarginnote}\n")


def depart_latex(self: Any, node: margin_note) -> None:
    self.body.append("\n\\end{bookmarginnote}\n")


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_node(
        margin_note,
        html=(visit_html, depart_html),
        latex=(visit_latex, depart_latex),
    )
    app.add_node(beside, html=(visit_beside, depart_beside))
    app.add_post_transform(BesideParagraph)
    app.add_directive("margin", Margin, override=True)  # the theme's own
    return {"parallel_read_safe": True, "parallel_write_safe": True}
