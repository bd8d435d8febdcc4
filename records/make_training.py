"""The book's small run, from nothing: its losses and its time.

The command line trains it with its defaults; the record keeps a thinned log.
Beside it stands what the same model learns by AdamW alone.
"""

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scratchlm.cli.app import main, make_app
from scratchlm.cli.train import Job, new_trainer
from scratchlm.text.files import read_json
from scratchlm.training.trainer import read_log

PLAIN = ["--device", "cpu", "--precision", "float32"]  # everywhere the same
ADAMW = "--optimizer adamw --learning-rate 0.003 --batch-size 16 --steps 800"


def train(*more: str) -> dict[str, Any]:
    """Train with the defaults of the command line, but for `more`."""
    folder = Path(tempfile.mkdtemp()) / "toytown"
    arguments = ["train", "--out", str(folder), "--sample-every", "0"]
    if main([*arguments, *PLAIN, *more]) != 0:
        raise RuntimeError("the training did not end well")
    lines = read_log(folder)
    return {
        "config": read_json(folder / "config.json"),
        "seconds": lines[-1]["seconds"],
        "first": [line["train_loss"] for line in lines[:3]],
        "validation": [
            [line["step"], line["validation_loss"]]
            for line in lines
            if "validation_loss" in line
        ],
    }


def record() -> dict[str, Any]:
    """Train on two threads; the losses, and the seconds of the steps."""
    torch.set_num_threads(2)
    return train() | {"adamw": train(*ADAMW.split())}


def first_losses(count: int) -> list[float]:
    """The training losses of the first steps, computed again."""
    folder = Path(tempfile.mkdtemp()) / "toytown"
    words = ["train", "--out", str(folder), *PLAIN]
    _, bound, _ = make_app().parse_args(words, exit_on_error=False)
    bound.apply_defaults()
    parts = ("text", "model", "training", "batch", "run")
    job = Job(**{name: bound.arguments[name] for name in parts})
    trainer = new_trainer(job, time.monotonic())
    trainer.model.train()
    return [trainer.train_step()["train_loss"] for _ in range(count)]


def replay(data: dict[str, Any]) -> None:
    """The first steps come out the same, up to the order of additions."""
    found = first_losses(2)
    np.testing.assert_allclose(found, data["first"][:2], atol=1e-3)
