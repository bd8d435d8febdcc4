"""What checks print is kept while nothing changes, and failures are not."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from press import checks
from press.extensions import ahead
from press.roadmap import load

TOPIC = load().by_id["characters"]


def forbidden(*_: Any, **__: Any) -> None:
    raise AssertionError("a check that is known was run again")


def test_a_check_runs_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "BUILD", tmp_path)
    lines = checks.output(TOPIC).splitlines()
    assert lines[0].startswith("characters: ")
    assert all(line.startswith("  ✓ ") for line in lines[1:])
    monkeypatch.setattr(checks, "run", forbidden)
    assert checks.output(TOPIC).splitlines() == lines
    monkeypatch.setattr(checks, "digest", lambda files: "another")
    with pytest.raises(AssertionError, match="run again"):
        checks.output(TOPIC)


def test_a_check_that_fails_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "BUILD", tmp_path)
    unknown = replace(TOPIC, id="unheard")
    with pytest.raises(checks.CheckFailed, match="no topic 'unheard'"):
        checks.output(unknown)
    ahead.check(unknown)  # its page will tell
    assert not list(tmp_path.rglob("*.txt"))


def test_chapters_have_checks_and_other_pages_have_none() -> None:
    pages = ["book/text/characters", "book/start/idea", "book/model/heads"]
    found = [[topic.id for topic in ahead.checked_on(name)] for name in pages]
    assert found == [["characters"], [], ["heads"]]


def test_a_check_prints_the_same_from_a_fork_and_from_a_program(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    code, text = checks.run(TOPIC)
    monkeypatch.setattr(checks, "FORKS", False)
    assert code == 0
    assert checks.run(TOPIC)[1].splitlines()[:-1] == text.splitlines()[:-1]
