"""Rates for a small GPT: with and without warm-up, in branches, and by Muon.

The model learns from bytes of Toytown. With AdamW it is trained at five
rates, with and without a warm-up; with Muon at three, and once more with
queries, keys and values moved as one matrix; each with three seeds. Beside
that: how far a parameter moves in a step of Adam, a run at a constant rate
with branches at whose end the rate falls to zero, and the singular values of
a gradient. Chapters `schedule` and `muon` tell of it.
"""

import copy
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer

from scratchlm.model.gpt import GPT, gpt2_config, next_token_loss
from scratchlm.text.toytown import join, split_stories, write_corpus
from scratchlm.training.muon import Muon, muon_and_adamw
from scratchlm.training.optimizer import (
    AdamW,
    clip_gradients,
    parameter_groups,
)
from scratchlm.training.schedule import (
    Schedule,
    cosine,
    linear,
    set_learning_rate,
    warmup_stable_decay,
)

SEEDS, FIRST = 3, 3
STEPS, WARM, LOOK = 300, 50, 25  # a loss is measured at every LOOK-th step
WINDOWS, CONTEXT, JUDGED = 12, 32, 200
RATES = (0.002, 0.004, 0.006, 0.008, 0.012)
MUON_RATES = (0.006, 0.012, 0.024)
PEAK = 0.006  # of the trunk and its branches
TRUNK, BRANCH, BRANCHES = 600, 60, (150, 300, 450, 600)

Make = Callable[[GPT], list[Optimizer]]


class Run(NamedTuple):
    """A model in training, and the stream of its windows."""

    model: GPT
    optimizers: list[Optimizer]
    generator: torch.Generator


@cache
def texts() -> tuple[Tensor, Tensor]:
    """Bytes to learn from, and to judge by."""
    splits = split_stories(write_corpus(300_000))
    learn, judge = (
        torch.tensor(list(join(part).encode()))
        for part in (splits.train, splits.validation)
    )
    return learn, judge[: CONTEXT * JUDGED + 1]


def adamw(model: GPT) -> list[Optimizer]:
    """All parameters to AdamW."""
    return [AdamW(parameter_groups(model, 0.1))]


def undivided(model: GPT) -> list[Optimizer]:
    """Muon, with queries, keys and values as one matrix."""
    optimizers = muon_and_adamw(model)
    assert isinstance(optimizers[0], Muon)
    optimizers[0].rows = {}
    return optimizers


def start(make: Make, seed: int = 0) -> Run:
    """A small GPT on bytes, its optimizers and its stream of windows."""
    torch.manual_seed(seed)
    config = gpt2_config(
        vocab_size=128, context=CONTEXT, layers=2, heads=2, channels=48
    )
    model = GPT(config)
    return Run(model, make(model), torch.Generator().manual_seed(7 + seed))


def windows(run: Run) -> tuple[Tensor, Tensor]:
    """Random windows of bytes, and the same one byte further on."""
    learn, _ = texts()
    size = (WINDOWS, 1)
    last = len(learn) - CONTEXT - 1
    at = torch.randint(last, size, generator=run.generator)
    found = learn[at + torch.arange(CONTEXT + 1)]
    return found[:, :-1], found[:, 1:]


@torch.no_grad()
def judged(model: GPT) -> float:
    """Mean nats per byte on stories that were not learned from."""
    _, judge = texts()
    x, y = judge[:-1].view(-1, CONTEXT), judge[1:].view(-1, CONTEXT)
    return round(next_token_loss(model(x), y).item(), 4)


def advance(run: Run, rate: float) -> float:
    """One step; the loss before it."""
    x, y = windows(run)
    set_learning_rate(run.optimizers, rate)
    loss = next_token_loss(run.model(x), y)
    for optimizer in run.optimizers:
        optimizer.zero_grad()
    loss.backward()
    clip_gradients(run.model.parameters(), 1.0)
    for optimizer in run.optimizers:
        optimizer.step()
    return loss.item()


def follow(
    run: Run, schedule: Schedule, first: int = 0, last: int | None = None
) -> list[float]:
    """Train from one step to another; the losses on the way."""
    curve = []
    for step in range(first, last or schedule.steps):
        advance(run, schedule.rate(step))
        if step % LOOK == LOOK - 1:
            curve.append(judged(run.model))
    return curve


def curves(make: Make, rate: float, warmup: int) -> list[list[float]]:
    """The losses on the way, seed by seed."""
    schedule = warmup_stable_decay(rate, warmup, STEPS)
    found = [follow(start(make, seed), schedule) for seed in range(SEEDS)]
    print(make.__name__, rate, warmup, [c[-1] for c in found], flush=True)
    return found


def movements() -> list[float]:
    """How far a parameter moves in each step: a multiple of the rate."""
    run, rate, found = start(adamw), RATES[0], []
    for _ in range(BRANCH):
        before = [p.detach().clone() for p in run.model.parameters()]
        advance(run, rate)
        pairs = zip(before, run.model.parameters(), strict=True)
        total = sum((a - b).square().sum().item() for a, b in pairs)
        count = sum(p.numel() for p in before)
        found.append(round((total / count) ** 0.5 / rate, 4))
    return found


def branches() -> dict[str, Any]:
    """A run at a constant rate, and what its branches end at."""
    trunk = Schedule(PEAK, TRUNK, WARM, TRUNK - WARM)
    run, trail, leaves = start(adamw), [], []
    for stop in range(WARM, TRUNK + 1, WARM):
        curve = follow(run, trunk, stop - WARM, stop)
        trail.append((stop, curve[-1]))
        if stop in BRANCHES:
            model, optimizers = copy.deepcopy(run[:2])
            leaf = Run(model, optimizers, torch.Generator().manual_seed(stop))
            end = stop + BRANCH
            falls = Schedule(PEAK, end, WARM, stop - WARM, decay=linear)
            follow(leaf, falls, stop)
            leaves.append((end, judged(model)))
    return {"trunk": trail, "branches": leaves}


def stretches(make: Make, rate: float) -> list[float]:
    """The singular values of a gradient of a model in the middle of a run."""
    run = start(make)
    follow(run, warmup_stable_decay(rate, WARM, STEPS))
    run.model.zero_grad()
    x, y = windows(run)
    next_token_loss(run.model(x), y).backward()
    weights = dict(run.model.named_parameters())
    gradient = weights["blocks.0.mlp.up.weight"].grad
    assert gradient is not None
    return [float(f"{x:.6g}") for x in torch.linalg.svdvals(gradient)]


def beginning(make: Make, rate: float) -> list[float]:
    """The first training losses of a run."""
    run = start(make)
    schedule = warmup_stable_decay(rate, WARM, STEPS)
    return [round(advance(run, schedule.rate(s)), 6) for s in range(FIRST)]


def record() -> dict[str, Any]:
    """All of it."""
    torch.set_num_threads(1)
    return {
        "steps": STEPS,
        "warmup": WARM,
        "look": LOOK,
        "rates": list(RATES),
        "cold": [curves(adamw, rate, 0) for rate in RATES],
        "warm": [curves(adamw, rate, WARM) for rate in RATES],
        "muon rates": list(MUON_RATES),
        "muon": [curves(muon_and_adamw, rate, WARM) for rate in MUON_RATES],
        "undivided": [curves(undivided, rate, WARM) for rate in MUON_RATES],
        "cosine": follow(start(adamw), cosine(PEAK, WARM, STEPS)),
        "movements": movements(),
        **branches(),
        "values": stretches(muon_and_adamw, MUON_RATES[1]),
        "first": {
            "adamw": beginning(adamw, PEAK),
            "muon": beginning(muon_and_adamw, MUON_RATES[1]),
        },
    }


def replay(data: dict[str, Any]) -> None:
    """Runs of both kinds begin as recorded."""
    for name, make, rate in (
        ("adamw", adamw, PEAK),
        ("muon", muon_and_adamw, MUON_RATES[1]),
    ):
        again, first = beginning(make, rate), data["first"][name]
        gap = torch.tensor(again) - torch.tensor(first)
        assert gap.abs().max() < 1e-3, (name, again, first)
