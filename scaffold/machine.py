"""The command `doctor`: has this machine what a new repository takes?

It looks for what `scratchlm doctor` does not know, which is Git, the version
of Python that is wanted, and the budget that fits. The rest is that command's.
"""

import argparse
import importlib.util
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import tomllib

from scaffold.plan import MissingError, ScaffoldError, budgets
from scaffold.repository import git

ROOT = Path(__file__).parent.parent
DISK = 6e9  # bytes for an environment with PyTorch, and some runs
ABSENT = "not there"


@dataclass(frozen=True)
class Finding:
    """Something that was looked at."""

    name: str
    found: str
    advice: str  # what to do, or what to use it for
    good: bool = True
    needed: bool = False  # nothing works without it


def find_git() -> Finding:
    """Git makes the repository."""
    try:
        version = git(Path.cwd(), "--version")
    except ScaffoldError:  # a Mac has a git that only says how to get one
        advice = "install it (https://git-scm.com), or use --no-git"
        return Finding("git", ABSENT, advice, good=False, needed=True)
    return Finding("git", version.split()[2], "nothing to do", needed=True)


def versions(wanted: str) -> list[tuple[int, ...]]:
    """The bounds in a specifier such as ">=3.11,<3.14".

    >>> versions(">=3.11,<3.14")
    [(3, 11), (3, 14)]
    """
    found = re.findall(r"[\d.]+", wanted)
    return [tuple(map(int, one.split("."))) for one in found]


def find_python(version: tuple[int, ...] = sys.version_info[:2]) -> Finding:
    """Python, as the emitted package asks for it."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    wanted = tomllib.loads(text)["project"]["requires-python"]
    least, below = versions(wanted)
    good = least <= version < below
    advice = "nothing to do"
    if not good:
        advice = f"make the environment with a Python {wanted}"
    found = ".".join(map(str, version))
    return Finding("python", found, advice, good, needed=True)


def find_torch() -> Finding:
    """PyTorch, without importing it."""
    if importlib.util.find_spec("torch") is None:
        advice = "make setup, in the book's folder, brings it"
        return Finding("torch", ABSENT, advice, good=False, needed=True)
    import torch

    return Finding("torch", torch.__version__, "nothing to do", needed=True)


def largest(memory: float, cards: bool) -> str:
    """The largest budget that fits into so much memory, or ""."""
    fitting = [
        (facts["memory"], name)
        for name, facts in budgets().items()
        if ("peak" in facts) == cards and facts["cards"] == 1
        if facts["memory"] <= 1.05 * memory  # a card of "24 GB" has a bit less
    ]
    return max(fitting)[1] if fitting else ""


def find_memory(total: float) -> Finding:
    """The machine's memory, in bytes."""
    from scratchlm.cli.estimate import size

    budget = largest(total, cards=False)
    advice = f"enough for --budget {budget}"
    if not budget:
        advice = "train smaller models: python train.py --preset tiny"
    return Finding("memory", size(total), advice, bool(budget))


def find_disk(free: float) -> Finding:
    """The room where one stands, in bytes."""
    from scratchlm.cli.estimate import size

    good = free >= DISK
    advice = "nothing to do"
    if not good:
        advice = f"make room: an environment with PyTorch takes {size(DISK)}"
    return Finding("disk", f"{size(free)} free", advice, good)


def find_cards(memories: list[float], agreement: str) -> Finding:
    """Graphics cards by their memory in bytes; `agreement` of the first."""
    from scratchlm.cli.estimate import size

    if not memories:
        return Finding("gpu", "none", "use --budget cpu, which needs none")
    node = max(budgets().items(), key=lambda item: item[1]["cards"])
    budget = largest(memories[0], cards=True) or "cpu"
    enough = min(memories) >= 0.95 * node[1]["memory"]
    if enough and len(memories) >= node[1]["cards"]:
        budget = node[0]
    found = f"{len(memories)} of {size(memories[0])}, {agreement}"
    if "WRONG" in agreement:
        advice = "it computes something else: train with --device cpu"
        return Finding("gpu", found, advice, good=False)
    return Finding("gpu", found, f"use --budget {budget}")


def split(sentence: str) -> tuple[str, str]:
    """What is found and what to do, in an advice of the book's doctor.

    >>> split("this processor has no bfloat16: use float32")
    ('this processor has no bfloat16', 'use float32')
    """
    found, _, advice = sentence.partition(": ")
    return found, advice or "mend that first"


def library() -> list[Finding]:
    """What the book's own doctor finds: it needs PyTorch."""
    import torch

    from scratchlm.cli.doctor import advice, agreement, bfloat16_speed
    from scratchlm.cli.estimate import machine_memory

    cards = [
        float(torch.cuda.mem_get_info(number)[1])
        for number in range(torch.cuda.device_count())
    ]
    said = agreement("cuda") if cards else ""
    here = Path.cwd()
    others = advice(here / "runs", bfloat16_speed())
    return [
        find_memory(machine_memory("cpu")),
        find_disk(shutil.disk_usage(here).free),
        find_cards(cards, said),
        *(Finding("also", *split(one), good=False) for one in others),
    ]


def doctor(options: argparse.Namespace) -> int:
    """Print a line for each finding, and what to do about it."""
    found = [find_git(), find_python(), find_torch()]
    if found[-1].good:
        found += library()
    for one in found:
        mark = "✓" if one.good else "✗"
        print(f"{mark} {one.name:<8}{one.found}: {one.advice}")
    missing = [one.name for one in found if one.needed and not one.good]
    if missing:
        raise MissingError(f"{', '.join(missing)}: see what to do above")
    print("\nnext:  python -m scaffold list")
    print("       python -m scratchlm doctor   says more of this machine")
    return 0
