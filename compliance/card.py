"""The one file about a model, `card.yml`: what must be in it, and what is.

All that the model card, the data card, the European summary and the
Californian disclosure say beyond the run's own numbers stands here once.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    ValidationError,
)

from compliance.rules import InputError
from scratchlm.text.files import read_bytes

Text = Annotated[
    str,
    BeforeValidator(lambda x: x if x is None else str(x).strip()),
    Field(min_length=1),
]
Kind = Literal["public", "private", "crawled", "users", "synthetic", "other"]
Standing = Literal["none", "general-purpose", "systemic"]


class Exact(BaseModel):
    """Entries of exactly these names."""

    model_config = ConfigDict(extra="forbid")


class Provider(Exact):
    """Who answers for the model."""

    name: Text
    contact: Text
    representative: Text  # in the European Union, or why none is needed


class Model(Exact):
    """What the model is, is for, and is not for."""

    name: Text
    version: Text
    run: Text  # its folder, from this file
    date: Text  # on which others first get it
    license: Text
    purpose: Text
    limits: Text
    evaluation: Text


class Base(Exact):
    """Somebody else's model from which the training went on."""

    name: Text
    operations: float | None = None  # of its training, where they are known
    systemic: StrictBool = False


class Dataset(Exact):
    """One text, as the summaries ask for it."""

    name: Text
    kind: Kind
    source: Text  # or its owner
    obtained: Text  # bought, licensed, or free to all
    license: Text
    purpose: Text
    points: Text  # how many documents
    types: Text
    collected: Text  # from when to when
    first_used: Text
    protected: Text  # by copyright, trademark or patent
    personal: Text
    aggregate: Text  # consumer information
    processing: Text


class Card(Exact):
    """The whole file."""

    released: StrictBool
    standing: Standing = "none"
    provider: Provider
    model: Model
    base: Base | None = None
    data: Annotated[list[Dataset], Field(min_length=1)]
    reservations: Text  # of text and data mining: how they are respected
    unlawful: Text  # content: how it is kept out


@dataclass(frozen=True)
class Problem:
    """What is wrong with a card; `open` is what has not been said yet."""

    line: int
    entry: str
    what: str
    open: bool


class CardError(InputError):
    """A card that is no YAML, or no list of entries."""


def read_card(path: Path) -> tuple[dict[str, Any], list[Problem]]:
    """What a card says, and what is wrong with it, in the order of lines."""
    text = read_bytes(path).decode("utf-8", errors="replace")
    try:
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        why = " ".join(str(error).split())
        raise CardError(f"{path} is no YAML: {why}") from error
    if not isinstance(data, dict):
        raise CardError(f"{path} holds no entries; see: {HELP}")
    try:
        Card.model_validate(data)
    except ValidationError as error:
        found = [problem(tree, item) for item in error.errors()]
        return data, sorted(found, key=lambda p: (p.line, p.entry))
    return data, []


HELP = "python -m compliance cards --help"


def problem(tree: yaml.Node | None, error: Any) -> Problem:
    """What pydantic found, with the line nearest to it."""
    entry = ".".join(str(step) for step in error["loc"])
    empty = error["input"] is None or error["input"] == ""
    if empty or error["type"] == "missing":
        return Problem(line_of(tree, error["loc"]), entry, "not said yet", True)
    what = error["msg"][0].lower() + error["msg"][1:]
    return Problem(line_of(tree, error["loc"]), entry, what, False)


def line_of(node: yaml.Node | None, steps: tuple[Any, ...]) -> int:
    """The line, from 1, of the entry to which the steps lead, or above it."""
    line = node.start_mark.line + 1 if node else 1
    for step in steps:
        below = dict(children(node))
        if step not in below:
            break
        line, node = below[step]
    return line


Entries = Iterator[tuple[Any, tuple[int, yaml.Node]]]


def children(node: yaml.Node | None) -> Entries:
    """The entries of a mapping or a list: key → line and node."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield key.value, (key.start_mark.line + 1, value)
    elif isinstance(node, yaml.SequenceNode):
        for number, value in enumerate(node.value):
            yield number, (value.start_mark.line + 1, value)
