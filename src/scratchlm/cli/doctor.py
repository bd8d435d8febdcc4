"""The command `doctor`: what this machine can do, and what is missing."""

import os
import platform
import shutil
import sys
from pathlib import Path
from typing import Annotated

import numpy as np
import psutil
import torch
from cyclopts import Parameter

from scratchlm.cli.corpus import mirror
from scratchlm.cli.estimate import machine_memory, size
from scratchlm.cli.runs import devices
from scratchlm.generation.speed import matmul_rate
from scratchlm.model.gpt import GPT, gpt2_config
from scratchlm.training.device import disagreement

TOLERATED = 1e-3  # of the largest number; float32 is far below
WRONG = "WRONG"


def bfloat16_speed(size: int = 512) -> float:
    """How many times as fast bfloat16 matrix products are as float32 ones."""
    rates = [
        matmul_rate(size, size, size, dtype)
        for dtype in (torch.bfloat16, torch.float32)
    ]
    return rates[0] / rates[1]


def agreement(device: str) -> str:
    """How a small model's step there compares with the processor's."""
    torch.manual_seed(0)
    model = GPT(gpt2_config(512, 64, 2, 4, 128))
    ids, targets = torch.randint(512, (2, 4, 64))
    gaps = disagreement(model, (ids, targets), device)
    worst = max(gaps, key=lambda name: gaps[name])
    words = "as on the processor" if gaps[worst] < TOLERATED else WRONG
    return f"{words}: {worst} differs by {gaps[worst]:.0e} of its largest"


def nearest(path: Path) -> Path:
    """The path, or the nearest folder above it that exists."""
    return next(p for p in (path, *path.absolute().parents) if p.exists())


def free_memory() -> int:
    """Bytes that are free, of those that a container is allowed."""
    free = int(psutil.virtual_memory().available)
    return min(free, machine_memory("cpu"))


def findings(out: Path, ratio: float) -> dict[str, str]:
    """What there is, by name."""
    free = shutil.disk_usage(nearest(out))
    text = mirror()
    return {
        "python": f"{platform.python_version()} in {sys.prefix}",
        "torch": f"{torch.__version__}, numpy {np.__version__}",
        "devices": ", ".join(devices()),
        "cores": f"{psutil.cpu_count(logical=False)} ({os.cpu_count()} "
        f"threads), torch uses {torch.get_num_threads()}",
        "memory": f"{size(free_memory())} free of "
        f"{size(machine_memory('cpu'))}",
        "disk": f"{size(free.free)} free for {out}",
        "bfloat16": f"{ratio:.1f} times as fast as float32 on the processor",
        "output": sys.stdout.encoding or "of unknown encoding",
        "mirror": "none: texts are fetched" if text is None else str(text),
        **{device: agreement(device) for device in devices()[1:]},
    }


def advice(out: Path, ratio: float) -> list[str]:
    """What to do about what is found, a sentence each."""
    found, text, place = [], mirror(), nearest(out)
    if not place.is_dir():
        found.append(f"{place} is a file, so no run can be written to {out}")
    elif not os.access(place, os.W_OK):
        found.append(f"you may not write into {place}: name another --out")
    if text is not None and not text.is_dir():
        found.append(f"SCRATCHLM_MIRROR names {text}, which is no folder")
    if ratio < 1:
        found.append("this processor has no bfloat16: use float32")
    if free_memory() < 2e9:
        found.append("less than 2 GB of memory is free: close some programs")
    letters = sys.stdout.encoding or "utf-8"
    if letters.lower().replace("-", "") != "utf8":
        found.append(
            "output is not UTF-8, so some letters appear as codes: "
            "set PYTHONUTF8=1"
        )
    return found


def doctor(
    *,
    out: Annotated[
        Path, Parameter(help="where runs would be written (runs)")
    ] = Path("runs"),
) -> None:
    """Say what this machine can do, and what is missing.

    Lists versions, devices, memory and disk, and says whether bfloat16 pays
    off, how letters are encoded, and where texts come from. For a graphics
    card it says whether a training step gives the processor's numbers.

    Example:
      python -m scratchlm doctor

    Next: python -m scratchlm train --preset tiny --out runs/first
    Book: Setting up
    """
    ratio = bfloat16_speed()
    found = findings(out, ratio)
    for name, value in found.items():
        print(f"{name:9} {value}")
    wrong = [
        f"{name} gives wrong numbers: renew its driver, or use --device cpu"
        for name in devices()[1:]
        if found[name].startswith(WRONG)
    ]
    print()
    print("\n".join([*advice(out, ratio), *wrong]) or "nothing is missing")
