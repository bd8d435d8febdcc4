"""What the same work buys: batch, rate, context, depth and width, by runs.

One small model of Toytown is the start; each run changes one number of it
and trains for as many operations as all others, so that a larger model reads
less. Each is tried at several rates, since another size wants another rate,
and judged by the same unseen stories. Three runs of the start that differ in
their seed alone say what is chance. At last some values get four times the
work, each at the rate that was best for it.
"""

from pathlib import Path
from typing import Any

import torch

from records.make_scaling import FIRST, HEAD, judged, town
from scratchlm.model.gpt import GPT, GPTConfig, flops_per_token, gpt2_config
from scratchlm.text.tokens import BatchCursor
from scratchlm.training.scaling import multiplied_weights
from scratchlm.training.trainer import TrainConfig, Trainer

START = {"batch": 512, "context": 64, "layers": 2, "channels": 32}
STEPS, WARMUP = 1500, 50  # of the start
RATES = (0.001, 0.003, 0.01, 0.03)
VALUES = {
    "batch": (128, 512, 2048, 8192),  # tokens of a step
    "context": (16, 64, 256),
    "layers": (1, 2, 4, 8),
    "channels": (16, 32, 64, 128),
}
SEEDS = 3
TIMES = 4  # the work of the last runs
LONGER = {"context": (16, 256), "layers": (1, 4), "channels": (16, 64)}


def shape(choice: dict[str, int]) -> GPTConfig:
    """The form of the model, GPT-2's with a head of its own."""
    channels = choice["channels"]
    return gpt2_config(
        town()[3],
        choice["context"],
        choice["layers"],
        channels // HEAD,
        channels,
        tied=False,
    )


def steps_of(choice: dict[str, int], times: int = 1) -> int:
    """The steps of so many times the operations of the start."""
    work = times * STEPS * START["batch"] * flops_per_token(shape(START))
    return round(work / (choice["batch"] * flops_per_token(shape(choice))))


def trainer(
    choice: dict[str, int], rate: float, seed: int, times: int
) -> Trainer:
    """A run that has not begun."""
    text, other, _, _ = town()
    torch.manual_seed(seed)
    context = choice["context"]
    cursor = BatchCursor(text, context, choice["batch"] // context, seed)
    config = TrainConfig(
        steps=steps_of(choice, times), learning_rate=rate, warmup=WARMUP
    )
    model = GPT(shape(choice)).train()
    return Trainer(model, cursor, other, config, Path("never-written"))


def run(
    name: str,
    choice: dict[str, int],
    rate: float,
    seed: int = 1,
    times: int = 1,
) -> dict[str, Any]:
    """Train one model; `name` says which number is not the start's."""
    made = trainer(choice, rate, seed, times)
    losses = [made.train_step()["train_loss"] for _ in range(made.config.steps)]
    return {
        "name": name,
        "choice": choice,
        "rate": rate,
        "seed": seed,
        "times": times,
        "steps": made.config.steps,
        "tokens": made.tokens,
        "weights": multiplied_weights(made.model.config),
        "first": losses[:FIRST],
        "loss": judged(made, made.model.config.context),
    }


def best_rate(rows: list[dict[str, Any]]) -> float:
    """The rate of the run with the lowest loss."""
    return min(rows, key=lambda row: row["loss"])["rate"]


def record() -> dict[str, Any]:
    """Every value at every rate, and the start again by chance alone."""
    torch.set_num_threads(1)
    runs = [run("start", START, rate) for rate in RATES]
    best = best_rate(runs)
    again = [run("start", START, best, seed) for seed in range(2, SEEDS + 1)]
    runs += [
        run(name, {**START, name: value}, rate)
        for name, values in VALUES.items()
        for value in values
        for rate in RATES
        if value != START[name]
    ]
    longer = [run("start", START, best, times=TIMES)]
    for name, values in LONGER.items():
        for value in values:
            choice = {**START, name: value}
            rate = best_rate([r for r in runs if r["choice"] == choice])
            longer.append(run(name, choice, rate, times=TIMES))
    return {
        "start": START,
        "steps": STEPS,
        "warmup": WARMUP,
        "rates": RATES,
        "values": VALUES,
        "vocabulary": town()[3],
        "floor": round(town()[2], 4),
        "work": STEPS * START["batch"] * flops_per_token(shape(START)),
        "times": TIMES,
        "again": again,
        "runs": runs,
        "longer": longer,
    }


def replay(data: dict[str, Any]) -> None:
    """The first steps of one run of each kind are the same."""
    torch.set_num_threads(1)
    assert abs(town()[2] - data["floor"]) < 1e-3
    rows = [*data["runs"], *data["again"], *data["longer"]]
    for row in {(row["name"], row["times"]): row for row in rows}.values():
        settings = (row[key] for key in ("choice", "rate", "seed", "times"))
        made = trainer(*settings)
        assert made.config.steps == row["steps"]
        for wanted in row["first"]:
            got = made.train_step()["train_loss"]
            assert abs(got - wanted) < 1e-3, (got, row)
