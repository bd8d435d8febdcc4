"""Set-up: what it installs, what it refuses to delete."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from press import lock, setup, system
from press.files import ROOT

# --- the lock ----------------------------------------------------------------


def test_the_lock_names_exact_versions_of_all_that_is_asked_for() -> None:
    wanted = (ROOT / "requirements.in").read_text(encoding="utf-8")
    names = [
        re.split(r"[=<>]", line)[0].strip().lower()
        for line in wanted.splitlines()
        if line and not line.startswith("#")
    ]
    assert len(names) > 20
    assert set(names) <= set(lock.locked())
    needed = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    needed = needed.split("dependencies = [")[1].split("]")[0]
    assert set(re.findall(r'"([\w-]+)', needed)) <= set(names)


def test_the_lock_of_the_large_print_agrees_with_the_first() -> None:
    text = lock.LARGE_LOCK.read_text(encoding="utf-8")
    asked = re.findall(r"^([\w-]+)>=", lock.LARGE.read_text("utf-8"), re.M)
    found = dict(re.findall(r"^([\w.-]+)==(\S+)", text, re.M))
    assert {"weasyprint", "ziamath"} <= set(asked) <= set(found)
    shared = set(found) & set(lock.locked())
    assert "pillow" in shared
    for name in shared:
        assert any(
            line.startswith(f"{name}=={found[name]}")
            for line in lock.locked()[name]
        )
    blocks = re.split(r"^(?=[a-z0-9])", text, flags=re.M)[1:]
    assert all("--hash=sha256:" in block for block in blocks)


def test_every_locked_file_has_a_hash_and_nothing_names_an_index() -> None:
    text = lock.LOCK.read_text(encoding="utf-8")
    blocks = re.split(r"^(?=[a-z0-9])", text, flags=re.M)[1:]
    assert len(blocks) > 100
    for block in blocks:
        assert "==" in block.splitlines()[0]
        assert block.count("--hash=sha256:") >= 1, block
    assert "://" not in text


def test_the_lock_has_all_that_its_packages_need_on_a_computer() -> None:
    """What is for every system but a browser, too; pip check says the rest."""
    text = "a==1 ; sys_platform != 'emscripten' \\\n    --hash=sha256:0\n"
    gone = "b==1 ; x and sys_platform == 'emscripten' \\\n    --hash=sha256:0\n"
    assert lock.without_torch(text + gone + "torch==2\n") == text
    done = subprocess.run(
        [sys.executable, "-m", "pip", "check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "not installed" not in done.stdout


def test_pytorch_and_its_companions_are_installed_apart() -> None:
    text = (
        "torch==2.0 \\\n    --hash=sha256:1\n"
        "torchmetrics==1 \\\n    --hash=sha256:4\n"
        "nvidia-nccl-cu13==2 \\\n    --hash=sha256:2\n"
        "cuda-bindings==1 ; sys_platform == 'linux' \\\n    --hash=sha256:5\n"
        "tqdm==4 \\\n    --hash=sha256:3\n"
    )
    kept = lock.without_torch(text)
    assert re.findall(r"^[\w-]+", kept, re.M) == ["torchmetrics", "tqdm"]
    assert "torch==" + lock.torch_version() in lock.locked()["torch"]


# --- what is remembered ------------------------------------------------------


def test_the_build_of_pytorch_is_that_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(setup, "VENV", tmp_path)
    monkeypatch.delenv("TORCH", raising=False)
    assert setup.wanted_torch() == ""
    (tmp_path / setup.BUILD).write_text("cpu")
    assert setup.wanted_torch() == "cpu"
    monkeypatch.setenv("TORCH", "")
    assert setup.wanted_torch() == ""


@pytest.mark.parametrize(
    ("made", "named", "wanted"),
    [
        (False, "", "python3"),
        (True, "", "ENV/bin/python"),
        (True, "PYTHON=python3.12", "python3.12"),
    ],
)
def test_make_goes_on_with_the_python_of_the_environment(
    tmp_path: Path, made: bool, named: str, wanted: str
) -> None:
    folder = environment(tmp_path / "env")
    if made:
        (folder / "ready").touch()
        (folder / "bin" / "python").touch()
    # These tests may themselves be run by a make that was given options.
    given = {"MAKEFLAGS", "MFLAGS", "MAKELEVEL", "PYTHON", "TORCH"}
    env = {name: v for name, v in os.environ.items() if name not in given}
    done = subprocess.run(
        ["make", "--dry-run", "setup", f"VENV={folder}", *named.split()],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    command = wanted.replace("ENV", str(folder)) + " -m press.setup"
    assert done.stdout.split("\n")[0] == command


# --- how it installs ---------------------------------------------------------


def test_the_environment_comes_before_files_in_the_settings_of_pip() -> None:
    told = ":env:.find-links='/here'\nglobal.cert='/c'\nglobal.find-links='/x'"
    wanted = {"cert": "/c", "find-links": "/here"}
    assert setup.pip_settings(told) == wanted
    assert setup.pip_settings("") == {}
    told = "install.cert='/i'\nglobal.cert='/g'\ndownload.cert='/d'"
    assert setup.pip_settings(told) == {"cert": "/i"}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that would have been run; uv is there, and fails."""
    commands: list[list[str]] = []

    def works(command: list[str], what: str, **more: str) -> bool:
        commands.append([*command, *(f"{k}={v}" for k, v in more.items())])
        return not command[0].endswith("/uv")

    monkeypatch.setattr(setup, "works", works)
    monkeypatch.setattr(setup, "PYTHON", Path(sys.executable))
    return commands


def test_uv_looks_where_pip_would_look(
    asked: list[list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", "https://a.example/simple")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "https://b.example c.example")
    monkeypatch.setenv("PIP_CERT", "/c.pem")
    monkeypatch.setenv("PIP_NO_INDEX", "true")
    setup.uv_install(tmp_path / "lock")
    [command] = asked
    assert "--no-index" in command
    asked.clear()
    monkeypatch.delenv("PIP_NO_INDEX")
    setup.uv_install(tmp_path / "lock")
    [command] = asked
    assert "--no-index" not in command
    said = " ".join(command)
    assert "--default-index https://a.example/simple" in said
    assert "--index https://b.example --index c.example" in said
    assert command[-1] == "SSL_CERT_FILE=/c.pem"
    assert "--require-hashes" in command


def test_where_uv_cannot_pip_installs(
    asked: list[list[str]], tmp_path: Path
) -> None:
    setup.install_locked(tmp_path / "lock")
    by_uv, by_pip = asked
    assert by_uv[0].endswith("/uv")
    assert by_pip[1:4] == ["-m", "pip", "install"]
    for command in asked:
        assert "--require-hashes" in command
        assert str(tmp_path / "lock") in command


def test_uv_itself_has_the_hash_of_the_lock(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[str] = []

    def run(command: list[str], what: str) -> None:
        seen.append(Path(command[-1]).read_text(encoding="utf-8"))

    monkeypatch.setattr(setup, "run", run)
    setup.install_uv()
    [text] = seen
    assert text.startswith("uv==")
    assert text.count("==") == 1
    assert text.count("--hash=sha256:") > 5
    assert text in setup.LOCK.read_text(encoding="utf-8")


# --- what is deleted ---------------------------------------------------------


def environment(folder: Path, mark: str = "") -> Path:
    """What an environment looks like, with or without our mark."""
    (folder / "bin").mkdir(parents=True)
    (folder / "pyvenv.cfg").write_text("home = /usr/bin\n")
    if mark:
        (folder / mark).touch()
    return folder


def test_a_new_or_empty_folder_may_be_used(tmp_path: Path) -> None:
    assert not setup.refusal(tmp_path / "new")
    (tmp_path / "empty" / "bin").mkdir(parents=True)
    assert not setup.refusal(tmp_path / "empty")


@pytest.mark.parametrize("mark", [setup.OURS, "ready"])
def test_an_environment_of_ours_may_be_made_anew(
    tmp_path: Path, mark: str
) -> None:
    assert not setup.refusal(environment(tmp_path / "ours", mark))


def test_what_is_not_ours_is_refused(tmp_path: Path) -> None:
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "mother.txt").touch()
    (tmp_path / "file").touch()
    foreign = environment(tmp_path / "foreign")
    for name, target in (("away", tmp_path / "letters"), ("gone", "nowhere")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "link").symlink_to(target)
    (tmp_path / "pipes").mkdir()
    os.mkfifo(tmp_path / "pipes" / "pipe")
    for folder, why in (
        (tmp_path / "letters", "other things than a Python environment"),
        (tmp_path / "away", "other things than a Python environment"),
        (tmp_path / "gone", "other things than a Python environment"),
        (tmp_path / "pipes", "other things than a Python environment"),
        (tmp_path / "file", "is a file"),
        (foreign, "was not made here"),
    ):
        found = setup.refusal(folder)
        assert why in found
        assert str(folder) in found
        assert "\n" not in found


def test_setup_leaves_a_folder_alone_that_is_no_environment(
    tmp_path: Path,
) -> None:
    """The whole program, as `make VENV=~/letters` calls it."""
    kept = tmp_path / "mother.txt"
    kept.write_text("Dear")
    done = subprocess.run(
        [sys.executable, "-m", "press.setup"],
        cwd=ROOT,
        env={"VENV": str(tmp_path), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "VENV=" in done.stderr
    assert "Traceback" not in done.stderr
    assert kept.read_text() == "Dear"


@pytest.mark.parametrize(("word", "code"), [("--help", 0), ("--hlep", 2)])
def test_setup_asked_for_help_installs_nothing(
    tmp_path: Path, word: str, code: int
) -> None:
    (tmp_path / "mother.txt").write_text("Dear")  # refused, were it to begin
    done = subprocess.run(
        [sys.executable, "-m", "press.setup", word],
        cwd=ROOT,
        env={"VENV": str(tmp_path), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert "usage: python3 -m press.setup" in done.stdout + done.stderr


# --- TeX, fonts, Graphviz ----------------------------------------------------


def test_advice_exists_for_every_system() -> None:
    for name in ("Debian", "Fedora", "macOS", "Windows"):
        assert any(name in key for key in system.COMMANDS)
    for package in ("texlive-xetex", "latexmk", "graphviz"):
        assert package in system.COMMANDS["Debian, Ubuntu"]
