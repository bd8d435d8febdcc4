"""What a rule is, what it finds, and what it looks at."""

import codecs
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from textwrap import fill
from typing import Any

from scratchlm.cli.corpus import ORIGIN
from scratchlm.text.corpus import BESIDE, KINDS, MANIFEST
from scratchlm.text.files import SEAL, FileError, read_json
from scratchlm.training.checkpoint import has_run

SKIPPED = {"__pycache__", "node_modules", "venv"}
CARD = "card.yml"
SERVER = "scratchlm.serving.server"
WIDE = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)  # how UTF-16 begins
# What a rule may look at, in the words of the report: one of them, several.
KINDS_OF = {
    "files": ("file", "files"),
    "texts": ("text file", "text files"),
    "tensors": ("weight file", "weight files"),
    "corpora": ("corpus", "corpora"),
    "runs": ("run", "runs"),
    "sealed": ("sealed folder", "sealed folders"),
    "logs": ("log", "logs"),
    "cards": ("card", "cards"),
    "servers": ("server", "servers"),
}


def in_lines(text: str, indent: str) -> str:
    """A text in lines of 78 at most, but for words that are longer."""
    return fill(
        text,
        78,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


class InputError(ValueError):
    """Something that cannot be looked at; the message tells the way out."""


@dataclass(frozen=True)
class Finding:
    """What violates a rule: where it is, what it is, and the way out."""

    place: str
    what: str
    way_out: str

    def __str__(self) -> str:
        """Two lines for the report, or more where they are long."""
        found = in_lines(f"{self.place}: {self.what}", "  ")
        return found + "\n  " + in_lines(f"way out: {self.way_out}", "    ")


Findings = Iterator[Finding]


@dataclass(frozen=True)
class Rule:
    """A duty, where it is written, since when, and how to look for it.

    `judge` gets one thing of the kind `of`, and all the others around it.
    """

    name: str
    duty: str
    source: str
    since: str
    of: str
    judge: Callable[[Path, "Site"], Findings]


RULES: dict[str, Rule] = {}


def rule(of: str, source: str, since: str) -> Callable[..., Any]:
    """Make a function a rule; its name is the rule's, its text the duty.

    `since` is the day from which the source applies, or of its edition; of a
    directive, by which the states had to follow it.
    """

    def register(judge: Callable[[Path, "Site"], Findings]) -> Any:
        name = judge.__name__.replace("_", "-")
        duty = (judge.__doc__ or "").strip().split("\n\n")[0]
        duty = " ".join(duty.split())
        RULES[name] = Rule(name, duty, source, since, of, judge)
        return judge

    return register


@dataclass(frozen=True)
class Site:
    """What is looked at: all that lies below some paths."""

    paths: tuple[Path, ...]

    @cached_property
    def files(self) -> list[Path]:
        """Every file, in the order of the paths; hidden folders are left."""
        return [file for path in self.paths for file in sorted(walk(path))]

    @cached_property
    def texts(self) -> list[Path]:
        """The files that are text, as far as their beginning tells."""
        return [path for path in self.files if is_text(path)]

    @cached_property
    def tensors(self) -> list[Path]:
        """The files in the format of safetensors."""
        return [p for p in self.files if p.suffix == ".safetensors"]

    @cached_property
    def sealed(self) -> list[Path]:
        """The folders of runs, and of models that were made of them."""
        folders = dict.fromkeys(path.parent for path in self.files)
        return [f for f in folders if has_run(f) and is_ours(f)]

    @cached_property
    def runs(self) -> list[Path]:
        """The folders of runs of `scratchlm train`."""
        parts = ("log.jsonl", "best", "checkpoint")  # not of what is exported
        return [
            folder
            for folder in self.sealed
            if any((folder / name).exists() for name in parts)
        ]

    @cached_property
    def corpora(self) -> list[Path]:
        """Folders with a manifest, text in folders named data, text named.

        And what the runs have read, wherever that lies.
        """
        read = [source_text(run) for run in self.runs]
        files = [file for path in self.paths for file in in_data(path)]
        files += [p for p in self.paths if p.is_file()]
        found = [p.parent for p in self.files if p.name == MANIFEST]
        found += [p for p in files if p.suffix.lower() in KINDS]
        found += [Path(name) for name in read if name and Path(name).exists()]
        return [
            path for path in dict.fromkeys(found) if self.stands_alone(path)
        ]

    def stands_alone(self, path: Path) -> bool:
        """Whether a corpus is no part of a folder with a manifest, or run."""
        return not (
            has_run(path)
            or (path.is_file() and (path.parent / MANIFEST).exists())
        )

    @cached_property
    def logs(self) -> list[Path]:
        """What programs wrote down: *.log, and JSON lines in no corpus."""
        parts = {file for c in self.corpora for file in texts_in(c)}
        ends = (".log", ".jsonl")
        return [p for p in self.files if p.suffix in ends and p not in parts]

    @cached_property
    def cards(self) -> list[Path]:
        """The files from which cards are made."""
        return [path for path in self.files if path.name == CARD]

    @cached_property
    def servers(self) -> list[Path]:
        """The server of the library that runs here."""
        return [Path(SERVER)]


def walk(path: Path) -> Iterator[Path]:
    """A file, or all files below a folder that is no environment or cache."""
    if path.is_file():
        yield path
    for folder, below, names in os.walk(path):
        below[:] = [
            name
            for name in below
            if not name.startswith(".")
            and name not in SKIPPED
            and not (Path(folder) / name / "pyvenv.cfg").exists()
        ]
        yield from (p for n in names if (p := Path(folder) / n).is_file())


def in_data(path: Path) -> list[Path]:
    """The files in a folder named data; where `path` itself lies is no matter.

    All of them, if the folder that was named is one.
    """
    files = sorted(walk(path)) if path.is_dir() else []
    if path.resolve().name == "data":
        return files
    return [p for p in files if "data" in p.relative_to(path).parts[:-1]]


def is_ours(folder: Path) -> bool:
    """Whether a folder with a log is one that we made."""
    return any((folder / name).exists() for name in (SEAL, "config.json"))


def is_text(path: Path) -> bool:
    """Whether the first bytes of a file hold no zero, or are UTF-16."""
    with path.open("rb") as file:
        start = file.read(1 << 13)
    return b"\0" not in start or start[:2] in WIDE


def texts_in(corpus: Path) -> list[Path]:
    """The files of a corpus that hold its text."""
    if corpus.is_file():
        return [corpus]
    found = (p for p in corpus.rglob("*") if p.suffix.lower() in KINDS)
    return sorted(path for path in found if path.is_file())


def text_of(run: Path) -> str:
    """What a run was trained on: a name, an address or a path; or ""."""
    try:
        data = read_json(run / "config.json")["data"]
        return str(data.get("text", data)["corpus"])
    except (FileError, LookupError, TypeError, AttributeError):
        return ""


def source_text(run: Path) -> str:
    """The text that a run learned from, whatever handed on its tokens.

    A run may have the tokens of another run, or of shards; "" where one of
    them does not say from which text they are.
    """
    name, seen = text_of(run), {""}
    while name not in seen:
        seen.add(name)
        if has_run(Path(name)):
            name = text_of(Path(name))
        elif Path(name, ORIGIN).is_file():
            name = text_of_shards(Path(name))
    return name


def text_of_shards(folder: Path) -> str:
    """The folder whose text was encoded as these shards; or ""."""
    try:
        seen = str(read_json(folder / ORIGIN)["corpus"])
    except (FileError, LookupError, TypeError):
        return ""
    return os.path.normpath(folder / seen)


def described(corpus: Path) -> bool:
    """Whether anything beside a corpus says where it is from."""
    if corpus.is_file():
        return corpus.with_name(corpus.name + BESIDE).exists()
    return (corpus / MANIFEST).exists()
