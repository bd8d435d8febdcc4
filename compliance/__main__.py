"""Look whether data, weights, servers and releases keep to what you owe.

    python -m compliance                    all below this folder
    python -m compliance runs/1 data/notes  a run and a corpus
    python -m compliance --only seal pickle these rules alone
    python -m compliance --list             each rule, its duty, its source
    python -m compliance cards              the documents from card.yml

Each rule says how many things it looked at, then whether it holds. What
violates one is named with its file, its line and the way out. The exit code
is 0 when all hold, 1 when one is violated, and 2 for what cannot be looked
at. A program sees files, not reasons: this is no legal advice.
"""

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from compliance import data, people, release, secrets, weights
from compliance.card import read_card
from compliance.cards import OUT, write_cards
from compliance.rules import (
    CARD,
    KINDS_OF,
    RULES,
    Finding,
    InputError,
    Rule,
    Site,
    in_lines,
)
from scratchlm.text.files import FileError

FAMILIES = (data, secrets, weights, people, release)  # from text to release
ORDERED = {
    name: found
    for family in FAMILIES
    for name, found in RULES.items()
    if found.judge.__module__ == family.__name__
}


@dataclass(frozen=True)
class Result:
    """What a rule looked at, and what it found."""

    rule: Rule
    looked: int
    findings: list[Finding]

    @property
    def verdict(self) -> str:
        """In words; a rule that saw nothing has not been kept to."""
        if self.findings:
            return f"violated, {len(self.findings)} found"
        return "holds" if self.looked else "nothing to look at"


def examine(rule: Rule, site: Site) -> Result:
    """Apply a rule to each thing that it is about."""
    things = getattr(site, rule.of)
    found = [finding for x in things for finding in rule.judge(x, site)]
    return Result(rule, len(things), found)


def as_json(results: list[Result]) -> str:
    """The report for programs."""
    rules = [
        {
            "name": r.rule.name,
            "duty": r.rule.duty,
            "source": r.rule.source,
            "since": r.rule.since,
            "looked": r.looked,
            "findings": [asdict(finding) for finding in r.findings],
        }
        for r in results
    ]
    holds = not any(r.findings for r in results)
    return json.dumps({"holds": holds, "rules": rules}, indent=1)


def as_text(results: list[Result]) -> str:
    """The report for people: a line for each rule, then what was found."""
    lines = []
    for r in results:
        looked = f"{r.looked:,} {KINDS_OF[r.rule.of][r.looked != 1]}"
        lines.append(f"{r.rule.name:<15} {looked:<18} {r.verdict}")
    for r in results:
        duty = in_lines(f"{r.rule.name}: {r.rule.duty}", "  ")
        lines += [f"\n{duty}"] if r.findings else []
        lines += [str(finding) for finding in r.findings]
    bad = sum(bool(r.findings) for r in results)
    idle = sum(not r.looked for r in results)
    verdict = f"{bad} violated" if bad else "none violated"
    lines.append(
        f"\n{len(results)} rules, {verdict}, {idle} without anything to look at"
    )
    return "\n".join(lines)


def as_list() -> str:
    """Each rule with its duty, its source and its date."""
    return "\n".join(
        f"{r.name}\n    {r.duty}\n    {r.source} (since {r.since})"
        for r in ORDERED.values()
    )


def check(arguments: list[str]) -> int:
    """The rules; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m compliance",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "paths",
        nargs="*",
        type=Path,
        metavar="PATH",
        help="files and folders to look at (this folder)",
    )
    parser.add_argument(
        "--only",
        nargs="+",
        metavar="RULE",
        help="these rules alone; --list names them",
    )
    parser.add_argument("--list", action="store_true", help="name the rules")
    parser.add_argument(
        "--json", action="store_true", help="the report as JSON"
    )
    options = parser.parse_args(arguments)
    if options.list:
        print(as_list())
        return 0
    names = options.only or list(ORDERED)
    if unknown := [name for name in names if name not in ORDERED]:
        raise InputError(
            f"no rule {', '.join(unknown)}; there are: {', '.join(ORDERED)}"
        )
    paths = tuple(options.paths) or (Path(),)
    if gone := [str(path) for path in paths if not path.exists()]:
        raise InputError(
            f"{', '.join(gone)}: there is no such file or folder; name one "
            "that is there, or none for this folder"
        )
    site = Site(paths)
    results = [examine(ORDERED[name], site) for name in dict.fromkeys(names)]
    print(as_json(results) if options.json else as_text(results))
    return int(any(result.findings for result in results))


def cards(arguments: list[str]) -> int:
    """The documents from a card; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m compliance cards",
        description=(
            "Write the model card, the data card, the public summary of "
            "training content (EU) and the documentation of training data "
            "(California) from one file, and say what it leaves open. The "
            "exit code is 1 as long as anything is missing."
        ),
        epilog="example: python -m compliance cards card.yml --out cards",
    )
    parser.add_argument(
        "card",
        nargs="?",
        type=Path,
        default=Path(CARD),
        help="the file with all entries (card.yml)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        help="the folder to write to (cards, beside the file)",
    )
    options = parser.parse_args(arguments)
    said, problems = read_card(options.card)
    folder = options.card.parent
    out = options.out or folder / OUT
    missing = write_cards(said, folder, out)
    print(f"{out}: 4 documents from {options.card}")
    for problem in problems:
        print(f"{options.card}:{problem.line}: {problem.entry}: {problem.what}")
    named = {problem.entry for problem in problems}
    for entry in missing:
        if not any(entry.startswith(name) for name in named):
            print(f"{options.card}: {entry}: not said yet")
    return int(bool(problems or missing))


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code, 2 for what the user can mend."""
    words = sys.argv[1:] if arguments is None else arguments
    try:
        if words[:1] == ["cards"]:
            return cards(words[1:])
        return check(words)
    except (InputError, FileError) as error:
        print(f"error: {error}", file=sys.stderr)
    except OSError as error:
        said = f"{error.filename}: {error.strerror}"
        print(f"error: {said if error.filename else error}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
