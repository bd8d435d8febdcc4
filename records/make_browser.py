"""How fast the page's script is: tokens of one thread, beside PyTorch's.

Times are those of the processor, so that other programs count for less; the
weights are random, since time does not depend on what they are. The engine
is V8, that of Chromium and of Node, here without a page.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from py_mini_racer import MiniRacer

from scratchlm.generation.generate import generate
from scratchlm.generation.sampling import SamplingConfig
from scratchlm.model.gpt import GPT, llama_config
from scratchlm.serving.browser import load_into, model_page
from scratchlm.serving.quantize import Scheme, quantize_model
from scratchlm.text.tokenizer import END, Tokenizer

TOKENS = 64
TURNS = 3


def small(
    context: int = 256, layers: int = 3, heads: int = 4, channels: int = 128
) -> GPT:
    """A model in the book's form, with random weights that are not tiny."""
    torch.manual_seed(0)
    form = llama_config(1024, context, layers, heads, channels)
    model = GPT(form).eval()
    with torch.no_grad():
        for weights in model.parameters():
            weights.normal_(std=0.1)
    return model


def engine_of(model: GPT) -> MiniRacer:
    """An engine with the model, and a tokenizer of bytes."""
    engine = MiniRacer()
    load_into(engine, model, Tokenizer([], {END: 256}))
    return engine


def median(work: Callable[[], object]) -> float:
    """Seconds of the processor that a work takes, after one to warm up."""
    times = []
    for _ in range(TURNS + 1):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return statistics.median(times[1:])


def written(model: GPT, count: int) -> list[int]:
    """What the model itself writes, its likeliest tokens."""
    greedy = SamplingConfig(temperature=0)
    new = generate(model, torch.tensor([[65]]), count, greedy)
    return [int(step[0]) for step in new]


def record() -> dict[str, Any]:
    """Tokens a second of three forms of a model."""
    torch.set_num_threads(1)
    model = small()
    coded = quantize_model(model, Scheme())
    engine = engine_of(model)

    def script() -> None:
        engine.eval("model.ids = []; model.stored = [];")
        engine.call("write", [65], TOKENS)

    works: dict[str, Callable[[], object]] = {
        "PyTorch, float32": lambda: written(model, TOKENS),
        "PyTorch, int8 made anew": lambda: written(coded, TOKENS),
        "the script": script,
    }
    tiny = small(context=16, layers=1, heads=2, channels=16)
    return {
        "tokens_per_second": {
            name: round(TOKENS / median(work), 1)
            for name, work in works.items()
        },
        "bytes": len(model_page(model, Tokenizer([], {END: 256}), "A page")),
        "written": engine_of(tiny).call("write", [65], 24)[1:],
    }


def replay(data: dict[str, Any]) -> None:
    """A small model still writes what it wrote, in V8 and in PyTorch."""
    tiny = small(context=16, layers=1, heads=2, channels=16)
    assert engine_of(tiny).call("write", [65], 24)[1:] == data["written"]
    assert written(quantize_model(tiny, Scheme()), 24) == data["written"]
    assert data["bytes"] < 3e6
    rates = data["tokens_per_second"]
    assert rates["the script"] < rates["PyTorch, float32"]
