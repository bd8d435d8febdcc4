"""An emitted repository is complete, committed, and passes its own tests."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from scaffold.__main__ import main
from scaffold.emit import Plan, budgets, copies, emit, tracks

ROOT = Path(__file__).parent.parent


def run(folder: Path, *command: str) -> str:
    """Run Python in the folder, seeing nothing of this repository."""
    environment = {
        k: v for k, v in os.environ.items() if not k.startswith("PYTHON")
    }
    environment |= {"OMP_NUM_THREADS": "1", "PYTHONSAFEPATH": ""}
    done = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def git(folder: Path, *arguments: str) -> str:
    command = ["git", *arguments]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=True
    ).stdout


@pytest.fixture(scope="module", params=tracks())
def repository(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The repository of each track."""
    out = tmp_path_factory.mktemp("scaffold") / "llm"
    assert main(["--track", request.param, "--out", str(out)]) == 0
    return out


def test_it_is_a_git_repository_with_one_commit(repository: Path) -> None:
    assert git(repository, "status", "--porcelain") == ""
    assert len(git(repository, "log", "--oneline").splitlines()) == 1


def test_its_sources_are_those_of_the_book(repository: Path) -> None:
    files = sorted((repository / "scratchlm").rglob("*.py"))
    assert len(files) > 20
    for path in files:
        original = ROOT / "src" / path.relative_to(repository)
        assert path.read_bytes() == original.read_bytes()


def test_its_readme_names_every_topic_of_the_track(repository: Path) -> None:
    text = (repository / "README.md").read_text(encoding="utf-8")
    track = git(repository, "log", "--format=%s").split(": ")[1].split(",")[0]
    for topic in Plan(track, "cpu").topics:
        assert topic.title in text
        assert (repository / "scratchlm" / topic.package).is_dir()
    assert "{{" not in text
    assert "{%" not in text


@pytest.mark.slow
def test_its_checks_pass(repository: Path) -> None:
    assert "all hold" in run(repository, "-m", "checks")


@pytest.mark.slow
def test_its_own_tests_pass(repository: Path) -> None:
    """All of its test files; the numbers are those of this repository."""
    out = run(repository, "-m", "pytest", "-n", "2", "-p", "no:cacheprovider")
    assert " passed" in out
    assert " failed" not in out


@pytest.mark.slow
def test_it_trains_and_samples(repository: Path) -> None:
    small = "--steps 20 --characters 60000 --vocab-size 300 --layers 1"
    small += " --channels 32 --context 32 --batch-size 4 --warmup 2"
    out = run(repository, "train.py", *small.split())
    assert "done: best validation loss" in out
    text = run(repository, "sample.py", "--prompt", "Mrs", "--tokens", "20")
    assert text.startswith("Mrs")


def test_a_budget_changes_the_configuration(tmp_path: Path) -> None:
    sizes = {}
    for budget in budgets():
        out = emit(Plan("researcher", budget), tmp_path / budget)
        config = json.loads((out / "config.json").read_text(encoding="utf-8"))
        sizes[budget] = config["layers"] * config["channels"] ** 2
        assert budget in (out / "README.md").read_text(encoding="utf-8")
    assert sizes["cpu"] < sizes["gpu8"] < sizes["gpu24"] <= sizes["node8"]


def test_the_options_of_every_budget_are_understood(tmp_path: Path) -> None:
    """Every key of a budget is an option of the command `train`."""
    from scratchlm.cli.app import make_app

    for budget in budgets().values():
        path = tmp_path / "config.json"
        path.write_text(json.dumps(budget["train"]), encoding="utf-8")
        words = ["train", "--config", str(path)]
        app = make_app()
        _, bound, _ = app.parse_args(
            words, exit_on_error=False, print_error=False
        )
        assert bound.arguments["model"].layers == budget["train"]["layers"]


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["--track", "expert"], tracks),
        (["--track", "beginner", "--budget", "tpu"], budgets),
    ],
)
def test_unknown_names_exit_2_with_the_list(
    arguments: list[str],
    names: object,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "llm"
    assert main([*arguments, "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert all(name in error for name in names())  # type: ignore[operator]
    assert not out.exists()


def test_a_folder_that_holds_something_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.txt").write_text("do not lose this", encoding="utf-8")
    assert main(["--track", "beginner", "--out", str(tmp_path)]) == 2
    assert "not an empty folder" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    out = tmp_path / "empty"
    out.mkdir()
    assert main(["--track", "beginner", "--out", str(out)]) == 0
    assert (out / "README.md").exists()


def test_all_or_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the last stage fails, no file is left behind."""
    monkeypatch.setattr("scaffold.emit.git", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        emit(Plan("beginner", "cpu"), tmp_path / "llm")
    assert list(tmp_path.iterdir()) == []


def test_without_git_the_error_says_so(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["--track", "beginner", "--out", str(tmp_path / "llm")]) == 2
    assert "git is not installed" in capsys.readouterr().err


def test_the_plan_of_weeks_holds_each_topic_once() -> None:
    for track, facts in tracks().items():
        plan = Plan(track, "cpu")
        topics = [topic for week in plan.weeks for topic in week.topics]
        assert tuple(topics) == plan.topics
        assert all(w.hours <= facts["hours"] for w in plan.weeks)


def test_nothing_is_copied_that_does_not_exist() -> None:
    for source in copies(Plan("researcher", "cpu")).values():
        assert source.exists(), source
