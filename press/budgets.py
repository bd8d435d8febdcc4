"""Which topics a machine can do: what they take, and what it has.

A topic's memory is that of its chapter's page, as the record of the pages
measured it; how many GPUs it takes to do what the topic is for stands in
``roadmap.yml``. The machines are the scaffold's budgets, read as text.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from press.effort import running
from press.files import ROOT
from press.roadmap import Topic

BUDGETS = ROOT / "scaffold" / "budgets.yml"
GIB = 1024**3


@dataclass(frozen=True)
class Budget:
    """A machine: what it is called, and what it has."""

    id: str
    title: str
    memory: int  # bytes, of one of its cards where it has any
    gpus: int
    card: str = ""  # which GPU
    price: float = 0.0  # dollars an hour, of one card
    source: str = ""  # where the price was asked, and on which day
    seen: str = ""

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


def budgets(path: Path = BUDGETS) -> list[Budget]:
    """The machines for which there are plans, the smallest first."""
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    return [budget(name, facts) for name, facts in data.items()]


def budget(name: str, facts: dict[str, Any]) -> Budget:
    """A machine by its entry in the file."""
    asked = facts.get("priced", {})
    return Budget(
        name,
        facts["title"],
        int(facts["memory"]),
        facts["cards"] if "card" in facts else 0,
        card=facts.get("card", ""),
        price=facts["price"],
        source=asked.get("from", ""),
        seen=asked.get("seen", ""),
    )
