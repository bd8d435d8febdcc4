"""Code from a notebook's cells, as a file that can be imported.

Not the whole notebook: the definition that was named, and whatever sets the
names that it uses, so that no training runs again. Of a name that was set
more than once, the last counts, as in the notebook. What is set by `%run`, or
by a decorator that changes another cell's class, is not seen.
"""

import ast
import re
import symtable
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

MARK = re.compile(r"# (?P<cell>(?:In|cell) \[\d+\]), line (?P<line>\d+)")
# Scopes that run where they stand, as bodies of classes do.
AT_ONCE = {"listcomp", "setcomp", "dictcomp", "genexpr"}
Cells = list[tuple[str, str]]  # what a reader calls a cell, and its code


@dataclass(frozen=True)
class Step:
    """A statement of a cell, and the names with which it deals."""

    mark: str  # where it stands
    text: str
    sets: frozenset[str]
    changes: frozenset[str]  # sets a part of: `a.b = 1`, `a[0] = 1`
    reads: frozenset[str]  # as soon as it runs
    later: frozenset[str]  # when the functions in it are called
    adds: bool  # an import, which hides nothing that was imported before
    always: bool  # sets names that nobody can know, or how Python reads


def read_notebook(path: Path) -> Cells:
    """The code of a notebook file; OSError or ValueError if it is none."""
    import nbformat  # only those who have notebooks need them
    from IPython.core.inputtransformer2 import TransformerManager

    notebook = nbformat.read(path, as_version=4)
    plain = TransformerManager().transform_cell
    code = [c.source for c in notebook.cells if c.cell_type == "code"]
    return [(f"cell [{i}]", plain(text)) for i, text in enumerate(code, 1)]


def steps(cells: Cells) -> Iterator[Step]:
    """The statements of all cells that are Python."""
    for label, cell in cells:
        try:
            tree = ast.parse(cell)
            symtable.symtable(cell, "cell", "exec")  # refuses more than that
        except (SyntaxError, ValueError):
            continue
        lines = cell.splitlines()
        for node in tree.body:
            starts = [d.lineno for d in getattr(node, "decorator_list", ())]
            start = min([node.lineno, *starts])
            text = "\n".join(lines[start - 1 : node.end_lineno])
            yield step(f"# {label}, line {start}", text, node)


def step(mark: str, text: str, node: ast.stmt) -> Step:
    """One statement, looked at as Python's compiler does."""
    table = symtable.symtable(ast.unparse(node), "cell", "exec")
    names, inside = table.get_symbols(), {*looked_up(table)}
    reads = frozenset(n.get_name() for n in names if n.is_referenced())
    whole = isinstance(node, ast.ImportFrom) and (
        node.module == "__future__" or node.names[0].name == "*"
    )
    return Step(
        mark,
        text,
        frozenset(n.get_name() for n in names if binds(n)),
        frozenset(changed(node)),
        reads | {name for name, waits in inside if not waits},
        frozenset(name for name, waits in inside if waits),
        isinstance(node, ast.Import),
        whole,
    )


def binds(name: symtable.Symbol) -> bool:
    """Whether a name gets its value there."""
    return name.is_assigned() or name.is_imported()


def changed(node: ast.stmt) -> Iterator[str]:
    """The names of which a statement sets a part."""
    targets: list[ast.expr] = list(getattr(node, "targets", ()))
    targets += [node.target] if isinstance(node, ast.AugAssign) else []
    for target in targets:
        part: ast.expr = target
        while isinstance(part, ast.Attribute | ast.Subscript):
            part = part.value
        if isinstance(part, ast.Name) and part is not target:
            yield part.id


def looked_up(
    table: symtable.SymbolTable, later: bool = False
) -> Iterator[tuple[str, bool]]:
    """The module's names that scopes inside look up; whether when called."""
    for child in table.get_children():
        at_once = child.get_type() == "class" or child.get_name() in AT_ONCE
        waits = later or not at_once
        for name in child.get_symbols():
            if name.is_global() and name.is_referenced():
                yield name.get_name(), waits
        yield from looked_up(child, waits)


def setting(all_: list[Step], name: str, before: int) -> list[int]:
    """The steps that make a name what it is before some step."""
    found = [i for i, each in enumerate(all_) if name in each.sets]
    found = [i for i in found if i < before] or found
    if not found:
        return []
    last = found[-1]
    parts = [i for i in range(last, before) if name in all_[i].changes]
    if all_[last].adds:
        return [i for i in found if all_[i].adds] + parts
    return [last, *parts]


def needed(all_: list[Step], names: Iterable[str]) -> list[int]:
    """The steps without which the names cannot be had, in their order."""
    end = len(all_)
    found = {i for i, each in enumerate(all_) if each.always}
    todo = [(name, end) for name in names]
    while todo:
        for i in setting(all_, *todo.pop()):
            if i not in found:
                found.add(i)
                todo += [(name, i) for name in all_[i].reads]
                todo += [(name, end) for name in all_[i].later]
    return sorted(found)


def extracted(cells: Cells, name: str) -> str | None:
    """A module that defines a name as the cells do, None if they do not.

    >>> print(extracted([("In [1]", "a = 1"), ("In [2]", "f = a")], "f"))
    # In [1], line 1
    a = 1
    # In [2], line 1
    f = a
    <BLANKLINE>
    """
    all_ = list(steps(cells))
    if not any(name in each.sets for each in all_):
        return None
    layers = setting(all_, "weights", len(all_))
    told = layers and all_[layers[0]].text.startswith("weights = {")
    order = needed(all_, [name, "weights"] if told else [name])
    order.sort(key=lambda i: "__future__" not in all_[i].text)
    return "".join(f"{all_[i].mark}\n{all_[i].text}\n" for i in order)


def origin(file: Path, line: int) -> str:
    """The cell and line from which a line of such a file comes."""
    lines = file.read_text(encoding="utf-8").splitlines()
    for above in range(line - 1, -1, -1):
        if found := MARK.fullmatch(lines[above]):
            where = int(found["line"]) + line - above - 2
            return f"{found['cell']}, line {where}"
    return file.name
