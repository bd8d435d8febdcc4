"""Bands of the experiments: what they measure with the book's code.

Each runs with several seeds, by the very function that the command runs. The
band of a number is the range of its values, made wider by `band`.
"""

from typing import Any

from check.experiment import Experiment, band, load, measure
from check.places import Site
from press.files import ROOT

SEEDS = (1, 2, 3, 4, 5)
REPLAYED = "noise"  # the one that takes the fewest seconds
SITE = Site(ROOT)


def nothing(share: float) -> None:
    """Show no progress."""


def measured(name: str, seed: int) -> tuple[dict[str, float], float]:
    """Numbers and seconds of one run; RuntimeError where it did not end."""
    outcome = measure(SITE, name, seed, nothing)
    if outcome.told:
        raise RuntimeError(f"{name}: {outcome.told.what}")
    rounded = {key: round(x, 5) for key, x in outcome.numbers.items()}
    print(name, seed, rounded, f"{outcome.seconds:.1f} s", flush=True)
    return rounded, outcome.seconds


def all_seeds(chosen: Experiment) -> dict[str, Any]:
    """The values of each number by seed, its band, and the longest time."""
    runs = [measured(chosen.name, seed) for seed in SEEDS]
    values = {key: [found[key] for found, _ in runs] for key in chosen.numbers}
    return {
        "seconds": round(max(seconds for _, seconds in runs), 1),
        "values": values,
        "bands": {
            key: list(band(row, chosen.numbers[key].most))
            for key, row in values.items()
        },
    }


def record() -> dict[str, Any]:
    """Every experiment with every seed."""
    found = {name: all_seeds(each) for name, each in load(SITE).items()}
    return {"seeds": list(SEEDS), "experiments": found}


def replay(data: dict[str, Any]) -> None:
    """Bands follow from values, and one run measures what it did."""
    assert len(data["seeds"]) >= 5
    known = load(SITE)
    assert data["experiments"].keys() == known.keys()
    for name, found in data["experiments"].items():
        for key, row in found["values"].items():
            assert len(row) == len(data["seeds"])
            most = known[name].numbers[key].most
            assert tuple(found["bands"][key]) == band(row, most)
    wanted = data["experiments"][REPLAYED]["values"]
    got, _ = measured(REPLAYED, data["seeds"][0])
    for key, value in got.items():
        assert abs(value - wanted[key][0]) < 0.01, (key, value)
