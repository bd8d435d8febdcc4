"""From the first hole to the last page, and ten mistakes on the way.

The messages of the mistakes are kept in `mistakes.yml`. To make them again:
`.venv/bin/python tests/scaffold/test_walk.py`.
"""

import ast
import contextlib
import io
import re
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from check import progress
from check.commands import main
from check.diagnose import known_bugs
from check.places import Site
from scaffold.emit import emit
from scaffold.holes import body, fill
from scaffold.plan import Plan

GOLDEN = Path(__file__).with_name("mistakes.yml")
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[-+]?\d+)?")
PLACE = re.compile(r"(\S+\.py):(\d+) \((\w+)\)")  # file, line, function
WITH = (  # the topics in whose holes a mistake is made
    "characters",
    "bpe",
    "attention",
    "heads",
    "layers",
    "block",
    "optimizer",
    "schedule",
    "sampling",
    "instruct",
)


def asked(site: Site, *words: str) -> tuple[int, str]:
    """What `python -m check` returns and prints."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = main(list(words), site)
    return code, out.getvalue()


def solve(site: Site, name: str, bug: tuple[str, str] = ("", "")) -> bool:
    """Write the book's body, or one with a bug; whether there was a place."""
    topic = site.topics[name]
    book = (site.reference / topic.file).read_text(encoding="utf-8")
    old, new = bug
    text = "\n".join(body(book, topic.hole)) + "\n"
    if old and text.count(old) != 1:
        return False
    lines = (text.replace(old, new) if old else text).splitlines()
    path = site.path(topic)
    whole = fill(path.read_text(encoding="utf-8"), topic.hole, lines)
    path.write_text(whole, encoding="utf-8")
    return True


def mistake(site: Site, name: str, wanted: str = "") -> tuple[str, str]:
    """Make a mistake in a hole; returns it, and what the check says."""
    for bug, change in known_bugs(site, site.topics[name]).items():
        if wanted in ("", bug) and solve(site, name, change):
            code, said = asked(site, name)
            assert code == 1
            return bug, said
    raise AssertionError(f"no known mistake of {name} has a place in its hole")


def parts(said: str) -> list[str]:
    """The lines; of measured values the words alone, of all else the whole.

    The number of a line moves with the text above it: `well_placed` looks
    at it.
    """
    lines = PLACE.sub(r"\1:# (\3)", said).splitlines()
    measured = ("expected", "got")
    return [
        NUMBER.sub("#", line) if line.split()[0] in measured else line
        for line in lines
        if line.strip()
    ]


def well_placed(site: Site, said: str) -> bool:
    """Whether each line that a message names is in its function or class."""
    for file, line, name in PLACE.findall(said):
        tree = ast.parse((site.sources / file).read_text(encoding="utf-8"))
        spans = [
            range(node.lineno, (node.end_lineno or 0) + 1)
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef | ast.ClassDef)
            and node.name == name
        ]
        if not any(int(line) in span for span in spans):
            return False
    return True


def golden() -> dict[str, Any]:
    """Each topic's mistake, and the message that it has to give."""
    data = yaml.safe_load(GOLDEN.read_text(encoding="utf-8"))
    assert isinstance(data, dict)
    return data


def state(site: Site, name: str) -> str:
    """How a topic stands."""
    return progress.state(site, progress.read(site), site.topics[name])


def walk(site: Site, kept: dict[str, Any]) -> dict[str, Any]:
    """Fill hole after hole, as `python -m check` asks; the mistakes' words.

    `kept` names the mistakes; where it does not, the first is made that has
    a place in the hole.
    """
    found, said = {}, ""
    for name, topic in site.topics.items():
        code, said = asked(site)  # the next open topic is this one
        assert code == 0, said
        assert state(site, name) == "todo", said
        assert f"○ write {topic.hole}, {topic.file}:" in said
        if name in WITH:
            wanted = kept.get(name, {}).get("mistake", "")
            bug, said = mistake(site, name, wanted)
            assert bug in " ".join(said.split())
            assert well_placed(site, said), said
            found[name] = {"mistake": bug, "message": said}
        solve(site, name)
        code, said = asked(site)
        assert code == 0, said
        assert state(site, name) == "pass", said
    assert "Everything passes." in said
    assert ", 0 of them other than the book's" in said
    return found


@pytest.mark.judge
def test_from_the_first_hole_to_the_last_page(tmp_path: Path) -> None:
    site = Site(emit(Plan("beginner", "cpu"), tmp_path / "llm"))
    kept = golden()
    assert set(kept) == set(WITH)
    found = walk(site, kept)
    for name, entry in kept.items():
        assert found[name]["mistake"] == entry["mistake"]
        assert parts(found[name]["message"]) == parts(entry["message"])


@pytest.mark.judge
def test_a_topic_that_no_beginner_has(tmp_path: Path) -> None:
    plan = Plan("practitioner", "cpu", mode="stubs")
    site = Site(emit(plan, tmp_path / "llm"))
    others = {topic.id for topic in Plan("beginner", "cpu").topics}
    found = [name for name in site.topics if name not in others]
    assert found
    for name in found:
        assert asked(site, name)[0] == 0
        assert state(site, name) == "todo"
        solve(site, name)
        assert asked(site, name)[0] == 0
        assert state(site, name) == "pass"


def write() -> None:
    """Make the messages again."""
    with tempfile.TemporaryDirectory() as folder:
        site = Site(emit(Plan("beginner", "cpu"), Path(folder) / "llm"))
        found = walk(site, {})
    yaml.add_representer(str, literal)
    text = yaml.dump(found, allow_unicode=True, sort_keys=False, width=79)
    GOLDEN.write_text(text, encoding="utf-8")


def literal(dumper: yaml.Dumper, text: str) -> yaml.ScalarNode:
    """A text of several lines as it is printed."""
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


if __name__ == "__main__":
    with pytest.MonkeyPatch.context() as patch:  # as the tests see it
        patch.setattr("check.places.PAGES", "_build/never-made.json")
        write()
