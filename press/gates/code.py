"""Gates on code in pages: nothing is pasted, and all that is shown runs.

A page's code is held against every definition of the library, not by its
text but by its meaning: names are replaced by their order of appearance,
annotations and docstrings are left out. So renamed, indented, or turned from
a method into a function or a lambda, it is the same code still.
"""

import ast
import builtins
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from press.gates.book import PACKAGES, Book, parse
from press.gates.chapters import called
from press.gates.pages import UNREADABLE, Block, Page
from press.sources import Definition

BUILTINS = set(dir(builtins))
SMALL = 20  # nodes: what is smaller says too little to be a copy
FENCES = {"sh", "text", "json", "yaml", "toml", "html", "diff", "bibtex"}
LOOSE = {"type_comment", "returns", "decorator_list", "kind", "lineno"}
STILL_CODE = {"", "code", "code-block", "sourcecode", "parsed-literal"}
STILL = {"skip-execution", "raises-exception", "keep-going"}
RUNS = (
    ast.FunctionDef,
    ast.ClassDef,
    ast.Import,
    ast.ImportFrom,
    ast.Call,
    ast.Lambda,
    ast.For,
    ast.While,
    ast.With,
    ast.Try,
    ast.Assert,
)


class Meaning:
    """Code as text in which a name is the order of its first appearance.

    Annotations, docstrings and a function's own name and arguments are left
    out; `self.x` counts as a name; what is returned counts as an expression.
    """

    def __init__(self) -> None:
        self.names: dict[str, str] = {}

    def name(self, name: str) -> str:
        if name in BUILTINS:
            return name
        return self.names.setdefault(name, f"n{len(self.names)}")

    def of(self, node: object) -> str:
        if isinstance(node, list):
            return f"[{' '.join(map(self.of, node))}]"
        if not isinstance(node, ast.AST):
            return repr(node)
        if isinstance(node, ast.Name):
            return self.name(node.id)
        if isinstance(node, ast.Attribute):
            owner = node.value
            if isinstance(owner, ast.Name) and owner.id in ("self", "cls"):
                return self.name(node.attr)
            return f"{self.of(owner)}.{node.attr}"
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            return f"({type(node).__name__} {self.block(node.body)})"
        if isinstance(node, ast.AnnAssign):
            return f"(Assign {self.of([node.target])} {self.of(node.value)})"
        if isinstance(node, ast.Return):
            return f"(Expr {self.of(node.value)})"
        if isinstance(node, ast.arguments | ast.expr_context):
            return ""
        parts = [self.of(v) for k, v in ast.iter_fields(node) if k not in LOOSE]
        return f"({type(node).__name__} {' '.join(parts)})"

    def block(self, body: list[ast.stmt]) -> str:
        return self.of(undocumented(body))


def undocumented(body: list[ast.stmt]) -> list[ast.stmt]:
    """The statements of a body without its docstring."""
    first = body[0] if body else None
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
        return body[1:]
    return body


def meaning(body: list[ast.stmt], last: ast.expr | None = None) -> str:
    """Statements as their meaning; `last`, an expression, ends them."""
    if last is not None:
        body = [*body, ast.Return(last)]
    return Meaning().block(body)


def size(body: list[ast.stmt]) -> int:
    """How many nodes the statements have."""
    return sum(1 for part in undocumented(body) for _ in ast.walk(part))


@lru_cache(maxsize=65536)
def shape(node: ast.stmt) -> tuple[str, int]:
    """What no renaming changes about a statement: its kind and its calls."""
    kind = type(node).__name__
    kind = {"AnnAssign": "Assign", "Return": "Expr"}.get(kind, kind)
    return kind, sum(isinstance(part, ast.Call) for part in ast.walk(node))


def shapes(body: list[ast.stmt]) -> tuple[tuple[str, int], ...]:
    """The shapes of several statements."""
    return tuple(shape(node) for node in body)


@dataclass
class Library:
    """What the library defines: meaning → name; and the shapes of it all."""

    names: dict[str, str]
    shapes: set[tuple[tuple[str, int], ...]]
    lengths: set[int]


@lru_cache(maxsize=512)
def meanings(text: str) -> Library:
    """What a module's text defines."""
    found = Library({}, set(), set())
    for node in ast.walk(parse(text)):
        if isinstance(node, ast.FunctionDef):
            body = undocumented(node.body)
            if size(body) >= SMALL:
                found.names[meaning(body)] = node.name
                found.shapes.add(shapes(body))
                found.lengths.add(len(body))
        elif isinstance(node, ast.ClassDef) and (fields := attributes(node)):
            found.names[fields] = node.name
    return found


def attributes(node: ast.ClassDef) -> str:
    """The fields of a class that is nothing but fields, with their types."""
    fields = [
        ast.dump(item.target) + ast.dump(item.annotation)
        for item in node.body
        if isinstance(item, ast.AnnAssign)
    ]
    return "\n".join(fields) if len(fields) > 2 else ""


def pasted(tree: ast.Module, library: Library) -> Iterator[str]:
    """The library's definitions that stand in `tree` once more."""
    for node in ast.walk(tree):
        found: list[str] = []
        if isinstance(node, ast.Lambda):
            found.append(meaning([], node.body))
        elif isinstance(node, ast.ClassDef):
            found.append(attributes(node))
        for body in bodies(node):
            found += windows(body, library)
        for what in found:
            if what in library.names:
                yield library.names[what]


def windows(body: list[ast.stmt], library: Library) -> Iterator[str]:
    """Meanings of neighboring statements that may be a definition's."""
    kinds = shapes(body)
    for first in range(len(body)):
        for length in library.lengths:
            part = kinds[first : first + length]
            if len(part) == length and part in library.shapes:
                yield meaning(body[first : first + length])


def bodies(node: ast.AST) -> Iterator[list[ast.stmt]]:
    """The lists of statements of a node, docstrings left out."""
    for name in ("body", "orelse", "finalbody"):
        body = getattr(node, name, None)
        if isinstance(body, list) and body and isinstance(body[0], ast.stmt):
            yield undocumented(body)


def defined(tree: ast.Module) -> Iterator[str]:
    """The names of what a page's code defines, in any way."""
    for node in ast.walk(tree):
        if isinstance(node, Definition):
            yield node.name
        elif isinstance(node, ast.Assign) and isinstance(
            node.value, ast.Lambda
        ):
            yield from (t.id for t in node.targets if isinstance(t, ast.Name))


def cells(book: Book) -> list[str]:
    """No pasted code, no Python that nothing runs, no line too wide."""
    library = Library({}, set(), set())
    for name in book.files(*PACKAGES):
        part = meanings(book.read(name))
        library.names |= part.names
        library.shapes |= part.shapes
        library.lengths |= part.lengths
    names = {
        symbol.rpartition(".")[2]
        for symbol in book.symbols
        if symbol.count(".") == 3
    }
    problems = []
    for page in book.pages.values():
        for block in page.blocks:
            for problem in wrong(block, library, names):
                problems.append(f"{page.name}:{block.line}: {problem}")
        problems += glued(page)
    return problems


def wrong(
    block: Block, library: Library, names: set[str]
) -> Iterator[str]:
    """What is wrong with the code of one block."""
    if UNREADABLE in block.options:
        yield "a head that is no YAML"
    cell = block.directive == "code-cell"
    code = block.directive in STILL_CODE
    if block.directive == "literalinclude" and block.argument.endswith(".py"):
        yield "Python that nothing runs: a listing shows the library"
    if not cell and not code:
        return
    language = block.language or (block.argument if code else "")
    if code and block.line != block.start and language not in FENCES:
        yield f"a fence in {language or 'no language'}: {sorted(FENCES)} may be"
    if cell and (idle := STILL & set(block.tags)):
        yield f"a cell with the tag {', '.join(sorted(idle))}"
    try:
        tree = parse(textwrap.dedent(block.body))
    except SyntaxError as error:
        if cell:
            yield f"a cell that is no Python: {error.msg}"
        return
    if code and any(isinstance(node, RUNS) for node in ast.walk(tree)):
        yield "Python that nothing runs"
    for name, call in called(tree):
        if cell and name == "seed" and not call.args and not call.keywords:
            yield f"{ast.unparse(call)}: a seed that nobody chose"
    for name in sorted(names.intersection(defined(tree))):
        yield f"{name} is the library's"
    for name in sorted(set(pasted(tree, library))):
        yield f"{name} is pasted from the library"
    if cell and not {"remove-cell", "remove-input"} & set(block.tags):
        for line in block.lines:
            if len(line) > 80:
                yield f"wider than 80: {line.strip()}"


def glued(page: Page) -> list[str]:
    """What is glued was computed: no number is typed into `glue`."""
    problems = []
    trees = []
    for block in page.named("code-cell"):
        try:
            trees.append((block, parse(block.body)))
        except SyntaxError:
            continue
    values, uses = names_of([tree for _, tree in trees])
    glues = {"glue"}
    for _, tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.alias) and node.name == "glue":
                glues.add(node.asname or node.name)
    for block, tree in trees:
        for name, call in called(tree):
            given = call.args[1:2]
            given += [k.value for k in call.keywords if k.arg == "variable"]
            if name not in glues or not given:
                continue
            if typed(given[0], values, uses):
                line = block.start + call.lineno - 1
                what = ast.unparse(given[0])
                problems.append(f"{page.name}:{line}: {what} is typed, not run")
    return problems


def names_of(
    trees: list[ast.Module],
) -> tuple[dict[str, list[ast.expr]], dict[str, int]]:
    """What each name of a page is assigned, and how often it is used."""
    values: dict[str, list[ast.expr]] = {}
    uses: dict[str, int] = {}
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign | ast.AnnAssign):
                for target, value in assigned(node):
                    values.setdefault(target, []).append(value)
            elif isinstance(node, ast.Name):
                read = isinstance(node.ctx, ast.Load)
                uses[node.id] = uses.get(node.id, 0) + read
    return values, uses


def assigned(
    node: ast.Assign | ast.AnnAssign,
) -> Iterator[tuple[str, ast.expr]]:
    """The names of an assignment, each with what it is given."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    for target in targets:
        pairs = [(target, node.value)]
        if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
            pairs = list(zip(target.elts, node.value.elts))
        for name, value in pairs:
            if isinstance(name, ast.Name) and value is not None:
                yield name.id, value


def constant(node: ast.expr) -> bool:
    """Whether an expression is a constant, or a collection of such."""
    if isinstance(node, ast.Dict):
        return all(map(constant, node.values))
    if isinstance(node, ast.List | ast.Tuple | ast.Set):
        return all(map(constant, node.elts))
    return isinstance(node, ast.Constant)


def typed(
    value: ast.expr, values: dict[str, list[ast.expr]], uses: dict[str, int]
) -> bool:
    """Whether an expression holds nothing but what somebody typed.

    A setting that other code uses, too, is no such thing: it decides the run.
    Nor is a product of numbers, which says where its result comes from.
    """
    for node in ast.walk(value):
        if isinstance(node, ast.BinOp):
            texts = [n for n in ast.walk(node) if isinstance(n, ast.Constant)]
            return all(isinstance(n.value, str) for n in texts) and not any(
                isinstance(n, ast.Name) for n in ast.walk(node)
            )
        if isinstance(node, ast.Name):
            known = values.get(node.id, [])
            fixed = bool(known) and all(map(constant, known))
            if node.id in BUILTINS or (fixed and uses[node.id] < 2):
                continue
            return False
    return True
