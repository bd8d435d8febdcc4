"""Whose the repository is: its name, its author, its license."""

from dataclasses import dataclass
from pathlib import Path

from scaffold.plan import ScaffoldError

HERE = Path(__file__).parent
BOOK = HERE.parent / "LICENSE"
# What a license is called where packages name theirs (SPDX). The book's files
# stay under its own, whatever else is chosen for what is added to them.
LICENSES = {"MIT": "MIT", "Apache-2.0": "MIT AND Apache-2.0", "none": ""}
COPYRIGHT = "The scratchlm authors\n"


@dataclass(frozen=True)
class Wishes:
    """What does not change what is learned, and is asked for all the same."""

    name: str = ""  # "": that of the folder
    author: str = ""
    license: str = "MIT"
    git: bool = True
    reproducible: bool = False  # the same commit wherever it is made
    commit: bool = True
    branch: str = ""  # "": main

    def __post_init__(self) -> None:
        """Refuse names that no line of a file can hold."""
        for option in ("name", "author"):
            value = getattr(self, option)
            if value and not (value.isprintable() and value.strip()):
                raise ScaffoldError(
                    f"--{option} {value!r} is not one line of letters"
                )
        if self.license not in LICENSES:
            known = ", ".join(LICENSES)
            raise ScaffoldError(
                f"no license {self.license!r}; there are: {known}"
            )
        self.refuse_what_is_never_made()

    def refuse_what_is_never_made(self) -> None:
        """Refuse what is said of a repository or commit that is not made."""
        if not self.git and (self.branch or not self.commit):
            raise ScaffoldError(
                "--branch and --no-commit are about a Git repository, and "
                "--no-git makes none; leave one of them out"
            )
        if self.reproducible and not (self.git and self.commit):
            raise ScaffoldError(
                "--reproducible is about the first commit, and --no-git and "
                "--no-commit make none; leave one of them out"
            )

    @property
    def expression(self) -> str:
        """The license of the whole, for its package; "" if there is none."""
        return LICENSES[self.license]


def license_files(wishes: Wishes) -> dict[str, str]:
    """The files that say what others may do, by name.

    The book's notice goes along with its files in any case: its license asks
    for that.
    """
    notice = BOOK.read_text(encoding="utf-8")
    if wishes.license == "MIT":
        if wishes.author:
            both = f"{COPYRIGHT}Copyright (c) {wishes.author}\n"
            notice = notice.replace(COPYRIGHT, both, 1)
        return {"LICENSE": notice}
    found = {"LICENSE-scratchlm": notice}
    if wishes.license != "none":
        text = HERE / "licenses" / wishes.license
        found["LICENSE"] = text.read_text(encoding="utf-8")
    return found
