"""A plugin of pytest: what took long, by its record, runs in `make judge`.

`make test` is there for those who wait for it. So a test that took longer
than `LONGEST` when ``records/pace.json`` was made has the mark `long`, and is
left out unless asked for: ``pytest -m ""`` runs all, and so does the judge
`tests`. A test that the record does not know runs.

A test with the mark `always` runs whatever it takes: without it, a line that
the book shows would be run by no test of `make test`.

``--times FILE`` writes what each test took, as JSON.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from press.records import read

RECORD = Path(__file__).parent.parent / "records" / "pace.json"
LONGEST = 0.5  # seconds, with what is set up for it


def long_ones(record: Path = RECORD) -> set[str]:
    """The tests that took too long, by their names; none without a record."""
    if not record.exists():
        return set()
    seconds = read(record)["data"]["seconds"]
    return {name for name, value in seconds.items() if value > LONGEST}


class Times:
    """Adds up what each test takes: before it, in it, and after it."""

    def __init__(self, path: Path) -> None:
        """Keep the file for the end."""
        self.path = path
        self.seconds: dict[str, float] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """One part of a test is over, in whichever process it ran."""
        before = self.seconds.get(report.nodeid, 0.0)
        self.seconds[report.nodeid] = before + report.duration

    def pytest_sessionfinish(self) -> None:
        """Write what there is."""
        self.path.write_text(json.dumps(self.seconds), encoding="utf-8")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Where to write the times."""
    parser.addoption(
        "--times",
        type=Path,
        metavar="FILE",
        help="write what each test took, in seconds, as JSON",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Measure in the process that hears of all tests, and in no other."""
    path = config.getoption("--times")
    if path is not None and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Times(path))


@pytest.hookimpl(tryfirst=True)  # before those with a mark are left out
def pytest_collection_modifyitems(items: list[Any]) -> None:
    """Mark what took long."""
    known = long_ones()
    for item in items:
        if item.nodeid in known and not item.get_closest_marker("always"):
            item.add_marker("long")
