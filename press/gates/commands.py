"""A gate on commands: what is printed can be typed, and leads to our sources.

The address of the sources stands in ``pyproject.toml``, once. A page writes
``{{ repository }}`` in its place; what is read without being built (README,
CITATION.cff) writes it out, and has to agree.
"""

import re
from collections.abc import Iterator

import tomllib
import yaml

from press.edition import MARK
from press.gates.book import Book, page
from press.gates.pages import Page

UNBUILT = ("README.md", "CONTRIBUTING.md")
SHELLS = {"sh", "bash", "shell", "console"}
PROGRAM = re.compile(
    r"(?:[A-Z_]+=\S+ )*(?:\S*python3?|git|make|pip|cd|source) \S"
)
CLONED = re.compile(r"\bgit clone\s+(?:-\S+\s+)*(\S+)")
FILES = {"README", "LICENSE", "CITATION", "CONTRIBUTING"}  # names, as they are
MARKS = re.compile(
    r"\{\{[^{}]*\}\}|<[\w -]+>|…|\.\.\.|\bpath/to\b|\byour[-_]\w+|\[[\w ]+\]"
)


def commands(book: Book) -> list[str]:
    """Every command can be typed as it stands, and clones our sources."""
    project = tomllib.loads(book.read("pyproject.toml"))["project"]
    address = project.get("urls", {}).get("Repository", "")
    if not address.startswith("https://"):
        return ["pyproject.toml: [project.urls] has no Repository"]
    problems: list[str] = []
    for name, found in book.pages.items():
        problems += wrong(found, name, address, MARK)
    for name in UNBUILT:
        if book.exists(name):
            found = page(book.root / name, name, book.read(name))
            problems += wrong(found, name, address, address)
    cited = yaml.safe_load(book.read("CITATION.cff")).get("repository-code")
    if cited != address:
        problems.append(f"CITATION.cff: repository-code is not {address}")
    return problems


def wrong(
    found: Page, name: str, address: str, written: str
) -> Iterator[str]:
    """What is wrong with a page's commands; `written` is what it clones."""
    for line, text in typed(found, inline=name != "CONTRIBUTING.md"):
        for cloned in CLONED.findall(text.replace(MARK, "MARK")):
            if cloned.replace("MARK", MARK) != written:
                yield f"{name}:{line}: clones {cloned}, not {written}"
        for word in placeholders(text.replace(MARK, address)):
            yield f"{name}:{line}: {word} cannot be typed"


def typed(found: Page, inline: bool) -> Iterator[tuple[int, str]]:
    """The commands of a page with their lines, in blocks and in sentences.

    A runbook may speak of a NAME in a sentence; its blocks may not.
    """
    for block in found.blocks:
        language = block.language or block.argument
        if block.directive in ("", "code", "code-block") and language in SHELLS:
            for number, line in enumerate(block.lines):
                yield block.start + number, line.partition(" #")[0]
    for passage in found.passages if inline else ():
        for piece in passage.pieces:
            if piece.kind == "code" and PROGRAM.match(piece.text):
                yield piece.line, piece.text


def placeholders(command: str) -> Iterator[str]:
    """What stands in a command for something that its reader has to find."""
    yield from MARKS.findall(command)
    for word in command.split():
        _, _, value = word.rpartition("=")
        for part in re.split(r"[/.:,\"'()\[\]]", value):
            if re.fullmatch(r"[A-Z][A-Z_]+", part) and part not in FILES:
                yield part
