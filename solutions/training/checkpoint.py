"""Solutions: stopping, and going on as if nothing happened."""

import math
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from scratchlm.training.checkpoint import read_tensors


def average_weights(paths: Sequence[Path]) -> dict[str, Tensor]:
    """The mean of several files of weights, tensor by tensor.

    Added up in float64, so that the order does not matter, and returned in
    the type of the first file.
    """
    files = [read_tensors(Path(path)) for path in paths]
    means = {}
    for name, first in files[0].items():
        total = sum(file[name].double() for file in files)
        means[name] = torch.as_tensor(total / len(files)).to(first.dtype)
    return means


def keep_copy(folder: Path, step: int, count: int) -> None:
    """Keep a copy of the checkpoint, and the last `count` copies only.

    The copy gets its name at the end, so that one that has the name is
    whole; the oldest go only after that.
    """
    partial = folder.with_name(f"{folder.name}.partial")
    copy = folder.with_name(f"{folder.name}-{step:06d}")
    shutil.rmtree(partial, ignore_errors=True)  # what a crash has left
    if not copy.exists():  # or else a step that came before the crash, too
        shutil.copytree(folder, partial)
        partial.rename(copy)
    digits = "[0-9]" * 6
    copies = sorted(folder.parent.glob(f"{folder.name}-{digits}"))
    for old in copies[:-count]:
        shutil.rmtree(old)


def best_interval(saving: float, between: float) -> float:
    """Seconds from one checkpoint to the next that cost least in all.

    `saving` are the seconds that a checkpoint takes, `between` those from
    one crash to the next on average (Young, 1974).

    >>> best_interval(saving=9.0, between=20_000.0)
    600.0
    """
    return math.sqrt(2 * saving * between)
