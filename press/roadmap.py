"""Read and validate ``roadmap.yml``, the one list of the book's topics.

``python -m press.roadmap`` writes ``_toc.yml`` from it.
"""

import argparse
import sys
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
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
GUIDE = ("safety",)  # chapters that belong to no topic, in book/guide

NAME = {"type": "string", "pattern": "^[a-z][a-z_]*$"}
TEXT = {"type": "string", "minLength": 3}
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
                    "minutes",
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
                    "minutes": {"type": "integer", "minimum": 5},
                },
            },
        },
    },
}


class RoadmapError(ValueError):
    """The roadmap is not valid; the message names file, line and cause."""


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
    minutes: int

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

    @cached_property
    def by_id(self) -> dict[str, Topic]:
        """The topics by their id."""
        return {topic.id: topic for topic in self.topics}

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
        seen.add(item["id"])
        topics.append(Topic(**{**item, "requires": tuple(item["requires"])}))
    return Roadmap(parts, tuple(topics))


def contents(roadmap: Roadmap) -> dict[str, Any]:
    """The table of contents that Jupyter Book reads, from the roadmap."""

    def part(caption: str, files: list[str]) -> dict[str, Any]:
        chapters: list[dict[str, Any]] = [{"file": name} for name in files]
        return {"caption": caption, "numbered": True, "chapters": chapters}

    opening = ["idea", "setup", "first", "roadmap"]
    primer = ["shapes", "chance", "pytorch"]
    parts = [
        part("Before the first line", [f"book/start/{x}" for x in opening]),
        part("Primer", [f"book/start/{x}" for x in primer]),
    ]
    for name, title in roadmap.parts.items():
        topics = [t for t in roadmap.topics if t.part == name]
        files = [t.files["chapter"].removesuffix(".md") for t in topics]
        parts.append(part(title, files))
    parts.append(part("The guide", [f"book/guide/{x}" for x in GUIDE]))
    first = ["notation", "names", "toytown"]
    appendix = part("Appendix", [f"book/appendix/{x}" for x in first])
    for name in roadmap.parts:
        chapter: dict[str, Any] = {"file": f"book/appendix/solutions-{name}"}
        chapter["sections"] = [
            {"file": f"book/appendix/solutions/{topic.id}"}
            for topic in roadmap.topics
            if topic.part == name
        ]
        appendix["chapters"].append(chapter)
    pages = ["commands", "omitted", "glossary", "bibliography", "colophon"]
    appendix["chapters"] += [{"file": f"book/appendix/{x}"} for x in pages]
    parts.append(appendix)
    return {"format": "jb-book", "root": "book/index", "parts": parts}


def contents_text(roadmap: Roadmap) -> str:
    """The file ``_toc.yml``."""
    head = "# Written by `python -m press.roadmap` from roadmap.yml.\n"
    return head + yaml.safe_dump(contents(roadmap), sort_keys=False)


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
