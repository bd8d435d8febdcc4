"""Counting on tiny Shakespeare: the numbers that a model has to beat."""

import os
from pathlib import Path
from typing import Any

import numpy as np

from scratchlm.model.ngram import choose_ngram
from scratchlm.text.characters import CharTokenizer
from scratchlm.text.corpus import get
from scratchlm.text.toytown import join, write_corpus

ROOT = Path(__file__).parent.parent
ORDERS = range(1, 9)


def measure(text: str) -> list[dict[str, float]]:
    """Nats per character on the last tenth and on the rest, by order.

    The smoothing of each order is chosen on the first nine tenths.
    """
    tokenizer = CharTokenizer.train(text)
    ids = np.array(tokenizer.encode(text))
    cut = int(0.9 * len(ids))
    rows = []
    for order in ORDERS:
        model = choose_ngram(ids[:cut], tokenizer.vocab_size, [order])
        rows.append(
            {
                "order": order,
                "smoothing": model.smoothing,
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
