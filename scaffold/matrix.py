"""Every repository that can be asked for, made and tried.

    python -m scaffold.matrix                      all, some minutes
    python -m scaffold.matrix --track researcher   those of one track

Each track with each budget in each mode is emitted into a folder that is
thrown away. Its modules are imported, git has to find nothing that is not
committed, and pytest has to find its tests. The table says how long that took;
a combination that does not work ends the command with its error.
"""

import argparse
import itertools
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from scaffold.emit import PROJECT, emit
from scaffold.plan import MODES, Plan, ScaffoldError, budgets, tracks
from scaffold.repository import git

IMPORT = f"""\
import importlib, pkgutil, {PROJECT}
found = pkgutil.walk_packages({PROJECT}.__path__, "{PROJECT}.")
names = [one.name for one in found if not one.name.endswith("__main__")]
print(len([importlib.import_module(name) for name in names]))
"""
COLLECTED = re.compile(r"^tests/\S+\.py: (\d+)$", re.M)


@dataclass(frozen=True)
class Row:
    """A combination, and what was found of it."""

    track: str
    budget: str
    mode: str
    seconds_to_emit: float
    seconds_to_import: float
    modules: int
    tests: int


def combinations() -> list[tuple[str, str, str]]:
    """Each track with each budget in each mode."""
    return list(itertools.product(tracks(), budgets(), MODES))


def python(folder: Path, *words: str) -> str:
    """What Python prints in a folder, knowing nothing of this one."""
    hidden = ("PYTHON", "COVERAGE", "PYTEST")
    clean = {k: v for k, v in os.environ.items() if not k.startswith(hidden)}
    done = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=clean | {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = (done.stdout + done.stderr).strip()[-2000:]
        raise ScaffoldError(f"{' '.join(words[:2])} failed: {said}")
    return done.stdout


def tried(track: str, budget: str, mode: str, out: Path) -> Row:
    """Emit one, and look at it; ScaffoldError says what does not work."""
    start = time.perf_counter()
    emit(Plan(track, budget, mode=mode), out)
    emitted = time.perf_counter()
    modules = int(python(out, "-c", IMPORT))
    imported = time.perf_counter()
    counts = COLLECTED.findall(python(out, "-m", "pytest", "--co", "-q"))
    if not (modules and counts):
        raise ScaffoldError(f"{out}: {modules} modules, {len(counts)} tests")
    if said := git(out, "status", "--porcelain"):
        raise ScaffoldError(f"{out} has what is not committed: {said}")
    return Row(
        *(track, budget, mode, emitted - start, imported - emitted),
        *(modules, sum(map(int, counts))),
    )


def head() -> str:
    """The first two lines of the table, in Markdown."""
    names = [field.name.replace("_", " ") for field in fields(Row)]
    marks = ["---"] * 3 + ["---:"] * (len(names) - 3)
    return f"| {' | '.join(names)} |\n| {' | '.join(marks)} |"


def line(row: Row) -> str:
    """A line of the table.

    >>> line(Row("beginner", "cpu", "stubs", 1.5, 2.0, 80, 2000))
    '| beginner | cpu | stubs | 1.5 | 2.0 | 80 | 2000 |'
    """
    said = (
        f"{x:.1f}" if isinstance(x, float) else str(x) for x in astuple(row)
    )
    return f"| {' | '.join(said)} |"


def main(arguments: list[str] | None = None) -> int:
    """Print the table; 1 with an error where something does not work."""
    parser = argparse.ArgumentParser(
        prog="python -m scaffold.matrix",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--track", choices=tracks(), help="one alone (all)")
    track = parser.parse_args(arguments).track
    print(head(), flush=True)
    for wanted in combinations():
        if track not in (None, wanted[0]):
            continue
        with tempfile.TemporaryDirectory() as made:
            try:
                print(line(tried(*wanted, Path(made) / "llm")), flush=True)
            except ScaffoldError as error:
                print(f"error: {' '.join(wanted)}: {error}", file=sys.stderr)
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
