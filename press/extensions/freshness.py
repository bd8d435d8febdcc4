"""Execute a page again when what it depends on has changed.

The notebook cache knows a page by the text of its cells. This extension puts
a comment in front of the first one, with a digest of all that the outputs
depend on (see `press.dependencies`), and takes it out again before anything is
written.
"""

import re
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

from press.dependencies import (
    CELL,
    OPTIONS,
    executed_digest,
    forget,
    makers,
    page_digest,
)

MARK = re.compile(r"^# sources [0-9a-f]{12}\n", re.M)


def mark_first_cell(app: Sphinx, docname: str, source: list[str]) -> None:
    """Put the digest into the first cell, behind its options."""
    text = source[0]
    if cell := CELL.search(text):
        options = OPTIONS.match(cell[2])
        assert options is not None  # it matches nothing, too
        place = cell.start(2) + options.end()
        mark = f"# sources {executed_digest(text)}\n"
        source[0] = text[:place] + mark + text[place:]


def unmark(app: Sphinx, document: nodes.document) -> None:
    """Readers see the cell as it was written."""
    for block in document.findall(nodes.literal_block):
        text = block.astext()
        if MARK.search(text):
            block.children = []
            block.rawsource = MARK.sub("", text)
            block += nodes.Text(block.rawsource)


def outdated(app: Sphinx, env: Any, *changes: Any) -> list[str]:
    """The pages whose digest is not that of the last build."""
    known = getattr(env, "page_digests", {})
    stale = []
    forget()  # before the pages are read, and before others help to read them
    made_by = makers()
    for name in env.found_docs:
        path = Path(env.doc2path(name))
        now = page_digest(path.read_text(encoding="utf-8"), made_by)
        if known.get(name) not in (None, now):
            stale.append(name)
        known[name] = now
    env.page_digests = known
    return stale


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("source-read", mark_first_cell)
    app.connect("doctree-read", unmark)
    app.connect("env-get-outdated", outdated)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
