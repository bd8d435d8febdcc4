"""The gates of the book: ``python -m press.gates`` (or `make check`).

Each gate is a function that returns a list of problems, each with its file
and line. The tests run the gates too, and plant a problem in front of each
to see that it is caught. Lint, types and spelling come from ruff, mypy and
codespell.
"""

import ast
import re
import subprocess
import sys
import time
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import yaml

from press.roadmap import Roadmap, contents_text, load
from press.sources import public_symbols

HERE = Path(__file__).parent.parent
ORDER = ["text", "model", "training", "generation", "evaluation"]
GLYPHS = set("–—…’“”‘×·≤≥≈→←↑↓±√Σσαβγεθλμπδτρφω∈∞−①②③✓✗²³₁₂ₙᵀĠ")
GLYPHS |= set("éèüöäßñÅÉ─│┌┐└┘├┤┬┴┼")
NEVER = (
    r"simply|obviously|powerful|dive in|let[’']s explore|delve|seamless\w*"
    r"|in this chapter we will|it[’']s important to note|leverag\w+"
)
NEVER_RE = re.compile(rf"\b(?:{NEVER})\b", re.I)
JUST = re.compile(r"\bjust (?:a|the|use|call|add|run|like|one)\b", re.I)
DECIMAL = re.compile(r"(?<![\w.])\d+\.\d+(?![\w.]*\w)")
ROLE = re.compile(r"\{[\w:]+\}`[^`]*`")
CODE = re.compile(r"(`+)(?:(?!\1).)+\1", re.S)
MATH = re.compile(r"\$\$.*?\$\$|\$[^$\n]+(?:\n[^$\n]+)?\$", re.S)
LINK = re.compile(r"\]\([^)]*\)|<https?:[^>]*>|https?://\S+")
FENCE = re.compile(r"^\s*(`{3,}|:{3,})\s*(\{[\w-]+\})?(.*)$")
PROSE_BOXES = {
    "{pitfall}",
    "{production}",
    "{security}",
    "{cost}",
    "{aside}",
    "{exercise}",
    "{note}",
}


@dataclass(frozen=True)
class Block:
    """A fenced part of a page: its directive, argument and lines."""

    directive: str
    argument: str
    line: int
    lines: tuple[str, ...]

    def option(self, name: str) -> str | None:
        """The value of ``:name:``, or of ``name:`` in a YAML head."""
        pattern = rf"^\s*:?{name}:\s*(.*?)\s*$"
        for line in self.lines:
            if found := re.match(pattern, line):
                return found[1]
        return None


@dataclass(frozen=True)
class Page:
    """A Markdown file, taken apart into prose and fenced blocks."""

    path: Path
    name: str

    @cached_property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def parts(self) -> tuple[list[tuple[int, str]], list[Block]]:
        """Lines of prose with their numbers, and the blocks."""
        lines = self.text.splitlines()
        prose: list[tuple[int, str]] = []
        blocks: list[Block] = []
        start = 0
        if lines and lines[0] == "---":
            start = lines.index("---", 1) + 1
        self.take(lines, start, len(lines), prose, blocks)
        return prose, blocks

    def take(
        self,
        lines: list[str],
        at: int,
        end: int,
        prose: list[tuple[int, str]],
        blocks: list[Block],
    ) -> None:
        """Sort the lines from `at` to `end` into prose and blocks."""
        while at < end:
            found = FENCE.match(lines[at])
            if not found:
                prose.append((at + 1, lines[at]))
                at += 1
                continue
            close = at + 1
            while close < end and not re.match(
                rf"^\s*{re.escape(found[1])}+\s*$", lines[close]
            ):
                close += 1
            directive, argument = found[2] or "", found[3].strip()
            body = tuple(lines[at + 1 : close])
            blocks.append(Block(directive, argument, at + 1, body))
            if directive in PROSE_BOXES:
                prose.append((at + 1, ""))
                prose.append((at + 1, argument))
                self.take(lines, at + 1, close, prose, blocks)
                prose.append((close, ""))
            at = close + 1

    @property
    def blocks(self) -> list[Block]:
        """All fenced blocks of the page, those inside boxes too."""
        return self.parts[1]

    def named(self, directive: str) -> list[Block]:
        """The blocks of one directive."""
        return [b for b in self.blocks if b.directive == f"{{{directive}}}"]

    @cached_property
    def paragraphs(self) -> list[tuple[int, str]]:
        """Paragraphs of prose, each with the number of its first line."""
        found: list[tuple[int, str]] = []
        current: list[str] = []
        first = 0
        for number, line in [*self.parts[0], (0, "")]:
            if line.strip():
                first = first or number
                current.append(line)
            elif current:
                found.append((first, "\n".join(current)))
                current, first = [], 0
        return found


class Book:
    """The repository that the gates look at."""

    def __init__(self, root: Path = HERE) -> None:
        self.root = root

    @cached_property
    def roadmap(self) -> Roadmap:
        return load(self.root / "roadmap.yml")

    @cached_property
    def pages(self) -> dict[str, Page]:
        """All pages of the book by their path."""
        found = sorted((self.root / "book").rglob("*.md"))
        names = [p.relative_to(self.root).as_posix() for p in found]
        return {n: Page(p, n) for n, p in zip(names, found, strict=True)}

    def files(self, *folders: str) -> Iterator[tuple[str, Path]]:
        """Python files below the folders, with their paths from the root."""
        for folder in folders:
            for path in sorted((self.root / folder).rglob("*.py")):
                yield path.relative_to(self.root).as_posix(), path


# --- the trees ---------------------------------------------------------------


def mirror(book: Book) -> list[str]:
    """Every topic has its files, and there is no file without a topic."""
    wanted: set[str] = set()
    for topic in book.roadmap.topics:
        wanted |= set(topic.files.values())
        wanted.add(f"solutions/{topic.package}/{topic.id}.py")
        wanted.add(f"tests/solutions/test_{topic.id}.py")
        wanted.add(f"book/appendix/solutions/{topic.id}.md")
    missing = [
        f"{name} is missing"
        for name in sorted(wanted)
        if not (book.root / name).exists()
    ]
    packages = sorted({topic.package for topic in book.roadmap.topics})
    patterns = [f"book/{p}/*.md" for p in packages]
    patterns += [f"src/scratchlm/{p}/*.py" for p in packages]
    patterns += [f"solutions/{p}/*.py" for p in packages]
    patterns += [f"tests/{p}/test_*.py" for p in packages]
    patterns += [f"scaffold/checks/{p}/check_*.py" for p in packages]
    patterns += ["tests/solutions/*.py", "book/appendix/solutions/*.md"]
    found = {
        path.relative_to(book.root).as_posix()
        for pattern in patterns
        for path in book.root.glob(pattern)
        if path.name != "__init__.py"
    }
    extra = [f"{name} belongs to no topic" for name in sorted(found - wanted)]
    return missing + extra


def contents(book: Book) -> list[str]:
    """``_toc.yml`` is what the roadmap says."""
    text = (book.root / "_toc.yml").read_text(encoding="utf-8")
    if text == contents_text(book.roadmap):
        return []
    return ["_toc.yml is not the roadmap's: run python -m press.roadmap"]


def directions(book: Book) -> list[str]:
    """Imports run from text to evaluation, and never back."""
    problems = []
    for name, path in book.files("src/scratchlm"):
        parts = name.split("/")
        if len(parts) != 4 or parts[2] not in ORDER:
            continue
        here = ORDER.index(parts[2])
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            for module in imported(node):
                words = module.split(".")
                if words[0] != "scratchlm" or len(words) < 2:
                    continue
                if words[1] not in ORDER[: here + 1]:
                    line = getattr(node, "lineno", 0)
                    problems.append(f"{name}:{line} imports {module}")
    return problems


def imported(node: ast.AST) -> list[str]:
    """The modules that an import statement names."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module:
        return [node.module]
    return []


# --- the chapters ------------------------------------------------------------


def chapters(book: Book) -> list[str]:
    """Each chapter has its label, title, card, check and exercises."""
    problems = []
    for topic in book.roadmap.topics:
        name = topic.files["chapter"]
        page = book.pages.get(name)
        if page is None:
            continue
        if f"\n({topic.id})=\n# {topic.title}\n" not in page.text:
            problems.append(f"{name}: no ({topic.id})= over # {topic.title}")
        for kind in ("topic", "check"):
            if [b.argument for b in page.named(kind)] != [topic.id]:
                problems.append(f"{name}: needs one {{{kind}}} {topic.id}")
        if "drawing.setup()" not in page.text:
            problems.append(f"{name}: no cell calls drawing.setup()")
        if not any(b.option("caption") for b in page.named("code-cell")):
            problems.append(f"{name}: holds no figure")
        problems += exercises(book, topic.id, page)
    return problems


def exercises(book: Book, topic: str, page: Page) -> list[str]:
    """Three or more exercises, each with grade and solution."""
    problems = []
    asked = {b.option("name"): b for b in page.named("exercise")}
    if len(asked) < 3:
        problems.append(f"{page.name}: only {len(asked)} exercises")
    for name, block in asked.items():
        if block.option("hours") not in ("1", "2", "3"):
            problems.append(f"{page.name}:{block.line}: {name} has no grade")
    answers = book.pages.get(f"book/appendix/solutions/{topic}.md")
    solved = answers.named("solution") if answers else []
    given = {block.argument for block in solved}
    for name in sorted(given ^ {str(name) for name in asked}):
        problems.append(f"{page.name}: {name} is not both asked and solved")
    return problems


def public(book: Book) -> list[str]:
    """Dotted names of everything public in the library."""
    return public_symbols(book.root / "src" / "scratchlm")


def shown(book: Book) -> list[str]:
    """Every public definition is shown, or listed as left out, with why."""
    whole: set[str] = set()
    heads: set[str] = set()
    for page in book.pages.values():
        for block in page.named("listing"):
            kind = heads if block.option("part") else whole
            kind.add(block.argument)
    path = book.root / "book" / "omitted.yml"
    omitted = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    problems = []
    for symbol in public(book):
        owner = symbol.rpartition(".")[0]
        if symbol in whole | heads | set(omitted) or owner in whole:
            continue
        if owner in omitted or owner.rpartition(".")[0] in omitted:
            continue
        if any(covered(symbol, other) for other in omitted):
            continue
        if any(covered(name, symbol) for name in whole):
            continue  # a class whose methods are shown one by one
        problems.append(f"{symbol} is neither shown nor in omitted.yml")
    for symbol, why in omitted.items():
        if len(str(why)) < 10:
            problems.append(f"omitted.yml: {symbol} needs a reason")
        if symbol in whole:
            problems.append(f"omitted.yml: {symbol} is shown after all")
        if not any(covered(name, symbol) for name in public(book)):
            problems.append(f"omitted.yml: there is no {symbol}")
    return problems


def covered(symbol: str, other: str) -> bool:
    """Whether `other` is the symbol, its class or its module."""
    return symbol == other or symbol.startswith(other + ".")


def cells(book: Book) -> list[str]:
    """No pasted code: cells define nothing that the library defines."""
    problems = []
    names = [name.split(".") for name in public(book)]
    library = {name[-1] for name in names if len(name) == 4}
    for page in book.pages.values():
        for block in page.blocks:
            where = f"{page.name}:{block.line}"
            if block.directive == "" and block.argument == "python":
                problems.append(f"{where}: Python that nothing runs")
            if block.directive != "{code-cell}":
                continue
            text = "\n".join(block.lines)
            defined = re.findall(r"^(?:class|def) (\w+)", text, re.M)
            for name in sorted(library.intersection(defined)):
                problems.append(f"{where}: {name} is the library's")
            if block.option("figure") is not None and not block.option("alt"):
                problems.append(f"{where}: a figure without alt text")
            hidden = "remove-" in "".join(block.lines[:3])
            wide = [line for line in block.lines if len(line) > 80]
            if wide and not hidden:
                problems.append(f"{where}: wider than 80: {wide[0].strip()}")
    return problems


# --- the prose ---------------------------------------------------------------


def bare(text: str) -> str:
    """Prose without code, roles, mathematics and addresses."""
    for pattern in (ROLE, MATH, CODE, LINK):
        text = pattern.sub(" ", text)
    return text


def numbers(book: Book) -> list[str]:
    """A decimal in prose is glued, or its paragraph cites a source."""
    problems = []
    for page in book.pages.values():
        for line, text in page.paragraphs:
            if "{cite}" in text or text.lstrip().startswith((":", "|")):
                continue
            for found in DECIMAL.finditer(bare(text)):
                where = f"{page.name}:{line}"
                problems.append(f"{where}: {found[0]} comes from nowhere")
    return problems


def words(book: Book) -> list[str]:
    """No filler, no hype."""
    problems = []
    for page in book.pages.values():
        for line, text in page.paragraphs:
            for pattern in (NEVER_RE, JUST):
                for found in pattern.finditer(bare(text)):
                    problems.append(f"{page.name}:{line}: “{found[0]}”")
    return problems


def glyphs(book: Book) -> list[str]:
    """Only characters that the fonts of the PDF have."""
    problems = []
    paths = [(page.name, page.path) for page in book.pages.values()]
    paths += list(book.files("src", "solutions"))
    for name, path in paths:
        text = path.read_text(encoding="utf-8")
        for number, line in enumerate(text.splitlines(), 1):
            for c in sorted(set(line)):
                if ord(c) > 126 and c not in GLYPHS:
                    title = unicodedata.name(c, repr(c))
                    problems.append(f"{name}:{number}: {c} ({title})")
    return problems


# --- other people's tools ----------------------------------------------------


def tool(*command: str) -> Callable[[Book], list[str]]:
    """A gate that is a program: its output, where it fails."""

    def gate(book: Book) -> list[str]:
        done = subprocess.run(
            [sys.executable, "-m", *command],
            cwd=book.root,
            capture_output=True,
            text=True,
            check=False,
        )
        output = (done.stdout + done.stderr).strip().splitlines()
        return output or ["it failed"] if done.returncode else []

    return gate


PYTHON = ["src", "scaffold", "solutions", "records", "tests", "press"]
PYTHON += ["benchmarks"]
SPELLED = [*PYTHON, "book", "README.md", "CONTRIBUTING.md"]
IGNORED = "abd,atention,gage,caf,ned,fo,nd,te,ser,pres,ans,ue,ot"
GATES: dict[str, Callable[[Book], list[str]]] = {
    "mirror": mirror,
    "contents": contents,
    "directions": directions,
    "chapters": chapters,
    "shown": shown,
    "cells": cells,
    "numbers": numbers,
    "words": words,
    "glyphs": glyphs,
    "ruff": tool("ruff", "check", "--quiet", *PYTHON),
    "mypy": tool("mypy"),
    "codespell": tool(
        "codespell_lib", "--skip=*.json,*.bib,*.lock", "-L", IGNORED, *SPELLED
    ),
}


def main() -> int:
    """Run every gate, a line for each; returns the exit code."""
    book = Book()
    failed = 0
    for name, gate in GATES.items():
        start = time.perf_counter()
        problems = gate(book)
        seconds = time.perf_counter() - start
        verdict = f"{len(problems)} problems" if problems else "holds"
        about = (gate.__doc__ or "").split("\n")[0]
        print(f"{name:<12} {seconds:5.1f} s  {verdict}  {about}", flush=True)
        for problem in problems:
            print(f"    {problem}")
        failed += bool(problems)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
