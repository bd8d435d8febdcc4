"""Judge a topic: its state, and where it fails, why."""

import contextlib
import math
from dataclasses import dataclass, field
from typing import Any

from check import memory
from check.diagnose import (
    Cause,
    Report,
    Say,
    diagnose,
    failures,
    reference_bytes,
    reference_seconds,
)
from check.errors import TooMuch
from check.holes import Hole, holes
from check.mine import Mine
from check.places import PlaceError, Site, Topic, closure
from check.process import Job, Limit, run
from check.progress import BAD
from check.running import judges
from check.standin import stood_in

PASSED = {"pass", "stale", "regressed"}
UNKNOWN = 60.0  # seconds that code may take where nothing can be compared


def silent(text: str) -> None:
    """Say nothing."""


@dataclass(frozen=True)
class Verdict:
    """How a topic stands, and what led there."""

    topic: Topic
    state: str
    report: Report
    cause: Cause | None = None
    holes: tuple[Hole, ...] = ()
    blocker: str = ""  # the topic or file that has to be mended first
    mine: Mine = field(default_factory=Mine)

    @property
    def bad(self) -> bool:
        """Whether it is to be mended."""
        return self.state in BAD

    @property
    def failing(self) -> int:
        """How many checks fail."""
        return len(failures(self.report))

    @property
    def passed(self) -> list[dict[str, Any]]:
        """The checks that pass and have run the reader's code."""
        return [c for c in self.report["checks"] if c["passed"] and judges(c)]

    @property
    def aside(self) -> list[dict[str, Any]]:
        """The checks that pass without the code that the reader gave."""
        checks = [c for c in self.report["checks"] if c["passed"]]
        return [c for c in checks if not (c["reached"] or c["lacks"])]

    @property
    def lacking(self) -> list[dict[str, Any]]:
        """The checks that came to a switch which the code does not have."""
        return [c for c in self.report["checks"] if c["lacks"]]


def limit_of(site: Site, topic: Topic) -> Limit:
    """How many seconds a check may take here, found when it is asked."""

    def limit(check: str) -> float:
        try:
            return 10 * reference_seconds(site, topic, check) + 5
        except PlaceError:
            return UNKNOWN

    return limit


def judge(
    site: Site,
    topic: Topic,
    before: str = "todo",
    mine: Mine | None = None,
    say: Say = silent,
) -> Verdict:
    """Run a topic's checks on the reader's code; `before` is its old state."""
    mine = mine or Mine()
    job = Job(site, topic, site.sources, mine=mine)
    report = run(job, limit_of(site, topic))
    if not failures(report):
        return Verdict(topic, "pass", report, mine=mine)
    compare_memory(site, topic, report)
    empty = () if mine.given else find_holes(site, topic)
    unwritten = any(
        told["told"]["kind"] == "NotImplementedError" and told["told"]["file"]
        for told in failures(report).values()
    )
    if empty:
        return Verdict(topic, "todo", report, holes=empty)
    if not mine.given and (blocker := blocked(site, topic)):
        return Verdict(topic, "blocked", report, blocker=blocker)
    if unwritten and not mine.given:
        return Verdict(topic, "todo", report)
    state = "regressed" if before in PASSED else "fail"
    try:
        cause = diagnose(site, topic, report, say)
    except PlaceError as error:
        say(f"no comparison with known mistakes: {error}")
        cause = None
    return Verdict(topic, state, report, cause, mine=mine)


def compare_memory(site: Site, topic: Topic, report: Report) -> None:
    """Where memory ran out, say beside it what the book's code takes."""
    for failed in failures(report).values():
        told = failed["told"]
        if told["kind"] != TooMuch.__name__:
            continue
        told["what"] += f" for a check, {memory.MARGIN / 2**30:.2g} GiB"
        with contextlib.suppress(PlaceError):
            used = math.ceil(reference_bytes(site, topic) / 2**20)
            told["what"] += f"; the book's code takes {used} MiB"


def find_holes(site: Site, topic: Topic) -> tuple[Hole, ...]:
    """Functions of the topic's module that are still to be written."""
    path = site.path(topic)
    try:
        book = (site.reference / topic.file).read_text(encoding="utf-8")
        return tuple(holes(path.read_text(encoding="utf-8"), book))
    except (PlaceError, OSError, ValueError):  # of bytes that are no text
        return ()


def blocked(site: Site, topic: Topic) -> str:
    """What makes a topic fail although its own module is right, or "".

    The module runs once more, on the book's form of all others. Of those that
    are not the book's, the first is named whose own checks fail.
    """
    try:
        changed = others_changed(site, topic)
        if not changed:
            return ""
        text = site.path(topic).read_text(encoding="utf-8")
        alone = Job(site, topic, site.reference, text=text)
    except (PlaceError, OSError, ValueError):
        return ""
    if failures(run(alone, limit_of(site, topic))):
        return ""
    owners = [t for t in site.topics.values() if t.file in changed]
    for each in owners:
        job = Job(site, each, site.sources)
        if failures(run(job, limit_of(site, each))):
            return each.id
    return owners[0].id if owners else sorted(changed)[0]


def others_changed(site: Site, topic: Topic) -> set[str]:
    """Files on which the module depends and that are not the book's."""
    sources = site.sources
    found = set()
    for path in closure(sources, site.path(topic)):
        name = path.relative_to(sources).as_posix()
        book = site.reference / name
        if name == topic.file or not book.exists():
            continue
        if book.read_bytes() == path.read_bytes():
            continue
        if not stood_in(sources, site.reference, name):
            found.add(name)
    return found
