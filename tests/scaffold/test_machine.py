"""The doctor of the scaffold: each line says what to do."""

from pathlib import Path

import pytest

from scaffold.__main__ import main
from scaffold.machine import (
    find_cards,
    find_disk,
    find_git,
    find_memory,
    find_python,
    largest,
)
from scaffold.plan import budgets


def test_it_finds_what_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.split("\n\n")[0].splitlines()
    names = [line.split()[1] for line in lines]
    assert names[:6] == ["git", "python", "torch", "memory", "disk", "gpu"]
    for line in lines:
        assert line[0] in "✓✗"
        assert line.rpartition(": ")[2].strip()


def test_what_is_missing_ends_with_4(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(
        "scaffold.machine.importlib.util.find_spec", lambda name: None
    )
    assert main(["doctor"]) == 4
    printed = capsys.readouterr()
    assert "✗ git" in printed.out
    assert "https://git-scm.com" in printed.out
    assert "make setup" in printed.out
    assert "git, torch" in printed.err


def test_python_is_held_against_what_the_package_asks() -> None:
    assert find_git().good
    assert find_python().good
    for version in ((3, 10), (3, 14)):
        old = find_python(version)
        assert not old.good
        assert ">=3.11,<3.14" in old.advice


def test_memory_and_disk_say_for_what_they_suffice() -> None:
    assert find_memory(8e9).advice == "enough for --budget cpu"
    assert not find_memory(1e9).good
    assert find_disk(10e9).good
    assert "6.0 GB" in find_disk(1e9).advice


@pytest.mark.parametrize(
    ("memories", "budget"),
    [
        ([], "cpu"),
        ([2e9], "cpu"),
        ([8.2e9], "gpu8"),
        ([16e9], "gpu8"),
        ([25.3e9], "gpu24"),
        ([85e9], "gpu24"),
        ([85e9] * 8, "node8"),
        ([25e9] * 8, "gpu24"),
    ],
)
def test_cards_lead_to_a_budget(memories: list[float], budget: str) -> None:
    found = find_cards(memories, "as on the processor")
    assert f"--budget {budget}" in found.advice
    assert budget in budgets()


def test_a_card_that_computes_something_else_is_not_used() -> None:
    found = find_cards([25e9], "WRONG: loss differs by 1e-01 of its largest")
    assert not found.good
    assert "--device cpu" in found.advice
    assert largest(1e9, cards=True) == ""
