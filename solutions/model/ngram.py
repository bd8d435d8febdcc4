"""Solutions of the exercises on counting."""

from collections.abc import Sequence

import numpy as np

from scratchlm.model.ngram import NGram


class Interpolated:
    """A mixture of n-gram models of order 1 to n (Jelinek and Mercer, 1980).

    Each order gets a weight; the weights are learned on held-out text by
    expectation maximization.
    """

    def __init__(
        self, order: int, vocab_size: int, smoothing: float = 1e-3
    ) -> None:
        """Models of every order up to `order`, weighted alike."""
        self.models = [
            NGram(n, vocab_size, smoothing) for n in range(1, order + 1)
        ]
        self.weights = np.full(order, 1 / order)

    def fit(self, ids: Sequence[int] | np.ndarray) -> "Interpolated":
        """Count the text for every order."""
        for model in self.models:
            model.fit(ids)
        return self

    def each(self, ids: Sequence[int] | np.ndarray) -> np.ndarray:
        """Probabilities (order, tokens) of each model for the same tokens."""
        last = len(self.models)
        rows = [
            model.probability(model.windows(ids))[last - n :]
            for n, model in enumerate(self.models, 1)
        ]
        return np.stack(rows)

    def tune(self, ids: Sequence[int] | np.ndarray, rounds: int = 20) -> None:
        """Set the weights so that held-out text is likely."""
        each = self.each(ids)
        for _ in range(rounds):
            share = self.weights[:, None] * each
            share /= share.sum(0)  # whose prediction was it?
            self.weights = share.mean(1)

    def nats(self, ids: Sequence[int] | np.ndarray) -> float:
        """Mean surprise in nats per token."""
        return float(-np.log(self.weights @ self.each(ids)).mean())


def sample(
    model: NGram, start: Sequence[int], length: int, seed: int
) -> list[int]:
    """Continue `start` by drawing from the model's distribution."""
    random = np.random.default_rng(seed)
    ids = list(start)
    for _ in range(length):
        p = model.next_probabilities(ids)
        ids.append(int(random.choice(model.vocab_size, p=p)))
    return ids


def share_unseen(model: NGram, ids: Sequence[int] | np.ndarray) -> float:
    """The share of a text's contexts that training never saw."""
    contexts = model.windows(ids) // model.vocab_size
    return float(1 - np.isin(contexts, model.contexts).mean())
