"""The tables of `python -m benchmarks`, as it printed them last.

Run that first, on a machine with nothing else to do; the record takes over
the files that it wrote.
"""

import json
from typing import Any

import torch

from benchmarks.__main__ import NAMES
from benchmarks.generation import GREEDY, pair, prompts
from benchmarks.measure import OUT
from scratchlm.generation.generate import generate
from scratchlm.generation.speed import FastStep

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
    """The rows fit together, and the two texts begin alike again."""
    assert list(data) == list(NAMES)
    for rows in data.values():
        for row in rows:
            assert set(COLUMNS) <= set(row), row
            assert row["machine"]
            assert row["commit"]
            if row["peer"]:
                ratio = row["ours"] / row["peer"]
                assert abs(row["ratio"] - ratio) < 1e-3 * ratio + 1e-4, row
    ours, theirs = pair()
    ids = prompts(2)
    new = generate(ours, ids, 12, GREEDY, step=FastStep(ours))
    text = theirs.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=12,
        do_sample=False,
        pad_token_id=0,
    )
    assert torch.equal(torch.stack(list(new), dim=1), text[:, ids.shape[1] :])
