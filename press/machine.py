"""The machine on which something was measured, in words."""

import os
import platform
from pathlib import Path

import torch


def machine() -> str:
    """The machine in words: processor, cores, accelerator if any."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text().splitlines()
        found = [line for line in lines if line.startswith("model name")]
        if found:
            model = found[0].partition(":")[2].strip()
    text = f"{os.cpu_count()} cores of {model}"
    if torch.cuda.is_available():
        text += f", {torch.cuda.get_device_name()}"
    return text
