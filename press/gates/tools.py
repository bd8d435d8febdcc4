"""Gates that are other people's programs: lint, types, spelling."""

import subprocess
import sys
from collections.abc import Callable

from press.gates.book import Book

PYTHON = ["src", "scaffold", "solutions", "records", "tests", "press"]
PYTHON += ["benchmarks", "compliance", "check"]
SPELLED = [*PYTHON, "book", "README.md", "CONTRIBUTING.md"]
IGNORED = "modell,abd,atention,gage,caf,ned,fo,nd,te,ser,pres,ans,ue,ot,ist"


def tool(*command: str) -> Callable[[Book], list[str]]:
    """A gate that is a program: its output, where it fails."""

    def gate(book: Book) -> list[str]:
        done = subprocess.run(
            [sys.executable, "-m", *command],
            cwd=book.root,
            capture_output=True,
            text=True,
            check=False,
        )
        output = (done.stdout + done.stderr).strip().splitlines()
        return output or ["it failed"] if done.returncode else []

    gate.__doc__ = f"{command[0]} has nothing to say."
    return gate


ruff = tool("ruff", "check", "--quiet", *PYTHON)
mypy = tool("mypy")
codespell = tool(
    "codespell_lib", "--skip=*.json,*.bib,*.lock", "-L", IGNORED, *SPELLED
)
