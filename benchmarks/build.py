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
from press.dependencies import CELL
from press.dependencies import executed as dependencies_of
from scratchlm.generation.speed import medians

TURNS = 3
CHAPTER = "book/model/ngram.md"
MODULE = "src/scratchlm/generation/sampling.py"
EXECUTED = re.compile(r"executing \[ *\d+%\] (\S+)")
STAGE = re.compile(r"^(\w+) +(\d+\.\d) s", re.M)
STAGES = {
    "model": "training the book's model",
    "chapters": "executing the chapters, writing LaTeX",
    "typesetting": "typesetting",
}


def stages(printed: str) -> dict[str, float]:
    """The seconds of each stage, from what the build printed.

    >>> stages("chapters      2.5 s   as LaTeX\\npdf           4.0 s")
    {'chapters': 2.5, 'pdf': 4.0, 'typesetting': 1.5}
    """
    found = {name: float(seconds) for name, seconds in STAGE.findall(printed)}
    return {**found, "typesetting": found["pdf"] - found["chapters"]}


def build(folder: Path, what: str) -> tuple[float, str]:
    """Seconds of a build in the clone, what it printed; raises on failure."""
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
    return time.perf_counter() - start, done.stdout


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
        times.append(build(folder, what)[0])
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
        if CELL.search(text) and ROOT / MODULE in dependencies_of(text):
            found.add(str(path.relative_to(folder).with_suffix("")))
    return found


def part(
    what: str, times: list[float], whole: float, name: str, most: float
) -> Row:
    """Seconds, and how many of the whole they may be at most."""
    seconds = medians({what: times})[what]
    return Row(
        what,
        seconds,
        whole,
        name,
        "s",
        f"at most {most:g} times",
        seconds <= most * whole,
        {"seconds": times},
    )


def from_a_clone(folder: Path) -> tuple[float, list[Row]]:
    """The first build, its stages beside it; its seconds, too.

    Training the book's model tells how fast the machine is: where it takes
    two minutes, the whole takes twelve at most.
    """
    seconds, printed = build(folder, "pdf")
    spent = stages(printed)
    model = spent["model"]
    found = [part("clone to PDF", [seconds], model, "training the model", 6)]
    for name, what in STAGES.items():
        found.append(part(f"  {what}", [spent[name]], seconds, "all", 0.7))
    return seconds, found


def after_a_change(folder: Path, whole: float) -> list[Row]:
    """The second build: with nothing changed, and with a line of prose."""

    def edit(turn: int) -> None:
        append(folder / CHAPTER, f"\nA line for turn {turn}.\n")

    def nothing(turn: int) -> None:
        """Change nothing."""

    build(folder, "html")
    cases = [
        ("pdf", "nothing changed", nothing, 0.01),
        ("html", "nothing changed", nothing, 0.01),
        ("html", "a line of prose changed", edit, 0.05),
        ("pdf", "a line of prose changed", edit, 0.15),
    ]
    return [
        part(
            f"{what}, {change}",
            repeated(folder, what, work),
            whole,
            "clone to PDF",
            most,
        )
        for what, change, work, most in cases
    ]


def of_one_module(folder: Path) -> Row:
    """Which pages are executed again when one module has changed."""
    append(folder / MODULE, "\n# A line more.\n")
    build(folder, "pdf")
    ran, wanted = executed(folder), importers(folder)
    return Row(
        "pages executed after a change of one module",
        len(ran),
        len(wanted),
        "importing it",
        "pages",
        "only these",
        ran == wanted,
        {"executed": sorted(ran), "wanted": sorted(wanted)},
    )


def rows() -> list[Row]:
    """All that is measured about the build."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "book"
        clone(folder)
        whole, found = from_a_clone(folder)
        found += after_a_change(folder, whole)
        return [*found, of_one_module(folder)]
