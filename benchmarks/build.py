"""The book's own build: from a fresh clone, and after small changes.

Needs the libraries of requirements.lock and TeX, as `make setup` and
`make system` install them; their installation is not in the times. The clone
is made of what is committed.
"""

import re
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from benchmarks.measure import ROOT, Row
from press.copies import clone
from press.dependencies import executed as dependencies_of
from press.extensions.freshness import MARK
from scratchlm.generation.speed import medians

TURNS = 5
CHAPTER = "book/model/ngram.md"
MODULE = "src/scratchlm/generation/sampling.py"
EXECUTED = re.compile(r"executing \[ *\d+%\] (\S+)")


def build(folder: Path, what: str) -> float:
    """Seconds of a build in the clone; raises where it fails."""
    start = time.perf_counter()
    done = subprocess.run(
        [str(folder / ".venv/bin/python"), "-m", "press.build", what],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"the build failed:\n{done.stdout}{done.stderr}")
    return time.perf_counter() - start


def append(path: Path, text: str) -> None:
    """Add to the end of a file."""
    with path.open("a", encoding="utf-8") as file:
        file.write(text)


def repeated(
    folder: Path, what: str, change: Callable[[int], None]
) -> list[float]:
    """Seconds of so many builds, each after a change."""
    times = []
    for turn in tqdm(range(TURNS), desc=what, leave=False, disable=None):
        change(turn)
        times.append(build(folder, what))
    return times


def executed(folder: Path) -> set[str]:
    """The pages that the last build of the PDF executed."""
    log = folder / "_build" / "logs" / "chapters.log"
    return set(EXECUTED.findall(log.read_text(encoding="utf-8")))


def importers(folder: Path) -> set[str]:
    """The pages whose cells import the module, directly or not."""
    found = set()
    for path in (folder / "book").rglob("*.md"):
        text = path.read_text(encoding="utf-8")
        if MARK in text and ROOT / MODULE in dependencies_of(text):
            found.add(str(path.relative_to(folder).with_suffix("")))
    return found


def row(what: str, times: list[float], most: float) -> Row:
    """Seconds against the most that it may take."""
    seconds = medians({what: times})[what]
    return Row(
        what,
        seconds,
        None,
        "",
        "s",
        f"{most:g} s",
        seconds <= most,
        {"seconds": times},
    )


def rows() -> list[Row]:
    """All that is measured about the build."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "book"
        clone(folder)
        found = [row("clone to PDF (one run)", [build(folder, "pdf")], 720)]
        build(folder, "html")

        def edit(turn: int) -> None:
            append(folder / CHAPTER, f"\nA line for turn {turn}.\n")

        def nothing(turn: int) -> None:
            """Change nothing."""

        for what in ("pdf", "html"):
            times = repeated(folder, what, nothing)
            found.append(row(f"{what}, nothing changed", times, 5))
        times = repeated(folder, "html", edit)
        found.append(row("html, a line of prose changed", times, 15))
        times = repeated(folder, "pdf", edit)
        found.append(row("pdf, a line of prose changed", times, 90))
        append(folder / MODULE, "\n# A line more.\n")
        build(folder, "pdf")
        ran, wanted = executed(folder), importers(folder)
        found.append(
            Row(
                "pages executed after a change of one module",
                len(ran),
                len(wanted),
                "importing it",
                "pages",
                "only these",
                ran == wanted,
                {"executed": sorted(ran), "wanted": sorted(wanted)},
            )
        )
    return found
