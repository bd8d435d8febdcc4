"""Correct code of other shapes is not refused: five forms of a topic.

A file of `forms` has those of one topic, by what is other about each: Python
that stands at the end of the module and defines something once more. In
`make test` one form of each topic is tried, in the long tests all.
"""

import ast
import runpy
from pathlib import Path

import pytest

from check.diagnose import failures
from check.places import Site
from check.process import Job, run
from press.records import read
from press.roadmap import load

LEAST = 5  # forms of a topic that is core in every track
RECORD = Path(__file__).parents[2] / "records" / "forms.json"
FILES = sorted((Path(__file__).parent / "forms").glob("*.py"))
FORMS = {path.stem: runpy.run_path(str(path))["FORMS"] for path in FILES}
EACH = [
    pytest.param(topic, name, marks=[pytest.mark.judge] if place else [])
    for topic, forms in FORMS.items()
    for place, name in enumerate(forms)
]


def test_topics_that_are_core_for_all_have_five_forms() -> None:
    core = [
        topic.id
        for topic in load().topics
        if set(topic.tracks.values()) == {"core"}
    ]
    assert core
    assert [t for t in core if len(FORMS.get(t, ())) < LEAST] == []
    codes = [code for forms in FORMS.values() for code in forms.values()]
    assert len(set(codes)) == len(codes)


def test_the_record_has_all_forms_and_none_that_is_refused() -> None:
    data = read(RECORD)["data"]
    assert {t: list(found) for t, found in data.items()} == {
        t: list(FORMS[t]) for t in data
    }
    assert set(data) == set(FORMS)
    alarms = [
        (topic, form)
        for topic, found in data.items()
        for form, told in found.items()
        if told["refused_by"] or not told["checks"]
    ]
    assert alarms == []


def failing(book: Site, topic: str, code: str) -> list[str]:
    """The checks that fail for a topic's module with this code at its end."""
    found = book.topics[topic]
    text = book.path(found).read_text(encoding="utf-8") + code
    job = Job(book, found, book.sources, text=text)
    return list(failures(run(job, lambda _: 60.0)))


def emptied(code: str) -> str:
    """The same definitions, each of whose functions raises an error."""
    tree = ast.parse(code)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            node.body = ast.parse("raise RuntimeError").body
    return ast.unparse(tree)


@pytest.mark.parametrize(("topic", "name"), EACH)
def test_other_forms_pass(topic: str, name: str, book: Site) -> None:
    assert failing(book, topic, FORMS[topic][name]) == []


@pytest.mark.judge
@pytest.mark.parametrize(("topic", "name"), EACH)
def test_the_checks_run_each_form(topic: str, name: str, book: Site) -> None:
    assert failing(book, topic, "\n" + emptied(FORMS[topic][name])) != []
