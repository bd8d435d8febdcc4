"""A rule on files: no key, token or home folder is published with them."""

import re
from functools import lru_cache
from pathlib import Path

import yaml

from compliance.rules import Finding, Findings, Site, rule

PATTERNS = Path(__file__).with_suffix(".yml")


@lru_cache
def patterns() -> dict[str, re.Pattern[str]]:
    """Kind of secret → what it looks like."""
    found = yaml.safe_load(PATTERNS.read_text(encoding="utf-8"))
    return {kind: re.compile(text) for kind, text in found.items()}


@rule(
    "texts", "OWASP LLM02:2026, Sensitive Information Disclosure", "2026-08-04"
)
def secrets(path: Path, site: Site) -> Findings:
    """No key, token or password stands in a file, nor whose machine it was."""
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, 1):
            for kind, pattern in patterns().items():
                if pattern.search(line):
                    yield Finding(
                        f"{path}:{number}",
                        kind,
                        "make the key invalid where it is from, then take it "
                        "out, and out of the history, too"
                        if kind != "Home Folder"
                        else "write the path from the repository's root",
                    )
