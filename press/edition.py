"""Which book this is: title, authors, version, commit, day.

Every output names them at its foot and in its metadata. The same commit
gives the same words, in whatever folder; a tree with changes that are not
committed says so.
"""

import os
import re
import subprocess
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import lru_cache
from pathlib import Path

import tomllib
import yaml

from press.files import ROOT
from press.identity import load

VERDICTS = "records/judge.json"  # on an edition, and so no part of it
MARK = "{{ repository }}"  # stands for the address in a page's commands


@dataclass(frozen=True)
class Edition:
    """What an output says of itself."""

    title: str
    author: str
    version: str
    commit: str  # "" where git does not know this folder
    changed: bool  # whether something is not committed
    date: datetime  # of the commit, in UTC

    @property
    def words(self) -> str:
        """Version and commit, as they stand at the foot of a page."""
        if not self.commit:
            return f"version {self.version}"
        words = f"version {self.version}, commit {self.commit}"
        return words + (" with changes" if self.changed else "")

    @property
    def identifier(self) -> str:
        """A name for this edition that no other has."""
        parts = ["scratchlm", self.version, self.commit]
        parts += ["changed"] if self.changed else []
        return "-".join(part for part in parts if part)

    @property
    def epoch(self) -> int:
        """The date in seconds, for programs that write a time."""
        return int(self.date.timestamp())


def git(folder: Path, *arguments: str) -> str:
    """What git prints; "" where there is no git or no repository.

    Variables such as GIT_DIR would make git speak of another repository.
    """
    clean = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            check=False,
            env=clean,
        )
    except FileNotFoundError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def read(folder: Path = ROOT) -> Edition:
    """The edition that the files of the folder make."""
    identity = load(folder / "book.yml")
    project = (folder / "pyproject.toml").read_text("utf-8")
    version = re.search(r'^version = "([^"]+)"', project, re.M)
    citation = yaml.safe_load((folder / "CITATION.cff").read_text("utf-8"))
    assert version is not None
    date = datetime.combine(
        citation["date-released"], datetime.min.time(), timezone.utc
    )
    top = git(folder, "rev-parse", "--show-toplevel")
    commit = ""
    if top and Path(top).resolve() == folder.resolve():
        commit = git(folder, "rev-parse", "--short=10", "HEAD")
    if commit:
        seconds = int(git(folder, "log", "-1", "--format=%ct"))
        date = datetime.fromtimestamp(seconds, timezone.utc)
    return Edition(
        title=identity.title,
        author=identity.author,
        version=version[1],
        commit=commit,
        changed=bool(commit and changes(folder)),
        date=date,
    )


def changes(folder: Path) -> str:
    """What is not committed, as git lists it; the judges' record is left out.

    They judge a commit, and what they say of it does not change it.
    """
    others = ("--", ".", f":(exclude){VERDICTS}")
    return git(folder, "status", "--porcelain", *others)


def repository(folder: Path = ROOT) -> str:
    """The address from which the sources can be cloned: one setting."""
    text = (folder / "pyproject.toml").read_text("utf-8")
    address: str = tomllib.loads(text)["project"]["urls"]["Repository"]
    return address


@lru_cache(maxsize=1)
def edition() -> Edition:
    """The edition of this repository, read once."""
    return read()


def edition_for(track: str) -> Edition:
    """The edition for a track; the whole book, where it is ""."""
    if not track:
        return edition()
    return replace(edition(), title=f"{edition().title}, for {track}s")
