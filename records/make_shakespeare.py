"""Ten minutes of tiny Shakespeare on two cores, with three seeds.

The figure to compare with is nanoGPT's: the same characters, the same split,
windows of 256. Here every window of the last tenth counts, side by side. One
more run has no dropout.
"""

import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from records.make_speed import Data, shakespeare, toytown
from scratchlm.model.gpt import GPT, GPTConfig, count_parameters, llama_config
from scratchlm.text.tokens import BatchCursor
from scratchlm.training.trainer import TrainConfig, Trainer

SEEDS = (0, 1, 2)
FORM = replace(
    llama_config(65, 256, layers=6, heads=3, channels=192, dropout=0.1),
    qk_norm="layernorm",
    fused=False,
)
RUN = TrainConfig(
    1500,
    learning_rate=5e-3,
    optimizer="muon",
    precision="bfloat16",
    evaluate_every=250,
    checkpoint_every=1500,
)
BATCH = 16  # windows


def trainer(data: Data, form: GPTConfig, seed: int, folder: str) -> Trainer:
    """A run that has not begun."""
    torch.manual_seed(seed)
    model = GPT(form).train()
    cursor = BatchCursor(data.train, form.context, BATCH, seed)
    return Trainer(model, cursor, data.validation, RUN, Path(folder) / "run")


def trained(data: Data, form: GPTConfig, seed: int) -> dict[str, Any]:
    """A run to its end: seconds in all, and the loss on the way."""
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        run = trainer(data, form, seed, folder)
        best = run.fit()
        seconds = time.perf_counter() - begun
        log = (run.folder / "log.jsonl").read_text(encoding="utf-8")
    lines = [json.loads(line) for line in log.splitlines()]
    judged = [line for line in lines if "validation_loss" in line]
    print(f"  seed {seed}: {best:.4f} in {seconds:.0f} s", flush=True)
    return {
        "seed": seed,
        "seconds": seconds,
        "training_seconds": run.seconds,
        "best": best,
        "steps": [line["step"] for line in judged],
        "validation": [line["validation_loss"] for line in judged],
        "train": [
            float(np.mean([line["train_loss"] for line in part]))
            for part in (
                lines[line["step"] - 50 : line["step"]] for line in judged
            )
        ],
    }


def first_losses(data: Data) -> list[float]:
    """The training losses of the first three steps of the first seed."""
    with tempfile.TemporaryDirectory() as folder:
        run = trainer(data, FORM, SEEDS[0], folder)
        return [run.train_step()["train_loss"] for _ in range(3)]


def record() -> dict[str, Any]:
    """Each seed to its end, on two threads."""
    torch.set_num_threads(2)
    data = shakespeare()
    return {
        "parameters": count_parameters(GPT(FORM)),
        "characters": len(data.train),
        "tokens_per_step": BATCH * FORM.context,
        "first": first_losses(data),
        "toytown": first_losses(toytown()),
        "runs": [trained(data, FORM, seed) for seed in SEEDS],
        "plain": trained(data, replace(FORM, dropout=0.0), SEEDS[0]),
    }


def replay(data: dict[str, Any], texts: Data | None = None) -> None:
    """The run begins as recorded: on Toytown, or on the texts given."""
    found = first_losses(toytown() if texts is None else texts)
    kept = data["toytown" if texts is None else "first"]
    np.testing.assert_allclose(found, kept, atol=2e-2)
