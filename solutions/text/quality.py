"""Solutions to the exercises on filters of quality."""

import zlib
from collections.abc import Iterable, Sequence

import numpy as np

from scratchlm.text.corpus import UNIT, hash_runs, normalize
from scratchlm.text.quality import item_runs, keep_best

# --- A noisy threshold -------------------------------------------------------


def keep_noisy(
    scores: Sequence[float], exponent: float, generator: np.random.Generator
) -> list[bool]:
    """Which pages are kept: nearly all good ones, and few of the others.

    A page of score s stays if a number from a Pareto distribution that
    begins at 0 is above 1 - s, which has the chance (2 - s)^-exponent
    (Brown et al., 2020, appendix A, with an exponent of 9).
    """
    drawn = generator.pareto(exponent, len(scores))
    return (drawn > 1 - np.asarray(scores)).tolist()


# --- Cut instead of drop -----------------------------------------------------


def cut_overlaps(text: str, items: Iterable[str], least: int = 20) -> list[str]:
    """The pieces of a text between what it shares with items of a test.

    Pieces of fewer than `least` words go. A text that shares nothing is one
    piece, however short.
    """
    clean = normalize(text)
    starts = [match.start() for match in UNIT.finditer(clean)]
    known = [False] * len(starts)
    for length, table in item_runs(items).items():
        for start, run in enumerate(hash_runs(clean, length).tolist()):
            if run in table:
                known[start : start + length] = [True] * length
    if not any(known):
        return [clean]
    pieces, first = [], 0
    for place in [*np.flatnonzero(known), len(starts)]:
        if place - first >= least:
            end = starts[place] if place < len(starts) else len(clean)
            pieces.append(clean[starts[first] : end].strip())
        first = place + 1
    return pieces


# --- One number for all repetition -------------------------------------------


def compressed_share(text: str) -> float:
    """The bytes of a text compressed by zlib, as a share of what they were.

    >>> compressed_share("ha" * 500) < 0.05
    True
    """
    data = text.encode()
    return len(zlib.compress(data, 9)) / max(len(data), 1)


# --- The same share of each group --------------------------------------------


def keep_evenly(
    scores: Sequence[float], groups: Sequence[str], share: float
) -> list[bool]:
    """Which pages are in the best share of their own group.

    >>> keep_evenly([0.9, 0.8, 0.2, 0.1], ["a", "a", "b", "b"], 0.5)
    [True, False, True, False]
    """
    kept = [False] * len(scores)
    for group in dict.fromkeys(groups):
        places = [i for i, name in enumerate(groups) if name == group]
        best = keep_best([scores[i] for i in places], share)
        for i, stays in zip(places, best, strict=True):
            kept[i] = stays
    return kept
