"""Which parts of a reader's library are the reader's own yet, in words."""

import textwrap
from pathlib import Path

from check import progress
from check.places import Site, Topic
from check.standin import stood_in

WIDTH = 79
AT_A_TIME = 2  # files to write before there is something new to see


def waiting(site: Site) -> dict[str, Topic]:
    """The topics whose modules are still to be written, in reading order."""
    return {
        name: topic
        for name, topic in site.topics.items()
        if topic.hole and stood_in(site.sources, site.reference, topic.file)
    }


def next_files(site: Site) -> list[Topic]:
    """What to write before there is something new to see: two files."""
    return list(waiting(site).values())[:AT_A_TIME]


def row(label: str, text: str) -> list[str]:
    """A label, and a text on as many lines as it needs.

    >>> row("yours", "bpe")
    ['  yours       bpe']
    """
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=f"  {label:<12}",
        subsequent_indent=" " * 14,
        break_on_hyphens=False,
    )


def banner(root: Path) -> list[str]:
    """Whose the parts are of which a run is made, and what to write next.

    Empty where the repository was made without holes.
    """
    site = Site(root)
    holed = [topic for topic in site.topics.values() if topic.hole]
    if not holed:
        return []
    open_ = waiting(site)
    known = progress.read(site)
    mine = [topic for topic in holed if topic.id not in open_]
    good: list[str] = []
    unsure: list[str] = []
    for topic in mine:
        passed = progress.state(site, known, topic) == "pass"
        (good if passed else unsure).append(topic.id)
    lines = [f"{len(mine)} of {len(holed)} parts are yours:"]
    lines += row("checked", ", ".join(good)) if good else []
    lines += row("unchecked", ", ".join(unsure)) if unsure else []
    lines += row("the book's", ", ".join(open_)) if open_ else []
    for topic in next_files(site):
        lines += row("write next", f"{topic.hole} in {topic.file}")
    if unsure:
        lines += row("then", f"python -m check {' '.join(unsure[:5])}")
    return lines
