"""What share of a processor's peak a training step reaches, form by form."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.nn import functional as F

from scratchlm.generation.speed import linear_work
from scratchlm.model.gpt import GPT, GPTConfig, flops_per_token, gpt2_config
from scratchlm.training.device import utilization
from scratchlm.training.memory import accumulate_gradients
from scratchlm.training.optimizer import clip_gradients
from scratchlm.training.trainer import TrainConfig, make_optimizers

SIDE, TURNS = 1024, 5
CONTEXT, LAYERS, VOCAB, HEAD = 128, 4, 1024, 32
WIDTHS = (32, 64, 128, 256, 512)  # channels, with 8 windows
BATCHES = (1, 2, 8, 32)  # windows, at the width of the book's model


def form(channels: int) -> GPTConfig:
    """A small model in GPT-2's form, of a width; of 128 in the chapter."""
    heads = max(1, channels // HEAD)
    return gpt2_config(VOCAB, CONTEXT, LAYERS, heads, channels)


def one_step(channels: int, windows: int) -> Callable[[], None]:
    """A whole step on one batch: gradient, clipping, AdamW."""
    torch.manual_seed(0)
    model = GPT(form(channels))
    ids, targets = torch.randint(VOCAB, (2, windows, CONTEXT))
    [optimizer] = make_optimizers(model, TrainConfig(steps=1))

    def work() -> None:
        optimizer.zero_grad()
        accumulate_gradients(model, [(ids, targets)])
        clip_gradients(model.parameters(), 1.0)
        optimizer.step()

    return work


def one_product() -> Callable[[], object]:
    """The work by which the peak is measured."""
    a, b = torch.ones(SIDE, SIDE), torch.ones(SIDE, SIDE)
    return lambda: F.linear(a, b)


def processor_seconds(
    works: Mapping[str, Callable[[], object]],
) -> dict[str, float]:
    """The median of each work's time on the processor, in turns.

    Not by the clock: on one thread, what others do on the machine lets a
    step wait and hardly makes it work more.
    """
    times: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(TURNS + 1):
        for name, work in works.items():
            start = time.process_time()
            work()
            if turn:  # the first one warms up
                times[name].append(time.process_time() - start)
    return {name: statistics.median(runs) for name, runs in times.items()}


def row(
    channels: int, windows: int, seconds: float, peak: float
) -> dict[str, Any]:
    """What is kept of one form."""
    rate = windows * CONTEXT / seconds
    return {
        "channels": channels,
        "windows": windows,
        "seconds": seconds,
        "tokens_per_second": rate,
        "flops_per_token": flops_per_token(form(channels)),
        "mfu": utilization(form(channels), rate, peak),
    }


def record() -> dict[str, Any]:
    """Measure all forms and the peak in turns, on one thread."""
    torch.set_num_threads(1)
    forms = sorted({(c, 8) for c in WIDTHS} | {(128, b) for b in BATCHES})
    works = {f"{c} {b}": one_step(c, b) for c, b in forms}
    seconds = processor_seconds({"product": one_product()} | works)
    peak = linear_work(SIDE, SIDE, SIDE)[0] / seconds["product"]
    rows = [row(c, b, seconds[f"{c} {b}"], peak) for c, b in forms]
    return {"peak": peak, "rows": rows}


def replay(data: dict[str, Any]) -> None:
    """The forms and their counts are as recorded; a step can be taken."""
    for kept in data["rows"]:
        again = row(
            kept["channels"], kept["windows"], kept["seconds"], data["peak"]
        )
        assert again == kept
    one_step(32, 1)()
