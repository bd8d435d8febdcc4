"""Names of earlier editions, with today's: ``renamed`` in the glossary.

Whoever looks for an old name in the index is sent to the new one.
"""

from typing import Any

import yaml
from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from press.files import ROOT

FILE = ROOT / "book" / "renamed.yml"


def renamed() -> list[tuple[str, str]]:
    """Old and new names, as they stand within their modules."""
    names = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    pairs = [(inside(old), inside(new)) for old, new in names.items()]
    return sorted(pairs, key=lambda pair: (pair[0].lower(), pair[1]))


def inside(name: str) -> str:
    """A dotted name without its module, which is its first three words."""
    return ".".join(name.split(".")[3:])


class Renamed(SphinxDirective):
    """Directive: a list of old names, each with its new one."""

    def run(self) -> list[nodes.Node]:
        self.env.note_dependency(str(FILE))
        entries = nodes.definition_list()
        for old, new in renamed():
            label = f"renamed-{len(entries)}"
            entry = ("see", f"{old}; {new}", label, "", None)
            index = addnodes.index(entries=[entry])
            term = nodes.term("", "", nodes.literal(old, old), ids=[label])
            today = nodes.paragraph(
                "", "", index, nodes.Text("now "), nodes.literal(new, new)
            )
            entries += nodes.definition_list_item(
                "", term, nodes.definition("", today)
            )
        self.set_source_info(entries)
        return [entries]


def setup(app: Sphinx) -> dict[str, Any]:
    """Tell Sphinx."""
    app.add_directive("renamed", Renamed)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
