"""Into a folder that holds something: what is there stays as it is.

`new --force` does it. A file whose name is taken lies beside the other one, as
FILE.new, and so an update does it, too. All of it comes, or nothing.
"""

import contextlib
import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from scaffold.emit import outer, write
from scaffold.plan import DestinationError, Plan, ScaffoldError
from scaffold.repository import commit, git
from scaffold.stamp import STAMP, digest
from scaffold.update import beside
from scaffold.wishes import Wishes


def refuse_others(out: Path, wishes: Wishes) -> None:
    """Refuse a folder that the scaffold made, and one with open changes."""
    if (out / STAMP).exists():
        raise DestinationError(
            f"{out} is a repository that the scaffold made; bring it up to "
            f"date: python -m scaffold update {out}"
        )
    if not (out / ".git").exists():
        return
    if wishes.branch:
        raise DestinationError(
            f"{out} is a Git repository that has its branches; leave --branch "
            "out"
        )
    if git(out, "status", "--porcelain"):
        raise DestinationError(
            f"{out} has changes that are not committed; commit them first, "
            "so that you can take back what --force does"
        )


def targets(out: Path, fresh: Path) -> dict[str, str]:
    """Each new file, and where it goes: its own name, if that is free.

    A file that is there already, with the same bytes, goes nowhere.
    """
    found = {}
    for path in sorted(fresh.rglob("*")):
        if not path.is_file():
            continue
        name = path.relative_to(fresh).as_posix()
        place = out / name
        if not place.resolve().is_relative_to(out.resolve()):
            raise DestinationError(f"{place} leads out of the folder")
        if any(p.is_file() for p in list(place.parents)[: name.count("/")]):
            raise DestinationError(f"{place.parent} is no folder")
        if not place.exists() and not place.is_symlink():
            found[name] = name
        elif not place.is_file() or digest(place) != digest(path):
            found[name] = beside(out, name, fresh)
    return found


def taken(found: dict[str, str]) -> list[str]:
    """What to say of files whose names were taken, a sentence each."""
    return [
        f"{name} is there and stays; the book's is in {target}"
        for name, target in found.items()
        if name != target
    ]


def join(plan: Plan, out: Path, wishes: Wishes) -> list[str]:
    """Write the repository into a folder; returns what to say of it."""
    out = out.absolute()
    refuse_others(out, wishes)
    if not wishes.name:
        wishes = replace(wishes, name=out.name)
    own = wishes.git and not (outer(out, wishes) and not has_git(out))
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.") as made:
        fresh = Path(made) / "repository"
        write(plan, fresh, wishes)
        found = targets(out, fresh)
        new = not has_git(out)
        written: list[Path] = []
        try:
            for name, target in found.items():
                copy(fresh / name, out / target, written)
            if own:
                commit(plan, out, wishes, list(found.values()))
        except BaseException:
            take_back(out, written, new and own)
            raise
    return taken(found)


def has_git(out: Path) -> bool:
    """Whether the folder is a repository of its own."""
    return (out / ".git").exists()


def copy(source: Path, place: Path, written: list[Path]) -> None:
    """Copy a file, and remember it and the folders that were made for it."""
    for folder in reversed(place.parents):
        if not folder.exists():
            folder.mkdir()
            written.append(folder)
    written.append(place)
    shutil.copyfile(source, place)


def take_back(out: Path, written: list[Path], new: bool) -> None:
    """Leave the folder as it was."""
    for path in reversed(written):
        if path.is_dir():
            os.rmdir(path)
        else:
            path.unlink(missing_ok=True)
    if new:
        shutil.rmtree(out / ".git", ignore_errors=True)
    elif has_git(out):
        with contextlib.suppress(ScaffoldError):
            git(out, "reset", "--quiet")
