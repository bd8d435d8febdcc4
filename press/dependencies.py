"""What a page's outputs depend on: modules, files, records, versions.

Found by reading, not by running: the imports of a page's cells and of what
these import; every module and file whose name stands in a cell's string (a
command, a path); what the page's directives show or run. Where a name is
ambiguous, more is taken than less.

Which files there are is asked once a build: `forget` is called at its start.
"""

import ast
import hashlib
import os
import platform
import re
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

from press.files import ROOT
from press.sources import split_symbol, tree_of

BUILD = ROOT / "_build"
RUN = BUILD / "runs" / "toytown"
FOLDERS = {
    "scratchlm": ROOT / "src",
    "press": ROOT,
    "scaffold": ROOT,
    "solutions": ROOT,
    "records": ROOT,
    "benchmarks": ROOT,
    "compliance": ROOT,
    "check": ROOT,
}
CELL = re.compile(
    r"^ {0,3}(`{3,}|:{3,}|~{3,})\{code-cell\}[^\n]*\n(.*?)^ {0,3}\1",
    re.M | re.S,
)
OPTIONS = re.compile(r"(?:---\n.*?^---\n)?(?::[\w-]+:[^\n]*\n)*", re.M | re.S)
DIRECTIVE = re.compile(
    r"^\s*(?:`{3,}|:{3,}|~{3,})\{([\w-]+)\}[ \t]*(\S*)", re.M
)
DOTTED = re.compile(rf"\b(?:{'|'.join(FOLDERS)})\b(?:\.\w+)*")
RECORD = re.compile(r"\brecord\(\s*([\"'])([\w-]+)\1")
CALLED = re.compile(r"^([\w.]+):\w+$")  # module:function, imported by name
FROM_ROADMAP = {"roadmap", "plan", "topic", "check", "card", "components"}
FROM_ROADMAP |= {"milestones", "notes"}
COUNTED = {"plan", "milestones", "topic", "card"}  # how long a topic takes
PLANS = {"plan", "milestones"}  # of all topics
OWN_LISTS = {  # directive → the file that it prints
    "renamed": "book/renamed.yml",
    "errata": "book/errata.yml",
    "milestones": "scaffold/tracks.yml",
}
FROM_FILES = {"figure", "image", "literalinclude"}
JOINING = {"Path", "join", "joinpath", "PurePath"}
# Not followed: an environment is known by its locked versions.
APART = {"__pycache__", ".git", Path(os.environ.get("VENV", ".venv")).name}
# Nor what commands fetch or make there: known by the hashes in their code, or
# by the code that makes them; tests fetch a corpus while a book is built.
FETCHED = {"data", "runs"}
# The scaffold reads all of these to write its repositories.
SCAFFOLDED = ("scaffold", "src", "tests", "solutions", "compliance", "check")


KEPT: list[Callable[[], None]] = []  # how to forget each kept answer


def kept(
    function: Callable[[Any], frozenset[Path]],
) -> Callable[[Any], frozenset[Path]]:
    """Keep what a function answers until `forget` is called."""
    remembering = lru_cache(maxsize=None)(function)
    KEPT.append(remembering.cache_clear)
    return remembering


def forget() -> None:
    """Look at the files anew: some may have come, changed, or gone."""
    for clear in KEPT:
        clear()


def module_path(name: str) -> Path | None:
    """The file of one of our own modules, None for all others."""
    folder = FOLDERS.get(name.split(".")[0])
    if folder is None:
        return None
    base = folder.joinpath(*name.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.exists():
            return path
    return None


def imports(tree: ast.AST, package: str = "") -> set[str]:
    """Names of the modules that the code, in `package`, imports."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: -node.level + 1 or None]
            parts = [*above, node.module] if node.level else [node.module]
            base = ".".join(part for part in parts if part)
            found.add(base)
            found |= {f"{base}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Constant):
            found |= set(CALLED.findall(str(node.value)))
    return found


@lru_cache(maxsize=1024)
def names_in(path: Path, stamp: int) -> tuple[frozenset[str], frozenset[str]]:
    """The modules that a module imports, and the paths that it names.

    `stamp`, its change time, keys the cache.
    """
    tree = tree_of(path)
    return frozenset(imports(tree, package_of(path))), frozenset(paths_in(tree))


def package_of(path: Path) -> str:
    """The dotted name of the package in which a module's file lies."""
    base = ROOT / "src" if path.is_relative_to(ROOT / "src") else ROOT
    return ".".join(path.parent.relative_to(base).parts)


def closure(names: Iterable[str]) -> set[Path]:
    """Our own files behind `names`, what they import, name or lie beside.

    A package's ``__init__`` runs before its modules; a file that is no
    Python (a grammar, a template) is read by the module next to it, others
    by a module that says where they are. What a build makes is none of them.
    """
    return behind({path for name in names for path in with_parents(name)})


def behind(todo: set[Path]) -> set[Path]:
    """The closure of Python files: see `closure`."""
    done: set[Path] = set()
    said: set[str] = set()
    while todo:
        path = todo.pop()
        done.add(path)
        modules, words = names_in(path, path.stat().st_mtime_ns)
        for name in modules:
            todo |= with_parents(name) - done
        said |= words
    named = {file for word in said for file in files_named(word)}
    return (
        done
        | {p for p in named if not p.is_relative_to(BUILD)}
        | {
            file
            for folder in {p.parent for p in done}
            for file in data_files(folder)
        }
    )


@kept
def with_parents(name: str) -> frozenset[Path]:
    """The files of a module and of the packages around it."""
    parts = name.split(".")
    names = [".".join(parts[:end]) for end in range(1, len(parts) + 1)]
    return frozenset(path for each in names if (path := module_path(each)))


@kept
def data_files(folder: Path) -> frozenset[Path]:
    """Files in the folder that are no Python; records go by their name."""
    if folder == ROOT / "records":
        return frozenset()
    return frozenset(
        p for p in folder.iterdir() if p.is_file() and p.suffix != ".py"
    )


def everything(folder: Path) -> set[Path]:
    """All files below a folder but compiled ones, and those that are apart."""
    found = set()
    for place, folders, files in os.walk(folder):
        folders[:] = set(folders) - APART
        found |= {Path(place, name) for name in files}
    return {path for path in found if path.is_file()}


# --- a page ------------------------------------------------------------------


def cells(text: str) -> Iterator[str]:
    """The code of a page's cells, without options."""
    for _, cell in CELL.findall(text):
        cell = re.sub(r"\A---\n.*?^---\n", "", cell, flags=re.M | re.S)
        yield re.sub(r"^:[\w-]+:.*$", "", cell, flags=re.M)


def strings(tree: ast.AST) -> Iterator[str]:
    """The constant strings of the code."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def paths_in(tree: ast.AST) -> Iterator[str]:
    """The paths that code puts together, where their ends are constant."""
    inner: set[int] = set()
    for node in ast.walk(tree):  # from the outside in
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            inner.add(id(node.left))
            if id(node) not in inner:
                yield joined(node)
        elif isinstance(node, ast.Call):
            called = node.func
            name = getattr(called, "attr", None) or getattr(called, "id", "")
            parts = [x.value for x in node.args if isinstance(x, ast.Constant)]
            if name in JOINING:
                yield "/".join(map(str, parts))


def joined(node: ast.expr) -> str:
    """`ROOT / "book" / "a.yml"` as ``book/a.yml``: its constant end."""
    parts: list[str] = []
    while isinstance(node, ast.BinOp):
        if not isinstance(node.right, ast.Constant):
            break
        parts.insert(0, str(node.right.value))
        node = node.left
    return "/".join(parts)


@kept
def files_named(word: str) -> frozenset[Path]:
    """The files of the repository that a string names, if it names any.

    A cell runs in its page's folder, so we look there, too. Links are not
    followed: a file that a link in the repository leads to is one of its.
    """
    if not re.fullmatch(r"[\w./-]+", word):
        return frozenset()
    word = re.sub(r"^(\.{0,2}/)+", "", word)
    folders = [ROOT, *(ROOT / "book").glob("*/")]
    found: set[Path] = set()
    for folder in folders:
        path = Path(os.path.normpath(folder / word))
        if not path.is_relative_to(ROOT) or path in (*folders, BUILD):
            continue
        parts = path.relative_to(ROOT).parts
        if APART & set(parts) or parts[0] in FETCHED:
            continue
        if path.is_dir():
            found |= everything(path)
        elif path.is_file():
            found.add(path)
    return frozenset(found)


@kept
def used_by_cell(code: str) -> frozenset[Path]:
    """What one cell imports, runs in a process of its own, or opens."""
    lines = code.splitlines()
    shell = [x for x in lines if x.lstrip().startswith(("!", "%"))]
    try:
        tree = ast.parse("\n".join(x for x in lines if x not in shell))
    except SyntaxError:  # a magic in the middle: every name counts
        words = [*shell, code]
        names: set[str] = set()
        paths: set[str] = set()
    else:
        words = [*shell, *strings(tree)]
        names = imports(tree)
        paths = set(paths_in(tree))
    for word in words:  # as in `python -m NAME`
        found = set(DOTTED.findall(word))
        names |= found | {f"{name}.__main__" for name in found}
    files = closure(names)
    parts = {part.strip("\"'(),") for text in words for part in text.split()}
    for word in paths | {part for part in parts if re.search("[./]", part)}:
        files |= files_named(word)
    files |= behind({path for path in files if path.suffix == ".py"})
    if any(name.split(".")[0] == "scaffold" for name in names):
        files |= {ROOT / "pyproject.toml", ROOT / "roadmap.yml"}
        files |= set().union(*(everything(ROOT / x) for x in SCAFFOLDED))
    return frozenset(files)


def used_by_directives(text: str) -> set[Path]:
    """What the page's directives show, draw or run."""
    files: set[Path] = set()
    for name, argument in DIRECTIVE.findall(text):
        if name in FROM_ROADMAP:
            files.add(ROOT / "roadmap.yml")
        if name in COUNTED:
            files |= counted("*" if name in PLANS else argument)
        if name == "card":
            files |= set((ROOT / "compliance").glob("*.py"))
            files |= estimated()
        if name == "prices":
            files.add(ROOT / "scaffold" / "budgets.yml")
        if name == "check":
            files |= checked(argument)
        elif name in OWN_LISTS:
            files.add(ROOT / OWN_LISTS[name])
        elif name in FROM_FILES:
            files |= files_named(argument)
        elif name == "listing":
            files |= listed(argument)
    return files


def counted(topic: str) -> set[Path]:
    """What decides how long a topic takes: chapter, its listings, a record.

    With a star, all topics.
    """
    modules = set((ROOT / "src" / "scratchlm").glob(f"*/{topic}.py"))
    chapters = {
        path
        for module in modules
        for path in (ROOT / "book").glob(f"*/{module.stem}.md")
    }
    record = ROOT / "records" / "pages.json"
    found = modules | chapters | ({record} if record.exists() else set())
    for chapter in chapters:
        text = chapter.read_text(encoding="utf-8")
        for name, argument in DIRECTIVE.findall(text):
            if name == "listing":
                found |= listed(argument)
    return found


def estimated() -> set[Path]:
    """What decides what the run of a budget is said to take."""
    return closure(["scaffold.__main__"])


def listed(symbol: str) -> set[Path]:
    """The file that a listing shows lines of; none for an unknown symbol."""
    try:
        return {split_symbol(symbol)[0]}
    except LookupError:  # the directive itself will say so
        return set()


def checked(topic: str) -> set[Path]:
    """What decides what the check of a topic prints."""
    found = set((ROOT / "scaffold" / "checks").rglob(f"check_{topic}.py"))
    names = [".".join(p.relative_to(ROOT).with_suffix("").parts) for p in found]
    return found | closure([*names, "scaffold.checks.__main__"])


def executed(text: str) -> set[Path]:
    """All files on which what the page's cells print depends."""
    code = list(cells(text))
    files: set[Path] = set().union(*(used_by_cell(cell) for cell in code))
    whole = "\n".join(code)
    named = {name for _, name in RECORD.findall(whole)}
    files |= {ROOT / f"records/{name}.json" for name in named}
    if len(re.findall(r"\brecord\(", whole)) > len(RECORD.findall(whole)):
        files |= set((ROOT / "records").glob("*.json"))  # a name from afar
    if "book_run" in whole or "find_run" in whole:
        files |= everything(RUN)
    return {path for path in files if path.exists()}


def dependencies(text: str) -> set[Path]:
    """All files on which the page depends, its directives included."""
    return executed(text) | used_by_directives(text)


@lru_cache(maxsize=1)
def versions() -> bytes:
    """The locked versions, and those of Python and PyTorch that run."""
    lock = ROOT / "requirements.lock"
    try:
        torch = metadata.version("torch")
    except metadata.PackageNotFoundError:
        torch = ""
    return lock.read_bytes() + f"{platform.python_version()} {torch}".encode()


@lru_cache(maxsize=4096)
def content(path: Path, stamp: int) -> bytes:
    """A hash of a file; `stamp`, its change time, keys the cache."""
    return hashlib.sha256(path.read_bytes()).digest()


def digest(paths: Iterable[Path]) -> str:
    """A short hash of the files, and of all versions."""
    total = hashlib.sha256(versions())
    for path in sorted(paths):
        total.update(path.relative_to(ROOT).as_posix().encode())
        total.update(content(path, path.stat().st_mtime_ns))
    return total.hexdigest()[:12]


def executed_digest(text: str) -> str:
    """The key of what the page's cells print."""
    return digest(executed(text))


def page_digest(text: str, made_by: set[Path]) -> str:
    """The key of all that the page shows, and of what makes it a page."""
    return digest(dependencies(text) | made_by)


def makers() -> set[Path]:
    """The extensions that make pages of the sources, and what is behind."""
    folder = ROOT / "press"
    names = [p.stem for p in (folder / "extensions").glob("*.py")]
    found = closure(f"press.extensions.{name}" for name in names)
    return {p for p in found if p.is_relative_to(folder)}
