"""Events as the text of an iCalendar file (RFC 5545), and nothing more.

A day is an all-day event. A time is "floating" (form 1 of section 3.3.5): it
is that hour by the clock of whoever imports it, so no time zone is needed.
"""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime

PRODUCT = "-//scratchlm//press.plan//EN"  # the program, in forks, too
NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://scratchlm.invalid/plan")
LONGEST = 75  # octets of a line, without its end (section 3.1)


@dataclass(frozen=True)
class Event:
    """What is when; two dates make it an all-day event."""

    name: str  # the same name is the same event in another file
    begin: date
    end: date  # the first moment that is outside
    title: str
    words: str
    address: str


def escaped(text: str) -> str:
    r"""A text as the value of a property (section 3.3.11).

    >>> escaped("bits, nats; and\nmore")
    'bits\\, nats\\; and\\nmore'
    """
    for sign in "\\;,":
        text = text.replace(sign, "\\" + sign)
    return text.replace("\n", "\\n")


def folded(line: str) -> str:
    """A line cut into pieces of 75 octets, none of them within a letter.

    >>> folded("A" * 76).split("\\r\\n")[1:]
    [' A']
    """
    pieces, piece = [], ""
    for letter in line:
        if len((piece + letter).encode()) > LONGEST:
            pieces.append(piece)
            piece = " "
        piece += letter
    return "\r\n".join([*pieces, piece])


def moment(name: str, when: date) -> str:
    """A property that says a day, or a time by anybody's clock."""
    if isinstance(when, datetime):
        return f"{name}:{when:%Y%m%dT%H%M%S}"
    return f"{name};VALUE=DATE:{when:%Y%m%d}"


def lines(event: Event, stamp: datetime) -> Iterator[str]:
    """The lines of one event, before they are folded."""
    yield "BEGIN:VEVENT"
    yield f"UID:{uuid.uuid5(NAMESPACE, event.name)}"
    yield f"DTSTAMP:{stamp:%Y%m%dT%H%M%S}Z"
    yield moment("DTSTART", event.begin)
    yield moment("DTEND", event.end)
    yield f"SUMMARY:{escaped(event.title)}"
    yield f"DESCRIPTION:{escaped(event.words)}"
    yield f"URL:{event.address}"
    if not isinstance(event.begin, datetime):
        yield "TRANSP:TRANSPARENT"  # the day stays free
    yield "END:VEVENT"


def calendar(events: list[Event], stamp: datetime) -> str:
    """The file; `stamp`, in UTC, is when it is said to have been made."""
    out = ["BEGIN:VCALENDAR", "VERSION:2.0", f"PRODID:{PRODUCT}"]
    for event in events:
        out += lines(event, stamp)
    out.append("END:VCALENDAR")
    return "".join(f"{folded(line)}\r\n" for line in out)
