"""Counting what comes next: the baseline that every model has to beat.

An n-gram model predicts a token from the n − 1 before it, by how often each
followed them in the training text (Shannon, 1948), with a little added to
every count. Left out: mixing several orders (Jelinek and Mercer, 1980), an
exercise of the chapter, and falling back on shorter ones (Kneser and Ney,
1995).
"""

import math
from collections.abc import Iterable, Sequence

import numpy as np

SMOOTHINGS = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001)


class NGram:
    """Counts of all n-grams of a text, as sorted numbers.

    An n-gram is the number that has its n token ids as digits in base V, so
    all windows of a text are one array, and counting is sorting it.
    """

    def __init__(self, order: int, vocab_size: int, smoothing: float) -> None:
        """An empty model of n = `order`, with `smoothing` added per count.

        Raises ValueError where n-grams do not fit into 63 bits.
        """
        if order < 1 or vocab_size < 1:
            raise ValueError("order and vocabulary must be 1 or more")
        if not 0 < smoothing < math.inf:
            raise ValueError(
                f"smoothing must be above 0 and finite, not {smoothing}: at "
                "0, what was never seen would be infinitely surprising"
            )
        if int(vocab_size) ** int(order) >= 1 << 63:
            raise ValueError(
                f"{order}-grams of {vocab_size} tokens do not fit into 63 "
                "bits; take a lower order or a smaller vocabulary"
            )
        self.order = order
        self.vocab_size = vocab_size
        self.smoothing = smoothing
        self.grams = np.zeros(0, np.int64)  # sorted, each once
        self.counts = np.zeros(0, np.int64)
        self.contexts = np.zeros(0, np.int64)  # sorted, each once
        self.totals = np.zeros(0, np.int64)

    def windows(self, ids: Sequence[int] | np.ndarray) -> np.ndarray:
        """The n-grams of a text, as numbers: (N,) gives (N − n + 1,)."""
        row = np.asarray(ids, dtype=np.int64)
        if row.size and not 0 <= row.min() <= row.max() < self.vocab_size:
            raise ValueError(f"tokens run from 0 to {self.vocab_size - 1}")
        count = len(row) - self.order + 1
        if count < 1:
            raise ValueError(
                f"{len(row)} tokens hold no window of {self.order}"
            )
        grams = np.zeros(count, np.int64)
        for i in range(self.order):
            grams = grams * self.vocab_size + row[i : i + count]
        return grams

    def fit(self, ids: Sequence[int] | np.ndarray) -> "NGram":
        """Count the n-grams of a text, and the contexts they begin with."""
        grams = self.windows(ids)
        self.grams, self.counts = np.unique(grams, return_counts=True)
        self.contexts, self.totals = np.unique(
            grams // self.vocab_size, return_counts=True
        )
        return self

    def probability(self, grams: np.ndarray) -> np.ndarray:
        """P(last token | the others) of n-grams given as numbers.

        (count + k) / (count of the context + k V), with k the smoothing.
        """
        k = self.smoothing
        count = look_up(self.grams, self.counts, grams)
        total = look_up(self.contexts, self.totals, grams // self.vocab_size)
        return (count + k) / (total + k * self.vocab_size)

    def nats(self, ids: Sequence[int] | np.ndarray) -> float:
        """Mean surprise in nats per token, over all that have a context."""
        return float(-np.log(self.probability(self.windows(ids))).mean())

    def next_probabilities(self, context: Sequence[int]) -> np.ndarray:
        """The distribution (V,) of what comes after the last n − 1 tokens."""
        last = list(context)[len(context) - self.order + 1 :]
        if len(last) < self.order - 1:
            raise ValueError(f"a context of {self.order - 1} tokens is needed")
        first = self.windows([*last, 0])  # one n-gram; its last digit is 0
        return self.probability(first + np.arange(self.vocab_size))


def choose_ngram(
    ids: Sequence[int] | np.ndarray, vocab_size: int, orders: Iterable[int]
) -> NGram:
    """The model of the order and the smoothing that predict best.

    Judged on the last tenth of the text after counting the rest, so the
    choice has seen nothing but this text. The model has counted all of it.
    """
    row = np.asarray(ids)
    cut = int(0.9 * len(row))
    best = (math.inf, 0, 0.0)
    for order in orders:
        model = NGram(order, vocab_size, SMOOTHINGS[0]).fit(row[:cut])
        rest = row[min(cut, len(row) - order) :]  # one window, at least
        for smoothing in SMOOTHINGS:
            model.smoothing = smoothing
            best = min(best, (model.nats(rest), order, smoothing))
    _, order, smoothing = best
    return NGram(order, vocab_size, smoothing).fit(row)


def look_up(
    keys: np.ndarray, values: np.ndarray, wanted: np.ndarray
) -> np.ndarray:
    """For each wanted key its value, or 0; `keys` are sorted.

    >>> look_up(np.array([3, 7]), np.array([10, 20]), np.array([7, 4, 9]))
    array([20,  0,  0])
    """
    if not len(keys):
        return np.zeros(len(wanted), np.int64)
    places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[places] == wanted, values[places], 0)
