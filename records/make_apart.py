"""Mistakes kept apart: how many get through the checks of their topic?

The known mistakes of a topic were chosen by those who wrote its checks. These
were drawn by chance, from all small changes of the topic's module that
`press.mutations` knows, and no check was written with them in view: once
checks have learned from those that got through, others take their place. Each
is planted by itself, and the topic's checks run on it as `python -m check`
runs them. A survivor of which nothing can be seen, but the wording of a
message, is in ``scaffold/checks/apart.yml`` with the reason, and does not
count.
"""

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import yaml
from tqdm import tqdm

from check.diagnose import failures
from check.places import Site, Topic
from check.process import Job, run
from press.files import ROOT
from press.mutations import Mutant, Source

EACH = 12  # mistakes of a topic
LEARNED = 12  # of a topic, drawn before: checks have learned from these
PROCESSES = 2  # topics that are asked at once
SEED = 7
AGAIN = "attention"  # the topic of the replay
KEY = ("module", "where", "before", "after")  # what names a mistake
REASONS = ROOT / "scaffold" / "checks" / "apart.yml"


def drawn(topic: Topic) -> tuple[int, list[Mutant]]:
    """How many places a topic's module has, and its mistakes kept apart.

    They are the last of a shuffled order but for those that were learned
    from. Its first ones are free to learn from, too: `press.mutants.drawn`
    takes them, of the same seed.
    """
    text = (ROOT / "src" / topic.file).read_text(encoding="utf-8")
    source = Source(topic.module, text)
    order = list(range(len(source)))
    random.Random(f"{SEED} {source.module}").shuffle(order)
    mutants: list[Mutant] = []
    while order and len(mutants) < LEARNED + EACH:
        if mutant := source.mutant(order.pop()):
            mutants.append(mutant)
    return len(source), mutants[LEARNED:]


@cache
def reasons() -> dict[tuple[str, ...], str]:
    """Why a mistake may get through: its key → the reason."""
    entries = yaml.safe_load(REASONS.read_text(encoding="utf-8")) or []
    return {tuple(e[part] for part in KEY): e["reason"] for e in entries}


def survivors(
    site: Site, topic: Topic, mutants: list[Mutant]
) -> Iterator[Mutant | None]:
    """Each mistake that the topic's checks let through, None for the others.

    Raises RuntimeError where they fail without a mistake.
    """
    clean = run(Job(site, topic, site.sources))
    if failures(clean):
        raise RuntimeError(f"{topic.id}: the book's own code fails its checks")
    limit = 10 + 10 * float(clean["seconds"])
    for mutant in mutants:
        job = Job(site, topic, site.sources, text=mutant.source)
        yield None if failures(run(job, lambda check: limit)) else mutant


def tell(mutant: Mutant) -> dict[str, Any]:
    """A survivor: where, what stood there, and what stands there now."""
    return {
        "module": mutant.module,
        "where": mutant.where,
        "line": mutant.line,
        "before": mutant.before,
        "after": mutant.after,
    }


def measure(
    site: Site, topic: Topic, places: int, mutants: list[Mutant], bar: Any
) -> dict[str, Any]:
    """Let a topic's checks look at each of its mistakes."""
    alive = []
    for survivor in survivors(site, topic, mutants):
        bar.update()
        if survivor:
            alive.append(tell(survivor))
    return {
        "places": places,
        "drawn": len(mutants),
        "noticed": len(mutants) - len(alive),
        "survivors": alive,
    }


def record() -> dict[str, Any]:
    """All topics, in reading order.

    Drawn first, since Python 3.11 may not parse in two threads at once; the
    checks run in processes of their own.
    """
    site = Site(ROOT).itself
    topics = list(site.topics.values())
    kept = [drawn(topic) for topic in topics]

    def judge(topic: Topic, made: tuple[int, list[Mutant]]) -> dict[str, Any]:
        places, mutants = made
        return measure(site, topic, places, mutants, bar)

    total = EACH * len(topics)
    with (
        tqdm(total=total, unit="mistake", disable=None) as bar,
        ThreadPoolExecutor(PROCESSES) as pool,
    ):
        found = pool.map(judge, topics, kept)
        return {"seed": SEED, "topics": dict(zip(site.topics, found))}


def missed(topics: dict[str, Any]) -> list[dict[str, Any]]:
    """The survivors for which there is no reason."""
    known = reasons()
    return [
        survivor
        for topic in topics.values()
        for survivor in topic["survivors"]
        if tuple(survivor[part] for part in KEY) not in known
    ]


def rate(topics: dict[str, Any]) -> float:
    """The share of what counts that was noticed."""
    noticed = sum(topic["noticed"] for topic in topics.values())
    return float(noticed / (noticed + len(missed(topics))))


def replay(data: dict[str, Any]) -> None:
    """Every topic was asked; one lets the same mistakes through again."""
    site = Site(ROOT).itself
    found = data["topics"]
    assert list(found) == list(site.topics), "record it again"
    for name, told in found.items():
        assert told["drawn"] == told["noticed"] + len(told["survivors"]), name
    with tqdm(disable=True) as bar:
        topic = site.topics[AGAIN]
        again = measure(site, topic, *drawn(topic), bar)
    assert again == found[AGAIN], f"{AGAIN}: record it again"
