"""Below an equation: the line that computes it. Below a listing: the way back.

Both notes come from ``book/equations.yml`` (see `press.equations`).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx

from press import equations
from press.equations import Line
from press.extensions.boxes import reference


def note(*parts: nodes.Node) -> nodes.paragraph:
    """A line of small print of its own."""
    paragraph = nodes.paragraph(classes=["equation-note"])
    small = nodes.inline(classes=["equationnote"])
    small.extend(parts)
    paragraph += small
    return paragraph


def to_equation(label: str) -> addnodes.pending_xref:
    """A reference to an equation by its number."""
    return addnodes.pending_xref(
        "",
        nodes.literal(label, label, classes=["xref", "eq"]),
        refdomain="math",
        reftype="eq",
        reftarget=label,
        refexplicit=False,
        refwarn=True,
    )


def below_equation(lines: list[Line]) -> nodes.paragraph | None:
    """“computed in line 5 of Listing 3.1 and line 9 of Listing 3.2”."""
    names = equations.names()
    parts: list[nodes.Node] = []
    said = ""
    for line in lines:
        name = names.get(line.symbol)
        if name is None:
            continue
        word = equations.WORDS[line.how][0]
        start = "" if not parts else " and " if word == said else "; "
        start += "" if word == said else f"{word} "
        parts.append(nodes.Text(f"{start}line {line.number()} of "))
        parts.append(reference("numref", name, ""))
        said = word
    return note(*parts) if parts else None


def below_listing(lines: list[Line]) -> nodes.paragraph:
    """“Line 5 computes (3.1). Line 6 is there because of (3.2).”."""
    parts: list[nodes.Node] = []
    for line in sorted(lines, key=Line.number):
        space = " " if parts else ""
        word = equations.WORDS[line.how][1]
        parts.append(nodes.Text(f"{space}Line {line.number()} {word} "))
        parts.append(to_equation(line.equation))
        parts.append(nodes.Text("."))
    return note(*parts)


def shown(document: nodes.document) -> Iterator[tuple[nodes.Element, str]]:
    """The listings of a page that bear a name, with their symbols."""
    names = equations.names()
    for block in document.findall(nodes.container):
        symbol = block.get("symbol", "")
        if symbol and names.get(symbol) in block.get("names", []):
            yield block, symbol


def add_notes(app: Sphinx, document: nodes.document) -> None:
    """Put the notes below the equations and the listings of a page."""
    table = equations.table()
    by_symbol: dict[str, list[Line]] = {}
    for line in (line for lines in table.values() for line in lines):
        by_symbol.setdefault(line.symbol, []).append(line)
    for block in list(document.findall(nodes.math_block)):
        lines = table.get(str(block.get("label")), [])
        if (below := below_equation(lines)) is not None:
            put_after(block, below)
    for listing, symbol in list(shown(document)):
        if symbol in by_symbol:
            put_after(listing, below_listing(by_symbol[symbol]))


def put_after(node: nodes.Element, other: nodes.Element) -> None:
    """Insert one node behind a different one."""
    parent = node.parent
    parent.insert(parent.index(node) + 1, other)


def state() -> list[str]:
    """All that the notes say."""
    names = equations.names()
    return [
        f"{line} {line.number()} {names.get(line.symbol)}"
        for lines in equations.table().values()
        for line in lines
    ]


def outdated(app: Sphinx, env: Any, *changes: Any) -> list[str]:
    """The pages with equations and listings, where a note has changed."""
    known, env.equation_notes = getattr(env, "equation_notes", None), state()
    if known in (None, env.equation_notes):
        return []
    return [
        name
        for name in env.found_docs
        if "{listing}" in Path(env.doc2path(name)).read_text(encoding="utf-8")
    ]


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("doctree-read", add_notes)
    app.connect("env-get-outdated", outdated)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
