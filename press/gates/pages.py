"""A page of the book as its parsed tree: what is prose, and what is a block.

The parser is MyST's own, with the extensions of ``_config.yml``. A directive
is a fence to it; we read its options and, where its body is Markdown, parse
that in turn, so that nothing hides in a box within a box.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import yaml
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from myst_parser.config.main import MdParserConfig
from myst_parser.parsers.mdit import create_md_parser

EXTENSIONS = {
    "amsmath",
    "attrs_block",
    "attrs_inline",
    "colon_fence",
    "deflist",
    "dollarmath",
    "substitution",
}  # as in _config.yml, without the quotes: they would change the text

# Directives whose body is no Markdown; the body of all others is parsed.
LITERAL = {
    "bibliography",
    "card",
    "check",
    "code",
    "code-block",
    "code-cell",
    "components",
    "decisions",
    "index",
    "listing",
    "literalinclude",
    "math",
    "parsed-literal",
    "plan",
    "raw",
    "roadmap",
    "sourcecode",
    "topic",
    "tracks",
}
UNREADABLE = "no options"  # the key of a head that is no YAML
# Directives whose argument is a name and no title.
NAMED = LITERAL | {"figure", "image", "solution", "include"}


@lru_cache(maxsize=1)
def parser() -> MarkdownIt:
    """MyST's parser, as the book configures it."""
    config = MdParserConfig(enable_extensions=set(EXTENSIONS))
    return create_md_parser(config, RendererHTML)


@dataclass(frozen=True)
class Block:
    """A fenced part of a page: a directive, or code in some language."""

    directive: str  # its name, "" for a plain fence
    language: str  # of a plain fence
    argument: str
    options: dict[str, Any]
    body: str
    line: int  # of the fence
    start: int  # of the body's first line

    def option(self, name: str) -> Any:
        """The value of an option, wherever in the head it stands."""
        return search(self.options, name)

    @property
    def tags(self) -> list[str]:
        """The tags of a cell."""
        tags = self.options.get("tags") or []
        if isinstance(tags, str):
            tags = loaded(tags)
        if isinstance(tags, str):
            tags = tags.split(",")
        return [str(tag).strip() for tag in tags]

    @property
    def lines(self) -> list[str]:
        """The lines of the body."""
        return self.body.splitlines()


def search(options: Any, name: str) -> Any:
    """The value of `name` in nested dictionaries, None where there is none."""
    if not isinstance(options, dict):
        return None
    if name in options:
        return options[name]
    found = (search(value, name) for value in options.values())
    return next((value for value in found if value is not None), None)


@dataclass(frozen=True)
class Piece:
    """A run of text, code, mathematics, or a role; with its line."""

    kind: str  # text, code, math, role, image, link, html, break
    text: str
    line: int
    role: str = ""


@dataclass(frozen=True)
class Passage:
    """A paragraph, heading, cell of a table, caption or alternative text."""

    kind: str
    line: int
    pieces: tuple[Piece, ...] = field(repr=False)
    box: str = ""  # the directive in whose body it stands

    @property
    def words(self) -> str:
        """Its words alone: no code, mathematics, roles or addresses."""
        parts = [
            p.text if p.kind == "text" else "\n" if p.kind == "break" else " "
            for p in self.pieces
        ]
        return "".join(parts)

    def flat(self, part: Callable[[Piece], str]) -> tuple[str, list[int]]:
        """One text, of each piece what `part` says; a line per character."""
        text, lines = "", []
        for piece in self.pieces:
            said = part(piece)
            text += said
            lines += [piece.line] * len(said)
        return text, lines

    def line_of(self, place: int) -> int:
        """The line on which the character `place` of `words` stands."""
        at = 0
        for piece in self.pieces:
            at += len(piece.text) if piece.kind == "text" else 1
            if at > place:
                return piece.line
        return self.line


def pieces_of(tokens: list[Token], line: int) -> Iterator[Piece]:
    """The pieces of an inline token's children."""
    deep = 0  # in how many layers of italics or bold type
    for token in tokens:
        kind = token.type
        deep += token.nesting if kind[:2] == "em" or kind[:6] == "strong" else 0
        if kind == "text" or kind == "text_special":
            role = "emphasis" if deep else ""
            yield Piece("text", token.content, line, role)
        elif kind in ("softbreak", "hardbreak"):
            yield Piece("break", "", line)
            line += 1
        elif kind == "code_inline":
            yield Piece("code", token.content, line)
        elif kind.startswith("math") or kind == "amsmath":
            yield Piece("math", token.content, line)
            line += token.content.count("\n")
        elif kind == "myst_role":
            yield Piece("role", token.content, line, token.meta["name"])
            line += token.content.count("\n")
        elif kind == "image":
            yield Piece("image", str(token.attrs.get("src", "")), line)
            yield from pieces_of(token.children or [], line)
        elif kind == "link_open":
            yield Piece("link", str(token.attrs.get("href", "")), line)
        elif kind == "html_inline" or kind.startswith("substitution"):
            yield Piece("html", token.content, line)


def inline(text: str, line: int, kind: str) -> Passage:
    """A passage from a text that stands on a line of its own."""
    tokens = parser().parseInline(text)
    children = [child for token in tokens for child in token.children or []]
    return Passage(kind, line, tuple(pieces_of(children, line)))


def loaded(text: str) -> Any:
    """What YAML says; of what is none, the text itself."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def read_options(lines: list[str]) -> tuple[dict[str, Any], int]:
    """The options over a directive's body, and how many lines they take."""
    if lines and lines[0].strip() == "---":
        ends = [i for i, x in enumerate(lines[1:], 1) if x.strip() == "---"]
        end = ends[0] if ends else len(lines)
        found = loaded("\n".join(lines[1:end])) or {}
        known = isinstance(found, dict)
        return found if known else {UNREADABLE: found}, end + 1
    options, count = {}, 0
    for line in lines:
        name, colon, value = line.strip()[1:].partition(":")
        if not line.lstrip().startswith(":") or not colon or " " in name:
            break
        options[name] = value.strip()
        count += 1
    return options, count


def block_of(token: Token, above: int) -> Block:
    """The block that a fence's token stands for."""
    line = above + (token.map or [0])[0] + 1
    info = token.info.strip()
    directive = argument = language = ""
    options: dict[str, Any] = {}
    skip = 0
    if info.startswith("{"):
        directive, _, argument = info[1:].partition("}")
        options, skip = read_options(token.content.splitlines())
    else:
        language, _, argument = info.partition(" ")
    body = "\n".join(token.content.splitlines()[skip:])
    place = line + 1 + skip
    return Block(
        directive, language, argument.strip(), options, body, line, place
    )


@dataclass(frozen=True)
class Page:
    """A Markdown file, taken apart by its parser."""

    path: Path
    name: str
    text: str = field(repr=False)

    @cached_property
    def parts(self) -> tuple[list[Passage], list[Block], list[Token]]:
        """Passages, blocks and the tokens that are neither."""
        passages: list[Passage] = []
        blocks: list[Block] = []
        others: list[Token] = []
        self.take(self.text, 0, "", passages, blocks, others)
        return passages, blocks, others

    def take(
        self,
        text: str,
        above: int,
        box: str,
        passages: list[Passage],
        blocks: list[Block],
        others: list[Token],
    ) -> None:
        """Sort the tokens of `text`, which begins after line `above`."""
        kind = "paragraph"
        for token in parser().parse(text):
            line = above + (token.map or [0])[0] + 1
            if token.type in ("fence", "colon_fence"):
                block = block_of(token, above)
                blocks.append(block)
                self.enter(block, passages, blocks, others)
            elif token.type == "code_block":  # indented
                body = token.content.rstrip("\n")
                blocks.append(Block("", "", "", {}, body, line, line))
            elif token.type == "inline":
                pieces = tuple(pieces_of(token.children or [], line))
                passages.append(Passage(kind, line, pieces, box))
            elif token.type in ("math_block", "math_block_label", "amsmath"):
                piece = Piece("math", token.content, line)
                passages.append(Passage("formula", line, (piece,), box))
            elif token.type in ("heading_open", "td_open", "th_open"):
                if token.type == "heading_open":
                    others.append(token)
                kind = {"h": "heading", "t": "cell"}[token.type[0]]
            elif token.type == "paragraph_open" or token.type == "dt_open":
                kind = "paragraph"
            elif not token.type.endswith("_close"):
                others.append(token)

    def enter(
        self,
        block: Block,
        passages: list[Passage],
        blocks: list[Block],
        others: list[Token],
    ) -> None:
        """The prose of a directive: title, captions, and a Markdown body."""
        if not block.directive:
            return
        if block.argument and block.directive not in NAMED:
            passages.append(inline(block.argument, block.line, "title"))
        for option in ("caption", "alt"):
            if value := block.option(option):
                where = [
                    block.line + 1 + i
                    for i, line in enumerate(self.head(block))
                    if line.strip().lstrip(":").startswith(f"{option}:")
                ]
                line = where[0] if where else block.line
                passages.append(inline(str(value), line, option))
        if block.directive == "math":
            piece = Piece("math", block.body, block.start)
            passages.append(Passage("formula", block.start, (piece,)))
        if block.directive not in LITERAL:
            box, above = block.directive, block.start - 1
            self.take(block.body, above, box, passages, blocks, others)

    def head(self, block: Block) -> list[str]:
        """The lines between a block's fence and its body."""
        return self.text.splitlines()[block.line : block.start - 1]

    @property
    def passages(self) -> list[Passage]:
        """All prose of the page, that inside boxes too."""
        return self.parts[0]

    @property
    def blocks(self) -> list[Block]:
        """All fenced blocks of the page, those inside boxes too."""
        return self.parts[1]

    def named(self, directive: str) -> list[Block]:
        """The blocks of one directive."""
        return [b for b in self.blocks if b.directive == directive]

    def roles(self, *names: str) -> list[Piece]:
        """The roles of these names, anywhere in the page's prose."""
        return [
            piece
            for passage in self.passages
            for piece in passage.pieces
            if piece.role in names
        ]
