"""Execute a page again when the code, record or model it uses changes.

The notebook cache knows a page by the text of its cells. This extension adds
to the first cell a comment with a digest of all that the page depends on:
the modules it imports, directly or through others, its records, and the
weights of the book's small model.
"""

import ast
import hashlib
import re
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

from press.sources import ROOT, tree_of

MARK = "drawing.setup()"
CELL = re.compile(r"^```\{code-cell\}[^\n]*\n(.*?)^```", re.M | re.S)
RECORD = re.compile(r"drawing\.record\(\s*\"([\w-]+)\"")
RUN = ROOT / "_build" / "runs" / "toytown"


def module_path(name: str) -> Path | None:
    """The file of a module of the library, None for all others."""
    base = ROOT / "src" / Path(*name.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if name.startswith("scratchlm") and path.exists():
            return path
    return None


def imports(tree: ast.AST) -> set[str]:
    """Names of the modules that the code imports."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def closure(names: set[str]) -> set[Path]:
    """The library's files behind `names`, those they import included."""
    done: set[Path] = set()
    todo = {path for name in names if (path := module_path(name))}
    while todo:
        path = todo.pop()
        done.add(path)
        new = {p for n in imports(tree_of(path)) if (p := module_path(n))}
        todo |= new - done
    return done


def dependencies(text: str) -> set[Path]:
    """All files on which the output of a page's cells depends."""
    cells = [re.sub(r"\A---\n.*?^---\n", "", c, flags=re.M | re.S)
             for c in CELL.findall(text)]
    cells = [re.sub(r"^(:\w+:.*|[%!].*)$", "", c, flags=re.M) for c in cells]
    names: set[str] = set()
    for cell in cells:
        try:
            names |= imports(ast.parse(cell))
        except SyntaxError:
            continue
    files = closure(names) | {ROOT / "press" / "drawing.py"}
    files |= {ROOT / f"records/{n}.json" for n in RECORD.findall(text)}
    if "book_run" in text:
        files |= set(RUN.glob("*/model.safetensors"))
    return files


def digest(text: str) -> str:
    """A short hash of everything that a page's output depends on."""
    total = hashlib.sha256()
    for path in sorted(dependencies(text)):
        if path.exists():
            total.update(path.relative_to(ROOT).as_posix().encode())
            total.update(path.read_bytes())
    return total.hexdigest()[:12]


def mark_first_cell(app: Sphinx, docname: str, source: list[str]) -> None:
    """Put the digest behind the first cell's `drawing.setup()`."""
    if MARK in source[0]:
        mark = f"{MARK}  # sources {digest(source[0])}"
        source[0] = source[0].replace(MARK, mark, 1)


def outdated(app: Sphinx, env: Any, *changes: Any) -> list[str]:
    """The pages whose digest is not that of the last build."""
    known = getattr(env, "page_digests", {})
    stale = []
    for name in env.found_docs:
        text = Path(env.doc2path(name)).read_text(encoding="utf-8")
        if MARK not in text:
            continue
        now = digest(text)
        if known.get(name) not in (None, now):
            stale.append(name)
        known[name] = now
    env.page_digests = known
    return stale


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("source-read", mark_first_cell)
    app.connect("env-get-outdated", outdated)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
