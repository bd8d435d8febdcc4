"""What a token waits for: one matrix, and a model of GPT-2's size, in bytes.

Times are those of the processor, of one thread, so that other programs count
for less; the weights are random, since time does not depend on what they are.
Beside llama.cpp, which has threads of its own, it is the clock that counts,
and everybody takes turns.
"""

import copy
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor
from torch.nn import functional as F

from records.make_export import served, written
from scratchlm.generation.generate import generate
from scratchlm.generation.sampling import SamplingConfig
from scratchlm.generation.speed import FastStep, medians, take_turns
from scratchlm.model.gpt import GPT, gpt2_config
from scratchlm.serving.export import export_folder, export_gguf
from scratchlm.serving.quantize import (
    QuantizedLinear,
    QuantizedMatrix,
    Scheme,
    model_bytes,
    quantize_model,
)
from scratchlm.text.tokenizer import END, Tokenizer

WIDTH = 4096  # of the matrix: 64 MiB in float32
TURNS = 5
TOKENS = 16  # written by the model in a turn
BESIDE = 64  # tokens beside the other programs
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


def model_forms() -> dict[str, GPT]:
    """The smallest GPT-2, with random weights, in four forms."""
    torch.manual_seed(0)
    model = GPT(gpt2_config()).eval()
    return {
        "float32": model,
        "bfloat16": copy.deepcopy(model).bfloat16(),
        "int8, kernel in bfloat16": quantize_model(
            model, Scheme(8), torch.bfloat16
        ),
        "int4, made anew": quantize_model(model, Scheme(4, 32)),
    }


def writing(model: Any) -> Callable[[], object]:
    """Write a few tokens, with a cache."""
    greedy = SamplingConfig(temperature=0)
    ids = torch.tensor([[464]])
    return lambda: list(generate(model, ids, TOKENS, greedy))


def any_tokenizer(size: int) -> Tokenizer:
    """As many tokens as a model has, made of pairs of bytes: a file's due."""
    merges = [(i // 256, i % 256) for i in range(size - 257)]
    return Tokenizer(merges, {END: size - 1})


def beside(model: GPT, turns: int = 5) -> dict[str, float]:
    """Tokens per second of one text, of the same model in four programs.

    Each has one thread; each reads one token and writes `BESIDE`, the
    likeliest each time, with a cache. Ours in bytes calls the library's
    kernel; llama.cpp reads its form of 8 bits, a scale for 32 codes.
    """
    ids, greedy = torch.tensor([[464]]), SamplingConfig(temperature=0)
    small = quantize_model(model, Scheme(8), torch.bfloat16)
    tokenizer = any_tokenizer(model.config.vocab_size)

    def ours(form: GPT) -> Callable[[], object]:
        step = FastStep(form)
        return lambda: list(generate(form, ids, BESIDE, greedy, step=step))

    with tempfile.TemporaryDirectory() as place:
        path, folder = Path(place) / "model.gguf", Path(place) / "hf"
        export_gguf(path, model, tokenizer, "q8_0")
        export_folder(folder, model, tokenizer)
        server = served(path, model.config.context)
        peer: Any = transformers.AutoModelForCausalLM.from_pretrained(folder)
        options = {"min_new_tokens": BESIDE, "max_new_tokens": BESIDE}
        options |= {"do_sample": False, "pad_token_id": 0}
        works = {
            "ours, int8": ours(small),
            "llama.cpp, Q8_0": lambda: written(server, [464], BESIDE),
            "ours, float32": ours(model),
            "transformers, float32": lambda: peer.generate(ids, **options),
        }
        seconds = medians(take_turns(works, turns))
    return {name: round(BESIDE / s, 2) for name, s in seconds.items()}


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
        "beside": beside(models["float32"]),
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
