"""What the run of a configuration takes, before anything has run.

Operations are counted, and so are the bytes of a step. Time and money follow
from a rate: that of the book's own run on a processor, and on a card a share
of what its maker promises. The share is an assumption, and a small model does
not reach it; the run itself measures a step and says what is true.
"""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from press.records import read
from scaffold.plan import CombinationError, Limits
from scratchlm.model.gpt import (
    GPTConfig,
    flops_per_token,
    llama_config,
    memory_estimate,
    parameter_table,
)
from scratchlm.training.scaling import (
    Budget,
    fitting_windows,
    multiplied_weights,
    plan,
)

ROOT = Path(__file__).parent.parent
ROOM = 0.9  # of a machine's memory; other programs use it, too
SHARE = 0.3  # of the promised operations that training gets done: assumed
THRESHOLD = 1e23  # operations; see the guide's page on safety
SIZES = ("vocab_size", "context", "layers", "heads", "channels")


@dataclass(frozen=True)
class Estimate:
    """What one run takes; money pays for all cards that are rented."""

    parameters: int
    tokens: int  # to read, some of them again
    operations: int
    memory: int  # bytes on a card at the highest moment, in float32
    hours: float
    usd: float
    share: float  # of 1e23 operations

    @property
    def facts(self) -> dict[str, Any]:
        """All of it by name, with a mark that nobody measured it."""
        return {"estimated": True, **asdict(self)}


def model_of(settings: dict[str, Any]) -> GPTConfig:
    """The model that a configuration describes."""
    return llama_config(**{name: settings[name] for name in SIZES})


def step_tokens(settings: dict[str, Any]) -> int:
    """Tokens that one step reads."""
    windows = settings["batch_size"] * settings.get("accumulate", 1)
    return int(windows * settings["context"])


@lru_cache(maxsize=1)
def measured_rate() -> float:
    """Operations a second of the book's own run, on two cores."""
    kept = read(ROOT / "records" / "training.json")["data"]
    config = kept["config"]
    model = model_of(config["model"])
    tokens = config["training"]["steps"] * config["data"]["batch_size"]
    tokens *= model.context
    return float(tokens * flops_per_token(model) / kept["seconds"])


def rate(facts: dict[str, Any]) -> float:
    """Operations a second that a budget's machine gets done for one run."""
    if "peak" in facts:
        return float(SHARE * facts["peak"])
    return measured_rate()


def hourly(facts: dict[str, Any], limits: Limits) -> float:
    """Dollars for an hour of the whole machine."""
    if limits.hourly_usd is not None:
        return limits.hourly_usd
    return float(facts["cards"] * facts["price"])


def dollars(amount: float) -> str:
    """Money for people.

    >>> dollars(0.0), dollars(0.004), dollars(12.5)
    ('nothing', 'less than a cent', '12.50 dollars')
    """
    if amount < 0.01:
        return "less than a cent" if amount else "nothing"
    return f"{amount:,.2f} dollars"


def estimate(
    settings: dict[str, Any], facts: dict[str, Any], limits: Limits
) -> Estimate:
    """What a run takes on the machine of a budget, given as its `facts`."""
    model = model_of(settings)
    tokens = settings["steps"] * step_tokens(settings)
    operations = tokens * flops_per_token(model)
    hours = operations / rate(facts) / 3600
    return Estimate(
        parameters=sum(parameter_table(model).values()),
        tokens=tokens,
        operations=operations,
        memory=memory_estimate(model, settings["batch_size"]).peak,
        hours=hours,
        usd=hours * hourly(facts, limits),
        share=operations / THRESHOLD,
    )


def batched(settings: dict[str, Any], facts: dict[str, Any]) -> dict[str, Any]:
    """The settings with as many windows at a time as fit into the memory.

    A step's windows, or their half, their quarter and so on, as often as a
    step needs. Raises CombinationError where not even one fits.
    """
    rows, memory = settings["batch_size"], int(ROOM * facts["memory"])
    windows = fitting_windows(model_of(settings), rows, memory)
    if not windows:
        raise CombinationError(
            f"not one window of this model fits into {facts['title']}: name "
            "another --budget"
        )
    if windows == rows:
        return settings
    found = {}
    for name, value in settings.items():
        found[name] = value
        if name == "batch_size":
            found |= {name: windows, "accumulate": -(-rows // windows)}
    return found


def smaller(settings: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The configuration with fewer heads, and less of all in proportion."""
    heads = settings["heads"]
    for n in range(1, heads):
        yield settings | {
            "heads": n,
            "layers": max(1, round(settings["layers"] * n / heads)),
            "channels": settings["channels"] // heads * n,
        }


def fitted(
    settings: dict[str, Any], facts: dict[str, Any], limits: Limits
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The settings of a run that ends in time, and notes on what changed.

    The planner of the book chooses the largest model that can read as many
    tokens for each weight as was wanted. `train` ends after `max_minutes` in
    any case. Raises CombinationError where no model is small enough.
    """
    budget = Budget(
        math.inf if limits.hours is None else limits.hours,
        rate(facts),
        facts["memory"],
        math.inf if limits.usd is None else limits.usd,
        hourly(facts, limits),
    )
    notes: tuple[str, ...] = ()
    if limits.usd is not None and not budget.price:
        note = "an hour of this machine costs nothing, so --usd limits nothing"
        notes = (f"{note}; --hourly-usd names a price",)
    if math.isinf(budget.seconds):
        return settings, notes
    minutes = budget.seconds / 60
    if limits.hours is None:
        minutes = min(minutes, settings["max_minutes"])
    guarded = settings | {"max_minutes": float(f"{minutes:.4g}")}
    wanted = estimate(settings, facts, limits)
    if 3600 * wanted.hours <= budget.seconds:
        return guarded, notes
    sizes = {model_of(s): s for s in smaller(settings)}
    per_weight = wanted.tokens / multiplied_weights(model_of(settings))
    step = step_tokens(settings)
    try:
        found = plan(budget, sizes, per_weight, step)
    except ValueError as error:
        raise CombinationError(
            f"no model that could learn something is trained in "
            f"{budget.seconds / 60:.2g} minutes on this machine; the whole run "
            f"takes about {60 * wanted.hours:.3g} minutes and "
            f"{dollars(wanted.usd)}: allow more, or name another --budget"
        ) from error
    steps = min(settings["steps"], found.tokens // step)
    changed = sizes[found.config] | {
        "steps": steps,
        "warmup": min(settings["warmup"], steps // 10),
        "max_minutes": guarded["max_minutes"],
    }
    return changed, (
        *notes,
        f"the whole run would take about {60 * wanted.hours:.3g} minutes and "
        f"{dollars(wanted.usd)}, so the model is smaller: "
        f"{changed['layers']} layers, {changed['channels']} channels, "
        f"{steps:,} steps",
    )
