"""What every benchmark needs: rows, a table, a file, a fresh process."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from press.machine import lacks, machine, versions
from scratchlm.text.files import file_sha256, write_json

ROOT = Path(__file__).parent.parent
OUT = ROOT / "_build" / "benchmarks"
PEERS = ("tokenizers", "tiktoken", "transformers")
REQUIREMENTS = "benchmarks/requirements.txt"


class MissingPeer(RuntimeError):
    """A library to compare with is not installed."""


@dataclass(frozen=True)
class Row:
    """One comparison. `ratio` is ours / peer; None where there is no peer.

    `target` says in words what is to be reached, `holds` whether it is.
    `runs` keeps the single measurements behind the medians, `given` says
    what the peer was given where it could have been something else.
    """

    what: str
    ours: float
    peer: float | None
    peer_name: str
    unit: str
    target: str
    holds: bool
    runs: Mapping[str, Any] = field(default_factory=dict)
    given: str = ""

    @property
    def ratio(self) -> float | None:
        """Ours divided by the peer's."""
        return self.ours / self.peer if self.peer else None


def load(name: str) -> Any:
    """Import a peer, or say how to get it."""
    try:
        return __import__(name)
    except ImportError as error:
        raise MissingPeer(
            f"{name} cannot be imported ({error}); the libraries to compare "
            f"with come with: pip install -r {REQUIREMENTS}"
        ) from error


def in_a_process(code: str, *arguments: str) -> Any:
    """Run Python code in a process of its own; its last line is JSON.

    For what a used process would distort: memory, and times of a start.
    """
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"a benchmark's process failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def peak_memory() -> int:
    """The most memory that this process has held, in bytes.

    On Linux `getrusage` counts the parent's memory at the fork as well, so
    the kernel's own mark of this process is read there.
    """
    status = Path("/proc/self/status")
    if status.exists():
        found = re.search(r"VmHWM:\s*(\d+) kB", status.read_text())
        if found:
            return 1024 * int(found[1])
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def commit() -> str:
    """The commit that is checked out; with a plus where files differ."""
    if not shutil.which("git"):
        return "unknown"
    command = ["git", "describe", "--always", "--dirty=+", "--abbrev=12"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "unknown"


def source(name: str) -> str:
    """SHA-256 of the module that measures, to tell an older record by."""
    return file_sha256(ROOT / "benchmarks" / f"{name}.py")


def as_json(row: Row) -> dict[str, Any]:
    """The row as the file has it."""
    ratio = None if row.ratio is None else round(row.ratio, 4)
    return {**asdict(row), "ratio": ratio}


def write(name: str, rows: list[Row]) -> Path:
    """Write ``_build/benchmarks/NAME.json``: all of it, or nothing."""
    OUT.mkdir(parents=True, exist_ok=True)
    path = OUT / f"{name}.json"
    facts = {
        "machine": machine(),
        "lacks": lacks(),
        "versions": versions(("torch", *PEERS)),
        "commit": commit(),
        "source": source(name),
    }
    lines = [{**as_json(row), **facts} for row in rows]
    write_json(path, lines)
    return path


def short(value: float | None) -> str:
    """A number of three digits or more, for the table.

    >>> short(1234.5), short(0.01234), short(None)
    ('1,234', '0.0123', '–')
    """
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 999.5 else f"{value:.3g}"


def conditions(rows: list[Row]) -> str:
    """Under the table: what the processor lacks, what peers were given."""
    lines = [f"no instructions for {name}" for name in lacks()]
    given = dict.fromkeys(row.given for row in rows if row.given)
    return "\n".join([*lines, *given])


def table(rows: list[Row]) -> str:
    """The rows as text, columns aligned."""
    head = ("what", "ours", "peer", "unit", "ratio", "target", "holds")
    body = [
        (
            row.what,
            short(row.ours),
            f"{short(row.peer)} {row.peer_name}".strip(),
            row.unit,
            short(row.ratio),
            row.target,
            "yes" if row.holds else "NO",
        )
        for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(head, *body)]
    rule = tuple("-" * width for width in widths)
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths))
        .rstrip()
        for line in (head, rule, *body)
    )
