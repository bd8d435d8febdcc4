"""Long tests are left to the judges, and nothing else is left out."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from press import pace
from press.files import ROOT
from press.records import read, seal
from records import make_pace

FILE = '''"""Three tests."""

import time

import pytest


def test_short() -> None:
    time.sleep(0.3)


def test_long() -> None:
    pass


@pytest.mark.always
def test_needed() -> None:
    pass
'''


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """A folder with three tests, two of which a record calls long."""
    (tmp_path / "test_them.py").write_text(FILE, encoding="utf-8")
    times = {"test_them.py::test_long": 0.6, "test_them.py::test_needed": 9.0}
    times["test_them.py::test_short"] = 0.4
    record = {"name": "pace", "data": {"seconds": times}}
    path = tmp_path / "pace.json"
    path.write_text(json.dumps(seal(record)), encoding="utf-8")
    settings = "[pytest]\nmarkers =\n    long: left out\n    always: never\n"
    (tmp_path / "pytest.ini").write_text(settings, encoding="utf-8")
    plugin = "from pathlib import Path\nfrom press import pace\n"
    plugin += "known = pace.long_ones(Path(__file__).parent / 'pace.json')\n"
    plugin += "pace.long_ones = lambda: known\n"
    (tmp_path / "conftest.py").write_text(plugin, encoding="utf-8")
    return tmp_path


def said_of(folder: Path, *words: str) -> str:
    """What pytest says of a folder."""
    command = [sys.executable, "-m", "pytest", "-v", *words]
    done = subprocess.run(
        [*command, "-p", "press.pace", "-p", "no:cacheprovider"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_what_took_long_is_left_out_unless_it_is_needed(suite: Path) -> None:
    said = said_of(suite, "-m", "not long")
    assert "test_short PASSED" in said
    assert "test_needed PASSED" in said
    assert "test_long" not in said
    assert "1 deselected" in said
    assert "test_long PASSED" in said_of(suite, "-m", "")


@pytest.mark.parametrize("processes", ["0", "2"])
def test_times_are_written(suite: Path, processes: str) -> None:
    file = suite / "times.json"
    said_of(suite, "-n", processes, "--times", str(file))
    times = json.loads(file.read_text(encoding="utf-8"))
    assert len(times) == 3
    assert times["test_them.py::test_short"] > 0.3
    assert times["test_them.py::test_long"] < 0.3


def test_without_a_record_nothing_is_long(tmp_path: Path) -> None:
    assert pace.long_ones(tmp_path / "none.json") == set()


def test_the_record_is_in_time() -> None:
    data = read(pace.RECORD)["data"]
    make_pace.replay(data)
    with pytest.raises(AssertionError):
        make_pace.replay(data | {"short_seconds": 301.0})
    with pytest.raises(AssertionError):
        make_pace.replay(data | {"short": data["short"] + 100})


@pytest.mark.judge
def test_all_that_is_long_is_still_there() -> None:
    command = [sys.executable, "-m", "pytest", "--co", "-m", ""]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert pace.long_ones() <= set(done.stdout.splitlines())
