"""What is printed can be typed: no printed cell needs what a hidden one has.

A reader sees the printed cells alone. So the names in them must come from
Python, from the same cell, or from a printed cell before: hidden cells draw,
glue and assert. The names are found in Python's own tree, in the order in
which its parts run; what a function uses must be there when it is defined.
"""

import ast
import builtins
from collections.abc import Iterable, Iterator

from press.gates.book import Book
from press.gates.chapters import cell_tree
from press.gates.pages import Block, Page

HIDDEN = {"remove-cell", "remove-input", "hide-cell", "hide-input"}
# What makes the book, and what is made from it: no chapter may need it.
OURS = {"press", "solutions", "scaffold", "records", "benchmarks", "tests"}
OURS |= {"myst_nb"}
SOLUTIONS = "book/appendix/solutions/"  # its pages may import `solutions`
KNOWN = {*dir(builtins), "__name__", "get_ipython", "In", "Out"}
Loops = ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp


def is_printed(cell: Block) -> bool:
    """Whether readers see the code of a cell."""
    return not HIDDEN & set(cell.tags)


def printed_cells(page: Page) -> list[Block]:
    """The cells of a page that readers see, in order."""
    return [cell for cell in page.named("code-cell") if is_printed(cell)]


class Names(ast.NodeVisitor):
    """The names that code uses before it binds them, and those it binds.

    `needs` has the line of each first use; `binds` what each name is bound
    to last, an import by its text, so that the same import counts as the same.
    """

    def __init__(self, known: Iterable[str] = ()) -> None:
        self.known = set(known)
        self.needs: dict[str, int] = {}
        self.binds: dict[str, str] = {}

    def bind(self, name: str, what: str = "") -> None:
        self.known.add(name)
        self.binds[name] = what

    def inner(self, nodes: Iterable[ast.AST], names: Iterable[str]) -> None:
        """Visit what has a scope of its own, in which `names` are bound."""
        scope = Names(self.known | set(names))
        for node in nodes:
            scope.visit(node)
        for name, line in scope.needs.items():
            self.needs.setdefault(name, line)

    def visit(self, node: ast.AST) -> None:
        """The visitor's way, but one for all kinds of comprehensions."""
        if isinstance(node, Loops):
            self.loop(node)
        else:
            super().visit(node)

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Store):
            self.bind(node.id)
        elif node.id not in self.known:
            self.needs.setdefault(node.id, node.lineno)

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            name = alias.asname or alias.name.split(".")[0]
            self.bind(name, f"import {alias.name if alias.asname else name}")

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        for alias in node.names:
            source = f"from {node.module} import {alias.name}"
            self.bind(alias.asname or alias.name, source)

    def visit_Assign(self, node: ast.Assign) -> None:
        for part in (node.value, *node.targets):
            self.visit(part)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        for part in (node.value, node.annotation, node.target):
            if part is not None:
                self.visit(part)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self.visit(node.value)
        if isinstance(node.target, ast.Name):
            used = ast.Name(node.target.id, ast.Load())
            self.visit(ast.copy_location(used, node.target))
        self.visit(node.target)

    def visit_For(self, node: ast.For) -> None:
        for part in (node.iter, node.target, *node.body, *node.orelse):
            self.visit(part)

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        if node.type:
            self.visit(node.type)
        if node.name:
            self.bind(node.name)
        for part in node.body:
            self.visit(part)

    def loop(self, node: Loops) -> None:
        """A comprehension: its variables are its own."""
        self.visit(node.generators[0].iter)  # runs outside
        own = {name for part in node.generators for name in stored(part.target)}
        parts: list[ast.AST] = [part.iter for part in node.generators[1:]]
        parts += [test for part in node.generators for test in part.ifs]
        if isinstance(node, ast.DictComp):
            parts += [node.key, node.value]
        else:
            parts.append(node.elt)
        self.inner(parts, own)

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self.signature(node.args)
        self.inner([node.body], arguments(node.args))

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        for part in node.decorator_list:
            self.visit(part)
        self.signature(node.args)
        self.bind(node.name)
        own = {*arguments(node.args), *locals_of(node.body)}
        self.inner(node.body, own)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        for part in (*node.decorator_list, *node.bases):
            self.visit(part)
        self.bind(node.name)
        self.inner(node.body, ())

    def signature(self, args: ast.arguments) -> None:
        """What a function's head uses: defaults and annotations."""
        for part in (*args.defaults, *args.kw_defaults):
            if part is not None:
                self.visit(part)


def arguments(args: ast.arguments) -> set[str]:
    """The names of a function's arguments."""
    every = [*args.posonlyargs, *args.args, *args.kwonlyargs]
    every += [arg for arg in (args.vararg, args.kwarg) if arg]
    return {arg.arg for arg in every}


def stored(node: ast.AST) -> set[str]:
    """The names that a target binds."""
    return {
        part.id
        for part in ast.walk(node)
        if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)
    }


def locals_of(body: list[ast.stmt]) -> set[str]:
    """The names that a function's body binds, those of inner scopes too."""
    found: set[str] = set()
    for node in body:
        found |= stored(node)
        for part in ast.walk(node):
            if isinstance(part, ast.alias):
                found.add(part.asname or part.name.split(".")[0])
            elif isinstance(
                part, ast.FunctionDef | ast.ClassDef | ast.ExceptHandler
            ):
                found.add(part.name or "")
    return found


def names_in(cell: Block) -> Names:
    """The names that a cell needs, and those it binds."""
    names = Names(KNOWN)
    names.visit(cell_tree(cell))
    return names


def foreign(cell: Block) -> Iterator[tuple[int, str]]:
    """What a cell imports that no reader has."""
    for node in ast.walk(cell_tree(cell)):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found = [node.module or ""]
        else:
            continue
        for name in found:
            if name.split(".")[0] in OURS:
                yield node.lineno, name


def untyped(page: Page) -> Iterator[str]:
    """Where a page's printed code needs more than is printed."""
    printed: dict[str, str] = {}
    hidden: dict[str, int] = {}
    for cell in page.named("code-cell"):
        names = names_in(cell)
        if not is_printed(cell):
            for name, what in names.binds.items():
                if not what or printed.get(name) != what:
                    printed.pop(name, None)
                    hidden[name] = cell.line
            continue
        for name, line in names.needs.items():
            where = f"{page.name}:{cell.start + line - 1}"
            if name in hidden and name not in printed:
                place = f"the hidden cell of line {hidden[name]}"
                yield f"{where}: {name} is from {place}"
            elif name not in printed:
                yield f"{where}: {name} stands in no cell before"
        for line, name in foreign(cell):
            where = f"{page.name}:{cell.start + line - 1}"
            if page.name.startswith(SOLUTIONS) and name.startswith("solutions"):
                continue
            yield f"{where}: {name} is not on a reader's machine"
        printed |= names.binds


def typed(book: Book) -> list[str]:
    """A reader who types the printed cells, and nothing else, can run them."""
    pages = book.pages.values()
    return [problem for page in pages for problem in untyped(page)]
