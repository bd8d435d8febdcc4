"""Each page's code to take away: ``cells_ID.py`` and ``cells_ID.ipynb``.

Both hold what is printed and nothing else: the cells in their order, the
headings above them, and the paragraph that leads to each, where it can stand
alone. A notebook shows the value of a cell's last expression; a script has
to print it. The same page gives the same bytes.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import jupytext
import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from press.edition import edition
from press.files import ROOT, write_changed
from press.gates.pages import Page, Passage
from press.gates.typed import SOLUTIONS, is_printed

FOLDER = ROOT / "_build" / "cells"
KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}
SILENT = {"print", "dis", "close", "zero_grad"}  # they return nothing
NOTE = (
    "The cells of a chapter of *{book}*, as they are printed there. They need "
    "the library, `scratchlm`, and where a cell imports it, `compliance`; "
    "the page *Setting up* says how to get both."
)


@dataclass(frozen=True)
class Part:
    """A piece of a page that is taken along: words, or code."""

    kind: str  # heading, words, code
    text: str
    level: int = 0


def plain(passage: Passage) -> str:
    """A paragraph as Markdown; empty, if it needs the page around it."""
    words = []
    for piece in passage.pieces:
        if piece.kind == "text":
            words.append(piece.text)
        elif piece.kind == "break":
            words.append(" ")
        elif piece.kind == "code":
            words.append(f"`{piece.text}`")
        elif piece.kind == "math":
            words.append(f"${piece.text}$")
        elif piece.role in ("term", "claim"):
            words.append(piece.text.partition(" <")[0])
        elif not piece.role.startswith("cite"):
            return ""  # a value, a number, a place elsewhere
    text = " ".join("".join(words).split())
    return re.sub(r" ([.,:;])(?=\s|$)", r"\1", text)  # a citation is gone


def parts(page: Page) -> Iterator[Part]:
    """What a page's exports hold, in order; nothing, without a cell.

    Solutions are not exported: each has its module in the repository.
    """
    cells = [b for b in page.named("code-cell") if is_printed(b)]
    if not cells or page.name.startswith(SOLUTIONS):
        return
    levels = {
        (token.map or [0])[0] + 1: int(token.tag[1:])
        for token in page.parts[2]
        if token.type == "heading_open"
    }
    marks = [p for p in page.passages if p.kind in ("heading", "paragraph")]
    pending: dict[int, Part] = {}  # headings without a cell so far
    last = 0
    for cell in sorted(cells, key=lambda block: block.line):
        before = [p for p in marks if last < p.line < cell.line]
        for passage in before:
            if passage.kind == "heading":
                level = levels.get(passage.line, 2)
                pending = {k: v for k, v in pending.items() if k < level}
                pending[level] = Part("heading", plain(passage), level)
        yield from pending.values()
        pending = {}
        lead = before[-1] if before else None
        if lead and lead.kind == "paragraph" and not lead.box and plain(lead):
            yield Part("words", plain(lead))
        yield Part("code", cell.body.strip("\n"))
        last = cell.line


def without_value(tree: ast.Module) -> set[str]:
    """The functions of some code that return nothing."""
    return {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
        and not any(
            isinstance(part, ast.Return | ast.Yield) for part in ast.walk(node)
        )
    }


def printing(code: str, silent: set[str]) -> str:
    """A cell's code for a script: the last value is printed.

    >>> printing("x = 1\\nx + 1  # two", set())
    'x = 1\\nprint(x + 1)  # two'
    >>> printing("x = 1\\nx;", set())
    'x = 1\\nx;'
    """
    body = ast.parse(code).body
    last = body[-1] if body else None
    if not isinstance(last, ast.Expr):
        return code
    if isinstance(last.value, ast.Call):
        called = last.value.func
        name = getattr(called, "attr", None) or getattr(called, "id", "")
        if name in silent | SILENT:
            return code
    lines = code.encode().split(b"\n")
    end = (last.end_lineno or 0) - 1, last.end_col_offset or 0
    if lines[end[0]][end[1] :].lstrip().startswith(b";"):
        return code
    first = last.lineno - 1, last.col_offset
    for (line, at), word in ((end, b")"), (first, b"print(")):
        lines[line] = lines[line][:at] + word + lines[line][at:]
    return b"\n".join(lines).decode()


def notebook(page: Page) -> nbformat.NotebookNode | None:
    """A page's printed cells as a notebook; None, if there is none."""
    found = list(parts(page))
    if not found:
        return None
    cells: list[nbformat.NotebookNode] = []
    for part in found:
        name = f"cell-{len(cells)}"
        text = f"{'#' * part.level} {part.text}".strip()
        if part.level == 1:
            text += "\n\n" + NOTE.format(book=edition().title)
        if part.kind == "code":
            cells.append(new_code_cell(part.text, id=name))
        elif cells and cells[-1].cell_type == "markdown":
            cells[-1].source += f"\n\n{text}"
        else:
            cells.append(new_markdown_cell(text, id=name))
    made = new_notebook(cells=cells, metadata={"kernelspec": KERNEL})
    nbformat.validate(made)
    return made


def script(made: nbformat.NotebookNode) -> str:
    """A notebook as a script, its words as comments."""
    code = [c for c in made.cells if c.cell_type == "code"]
    silent = without_value(ast.parse("\n".join(c.source for c in code)))
    cells = [
        new_code_cell(printing(c.source, silent), id=c.id)
        if c.cell_type == "code"
        else c
        for c in made.cells
    ]
    bare = new_notebook(cells=cells)
    bare.metadata["jupytext"] = {"notebook_metadata_filter": "-all"}
    text = jupytext.writes(bare, fmt="py:percent")
    return re.sub(r"(?m)^(# .{78,})$", wrapped, text)


def wrapped(found: re.Match[str]) -> str:
    """A comment that is too long for a line, on several."""
    lines, line = [], "#"
    for word in found[1].split()[1:]:
        if len(line) + 1 + len(word) > 80:
            lines.append(line)
            line = "#"
        line += f" {word}"
    return "\n".join([*lines, line])


def names(name: str) -> list[str]:
    """Where the exports of a page lie, below the folder of all.

    >>> names("book/model/attention.md")
    ['model/cells_attention.py', 'model/cells_attention.ipynb']
    """
    path = Path(name).relative_to("book")
    return [
        (path.parent / f"cells_{path.stem}{suffix}").as_posix()
        for suffix in (".py", ".ipynb")
    ]


def export(root: Path = ROOT, folder: Path = FOLDER) -> list[str]:
    """Write the exports of all pages; returns the pages that have some."""
    found = []
    for path in sorted((root / "book").rglob("*.md")):
        name = path.relative_to(root).as_posix()
        made = notebook(Page(path, name, path.read_text(encoding="utf-8")))
        if made is None:
            continue
        texts = (script(made), nbformat.writes(made) + "\n")
        for short, text in zip(names(name), texts):
            (folder / short).parent.mkdir(parents=True, exist_ok=True)
            write_changed(folder / short, text)
        found.append(name)
    return found


if __name__ == "__main__":
    print("\n".join(export()))
