"""The commands `diff` and `update`: the book's files in a repository.

Only managed files are touched (`scaffold.stamp` says which they are). A file
that its reader did not change is replaced; beside one that was changed, the
new one is written as FILE.new, or FILE.new.2 where that is there already, and
the command is printed that would merge the two, for whoever wants that. The
stamp then has the hashes of this edition, so nothing is offered twice.
"""

import argparse
import difflib
import hashlib
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from press.edition import edition
from scaffold.emit import write
from scaffold.plan import DestinationError, ScaffoldError
from scaffold.repository import git, raw
from scaffold.stamp import STAMP, Stamp, digest, managed, read_stamp, written
from scaffold.wishes import Wishes
from scratchlm.text.files import FileError, replacing

NEW = ".new"
# What a check leaves of its reader's: the states of the topics, and the module
# that `reset` put aside, as bpe.py.1. No update touches them.
LEFT = (":(exclude)progress.json", ":(exclude,glob)scratchlm/**/*.py.[0-9]*")
# What happens to a file, and how that is told.
DONE = {
    "add": "new",
    "replace": "replaced",
    "beside": "changed by you; the book's is in",
    "remove": "removed, as the book has it no more",
    "keep": "changed by you; the book has it no more",
    "gone": "removed by you; the book has a newer one",
}


@dataclass(frozen=True)
class Change:
    """What is to be done about one managed file."""

    name: str
    kind: str  # a key of DONE
    target: str  # the file that is written, if one is

    def __str__(self) -> str:
        """The change in words."""
        where = f" {self.target}" if self.kind == "beside" else ""
        return f"{self.name}: {DONE[self.kind]}{where}"


def decide(kept: str, here: str, ours: str) -> str:
    """What to do about a file, by its hashes; "" where it is not there.

    `kept` is the stamp's, `here` the repository's, `ours` this edition's.

    >>> decide("a", "a", "b"), decide("a", "mine", "b"), decide("a", "x", "a")
    ('replace', 'beside', '')
    >>> decide("", "", "b"), decide("", "mine", "b"), decide("a", "a", "")
    ('add', 'beside', 'remove')
    """
    if here == ours or kept == ours:
        return ""
    if not ours:
        return "remove" if here == kept else "keep" if here else ""
    if not here:
        return "gone" if kept else "add"
    return "replace" if here == kept else "beside"


def changes(found: Stamp, folder: Path, fresh: Path) -> list[Change]:
    """What makes the managed files in a folder those of a fresh one."""
    ours = managed(fresh)
    names = sorted({*ours, *found.managed})
    kinds = []
    for name in names:
        place = folder / name
        if not place.resolve().is_relative_to(folder.resolve()):
            raise ScaffoldError(
                f"{place} leads out of the repository; put a file in its place"
            )
        here = digest(place) if place.is_file() else ""
        kept = found.managed.get(name, "")
        kinds.append(decide(kept, here, ours.get(name, "")))
    return [
        Change(n, k, beside(folder, n, fresh) if k == "beside" else n)
        for n, k in zip(names, kinds, strict=True)
        if k
    ]


def beside(folder: Path, name: str, fresh: Path) -> str:
    """A free name for the book's file next to the reader's.

    That of an earlier update stays, unless it is the same file.
    """
    number = 1
    while True:
        found = name + NEW + (f".{number}" if number > 1 else "")
        place = folder / found
        if not place.exists() and not place.is_symlink():
            return found
        if place.is_file() and digest(place) == digest(fresh / name):
            return found
        number += 1


@contextmanager
def fresh(found: Stamp) -> Iterator[Path]:
    """A folder with what this edition makes for the same answers."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made) / "repository"
        write(found.plan, folder, Wishes(name="llm"))
        yield folder


def refuse_uncommitted(folder: Path) -> None:
    """Refuse a work tree with changes that Git could not bring back."""
    try:
        words = ("status", "--porcelain", "-uall", "--", ".", *LEFT)
        said = git(folder, *words, LC_ALL="C")
    except ScaffoldError as error:
        if "not a git repository" in str(error):
            return  # its reader wanted none
        raise
    if said:
        raise DestinationError(
            f"{folder} has changes that are not committed; commit them first, "
            "so that you can take back what the update does"
        )


def show_diff(options: argparse.Namespace) -> int:
    """Print what an update would do, and the lines that would change."""
    folder = options.dest
    found = read_stamp(folder)
    with fresh(found) as made:
        listed = changes(found, folder, made)
        print(summary(found, listed, "would change"))
        for change in listed:
            print(change)
        for change in listed:
            if change.kind in ("replace", "beside"):
                print("\n".join(lines(folder, made, change.name)))
    return 0


def lines(folder: Path, made: Path, name: str) -> Iterator[str]:
    """The lines of one file that differ, as `diff -u` prints them."""
    yours, ours = (
        (place / name).read_text(encoding="utf-8", errors="replace").split("\n")
        for place in (folder, made)
    )
    yield from difflib.unified_diff(
        yours, ours, f"yours/{name}", f"the book's/{name}", lineterm=""
    )


def base(folder: Path, name: str, kept: str) -> str:
    """The commit in which a file is as the book had it, "" if none is known.

    `kept` is the hash that the stamp has of it.
    """
    try:
        log = git(folder, "log", "--format=%h", "--", name)
        for commit in log.splitlines():
            try:
                text = raw(folder, "show", f"{commit}:./{name}")
            except ScaffoldError:
                continue  # the commit that removed it
            if hashlib.sha256(text).hexdigest() == kept:
                return commit
    except ScaffoldError:
        pass  # no repository, or one without a commit
    return ""


def offer(folder: Path, change: Change, kept: str) -> list[str]:
    """The commands by which the two files of a change become one.

    They are for the reader to type, in the folder: nothing is merged here.
    """
    name, new = shlex.quote(change.name), shlex.quote(change.target)
    commit = base(folder, change.name, kept) if kept else ""
    if not commit:
        return [f"  git diff --no-index {name} {new}"]
    old = shlex.quote(f"{change.name}.old")
    return [
        f"  git show {commit}:./{name} > {old}",
        f"  git merge-file {name} {old} {new} && rm {old} {new}",
    ]


def summary(found: Stamp, listed: list[Change], words: str) -> str:
    """From which edition to which, and how many files."""
    then = " ".join(filter(None, found.book.values()))
    now = edition().words
    return f"from {then} to {now}: {len(listed)} files {words}"


def update(options: argparse.Namespace) -> int:
    """Carry out what `diff` shows, and write the new stamp last."""
    folder = options.dest
    found = read_stamp(folder)
    refuse_uncommitted(folder)
    with fresh(found) as made:
        listed = changes(found, folder, made)
        try:
            for change in listed:
                apply(change, folder, made)
        except FileError as error:
            raise ScaffoldError(str(error)) from error
        book = read_stamp(made)
    if listed:
        now = replace(found, book=book.book, managed=book.managed)
        with replacing(folder / STAMP) as partial:
            partial.write_text(written(now), encoding="utf-8")
    print(summary(found, listed, "changed"))
    for change in listed:
        print(change)
    both = [change for change in listed if change.kind == "beside"]
    if both:
        print("to merge what you want of them, in the folder:")
    for change in both:
        kept = found.managed.get(change.name, "")
        print("\n".join(offer(folder, change, kept)))
    if listed:
        print("next:  git add --all .; git diff --cached")
        print("       python -m check --status; git commit")
    return 0


def apply(change: Change, folder: Path, made: Path) -> None:
    """Carry out one change."""
    if change.kind == "remove":
        (folder / change.name).unlink()
    elif change.kind in ("add", "replace", "beside"):
        place = folder / change.target
        place.parent.mkdir(parents=True, exist_ok=True)
        with replacing(place) as partial:
            shutil.copyfile(made / change.name, partial)
