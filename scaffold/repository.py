"""Git, for a repository that is new or that is brought up to date."""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from press.edition import edition
from scaffold.plan import MissingError, Plan, ScaffoldError
from scaffold.wishes import Wishes

NAME, EMAIL = "scratchlm scaffold", "scaffold@example.invalid"


def git(folder: Path, *arguments: str, **variables: str) -> str:
    """Run git in the folder, whatever repository the caller's shell is in.

    A hook or `git -c` exports GIT_DIR and its kin to what it starts; git
    itself knows which of its variables mean one repository.
    """
    return raw(folder, *arguments, **variables).decode().strip()


def raw(folder: Path, *arguments: str, **variables: str) -> bytes:
    """The same, with what git prints as it is."""
    try:
        local = call(["git", "rev-parse", "--local-env-vars"]).decode().split()
        others = {k: v for k, v in os.environ.items() if k not in local}
        others |= variables
        return call(["git", *arguments], cwd=folder, env=others)
    except FileNotFoundError as error:
        raise MissingError(
            "git is not installed; install it, or leave it out with --no-git"
        ) from error
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip()
        raise ScaffoldError(f"git failed: {said}") from error


def call(command: list[str], **options: Any) -> bytes:
    """What a command prints; raises CalledProcessError if it fails."""
    done = subprocess.run(command, capture_output=True, check=True, **options)
    return bytes(done.stdout)


def belongs_to(out: Path) -> Path | None:
    """The work tree of another repository that a new folder would be in.

    None where there is none, or where it ignores the folder.
    """
    above = next(folder for folder in out.parents if folder.is_dir())
    try:
        top = git(above, "rev-parse", "--show-toplevel")
    except ScaffoldError as error:
        if isinstance(error, MissingError):
            raise
        return None
    try:
        # With a slash, as it may not be there yet to be seen as a folder.
        git(above, "check-ignore", "--quiet", "--", f"{out}/")
    except ScaffoldError:
        return Path(top)
    return None


def fixed() -> dict[str, str]:
    """Variables with which the same files make the same commit everywhere.

    The time is SOURCE_DATE_EPOCH's, or the day of the book's edition; no
    setting of this machine's git counts.
    """
    seconds = os.environ.get("SOURCE_DATE_EPOCH", str(edition().epoch))
    if not (seconds.isascii() and seconds.isdigit()):
        raise ScaffoldError(
            f"SOURCE_DATE_EPOCH is {seconds!r}; it is a number of seconds "
            "since 1970, or not set"
        )
    found = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    found["GIT_DEFAULT_HASH"] = "sha1"
    for who in ("AUTHOR", "COMMITTER"):
        found[f"GIT_{who}_DATE"] = f"@{seconds} +0000"
        found[f"GIT_{who}_EMAIL"] = EMAIL
    return found


def check_branch(name: str) -> None:
    """Refuse what git would take for no branch's name."""
    try:
        found = git(Path(), "check-ref-format", "--branch", name)
    except MissingError:
        raise
    except ScaffoldError:
        found = ""
    if found != name:
        raise ScaffoldError(f"--branch {name!r} is no name of a branch")


def commit(
    plan: Plan, folder: Path, wishes: Wishes, names: Sequence[str] = ()
) -> None:
    """Make the folder a Git repository with its first commit.

    With names the commit is of these files alone, in a repository that may
    have others. If a commit is not wanted, they are added, and that is all.
    """
    same = fixed() if wishes.reproducible else {}
    ours = (
        "-c",
        f"core.excludesFile={os.devnull}",
        "-c",
        "core.autocrlf=false",
    )
    if not (folder / ".git").exists():
        first = f"--initial-branch={wishes.branch or 'main'}"
        git(folder, "init", "--quiet", first, **same)
    for key, wanted, value in (
        ("user.name", wishes.author, NAME),
        ("user.email", "", EMAIL),
    ):
        if wanted:
            git(folder, "config", key, wanted, **same)
        elif not same and not git(
            folder, "config", "--default", "", "--get", key
        ):
            git(folder, "config", key, value)
    if same:  # for this commit alone: later ones are their author's
        for who in ("AUTHOR", "COMMITTER"):
            same[f"GIT_{who}_NAME"] = wishes.author or NAME
    # By their names they are meant, whatever the folder's own rules ignore.
    files = ("--force", "--", *names) if names else ("--all",)
    git(folder, *ours, "add", *files, **same)
    if not wishes.commit:
        return
    message = f"A language model from scratch: {plan.track}, {plan.budget}"
    quiet = ("--quiet", "--no-verify", "--no-gpg-sign")
    git(folder, *ours, "commit", *quiet, "-m", message, **same)
