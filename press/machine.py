"""What a number was measured on: the machine, and versions of libraries."""

import os
import platform
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

import torch

CPUINFO = Path("/proc/cpuinfo")
# Instructions for products of bfloat16, as Linux calls them.
BFLOAT16 = {"avx512_bf16", "amx_bf16", "bf16", "svebf16"}
# For programs that share the cores. A thread of torch that waits for others
# spins, as OpenMP has it, and takes the core that they need: two trainings
# side by side then take twice as long as with threads that sleep.
SHARING = {"OMP_WAIT_POLICY": "passive"}


def cpu_facts(what: str) -> str:
    """What the kernel says of the first processor; nothing where it is not.

    x86 calls its instructions ``flags``, ARM ``Features``.
    """
    if CPUINFO.exists():
        for line in CPUINFO.read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == what:
                return value.strip()
    return ""


def machine() -> str:
    """The machine in words: processor, cores, accelerator if any."""
    model = cpu_facts("model name") or platform.processor()
    text = f"{os.cpu_count()} cores of {model or platform.machine()}"
    if torch.cuda.is_available():
        text += f", {torch.cuda.get_device_name()}"
    return text


def lacks() -> list[str]:
    """What the processor has no instructions for, as far as one can tell."""
    words = set(f"{cpu_facts('flags')} {cpu_facts('Features')}".split())
    return ["bfloat16"] if words and not words & BFLOAT16 else []


def versions(names: Iterable[str]) -> dict[str, str]:
    """The versions of Python and of those libraries that are installed."""
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
