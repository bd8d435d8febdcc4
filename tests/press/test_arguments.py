"""Arguments that cannot be: one sentence, exit 2, and nothing is written."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from press import build, mutants, roadmap, setup, system
from press.files import ROOT

BAD = {
    "build, nothing": ("press.build", [], "required: what"),
    "build, unknown": ("press.build", ["pfd"], "invalid choice: 'pfd'"),
    "build, a page without a file": ("press.build", ["page"], "PAGE="),
    "build, a folder": ("press.build", ["page", "book/model"], "PAGE="),
    "build, no page": (
        "press.build",
        ["page", "README.md"],
        "README.md is no page",
    ),
    "build, no Markdown": (
        "press.build",
        ["page", "book/omitted.yml"],
        "omitted.yml is no page",
    ),
    "build, elsewhere": ("press.build", ["page", sys.executable], "no page"),
    "build, no track": (
        "press.build",
        ["pdf", "--track", "novice"],
        "invalid choice: 'novice'",
    ),
    "build, a track of the site": (
        "press.build",
        ["html", "--track", "beginner"],
        "html has no track",
    ),
    "build, a file too many": (
        "press.build",
        ["pdf", "book/index.md"],
        "pdf takes no file",
    ),
    "gates": ("press.gates.__main__", ["numbers", "x"], "no gate x"),
    "gates, empty": ("press.gates.__main__", [""], "no gate "),
    "judge": ("press.judge", ["--only", "nobody"], "invalid choice"),
    "judge, none": ("press.judge", ["--only"], "at least one"),
    "mutants": ("press.mutants", ["--module", "a.b"], "no module a.b"),
    "mutants, none": ("press.mutants", ["--sample", "-1"], "0 or more"),
    "mutants, nobody": ("press.mutants", ["--jobs", "0"], "1 or more"),
    "mutants, out": ("press.mutants", ["--out", "book"], "is a folder"),
    "roadmap": ("press.roadmap", ["now"], "unrecognized arguments: now"),
    "lock": ("press.lock", ["now"], "unrecognized arguments: now"),
    "system": ("press.system", ["now"], "unrecognized arguments: now"),
}


@pytest.mark.parametrize("kind", BAD)
def test_it_is_refused(
    kind: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    module, arguments, why = BAD[kind]
    monkeypatch.setattr(build, "BUILD", tmp_path / "_build")
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit) as stop:
        importlib.import_module(module).main(arguments)
    assert stop.value.code == 2
    assert why in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_build_folder_that_is_a_file_is_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    place = tmp_path / "_build"
    place.write_text("mine")
    monkeypatch.setattr(build, "BUILD", place)
    with pytest.raises(SystemExit) as stop:
        build.main(["html"])
    assert stop.value.code == 2
    assert f"{place} cannot be made" in capsys.readouterr().err
    assert place.read_text() == "mine"


def test_asked_for_help_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(roadmap, "ROOT", tmp_path)
    monkeypatch.setattr(mutants, "REASONS", tmp_path / "none")
    for module in ("press.roadmap", "press.lock", "press.mutants"):
        with pytest.raises(SystemExit) as stop:
            importlib.import_module(module).main(["--help"])
        assert stop.value.code == 0
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_roadmap_is_one_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def wrong() -> roadmap.Roadmap:
        raise roadmap.RoadmapError("roadmap.yml:3: no part x")

    monkeypatch.setattr(roadmap, "ROOT", tmp_path)
    monkeypatch.setattr(roadmap, "load", wrong)
    assert roadmap.main([]) == 2
    assert capsys.readouterr().err == "roadmap.yml:3: no part x\n"
    assert list(tmp_path.iterdir()) == []


def test_the_roadmap_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(roadmap, "ROOT", tmp_path)
    assert roadmap.main([]) == 0
    text = (ROOT / "_toc.yml").read_text(encoding="utf-8")
    assert (tmp_path / "_toc.yml").read_text(encoding="utf-8") == text


def test_who_only_looks_installs_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(system, "missing_judges", lambda: ["java"])
    monkeypatch.setattr(system, "install", lambda *_: 1 / 0)
    monkeypatch.setattr(system, "fetch_validator", lambda: 1 / 0)
    monkeypatch.setattr(system, "administrator", lambda: [])
    assert system.main(["--check", "--judges"]) == 1
    assert "The judges need java" in capsys.readouterr().err


# --- set-up ------------------------------------------------------------------

SETTINGS = {
    "an unknown PyTorch": ({"TORCH": "gpu"}, "TORCH=gpu: leave TORCH out"),
    "a file": ({"VENV": "FILE"}, "is a file; name a folder"),
    "below a file": ({"VENV": "FILE/env"}, "nothing can be made in"),
    "a folder of other things": ({"VENV": "FULL"}, "would be deleted"),
    "the repository": ({"VENV": str(ROOT)}, "would be deleted"),
    "the root": ({"VENV": "/"}, "would be deleted"),
}


@pytest.mark.parametrize("kind", SETTINGS)
def test_setup_refuses(kind: str, tmp_path: Path) -> None:
    settings, why = SETTINGS[kind]
    full = tmp_path / "full"
    full.mkdir()
    (full / "letter.txt").write_text("dear")
    places = {"FILE": str(full / "letter.txt"), "FULL": str(full)}
    for short, place in places.items():
        settings = {k: v.replace(short, place) for k, v in settings.items()}
    log = ROOT / "_build" / "logs" / "setup.log"
    before = log.stat().st_mtime_ns if log.exists() else None
    done = subprocess.run(
        [sys.executable, "-m", "press.setup"],
        cwd=ROOT,
        env={**os.environ, "VENV": str(tmp_path / "new"), **settings},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert why in done.stderr
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert (full / "letter.txt").read_text() == "dear"
    assert not (tmp_path / "new").exists()
    assert (log.stat().st_mtime_ns if log.exists() else None) == before


@pytest.mark.parametrize("version", [(3, 10, 12), (3, 14, 0), (2, 7, 18)])
def test_setup_refuses_another_python(
    version: tuple[int, int, int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(setup.sys, "version_info", version)
    monkeypatch.setattr(setup.sys, "argv", ["setup"])
    monkeypatch.setattr(setup, "install", lambda torch: 1 / 0)
    with pytest.raises(SystemExit) as stop:
        setup.main()
    assert stop.value.code == 2
    assert "Python 3.11 to 3.13 is needed" in capsys.readouterr().err


def test_setup_refuses_a_folder_that_it_may_not_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(setup.os, "access", lambda path, mode: False)
    assert f"nothing can be made in {tmp_path}" in setup.refusal(
        tmp_path / "a" / "b"
    )
