"""The table of `python -m scaffold.matrix`, for a record of it.

The program makes every repository that can be asked for and tries it, which
takes minutes; a page shows what it said last.
"""

import subprocess
import sys
from typing import Any

import yaml

from press.files import ROOT


def parse(printed: str) -> list[dict[str, Any]]:
    """The rows of a table in Markdown; numbers are numbers."""
    head, _, *lines = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in printed.splitlines()
    ]
    rows = [dict(zip(head, line, strict=True)) for line in lines]
    return [
        {name: yaml.safe_load(value) for name, value in row.items()}
        for row in rows
    ]


def tried() -> list[dict[str, Any]]:
    """Make and try them all; CalledProcessError where one does not work."""
    command = [sys.executable, "-m", "scaffold.matrix"]
    done = subprocess.run(
        command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    )
    return parse(done.stdout)
