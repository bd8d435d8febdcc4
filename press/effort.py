"""How long a topic takes: its reading counted, its run measured.

The minutes are counted from the chapter itself: its words, the lines of its
listings and printed cells, its exercises by their grade. So they change with
the chapter, and nobody has to remember to change them. What the run of a
chapter takes is measured, by ``python -m records pages``.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from press.files import ROOT
from press.gates.pages import Block, Page
from press.gates.typed import printed_cells
from press.records import read
from press.roadmap import Topic
from press.sources import find
from press.tracks import blank

WORDS = 200  # of prose in a minute, read with care
# Reviewers read application code at about 500 lines an hour (Humphrey, 1989,
# by McConnell's Code Complete): to understand and to judge it, as we read.
LINES = 500 / 60
# Minutes of an exercise by its `:hours:`, from what book/index.md promises: a
# few minutes, less than an hour, an hour or two, an evening.
GRADES = {"0": 10, "1": 45, "2": 90, "3": 180}
WARM_UP = "0"
STEP = 5  # minutes; nothing here is known better
UNREAD = {"alt"}  # passages that stand for a picture
RECORD = ROOT / "records" / "pages.json"


@dataclass(frozen=True)
class Effort:
    """What a chapter asks of its reader: words, lines of code, exercises."""

    words: int
    lines: int
    grades: tuple[str, ...]  # of its exercises, in their order

    @property
    def reading(self) -> int:
        """Minutes for the words and the code."""
        return rounded(self.words / WORDS + self.lines / LINES)

    @property
    def warm_ups(self) -> int:
        """Minutes for the exercises that take minutes."""
        return sum(GRADES[g] for g in self.grades if g == WARM_UP)

    @property
    def exercises(self) -> int:
        """Minutes for all the other exercises."""
        return sum(GRADES[g] for g in self.grades if g != WARM_UP)

    @property
    def minutes(self) -> int:
        """Minutes for words, code and warm-ups: a topic of a plan."""
        return self.reading + self.warm_ups


@dataclass(frozen=True)
class Running:
    """What the run of a chapter's page took, by the record."""

    seconds: float  # of one processor
    bytes: int  # of memory, at the peak


def rounded(minutes: float) -> int:
    """Up to the next full step, and a step at least.

    >>> rounded(41.2), rounded(45), rounded(0.1)
    (45, 45, 5)
    """
    return max(STEP, STEP * math.ceil(minutes / STEP))


@lru_cache(maxsize=256)  # tracks that leave nothing out share a text
def count(text: str) -> Effort:
    """The effort of a page, given as its text.

    >>> count("# A title\\n\\nFour words `and` {ref}`attention` here.\\n")
    Effort(words=5, lines=0, grades=())

    Raises LookupError for a listing of what no source defines.
    """
    page = Page(Path("page.md"), "page.md", text)
    words = [p.words.split() for p in page.passages if p.kind not in UNREAD]
    lines = [len(written(cell.body)) for cell in printed_cells(page)]
    lines += [len(written(shown(block))) for block in page.named("listing")]
    asked = [b.option("hours") for b in page.named("exercise")]
    grades = tuple("1" if hours is None else str(hours) for hours in asked)
    return Effort(sum(map(len, words)), sum(lines), grades)


def shown(listing: Block) -> str:
    """The code that a listing of a page shows."""
    return find(listing.argument, listing.option("part") or "").text


def written(code: str) -> list[str]:
    """The lines of some code that are not empty."""
    return [line for line in code.splitlines() if line.strip()]


@lru_cache(maxsize=256)
def counted(path: Path, stamp: int, track: str) -> Effort:
    """The effort of the page in a file; `stamp`, its change time, is a key."""
    text = path.read_text(encoding="utf-8")
    return count(blank(text, track) if track else text)


def effort(topic: Topic, track: str = "") -> Effort:
    """The effort of a topic's chapter, or of what a track's edition has of it.

    Raises FileNotFoundError where there is no chapter: the repository has
    one for each topic, so it has to be there whole.
    """
    path = ROOT / topic.files["chapter"]
    if not path.exists():
        raise FileNotFoundError(
            f"{path} is not there, so its reading cannot be counted; "
            "take the whole repository"
        )
    return counted(path, path.stat().st_mtime_ns, track)


def running(topic: Topic, record: Path = RECORD) -> Running | None:
    """What the run of a topic's page took; None where nobody measured it.

    Raises press.records.RecordError for a record that was changed.
    """
    if not record.exists():
        return None
    measured = read(record)["data"]["pages"].get(topic.id)
    if measured is None:
        return None
    return Running(measured["seconds"], measured["bytes"])
