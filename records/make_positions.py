"""Five ways to say positions: bits at the trained length and beyond it."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from records.make_heads import letters
from scratchlm.model.positions import (
    ALiBi,
    Learned,
    PositionedModel,
    Positions,
    Sinusoidal,
    Turned,
)

CONTEXT, LONG, CHANNELS, HEADS = 64, 256, 64, 4
STEPS, BATCH, SEEDS, BUCKET, WINDOWS = 1000, 8, 3, 8, 160
WAYS = ("none", "learned", "sinusoidal", "RoPE", "ALiBi")


def positions(way: str) -> Positions:
    """The way of this name, for `LONG` positions where it has a length."""
    if way == "learned":
        return Learned(LONG, CHANNELS)
    if way == "sinusoidal":
        return Sinusoidal()
    if way == "RoPE":
        return Turned(CHANNELS // HEADS, LONG)
    return ALiBi(HEADS) if way == "ALiBi" else Positions()


def losses(
    model: nn.Module, stream: Tensor, length: int, count: int, seed: Any
) -> Tensor:
    """Nats of each letter of `count` random windows: (count, length)."""
    at = torch.randint(len(stream) - length - 1, (count, 1), generator=seed)
    rows = stream[at + torch.arange(length + 1)]
    logits = model(rows[:, :-1]).flatten(0, 1)
    nats = F.cross_entropy(logits, rows[:, 1:].flatten(), reduction="none")
    return nats.view(count, length)


def trained(
    way: str, seed: int, steps: int, stream: Tensor, vocab_size: int
) -> tuple[PositionedModel, list[float]]:
    """A model after so many steps on windows of `CONTEXT`, and its losses."""
    torch.manual_seed(seed)
    model = PositionedModel(
        vocab_size, positions(way), heads=HEADS, channels=CHANNELS
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(seed)
    seen = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = losses(model, stream, CONTEXT, BATCH, generator).mean()
        loss.backward()
        optimizer.step()
        seen.append(loss.item())
    return model, seen


@torch.no_grad()
def by_position(model: nn.Module, stream: Tensor) -> list[float]:
    """Bits per letter of windows of `LONG`, for each `BUCKET` positions."""
    generator = torch.Generator().manual_seed(99)
    nats = losses(model, stream, LONG, WINDOWS, generator).mean(dim=0)
    bits = nats.view(-1, BUCKET).mean(dim=1) / math.log(2)
    return [round(b, 4) for b in bits.tolist()]


def record() -> dict[str, Any]:
    """The bits by position of each way, seed by seed."""
    torch.set_num_threads(1)
    train, valid, size = letters()
    rows = []
    for way in WAYS:
        curves: list[list[float]] = []
        first: list[float] = []
        for seed in range(SEEDS):
            model, seen = trained(way, seed, STEPS, train, size)
            curves.append(by_position(model, valid))
            first = first or [round(loss, 6) for loss in seen[:5]]
        rows.append({"way": way, "bits": curves, "first": first})
        print(way, curves[0][:8], curves[0][8::8], flush=True)
    return {
        "context": CONTEXT,
        "long": LONG,
        "bucket": BUCKET,
        "steps": STEPS,
        "ways": rows,
    }


def replay(data: dict[str, Any]) -> None:
    """The first losses of each way are still the recorded ones."""
    train, _, size = letters()
    for row in data["ways"]:
        _, seen = trained(row["way"], 0, len(row["first"]), train, size)
        for got, wanted in zip(seen, row["first"], strict=True):
            assert abs(got - wanted) < 1e-3, (row["way"], seen)
