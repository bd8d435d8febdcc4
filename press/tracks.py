"""An edition for one track: which pages it has, and what of each.

A chapter belongs to a track's edition if it is core to the track
(``roadmap.yml``): what is optional, or only skimmed, is in the whole book.
Within a page, a section belongs to every track, unless the line below its
heading names those for which it is written:

    ## The same, without torch
    ```{tracks} practitioner researcher
    ```

Within a section, a passage that some tracks can do without stands between two
comments, which no output shows:

    % tracks: practitioner researcher

    The library does the same, a thousand times as fast.

    % tracks: all

What sends its readers to a page that an edition lacks goes by itself, if it
stands where that can be told: see `asides`. So such a place stands in brackets,
in a sentence that it begins, or behind a semicolon.

A short edition also leaves out the exercises that take longer than its reader
has in an evening, with their solutions.

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

# What a track's edition may be: at most so many pages, and in its exercises no
# higher grade than this (see `GRADES` in press/extensions/boxes.py).
PAGES = {"beginner": 320}
HOURS = {"beginner": 1}

CUT, END = "left out: begin", "left out: end"  # about a cell that stays
FENCE = re.compile(r" {0,3}(`{3,}|~{3,}|:{3,})")
HEADING = re.compile(r"(#{1,6}) +(.*)")
LABEL = re.compile(r"\(([\w-]+)\)=\s*")
MARK = re.compile(r" {0,3}`{3,}\{tracks\} *(.*)")
PASSAGE = re.compile(r"% tracks: *(.*)")
NAMED = re.compile(
    r"^ *:?(?:name|label): *([\w-]+) *$|\$\$ *\(([\w-]+)\)", re.M
)
ALL = "all"  # the mark that ends a passage
TASK = re.compile(r"`{3,}\{(exercise|solution)\} *(.*)")
NAME, GRADE = re.compile(r":name: *(\S+)"), re.compile(r":hours: *(\d)")
CELL = re.compile(r" {0,3}(?:`{3,}|~{3,}|:{3,})\{code-cell\}")
REFERENCE = re.compile(r"\{(?:(?:num)?ref|eq)\}`(?:[^`<]*<)?([\w-]+)>?`")
PLACE = r"\{(?:(?:num)?ref|eq)\}`[^`]+`"
SEE = re.compile(rf"\bSee\s+{PLACE}(?:(?:,\s+|\s+and\s+){PLACE})*\.")
IN_BRACKETS = re.compile(rf"\s*\(([^()]*{PLACE}[^()]*)\)")
SEVERAL = re.compile(rf"{PLACE}(?:(?:,\s+|,?\s+and\s+){PLACE})+")
ROW = re.compile(rf"^\| [^|\n]*\({PLACE}\) \|.*\n", re.M)
IN_TABLE = re.compile(rf"(?<=\| ){PLACE}(?= \|)")
PART = r"`[^`]*`|[^`.?!;]|[.?!](?!\s|\Z)"  # of a clause, which does not end it
SENTENCE = re.compile(
    rf"(?:(?<=\n\n)|(?<=[.?!])\s){PLACE}(?:{PART}|;)*[.?!]"
)
CLAUSE = re.compile(rf";\s+{PLACE}(?:{PART})*(?=[.?!;])")


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
    return named(found[1], i + 1)


def named(words: str, line: int) -> tuple[str, ...]:
    """The tracks that a mark names, if there are such tracks."""
    names = tuple(words.split())
    if not names or not set(names) <= set(TRACKS):
        known = ", ".join(TRACKS)
        raise TracksError(f"line {line}: no tracks {words!r}; known: {known}")
    return names


def passages(text: str) -> Iterator[tuple[int, int, tuple[str, ...]]]:
    """The marked passages: first line, the line after the last, tracks.

    Raises TracksError for a passage that does not end in its section, and
    for an end without a beginning.
    """
    lines = text.splitlines()
    start, names = 0, ()  # type: int, tuple[str, ...]
    for i, inside in enumerate(fenced(lines)):
        if inside:
            continue
        found = PASSAGE.fullmatch(lines[i].rstrip())
        if names and (HEADING.match(lines[i]) or LABEL.fullmatch(lines[i])):
            break
        if not found:
            continue
        if bool(names) != (found[1] == ALL):
            what = "begins within another" if names else "ends before it began"
            raise TracksError(f"line {i + 1}: a passage {what}")
        if names:
            yield start, i + 1, names
            names = ()
        else:
            start, names = i, named(found[1], i + 1)
    if names:
        raise TracksError(
            f"line {start + 1}: this passage does not end in its section; "
            f"put `% tracks: {ALL}` behind it"
        )


def unmarked(text: str) -> str:
    """A page whose marks of passages are empty lines; as many as before."""
    lines = text.splitlines(keepends=True)
    pairs = zip(lines, fenced(lines), strict=True)
    return "".join(
        "\n" if not inside and PASSAGE.match(line) else line
        for line, inside in pairs
    )


def too_long(text: str, hours: int) -> Iterator[tuple[int, int]]:
    """Where exercises of a higher grade stand, and their solutions.

    The text of a solution goes on to the next one, or to a heading.
    """
    lines = text.splitlines()
    inside = list(fenced(lines))
    gone: set[str] = set()
    ends = [i for i, line in enumerate(lines) if not inside[i]]
    ends = [i for i in ends if HEADING.match(lines[i])]
    tasks = [(i, x) for i, line in enumerate(lines) if (x := TASK.match(line))]
    ends = sorted([*ends, *(i for i, _ in tasks), len(lines)])
    for i, found in tasks:
        if found[1] == "solution":
            if found[2].strip() in gone:
                yield i, next(end for end in ends if end > i)
            continue
        end = next(k for k in range(i, len(lines)) if lines[k] == "```")
        head = "\n".join(lines[i:end])
        name, grade = NAME.search(head), GRADE.search(head)
        if grade and int(grade[1]) > hours:
            gone |= {name[1]} if name else set()
            yield i, end + 1


def left_out(text: str, track: str) -> list[bool]:
    """For each line of a page, whether it is not for the track.

    Without a track, every section is for its reader.
    """
    out = [False] * len(text.splitlines())
    if not track:
        return out
    gone = [
        (part.start, part.end)
        for part in sections(text)
        if part.tracks and track not in part.tracks
    ]
    gone += [(a, b) for a, b, names in passages(text) if track not in names]
    if track in HOURS:
        gone += too_long(text, HOURS[track])
    for start, end in gone:
        out[start:end] = [True] * (end - start)
    return out


def blank(text: str, track: str) -> str:
    """A page in which what is not for the track is empty lines."""
    lines = text.splitlines(keepends=True)
    pairs = zip(lines, left_out(text, track), strict=True)
    return unmarked("".join("\n" if out else line for line, out in pairs))


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
    return unmarked("".join(kept)) + (f"\n% {END}\n" if cell else "")


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


def shown(text: str) -> str:
    """A page that was cut, without the cells that stay and show nothing."""
    return re.sub(rf"% {CUT}\n.*?% {END}\n", "", text, flags=re.S)


def labels(text: str) -> set[str]:
    """All labels of a page: above its headings, and of what has a number."""
    text = shown(text)
    matches = map(LABEL.fullmatch, text.splitlines())
    numbered = {x for pair in NAMED.findall(text) for x in pair if x}
    return {found[1] for found in matches if found} | numbered


def said(text: str) -> str:
    """What a page says, without its cells: one line, in small letters."""
    lines = text.splitlines()
    kept = []
    cell = False
    for line, inside in zip(lines, fenced(lines), strict=True):
        cell = inside and (cell or bool(CELL.match(line)))
        if not cell:
            kept.append(line)
    return " ".join(" ".join(kept).split()).casefold()


def joined(places: Sequence[str]) -> str:
    """Places in a row, as a sentence names them.

    >>> joined(["A", "B", "C"])
    'A, B and C'
    """
    *first, last = places or [""]
    return f"{', '.join(first)} and {last}" if first else last


def places(sentence: str, there: set[str]) -> str:
    """A glossary's "See …", with the pages that are there.

    >>> places("See {ref}`a`, {ref}`b` and {ref}`c`.", {"a", "c"})
    'See {ref}`a` and {ref}`c`.'
    """
    found = re.findall(PLACE, sentence)
    kept = [x for x in found if REFERENCE.findall(x)[0] in there]
    return f"See {joined(kept)}." if kept else ""


def asides(text: str, there: set[str]) -> str:
    """A page that does not send its readers to what is not `there`.

    What only does that goes: a place in brackets, or brackets about it; the
    row of a table whose first cell has it so; a sentence or, behind a
    semicolon, a clause that begins with it.

    >>> asides("As a file (see {ref}`b`). {ref}`b` has more.", {"a"})
    'As a file.'
    """

    def drop(found: re.Match[str]) -> str:
        places = re.findall(PLACE, found[0])
        kept = [x for x in places if {*REFERENCE.findall(x)} <= there]
        if len(kept) == len(places):
            return found[0]
        if found.re is IN_BRACKETS:
            return f" ({joined(kept)})" if kept else ""
        if found.re is SEVERAL:
            return joined(kept) or found[0]
        return found[0] if places[0] in kept else ""

    for pattern in (ROW, IN_BRACKETS, SEVERAL, IN_TABLE, SENTENCE, CLAUSE):
        text = pattern.sub(drop, text)
    return text


def shorter(glossary: str, there: set[str], words: str) -> str:
    """The glossary without what an edition neither explains nor says.

    An entry stays if one of the labels that it names is `there`, and one of
    its names stands in `words`, which `said` has made of the pages. Of the
    pages that it sends its reader to, those that are there stay.
    """
    head, fence, rest = glossary.partition("```{glossary}\n")
    body, close, tail = rest.partition("\n```")
    kept = []
    for entry in re.split(r"\n\n(?=\S)", body):
        pages = set(REFERENCE.findall(entry))
        names = [x for x in entry.splitlines() if not x.startswith(" ")]
        used = any(
            re.search(rf"\b{re.escape(name.casefold())}(s|es)?\b", words)
            for name in names
        )
        if used and (not pages or pages & there):
            kept.append(SEE.sub(lambda see: places(see[0], there), entry))
    return head + fence + "\n\n".join(kept) + close + tail
