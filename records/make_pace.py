"""What each test of the suite takes, so that `make test` can be short.

All tests run, two at a time, but for those that take minutes by their mark.
What several of them share is made by the first of them and counts as its
time. So those that are left for `make test` run once more, and of them the
second time counts.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from press.pace import LONGEST

ROOT = Path(__file__).parent.parent
KEPT = 0.25  # seconds from which on a test is named
PROCESSES = 2
FAILED = 1  # what pytest returns where tests ran, and some failed
BUDGET = 150.0  # seconds of two processes, for the tests of `make test`


def times(marks: str, left_out: list[str]) -> dict[str, float]:
    """Run tests; returns the seconds of each, of one that fails as well.

    RuntimeError where pytest could not run them.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "times.json"
        command = [sys.executable, "-m", "pytest", "-n", str(PROCESSES)]
        command += ["-m", marks, "--times", str(path)]
        command += [word for name in left_out for word in ("--deselect", name)]
        if subprocess.run(command, cwd=ROOT, check=False).returncode > FAILED:
            raise RuntimeError("the tests did not run (see above)")
        found: dict[str, float] = json.loads(path.read_text(encoding="utf-8"))
        return found


def record() -> dict[str, Any]:
    """Run all tests, and again those that are not long."""
    seconds = times("not judge", [])
    long = [name for name, value in seconds.items() if value > LONGEST]
    seconds |= times("not judge", long)
    rest = [v for v in seconds.values() if v <= LONGEST]
    return {
        "tests": len(seconds),
        "short": len(rest),
        "short_seconds": round(sum(rest), 1),
        "seconds": {
            name: round(value, 2)
            for name, value in sorted(seconds.items())
            if value > KEPT
        },
    }


def replay(data: dict[str, Any]) -> None:
    """Two processes are through in time, and the long ones are told apart."""
    seconds = data["seconds"].values()
    left_out = data["tests"] - data["short"]
    assert left_out >= sum(value > LONGEST for value in seconds)
    assert left_out <= sum(value >= LONGEST for value in seconds)  # rounded
    assert data["short_seconds"] <= BUDGET * PROCESSES
    assert all(value >= KEPT for value in seconds)
