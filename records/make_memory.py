"""Memory and time of a training step, with and without recomputation.

The bytes come out the same on every machine with the same torch; the times
are this machine's.
"""

import statistics
import time
from dataclasses import asdict
from typing import Any

import torch

from scratchlm.model.gpt import GPT, GPTConfig, gpt2_config
from scratchlm.training.memory import accumulate_gradients, memory_use

CONTEXTS = (64, 128, 256, 512)
BATCH = 8


def book_model(context: int) -> GPT:
    """The book's small model, for contexts of this length."""
    torch.manual_seed(0)
    config = gpt2_config(
        vocab_size=1024, context=context, layers=4, heads=4, channels=128
    )
    return GPT(config).train()


def activations(context: int) -> list[int]:
    """Bytes of activations of a small model, without and with."""
    model = book_model(context)
    ids = torch.zeros(BATCH, context, dtype=torch.int64)
    found = []
    for on in (False, True):
        model.checkpoint_activations = on
        found.append(memory_use(model, ids, ids).activations)
    return found


def seconds(model: GPT, ids: torch.Tensor) -> float:
    """Median seconds of five gradients, after one to warm up."""
    times = []
    for _ in range(6):
        start = time.perf_counter()
        accumulate_gradients(model, [(ids, ids)])
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def gpt2() -> dict[str, Any]:
    """The parts of a step of GPT-2's smallest, one window of 1,024."""
    torch.manual_seed(0)
    config = GPTConfig(
        vocab_size=50257, context=1024, layers=12, heads=12, channels=768
    )
    model = GPT(config).train()
    ids = torch.zeros(1, 1024, dtype=torch.int64)
    parts = {}
    for name, on in (("plain", False), ("recomputed", True)):
        model.checkpoint_activations = on
        parts[name] = asdict(memory_use(model, ids, ids))
    return parts


def record() -> dict[str, Any]:
    """Measure bytes by context, GPT-2's parts, and the price in time."""
    torch.set_num_threads(1)
    model = book_model(256)
    ids = torch.randint(1024, (BATCH, 256))
    times = []
    for on in (False, True):
        model.checkpoint_activations = on
        times.append(seconds(model, ids))
    return {
        "contexts": list(CONTEXTS),
        "batch": BATCH,
        "activations": [activations(context) for context in CONTEXTS],
        "weights": memory_use(book_model(64), ids[:, :64], ids[:, :64]).weights,
        "seconds": times,
        "gpt2": gpt2(),
    }


def replay(data: dict[str, Any]) -> None:
    """The bytes of the two shortest contexts come out the same."""
    for place in (0, 1):
        found = activations(data["contexts"][place])
        assert found == data["activations"][place], found
