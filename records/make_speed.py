"""Where the time goes, the machine's ceilings, and what each change bought.

The losses are those of tiny Shakespeare, character by character, after 20
seconds of training; the times are this machine's.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

from press.files import ROOT
from scratchlm.generation.cache import KVCache
from scratchlm.generation.generate import next_logits
from scratchlm.generation.speed import (
    FastStep,
    fast_model,
    fast_training,
    linear_work,
    matmul_rate,
    measure_roofline,
    median_seconds,
)
from scratchlm.model.gpt import (
    GPT,
    GPTConfig,
    count_parameters,
    flops_per_token,
    gpt2_config,
)
from scratchlm.text.characters import CharTokenizer
from scratchlm.text.corpus import get
from scratchlm.text.tokens import BatchCursor
from scratchlm.text.toytown import join, write_corpus
from scratchlm.training.memory import accumulate_gradients
from scratchlm.training.trainer import (
    TrainConfig,
    Trainer,
    make_optimizers,
)

SECONDS = 20
VOCABULARY = 65
WIDTH = 4096  # of the matrix on the roofline: 64 MiB in float32
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)

@dataclass(frozen=True)
class Data:
    """Characters as numbers: the first nine tenths, and the rest."""

    train: np.ndarray
    validation: np.ndarray


def split(text: str) -> Data:
    """A number for each character; the last tenth is for validation."""
    ids = np.array(CharTokenizer.train(text).encode(text), dtype=np.uint16)
    cut = int(0.9 * len(ids))
    return Data(ids[:cut], ids[cut:])


def shakespeare() -> Data:
    """Tiny Shakespeare, from the mirror or the web when first asked for."""
    mirror = os.environ.get("SCRATCHLM_MIRROR")
    folder = ROOT / "_build" / "benchmarks"
    path = get("shakespeare", folder, Path(mirror) if mirror else None)
    return split(path.read_text(encoding="utf-8"))


Recipe = tuple[str, GPTConfig, TrainConfig, int]  # name, …, batch size

KINDS = {
    "matrix products": ("mm", "addmm", "bmm", "baddbmm"),
    "attention's kernel": ("_scaled_dot_product",),
    "GELU": ("gelu",),
    "norms": ("native_layer_norm",),
    "softmax": ("_softmax", "_log_softmax"),
}


def ladder() -> list[Recipe]:
    """From GPT-2's form to the fast recipe, one change at a time."""
    model = gpt2_config(VOCABULARY, 64, 4, 4, 128)
    training = TrainConfig(1, learning_rate=1e-3, warmup=20)
    steps = [("GPT-2's form, AdamW", model, training, 12)]
    training = replace(training, precision="bfloat16")
    steps.append(("products in bfloat16", model, training, 12))
    model = replace(model, fused=False)
    steps.append(("attention written out", model, training, 12))
    model = replace(model, context=128)
    steps.append(("16 windows of 128", model, training, 16))
    training = replace(training, learning_rate=5e-3)
    steps.append(("a rate of 0.005", model, training, 16))
    training = replace(training, optimizer="muon", weight_decay=0.0)
    steps.append(("Muon", model, training, 16))
    model = replace(model, position="rotary", mlp="gelu")
    model = replace(model, bias=False, tied=False)
    steps.append(("rotary, own head, no biases", model, training, 16))
    model = replace(model, qk_norm="layernorm")
    steps.append(("queries, keys normalized", model, training, 16))
    training = replace(training, schedule="stable")
    steps.append(("constant rate, then down", model, training, 16))
    return steps


def variants() -> list[Recipe]:
    """The fast recipe with one thing otherwise."""
    model, training = fast_model(VOCABULARY), fast_training(1)
    return [
        ("float32", model, replace(training, precision="float32"), 16),
        ("the library's attention", replace(model, fused=True), training, 16),
        ("RMSNorm", replace(model, norm="rmsnorm"), training, 16),
        ("SwiGLU", replace(model, mlp="swiglu"), training, 16),
        ("tied head", replace(model, tied=True), training, 16),
        ("32 windows of 64", replace(model, context=64), training, 32),
        ("8 windows of 256", replace(model, context=256), training, 8),
        ("a rate of 0.01", model, replace(training, learning_rate=0.01), 16),
        ("AdamW", model, replace(training, optimizer="adamw"), 16),
    ]


def start(data: Data, recipe: Recipe, steps: int, folder: str) -> Trainer:
    """The trainer of a recipe for so many steps."""
    _, config, training, batch = recipe
    torch.manual_seed(0)
    model = GPT(config).train()
    cursor = BatchCursor(data.train, config.context, batch, seed=0)
    settings = replace(training, steps=steps, evaluate_every=steps)
    warm = replace(settings, warmup=min(settings.warmup, steps // 2))
    return Trainer(
        model, cursor, data.validation, warm, Path(folder) / f"run-{steps}"
    )


def step_seconds(data: Data, recipe: Recipe) -> float:
    """The median time of a step, after ten to warm up."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = start(data, recipe, 40, folder)
        for _ in range(10):
            trainer.train_step()
        times = []
        for _ in range(30):
            begin = time.perf_counter()
            trainer.train_step()
            times.append(time.perf_counter() - begin)
    return float(np.median(times))


def first_losses(data: Data, recipe: Recipe) -> list[float]:
    """The training losses of the first three steps."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = start(data, recipe, 40, folder)
        return [trainer.train_step()["train_loss"] for _ in range(3)]


def measure(data: Data, town: Data, recipe: Recipe) -> dict[str, Any]:
    """Train a recipe for 20 seconds; what it reached, and how it began."""
    seconds = step_seconds(data, recipe)
    steps = round(SECONDS / seconds)
    with tempfile.TemporaryDirectory() as folder:
        trainer = start(data, recipe, steps, folder)
        loss = trainer.fit()
    name, config, _, batch = recipe
    print(f"  {name}: {steps} steps, {loss:.4f}", flush=True)
    return {
        "name": name,
        "loss": loss,
        "steps": steps,
        "seconds": trainer.seconds,
        "tokens_per_second": batch * config.context / seconds,
        "parameters": count_parameters(GPT(config)),
        "flops_per_token": flops_per_token(config),
        "first": first_losses(data, recipe),
        "toytown": first_losses(town, recipe),
    }


def toytown() -> Data:
    """A little of Toytown, by character, for whoever has no Shakespeare."""
    return split(join(write_corpus(20_000)))


def kind(operation: str) -> str:
    """Which part of the work a kernel belongs to."""
    name = operation.removeprefix("aten::")
    for found, names in KINDS.items():
        if name.startswith(names):
            return found
    return "everything else"


def shares(data: Data, recipe: Recipe) -> dict[str, float]:
    """Milliseconds of a step by what they are spent on."""
    _, config, training, batch = recipe
    torch.manual_seed(0)
    model = GPT(config).train()
    optimizers = make_optimizers(model, training)
    cursor = BatchCursor(data.train, config.context, batch, seed=0)
    found: dict[str, float] = defaultdict(float)
    for step in range(30):
        pieces = [cursor.next_batch()]
        with profile(activities=[ProfilerActivity.CPU]) as watched:
            for optimizer in optimizers:
                optimizer.zero_grad()
            accumulate_gradients(model, pieces, training.precision)
        begin = time.perf_counter()
        for optimizer in optimizers:
            optimizer.step()
        if step < 10:
            continue
        found["the optimizer"] += (time.perf_counter() - begin) * 1e3 / 20
        for event in watched.key_averages():
            found[kind(event.key)] += event.self_cpu_time_total / 20_000
    return dict(found)


def as_convolution(rows: int, inputs: int, outputs: int) -> float:
    """Operations per second of a product, computed by a convolution.

    A convolution of width 1 is a linear layer; the library computes it by
    another of the libraries that it is built on.
    """
    x = torch.ones(1, rows, inputs)
    image = x.permute(0, 2, 1).unsqueeze(-1)  # (1, inputs, rows, 1), a view
    kernel = torch.ones(outputs, inputs, 1, 1)
    operations, _ = linear_work(rows, inputs, outputs)

    def work() -> None:
        for _ in range(50):
            F.conv2d(image, kernel)

    return 50 * operations / median_seconds(work, 9)


def roofline() -> dict[str, Any]:
    """Ceilings, and products of few and many rows below them."""
    found: dict[str, Any] = {}
    for name in ("float32", "bfloat16"):
        dtype = getattr(torch, name)
        points = []
        for rows in ROWS:
            operations, moved = linear_work(rows, WIDTH, WIDTH, dtype.itemsize)
            rate = matmul_rate(rows, WIDTH, WIDTH, dtype)
            points.append([operations / moved, rate, rows])
        inside = matmul_rate(2048, 128, 512, dtype)
        ceilings = asdict(measure_roofline(dtype))
        found[name] = {**ceilings, "points": points, "inside": inside}
    found["convolution"] = as_convolution(2048, 128, 512)
    return found


@torch.no_grad()
def writing() -> dict[str, float]:
    """Microseconds of a token, plain and fast, and of some of its parts."""
    torch.manual_seed(0)
    model = GPT(gpt2_config(VOCABULARY, 1024, 4, 4, 128)).eval()
    ids = torch.randint(VOCABULARY, (1, 200))
    cache, step = KVCache(model.config), FastStep(model)
    next_logits(model, ids, cache)
    block: Any = model.blocks[0]
    x, store = torch.randn(1, 128), cache[0]

    def plain() -> None:
        cache.rewind(199)
        next_logits(model, ids[:, -1:], cache)

    def fast() -> None:
        cache.rewind(199)
        step(model, ids[:, -1:], cache)

    def kept() -> None:
        store.rewind(150)
        store.append(key, key)

    key = torch.randn(1, 4, 1, 32)
    norm, linear = block.norm1, block.attention.out
    w, b, w2, b2 = norm.weight, norm.bias, linear.weight, linear.bias
    works = {
        "plain": plain,
        "fast": fast,
        "a linear layer": lambda: linear(x),
        "its product alone": lambda: F.linear(x, w2, b2),
        "a norm": lambda: norm(x),
        "its kernel alone": lambda: torch.layer_norm(x, (128,), w, b),
        "keeping a key": kept,
    }
    found = {}
    for name, work in works.items():
        def many(work: Any = work) -> None:
            for _ in range(200):
                work()

        found[name] = median_seconds(many) / 200 * 1e6
    return found


COMPILED = """
import time, torch
from scratchlm.generation.speed import fast_model
from scratchlm.model.gpt import GPT, next_token_loss
torch.manual_seed(0)
model = GPT(fast_model(65)).train()
ids = torch.randint(65, (16, 129))
fast = torch.compile(model)
times = []
for _ in range(30):
    start = time.perf_counter()
    with torch.autocast("cpu", torch.bfloat16):
        loss = next_token_loss(fast(ids[:, :-1]), ids[:, 1:])
    loss.backward()
    times.append(time.perf_counter() - start)
print(times[0], sorted(times)[15])
"""


def compiled() -> dict[str, float]:
    """Seconds of the first gradient of a compiled model, and of the rest.

    In a process of its own, with an empty cache of compiled code.
    """
    with tempfile.TemporaryDirectory() as folder:
        found = {}
        for name, code in (
            ("compiled", COMPILED),
            ("plain", COMPILED.replace("torch.compile(model)", "model")),
        ):
            done = subprocess.run(
                [sys.executable, "-c", code],
                env={**os.environ, "TORCHINDUCTOR_CACHE_DIR": folder},
                capture_output=True,
                text=True,
                check=True,
            )
            first, rest = done.stdout.split()
            found[f"{name} first"] = float(first)
            found[f"{name} then"] = float(rest)
    return found


def record() -> dict[str, Any]:
    """Everything above, on two threads."""
    torch.set_num_threads(2)
    data, town = shakespeare(), toytown()
    steps = ladder()
    return {
        "roofline": roofline(),
        "shares": {
            name: shares(data, recipe)
            for name, recipe in (("before", steps[0]), ("after", steps[-1]))
        },
        "writing": writing(),
        "compiled": compiled(),
        "ladder": [measure(data, town, recipe) for recipe in steps],
        "variants": [measure(data, town, recipe) for recipe in variants()],
    }


def replay(data: dict[str, Any], texts: Data | None = None) -> None:
    """Every recipe begins as recorded: on Toytown, or on the texts given."""
    town = toytown() if texts is None else texts
    which = "toytown" if texts is None else "first"
    recipes = [*ladder(), *variants()]
    rows = [*data["ladder"], *data["variants"]]
    for recipe, row in zip(recipes, rows, strict=True):
        assert recipe[0] == row["name"]
        found = first_losses(town, recipe)
        np.testing.assert_allclose(found, row[which], atol=2e-2)
