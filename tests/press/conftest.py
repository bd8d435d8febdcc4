"""A small book of its own to build, and problems planted for the gates."""

import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import sync_playwright

from press import browser
from press.copies import copy_environment
from press.gates import GATES, Book

ROOT = Path(__file__).parents[2]
PAGE = """---
file_format: mystnb
kernelspec: {name: python3, display_name: Python 3}
---
(page)=
# A page

```{code-cell}
from myst_nb import glue
from press import drawing
drawing.setup()
glue("answer", 42, display=False)
```

The answer is {glue:text}`answer`. See {numref}`lst`, and {cite}`someone2026`.

```{listing} scratchlm.sums.double
:name: lst
```
"""
SUMS = '"""Sums."""\n\n\ndef double(x):\n    return 2 * x\n'
REFERENCE = "@book{someone2026, title={A}, author={Some One}, year={2026},"
REFERENCE += " publisher={P}}\n"
TOC = """format: jb-book
root: book/index
parts:
- caption: All
  numbered: true
  chapters:
  - {file: book/page}
  - {file: book/last}
"""
LAST = "# Literature\n\nAll of it.\n\n```{bibliography}\n```\n"
CALL = """
import sys
from pathlib import Path
from press import build
try:
    build.jupyter_book(
        sys.argv[1], Path("_toc.yml").resolve(), build.BUILD / "out", True, "x",
        *sys.argv[2:],
    )
except build.BuildError as error:
    sys.exit(str(error))
"""


class SmallBook:
    """A repository with one page, and a Python that imports it alone."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        for name in ("_config.yml", "roadmap.yml", "requirements.lock"):
            shutil.copy(ROOT / name, folder / name)
        for name in ("pyproject.toml", "CITATION.cff", "book.yml"):
            shutil.copy(ROOT / name, folder / name)
        skip = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / "press", folder / "press", ignore=skip)
        self.write("book/index.md", "# A small book\n\nWords.\n")
        self.write("book/page.md", PAGE)
        self.write("book/last.md", LAST)
        self.write("book/refs/page.bib", REFERENCE)
        self.write("src/scratchlm/__init__.py", "")
        self.write("src/scratchlm/sums.py", SUMS)
        self.write("_toc.yml", TOC)
        self.python = copy_environment(folder)

    def write(self, name: str, text: str) -> None:
        """Write one of its files."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def build(
        self, builder: str, *track: str
    ) -> subprocess.CompletedProcess[str]:
        """Run Jupyter Book on it, strictly."""
        return subprocess.run(
            [str(self.python), "-c", CALL, builder, *track],
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture
def small_book(tmp_path: Path) -> SmallBook:
    return SmallBook(tmp_path / "book")


@pytest.fixture(scope="session")
def one_small_book(tmp_path_factory: pytest.TempPathFactory) -> SmallBook:
    """The same, for tests that do not change it."""
    return SmallBook(tmp_path_factory.mktemp("small") / "book")


# --- a browser ---------------------------------------------------------------

ADDRESS = re.compile(r"DevTools listening on (ws://\S+)")


def listening(process: subprocess.Popen[bytes], log: Path) -> str:
    """Where a browser takes commands, as it says in its log."""
    until = time.monotonic() + browser.PATIENCE / 1000
    while process.poll() is None and time.monotonic() < until:
        if found := ADDRESS.search(log.read_text(errors="replace")):
            return found[1]
        time.sleep(0.1)
    raise RuntimeError(f"Chromium did not start: {log.read_text()[-2000:]}")


@pytest.fixture(scope="session")
def running_chromium(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[str]:
    """One Chromium for all tests of a session: where it takes commands.

    A process of its own, since playwright's loop must not outlive a test:
    while it runs, nothing else in this thread can call `asyncio.run`.
    """
    program = browser.chromium()
    assert program, "Chromium is missing; install it (apt-get, brew)"
    folder = tmp_path_factory.mktemp("chromium")
    command = [program, "--headless=new", "--no-sandbox", "--no-first-run"]
    command += ["--remote-debugging-port=0", f"--user-data-dir={folder}"]
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(command, stdout=log, stderr=log) as process,
    ):
        try:
            yield listening(process, folder / "log")
        finally:
            process.terminate()


@pytest.fixture
def chromium(running_chromium: str) -> Iterator[Any]:
    """The session's Chromium; what a test opens in it is closed after it."""
    with sync_playwright() as play:
        window = play.chromium.connect_over_cdp(running_chromium)
        yield window
        for context in window.contexts[1:]:  # the first is the browser's own
            context.close()


@pytest.fixture
def tab(chromium: Any) -> Any:
    """A new page, with nothing kept from the last one."""
    page = chromium.new_context().new_page()
    page.set_default_timeout(browser.PATIENCE)
    return page


# --- problems that are planted ----------------------------------------------

CHAPTER = "book/model/attention.md"
Change = str | None | Callable[[str], str]


@dataclass(frozen=True)
class Small(Book):
    """The repository with few pages: the one that a test is about."""

    def files(self, *folders: str, suffix: str = ".py") -> list[str]:
        kept = {CHAPTER, *self.changes}
        return [
            name
            for name in super().files(*folders, suffix=suffix)
            if suffix != ".md" or name in kept
        ]


@dataclass(frozen=True)
class Alone(Book):
    """The repository with no files but the one that a test is about."""

    def files(self, *folders: str, suffix: str = ".py") -> list[str]:
        found = super().files(*folders, suffix=suffix)
        return [n for n in found if n in {CHAPTER, *self.changes}]


ALONE = {"proofs", "pickled", "silenced", "directions", "unsafe", "addresses"}
ALONE |= {"figures", "words", "glyphs", "numbers", "covered"}
ALONE |= {"claims", "examples", "typed"}


def kind_of(gate: str, whole: bool) -> type[Book]:
    """How much of the repository a gate has to see."""
    if whole:
        return Book
    return Alone if gate in ALONE else Small


@lru_cache(maxsize=128)
def before(gate: str, whole: bool, name: str) -> frozenset[str]:
    """What a gate says without anything planted."""
    text = Book().read(name) if Book().exists(name) else None
    changes = {} if text is None else {name: text}
    book = kind_of(gate, whole)(changes=changes)
    return frozenset(GATES[gate](book))


@pytest.fixture
def plant() -> Callable[..., list[str]]:
    """Change one file, and return what a gate says to that."""

    def run(
        gate: str, name: str, change: Change, whole: bool = False
    ) -> list[str]:
        old = Book().read(name) if Book().exists(name) else ""
        new = change(old) if callable(change) else change
        assert new != old
        kind = kind_of(gate, whole)
        problems = GATES[gate](kind(changes={name: new}))
        known = before(gate, whole, name)
        return [problem for problem in problems if problem not in known]

    return run


@pytest.fixture
def written(plant: Callable[..., list[str]]) -> Callable[..., list[str]]:
    """Append to a chapter, and return what a gate says to that."""

    def run(gate: str, text: str) -> list[str]:
        return plant(gate, CHAPTER, lambda old: f"{old}\n{text}\n")

    return run
