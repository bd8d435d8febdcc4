"""Which check catches which known mistake, for every topic.

Each mistake of a topic is planted in the book's module, one at a time, and the
topic's checks run on it in a process of their own, as `python -m check` runs
them. Kept are the checks that fail, and how many of the known mistakes have
the same values, so that a reader would be told of all of them.
"""

import importlib
from typing import Any

from check.diagnose import (
    compare,
    failures,
    known_bugs,
    known_ways,
    reference_seconds,
    slim,
    with_bug,
)
from check.places import Site, Topic
from check.process import Job, run
from press.files import ROOT

AGAIN = "attention"  # the topic of the replay
STOPPED = ("broken", "ended")  # no check fails, for none comes to its end


def marks(way: dict[str, Any], names: list[str]) -> str:
    """A letter for each check: x fails, . passes, - did not run."""
    ends = {c["name"]: ".x"[not c["passed"]] for c in way["checks"]}
    return "".join(ends.get(name, "-") for name in names)


def measure(site: Site, topic: Topic) -> dict[str, Any]:
    """A topic's checks, their seconds, and what they say of each mistake."""
    report = run(Job(site, topic, site.sources))
    if failures(report):
        raise RuntimeError(f"{topic.id}: the book's own code fails its checks")
    names = [check["name"] for check in report["checks"]]
    ways = known_ways(site, topic, lambda text: print(topic.id, text))
    return {
        "checks": names,
        "seconds": round(reference_seconds(site, topic), 2),
        "mistakes": {
            bug: {
                "marks": marks(way, names),
                "stopped": any(way.get(end) for end in STOPPED),
                "named": len(compare(failures(way), ways).names),
            }
            for bug, way in ways.items()
        },
    }


def record() -> dict[str, Any]:
    """All topics, in reading order."""
    site = Site(ROOT).itself
    return {topic.id: measure(site, topic) for topic in site.topics.values()}


def replay(data: dict[str, Any]) -> None:
    """Every topic has these checks and mistakes; one fails them as before."""
    site = Site(ROOT).itself
    assert list(data) == list(site.topics)
    for name, topic in site.topics.items():
        module = importlib.import_module(site.check_module(topic))
        there = [x for x in vars(module) if x.startswith("check_")]
        assert data[name]["checks"] == there, f"{name}: record it again"
        assert list(data[name]["mistakes"]) == list(module.BUGS), name
    replay_topic(data[AGAIN], AGAIN)


def replay_topic(known: dict[str, Any], name: str) -> None:
    """Each of a topic's mistakes fails the checks that it failed before."""
    site = Site(ROOT).itself
    topic = site.topics[name]
    for bug, change in known_bugs(site, topic).items():
        way = slim(run(with_bug(site, topic, change)))
        marked = marks(way, known["checks"])
        assert marked == known["mistakes"][bug]["marks"], bug
