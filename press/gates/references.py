"""Gates on what the book refers to: its literature and its addresses."""

import ast
import re
from collections.abc import Iterator
from functools import lru_cache
from urllib.parse import urlsplit

from pybtex.database import parse_string
from pybtex.exceptions import PybtexError

from press.gates.book import Book
from press.gates.pages import Page

CITES = ("cite", "cite:t", "cite:p", "cite:ts", "cite:ps", "cite:alp")
BARE = re.compile(r"(?:https?|ftp|file)://[^\s<>\"'`)\]}]*[^\s<>\"'`)\]}.,;:]")
LINKING = ["README.md", "CONTRIBUTING.md", "CITATION.cff", "roadmap.yml"]
LINKING += ["_config.yml", "pyproject.toml", "Makefile", "book/omitted.yml"]
NOWHERE = {"example.com", "example.org", "localhost", "127.0.0.1"}


@lru_cache(maxsize=128)
def entries(text: str) -> dict[str, tuple[str, dict[str, str]]]:
    """A bibliography's entries: key → their text, and their fields."""
    found = {}
    for key, entry in parse_string(text, "bibtex").entries.items():
        people = {
            role: [str(person) for person in persons]
            for role, persons in entry.persons.items()
        }
        fields = {name.lower(): str(v) for name, v in entry.fields.items()}
        found[key] = (f"{entry.type} {people} {sorted(fields.items())}", fields)
    return found


def bibliography(book: Book) -> list[str]:
    """Each entry is cited, each citation has its entry, each key one text."""
    problems = []
    texts: dict[str, tuple[str, str]] = {}
    for name in book.files("book/refs", suffix=".bib"):
        try:
            found = entries(book.read(name))
        except PybtexError as error:
            problems.append(f"{name}: {error}")
            continue
        for key, (text, _) in found.items():
            first, other = texts.setdefault(key, (text, name))
            if first != text:
                problems.append(f"{name}: {key} reads otherwise in {other}")
    used: dict[str, str] = {}
    for page in book.pages.values():
        for piece in page.roles(*CITES):
            for key in piece.text.split(","):
                used.setdefault(key.strip(), f"{page.name}:{piece.line}")
    for key in sorted(set(texts) - set(used)):
        problems.append(f"{texts[key][1]}: nobody cites {key}")
    for key in sorted(set(used) - set(texts)):
        problems.append(f"{used[key]}: no entry {key}")
    return problems


def addresses(book: Book) -> list[str]:
    """Every address is whole, encrypted, and leads out of this machine."""
    return [
        f"{where}: {address} {why}"
        for where, address in all_addresses(book)
        if (why := ill_formed(address))
    ]


def all_addresses(book: Book) -> Iterator[tuple[str, str]]:
    """The addresses in pages, literature, the library and what it comes with.

    Those that stand in the text count like those that are links.
    """
    for page in book.pages.values():
        for place, address in linked(page):
            yield f"{page.name}:{place}", address
    for name in (*LINKING, *book.files("scaffold/templates", suffix=".j2")):
        if book.exists(name):
            for number, line in enumerate(book.read(name).splitlines(), 1):
                for address in BARE.findall(line):
                    yield f"{name}:{number}", address
    for name in book.files("book/refs", suffix=".bib"):
        try:
            known = entries(book.read(name))
        except PybtexError:
            continue  # which the gate `bibliography` reports
        for key, (_, fields) in known.items():
            for address in BARE.findall(fields.get("note", "")):
                yield f"{name}: {key}", address
            for field in ("url", "howpublished"):
                text = fields.get(field, "")
                address = text.removeprefix("\\url{").rstrip("}")
                if address.startswith(("http", "www")):
                    yield f"{name}: {key}", address
            if doi := fields.get("doi"):
                yield f"{name}: {key}", f"https://doi.org/{doi}"
    for name in book.files("src/scratchlm", "scaffold"):
        for node in ast.walk(book.tree(name)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                text = node.value
                whole = len(text) > 8 and not any(map(str.isspace, text))
                if whole and text.startswith(("http://", "https://")):
                    yield f"{name}:{node.lineno}", text


def linked(page: Page) -> Iterator[tuple[int, str]]:
    """The targets of a page's links, those within the book left out."""
    for passage in page.passages:
        for piece in passage.pieces:
            if piece.kind == "link" and not piece.text.startswith("#"):
                yield piece.line, piece.text
            elif piece.kind == "text":
                yield from ((piece.line, x) for x in BARE.findall(piece.text))


def ill_formed(address: str) -> str:
    """Why an address can lead nowhere, "" if it may lead somewhere."""
    try:
        parts = urlsplit(address)
        host = parts.hostname or ""
    except ValueError as error:
        return f"is no address: {error}"
    if parts.scheme != "https":
        return "does not begin with https"
    if host in NOWHERE:
        return "leads to this machine or to nobody"
    names = host.split(".")
    if len(names) < 2 or not all(names) or not names[-1].isalpha():
        return "has no host"
    if any(c.isspace() or c in "<>\"{}|\\^`" for c in address):
        return "holds what no address may hold"
    if address.endswith((".", ",", ";", ":", "…")):
        return "ends like a sentence"
    if address.count("(") != address.count(")"):
        return "has a parenthesis without its other half"
    return ""
