"""Counting on tiny Shakespeare: the numbers that a model has to beat."""

import os
from pathlib import Path
from typing import Any

import numpy as np

from scratchlm.model.ngram import NGram
from scratchlm.text.characters import CharTokenizer
from scratchlm.text.corpus import get
from scratchlm.text.toytown import join, write_corpus

ROOT = Path(__file__).parent.parent
ORDERS = [(1, 1.0), (2, 1.0), (3, 0.1), (4, 0.1), (5, 0.01), (6, 0.01)]
ORDERS += [(7, 0.01), (8, 0.01)]


def measure(text: str) -> list[dict[str, float]]:
    """Nats per character on the last tenth and on the rest, by order."""
    tokenizer = CharTokenizer.train(text)
    ids = np.array(tokenizer.encode(text))
    cut = int(0.9 * len(ids))
    rows = []
    for order, k in ORDERS:
        model = NGram(order, tokenizer.vocab_size, k).fit(ids[:cut])
        rows.append(
            {
                "order": order,
                "smoothing": k,
                "validation": model.nats(ids[cut:]),
                "train": model.nats(ids[:cut]),
                "grams": len(model.grams),
            }
        )
    return rows


def record() -> dict[str, Any]:
    """Measure on Shakespeare; and on a little of Toytown, to be replayed."""
    mirror = os.environ.get("SCRATCHLM_MIRROR")
    path = get(
        "shakespeare", ROOT / "data", mirror=Path(mirror) if mirror else None
    )
    text = path.read_text(encoding="utf-8")
    town = measure(join(write_corpus(200_000)))
    return {"shakespeare": measure(text), "toytown": town}


def replay(data: dict[str, Any]) -> None:
    """The same program on the same little of Toytown gives the same."""
    for got, kept in zip(
        measure(join(write_corpus(200_000))), data["toytown"], strict=True
    ):
        for name, value in kept.items():
            assert np.isclose(got[name], value, atol=1e-9), (name, got, kept)
