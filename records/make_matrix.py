"""Every repository that the scaffold can make, made and tried.

`python -m scaffold.matrix` emits each track with each budget in each mode,
imports its modules, has pytest find its tests, and asks git whether anything
is left over; it ends with an error where something does not work. Kept are
the lines of its table.
"""

from typing import Any

import yaml

from press.files import ROOT
from press.matrix import parse, tried

SCAFFOLD = ROOT / "scaffold"
MODES = {"stubs", "solutions"}


def names(file: str) -> list[str]:
    """The names in one of the scaffold's files, in their order."""
    text = (SCAFFOLD / file).read_text(encoding="utf-8")
    return list(yaml.safe_load(text))


def record() -> dict[str, Any]:
    """All combinations."""
    return {"rows": tried()}


def replay(data: dict[str, Any]) -> None:
    """Every combination that there is today was tried, once."""
    found = [(x["track"], x["budget"], x["mode"]) for x in data["rows"]]
    wanted = {
        (track, budget, mode)
        for track in names("tracks.yml")
        for budget in names("budgets.yml")
        for mode in MODES
    }
    assert set(found) == wanted
    assert len(found) == len(wanted)
    assert all(row["modules"] and row["tests"] for row in data["rows"])
    again = parse("| a | b |\n| --- | ---: |\n| x | 1.5 |\n| y | 20 |")
    assert again == [{"a": "x", "b": 1.5}, {"a": "y", "b": 20}]
