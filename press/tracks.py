"""An edition for one track: which pages it has, and what of each.

A chapter belongs to a track's edition unless the track skims it
(``roadmap.yml``); one that is optional does, unless the track leaves out what
is optional. Within a page, a section belongs to every track, unless the line
below its heading names those for which it is written:

    ## The same, without torch
    ```{tracks} practitioner researcher
    ```

The pages are cut before they are parsed, so that nothing of a section that
is left out comes into the index, the bibliography or the list of figures. Its
cells stay, since later ones may need what they compute; what they show goes.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from press.files import ROOT
from press.roadmap import TRACKS

CUT, END = "left out: begin", "left out: end"  # about a cell that stays
FENCE = re.compile(r" {0,3}(`{3,}|~{3,}|:{3,})")
HEADING = re.compile(r"(#{1,6}) +(.*)")
LABEL = re.compile(r"\(([\w-]+)\)=\s*")
MARK = re.compile(r" {0,3}`{3,}\{tracks\} *(.*)")
CELL = re.compile(r" {0,3}(?:`{3,}|~{3,}|:{3,})\{code-cell\}")
REFERENCE = re.compile(r"\{ref\}`(?:[^`<]*<)?([\w-]+)>?`")


class TracksError(ValueError):
    """A page names a track that there is not; the message says where."""


@dataclass(frozen=True)
class Section:
    """A section by its lines, from its labels to the next one's."""

    level: int
    title: str
    start: int
    heading: int
    end: int
    tracks: tuple[str, ...]


def fenced(lines: Sequence[str]) -> Iterator[bool]:
    """For each line, whether it belongs to a fence, whose ends included."""
    open_fence = ""
    for line in lines:
        found = FENCE.match(line)
        if open_fence:
            yield True
            if found and line.strip() == found[1] and ends(found, open_fence):
                open_fence = ""
        else:
            open_fence = found[1] if found else ""
            yield bool(found)


def ends(found: re.Match[str], fence: str) -> bool:
    """Whether a fence of the same kind, and not a shorter one, closes it."""
    return found[1][0] == fence[0] and len(found[1]) >= len(fence)


def sections(text: str) -> list[Section]:
    """The sections of a page, in order, each with those below it."""
    lines = text.splitlines(keepends=True)
    inside = list(fenced(lines))
    heads = [
        (i, found)
        for i, line in enumerate(lines)
        if not inside[i] and (found := HEADING.match(line))
    ]
    starts = [first_line(lines, i) for i, _ in heads]
    made = []
    for k, (i, found) in enumerate(heads):
        level = len(found[1])
        later = (
            starts[j]
            for j in range(k + 1, len(heads))
            if len(heads[j][1][1]) <= level
        )
        end = next(later, len(lines))
        tracks = marked(lines, i + 1)
        made.append(Section(level, found[2].strip(), starts[k], i, end, tracks))
    return made


def first_line(lines: Sequence[str], heading: int) -> int:
    """Where a section begins: with the labels above its heading."""
    start = heading
    while start and LABEL.fullmatch(lines[start - 1]):
        start -= 1
    return start


def marked(lines: Sequence[str], start: int) -> tuple[str, ...]:
    """The tracks that are named below a heading; () for all of them."""
    following = (i for i in range(start, len(lines)) if lines[i].strip())
    i = next(following, len(lines))
    found = MARK.match(lines[i]) if i < len(lines) else None
    if not found:
        return ()
    names = tuple(found[1].split())
    if not names or not set(names) <= set(TRACKS):
        known = ", ".join(TRACKS)
        raise TracksError(
            f"line {i + 1}: no tracks {found[1]!r}; known: {known}"
        )
    return names


def left_out(text: str, track: str) -> list[bool]:
    """For each line of a page, whether it is not for the track.

    Without a track, every section is for its reader.
    """
    out = [False] * len(text.splitlines())
    for part in sections(text):
        if track and part.tracks and track not in part.tracks:
            out[part.start : part.end] = [True] * (part.end - part.start)
    return out


def blank(text: str, track: str) -> str:
    """A page in which what is not for the track is empty lines."""
    lines = text.splitlines(keepends=True)
    pairs = zip(lines, left_out(text, track), strict=True)
    return "".join("\n" if out else line for line, out in pairs)


def cut(text: str, track: str) -> str:
    """A page without the sections that are not for the track."""
    lines, out = text.splitlines(keepends=True), left_out(text, track)
    kept: list[str] = []
    cell = False  # whether the line is of a cell that stays
    for line, inside, left in zip(lines, fenced(lines), out, strict=True):
        if cell and not (left and inside):
            cell = False
            kept.append(f"\n% {END}\n\n")
        elif left and not cell and CELL.match(line):
            cell = True
            kept.append(f"\n% {CUT}\n\n")
        if cell or not left:
            kept.append(line)
    return "".join(kept) + (f"\n% {END}\n" if cell else "")


# --- what is there, and what it is called elsewhere --------------------------


@lru_cache(maxsize=1)
def titles() -> dict[str, str]:
    """Label → title of the section that bears it, in the whole book."""
    found = {}
    for path in sorted((ROOT / "book").rglob("*.md")):
        text = path.read_text(encoding="utf-8")
        lines = text.splitlines()
        for part in sections(text):
            for line in lines[part.start : part.heading]:
                if label := LABEL.fullmatch(line):
                    found[label[1]] = part.title.replace("`", "")
    return found


def labels(text: str) -> set[str]:
    """All labels that stand above a heading of a page."""
    matches = map(LABEL.fullmatch, text.splitlines())
    return {found[1] for found in matches if found}


def shorter(glossary: str, there: set[str]) -> str:
    """The glossary without what is explained only on pages left out."""
    head, fence, rest = glossary.partition("```{glossary}\n")
    body, close, tail = rest.partition("\n```")
    kept = []
    for entry in re.split(r"\n\n(?=\S)", body):
        names = set(REFERENCE.findall(entry))
        if not names or names & there:
            kept.append(entry)
    return head + fence + "\n\n".join(kept) + close + tail
