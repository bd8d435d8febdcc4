"""Records of long runs: what was measured, under a seal.

A record's JSON carries the SHA-256 of all the rest of it, written by
`python -m records NAME` and verified whenever it is read. A number that
somebody changes by hand is noticed, whichever it is.
"""

import hashlib
import json
import math
from pathlib import Path
from typing import Any

SEAL = "sha256"


class RecordError(ValueError):
    """A record is not what was recorded; the message names file and cure."""


def digest(record: dict[str, Any]) -> str:
    """The SHA-256 of a record's content, the seal itself left out.

    >>> digest({"data": 1}) == digest({"sha256": "any", "data": 1})
    True
    >>> digest({"data": 1}) == digest({"data": 1.0})
    False
    """
    content = {name: record[name] for name in record if name != SEAL}
    text = json.dumps(content, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def seal(record: dict[str, Any]) -> dict[str, Any]:
    """The record with the digest of its content."""
    return {**record, SEAL: digest(record)}


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, in which no name may stand twice."""
    if len(dict(pairs)) != len(pairs):
        names = [name for name, _ in pairs]
        twice = sorted({n for n in names if names.count(n) > 1})
        raise ValueError(f"{', '.join(twice)} stands twice")
    return dict(pairs)


def finite(word: str) -> float:
    """Refuse NaN and infinity, which no record holds."""
    value = float(word)
    if not math.isfinite(value):
        raise ValueError(f"{word} is no number")
    return value


def how_to(name: str) -> str:
    """What makes a record anew; that of the judges is theirs."""
    command = "make judge" if name == "judge" else f"python -m records {name}"
    return f"run it again: {command}"


def parse(text: str, name: str) -> dict[str, Any]:
    """The record in a text, its seal verified; `name` is for the error."""
    again = how_to(Path(name).stem)
    try:
        record = json.loads(
            text,
            object_pairs_hook=once,
            parse_constant=finite,
            parse_float=finite,
        )
    except ValueError as error:
        raise RecordError(f"{name}: {error}; {again}") from error
    if not isinstance(record, dict) or SEAL not in record:
        raise RecordError(f"{name} has no seal; {again}")
    if record[SEAL] != digest(record):
        raise RecordError(f"{name} is not as it was recorded; {again}")
    return record


def read(path: Path) -> dict[str, Any]:
    """The record in a file, its seal verified."""
    if not path.exists():
        raise FileNotFoundError(
            f"{path} is not there; make it: python -m records {path.stem}"
        )
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        again = how_to(path.stem)
        raise RecordError(f"{path} is no UTF-8; {again}") from error
    return parse(text, f"records/{path.name}")
