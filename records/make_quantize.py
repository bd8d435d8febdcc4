"""What a token waits for: one matrix, and a model of GPT-2's size, in bytes.

Times are those of the processor, of one thread, so that other programs count
for less; the weights are random, since time does not depend on what they are.
"""

import copy
import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scratchlm.generation.generate import generate
from scratchlm.generation.sampling import SamplingConfig
from scratchlm.model.gpt import GPT, gpt2_config
from scratchlm.serving.quantize import (
    QuantizedLinear,
    QuantizedMatrix,
    Scheme,
    model_bytes,
    quantize_model,
)

WIDTH = 4096  # of the matrix: 64 MiB in float32
TURNS = 5
TOKENS = 16  # written by the model in a turn
FORMS = {  # name → scheme, and the type that the kernel takes
    "int8, made anew": (Scheme(8), None),
    "int8, kernel in float32": (Scheme(8), torch.float32),
    "int8, kernel in bfloat16": (Scheme(8), torch.bfloat16),
    "int4, made anew": (Scheme(4, 32), None),
}


def turns(
    works: Mapping[str, Callable[[], object]], count: int
) -> dict[str, float]:
    """Median milliseconds of each work, in turns, after one to warm up."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(count + 1):
        for name, work in works.items():
            start = time.thread_time()
            work()
            if turn:
                times[name].append(1000 * (time.thread_time() - start))
    return {n: round(statistics.median(t), 3) for n, t in times.items()}


def drawn(*shape: int) -> Tensor:
    """Normal numbers, the same on every machine."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(shape, generator=generator)


def layers(width: int) -> dict[str, Callable[[Tensor], Tensor]]:
    """A square matrix in every form, as a layer."""
    w = 0.02 * drawn(width, width)
    half = w.bfloat16()
    found: dict[str, Callable[[Tensor], Tensor]] = {
        "float32": lambda x: F.linear(x, w),
        "bfloat16": lambda x: F.linear(x.bfloat16(), half).float(),
    }
    for name, (scheme, fused) in FORMS.items():
        matrix = QuantizedMatrix(w, scheme)
        found[name] = QuantizedLinear(matrix, fused=fused)
    return found


def results(width: int) -> dict[str, list[float]]:
    """What the first rows of each form give, to know it by."""
    x = drawn(1, width)
    return {
        name: [round(v, 5) for v in layer(x)[0, :4].tolist()]
        for name, layer in layers(width).items()
    }


def model_forms() -> dict[str, nn.Module]:
    """The smallest GPT-2, with random weights, in three forms."""
    torch.manual_seed(0)
    model = GPT(gpt2_config(context=64)).eval()
    return {
        "float32": model,
        "bfloat16": copy.deepcopy(model).bfloat16(),
        "int8, kernel in bfloat16": quantize_model(
            model, Scheme(8), torch.bfloat16
        ),
    }


def writing(model: Any) -> Callable[[], object]:
    """Write a few tokens, with a cache."""
    greedy = SamplingConfig(temperature=0)
    ids = torch.tensor([[464]])
    return lambda: list(generate(model, ids, TOKENS, greedy))


@torch.no_grad()
def record() -> dict[str, Any]:
    """One row through each form of a matrix, and tokens of each model."""
    torch.set_num_threads(1)
    x = drawn(1, WIDTH)
    works = {n: partial(f, x) for n, f in layers(WIDTH).items()}
    models = model_forms()
    tokens = turns({n: writing(m) for n, m in models.items()}, 3)
    return {
        "width": WIDTH,
        "milliseconds": turns(works, TURNS),
        "results": results(64),
        "bytes": {name: model_bytes(m) for name, m in models.items()},
        "tokens_per_second": {
            name: round(1000 * TOKENS / t, 2) for name, t in tokens.items()
        },
    }


@torch.no_grad()
def replay(data: dict[str, Any]) -> None:
    """Each form of a small matrix still gives the recorded numbers."""
    found = results(64)
    assert found.keys() == data["results"].keys()
    for name, wanted in data["results"].items():
        got = torch.tensor(found[name])
        atol = 2e-2 if "bfloat16" in name else 1e-4
        assert torch.allclose(got, torch.tensor(wanted), atol=atol), name
    assert data["milliseconds"].keys() == found.keys()
    assert (
        data["bytes"]["float32"]
        > 3.9 * data["bytes"]["int8, kernel in bfloat16"]
    )
