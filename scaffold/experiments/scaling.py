"""Three sizes, one text: how fast does the loss fall with the size?"""

import math

from scratchlm.training.scaling import multiplied_weights

from .town import Tick, between, judged, new_trainer, town, train

CHARACTERS, STEPS, CHANNELS = 1_600_000, 400, (16, 32, 64)


def slope(xs: list[float], ys: list[float]) -> float:
    """Of the straight line through points, by least squares.

    >>> slope([0.0, 1.0, 2.0], [1.0, 3.0, 5.0])
    2.0
    """
    x, y = sum(xs) / len(xs), sum(ys) / len(ys)
    both = sum((a - x) * (b - y) for a, b in zip(xs, ys, strict=True))
    return both / sum((a - x) ** 2 for a in xs)


def run(seed: int, tick: Tick) -> dict[str, float]:
    """Loss above the floor ≈ a / weights^alpha, from three sizes."""
    text = town(CHARACTERS)
    sizes, gaps = [], []
    for i, channels in enumerate(CHANNELS):
        trainer = new_trainer(text, channels, STEPS, seed)
        start, end = i / len(CHANNELS), (i + 1) / len(CHANNELS)
        train(trainer, between(tick, start, end))
        sizes.append(math.log(multiplied_weights(trainer.model.config)))
        gaps.append(judged(trainer.model, text) - text.floor)
    if min(gaps) <= 0:  # no logarithm: below what any model can reach
        return {"smallest": gaps[0], "largest": gaps[-1], "alpha": math.nan}
    return {
        "smallest": gaps[0],
        "largest": gaps[-1],
        "alpha": -slope(sizes, [math.log(gap) for gap in gaps]),
    }
