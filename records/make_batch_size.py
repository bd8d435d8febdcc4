"""Batches from small to large, on as much text and with as many steps.

A table of pairs, the neural bigram, learns from letters of Toytown by plain
descent. What is held equal is either the text that it reads in all, so that
larger batches make fewer steps, or the steps. From one batch to the next the
size grows by a factor of four, and from one rate to the next by a factor of
two. All rates and seeds of one batch are trained side by side, since a table
costs so little. Beside that the noise of the gradient is measured.
"""

from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from scratchlm.text.toytown import join, split_stories, write_corpus
from scratchlm.training.schedule import gradient_noise_scale

SEEDS, FIRST = 3, 3
BATCHES = (32, 128, 512, 2048)
RATES = (2.0, 4.0, 8.0, 16.0, 32.0)
LETTERS, STEPS = 61_440, 30  # what is equal: letters in all, or steps
NOISY, NOISY_RATE = 512, 16.0  # the run on which the noise is measured
LOOKS, SMALL, COUNT = (0, 10, 20, 40, 80, 160), 64, 256


@cache
def texts() -> tuple[Tensor, Tensor, int]:
    """Letters to learn from and to judge by, and how many there are."""
    splits = split_stories(write_corpus(150_000))
    learn, judge = join(splits.train), join(splits.validation)
    number = {c: i for i, c in enumerate(sorted(set(learn + judge)))}
    ids = [torch.tensor([number[c] for c in text]) for text in (learn, judge)]
    return ids[0], ids[1], len(number)


def batch_of(stream: Tensor, count: int, seed: torch.Generator) -> list[Tensor]:
    """So many random letters, and each one's next: both (count,)."""
    at = torch.randint(len(stream) - 1, (count,), generator=seed)
    return [stream[at], stream[at + 1]]


def losses(tables: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """The loss of each table (S, R, V, V) on its batch (S, B): (S, R)."""
    seeds = torch.arange(len(tables))[:, None]
    logits = tables[seeds, :, x]  # (S, B, R, V)
    targets = y[..., None].expand(logits.shape[:-1])
    nats = F.cross_entropy(logits.movedim(-1, 1), targets, reduction="none")
    return nats.mean(dim=1)


@torch.no_grad()
def judged(tables: Tensor) -> list[list[float]]:
    """Nats per letter on text that was not learned from, by rate and seed."""
    _, judge, size = texts()
    pairs = torch.bincount(judge[:-1] * size + judge[1:], minlength=size**2)
    shares = pairs.view(size, size) / pairs.sum()
    nats = -(shares * tables.log_softmax(dim=-1)).sum(dim=(-2, -1))
    return [[round(n, 4) for n in row] for row in nats.T.tolist()]


def noise(table: Tensor, seed: int) -> float:
    """The gradient noise scale of one table (V, V), in letters."""
    generator = torch.Generator().manual_seed(1000 + seed)
    x, y = batch_of(texts()[0], COUNT * SMALL, generator)
    many = table.detach().expand(COUNT, 1, *table.shape).clone()
    many.requires_grad_()
    losses(many, x.view(COUNT, -1), y.view(COUNT, -1)).sum().backward()
    assert many.grad is not None
    return round(gradient_noise_scale(many.grad.flatten(1), SMALL), 1)


def run(
    batch: int, steps: int, rates: tuple[float, ...], looks: tuple[int, ...]
) -> tuple[Tensor, list[list[float]], list[list[float]]]:
    """The tables after so many steps, their losses, and their noise."""
    learn, _, size = texts()
    tables = torch.zeros(SEEDS, len(rates), size, size, requires_grad=True)
    lengths = torch.tensor(rates).view(-1, 1, 1)
    seeds = [torch.Generator().manual_seed(seed) for seed in range(SEEDS)]
    first, noises = [], []
    for step in range(steps + 1):
        if step in looks:
            noises.append([noise(t[0], s) for s, t in enumerate(tables)])
        if step == steps:
            break
        pairs = [batch_of(learn, batch, seed) for seed in seeds]
        x, y = (torch.stack(part) for part in zip(*pairs, strict=True))
        loss = losses(tables, x, y)
        (gradient,) = torch.autograd.grad(loss.sum(), tables)
        with torch.no_grad():
            tables -= lengths * gradient
        first.append([round(nats, 6) for nats in loss[0].tolist()])
    return tables.detach(), first[:FIRST], noises


def record() -> dict[str, Any]:
    """Every batch at every rate: equal text, equal steps, and the noise."""
    torch.set_num_threads(1)
    rows = []
    for batch in BATCHES:
        for steps in sorted({LETTERS // batch, STEPS}):
            tables, first, _ = run(batch, steps, RATES, ())
            row = {"batch": batch, "steps": steps, "first": first}
            rows.append({**row, "ends": judged(tables)})
            print(batch, steps, rows[-1]["ends"], flush=True)
    _, _, noises = run(NOISY, LOOKS[-1], (NOISY_RATE,), LOOKS)
    print(noises, flush=True)
    return {
        "letters": LETTERS,
        "steps": STEPS,
        "rates": list(RATES),
        "noisy": {"batch": NOISY, "rate": NOISY_RATE},
        "looks": list(LOOKS),
        "noise": noises,
        "runs": rows,
    }


def replay(data: dict[str, Any]) -> None:
    """Two runs begin as recorded, and so does the noise."""
    for row in (data["runs"][0], data["runs"][-1]):
        _, again, _ = run(row["batch"], FIRST, RATES, ())
        gap = torch.tensor(again) - torch.tensor(row["first"])
        assert gap.abs().max() < 1e-3, (again, row)
    _, _, (first,) = run(NOISY, 0, (NOISY_RATE,), LOOKS[:1])
    gap = torch.tensor(first) / torch.tensor(data["noise"][0]) - 1
    assert gap.abs().max() < 0.02, (first, data["noise"][0])
