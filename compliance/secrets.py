"""A rule on files: no key, token or home folder is published with them."""

import re
from collections import deque
from functools import lru_cache
from pathlib import Path

import yaml

from compliance.rules import WIDE, Finding, Findings, Site, rule

PATTERNS = Path(__file__).with_suffix(".yml")
NETRC = "Password of a Machine"  # its words may stand on three lines


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
    with path.open("rb") as file:
        code = "utf-16" if file.read(2) in WIDE else "utf-8"
    last = deque[str](maxlen=3)
    with path.open(encoding=code, errors="replace") as file:
        for number, line in enumerate(file, 1):
            last.append(line)
            for kind, pattern in patterns().items():
                text = "".join(last) if kind == NETRC else line
                before = len(text) - len(line)
                if any(x.end() > before for x in pattern.finditer(text)):
                    yield Finding(
                        f"{path}:{number}",
                        kind,
                        "make the key invalid where it is from, then take it "
                        "out, and out of the history, too"
                        if kind != "Home Folder"
                        else "write the path from the repository's root",
                    )
