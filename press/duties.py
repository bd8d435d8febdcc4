"""The rules of `python -m compliance`: what each is called, and its source.

A topic of the roadmap names the rules that look after its duty. Where the
duty is written, and since when, stands with the rules and nowhere else; it is
read as text, since the rules import the library.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from press.files import ROOT
from press.roadmap import Duty
from press.sources import tree_of

RULES = ROOT / "compliance"
COMMAND = "python -m compliance --only"


@dataclass(frozen=True)
class Source:
    """A law, a license or a guideline, and the day from which it applies."""

    name: str
    since: str

    def __str__(self) -> str:
        """As a card says it.

        >>> str(Source("GDPR, Article 22", "2018-05-25"))
        'GDPR, Article 22, since 2018-05-25'
        """
        return f"{self.name}, since {self.since}"


def rules(folder: Path = RULES) -> dict[str, list[Source]]:
    """The sources of each rule, by the rule's name."""
    return {
        name: sources_in(source, since)
        for path in sorted(folder.glob("*.py"))
        for name, source, since in rules_in(tree_of(path))
    }


def rules_in(module: ast.Module) -> Iterator[tuple[str, str, str]]:
    """Name, source and date of the rules in a module: functions of `@rule`."""
    known: dict[str, str] = {}  # the module's texts, by their names
    for node in module.body:
        match node:
            case ast.Assign([ast.Name(name)], ast.Constant(str(text))):
                known[name] = text
            case ast.FunctionDef(
                name=name,
                decorator_list=[ast.Call(ast.Name("rule"), [_, source, since])],
            ):
                words = said(source, known), said(since, known)
                yield name.replace("_", "-"), *words


def said(node: ast.expr, known: dict[str, str]) -> str:
    """The text of an expression: itself, or what its name stands for."""
    if isinstance(node, ast.Name):
        return known[node.id]
    return str(ast.literal_eval(node))


def sources_in(source: str, since: str) -> list[Source]:
    """The sources that a rule names: one, or several with a day for each.

    >>> len(sources_in("A; B", "2025-08-02; 2026-01-01"))
    2
    >>> sources_in("A; B", "2025-08-02")
    [Source(name='A; B', since='2025-08-02')]
    """
    names, days = source.split("; "), since.split("; ")
    if len(names) != len(days):
        return [Source(source, since)]
    return [Source(name, day) for name, day in zip(names, days, strict=True)]


def command(duty: Duty) -> str:
    """What looks after a duty; "" where no program can."""
    return " ".join([COMMAND, *duty.rules]) if duty.rules else ""


def sources(duty: Duty) -> list[Source]:
    """Where a duty is written: the sources of its rules, and its own.

    Raises LookupError for a rule that there is not.
    """
    known = rules()
    if unknown := [name for name in duty.rules if name not in known]:
        raise LookupError(
            f"no rule {', '.join(unknown)}; there are: {', '.join(known)}"
        )
    found = [source for name in duty.rules for source in known[name]]
    if duty.source:
        found.append(Source(duty.source, duty.date))
    return list(dict.fromkeys(found))
