"""``{live}``: words that lead to the page in which the book's model runs.

`press.build` writes that page into the site, from the run that the book was
built with. Paper and e-readers have no such page; there the words stand alone.
"""

from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxRole

from press.web import MODEL_PAGE


class live_link(nodes.inline):
    """A link on the site, and plain words elsewhere."""


class Live(SphinxRole):
    """Role: the words of the link."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        link = live_link()
        link += nodes.Text(self.text)
        return [link], []


def visit_html(self: Any, node: live_link) -> None:
    if self.builder.name != "html":
        self.body.append("<span>")
        return
    here = self.builder.current_docname
    address = self.builder.get_relative_uri(here, MODEL_PAGE)
    self.body.append(f'<a class="reference internal" href="{address}">')


def depart_html(self: Any, node: live_link) -> None:
    self.body.append("</a>" if self.builder.name == "html" else "</span>")


def nothing(self: Any, node: live_link) -> None:
    """Neither paper nor plain text can run a script."""


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_node(
        live_link,
        html=(visit_html, depart_html),
        latex=(nothing, nothing),
        text=(nothing, nothing),
    )
    app.add_role("live", Live())
    return {"parallel_read_safe": True, "parallel_write_safe": True}
