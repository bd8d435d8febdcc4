"""Where things lie: in the book's own repository, and in a reader's.

The engine is the same in both. A reader's repository has the library at its
root and a copy of the book's in `check/reference`; in the book's, the
reference is what was committed last.
"""

import ast
import hashlib
import io
import json
import re
import subprocess
import tarfile
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import yaml

from check import LIBRARY

HERE = Path(__file__).parent
# The folders of check files: in the book's repository, in a reader's.
CHECKS = ("scaffold/checks", "checks")
PAGES = "_build/book-pages.json"  # written with the PDF, from its folder
HEADING = re.compile(r"^#{1,4} (.+)$|^`{3,}\{listing\} (\S+)", re.M)


class PlaceError(Exception):
    """Something is not where it should be; the message tells the way out."""


@dataclass(frozen=True)
class Topic:
    """A topic as the checks see it: its names, and where the book tells it."""

    id: str
    title: str
    package: str
    part: str
    requires: tuple[str, ...]
    gives: str = ""
    explanation: str = ""
    hazard: str = ""
    done: str = ""
    chapter: str = ""  # the title of its chapter
    sections: tuple[tuple[str, str], ...] = ()  # definition, section
    pages: tuple[tuple[str, str], ...] = ()  # section, page of the PDF
    hole: str = ""  # the function that was left to the reader, if any

    @property
    def module(self) -> str:
        """Dotted name of the module under check."""
        return f"{LIBRARY}.{self.package}.{self.id}"

    @property
    def file(self) -> str:
        """The module's file, from the folder that holds the library."""
        return self.module.replace(".", "/") + ".py"

    def section(self, names: set[str]) -> str:
        """The section that shows the first of these definitions, or ""."""
        found = (title for name, title in self.sections if name in names)
        return next(found, "")

    def page(self, section: str) -> str:
        """The page of a section in the PDF, or of its chapter, or ""."""
        known = dict(self.pages)
        return known.get(section, known.get("", ""))


def told_in(page: str) -> tuple[str, list[tuple[str, str]]]:
    """A chapter's title, and the section in which it shows each definition.

    >>> told_in("# One\\n## Two\\n```{listing} scratchlm.text.bpe.spell\\n")
    ('One', [('spell', 'Two')])
    """
    title = section = ""
    shown = []
    for heading, symbol in HEADING.findall(page):
        if heading:
            section = re.sub(r"[*`_]", "", heading).strip()
            title = title or section
        else:
            shown.append((symbol.split(".")[3:], section))
    return title, [(name[0], where) for name, where in shown if name]


def printed(root: Path, chapter: str) -> list[tuple[str, str]]:
    """The sections of a chapter and their pages, if the PDF has been made."""
    path = root / PAGES
    if not path.exists():
        return []
    known = json.loads(path.read_text(encoding="utf-8"))
    return list(known.get(chapter, {}).items())


def digest(*parts: bytes) -> str:
    """One hash of several things, which differs if one differs."""
    whole = hashlib.sha256()
    for part in parts:
        whole.update(hashlib.sha256(part).digest())
    return whole.hexdigest()


def call(*command: str, folder: Path) -> bytes:
    """What a program prints; PlaceError where it fails or is not there."""
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, check=True
        )
    except (OSError, subprocess.CalledProcessError) as error:
        raise PlaceError(f"{' '.join(command[:2])} does not work") from error
    return done.stdout


@dataclass(frozen=True)
class Site:
    """A repository with a library, its checks, and what was learned of both."""

    root: Path

    @cached_property
    def is_book(self) -> bool:
        """Whether this is the book's own repository."""
        return (self.root / CHECKS[0]).is_dir()

    @property
    def checks(self) -> str:
        """The package in which the topics' checks stand."""
        return CHECKS[not self.is_book].replace("/", ".")

    @property
    def sources(self) -> Path:
        """The folder in which the library stands."""
        return self.root / "src" if self.is_book else self.root

    @property
    def progress(self) -> Path:
        """The file that remembers which topics are done."""
        return self.root / "progress.json"

    @property
    def cache(self) -> Path:
        """What can be computed again: times and known mistakes."""
        return self.root / ("_build/check" if self.is_book else ".check")

    @cached_property
    def topics(self) -> dict[str, Topic]:
        """The topics by id, in reading order, as far as they have checks."""
        path = self.root / "check" / "topics.json"
        if self.is_book:
            path = self.root / "roadmap.yml"
        try:
            data = yaml.safe_load(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise PlaceError(
                f"{path} cannot be read: run this in the repository, and get "
                "the file back with git checkout"
            ) from error
        found = (self.topic_of(entry) for entry in data["topics"])
        return {t.id: t for t in found if self.check_file(t).exists()}

    def topic_of(self, entry: dict[str, Any]) -> Topic:
        """The topic that an entry of the list describes."""
        names = Topic.__dataclass_fields__.keys() & entry.keys()
        known = {name: entry[name] for name in names}
        known["requires"] = tuple(entry["requires"])
        for name in ("sections", "pages"):
            known[name] = tuple(map(tuple, entry.get(name, ())))
        topic = Topic(**known)
        page = self.root / "book" / topic.package / f"{topic.id}.md"
        if self.is_book and page.exists():
            title, shown = told_in(page.read_text(encoding="utf-8"))
            pages = tuple(printed(self.root, title))
            known = {"sections": tuple(shown), "pages": pages}
            return replace(topic, chapter=title, **known)
        return topic

    def check_file(self, topic: Topic) -> Path:
        """The file with a topic's checks."""
        folder = self.root.joinpath(*self.checks.split("."), topic.package)
        return folder / f"check_{topic.id}.py"

    def check_module(self, topic: Topic) -> str:
        """The dotted name of that file."""
        return f"{self.checks}.{topic.package}.check_{topic.id}"

    def path(self, topic: Topic) -> Path:
        """The reader's module."""
        return self.sources / topic.file

    @cached_property
    def reference(self) -> Path:
        """The folder in which the book's own library stands.

        Raises PlaceError where there is none to compare with.
        """
        if not self.is_book:
            folder = self.root / "check" / "reference"
            if not (folder / LIBRARY).is_dir():
                raise PlaceError(
                    f"{folder} is missing: get it back with git checkout"
                )
            return folder
        name = f"HEAD:src/{LIBRARY}"
        key = call("git", "rev-parse", name, folder=self.root).decode().strip()
        folder = self.cache / "reference" / key
        if not folder.exists():
            packed = call("git", "archive", "HEAD:src", folder=self.root)
            part = folder.with_name(f"{key}.part")
            with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
                archive.extractall(part, filter="data")
            part.rename(folder)
        return folder

    @property
    def itself(self) -> "Site":
        """The same, with the code as it is now for a reference."""
        return Unborrowed(self.root)

    def fingerprint(self, topic: Topic, sources: Path) -> str:
        """A hash of all that decides how a topic's checks end there."""
        checks = self.check_file(topic)
        files = [checks, checks.parents[1] / "inputs.py"]
        files += [HERE / "expect.py", HERE / "values.py"]
        parts = [path.read_bytes() for path in files if path.exists()]
        inside = closure(sources, sources / topic.file)
        parts += [path.read_bytes() for path in inside]
        return digest(*parts)


class Unborrowed(Site):
    """A repository that is measured by its own code alone."""

    @property
    def reference(self) -> Path:  # type: ignore[override]
        """The folder in which the reader's library stands."""
        return self.sources


def closure(sources: Path, start: Path) -> list[Path]:
    """The library's files on which a module depends, and their data."""
    done: set[Path] = set()
    todo = [start]
    while todo:
        path = todo.pop()
        if path in done or not path.exists():
            continue
        done.add(path)
        if path.suffix == ".py":
            text = path.read_text(encoding="utf-8", errors="replace")
            names = imported(text, path.relative_to(sources).parent.parts)
            todo += [sources / name for name in names]
            ends = (".yaml", ".js", ".html", ".css")
            todo += [path.with_suffix(end) for end in ends]
    return sorted(done)


@lru_cache(maxsize=1024)
def imported(text: str, package: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Files of the library that a module's text imports, or may.

    >>> imported("from .files import a", ("scratchlm", "text"))
    ('scratchlm/text/files.py', 'scratchlm/text/files/a.py')
    """
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return ()
    found = []
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level]
            stem = [*(above if node.level else ()), node.module or ""]
            module = ".".join(filter(None, stem))
            names = [module, *(f"{module}.{each.name}" for each in node.names)]
        elif isinstance(node, ast.Import):
            names = [each.name for each in node.names]
        for name in names:
            if name.startswith(f"{LIBRARY}."):
                found.append(name.replace(".", "/") + ".py")
    return tuple(found)
