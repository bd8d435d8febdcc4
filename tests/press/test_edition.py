"""What an output says of itself: version, commit, and changes."""

import shutil
import subprocess
from pathlib import Path

import pytest

from press import edition
from press.files import ROOT


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What names the edition, in a folder of its own."""
    for name in ("book.yml", "pyproject.toml", "CITATION.cff"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def git(folder: Path, *arguments: str) -> None:
    names = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    command = ["git", "-C", str(folder), *names, *arguments]
    subprocess.run(command, check=True, capture_output=True)


def commit(folder: Path) -> None:
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "One", "--date=2026-01-02T03:04:05Z")


def test_without_git_there_is_a_version_and_a_date(folder: Path) -> None:
    found = edition.read(folder)
    assert found.words == f"version {found.version}"
    assert found.date.year == 2026
    assert found.identifier == f"scratchlm-{found.version}"


def test_a_clone_says_the_same_and_a_change_is_said(folder: Path) -> None:
    commit(folder)
    first = edition.read(folder)
    assert f"version {first.version}, commit " in first.words
    assert len(first.commit) == 10
    clone = folder.parent / (folder.name + "-clone")
    git(folder, "clone", "-q", str(folder), str(clone))
    assert edition.read(clone) == first
    (clone / "records").mkdir()
    (clone / edition.VERDICTS).write_text("{}")  # on it, and no part of it
    assert edition.read(clone) == first
    (clone / "new.md").write_text("x")
    changed = edition.read(clone)
    assert changed.words == first.words + " with changes"
    assert changed.identifier != first.identifier


def test_another_repository_is_not_asked(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not the one around an unpacked archive, not that of GIT_DIR."""
    inner = folder / "unpacked"
    inner.mkdir()
    for name in ("book.yml", "pyproject.toml", "CITATION.cff"):
        shutil.copy(ROOT / name, inner / name)
    commit(folder)
    assert edition.read(inner).commit == ""
    monkeypatch.setenv("GIT_DIR", str(folder / ".git"))
    assert edition.read(inner).commit == ""
