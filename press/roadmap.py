"""Read and validate ``roadmap.yml``, the one list of the book's topics.

``python -m press.roadmap`` writes ``_toc.yml`` from it.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from press.files import ROOT, write_whole

ROADMAP = ROOT / "roadmap.yml"
PACKAGES = (  # of the library, in the order of imports; `cli` comes last
    "text",
    "model",
    "training",
    "generation",
    "evaluation",
    "tuning",
    "serving",
)
TRACKS = ("beginner", "practitioner", "researcher")
DEPTHS = ("core", "optional", "skim")
SHORT = {"beginner"}  # tracks whose edition has no guide
# Chapters that belong to no topic, in book/guide.
GUIDE = (
    "notes",
    "cards",
    "pitfalls",
    "components",
    "safety",
    "projects",
    "teachers",
)

NAME = {"type": "string", "pattern": "^[a-z][a-z_]*$"}
TEXT = {"type": "string", "minLength": 3}
SENTENCE = {"type": "string", "pattern": r"^[A-Z`].{15,}[.!?]$"}
# Licenses of tools, as spdx.org spells them, and words for what has none.
LICENSES = (
    *("Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "LGPL-2.1-or-later"),
    *("MIT", "MPL-2.0", "public domain", "service", "proprietary"),
)
PARTLY = ", but for parts"  # where some folders have another license
TOOL = {
    "type": "object",
    "required": ["name", "url", "license", "for"],
    "additionalProperties": False,
    "properties": {
        "name": {"type": "string", "minLength": 2},
        "url": {"type": "string", "pattern": r"^https://\S+$"},
        "license": {"enum": [x + y for x in LICENSES for y in ("", PARTLY)]},
        "for": TEXT,
    },
}
DUTY = {
    "type": "object",
    "required": ["note"],
    "additionalProperties": False,
    "properties": {
        "note": SENTENCE,
        "rules": {
            "type": "array",
            "minItems": 1,
            "uniqueItems": True,
            "items": {"type": "string", "pattern": "^[a-z]+(-[a-z]+)*$"},
        },
        "source": TEXT,
        "date": {"type": "string", "pattern": r"^\d{4}-\d\d-\d\d$"},
    },
    "dependentRequired": {"source": ["date"], "date": ["source"]},
}
MILESTONE = {
    "type": "object",
    "required": ["id", "title", "parts", "holds", "shows"],
    "additionalProperties": False,
    "properties": {
        "id": NAME,
        "title": TEXT,
        "parts": {"type": "array", "minItems": 1, "items": NAME},
        "holds": {"type": "string", "pattern": r"^[a-z].{15,}[a-z]$"},
        "shows": {"type": "string", "pattern": r"^python -m \S+ \S"},
    },
}
LONGEST = 45  # words of an explanation
SCHEMA = {
    "type": "object",
    "required": ["parts", "topics"],
    "additionalProperties": False,
    "properties": {
        "parts": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["id", "title"],
                "additionalProperties": False,
                "properties": {"id": NAME, "title": TEXT},
            },
        },
        "milestones": {"type": "array", "items": MILESTONE},
        "topics": {
            "type": "array",
            "items": {
                "type": "object",
                "required": [
                    "id",
                    "title",
                    "part",
                    "package",
                    "requires",
                    "symbol",
                    "gives",
                    "tracks",
                    "explanation",
                    "tools",
                    "hazard",
                    "done",
                ],
                "additionalProperties": False,
                "properties": {
                    "id": NAME,
                    "title": TEXT,
                    "part": NAME,
                    "package": NAME,
                    "requires": {"type": "array", "items": NAME},
                    "symbol": TEXT,
                    "gives": TEXT,
                    "tracks": {
                        "type": "object",
                        "required": list(TRACKS),
                        "additionalProperties": False,
                        "properties": {
                            track: {"enum": list(DEPTHS)} for track in TRACKS
                        },
                    },
                    "explanation": SENTENCE,
                    "tools": {
                        "type": "array",
                        "minItems": 1,
                        "maxItems": 3,
                        "items": TOOL,
                    },
                    "hazard": SENTENCE,
                    "done": SENTENCE,
                    "compliance": DUTY,
                    "gpus": {"type": "integer", "minimum": 1},
                    "runs": {"type": "integer", "minimum": 1},
                    "experiment": NAME,
                },
            },
        },
    },
}


class RoadmapError(ValueError):
    """The roadmap is not valid; the message names file, line and cause."""


@dataclass(frozen=True)
class Tool:
    """A well-kept library that does a topic's job in production."""

    name: str
    url: str
    license: str
    use: str


@dataclass(frozen=True)
class Duty:
    """What is owed where a topic touches data, weights or people."""

    note: str
    rules: tuple[str, ...] = ()  # of `python -m compliance`
    source: str = ""  # beside those of the rules: a law, a guideline
    date: str = ""  # the day from which it applies, or of its edition


@dataclass(frozen=True)
class Milestone:
    """A phase of a plan: what a reader holds in hands at its end."""

    id: str
    title: str
    parts: tuple[str, ...]  # their topics are the phase's
    holds: str
    shows: str  # the command that shows it


@dataclass(frozen=True)
class Topic:
    """One topic: a chapter, a module, its tests and its check."""

    id: str
    title: str
    part: str
    package: str
    requires: tuple[str, ...]
    symbol: str
    gives: str
    tracks: dict[str, str]
    explanation: str  # what it is, and what for
    tools: tuple[Tool, ...]
    hazard: str  # the mistake that costs most
    done: str  # how a reader knows that the topic is finished
    compliance: Duty | None = None  # where it touches data, weights, people
    gpus: int = 0  # without them its chapter runs, but not what it is for
    runs: int = 0  # of a budget, to see what the topic does to a model
    experiment: str = ""  # the one that shows what it does to a whole model

    @property
    def module(self) -> str:
        """Dotted name of the module that the chapter shows."""
        return f"scratchlm.{self.package}.{self.id}"

    @property
    def files(self) -> dict[str, str]:
        """The topic's places, relative to the repository's root."""
        here, name = self.package, self.id
        return {
            "chapter": f"book/{here}/{name}.md",
            "module": f"src/scratchlm/{here}/{name}.py",
            "tests": f"tests/{here}/test_{name}.py",
            "check": f"scaffold/checks/{here}/check_{name}.py",
        }


@dataclass(frozen=True)
class Roadmap:
    """Parts (id → title) and topics in reading order."""

    parts: dict[str, str]
    topics: tuple[Topic, ...] = field(default_factory=tuple)
    milestones: tuple[Milestone, ...] = ()

    @cached_property
    def by_id(self) -> dict[str, Topic]:
        """The topics by their id."""
        return {topic.id: topic for topic in self.topics}

    def followers(self, name: str) -> list[str]:
        """The topics that require this one themselves, in reading order."""
        return [t.id for t in self.topics if name in t.requires]

    def needs(self, ids: set[str]) -> set[str]:
        """`ids` and all topics that these require, directly or not."""
        found: set[str] = set()
        open_ids = set(ids)
        while open_ids:
            topic = self.by_id[open_ids.pop()]
            found.add(topic.id)
            open_ids |= set(topic.requires) - found
        return found


def line_of(node: yaml.Node | None, path: list[Any]) -> int:
    """The line of the value that `path` leads to, from 1."""
    for step in path:
        if isinstance(node, yaml.MappingNode):
            found = [v for k, v in node.value if k.value == step]
            if not found:
                break
            node = found[0]
        elif isinstance(node, yaml.SequenceNode):
            node = node.value[step]
    return node.start_mark.line + 1 if node else 1


def load(path: Path = ROADMAP) -> Roadmap:
    """Read the roadmap; `RoadmapError` names the first line that is wrong."""
    return parse(path.read_text(encoding="utf-8"), path.name)


@lru_cache(maxsize=4)  # each page's boxes ask for it
def parse(text: str, name: str) -> Roadmap:
    """The roadmap in `text`, which stands in the file `name`."""
    try:
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RoadmapError(f"{name}: {error}") from error

    def wrong(where: list[Any], why: str) -> RoadmapError:
        return RoadmapError(f"{name}:{line_of(tree, where)}: {why}")

    validator = jsonschema.Draft202012Validator(SCHEMA)
    for found in validator.iter_errors(data):
        raise wrong(list(found.absolute_path), found.message)
    parts = {part["id"]: part["title"] for part in data["parts"]}
    seen: set[str] = set()
    topics = []
    for i, item in enumerate(data["topics"]):
        here = ["topics", i]
        if item["id"] in seen:
            raise wrong([*here, "id"], f"{item['id']} stands twice")
        if item["part"] not in parts:
            raise wrong([*here, "part"], f"no part {item['part']}")
        for j, need in enumerate(item["requires"]):
            if need not in seen:
                raise wrong(
                    [*here, "requires", j],
                    f"{item['id']} requires {need}, which is not before it",
                )
        if (words := len(item["explanation"].split())) > LONGEST:
            raise wrong(
                [*here, "explanation"],
                f"{item['id']} is explained in {words} words; "
                f"{LONGEST} are the limit",
            )
        seen.add(item["id"])
        topics.append(topic_of(item))
    phases = data.get("milestones", [])
    order = [name for item in phases for name in item["parts"]]
    if phases and order != list(parts):
        raise wrong(
            ["milestones"],
            f"the phases have the parts {', '.join(order)}; they need each "
            f"once, in this order: {', '.join(parts)}",
        )
    milestones = [
        Milestone(**{**item, "parts": tuple(item["parts"])}) for item in phases
    ]
    return Roadmap(parts, tuple(topics), tuple(milestones))


def topic_of(item: dict[str, Any]) -> Topic:
    """The topic that a valid entry describes."""
    tools = [
        Tool(t["name"], t["url"], t["license"], t["for"]) for t in item["tools"]
    ]
    made: dict[str, Any] = {
        "requires": tuple(item["requires"]),
        "tools": tuple(tools),
    }
    if duty := item.get("compliance"):
        named = tuple(duty.get("rules", ()))
        made["compliance"] = Duty(**{**duty, "rules": named})
    return Topic(**{**item, **made})


def of_edition(roadmap: Roadmap, track: str) -> list[Topic]:
    """The topics of a track's edition: its core; all, where it is ""."""
    topics = roadmap.topics
    return [t for t in topics if not track or t.tracks[track] == "core"]


def course(roadmap: Roadmap, names: Sequence[str]) -> Roadmap:
    """The roadmap of a course: some topics in an order of their own.

    What a topic needs and the course lacks is not among its needs here, and
    each is core to every track: its teacher has chosen it.
    """
    chosen = [roadmap.by_id[name] for name in names if name in roadmap.by_id]
    topics = [
        replace(
            t,
            requires=tuple(x for x in t.requires if x in names),
            tracks=dict.fromkeys(TRACKS, "core"),
        )
        for t in chosen
    ]
    there = {topic.part for topic in topics}
    milestones = [m for m in roadmap.milestones if there & {*m.parts}]
    return replace(roadmap, topics=tuple(topics), milestones=tuple(milestones))


def contents(
    roadmap: Roadmap, track: str = "", guide: Sequence[str] = GUIDE
) -> dict[str, Any]:
    """The table of contents that Jupyter Book reads, from the roadmap.

    With a track, that of its edition: the topics that are core to it. A
    short edition has of the guide and the appendix only what helps to read
    it, in one part. A course has some pages of the guide.
    """

    def part(caption: str, files: list[str]) -> dict[str, Any]:
        chapters: list[dict[str, Any]] = [{"file": name} for name in files]
        return {"caption": caption, "numbered": True, "chapters": chapters}

    opening = ["idea", "setup", "first", "roadmap"]
    primer = ["shapes", "chance", "pytorch"]
    parts = [
        part("Before the first line", [f"book/start/{x}" for x in opening]),
        part("Primer", [f"book/start/{x}" for x in primer]),
    ]
    topics = of_edition(roadmap, track)
    parts_there = {topic.part for topic in topics}
    for name, here in groupby(topics, key=lambda topic: topic.part):
        files = [t.files["chapter"].removesuffix(".md") for t in here]
        parts.append(part(roadmap.parts[name], files))
    if track in SHORT:
        pages = ["guide/notes", "appendix/notation", "appendix/glossary"]
        pages += ["appendix/bibliography"]
        parts.append(part("Appendix", [f"book/{x}" for x in pages]))
        return {"format": "jb-book", "root": "book/index", "parts": parts}
    if guide:
        parts.append(part("The guide", [f"book/guide/{x}" for x in guide]))
    first = ["notation", "names"]
    if "toytown" in roadmap.by_id:  # the appendix of that topic
        first.append("toytown")
    appendix = part("Appendix", [f"book/appendix/{x}" for x in first])
    for name in (x for x in roadmap.parts if x in parts_there):
        chapter: dict[str, Any] = {"file": f"book/appendix/solutions-{name}"}
        chapter["sections"] = [
            {"file": f"book/appendix/solutions/{topic.id}"}
            for topic in topics
            if topic.part == name
        ]
        appendix["chapters"].append(chapter)
    pages = ["commands", "checks", "omitted", "errata", "glossary"]
    pages += ["bibliography", "colophon"]
    appendix["chapters"] += [{"file": f"book/appendix/{x}"} for x in pages]
    parts.append(appendix)
    return {"format": "jb-book", "root": "book/index", "parts": parts}


def contents_text(
    roadmap: Roadmap, track: str = "", guide: Sequence[str] = GUIDE
) -> str:
    """The file ``_toc.yml``, or that of a track's edition or of a course."""
    head = "# Written by `python -m press.roadmap` from roadmap.yml.\n"
    found = contents(roadmap, track, guide)
    return head + yaml.safe_dump(found, sort_keys=False)


def main(arguments: list[str] | None = None) -> int:
    """Write ``_toc.yml``; 2 where the roadmap is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m press.roadmap", description=__doc__
    )
    parser.parse_args(arguments)
    try:
        text = contents_text(load())
    except RoadmapError as error:
        print(error, file=sys.stderr)
        return 2
    write_whole(ROOT / "_toc.yml", text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
