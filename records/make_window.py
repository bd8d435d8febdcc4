"""Bits by position in texts four times as long as those of the training."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from records.make_heads import letters
from scratchlm.model.gpt import GPT, llama_config, next_token_loss
from scratchlm.model.window import WAYS, see_window, stretch

CONTEXT, FACTOR, CHANNELS, HEADS, LAYERS = 64, 4, 64, 4, 2
STEPS, BATCH, SEEDS, BUCKET, WINDOWS = 700, 16, 2, 8, 128
MORE, RATE, SLOWER = 60, 3e-3, 5e-4
LONG = CONTEXT * FACTOR
NARROW, SINKS = 16, 4


def losses(
    model: nn.Module, stream: Tensor, length: int, count: int, seed: Any
) -> Tensor:
    """Nats of each letter of `count` random windows: (count, length)."""
    at = torch.randint(len(stream) - length, (count, 1), generator=seed)
    rows = stream[at + torch.arange(length + 1)]
    nats = next_token_loss(model(rows[:, :-1]), rows[:, 1:], "none")
    return nats.view(count, length)


def teach(
    model: GPT, stream: Tensor, length: int, steps: int, rate: float, seed: int
) -> list[float]:
    """Train on windows of `length`, with as many letters a step; losses."""
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=rate, betas=(0.9, 0.95)
    )
    generator = torch.Generator().manual_seed(seed)
    seen = []
    for step in range(steps):
        for group in optimizer.param_groups:  # down to nothing at the end
            group["lr"] = rate * min(1, 2 * (1 - step / steps))
        count = BATCH * CONTEXT // length
        loss = losses(model, stream, length, count, generator).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seen.append(loss.item())
    return seen


def trained(seed: int, steps: int, stream: Tensor, size: int) -> Any:
    """A small Llama after so many steps, and its losses."""
    torch.manual_seed(seed)
    config = llama_config(size, CONTEXT, LAYERS, HEADS, CHANNELS, tied=True)
    model = GPT(config)
    return model, teach(model, stream, CONTEXT, steps, RATE, seed)


@torch.no_grad()
def by_position(model: nn.Module, stream: Tensor) -> list[float]:
    """Bits per letter of windows of `LONG`, for each `BUCKET` positions."""
    generator = torch.Generator().manual_seed(99)
    nats = losses(model, stream, LONG, WINDOWS, generator).mean(dim=0)
    bits = nats.view(-1, BUCKET).mean(dim=1) / math.log(2)
    return [round(b, 4) for b in bits.tolist()]


def record() -> dict[str, Any]:
    """Bits by position for every way, as it is and after more training."""
    torch.set_num_threads(1)
    train, valid, size = letters()
    curves: dict[str, list[list[float]]] = {}
    first: list[float] = []

    def keep(name: str, model: nn.Module) -> None:
        curves.setdefault(name, []).append(by_position(model, valid))
        print(name, curves[name][-1][::4], flush=True)

    for seed in range(SEEDS):
        model, seen = trained(seed, STEPS, train, size)
        first = first or [round(loss, 6) for loss in seen[:3]]
        model.eval()
        for way in WAYS:
            longer = stretch(model, way, FACTOR)
            keep(way, longer)
        plain = stretch(model, "plain", FACTOR)
        for window in (CONTEXT, NARROW):
            for sinks in (0, SINKS):
                name = f"window {window}, sinks {sinks}"
                keep(name, see_window(plain, window, sinks))
        for way in ("plain", "linear", "ntk", "yarn"):
            longer = stretch(model, way, FACTOR)
            teach(longer, train, LONG, MORE, SLOWER, seed)
            keep(f"{way}, trained on", longer)
    return {
        "context": CONTEXT,
        "long": LONG,
        "bucket": BUCKET,
        "steps": STEPS,
        "more": MORE,
        "narrow": NARROW,
        "sinks": SINKS,
        "curves": curves,
        "first": first,
    }


def replay(data: dict[str, Any]) -> None:
    """The first losses of the model are still the recorded ones."""
    train, _, size = letters()
    _, seen = trained(0, len(data["first"]), train, size)
    for got, wanted in zip(seen, data["first"], strict=True):
        assert abs(got - wanted) < 1e-3, seen
