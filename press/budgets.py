"""Which topics a machine can do: what they take, and what it has.

A topic's memory is that of its chapter's page, as the record of the pages
measured it; how many GPUs it takes to do what the topic is for stands in
``roadmap.yml``. The machines are the scaffold's budgets, read as text.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import yaml

from press.effort import running
from press.files import ROOT
from press.roadmap import Topic

BUDGETS = ROOT / "scaffold" / "budgets.yml"
GPUS = re.compile(r"\b(\w+) GPUs?\b")  # in a budget's title
NUMBERS = {"one": 1, "two": 2, "four": 4, "eight": 8}
GIB = 1024**3


class BudgetError(ValueError):
    """A budget cannot be read; the message says which, and why."""


@dataclass(frozen=True)
class Budget:
    """A machine: what it is called, and what it has."""

    id: str
    title: str
    memory: int  # bytes, of one of its cards where it has any
    gpus: int

    def lacks(self, topic: Topic) -> str:
        """What the machine lacks for a topic, in words; "" where nothing.

        >>> from press.roadmap import load
        >>> small = Budget("cpu", "two cores and 4 GB", 4 * 10**9, gpus=0)
        >>> small.lacks(load().by_id["distributed"])
        'needs 2 GPUs for more than its check'
        >>> small.lacks(load().by_id["attention"])
        ''
        """
        if topic.gpus > self.gpus:
            many = "s" * (topic.gpus > 1)
            return f"needs {topic.gpus} GPU{many} for more than its check"
        used = running(topic)
        if used is not None and used.bytes > self.memory:
            return f"needs {used.bytes / GIB:.1f} GiB of memory"
        return ""


def gpus_of(name: str, title: str) -> int:
    """How many GPUs a budget's title names.

    >>> gpus_of("node8", "a node of eight GPUs"), gpus_of("cpu", "two cores")
    (8, 0)
    """
    found = GPUS.search(title)
    if found is None:
        return 0
    if found[1] not in NUMBERS:
        known = ", ".join(NUMBERS)
        raise BudgetError(
            f"budget {name}: “{found[0]}” names no number of GPUs that is "
            f"known: {known}"
        )
    return NUMBERS[found[1]]


def budgets(path: Path = BUDGETS) -> list[Budget]:
    """The machines for which there are plans, the smallest first."""
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    return [
        Budget(name, x["title"], int(x["memory"]), gpus_of(name, x["title"]))
        for name, x in data.items()
    ]
