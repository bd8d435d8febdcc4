"""Which check catches which known mistake, for every topic.

Each mistake of a topic is planted in the book's module, one at a time, and the
topic's checks run on it in a process of their own, as `python -m check` runs
them. Kept are the checks that fail, what the first of them says, and how many
of the known mistakes have the same values, so that a reader would be told of
all of them.
"""

import importlib
import re
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
TOLD = ("what", "wanted", "got", "allowed", "hint")  # the parts of a message
# Of a message these differ from machine to machine, or from run to run.
VARIES = re.compile(
    r"/(?:[\w.+-]+/)+[\w.+-]*"  # where a file lies
    r"|0x[0-9a-f]+"
    r"|-?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?(?= (?:s|ms|MB|KB|bytes|times)\b)"
    r"|-?\d+\.\d+(?:e[+-]?\d+)?|-?\d+e[+-]?\d+|\b(?:nan|-?inf)\b"
    r'|cmpl-[^-"]+-\d+|(?<="created": )\d+'  # what a server numbers
)


def marks(way: dict[str, Any], names: list[str]) -> str:
    """A letter for each check: x fails, . passes, - did not run."""
    ends = {c["name"]: ".x"[not c["passed"]] for c in way["checks"]}
    return "".join(ends.get(name, "-") for name in names)


def words(way: dict[str, Any]) -> str:
    """What a reader is told first, with … for what varies; "" if stopped.

    >>> told = {"what": "the mean", "wanted": "2", "got": "2.51"}
    >>> words({"checks": [{"passed": False, "told": told}]})
    'the mean | 2 | …'
    """
    for check in way["checks"]:
        if not check["passed"]:
            parts = [check["told"].get(name) for name in TOLD]
            return VARIES.sub("…", " | ".join(part for part in parts if part))
    return ""


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
                "words": words(way),
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
    """Each of a topic's mistakes fails as before, and is told as before."""
    site = Site(ROOT).itself
    topic = site.topics[name]
    for bug, change in known_bugs(site, topic).items():
        way = slim(run(with_bug(site, topic, change)))
        marked = marks(way, known["checks"])
        assert marked == known["mistakes"][bug]["marks"], bug
        assert words(way) == known["mistakes"][bug]["words"], bug
