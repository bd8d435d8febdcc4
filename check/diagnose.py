"""Which known mistake is it? By comparison, never by a guess.

Each topic's checks come with known mistakes: a text of the book's source, and
what it becomes. Planted one at a time, each sends the checks on a way of its
own: what they compared, what they got, and how they failed. Code that goes the
same way, number by number, has most likely the same mistake.
"""

import json
import os
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

from check.places import PlaceError, Site, Topic
from check.process import Job, Report, run
from check.running import OtherCode, plant
from check.values import FAR, NEAR, distance, steady

ALIKE = {"CheckFailed", "Ended", "TooLong", "TooMuch"}  # in whatever words
SHOWN = 3  # of several that fit
BUDGET = 15.0  # seconds for mistakes that no run before has compared with
Say = Callable[[str], None]


@dataclass(frozen=True)
class Cause:
    """The known mistakes whose values are those of the reader's code."""

    names: tuple[str, ...]  # those that fit, the nearest first
    gap: float  # the largest distance of two values
    known: int  # how many mistakes were tried
    whole: bool  # whether every check agrees, or the first failing one
    left: int = 0  # how many that may fit there was no time for

    @property
    def sure(self) -> bool:
        """Whether some mistake fails all the checks that failed, alike."""
        return bool(self.names) and self.whole

    @property
    def tried(self) -> str:
        """With how many it was compared, where that is not with all."""
        if not self.left:
            return ""
        all_ = self.known + self.left
        return f"compared with {self.known} of {all_} known mistakes"

    @property
    def text(self) -> str:
        """In a sentence or two."""
        if not self.known:
            return ""
        if not self.names and self.left:
            return (
                f"{self.tried}, and none of them gives your values; the next "
                "run goes on with the others"
            )
        if not self.names:
            return f"none of the {self.known} known mistakes gives your values"
        shown = "; or ".join(self.names[:SHOWN])
        more = len(self.names) - SHOWN
        shown += f"; or {more} more" if more > 0 else ""
        near = f", within {self.gap:.0e}," if self.gap else ""
        tried = f"; {self.tried}" if self.left else ""
        return f"{shown} (your values equal{near} those of this mistake{tried})"


def stored(path: Path) -> Any:
    """What an earlier run left, None where there is nothing of use."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def store(path: Path, data: Any) -> None:
    """Keep data for the next run; whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}.part")
    part.write_text(json.dumps(data), encoding="utf-8")
    part.replace(path)


def reference_seconds(site: Site, topic: Topic, check: str = "") -> float:
    """How long the book's own module takes here: one check, or all."""
    takes = reference_run(site, topic)
    return float(takes["checks"].get(check, takes["seconds"]))


def reference_bytes(site: Site, topic: Topic) -> int:
    """How much memory the checks take with the book's own module."""
    return int(reference_run(site, topic)["bytes"])


def reference_run(site: Site, topic: Topic) -> dict[str, Any]:
    """What the book's own module takes here; measured once."""
    key = site.fingerprint(topic, site.reference)
    path = site.cache / f"{topic.id}-takes.json"
    known = stored(path)
    if not isinstance(known, dict) or known.get("key") != key:
        report = run(Job(site, topic, site.reference))
        takes = {"seconds": 60.0, "bytes": 0}
        takes |= {name: report[name] for name in takes if name in report}
        each = {c["name"]: c["seconds"] for c in report["checks"]}
        known = {"key": key, **takes, "checks": each}
        store(path, known)
    return known


def slim(report: Report) -> Report:
    """What is compared of a report."""
    keys = ("name", "title", "passed", "told", "noted")
    checks = [
        {
            key: None if key == "noted" and c["passed"] else c[key]
            for key in keys
        }
        for c in report["checks"]
    ]
    return {
        "checks": checks,
        "broken": report["broken"],
        "ended": report.get("ended"),
    }


def known_bugs(site: Site, topic: Topic) -> dict[str, tuple[str, str]]:
    """The known mistakes of a topic: name → text and its replacement."""
    report = run(Job(site, topic, site.reference, naming=True))
    return {name: (old, new) for name, (old, new) in report["bugs"].items()}


def with_bug(site: Site, topic: Topic, bug: tuple[str, str]) -> Job:
    """The book's own code with a mistake in it."""
    path = site.reference / topic.file
    text = plant(path.read_text(encoding="utf-8"), *bug, path.name)
    return Job(site, topic, site.reference, text=text)


class Known:
    """A topic's known mistakes, and the ways of those that were planted.

    What was computed is kept, and another run goes on from there.
    """

    def __init__(self, site: Site, topic: Topic) -> None:
        """With what earlier runs have left."""
        self.site, self.topic = site, topic
        self.key = site.fingerprint(topic, site.reference)
        self.path = site.cache / f"{topic.id}-mistakes.json"
        self.names: list[str] = []  # of all, in the order of the checks' file
        self.ways: dict[str, Report] = {}
        kept = stored(self.path)
        if isinstance(kept, dict) and kept.get("key") == self.key:
            self.names, self.ways = kept.get("names", []), kept["ways"]
        self.bugs: dict[str, tuple[str, str]] = {}
        if not self.names or self.left:
            if not (site.reference / topic.file).exists():
                raise PlaceError(
                    f"{topic.file} is not in what was committed last"
                )
            self.bugs = known_bugs(site, topic)
            self.names = list(self.bugs)

    @property
    def left(self) -> list[str]:
        """Those that nothing has been compared with."""
        return [name for name in self.names if name not in self.ways]

    def plant(self, name: str) -> None:
        """See how the checks go with one more of them."""

        def limit(check: str) -> float:
            return 2 * reference_seconds(self.site, self.topic, check) + 2

        try:
            job = with_bug(self.site, self.topic, self.bugs[name])
        except OtherCode:  # the check is newer than what was committed
            self.names.remove(name)
        else:
            self.ways[name] = slim(run(job, limit))

    def keep(self) -> None:
        """Leave it to later runs, in the order of the checks' file."""
        if not self.bugs:  # an earlier run has left all of it
            return
        names = [name for name in self.names if name in self.ways]
        self.ways = {name: self.ways[name] for name in names}
        parts = {"names": self.names, "ways": self.ways}
        store(self.path, {"key": self.key, **parts})


def known_ways(site: Site, topic: Topic, say: Say) -> dict[str, Report]:
    """How the checks go with each known mistake; computed once, then kept."""
    known = Known(site, topic)
    if known.left:
        number = len(known.left)
        say(f"comparing with {number} known mistakes (only this first time) …")
    for name in known.left:
        known.plant(name)
    known.keep()
    return known.ways


def expected(site: Site, topic: Topic) -> dict[str, set[str]]:
    """The checks that each known mistake failed when it was recorded."""
    places = ("check/mistakes.json", "records/mistakes.json")
    kept = stored(site.root / places[site.is_book])
    data = kept["data"] if isinstance(kept, dict) else {}
    part = data.get(topic.id, {"checks": [], "mistakes": {}})
    return {
        bug: {c for c, m in zip(part["checks"], way["marks"]) if m == "x"}
        for bug, way in part["mistakes"].items()
    }


def failures(report: Report) -> dict[str, Any]:
    """The failing checks by name, with all that is compared of them."""
    found = {c["name"]: c for c in report["checks"] if not c["passed"]}
    for end in ("broken", "ended"):
        if report.get(end):
            found[end] = {"noted": [], "told": report[end]}
    return found


def gap(mine: Any, theirs: Any) -> float:
    """The distance of two failures of one check.

    What was compared before an error went well, whatever the mistake is; so
    two errors are the same only if Python's words for them are.
    """
    a, b = mine["told"], theirs["told"]
    if a["kind"] != b["kind"]:
        return FAR
    words = steady(first_words(a)), steady(first_words(b))
    if a["kind"] not in ALIKE and words[0] != words[1]:
        return FAR
    return distance(mine["noted"], theirs["noted"])


def first_words(told: Any) -> str:
    """Python's own words, which tell apart errors before any value."""
    return str(told["message"])


def fitting(
    mine: dict[str, Any], ways: dict[str, Report], names: list[str]
) -> Iterator[tuple[float, str]]:
    """The mistakes that agree on the checks named, with their distance."""
    for bug, report in ways.items():
        theirs = failures(report)
        if not all(name in theirs for name in names):
            continue
        gaps = [gap(mine[name], theirs[name]) for name in names]
        if max(gaps) <= NEAR:
            yield max(gaps), bug


def same_words(mine: Any, ways: dict[str, Report], name: str) -> set[str]:
    """The mistakes whose error has the very words of the reader's."""
    return {
        bug
        for bug, report in ways.items()
        if name in (found := failures(report))
        and first_words(found[name]["told"]) == first_words(mine["told"])
    }


def diagnose(
    site: Site, topic: Topic, report: Report, say: Say = lambda text: None
) -> Cause:
    """The likely cause of a report's failures.

    First the mistakes that fail the same checks in the same way; if there is
    none, those that fail the first of them so. Mistakes whose record has the
    same failures are planted first, and if one of them fits, no others are.
    All take about BUDGET seconds at most; a later run goes on with the rest.
    """
    mine, but = failures(report), unjudged(report)
    if not mine:
        return Cause((), 0.0, 0, False)
    known, fails = Known(site, topic), expected(site, topic)
    likely = {b for b in known.left if fails.get(b, set()) - but == {*mine}}
    first = next(iter(mine))
    near = {b for b in known.left if first in fails.get(b, ())}
    if known.left:
        number = len(known.left)
        say(f"comparing with {number} known mistakes, the likely ones first …")
    cause, until = compare(mine, known.ways, but), perf_counter() + BUDGET
    order = sorted(known.left, key=lambda b: (b not in likely, b not in near))
    for place, bug in enumerate(order):
        enough = fails and cause.sure and bug not in likely
        if enough or (place and perf_counter() >= until):
            break
        known.plant(bug)
        cause = compare(mine, known.ways, but)
    known.keep()
    enough = fails and cause.sure and not likely & {*known.left}
    return replace(cause, left=0 if enough else len(known.left))


def unjudged(report: Report) -> set[str]:
    """The checks that say nothing of the code.

    They never came to it, or ended at a switch that it does not have.
    """
    return {
        check["name"]
        for check in report["checks"]
        if check["passed"] and (check["lacks"] or not check["reached"])
    }


def compare(
    mine: dict[str, Any],
    ways: dict[str, Report],
    but: Collection[str] = frozenset(),
) -> Cause:
    """The known ways that are also the reader's; no word of checks in `but`."""
    first = next(iter(mine))
    same = {
        bug: report
        for bug, report in ways.items()
        if failures(report).keys() - but == mine.keys()
    }
    whole = True
    found = list(fitting(mine, same, list(mine)))
    if not found and first not in ("broken", "ended"):
        whole = False
        found = list(fitting(mine, ways, [first]))
    exact = same_words(mine[first], ways, first)
    nearest = sorted(found, key=lambda each: (each[1] not in exact, each[0]))
    if any(bug in exact for _, bug in nearest):
        nearest = [each for each in nearest if each[1] in exact]
    names = tuple(bug for _, bug in nearest)
    largest = max((distance for distance, _ in nearest), default=0.0)
    return Cause(names, largest, len(ways), whole)
