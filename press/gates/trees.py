"""Gates on where things stand: the mirror, the contents, the imports."""

import ast
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import yaml

from press.gates.book import Book, module_of, parse
from press.roadmap import PACKAGES, contents_text

# What each package of the library may import: itself and those before it.
ORDER = (*PACKAGES, "cli")
# What each tree may import of the project, besides itself.
MAY = {
    "scratchlm": set[str](),
    "press": set[str](),
    "solutions": {"scratchlm", "press"},
    "scaffold": {"scratchlm", "press", "check"},
    "records": {"scratchlm", "press", "check"},
    "benchmarks": {"scratchlm", "press"},
    "compliance": {"scratchlm"},
    "check": set[str](),
}
EMITTED = (*ORDER, "compliance")  # whose tests a reader's repository has
FOLDERS = {"scratchlm": "src/scratchlm"}
IMPORTERS = {"import_module", "__import__", "run_module", "find_spec"}
IMPORTERS |= {"resolve_name"}
# A text that is a module's name is there to be imported, in whatever way.
TEXTUAL = re.compile(rf"((?:{'|'.join(MAY)}|tests)(?:\.\w+)+)(?::\w+)?")


def mirror(book: Book) -> list[str]:
    """Every topic has its files, and there is no file without a topic."""
    wanted: set[str] = set()
    for topic in book.roadmap.topics:
        wanted |= set(topic.files.values())
        wanted.add(f"solutions/{topic.package}/{topic.id}.py")
        wanted.add(f"tests/solutions/test_{topic.id}.py")
        wanted.add(f"book/appendix/solutions/{topic.id}.md")
    missing = [
        f"{name} is missing" for name in sorted(wanted) if not book.exists(name)
    ]
    found: list[str] = []
    for package in sorted({topic.package for topic in book.roadmap.topics}):
        found += book.files(f"book/{package}", suffix=".md")
        found += book.files(
            f"src/scratchlm/{package}",
            f"solutions/{package}",
            f"tests/{package}",
            f"scaffold/checks/{package}",
        )
    found += book.files("book/appendix/solutions", suffix=".md")
    found += book.files("tests/solutions")
    shown = {
        block.argument
        for page in book.pages.values()
        for block in page.named("listing")
    }
    extra = sorted(
        name
        for name in set(found) - wanted
        if name.rpartition("/")[2] not in ("__init__.py", "conftest.py")
        and not serves(name, shown)
    )
    return missing + [f"{name} belongs to no topic" for name in extra]


def serves(name: str, shown: set[str]) -> bool:
    """Whether a module without a chapter is shown in another's.

    So are its tests, which stand where they would for a topic.
    """
    if name.startswith("tests/"):
        name = "src/scratchlm/" + name[6:].replace("/test_", "/")
    start = module_of(name) + "."
    return any(f"{symbol}.".startswith(start) for symbol in shown)


def contents(book: Book) -> list[str]:
    """``_toc.yml`` is what the roadmap says, and lists every page."""
    text = book.read("_toc.yml")
    problems = []
    if text != contents_text(book.roadmap):
        problems.append(
            "_toc.yml is not the roadmap's: run python -m press.roadmap"
        )
    linked = {f"{name}.md" for name in entries(yaml.safe_load(text))}
    problems += [
        f"{name} is an orphan: no contents lead to it"
        for name in sorted(set(book.pages) - linked)
    ]
    missing = sorted(linked - set(book.pages))
    return problems + [f"_toc.yml: there is no {name}" for name in missing]


def entries(node: Any) -> Iterator[str]:
    """The pages that a table of contents names, wherever."""
    if isinstance(node, list):
        for item in node:
            yield from entries(item)
    elif isinstance(node, dict):
        for key, value in node.items():
            if key in ("file", "root"):
                yield str(value)
            else:
                yield from entries(value)


def directions(book: Book) -> list[str]:
    """Imports run from text to cli, and between trees as the design says."""
    problems = []
    for tree, allowed in MAY.items():
        for name in book.files(FOLDERS.get(tree, tree)):
            found = imports_of(book.read(name), module_of(name))
            if tree != "press":  # which reads the others as text
                found += texts_of(book.read(name))
            for line, module in found:
                words = module.split(".")
                if words[0] in {*MAY, "tests"} - allowed - {tree}:
                    problems.append(f"{name}:{line} imports {module}")
                elif tree == words[0] == "scratchlm" and backwards(name, words):
                    problems.append(f"{name}:{line} imports {module}, back")
    for package in EMITTED:
        for name in book.files(f"tests/{package}"):
            for line, module in imports_of(book.read(name), module_of(name)):
                if module.split(".")[0] in {*MAY} - {"scratchlm", package}:
                    problems.append(f"{name}:{line} imports {module}")
    return sorted(set(problems))


def backwards(name: str, words: list[str]) -> bool:
    """Whether the library's file imports a package after its own."""
    parts = name.split("/")
    if len(parts) < 4:  # scratchlm/__init__.py and __main__.py
        return parts[-1] == "__init__.py" and len(words) > 1
    if parts[2] not in ORDER or len(words) < 2:
        return parts[2] not in ORDER
    return words[1] not in ORDER[: ORDER.index(parts[2]) + 1]


@lru_cache(maxsize=2048)
def imports_of(text: str, module: str) -> tuple[tuple[int, str], ...]:
    """What a module's text imports."""
    return tuple(imported(parse(text), module))


def imported(tree: ast.AST, module: str) -> Iterator[tuple[int, str]]:
    """Line and full name of all that a module imports, in any way."""
    package = module.split(".")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1]
            full = ".".join(
                [*(base if node.level else []), *filter(None, [node.module])]
            )
            for alias in node.names:
                yield node.lineno, f"{full}.{alias.name}"
        elif isinstance(node, ast.Call):
            called = node.func
            name = getattr(called, "attr", None) or getattr(called, "id", "")
            if name not in IMPORTERS:
                continue
            given = [k.value for k in node.keywords if k.arg == "name"]
            for text in map(first_text, [*node.args[:1], *given]):
                above = len(text) - len(text.lstrip("."))
                base = package[: len(package) - above + 1] if above else []
                if full := ".".join([*base, *filter(None, text.split("."))]):
                    yield node.lineno, full


@lru_cache(maxsize=2048)
def texts_of(text: str) -> tuple[tuple[int, str], ...]:
    """The modules of the project that a module's constants name."""
    return tuple(
        (node.lineno, found[1])
        for node in ast.walk(parse(text))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and (found := TEXTUAL.fullmatch(node.value))
    )


def first_text(node: ast.expr) -> str:
    """The text with which an expression begins, as far as it is written."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.BinOp):
        return first_text(node.left)
    if isinstance(node, ast.JoinedStr) and node.values:
        return first_text(node.values[0])
    return ""
