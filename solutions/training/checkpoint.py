"""Solutions: stopping, and going on as if nothing happened."""

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from scratchlm.training.checkpoint import (
    CheckpointError,
    read_json,
    read_tensors,
    write_json,
)


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
    name = f"{folder.name}-{step:06d}"
    partial = folder.with_name(name + ".partial")
    shutil.copytree(folder, partial, dirs_exist_ok=True)
    partial.rename(folder.with_name(name))
    digits = "[0-9]" * 6
    copies = sorted(folder.parent.glob(f"{folder.name}-{digits}"))
    for old in copies[:-count]:
        shutil.rmtree(old)


def fingerprint(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def seal(folder: Path) -> None:
    """Write the fingerprints of a checkpoint's files next to them."""
    files = sorted(p for p in folder.iterdir() if p.name != "seal.json")
    write_json(folder / "seal.json", {p.name: fingerprint(p) for p in files})


def check_seal(folder: Path) -> None:
    """Raise CheckpointError unless every file is as it was sealed."""
    for name, wanted in read_json(folder / "seal.json").items():
        path = folder / name
        if not path.exists() or fingerprint(path) != wanted:
            raise CheckpointError(f"{path} is not what was sealed")
