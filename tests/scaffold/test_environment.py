"""What the README says works, in an environment made from it alone.

The book's own environment has packages that an emitted repository does not
ask for; run in it, the repository's tests would say nothing. So each track
is emitted, and the commands of its README are typed one after the other.
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from scaffold.emit import emit
from scaffold.plan import Plan, tracks

SMALL = "--steps 30 --warmup 5 --characters 200000 --vocab-size 300"
pytestmark = pytest.mark.judge


def commands(readme: str) -> list[str]:
    """The lines of the README's first block of commands, without remarks."""
    found = re.search(r"```sh\n(.*?)```", readme, re.S)
    assert found
    lines = [line.split("  #")[0].strip() for line in found[1].splitlines()]
    return [line for line in lines if line]


def interpreter(version: str) -> str:
    """A Python of that version, on the path or among pyenv's; or ""."""
    home = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    folders = [Path(part) for part in os.get_exec_path()]
    folders += sorted(home.glob(f"versions/{version}.*/bin"))
    for found in (folder / f"python{version}" for folder in folders):
        if found.is_file():
            command = [str(found), "-c", "import venv"]
            if not subprocess.run(command, capture_output=True).returncode:
                return str(found)
    return ""


def shell(folder: Path, *lines: str) -> str:
    """Type the lines into one shell that knows nothing of this checkout."""
    hidden = ("PYTHON", "VIRTUAL_ENV", "COVERAGE", "PYTEST", "SCRATCHLM")
    clean = {k: v for k, v in os.environ.items() if not k.startswith(hidden)}
    clean["PATH"] = os.pathsep.join(
        [str(Path(sys.base_prefix) / "bin"), "/usr/local/bin:/usr/bin:/bin"]
    )
    done = subprocess.run(
        ["bash", "-e"],
        input="\n".join(lines),
        cwd=folder,
        env=clean,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.mark.parametrize("track", tracks())
def test_the_readme_works_as_it_stands(track: str, tmp_path: Path) -> None:
    # A name with a space and letters that few tools expect.
    folder = emit(Plan(track, "cpu"), tmp_path / "my träck's model")
    lines = commands((folder / "README.md").read_text(encoding="utf-8"))
    assert lines[0].startswith("python3 -m venv")
    assert lines[-1] == "python train.py"
    lines[-1] += f" {SMALL}"  # the whole run takes minutes
    printed = shell(folder, *lines)
    assert re.search(r"\d+ passed", printed)
    wanted = "1 todo" if Plan(track, "cpu").stubs else "all hold"
    assert wanted in printed
    assert printed.count("done: best validation loss") == 2
    activate = lines[0].split("&& ")[1]
    shell(folder, activate, "python -m pip install --no-deps -e .")
    assert "train" in shell(folder, activate, "cd / && scratchlm --help")


@pytest.mark.parametrize("version", ["3.12", "3.13"])
def test_it_works_with_other_pythons(version: str, tmp_path: Path) -> None:
    python = interpreter(version)
    if not python:
        pytest.skip(f"there is no Python {version} here")
    folder = emit(Plan("researcher", "cpu"), tmp_path / "model")
    lines = commands((folder / "README.md").read_text(encoding="utf-8"))
    lines[0] = lines[0].replace("python3", shlex.quote(python), 1)
    lines[-1] += f" {SMALL}"
    printed = shell(folder, *lines, "python --version")
    assert re.search(r"\d+ passed", printed)
    assert f"Python {version}." in printed
