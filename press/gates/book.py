"""What the gates look at: the repository's files, as they are or planted."""

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path

from press.gates.pages import Page
from press.roadmap import Roadmap, load
from press.sources import Definition

ROOT = Path(__file__).parents[2]
PACKAGES = ("src/scratchlm", "solutions")  # whose code the book shows


@lru_cache(maxsize=2048)
def parse(text: str) -> ast.Module:
    """The syntax tree of a module's text."""
    return ast.parse(text)


@lru_cache(maxsize=512)
def page(path: Path, name: str, text: str) -> Page:
    """A page, parsed once for each text that it ever has."""
    return Page(path, name, text)


@lru_cache(maxsize=64)
def listed(root: Path, folder: str, suffix: str) -> tuple[str, ...]:
    """The files below a folder, with their paths from the root."""
    return tuple(
        sorted(
            path.relative_to(root).as_posix()
            for path in (root / folder).rglob(f"*{suffix}")
            if path.is_file() and "__pycache__" not in path.parts
        )
    )


@dataclass(frozen=True)
class Symbol:
    """A definition of the library: its dotted name and its node."""

    name: str
    node: ast.AST
    module: str


@dataclass(frozen=True)
class Book:
    """The repository that the gates look at.

    `changes` lays other texts over its files (None: the file is gone), so
    that a test can plant a problem without a copy of everything.
    """

    root: Path = ROOT
    changes: Mapping[str, str | None] = field(default_factory=dict)

    def read(self, name: str) -> str:
        """The text of a file, by its path from the root."""
        text = self.changes.get(name, "")
        if name in self.changes and text is not None:
            return text
        if name in self.changes:
            raise FileNotFoundError(name)
        return (self.root / name).read_text(encoding="utf-8")

    def exists(self, name: str) -> bool:
        """Whether there is such a file."""
        if name in self.changes:
            return self.changes[name] is not None
        return (self.root / name).is_file()

    def files(self, *folders: str, suffix: str = ".py") -> list[str]:
        """Paths of the files below the folders."""
        found: set[str] = set()
        for folder in folders:
            found.update(listed(self.root, folder, suffix))
            found.update(
                name
                for name in self.changes
                if name.startswith(f"{folder}/") and name.endswith(suffix)
            )
        return sorted(name for name in found if self.exists(name))

    def tree(self, name: str) -> ast.Module:
        """The syntax tree of a Python file."""
        return parse(self.read(name))

    @cached_property
    def roadmap(self) -> Roadmap:
        """The list of topics."""
        return load(self.root / "roadmap.yml")

    @cached_property
    def pages(self) -> dict[str, Page]:
        """All pages of the book by their path."""
        return {
            name: page(self.root / name, name, self.read(name))
            for name in self.files("book", suffix=".md")
        }

    def chapters(self) -> Iterator[tuple[str, Page]]:
        """The topics' names and chapters, in reading order."""
        for topic in self.roadmap.topics:
            if found := self.pages.get(topic.files["chapter"]):
                yield topic.id, found

    @cached_property
    def symbols(self) -> dict[str, Symbol]:
        """Every definition of the library, by its dotted name."""
        return {
            symbol.name: symbol
            for name in self.files("src/scratchlm")
            for symbol in definitions(self.read(name), module_of(name))
        }


def module_of(name: str) -> str:
    """The dotted name of the module in a file."""
    words = name.removeprefix("src/").removesuffix(".py")
    return words.removesuffix("/__init__").replace("/", ".")


def own_methods(node: ast.ClassDef) -> Iterator[ast.stmt]:
    """The methods of a class that Python does not call by itself."""
    for item in node.body:
        if isinstance(item, Definition):
            special = item.name[:2] == item.name[-2:] == "__"
            if not special or item.name == "__init__":
                yield item
        elif alias_of(item):
            yield item


@lru_cache(maxsize=512)
def definitions(text: str, module: str) -> tuple[Symbol, ...]:
    """Functions, classes, methods and other names for them, hidden ones too."""
    return tuple(defined(parse(text), module))


def defined(tree: ast.Module, module: str) -> Iterator[Symbol]:
    """What `definitions` returns, one by one."""
    for node in statements(tree.body):
        if isinstance(node, Definition):
            yield Symbol(f"{module}.{node.name}", node, module)
            if isinstance(node, ast.ClassDef):
                for item in own_methods(node):
                    label = getattr(item, "name", None) or alias_of(item)
                    yield Symbol(f"{module}.{node.name}.{label}", item, module)
        for name in aliases_of(node):
            yield Symbol(f"{module}.{name}", node, module)


def statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """A module's statements, those under `if`, `try` and `with` too."""
    for node in body:
        yield node
        if isinstance(node, ast.If | ast.Try | ast.With | ast.For | ast.While):
            for name in ("body", "orelse", "finalbody"):
                yield from statements(getattr(node, name, []))
            for handler in getattr(node, "handlers", []):
                yield from statements(handler.body)


def aliases_of(node: ast.stmt) -> Iterator[str]:
    """The names that an assignment gives to what can be called, if any."""
    if not isinstance(node, ast.Assign):
        yield from filter(None, [alias_of(node)])
        return
    for target in node.targets:
        pairs = [(target, node.value)]
        if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
            pairs = list(zip(target.elts, node.value.elts))
        for name, value in pairs:
            yield from filter(None, [alias_of(ast.Assign([name], value))])


def alias_of(node: ast.stmt) -> str:
    """The name that an assignment gives to something that can be called."""
    target: ast.expr | None = None
    if isinstance(node, ast.Assign):
        target = node.targets[0]
    elif isinstance(node, ast.AnnAssign):
        target = node.target
    value = getattr(node, "value", None)
    if not isinstance(target, ast.Name) or target.id.isupper():
        return ""
    if isinstance(value, ast.Call):
        called = value.func
        name = getattr(called, "attr", None) or getattr(called, "id", "")
        return target.id if name in ("partial", "wraps", "lru_cache") else ""
    known = isinstance(value, ast.Lambda | ast.Name | ast.Attribute)
    return target.id if known else ""
