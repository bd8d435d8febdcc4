"""Solutions of the exercises on scaling."""

import numpy as np

from scratchlm.model.gpt import GPTConfig
from scratchlm.training.scaling import Law, operations


def recomputed_operations(config: GPTConfig) -> int:
    """What activation checkpointing adds to the training on one token.

    Each block runs forward once more, up to the last number that is needed:
    the input of its last product, which therefore is not made again.
    """
    table = operations(config)
    blocks = (sum(table.values()) - table["head"]) // 3  # one way
    last = 2 * config.layers * config.inner * config.channels
    return blocks - last


def price_of_half(law: Law) -> float:
    """How many times the operations halve the distance to the floor.

    >>> round(price_of_half(Law(0.5, a=10.0, alpha=1.0, b=10.0, beta=1.0)), 6)
    4.0
    """
    power = law.alpha * law.beta / (law.alpha + law.beta)
    return float(2 ** (1 / power))


def tokens_for(law: Law, weights: float, loss: float) -> float:
    """The tokens after which a model of this size reaches a loss, or inf."""
    left = loss - law.floor - law.a / weights**law.alpha
    return float((law.b / left) ** (1 / law.beta)) if left > 0 else np.inf


def cheapest(law: Law, loss: float, served: float) -> tuple[float, float]:
    """Weights and tokens that reach a loss with the fewest operations.

    Training takes 6 for each weight and token, and the use of the model 2
    for each weight and token that it will read or write, `served` in all.
    """
    sizes = np.geomspace(1e3, 1e13, 20_001)
    tokens = np.array([tokens_for(law, n, loss) for n in sizes])
    best = int(np.argmin(sizes * (6 * tokens + 2 * served)))
    return float(sizes[best]), float(tokens[best])


def parabola_minimum(weights: list[float], losses: list[float]) -> float:
    """Where the parabola through the losses over log weights is lowest.

    ValueError for a parabola that has no lowest point, but a highest.

    >>> round(parabola_minimum([10.0, 100.0, 1000.0], [2.0, 1.0, 2.0]), 6)
    100.0
    """
    a, b, _ = np.polyfit(np.log(weights), losses, 2)
    if a <= 0:
        raise ValueError("the losses do not rise at both ends: go further out")
    return float(np.exp(-b / (2 * a)))
