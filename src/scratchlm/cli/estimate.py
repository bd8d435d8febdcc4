"""What a run will need, before it begins: memory, time, device, precision."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from scratchlm.cli.errors import UserError
from scratchlm.cli.runs import devices, ranks
from scratchlm.model.gpt import (
    GPT,
    GPTConfig,
    activation_floats,
    flops_per_token,
    memory_estimate,
    parameter_table,
)
from scratchlm.text.tokens import BatchCursor
from scratchlm.training.memory import batch_loss
from scratchlm.training.precision import autocast, slowdown
from scratchlm.training.trainer import TrainConfig, seconds_per_step

JUDGED = 32  # windows at a time when the trainer evaluates
CGROUP = Path("/sys/fs/cgroup/memory.max")


def duration(seconds: float) -> str:
    """A time for people.

    >>> duration(200), duration(5), duration(8000)
    ('3 min', '5 s', '2.2 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def size(count: float) -> str:
    """Bytes for people.

    >>> size(531e6), size(4.2e9)
    ('531 MB', '4.2 GB')
    """
    if count < 1e9:
        return f"{count / 1e6:.0f} MB"
    return f"{count / 1e9:.1f} GB"


def machine_memory(device: str) -> int:
    """Bytes that a device has, or that a container is allowed."""
    if device.startswith("cuda"):
        return torch.cuda.mem_get_info(device)[1]
    total = int(psutil.virtual_memory().total)
    if CGROUP.is_file():
        limit = CGROUP.read_text().strip()
        if limit.isdigit():
            return min(total, int(limit))
    return total


def peak_memory(
    model: GPTConfig, config: TrainConfig, batch: int, shards: int = 1
) -> int:
    """Bytes that training needs at its highest, on each process.

    With activation checkpointing, all blocks but one keep only their input.
    Of several shards, each has its part of weights, gradients and moments;
    one block, and what is not in a block, are whole for a while.
    """
    found, gradients = memory_estimate(model, batch), 0
    least = memory_estimate(model, 0).peak  # while the optimizer works
    peak = found.peak  # when the loss is made, if that is higher
    if peak == least:
        peak = found.total - found.gradients
    if config.accumulate > 1:  # those of the batches before are there
        gradients = found.gradients
    peak += gradients
    if config.checkpoint_activations:
        one = activation_floats(replace(model, layers=1))
        inside = activation_floats(model) - one
        inputs = (model.layers - 1) * model.channels
        peak -= 4 * batch * model.context * (inside - inputs)
    if shards > 1:
        fixed = found.weights + found.moments
        passing = 2 * memory_estimate(replace(model, layers=1), 1).weights
        peak += passing - (fixed + gradients) * (shards - 1) // shards
        held = fixed + found.gradients
        least += passing - held * (shards - 1) // shards
    return max(peak, least)


def as_kept(model: GPTConfig, device: str) -> GPTConfig:
    """The form by which memory is counted on a device.

    With dropout, the library's attention keeps all weights, except on a card.
    """
    keeps = bool(model.dropout) and not device.startswith("cuda")
    return replace(model, fused=False) if keeps else model


def on_each(
    model: GPTConfig, config: TrainConfig, batch: int, counts: Sequence[int]
) -> str:
    """What a divided model needs on each of several processes, in words.

    `batch` is that of all of them together.
    """
    said = []
    for count in counts:
        rows = -(-batch // count)
        need = size(peak_memory(model, config, rows, count))
        said.append(f"{need} on each of {count}")
    return f"about {', '.join(said)} processes"


def smaller_batch(
    model: GPTConfig,
    config: TrainConfig,
    batch: int,
    limit: int,
    shards: int = 1,
) -> str:
    """Options that do the same with less memory, or else what to try."""
    for pieces in (2, 4, 8, 16, 32, 64):
        if batch % pieces == 0 and batch >= pieces:
            loop = replace(config, accumulate=config.accumulate * pieces)
            need = peak_memory(model, loop, batch // pieces, shards)
            if need <= limit:
                return (
                    f"--batch-size {batch // pieces * ranks()} --accumulate "
                    f"{loop.accumulate} does the same in {size(need)}"
                )
    more = "--shard with more processes" if shards > 1 else "--shard"
    return (
        "choose a smaller --batch-size, more --accumulate, "
        "--checkpoint-activations, a smaller model or context, or, with "
        f"several cards under torchrun, {more}"
    )


def check_memory(
    model: GPTConfig,
    config: TrainConfig,
    batch: int,
    device: str,
    shards: int = 1,
) -> str:
    """How much memory the run needs, in words; refuses what cannot fit."""
    model = as_kept(model, device)
    need = peak_memory(model, config, batch, shards)
    limit = machine_memory(device)
    if need > limit:
        way = smaller_batch(model, config, batch, limit, shards)
        raise UserError(
            f"this run needs about {size(need)} of memory, and {device} has "
            f"{size(limit)}: {way}"
        )
    text = f"about {size(need)} at the highest, of {size(limit)}"
    if shards > 1:
        text += f", on each of {shards} processes"
    if need > 0.8 * limit:
        text += "; if it does not fit, "
        text += smaller_batch(model, config, batch, int(0.7 * limit), shards)
    return text


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that a device, or Python, is out of memory."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    words = ("out of memory", "not enough memory", "can't allocate memory")
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(w in text for w in words)


def is_about_compiling(error: BaseException) -> bool:
    """Whether torch could not compile the model."""
    return type(error).__module__.startswith(("torch._dynamo", "torch._induc"))


def advice_on_compiling(error: BaseException) -> str:
    """What to say then."""
    why = " ".join(str(error).split())[:200]
    return (
        f"--compile: torch cannot compile the model here ({why}); it needs a "
        "C++ compiler, or leave --compile out"
    )


def advice_on_memory(
    model: GPTConfig,
    config: TrainConfig,
    batch: int,
    device: str,
    shards: int = 1,
) -> str:
    """What to say when memory ran out all the same."""
    model = as_kept(model, device)
    need = peak_memory(model, config, batch, shards)
    limit = machine_memory(device)
    ways = ["a smaller model or --context needs less"]
    if not config.checkpoint_activations:
        ways.insert(0, "--checkpoint-activations costs a third more time")
    if batch % 2 == 0:
        loop = replace(config, accumulate=2 * config.accumulate)
        half = size(peak_memory(model, loop, batch // 2, shards))
        ways.insert(
            0,
            f"--batch-size {batch // 2 * ranks()} --accumulate "
            f"{loop.accumulate} does the same in {half}",
        )
    return (
        f"{device} ran out of memory: about {size(need)} were expected, of "
        f"{size(limit)} that it has, and other programs need some, too; "
        f"{'; '.join(ways)}"
    )


@dataclass(frozen=True)
class Speed:
    """Seconds of a step, and of judging one batch of windows."""

    step: float
    batch: float

    def evaluation(self, tokens: int, context: int) -> float:
        """Seconds to judge all validation tokens."""
        return self.batch * -(-tokens // (context * JUDGED))

    def of(self, small: GPTConfig, large: GPTConfig, shards: int) -> "Speed":
        """What a larger, divided model takes, judged by its operations.

        Each process takes its rows of a step, and of what is judged.
        """
        more = flops_per_token(large) / flops_per_token(small)
        return Speed(self.step * more, self.batch * more / shards)


def exercise(context: int, batch_size: int) -> BatchCursor:
    """Batches of nothing, to time a step before there is a text."""
    tokens = np.zeros(2 * context * batch_size + 1, dtype=np.uint16)
    return BatchCursor(tokens, context, batch_size, seed=0)


def measure(model: GPT, train: BatchCursor, config: TrainConfig) -> Speed:
    """Time a step and a batch of the evaluation; the run does not notice."""
    step = seconds_per_step(model, train, config)
    device = next(model.parameters()).device
    ids = torch.zeros(
        JUDGED, model.config.context, dtype=torch.int64, device=device
    )
    model.eval()
    with torch.inference_mode(), autocast(device.type, config.precision):
        for _ in range(2):  # the first one warms up
            start = time.perf_counter()
            batch_loss(model, ids, ids, "none").sum().item()  # waits
            batch = time.perf_counter() - start
    model.train()
    return Speed(step, batch)


def choose_device(wanted: str, trial: Callable[[str], float]) -> str:
    """The device itself, or for "auto" the one with the fastest trial.

    If there is only one device, nothing is tried.
    """
    if wanted != "auto":
        return wanted
    here = devices()
    return here[0] if len(here) == 1 else min(here, key=trial)


def slow_choices(
    model: GPT,
    config: TrainConfig,
    batch_size: int,
    shape: GPTConfig | None = None,
    shards: int = 1,
    wanted: str = "auto",
) -> list[str]:
    """What was chosen and costs time here, a sentence each.

    Configuration and device are as they were asked for: an "auto" chose well
    enough. `shape` is that of the run's model, if `model` stands in for it.
    """
    shape = shape or model.config
    device = next(model.parameters()).device.type
    found = []
    if config.precision not in ("auto", "float32"):
        rows = batch_size * shape.context
        times = slowdown(config.precision, device, rows, shape.channels)
        if times > 1.5:
            found.append(
                f"{config.precision} takes {times:.1f} times as long as "
                "float32 here, where it is only imitated: --precision auto"
            )
    if wanted == "cpu" and (better := devices()[1:]):
        found.append(f"there is a faster device: --device {better[0]}")
    room = machine_memory(device) // 2
    without = replace(config, checkpoint_activations=False)
    need = peak_memory(shape, without, batch_size, shards)
    if config.checkpoint_activations and need < room:
        found.append(
            "--checkpoint-activations costs a third more time, and without "
            f"it {size(need)} would do"
        )
    return found


def steps_in(minutes: float, every: int, speed: Speed, judge: float) -> int:
    """How many steps fit, the evaluations included.

    >>> steps_in(1.0, 10, Speed(2.0, 0.0), 10.0)
    15
    """
    left = 0.95 * 60 * minutes - judge  # the last step is judged as well
    return int(left / (speed.step + judge / every))


def describe_run(
    shape: GPTConfig, config: TrainConfig, facts: dict[str, Any], speed: Speed
) -> str:
    """What is about to be done, and how long it will take."""
    count = sum(parameter_table(shape).values())
    batch = facts["batch_size"] * shape.context * config.accumulate
    tokens = batch * config.steps
    lines = []
    judging = 0.0
    if "train_tokens" in facts:
        judge = speed.evaluation(facts["validation_tokens"], shape.context)
        judging = judge * -(-config.steps // config.evaluate_every)
        lines.append(
            f"text     {facts['corpus']}: {facts['train_tokens']:,} tokens to "
            f"learn from, {facts['validation_tokens']:,} to be judged by"
        )
    lines.append(
        f"model    {count:,} parameters: {shape.layers} layers, "
        f"{shape.heads} heads, {shape.channels} channels, "
        f"context {shape.context}, vocabulary {shape.vocab_size:,}"
    )
    epochs = (
        f"{tokens / facts['train_tokens']:.1f} epochs, "
        if "train_tokens" in facts
        else ""
    )
    lines.append(
        f"run      {config.steps:,} steps of {batch:,} tokens: {tokens:,} "
        f"in all, {epochs}{flops_per_token(shape) * tokens:.1e} operations"
    )
    total = speed.step * config.steps + judging
    lines.append(
        f"time     about {duration(total)}: {speed.step:.2f} s a step, just "
        f"measured, and {duration(judging)} for evaluations"
    )
    return "\n".join(lines)
