"""Copies of the repository that build on their own.

A clone that borrows this environment's packages must still import its own
code: `copy_environment` makes an environment in it that puts the clone's
folders first and the packages of the running one behind them.
"""

import shutil
import subprocess
import sysconfig
import venv
from pathlib import Path

from press.files import ROOT


def clone(folder: Path) -> Path:
    """A fresh clone of what is committed; returns its Python."""
    command = ["git", "clone", "--quiet", str(ROOT), str(folder)]
    subprocess.run(command, check=True)
    return copy_environment(folder)


def borrowed() -> list[str]:
    """The folders of packages of this environment, those it borrows too."""
    packages = Path(sysconfig.get_paths()["purelib"])
    lines = [
        line
        for file in packages.glob("*.pth")
        for line in file.read_text(encoding="utf-8").splitlines()
        if Path(line).name == "site-packages"
    ]
    return [str(packages), *lines]


def copy_environment(folder: Path) -> Path:
    """An environment for the copy in `folder`; returns its Python."""
    place = folder / ".venv"
    if place.exists():
        shutil.rmtree(place)
    venv.create(place, with_pip=False, symlinks=True)
    packages = next(place.glob("lib/python*/site-packages"))
    lines = [str(folder / "src"), str(folder), *borrowed()]
    text = "\n".join(lines) + "\n"
    (packages / "copy.pth").write_text(text, encoding="utf-8")
    return place / "bin" / "python"
