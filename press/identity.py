"""Read and validate ``book.yml``: title, authors, colors, chapters.

It is the only source of what the outputs say of themselves, and of which
chapters they have. A fork that changes it is another book; one that names
chapters is a course, which has to have all that they need.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from press.files import ROOT
from press.roadmap import GUIDE, Roadmap, course, line_of
from press.roadmap import load as load_roadmap

BOOK = ROOT / "book.yml"
ENOUGH = 4.5  # contrast of text that is not large: WCAG 2, criterion 1.4.3
PAGES = {  # mode → background; those of the site are the theme's
    "light": "#ffffff",
    "dark": "#121212",
    "print": "#ffffff",
}
# What stays the name of the book from which others are made: LICENSE-text.
ORIGIN = ("A Large Language Model from Scratch", ["The scratchlm authors"])

TEXT = {"type": "string", "pattern": r"^\S(.*\S)?$"}
TEXTS = {"type": "array", "minItems": 1, "items": TEXT}
NAMES = {"type": "array", "items": {"type": "string"}, "uniqueItems": True}
COLOR = {"type": "string", "pattern": "^#[0-9a-fA-F]{6}$"}


def record(**fields: Any) -> dict[str, Any]:
    """The schema of a mapping that has these fields and no others."""
    return {
        "type": "object",
        "required": list(fields),
        "additionalProperties": False,
        "properties": fields,
    }


SITE = record(accent=COLOR, links=COLOR, hover=COLOR)
SCHEMA = record(
    title=TEXT,
    cover=TEXTS,
    subtitle=TEXT,
    authors=TEXTS,
    description=TEXT,
    language={"type": "string", "pattern": "^[a-z]{2,3}(-[A-Z]{2})?$"},
    icon=TEXT,
    license=record(
        short=TEXT,
        rights=TEXT,
        url={"type": "string", "pattern": r"^https://\S+$"},
    ),
    colors=record(
        light=SITE, dark=SITE, print=record(accent=COLOR, links=COLOR)
    ),
    chapters={"anyOf": [{"const": "all"}, {**NAMES, "minItems": 1}]},
    assumes=NAMES,
    adapted={"type": "string"},
)


class IdentityError(ValueError):
    """``book.yml`` is not valid; the message names file, line and cause."""


@dataclass(frozen=True)
class Identity:
    """What ``book.yml`` says."""

    title: str
    cover: tuple[str, ...]  # the lines of the title
    subtitle: str
    authors: tuple[str, ...]
    description: str
    language: str
    icon: str
    license: dict[str, str]
    colors: dict[str, dict[str, str]]
    chapters: tuple[str, ...]  # of a course, in order; () for the whole book
    assumes: tuple[str, ...]
    adapted: str

    @property
    def author(self) -> str:
        """All authors in a line."""
        return ", ".join(self.authors)

    @property
    def notice(self) -> str:
        """What a book made from another says of it; "" for that one."""
        if not self.adapted:
            return ""
        title, authors = ORIGIN
        return f"Adapted from {title} by {authors[0]}: {self.adapted}"


def luminance(color: str) -> float:
    """How light a color is, from 0 to 1: WCAG 2, relative luminance.

    >>> luminance("#000000"), round(luminance("#ffffff"), 9)
    (0.0, 1.0)
    """
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
        for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """How far two colors stand apart, from 1 to 21: WCAG 2.

    >>> round(contrast("#ffffff", "#000000"), 9)
    21.0
    """
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def load(path: Path = BOOK) -> Identity:
    """What the file says; `IdentityError` names the first line in error."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        why = f"{path} is not there; the book has no title without it"
        raise IdentityError(why) from error
    return parse(text, path.name, load_roadmap())


@lru_cache(maxsize=4)  # each page asks for it
def identity() -> Identity:
    """That of this repository, read once."""
    return load()


@lru_cache(maxsize=1)
def book_roadmap() -> Roadmap:
    """The topics of this book: all of the roadmap, or those of its course."""
    chapters = identity().chapters
    whole = load_roadmap()
    return course(whole, chapters) if chapters else whole


def guide() -> tuple[str, ...]:
    """The pages of the guide that this book has."""
    chapters = identity().chapters
    return tuple(x for x in GUIDE if x in chapters or not chapters)


def parse(text: str, name: str, roadmap: Roadmap) -> Identity:
    """What `text` says, which stands in the file `name`."""
    try:
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise IdentityError(f"{name}: {error}") from error
    validator = jsonschema.Draft202012Validator(SCHEMA)
    for found in validator.iter_errors(data):
        where = list(found.absolute_path)
        line = line_of(tree, where)
        field = ".".join(map(str, where)) or "the file"
        raise IdentityError(f"{name}:{line}: {field}: {found.message}")
    for where, why in [*wrong_words(data), *faint(data["colors"])]:
        raise IdentityError(f"{name}:{line_of(tree, where)}: {why}")
    if data["chapters"] == "all":
        data["chapters"] = []
    for where, why in lacking(data["chapters"], data["assumes"], roadmap):
        raise IdentityError(f"{name}:{line_of(tree, where)}: {why}")
    lists = ("cover", "authors", "chapters", "assumes")
    return Identity(**{**data, **{key: tuple(data[key]) for key in lists}})


Problem = tuple[list[Any], str]  # where it stands, and what is wrong


def wrong_words(data: dict[str, Any]) -> list[Problem]:
    """A cover that is not the title; a changed book that does not say so."""
    found: list[Problem] = []
    if " ".join(data["cover"]) != data["title"]:
        why = "the lines of the cover are not the title; divide it anew"
        found.append((["cover"], why))
    ours = (data["title"], data["authors"]) == ORIGIN
    if not ours and not data["adapted"].strip():
        why = (
            "title or authors are not those of the original; its license, CC "
            "BY 4.0, asks that changes be indicated: say here what you changed"
        )
        found.append((["adapted"], why))
    if not (ROOT / data["icon"]).is_file():
        found.append((["icon"], f"no file {data['icon']}"))
    return found


def faint(colors: dict[str, dict[str, str]]) -> list[Problem]:
    """The colors in which one could not read on their background."""
    found: list[Problem] = []
    for mode, named in colors.items():
        page = PAGES[mode]
        for use, color in named.items():
            if (ratio := contrast(color, page)) < ENOUGH:
                way = "lighter" if luminance(page) < 0.5 else "darker"
                why = (
                    f"{use} {color} on {page} has a contrast of {ratio:.2f} "
                    f"to 1, and text needs {ENOUGH}; take a {way} color"
                )
                found.append((["colors", mode, use], why))
    return found


def lacking(
    chapters: list[str], assumes: list[str], roadmap: Roadmap
) -> list[Problem]:
    """What a course names that is not there, or needs and does not have."""
    topics = roadmap.by_id
    found: list[Problem] = []
    for i, name in enumerate(assumes):
        if name not in topics:
            found.append((["assumes", i], f"no topic {name}"))
        elif name in chapters:
            why = f"{name} is assumed, and is a chapter as well; choose"
            found.append((["assumes", i], why))
    there = set(assumes)
    for i, name in enumerate(chapters):
        if name not in topics and name not in GUIDE:
            why = f"no topic and no page of the guide: {name}"
            found.append((["chapters", i], why))
        for need in topics[name].requires if name in topics else ():
            if need not in there:
                late = need in chapters
                way = "move it up" if late else "add it, or put it in assumes"
                what = "which comes later" if late else "which is missing"
                why = f"{name} requires {need}, {what}; {way}"
                found.append((["chapters", i], why))
        there.add(name)
    return found
