"""The tables of `python -m benchmarks`, as it printed them last.

Run that first, on a machine with nothing else to do; the record takes over
the files that it wrote.
"""

import json
from typing import Any

from press.files import ROOT

NAMES = ("bpe", "training", "generation", "build")
OUT = ROOT / "_build" / "benchmarks"
COLUMNS = ("what", "ours", "peer", "peer_name", "unit", "ratio", "target")


def record() -> dict[str, Any]:
    """The rows of every benchmark; FileNotFoundError where one is missing."""
    tables = {}
    for name in NAMES:
        path = OUT / f"{name}.json"
        if not path.exists():
            raise FileNotFoundError(
                f"{path} is missing: run python -m benchmarks {name}"
            )
        tables[name] = json.loads(path.read_text(encoding="utf-8"))
    return tables


def replay(data: dict[str, Any]) -> None:
    """The rows fit together: each ratio is that of its two numbers."""
    assert list(data) == list(NAMES)
    for rows in data.values():
        for row in rows:
            assert set(COLUMNS) <= set(row), row
            assert row["machine"]
            assert row["commit"]
            if row["peer"]:
                ratio = row["ours"] / row["peer"]
                assert abs(row["ratio"] - ratio) < 1e-3 * ratio + 1e-4, row
