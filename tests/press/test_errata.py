"""The errata: true to their form, in order, about places that there are."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from press import errata
from press.errata import ErrataError, load
from press.tracks import titles

ROOT = Path(__file__).parents[2]
GOOD = errata.FILE.read_text(encoding="utf-8")


def test_each_entry_is_about_a_place_of_the_book() -> None:
    entries = load()
    assert len(entries) >= 5
    assert {entry.place for entry in entries} <= set(titles())


def test_no_entry_is_newer_than_the_last_commit() -> None:
    """A date is written by hand; git knows what day it was."""
    command = ["git", "log", "-1", "--format=%as"]
    last = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()
    assert max(entry.date.isoformat() for entry in load()) <= last


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('date: "2026-11-27"', 'date: "2026-11-31"', "2026-11-31 is no date"),
        ('date: "2026-11-27"', "date: 27 November", "does not match"),
        ('date: "2026-11-27"', 'date: "2026-11-01"', "behind an older"),
        ("  place: pitfalls", "  page: server", "'place' is a required"),
        ("edition: 0.1.0", "edition: first", "does not match"),
        ("  reported: the authors\n", "", "'reported' is a required"),
        ("errata:\n", "errors:\n", "'errata' is a required"),
        ("errata:\n", "errata: [\n", "errata.yml: "),
        ('date: "2026-11-27"', "date: 2026-11-31", "day is out of range"),
    ],
)
def test_a_mistake_is_named_with_its_line(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    assert old in GOOD
    path = tmp_path / "errata.yml"
    path.write_text(GOOD.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(ErrataError, match=r"errata\.yml:") as error:
        load(path)
    assert message in str(error.value)


def test_the_line_is_the_right_one(tmp_path: Path) -> None:
    path = tmp_path / "errata.yml"
    path.write_text(GOOD.replace("place: pitfalls", "place: 7th", 1))
    with pytest.raises(ErrataError) as error:
        load(path)
    number = int(str(error.value).split(":")[1])
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[number - 1].strip() == "place: 7th"


ENTRY = """errata:
- date: "2026-01-02"
  edition: 0.1.0
  place: page
  stood: The answer is 41.
  right: The answer is 42.
  reported: a reader
"""


def test_the_list_is_printed_or_said_to_be_empty(small_book: Any) -> None:
    """And a place that the book lacks fails the build."""
    small_book.write("book/last.md", "# Errata\n\n```{errata}\n```\n")
    path = small_book.folder / "book" / "page.md"
    page = path.read_text(encoding="utf-8")
    path.write_text(page.replace(", and {cite}`someone2026`", ""))
    said = {}
    for name, text in (("none", "errata: []\n"), ("one", ENTRY)):
        small_book.write("book/errata.yml", text)
        done = small_book.build("html")
        assert done.returncode == 0, done.stderr[-2000:]
        out = small_book.folder / "_build" / "out" / "_build" / "html" / "book"
        html = (out / "last.html").read_text(encoding="utf-8")
        said[name] = re.sub(r"<[^>]+>|\s+", " ", html)
    assert "No mistake of fact is known." in said["none"]
    for words in ("The answer is 41.", "mended on 2 January 2026", "a reader"):
        assert words in said["one"]
    nowhere = ENTRY.replace("place: page", "place: x")
    small_book.write("book/errata.yml", nowhere)
    done = small_book.build("html")
    assert done.returncode == 1
    assert "undefined label: 'x'" in done.stderr
