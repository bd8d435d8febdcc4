"""The doctor of the scaffold: each line says what to do."""

import os
import subprocess
import sys
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

ROOT = Path(__file__).parents[2]


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


def test_a_git_that_only_says_how_to_get_one_is_none(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As on a Mac, where /usr/bin/git is there before its tools are."""
    stub = tmp_path / "git"
    stub.write_text("#!/bin/sh\necho xcode-select: note >&2\nexit 1\n")
    stub.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert main(["doctor"]) == 4
    printed = capsys.readouterr()
    assert "✗ git" in printed.out
    assert "disk" in printed.out
    assert printed.err.startswith("error: git: ")


def test_it_says_so_where_output_is_not_utf_8() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "scaffold", "doctor"],
        cwd=ROOT,
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "\\u2713 git" in done.stdout
    assert "output is not UTF-8" in done.stdout


def test_without_the_libraries_it_says_which_python_has_them() -> None:
    done = subprocess.run(
        [sys.executable, "-S", "-m", "scaffold", "doctor"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 4, done.stderr
    assert "is not installed for" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_library_that_a_command_lacks_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def lacks(_: object) -> int:
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.setattr("scaffold.__main__.carry_out", lacks)
    assert main(["list"]) == 4
    error = capsys.readouterr().err
    assert error.startswith("error: torch is not installed; ")


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
