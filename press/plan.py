"""A plan of evenings for a track, and the same as a calendar.

The topics that are core to the track, in the order of reading, fill evenings
by their counted minutes (see `press.effort`), so many evenings a week as the
hours need. Counted is what the track's edition has of a chapter; and where
its repository leaves a function of each topic to its owner, that takes time,
too. So do a topic's runs on the reader's machine, if that is named: estimated
(see `press.estimates`), and watched from begin to end. A milestone falls on
the evening that ends its phase. The week's first day is that of the start,
whatever day it is.
"""

import argparse
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import yaml

from press.edition import repository
from press.effort import GRADES, effort
from press.estimates import EstimateError, Run, on, said
from press.files import ROOT, write_changed, write_whole
from press.ical import Event, calendar
from press.identity import book_roadmap
from press.roadmap import TRACKS, Milestone, Roadmap, Topic

PACE = ROOT / "scaffold" / "tracks.yml"
EVENING = 120  # minutes, as long as a week has evenings enough
LONGEST = 240  # minutes of an evening when it has not
BEGIN = time(19)  # by the reader's own clock
WRITING = GRADES["1"]  # minutes for the function that a topic leaves
SLIVER = 15  # minutes: too few to begin a topic, or to leave of one
WEEK = 7
FIRST_DAY = date(2027, 1, 4)  # a Monday: of the calendars that the book offers
FOLDER = ROOT / "_build" / "plans"
EXAMPLES = """\
examples:
  python -m press.plan --track beginner --start 2026-12-01
  python -m press.plan --track practitioner --start 2026-12-01 --budget cpu
  python -m press.plan --track researcher --start 2027-03-01 --hours 6 \\
    --out evenings.ics

Import the file into any calendar. A second file with another start moves the
same events, where the calendar goes by their identifiers (RFC 5545: UID).
"""


class PlanError(ValueError):
    """No plan can be made of this; the message says why and what would do."""


@dataclass(frozen=True)
class Sitting:
    """An evening: when it is, the minutes of each topic."""

    week: int  # from 1
    day: int  # from the start, from 0
    work: tuple[tuple[Topic, int], ...]

    @property
    def minutes(self) -> int:
        """How long it is."""
        return sum(minutes for _, minutes in self.work)


@dataclass(frozen=True)
class Phase:
    """A milestone with a track's topics on the way to it."""

    track: str
    milestone: Milestone
    topics: tuple[Topic, ...]
    first: Sitting
    last: Sitting
    budget: str = ""  # the machine, where it counts

    @property
    def minutes(self) -> int:
        """Those of its topics."""
        with_runs = self.track, self.budget
        return sum(minutes(topic, *with_runs) for topic in self.topics)

    @property
    def span(self) -> str:
        """Its weeks as one says them: "3", or "1–2"."""
        first, last = self.first.week, self.last.week
        return str(first) if first == last else f"{first}–{last}"


def settings(track: str) -> dict[str, Any]:
    """What a track is for, how many hours a week it has, and its mode."""
    known = yaml.safe_load(PACE.read_text(encoding="utf-8"))
    return dict(known[track])


def pace(track: str) -> float:
    """The hours a week of a track, for readers who name none."""
    return float(settings(track)["hours"])


def minutes(topic: Topic, track: str, budget: str = "") -> int:
    """What a topic takes in a track: reading, warm-ups, and its function.

    The function is written where the track's repository has stubs. With a
    budget its runs on that machine count, too. Raises PlanError for a budget
    that there is not.
    """
    stubs = settings(track)["mode"] == "stubs"
    running = math.ceil(60 * on_machine(topic, budget).hours) if budget else 0
    return effort(topic, track).minutes + (WRITING if stubs else 0) + running


def on_machine(topic: Topic, budget: str) -> Run:
    """A topic's runs on a machine; PlanError where nobody knows them."""
    try:
        return on(topic, budget)
    except (LookupError, EstimateError) as error:
        raise PlanError(str(error)) from error


def core(roadmap: Roadmap, track: str) -> list[Topic]:
    """What a track has to read; what is optional waits for a second reading.

    Raises PlanError for a track that there is not.
    """
    if track not in TRACKS:
        names = ", ".join(TRACKS)
        raise PlanError(f"no track {track!r}; there are: {names}")
    return [t for t in roadmap.topics if t.tracks[track] == "core"]


def evenings(hours: float) -> list[tuple[int, int]]:
    """The evenings of a week: which of its days, from 0, and their minutes.

    >>> evenings(4)
    [(0, 120), (3, 120)]
    >>> evenings(5)
    [(0, 100), (2, 100), (4, 100)]

    Raises PlanError for hours that are no week's.
    """
    most = WEEK * LONGEST // 60
    if not 1 <= hours <= most:
        raise PlanError(
            f"{hours:g} hours a week: name 1 to {most}, that is up to "
            f"{LONGEST // 60} every evening"
        )
    count = min(WEEK, math.ceil(60 * hours / EVENING))
    return [(WEEK * i // count, int(60 * hours / count)) for i in range(count)]


def sittings(
    topics: list[Topic], track: str, hours: float, budget: str = ""
) -> list[Sitting]:
    """The evenings for some topics of a track, from the first to the last.

    Raises PlanError for hours that are no week's, and as `minutes` does.
    """
    week = evenings(hours)
    takes = [(topic, minutes(topic, track, budget)) for topic in topics]
    made: list[Sitting] = []
    for work in filled(takes, week[0][1]):
        number, place = divmod(len(made), len(week))
        made.append(Sitting(number + 1, number * WEEK + week[place][0], work))
    return made


def filled(
    takes: list[tuple[Topic, int]], length: int
) -> Iterator[tuple[tuple[Topic, int], ...]]:
    """The work of one evening after the other; a topic may take several.

    An evening of `length` minutes runs over a little, or ends a little
    early, where a topic would else be torn.
    """
    work: list[tuple[Topic, int]] = []
    for topic, left in takes:
        while left:
            room = length - sum(taken for _, taken in work)
            if work and room < SLIVER:
                yield tuple(work)
                work = []
                continue
            taken = left if left - room <= SLIVER else room
            work.append((topic, taken))
            left -= taken
    if work:
        yield tuple(work)


def phases(
    roadmap: Roadmap, track: str, hours: float, budget: str = ""
) -> list[Phase]:
    """The milestones of a track, with when each of them is reached.

    A milestone without a topic that is core to the track is left out.
    Raises PlanError as `core` and `sittings` do.
    """
    topics = core(roadmap, track)
    plan = sittings(topics, track, hours, budget)
    found = []
    for milestone in roadmap.milestones:
        own = tuple(t for t in topics if t.part in milestone.parts)
        when = [s for s in plan if any(t in own for t, _ in s.work)]
        if own:
            ends = when[0], when[-1]
            found.append(Phase(track, milestone, own, *ends, budget))
    return found


def checks(topics: tuple[Topic, ...]) -> str:
    """The command that runs the checks of some topics."""
    return "python -m check " + " ".join(topic.id for topic in topics)


# --- the calendar ------------------------------------------------------------


def events(
    roadmap: Roadmap, track: str, start: date, hours: float, budget: str = ""
) -> list[Event]:
    """A track's evenings and milestones as events, in their order.

    Raises PlanError as `core` and `sittings` do, and for a start so late
    that the calendar ends.
    """
    plan = sittings(core(roadmap, track), track, hours, budget)
    reached = phases(roadmap, track, hours, budget)
    found = []
    try:
        for number, sitting in enumerate(plan, 1):
            day = start + timedelta(days=sitting.day)
            found.append(evening(f"{track}-{number}", day, sitting, budget))
            for phase in reached:
                if phase.last == sitting:
                    found.append(reaching(track, day, phase))
    except OverflowError as error:
        raise PlanError(f"{start}: the plan would end after 9999") from error
    return found


def chapter(topic: Topic) -> str:
    """The address of a topic's chapter."""
    return f"{repository()}/blob/main/{topic.files['chapter']}"


def evening(name: str, day: date, sitting: Sitting, budget: str) -> Event:
    """An evening as an event: its topics, each with chapter and check."""
    begin = datetime.combine(day, BEGIN)
    words = [
        f"{topic.title}: {minutes} minutes\n{chapter(topic)}\n"
        f"python -m check {topic.id}{trained(topic, budget)}"
        for topic, minutes in sitting.work
    ]
    names = ", ".join(topic.id for topic, _ in sitting.work)
    return Event(
        name=name,
        begin=begin,
        end=begin + timedelta(minutes=sitting.minutes),
        title=f"Week {sitting.week}: {names}",
        words="\n\n".join(words),
        address=chapter(sitting.work[0][0]),
    )


def trained(topic: Topic, budget: str) -> str:
    """A line for a topic's runs on a machine, where it has any."""
    if not (budget and topic.runs):
        return ""
    many = f"{topic.runs} runs" if topic.runs > 1 else "1 run"
    return f"\n{many}, estimated: {said(on_machine(topic, budget))}"


def reaching(track: str, day: date, phase: Phase) -> Event:
    """The end of a phase as a day: what is there, and what shows it."""
    milestone = phase.milestone
    return Event(
        name=f"{track}-{milestone.id}",
        begin=day,
        end=day + timedelta(days=1),
        title=f"Milestone: {milestone.title}",
        words=f"You have {milestone.holds}.\n\nThese show it:\n"
        f"{milestone.shows}\n{checks(phase.topics)}",
        address=chapter(phase.topics[-1]),
    )


def plan_text(track: str, start: date, hours: float, budget: str = "") -> str:
    """The calendar of a track, as the text of an iCalendar file.

    Raises PlanError as `events` does.
    """
    stamp = datetime.combine(start, time())
    planned = events(book_roadmap(), track, start, hours, budget)
    return calendar(planned, stamp)


def name_of(track: str) -> str:
    """The file of a track's calendar that the book offers."""
    return f"plan_{track}.ics"


def write_offered(track: str) -> None:
    """Write the calendar of a track that the book offers."""
    text = plan_text(track, FIRST_DAY, pace(track))
    write_changed(FOLDER / name_of(track), text)


# --- the command -------------------------------------------------------------


def day(text: str) -> date:
    """A date as it is typed: 2026-12-01.

    Raises PlanError for a text that is no date.
    """
    try:
        return datetime.strptime(text, "%Y-%m-%d").date()
    except ValueError as error:
        raise PlanError(
            f"{text!r} is no date; write year, month and day: 2026-12-01"
        ) from error


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m press.plan",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--track", required=True, help=", ".join(TRACKS))
    parser.add_argument(
        "--start", required=True, help="the first day of week 1: 2026-12-01"
    )
    parser.add_argument(
        "--hours", type=float, help="a week (those of the track's plan)"
    )
    parser.add_argument(
        "--budget",
        default="",
        help="your machine, whose runs then take time: cpu, gpu8, ... "
        "(runs are not counted)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("plan.ics"),
        help="the file to write (%(default)s)",
    )
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Write a calendar; 2 for what the user can mend."""
    options = make_parser().parse_args(arguments)
    try:
        start, track = day(options.start), options.track
        core(book_roadmap(), track)  # before the pace of a track is looked up
        hours = pace(track) if options.hours is None else options.hours
        text = plan_text(track, start, hours, options.budget)
        reached = phases(book_roadmap(), track, hours, options.budget)
        write_whole(options.out, text)
    except PlanError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {options.out}: {error.strerror}", file=sys.stderr)
        return 2
    for phase in reached:
        when = start + timedelta(days=phase.last.day)
        print(f"{when}  week {phase.span:<4}{phase.milestone.title}")
    print(f"{options.out}: import it into your calendar")
    return 0


if __name__ == "__main__":
    sys.exit(main())
