"""Every declared check is executed, and none of them keeps a reader waiting."""

import ast
import json
from pathlib import Path
from statistics import median

import pytest

from check.diagnose import failures
from check.places import Site
from check.process import Job, run
from press.roadmap import load

ROOT = Path(__file__).parents[2]
RECORD = ROOT / "records" / "mistakes.json"
DATA = json.loads(RECORD.read_text(encoding="utf-8"))["data"]
QUICK = ("attention", "bpe", "cache", "lora", "packing", "perplexity")
ALL = tuple(topic.id for topic in load().topics)
USUAL, LONGEST = 2.0, 20.0  # seconds: of half of the topics, of any


def declared(site: Site, name: str) -> list[str]:
    """The checks in a topic's file, read from its text, twice what is twice."""
    text = site.check_file(site.topics[name]).read_text(encoding="utf-8")
    return [
        node.name
        for node in ast.parse(text).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("check_")
    ]


def executed(site: Site, name: str) -> list[str]:
    """The checks that a run of the book's own code reports."""
    report = run(Job(site, site.topics[name], site.sources), lambda: LONGEST)
    assert failures(report) == {}
    assert report["seconds"] < LONGEST
    return [check["name"] for check in report["checks"]]


def test_the_record_has_every_topic() -> None:
    assert tuple(DATA) == ALL


@pytest.mark.parametrize("name", ALL)
def test_every_declared_check_is_in_the_record(name: str, book: Site) -> None:
    checks = declared(book, name)
    assert len(checks) > 0
    assert DATA[name]["checks"] == checks
    for bug, way in DATA[name]["mistakes"].items():
        assert len(way["marks"]) == len(checks), bug


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=[] if n in QUICK else [pytest.mark.judge])
        for n in ALL
    ],
)
def test_every_declared_check_is_executed(name: str, book: Site) -> None:
    assert executed(book, name) == declared(book, name)


def test_no_recorded_topic_takes_long() -> None:
    seconds = {name: part["seconds"] for name, part in DATA.items()}
    assert all(taken > 0 for taken in seconds.values())
    assert median(seconds.values()) < USUAL
    assert [n for n, taken in seconds.items() if taken > LONGEST] == []
