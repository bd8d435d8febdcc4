"""`.scaffold.toml`: how a repository was made, and which files are the book's.

What the reader writes in is never the book's again: the library, its tests,
the configuration and the page on its budget, the README with its boxes, the
card. The rest is *managed*:
checks, rules, the programs that start them, what these import, and the pages of
`notes/` in which nothing is written. Of each of these the stamp keeps the
SHA-256, so that a later edition can replace what nobody changed.
"""

import hashlib
from dataclasses import dataclass, fields
from pathlib import Path, PurePosixPath
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError

from press.edition import edition
from scaffold.plan import Limits, Plan, ScaffoldError
from scaffold.wishes import Wishes

STAMP = ".scaffold.toml"
MANAGED = (
    *("check/", "checks/", "experiments/"),
    *("compliance/", "tests/compliance/", ".github/", "notes/"),
    *("train.py", "sample.py", "sweep.py"),
    *("requirements.txt", "constraints.txt"),
)
BUDGET = "notes/budget.md"  # the reader's, as config.toml is
PASSING = {"__pycache__", ".pytest_cache"}


@dataclass(frozen=True)
class Stamp:
    """What a repository says of itself."""

    book: dict[str, str]  # version and commit
    answers: dict[str, Any]
    managed: dict[str, str]  # path → SHA-256

    @property
    def plan(self) -> Plan:
        """The plan as far as managed files depend on it.

        They do not depend on the reader's text, which may be gone by now.
        """
        names = {f.name for f in fields(Plan)} - {"data", "limits", "corpus"}
        said = {k: v for k, v in self.answers.items() if k in names}
        try:
            return Plan(**said)
        except TypeError as error:
            raise ScaffoldError(f"{STAMP}: {error}") from error


def digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def is_managed(name: str) -> bool:
    """Whether a path inside a repository is the book's to replace.

    >>> is_managed("check/mine.py"), is_managed("checks.py")
    (True, False)
    >>> is_managed("scratchlm/text/bpe.py"), is_managed("check/../train.py")
    (False, False)
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name:
        return False
    if name == BUDGET:
        return False
    return any(
        name.startswith(one) if one.endswith("/") else name == one
        for one in MANAGED
    )


def managed(folder: Path) -> dict[str, str]:
    """The managed files in a folder, by path, with their SHA-256."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        passing = PASSING & set(path.parts)
        if path.is_file() and is_managed(name) and not passing:
            found[name] = digest(path)
    return found


def answers(plan: Plan, wishes: Wishes) -> dict[str, Any]:
    """What was asked for, by the names of the options; without defaults."""
    found: dict[str, Any] = {}
    for part, empty in (
        (plan, None),
        (plan.limits, Limits()),
        (wishes, Wishes()),
    ):
        for field in fields(part):
            value = getattr(part, field.name)
            if isinstance(value, Path):  # the text
                value = plan.corpus or str(value.absolute())
            if isinstance(value, Limits) or value in (None, ""):
                continue
            if field.name == "corpus":
                continue  # the same text
            if empty is None or value != getattr(empty, field.name):
                found[field.name] = value
    return found


def stamp(plan: Plan, folder: Path, wishes: Wishes) -> str:
    """The text of the stamp for what was written into a folder."""
    return written(
        Stamp(
            {"version": edition().version, "commit": edition().commit},
            answers(plan, wishes),
            managed(folder),
        )
    )


def written(found: Stamp) -> str:
    """A stamp as a file."""
    document = tomlkit.document()
    for line in (
        "How this repository was made, and which of its files are the book's.",
        "`python -m scaffold diff` and `update`, run in the book's folder,",
        "read it. Leave it as it is.",
    ):
        document.add(tomlkit.comment(line))
    for name in ("book", "answers", "managed"):
        table = tomlkit.table()
        for key, value in getattr(found, name).items():
            table.add(key, value)
        document.add(name, table)
    return tomlkit.dumps(document)


def read_stamp(folder: Path) -> Stamp:
    """The stamp of a repository; ScaffoldError if it has none that is one."""
    path = folder / STAMP
    if not path.is_file():
        raise ScaffoldError(
            f"{folder} has no {STAMP}, so the scaffold did not make it; name "
            "the folder of a repository that it made"
        )
    try:
        data = tomlkit.parse(path.read_text(encoding="utf-8")).unwrap()
        found = Stamp(data["book"], data["answers"], data["managed"])
    except (TOMLKitError, KeyError, UnicodeDecodeError) as error:
        raise ScaffoldError(
            f"{path} cannot be read ({error}); take it back from your first "
            "commit"
        ) from error
    for name in found.managed:
        if not is_managed(name):
            raise ScaffoldError(
                f"{path} names {name}, which is not the book's to replace"
            )
    return found
