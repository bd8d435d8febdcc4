"""What the n-th token costs, with a cache and without one."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from scratchlm.generation.cache import KVCache
from scratchlm.generation.generate import generate, next_logits
from scratchlm.generation.sampling import SamplingConfig
from scratchlm.model.gpt import GPT, gpt2_config

CONTEXT = 1024
LENGTHS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 384, 512, 640, 768, 896, 1024)
TOKENS = 1023  # after a prompt of one


def build() -> GPT:
    """A small model in GPT-2's form with a long context, untrained."""
    torch.manual_seed(0)
    return GPT(gpt2_config(1024, CONTEXT, 4, 4, 128)).eval()


def text() -> Tensor:
    """A text that fills the context: (1, T)."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(1024, (1, CONTEXT), generator=generator)


def filled(model: GPT, ids: Tensor) -> KVCache:
    """A cache that has read ids."""
    cache = KVCache(model.config)
    if ids.shape[1]:
        next_logits(model, ids, cache)
    return cache


def milliseconds(work: Callable[[], object], runs: int) -> float:
    """Median time of so many runs, after two to warm up."""
    times = []
    for _ in range(runs + 2):
        start = time.perf_counter()
        work()
        times.append(1000 * (time.perf_counter() - start))
    return round(statistics.median(times[2:]), 4)


def size(logits: Tensor) -> float:
    """A number to know logits by."""
    return round(logits.abs().mean().item(), 6)


def cost(model: GPT, ids: Tensor, n: int) -> dict[str, Any]:
    """Times of scoring what follows n tokens, the last of which is new."""
    cache = filled(model, ids[:, : n - 1])

    def cached() -> Tensor:
        cache.rewind(n - 1)
        return next_logits(model, ids[:, n - 1 : n], cache)

    def uncached() -> Tensor:
        return next_logits(model, ids[:, :n])

    assert torch.allclose(cached(), uncached(), atol=1e-5)
    return {
        "n": n,
        "cached": milliseconds(cached, 51),
        "uncached": milliseconds(uncached, 5),
        "size": size(uncached()),
    }


def writing(model: GPT, cached: bool) -> float:
    """Seconds to fill the context, beginning with one token."""
    greedy = SamplingConfig(temperature=0)
    start = time.perf_counter()
    steps = generate(model, text()[:, :1], TOKENS, greedy, cached=cached)
    assert len(list(steps)) == TOKENS
    return round(time.perf_counter() - start, 3)


@torch.no_grad()
def record() -> dict[str, Any]:
    """The cost of single tokens, and of a whole text, on one core."""
    torch.set_num_threads(1)
    model, ids = build(), text()
    return {
        "tokens": TOKENS,
        "costs": [cost(model, ids, n) for n in LENGTHS],
        "cached": statistics.median(writing(model, True) for _ in range(3)),
        "uncached": writing(model, False),
    }


@torch.no_grad()
def replay(data: dict[str, Any]) -> None:
    """Both ways still give the recorded logits, and the same ones."""
    model, ids = build(), text()
    for row in data["costs"]:
        n = row["n"]
        plain = next_logits(model, ids[:, :n])
        cache = filled(model, ids[:, : n - 1])
        kept = next_logits(model, ids[:, n - 1 : n], cache)
        assert torch.allclose(kept, plain, atol=1e-5), n
        assert abs(size(plain) - row["size"]) < 1e-4, n
