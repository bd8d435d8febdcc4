"""Gates on chapters: their parts, their figures, and what they show."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator, Mapping
from functools import lru_cache

import tomllib
import yaml

from press.gates.book import PACKAGES, Book, parse
from press.gates.pages import Block, Page
from press.sources import find

HEAD = {"file_format", "kernelspec"}  # what a page's front matter may say
BREAKS = {"\\bookfacing", "\\clearpage", "\\newpage"}
ONE_OUTPUT = {"only", "ifconfig", "eval-rst", "include"}
DRAWS = {"figure", "canvas", "subplots", "imshow", "matshow", "Digraph"}
NO_PICTURE = re.compile(
    r"(?:an? |the |this )?(?:figure|image|picture|photo|screenshot)\b"
    r"|\S+\.(?:png|svg|pdf)\b",
    re.I,
)
MARKUP = {"HTML", "Markdown", "Latex", "Image", "SVG", "Javascript", "IFrame"}


def chapters(book: Book) -> list[str]:
    """Each chapter has its label, title, card, check and a figure."""
    problems = [p for page in book.pages.values() for p in steps(page)]
    for topic in book.roadmap.topics:
        page = book.pages.get(topic.files["chapter"])
        if page is None:
            continue
        if (topic.id, topic.title) not in labelled(page):
            problems.append(
                f"{page.name}: no ({topic.id})= over # {topic.title}"
            )
        for kind in ("topic", "check"):
            if [b.argument for b in page.named(kind)] != [topic.id]:
                problems.append(f"{page.name}: needs one {{{kind}}} {topic.id}")
        if not any(calls(cell, "setup") for cell in page.named("code-cell")):
            problems.append(f"{page.name}: no cell calls drawing.setup()")
        if not any(b.option("caption") for b in page.named("code-cell")):
            problems.append(f"{page.name}: holds no figure")
    return problems


def steps(page: Page) -> list[str]:
    """Headings that skip a level, and pages with more than one title."""
    problems = []
    level = 0
    for token in page.parts[2]:
        if token.type != "heading_open":
            continue
        now = int(token.tag[1:])
        where = f"{page.name}:{(token.map or [0])[0] + 1}"
        if now > level + 1:
            problems.append(f"{where}: a heading skips from {level} to {now}")
        if now == 1 and level:
            problems.append(f"{where}: a second title")
        level = now
    return problems


def labelled(page: Page) -> set[tuple[str, str]]:
    """The page's headings with the label over each."""
    labels = {
        (token.map or [0])[0] + 2: token.content
        for token in page.parts[2]
        if token.type == "myst_target"
    }
    return {
        (labels[passage.line], passage.words)
        for passage in page.passages
        if passage.kind == "heading" and passage.line in labels
    }


def cell_tree(block: Block) -> ast.Module:
    """A cell's syntax tree; an empty one where it is no Python."""
    try:
        return parse(block.body)
    except SyntaxError:
        return parse("")


def called(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """The last name of each call in a tree, and the call."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", None)
            yield str(name or getattr(node.func, "id", "")), node


def calls(cell: Block, name: str) -> bool:
    """Whether a cell calls something of this name."""
    return any(found == name for found, _ in called(cell_tree(cell)))


# --- what the book shows of the library --------------------------------------


def shown(book: Book) -> list[str]:
    """Every definition is shown, or listed as left out, with a reason."""
    whole: set[str] = set()
    heads: set[str] = set()
    for page in book.pages.values():
        for block in page.named("listing"):
            kind = heads if block.option("part") == "head" else whole
            kind.add(block.argument)
    text = book.read("book/omitted.yml")
    omitted = yaml.safe_load(text) or {}
    root = yaml.compose(text)
    names = [key.value for key, _ in root.value] if root else []
    problems = [
        f"omitted.yml: {name} stands twice"
        for name in sorted({n for n in names if names.count(n) > 1})
    ]
    for name in book.symbols:
        owner = name.rpartition(".")[0]
        if name in whole | heads or owner in whole:
            continue
        if any(covers(other, name) for other in omitted):
            continue
        if any(covers(name, other) for other in whole):
            continue  # a class whose methods are shown one by one
        problems.append(f"{name} is neither shown nor in omitted.yml")
    problems += [
        f"{name} is shown, and is not there" for name in unknown(whole | heads)
    ]
    return problems + reasons(book, omitted, whole)


def unknown(listed: set[str]) -> list[str]:
    """The listings of what no source defines."""
    missing = []
    for name in sorted(listed):
        try:
            find(name)
        except LookupError:
            missing.append(name)
    return missing


def untested(book: Book, missing: Mapping[str, list[int]]) -> list[str]:
    """The lines of Python in the listings that no test runs.

    `missing` names such lines of each file that was measured.
    """
    found = []
    for page in book.pages.values():
        for block in page.named("listing"):
            shown = find(block.argument, block.option("part") or "")
            lines = range(shown.first, shown.last + 1)
            if shown.path.suffix != ".py":
                continue
            found += [
                f"{page.name}:{block.line}: {shown.file}:{line} is shown, "
                "but no test runs it"
                for line in missing.get(shown.file, lines)
                if line in lines
            ]
    return found


def covers(symbol: str, other: str) -> bool:
    """Whether `symbol` is `other`, its class or its module."""
    return symbol == other or other.startswith(symbol + ".")


def reasons(
    book: Book, omitted: dict[str, object], whole: set[str]
) -> list[str]:
    """What is wrong with the list of what is left out."""
    problems = []
    known = vocabulary(book)
    modules = {symbol.module for symbol in book.symbols.values()}
    seen: dict[str, str] = {}
    for symbol, reason in omitted.items():
        why = " ".join(str(reason).split())
        where = f"omitted.yml: {symbol}"
        said = [word.lower() for word in letters(why) if len(word) > 3]
        strange = [word for word in said if word not in known]
        if len(set(said)) < 4 or len(strange) > len(said) / 2:
            problems.append(f"{where} needs a reason, not “{why}”")
        if why in seen:
            problems.append(f"{where} has the reason of {seen[why]}")
        seen[why] = symbol
        folder = "src/" + symbol.replace(".", "/")
        if book.files(folder):
            problems.append(f"{where} is a package: name what is left out")
        if symbol in whole or symbol.rpartition(".")[0] in whole - modules:
            problems.append(f"{where} is shown after all")
        if not any(covers(symbol, name) for name in book.symbols):
            problems.append(f"omitted.yml: there is no {symbol}")
    return problems


def letters(text: str) -> list[str]:
    """The words of a text, without what is not letters."""
    kept = "".join(c if c.isalpha() else " " for c in text)
    return kept.split()


def vocabulary(book: Book) -> set[str]:
    """The words of the book's prose and of the library's docstrings."""
    found: set[str] = set()
    for page in book.pages.values():
        for passage in page.passages:
            found |= {word.lower() for word in letters(passage.words)}
    for name in book.files("src/scratchlm"):
        found |= told(book.read(name))
    return found


@lru_cache(maxsize=512)
def told(text: str) -> frozenset[str]:
    """The words of a module's texts."""
    return frozenset(
        word.lower()
        for node in ast.walk(parse(text))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        for word in letters(node.value)
    )


def covered(book: Book) -> list[str]:
    """No line that the book may show is taken out of the coverage."""
    problems = []
    for name in book.files(*PACKAGES):
        text = book.read(name)
        if "pragma" not in text.lower():
            continue
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            words = token.string.lower()
            if token.type == tokenize.COMMENT and "pragma" in words:
                problems.append(f"{name}:{token.start[0]}: {token.string}")
    tools = tomllib.loads(book.read("pyproject.toml")).get("tool", {})
    for part in tools.get("coverage", {}).values():
        problems += [
            f"pyproject.toml: {option} hides lines from tests"
            for option in part
            if option.startswith(("exclude", "partial", "omit", "include"))
        ]
    for name in (".coveragerc", "setup.cfg", "tox.ini"):
        if book.exists(name):
            problems.append(f"{name} could hide lines from the tests")
    return problems


# --- figures -----------------------------------------------------------------


def figures(book: Book) -> list[str]:
    """Each figure once, in every output, with words for who cannot see it."""
    problems = []
    names: dict[str, str] = {}
    drawings: dict[str, str] = {}
    for page in book.pages.values():
        draws = DRAWS | drawing_functions(page)
        for block in page.blocks:
            where = f"{page.name}:{block.line}"
            if block.directive in ONE_OUTPUT or raw(block):
                problems.append(f"{where}: only in one output")
            if block.directive == "code-cell":
                problems += pictures(block, where, draws)
            if block.directive in ("figure", "image", "code-cell"):
                problems += twice(block, where, names, drawings)
                problems += described(block, where)
        problems += embedded(page)
    return problems


def raw(block: Block) -> bool:
    """Whether a block is markup of one output, beyond a break of pages."""
    return block.directive == "raw" and block.body.strip() not in BREAKS


def drawing_functions(page: Page) -> set[str]:
    """The functions of a page that draw, themselves or through others."""
    functions = {
        node.name: {name for name, _ in called(node)}
        for block in page.named("code-cell")
        for node in ast.walk(cell_tree(block))
        if isinstance(node, ast.FunctionDef)
    }
    found: set[str] = set()
    while more := {
        name
        for name, calls in functions.items()
        if name not in found and calls & (DRAWS | found)
    }:
        found |= more
    return found


def pictures(block: Block, where: str, draws: set[str]) -> list[str]:
    """A cell that draws is a figure: with name, caption and alternative."""
    if {"remove-cell", "remove-output"} & set(block.tags):
        return []
    problems = []
    for name, call in called(outside(cell_tree(block))):
        owner = getattr(call.func, "value", None)
        plots = owner is not None and ast.unparse(owner).endswith("plt")
        if name in MARKUP:
            problems.append(f"{where}: {name} is shown in one output only")
        elif (name in draws or plots) and block.option("figure") is None:
            why = "draws, and is no figure: no name, caption, alt"
            problems.append(f"{where}: {why}")
    return problems[:1]


def outside(tree: ast.Module) -> ast.Module:
    """What a cell does at once: its statements that define nothing."""
    body = [
        node
        for node in tree.body
        if not isinstance(node, ast.FunctionDef | ast.ClassDef)
    ]
    return ast.Module(body, [])


def described(block: Block, where: str) -> list[str]:
    """What is wrong with the words that stand for a picture."""
    if block.directive == "code-cell" and block.option("figure") is None:
        return []
    alt = " ".join(str(block.option("alt") or "").split())
    if not alt:
        return [f"{where}: a figure without alt text"]
    if len(alt.split()) < 5 or NO_PICTURE.match(alt):
        return [f"{where}: “{alt}” does not say what there is to see"]
    caption = str(block.option("caption") or block.body)
    if letters(alt.lower()) == letters(caption.lower()):
        return [f"{where}: the alt text repeats the caption"]
    return []


def twice(
    block: Block, where: str, names: dict[str, str], drawings: dict[str, str]
) -> list[str]:
    """Whether a figure's name or its drawing has been there before."""
    if block.directive == "code-cell" and block.option("figure") is None:
        return []
    problems = []
    code = ast.dump(cell_tree(block)) if block.body else block.argument
    for key, seen in ((block.option("name"), names), (code, drawings)):
        if key and str(key) in seen:
            problems.append(f"{where}: the figure of {seen[str(key)]}, again")
        seen.setdefault(str(key), where)
    return problems


def embedded(page: Page) -> list[str]:
    """Pictures and HTML within a paragraph, and glued figures."""
    problems = []
    for passage in page.passages:
        for piece in passage.pieces:
            where = f"{page.name}:{piece.line}"
            if piece.kind == "html" or piece.role.startswith("raw"):
                problems.append(f"{where}: only in one output: {piece.text}")
            if piece.kind == "image":
                problems.append(f"{where}: a picture that no cell draws")
            if piece.role.startswith("glue") and piece.role != "glue:text":
                problems.append(f"{where}: glue:text glues, no other role")
    for token in page.parts[2]:
        line = (token.map or [0])[0] + 1
        if token.type == "html_block":
            problems.append(f"{page.name}:{line}: only in one output")
        if token.type == "front_matter":
            told = yaml.safe_load(token.content) or {}
            for key in sorted(set(told) - HEAD):
                problems.append(f"{page.name}:1: {key} in the page's head")
    return problems
