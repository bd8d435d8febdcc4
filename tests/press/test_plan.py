"""Plans: every topic in an evening, and a calendar that the RFC would read.

No library that reads iCalendar files is among ours. So the grammar of RFC
5545, sections 3.1, 3.3 and 3.6.1, is written down here once more, strictly,
and knows nothing of the writer.
"""

import re
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from press import estimates, plan
from press.effort import effort
from press.estimates import Run
from press.ical import Event, calendar, escaped, folded
from press.plan import (
    core,
    evenings,
    main,
    minutes,
    pace,
    phases,
    plan_text,
    sittings,
)
from press.roadmap import TRACKS, load
from scratchlm.cli.app import make_app

START = date(2026, 12, 1)

# --- a strict reader, by the RFC ---------------------------------------------

CONTENT = re.compile(
    r"(?P<name>[A-Za-z0-9-]+)"
    r"(?P<parameters>(?:;[A-Za-z0-9-]+=[^\x00-\x08\x0a-\x1f\x7f\":;,]*)*)"
    r":(?P<value>[^\x00-\x08\x0a-\x1f\x7f]*)"
)
TEXT = re.compile(r"(?:[^\\;,\x00-\x08\x0a-\x1f\x7f]|\\[\\;,nN])*")
FORMS = {
    ("DTSTAMP", ""): r"\d{8}T\d{6}Z",  # section 3.8.7.2: in UTC
    ("DTSTART", ""): r"\d{8}T\d{6}",
    ("DTEND", ""): r"\d{8}T\d{6}",
    ("DTSTART", ";VALUE=DATE"): r"\d{8}",
    ("DTEND", ";VALUE=DATE"): r"\d{8}",
    ("URL", ""): r"[a-z]+://[!-~]+",
    ("TRANSP", ""): "OPAQUE|TRANSPARENT",
    ("UID", ""): TEXT.pattern,
    ("SUMMARY", ""): TEXT.pattern,
    ("DESCRIPTION", ""): TEXT.pattern,
}
Read = list[dict[str, str]]


def read(content: bytes) -> Read:
    """The events of a file; AssertionError for what the RFC forbids."""
    assert content.endswith(b"\r\n")
    raw = content[:-2].split(b"\r\n")
    for line in raw:
        assert len(line) <= 75, line
        assert b"\r" not in line
        assert b"\n" not in line
        line.decode()  # no letter is cut in two
    lines = content[:-2].decode().replace("\r\n ", "").split("\r\n")
    parts = [CONTENT.fullmatch(line) for line in lines]
    assert all(parts), [x for x, y in zip(lines, parts) if not y]
    found = [(m["name"], m["parameters"], m["value"]) for m in parts if m]
    assert found[0] == ("BEGIN", "", "VCALENDAR")
    assert found[-1] == ("END", "", "VCALENDAR")
    assert sorted(name for name, _, _ in found[1:3]) == ["PRODID", "VERSION"]
    assert ("VERSION", "", "2.0") in found[1:3]
    events: Read = []
    now: dict[str, str] | None = None
    for name, parameters, value in found[3:-1]:
        if name == "BEGIN":
            assert now is None
            assert value == "VEVENT"
            now = {}
        elif name == "END":
            assert now is not None
            assert value == "VEVENT"
            assert {"UID", "DTSTAMP", "DTSTART"} <= set(now)
            events.append(now)
            now = None
        else:
            assert now is not None
            assert name not in now, f"{name} stands twice"
            assert re.fullmatch(FORMS[name, parameters], value), value
            now[name] = value
    assert now is None
    assert events
    uids = [event["UID"] for event in events]
    assert len(set(uids)) == len(uids)
    return events


def plain(value: str) -> str:
    """A TEXT value as it was before it was escaped."""
    return re.sub(r"\\(.)", lambda m: "\n" if m[1] in "nN" else m[1], value)


def moment(value: str) -> datetime:
    form = "%Y%m%dT%H%M%S" if "T" in value else "%Y%m%d"
    return datetime.strptime(value.removesuffix("Z"), form)


def test_the_reader_is_strict() -> None:
    """It refuses what the RFC forbids, each planted once."""
    good = plan_text("beginner", START, 5).encode()
    for old, new in (
        (b"\r\n", b"\n"),
        (b"VERSION:2.0", b"VERSION:1.0"),
        (b"\\, ", b", "),
        (b"DTSTAMP:20261201T000000Z", b"DTSTAMP:20261201T000000"),
        (b"\r\n ", b""),
        (b"DTSTART:20261201T190000", b"DTSTART:2026-12-01"),
        (b"UID:", b"X-ID:"),
        (b"END:VEVENT\r\n", b""),
    ):
        assert old in good
        with pytest.raises((AssertionError, KeyError)):
            read(good.replace(old, new, 1 if old != b"\r\n" else -1))


# --- the writer --------------------------------------------------------------

WORDS = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"])
    | st.sampled_from("\n;,\\")
)


@given(st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=4))
def test_any_words_come_back(pairs: list[tuple[str, str]]) -> None:
    day = date(2026, 2, 28)
    made = [
        Event(str(i), day, day + timedelta(1), title, words, "https://a.b/c")
        for i, (title, words) in enumerate(pairs)
    ]
    text = calendar(made, datetime(2026, 2, 28))
    found = [
        (plain(x["SUMMARY"]), plain(x["DESCRIPTION"]))
        for x in read(text.encode())
    ]
    assert found == pairs


def test_a_line_is_folded_at_75_octets_and_not_before() -> None:
    assert folded("x" * 75) == "x" * 75
    assert folded("x" * 76) == "x" * 75 + "\r\n x"
    assert folded("ä" * 38) == "ä" * 37 + "\r\n ä"
    assert escaped("a\\n\n") == "a\\\\n\\n"


# --- the plan ----------------------------------------------------------------


@pytest.mark.parametrize("track", TRACKS)
def test_a_track_takes_four_to_seven_weeks(track: str) -> None:
    """The book has the right to grow a little."""
    plan_ = sittings(core(load(), track), track, pace(track))
    assert 4 <= plan_[-1].week <= 7


def test_what_an_edition_leaves_out_takes_no_time() -> None:
    """Beginners have less to read, and a function of each topic to write."""
    topics = core(load(), "beginner")
    for topic in topics:
        reading = minutes(topic, "beginner") - plan.WRITING
        assert reading == effort(topic, "beginner").minutes
        assert reading <= effort(topic).minutes
    read_ = sum(effort(topic, "beginner").reading for topic in topics)
    assert read_ < 0.6 * sum(effort(topic).reading for topic in topics)
    topics = core(load(), "researcher")
    for topic in topics:
        found = minutes(topic, "researcher")
        assert found == effort(topic, "researcher").minutes
        assert found <= effort(topic).minutes
    read_ = sum(effort(topic, "researcher").reading for topic in topics)
    assert read_ > 0.95 * sum(effort(topic).reading for topic in topics)


@pytest.mark.parametrize("track", TRACKS)
@given(hours=st.floats(1, 28))
def test_every_minute_of_the_core_is_planned_in_order(
    track: str, hours: float
) -> None:
    topics = core(load(), track)
    planned = sittings(topics, track, hours)
    total = {topic.id: 0 for topic in topics}
    for sitting in planned:
        for topic, taken in sitting.work:
            assert taken > 0
            total[topic.id] += taken
    assert total == {topic.id: minutes(topic, track) for topic in topics}
    order = [t.id for sitting in planned for t, _ in sitting.work]
    assert list(dict.fromkeys(order)) == [topic.id for topic in topics]
    days = [sitting.day for sitting in planned]
    assert days == sorted(set(days))
    assert all(s.day // 7 + 1 == s.week for s in planned)
    longest = evenings(hours)[0][1] + plan.SLIVER
    assert max(sitting.minutes for sitting in planned) <= longest
    weekly = [60 * hours + 7 * plan.SLIVER] * planned[-1].week
    for sitting in planned:
        weekly[sitting.week - 1] -= sitting.minutes
    assert min(weekly) >= 0


@pytest.mark.parametrize("track", TRACKS)
def test_a_phase_ends_with_the_last_of_its_topics(track: str) -> None:
    found = phases(load(), track, pace(track))
    assert [t for p in found for t in p.topics] == core(load(), track)
    days = [phase.last.day for phase in found]
    assert days == sorted(days)
    for phase in found:
        assert phase.topics[-1] in [topic for topic, _ in phase.last.work]
    assert len(found) == len(load().milestones) == 6


def test_what_shows_a_milestone_is_a_command_that_there_is() -> None:
    for milestone in load().milestones:
        words = milestone.shows.split()
        assert words[:3] == ["python", "-m", "scratchlm"]
        make_app().parse_args(words[3:], exit_on_error=False, print_error=False)


@pytest.mark.parametrize("track", TRACKS)
def test_the_calendar_says_what_the_plan_says(
    track: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "book_roadmap", load)  # a course has fewer
    text = plan_text(track, START, 6)
    assert text == plan_text(track, START, 6)
    events = read(text.encode())
    planned = sittings(core(load(), track), track, 6)
    timed = [event for event in events if "T" in event["DTSTART"]]
    assert len(timed) == len(planned)
    for event, sitting in zip(timed, planned):
        begin, end = moment(event["DTSTART"]), moment(event["DTEND"])
        assert begin.date() == START + timedelta(sitting.day)
        assert end - begin == timedelta(minutes=sitting.minutes)
        assert end.date() == begin.date()
        for topic, taken in sitting.work:
            assert topic.id in plain(event["SUMMARY"])
            said = plain(event["DESCRIPTION"])
            assert f"{topic.title}: {taken} minutes" in said
            assert topic.files["chapter"] in said
    named = [plain(e["SUMMARY"]) for e in events if "T" not in e["DTSTART"]]
    assert named == [f"Milestone: {m.title}" for m in load().milestones]


@pytest.fixture
def machines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two machines, on which a run takes ten minutes, and a minute."""
    made = (Run("cpu", 10 / 60, 0.0), Run("node8", 1 / 60, 0.5))
    monkeypatch.setattr(estimates, "runs", lambda: made)


@pytest.mark.parametrize("track", TRACKS)
def test_on_a_machine_the_runs_take_time(track: str, machines: None) -> None:
    topics = core(load(), track)
    runs = sum(topic.runs for topic in topics)
    assert runs >= 2
    own = sum(minutes(topic, track) for topic in topics)
    slow = sittings(topics, track, 6, "cpu")
    assert sum(s.minutes for s in slow) == own + 10 * runs
    fast = sittings(topics, track, 6, "node8")  # one run on each of its cards
    running = sum(bool(topic.runs) for topic in topics)
    assert sum(s.minutes for s in fast) == own + running
    found = phases(load(), track, 6, "cpu")
    assert sum(phase.minutes for phase in found) == own + 10 * runs
    assert [phase.budget for phase in found] == ["cpu"] * len(found)


def test_an_evening_says_what_runs_in_it(machines: None) -> None:
    text = plan_text("researcher", START, 6, "cpu")
    said = [plain(x["DESCRIPTION"]) for x in read(text.encode())]
    muon = [x for x in said if "python -m check muon" in x and "minutes" in x]
    assert muon
    for words in muon:
        assert "muon\n2 runs, estimated: cpu 20 min, free" in words
    whole = "\n".join(said)
    assert "trainer\n1 run, estimated: cpu 10 min, free" in whole
    without = plan_text("researcher", START, 6)
    assert "estimated" not in without
    assert len(read(without.encode())) <= len(said)


def test_another_start_moves_the_same_events() -> None:
    one, other = (
        [e["UID"] for e in read(plan_text("beginner", day, 5).encode())]
        for day in (START, date(2027, 1, 4))
    )
    assert one == other
    more = read(plan_text("researcher", START, 5).encode())
    assert not {e["UID"] for e in more} & set(one)


# --- the command -------------------------------------------------------------


def test_the_command_writes_a_calendar_and_says_when(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(plan, "book_roadmap", load)
    out = tmp_path / "deep" / "plan.ics"
    words = ["--track", "beginner", "--start", "2026-12-01"]
    assert main([*words, "--hours", "6", "--out", str(out)]) == 0
    assert out.read_bytes() == plan_text("beginner", START, 6).encode()
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("2026-12-05  week 1")
    assert said[-1].startswith(str(out))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"--track": "novice"}, "no track 'novice'; there are: beginner"),
        ({"--start": "2026-02-30"}, "'2026-02-30' is no date"),
        ({"--start": "soon"}, "write year, month and day"),
        ({"--start": "9999-12-20"}, "would end after 9999"),
        ({"--hours": "0"}, "0 hours a week: name 1 to 28"),
        ({"--hours": "-3"}, "-3 hours a week"),
        ({"--hours": "nan"}, "nan hours a week"),
        ({"--hours": "99"}, "99 hours a week"),
        ({"--budget": "tpu"}, "no budget 'tpu'; there are: cpu, gpu8"),
    ],
)
def test_what_is_no_plan_is_told_so(
    changes: dict[str, str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "plan.ics"
    words = {"--track": "beginner", "--start": "2026-12-01", "--out": str(out)}
    typed = [f"{name}={value}" for name, value in (words | changes).items()]
    assert main(typed) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert message in error
    assert not out.exists()


def test_a_place_that_cannot_be_written_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    out = tmp_path / "file" / "plan.ics"
    words = ["--track", "beginner", "--start", "2026-12-01"]
    assert main([*words, "--out", str(out)]) == 2
    assert f"error: {out}: File exists" in capsys.readouterr().err


# --- the book's pages --------------------------------------------------------


def test_each_phase_has_a_page_of_notes() -> None:
    page = (plan.ROOT / "book/guide/notes.md").read_text(encoding="utf-8")
    found = re.findall(
        r"\\clearpage\n```\n\n\(notes-(\w+)\)=\n## Phase (\d): (.+)\n"
        r"(?:```\{tracks\} [\w ]+\n:quiet:\n```\n\n)?```\{notes\} (\w+)\n",
        page,
    )
    expected = [
        (m.id, str(i), m.title, m.id)
        for i, m in enumerate(load().milestones, 1)
    ]
    assert found == expected


def test_the_offered_calendar_begins_with_its_first_day(
    tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(plan, "FOLDER", tmp_path)
    for track in TRACKS:
        plan.write_offered(track)
        [first, *_] = read((tmp_path / f"plan_{track}.ics").read_bytes())
        assert moment(first["DTSTART"]).date() == plan.FIRST_DAY
        assert plan.FIRST_DAY.weekday() == 0
