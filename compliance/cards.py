"""Four documents from one card: for readers, for Europe, for California.

`write_cards` makes the model card (Mitchell et al., 2019), the data card
(after Gebru et al., 2021), the public summary of training content in the
order of the Commission's template, and the documentation that section 3111 of
California's Civil Code asks for. Numbers come from the run.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compliance.rules import in_lines
from scratchlm.model.gpt import parameter_table
from scratchlm.text.files import SEAL, file_sha256, read_json, write_text
from scratchlm.training.checkpoint import blaming, form_of, has_run
from scratchlm.training.scaling import operations

OUT = "cards"
ITEM = re.compile(r"(-|\d+\.) ")
KINDS = {  # of data, in the words and the order of the template's section 2
    "public": "2.1 Publicly available datasets",
    "private": "2.2 Private datasets obtained from third parties",
    "crawled": "2.3 Data crawled and scraped from online sources",
    "users": "2.4 User data",
    "synthetic": "2.5 Synthetic data",
    "other": "2.6 Other sources of data",
}
SIZES = [  # of a text, in tokens, as the template has them
    (1e9, "less than 1 billion tokens"),
    (1e13, "1 billion to 10 trillion tokens"),
    (float("inf"), "more than 10 trillion tokens"),
]
CALIFORNIA = [  # section 3111 (a), paragraph → what it asks, entry
    ("The sources or owners of the dataset", "source"),
    ("How it furthers the intended purpose of the model", "purpose"),
    ("The number of data points", "points"),
    ("The types of data points", "types"),
    ("Data protected by copyright, trademark or patent", "protected"),
    ("Whether it was purchased or licensed", "obtained"),
    ("Personal information", "personal"),
    ("Aggregate consumer information", "aggregate"),
    ("Cleaning, processing or other modification", "processing"),
    ("The time period of collection", "collected"),
    ("The date of first use in the development", "first_used"),
]


def training_operations(run: Path) -> float:
    """Floating-point operations of a run's training, if it ran to its end.

    The operations of a token at full context, times the tokens of all steps.
    """
    settings = read_json(run / "config.json")
    config, training = form_of(settings["model"]), settings["training"]
    windows = settings["data"]["batch_size"] * training.get("accumulate", 1)
    tokens = training["steps"] * windows * config.context
    return float(sum(operations(config).values()) * tokens)


def facts(run: Path) -> dict[str, Any]:
    """What a run's folder knows about itself.

    Of a model that came from elsewhere, or was tuned, not what it took.
    """
    settings = read_json(run / "config.json")
    config = form_of(settings["model"])
    found = {
        "weights": sum(parameter_table(config).values()),
        "layers": config.layers,
        "context": config.context,
        "seal": file_sha256(run / SEAL),
    }
    if settings["training"]:  # not that of a model from elsewhere
        found["tokens"] = settings["data"]["train_tokens"]
        found["operations"] = training_operations(run)
    return found


@dataclass
class Told:
    """A card as it is read out: what it leaves open is noted in `missing`."""

    card: dict[str, Any]
    facts: dict[str, Any]
    missing: list[str] = field(default_factory=list)

    def get(self, entry: str) -> Any:
        """What stands at an entry as "provider.name", or None."""
        value: Any = self.card
        for step in entry.split("."):
            if isinstance(value, list) and step.isdecimal():
                value = dict(enumerate(value)).get(int(step))
            else:
                value = value.get(step) if isinstance(value, dict) else None
        return value

    def __call__(self, entry: str) -> str:
        """The same as text; where there is none, it is said and noted."""
        value = self.get(entry)
        text = "" if value is None else " ".join(str(value).split())
        if not text and entry not in self.missing:
            self.missing.append(entry)
        return text or f"**not said yet: {entry}**"

    def fact(self, name: str, form: str = ",") -> str:
        """A number of the run."""
        if name in self.facts:
            return format(self.facts[name], form)
        if self.facts:
            return "not on file, since this model was not trained here"
        return self("model.run, with a run in it")

    @property
    def sets(self) -> list[str]:
        """The entries of the datasets: data.0, data.1 and so on."""
        data = self.get("data")
        count = len(data) if isinstance(data, list) and data else 1
        return [f"data.{i}" for i in range(count)]


def model_card(told: Told) -> str:
    """What a reader of the model has to know."""
    base = told("base.name") if told.get("base") else "none: from scratch"
    return f"""\
# {told("model.name")} {told("model.version")}: model card

{told("model.purpose")}

- Provider: {told("provider.name")}; contact: {told("provider.contact")}
- First made available: {told("model.date")}
- License: {told("model.license")}
- Trained from: {base}
- Architecture: decoder-only transformer, {told.fact("layers")} layers, a \
context of {told.fact("context")} tokens, {told.fact("weights")} weights
- Training: {told.fact("operations", ".2e")} floating-point operations
- Standing under the AI Act, by its provider: {told.get("standing") or "none"}
- SHA-256 of the run's seal: `{told.fact("seal", "")}`

## Limits

{told("model.limits")}

## Evaluation

{told("model.evaluation")}

## Data

See `data.md`, made from the same file.
"""


def data_card(told: Told) -> str:
    """Each dataset: why, what, from whom, and what was done to it."""
    parts = [f"# {told('model.name')}: data card\n"]
    rows = [
        ("Source or owner", "source"),
        ("Kind", "kind"),
        ("Obtained", "obtained"),
        ("License", "license"),
        ("Purpose", "purpose"),
        ("Documents", "points"),
        ("Their types", "types"),
        ("Collected", "collected"),
        ("Personal data", "personal"),
        ("Cleaning", "processing"),
    ]
    for entry in told.sets:
        lines = [f"- {title}: {told(f'{entry}.{key}')}" for title, key in rows]
        parts.append(
            f"## {told(f'{entry}.name')}\n\n" + "\n".join(lines) + "\n"
        )
    tokens = told.fact("tokens")
    return "\n".join(parts) + f"\nAll of it is {tokens} tokens to learn from.\n"


def european_summary(told: Told) -> str:
    """The public summary of training content, Article 53(1)(d)."""
    size = told.facts.get("tokens")
    where = next((text for most, text in SIZES if (size or 0) < most), "")
    parts = [
        f"""\
# Public summary of training content

In the order of the Commission's template for Article 53(1)(d) of Regulation
(EU) 2024/1689.

## 1. General information

- 1.1 Provider: {told("provider.name")}, {told("provider.contact")};
  authorised representative: {told("provider.representative")}
- 1.2 Model: {told("model.name")} {told("model.version")}; depends on: \
{told("base.name") if told.get("base") else "no other model"}; on the Union \
market since: {told("model.date")}
- 1.3 Modality: text; size: {where if size else told.fact("tokens")}

## 2. List of data sources
"""
    ]
    for kind, title in KINDS.items():
        own = [e for e in told.sets if told.get(f"{e}.kind") == kind]
        lines = [
            f"- {told(f'{e}.name')}: {told(f'{e}.source')}; "
            f"{told(f'{e}.types')}; collected {told(f'{e}.collected')}"
            for e in own
        ]
        parts.append(f"### {title}\n\n" + "\n".join(lines or ["None."]) + "\n")
    parts.append(
        f"""\
## 3. Data processing

- 3.1 Reservations of text and data mining: {told("reservations")}
- 3.2 Removal of illegal content: {told("unlawful")}
"""
    )
    return "\n".join(parts)


def californian_disclosure(told: Told) -> str:
    """What section 3111 of the Civil Code asks for, in twelve paragraphs."""
    parts = [
        f"# {told('model.name')}: training data\n\n"
        "Documentation under section 3111 (a) of California's Civil Code.\n"
    ]
    for entry in told.sets:
        lines = [
            f"{number}. {title}: {told(f'{entry}.{key}')}"
            for number, (title, key) in enumerate(CALIFORNIA, 1)
        ]
        made = told.get(f"{entry}.kind") == "synthetic"
        lines.append(
            f"{len(lines) + 1}. Synthetic data generation: "
            + ("yes, all of this dataset" if made else "not for this dataset")
        )
        parts.append(
            f"## {told(f'{entry}.name')}\n\n" + "\n".join(lines) + "\n"
        )
    return "\n".join(parts)


DOCUMENTS: dict[str, Callable[[Told], str]] = {
    "model.md": model_card,
    "data.md": data_card,
    "eu-summary.md": european_summary,
    "california.md": californian_disclosure,
}


def render(
    card: dict[str, Any], folder: Path
) -> tuple[dict[str, str], list[str]]:
    """The documents of a card by name, and the entries that they lack.

    `folder` is where the card lies; from there it names its run.
    """
    told = Told(card, {})
    name = told.get("model.run")
    if isinstance(name, str) and has_run(folder / name):
        with blaming(folder / name / "config.json"):
            told.facts = facts(folder / name)
    texts = {n: wrapped(make(told)) for n, make in DOCUMENTS.items()}
    return texts, told.missing


def wrapped(text: str) -> str:
    """A document with its long lines broken, as Markdown allows."""
    lines = []
    for line in text.splitlines():
        start = ITEM.match(line)
        indent = " " * len(start[0]) if start else ""
        lines.append(line if line[:1] == "#" else in_lines(line, indent))
    return "\n".join(lines) + "\n"


def write_cards(card: dict[str, Any], folder: Path, out: Path) -> list[str]:
    """Write the documents of a card; return the entries that they lack."""
    texts, missing = render(card, folder)
    for name, text in texts.items():
        write_text(out / name, text)
    return missing
