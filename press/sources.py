"""Find definitions in the sources by name.

`scratchlm.serving.browser.js.softmax` is a function of `browser.js`, which
lies beside `browser.py`; `….js.normalize-softmax` is all between the two.
"""

import ast
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from press.files import ROOT

ROOTS = {"scratchlm": ROOT / "src", "solutions": ROOT, "compliance": ROOT}
Definition = ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Snippet:
    """Lines `first` to `last` (from 1) of the file at `path`."""

    path: Path
    first: int
    last: int

    @property
    def file(self) -> str:
        """The path from the repository's root."""
        return self.path.relative_to(ROOT).as_posix()

    @property
    def text(self) -> str:
        """The lines, without the indentation that they share."""
        lines = self.path.read_text(encoding="utf-8").splitlines()
        lines = lines[self.first - 1 : self.last]
        margin = min(len(x) - len(x.lstrip()) for x in lines if x.strip())
        return "\n".join(line[margin:] for line in lines) + "\n"


@lru_cache(maxsize=256)
def parse(path: Path, stamp: int) -> ast.Module:
    """The file's syntax tree; `stamp` (its change time) keys the cache."""
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def tree_of(path: Path) -> ast.Module:
    """The syntax tree of the file as it is now."""
    return parse(path, path.stat().st_mtime_ns)


def split_symbol(symbol: str) -> tuple[Path, list[str]]:
    """The file and the names inside it that a dotted symbol means."""
    names = symbol.split(".")
    if names[0] not in ROOTS:
        raise LookupError(f"{symbol} does not begin with {set(ROOTS)}")
    for end in range(len(names), 0, -1):
        path = ROOTS[names[0]].joinpath(*names[:end]).with_suffix(".py")
        if path.exists() and names[end:][:1] == ["js"]:
            return path.with_suffix(".js"), names[end + 1 :]
        if path.exists():
            return path, names[end:]
    raise LookupError(f"no module for {symbol}")


def start_of(node: Any) -> int:
    """First line of a definition, its decorators included."""
    marks = [d.lineno for d in getattr(node, "decorator_list", [])]
    return min([node.lineno, *marks])


def named(body: list[ast.stmt], name: str) -> ast.stmt | None:
    """The definition or assignment of `name` in a body."""
    for node in body:
        if isinstance(node, Definition) and node.name == name:
            return node
        targets: list[ast.expr] = []
        if isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, ast.AnnAssign):
            targets = [node.target]
        if any(isinstance(t, ast.Name) and t.id == name for t in targets):
            return node
    return None


def head_end(path: Path, body: list[ast.stmt], last: int) -> int:
    """Last line before the first function or class of a body."""
    for node in body:
        if isinstance(node, Definition):
            lines = path.read_text(encoding="utf-8").splitlines()
            end = start_of(node) - 1
            while end > 1 and (
                not lines[end - 1].strip()
                or lines[end - 1].lstrip().startswith("# ---")
            ):
                end -= 1
            return end
    return last


def find(symbol: str, part: str = "") -> Snippet:
    """The lines of a symbol; `part` "head" stops at the first method.

    Of a module without a part, the lines before its first definition; all
    of it with "whole".

    Raises LookupError, with the names that exist, for an unknown symbol.
    """
    path, names = split_symbol(symbol)
    if path.suffix == ".js":
        return find_script(path, ".".join(names))
    tree = tree_of(path)
    if not names:
        last = len(path.read_text(encoding="utf-8").splitlines())
        if part == "whole":
            return Snippet(path, 1, last)
        return Snippet(path, 1, head_end(path, tree.body, last))
    body: list[ast.stmt] = tree.body
    node: ast.stmt | None = None
    for name in names:
        node = named(body, name)
        if node is None:
            known = [n.name for n in body if isinstance(n, Definition)]
            raise LookupError(
                f"{path.name} defines no {name}; it defines " + ", ".join(known)
            )
        body = getattr(node, "body", [])
    assert node is not None
    last = node.end_lineno or node.lineno
    if part == "head":
        last = head_end(path, body, last)
    return Snippet(path, start_of(node), last)


def script_range(lines: list[str], name: str) -> tuple[int, int]:
    """First and last line, from 1, of a script's function, class or method.

    A comment above belongs to it; it ends where all brackets are closed.
    """
    outer = rf"(?:function|class|const) {name}\b"
    start = re.compile(rf"(?:{outer}|  {name}\().*[{{;]")
    at = next((i for i, x in enumerate(lines) if start.match(x)), None)
    if at is None:
        raise LookupError(f"the script defines no {name}")
    last, depth = at, 0
    for last in range(at, len(lines)):
        depth += sum(lines[last].count(c) for c in "([{")
        depth -= sum(lines[last].count(c) for c in ")]}")
        if depth <= 0:
            break
    if lines[at - 1].rstrip().endswith("*/"):
        at = max(i for i in range(at) if lines[i].lstrip().startswith("/**"))
    return at + 1, last + 1


def find_script(path: Path, names: str) -> Snippet:
    """The lines of a name, or of two with a dash; without, a script's head."""
    lines = path.read_text(encoding="utf-8").splitlines()
    if not names:
        return Snippet(path, 1, lines.index("") if "" in lines else len(lines))
    first, _, last = names.partition("-")
    start, end = script_range(lines, first)
    return Snippet(path, start, script_range(lines, last)[1] if last else end)


def public_symbols(package: Path) -> list[str]:
    """Dotted names of all public functions, classes and methods."""
    found = []
    for path in sorted(package.rglob("*.py")):
        module = ".".join(path.relative_to(package.parent).parts)
        module = module.removesuffix(".py").removesuffix(".__init__")
        for node in tree_of(path).body:
            if not isinstance(node, Definition) or node.name[0] == "_":
                continue
            found.append(f"{module}.{node.name}")
            if isinstance(node, ast.ClassDef):
                found += [
                    f"{module}.{node.name}.{m.name}"
                    for m in node.body
                    if isinstance(m, Definition)
                    and (m.name[0] != "_" or m.name == "__init__")
                ]
    return found
