"""The errata: mistakes of fact that were mended, from ``book/errata.yml``.

An entry that is not valid is named with its line, as `press.roadmap` does it.
"""

from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from press.files import ROOT
from press.roadmap import line_of

FILE = ROOT / "book" / "errata.yml"
WORDS = {"type": "string", "pattern": r"^\S.{9,}\.$"}
FIELDS = {
    "date": {"type": "string", "pattern": r"^\d{4}-\d\d-\d\d$"},
    "edition": {"type": "string", "pattern": r"^\d+\.\d+\.\d+$"},
    "place": {"type": "string", "pattern": r"^[a-z][a-z_-]*$"},
    "stood": WORDS,
    "right": WORDS,
    "reported": {"type": "string", "minLength": 2},
}
SCHEMA = {
    "type": "object",
    "required": ["errata"],
    "additionalProperties": False,
    "properties": {
        "errata": {
            "type": "array",
            "items": {
                "type": "object",
                "required": list(FIELDS),
                "additionalProperties": False,
                "properties": FIELDS,
            },
        }
    },
}


class ErrataError(ValueError):
    """An entry is not valid; the message names file, line and cause."""


@dataclass(frozen=True)
class Erratum:
    """A mistake: where it stood, what it said, and what is so."""

    date: date  # when it was mended
    edition: str  # the version that had it
    place: str  # a label of a page or a section
    stood: str
    right: str
    reported: str  # by whom


def load(path: Path = FILE) -> list[Erratum]:
    """The errata, the newest first.

    Raises ErrataError for the first entry that is not valid: a field that
    lacks, a date that is none, or one that is newer than the one before.
    """
    text = path.read_text(encoding="utf-8")
    try:
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:  # a date that is none, bare
        raise ErrataError(f"{path.name}: {error}") from error

    def wrong(where: list[Any], why: str) -> ErrataError:
        return ErrataError(f"{path.name}:{line_of(tree, where)}: {why}")

    validator = jsonschema.Draft202012Validator(SCHEMA)
    for found in validator.iter_errors(data):
        raise wrong(list(found.absolute_path), found.message)
    entries: list[Erratum] = []
    for i, item in enumerate(data["errata"]):
        here = ["errata", i, "date"]
        try:
            day = date.fromisoformat(item["date"])
        except ValueError as error:
            raise wrong(here, f"{item['date']} is no date") from error
        if entries and day > entries[-1].date:
            raise wrong(here, f"{day} comes behind an older entry")
        entries.append(Erratum(**{**item, "date": day}))
    return entries
