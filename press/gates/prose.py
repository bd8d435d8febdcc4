"""Gates on prose: where its numbers come from, its words, its characters.

The rule for numbers. A number in prose is a claim when somebody could have
measured it and it could be otherwise tomorrow:

- any decimal, percentage or number above twelve, in digits or in words;
- any amount of time, memory, money or loss, however small;
- any share or multiple: half, a third, twice, tenfold, two of the five.

A claim has its source in sight. It is glued (`{glue:text}`); or its own
sentence cites where it was read; or the page's code says the same number, as
a setting that decides the run or in an `assert` about it (an amount up to
twelve has to be glued); or a formula computes it before our eyes; or, for a
share or a multiple, the sentence has the glued numbers that it compares. What
an exercise assumes is no claim. What is left is in ``constants.yml``, each
with the reason why it cannot change. Counting what stands before the reader's
eyes (two matrices, the third line) is no claim.
"""

import ast
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from press.gates.arithmetic import verdict
from press.gates.book import Book, parse
from press.gates.chapters import cell_tree
from press.gates.code import assigned, constant, names_of
from press.gates.pages import Page, Piece
from press.sources import find

CONSTANTS = Path(__file__).parent / "constants.yml"
GLYPHS = set("–—…’“”‘×·≤≥≈→←↑↓±√Σσαβγεθλμπδτρφω∈∞−①②③✓✗²³₁₂ₙᵀĠ")
GLYPHS |= set("éèüöäßñÅÉ─│┌┐└┘├┤┬┴┼▁")
NEVER = (
    r"simply|obviously|powerful|dive in|let[’']s explore|delve|seamless\w*"
    r"|in this chapter we will|it[’']s important to note|leverag\w+"
)
NEVER_RE = re.compile(rf"\b(?:{NEVER})\b", re.I)
JUST = re.compile(r"\bjust (?:a|the|use|call|add|run|like|one)\b", re.I)

SMALL = ["one", "two", "three", "four", "five", "six", "seven", "eight"]
SMALL += ["nine", "ten", "eleven", "twelve"]
TEENS = ["thirteen", "fourteen", "fifteen", "sixteen", "seventeen"]
TEENS += ["eighteen", "nineteen"]
TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty"]
TENS += ["ninety"]
VALUES = {word: n for n, word in enumerate([*SMALL, *TEENS], 1)}
VALUES |= {word: 10 * n for n, word in enumerate(TENS, 2)}
SCALES = {"hundred": 100, "thousand": 1000, "million": 10**6}
SCALES |= {"billion": 10**9, "trillion": 10**12, "dozen": 12}
ONES = "|".join([*SMALL, *TEENS])
BELOW = rf"(?:(?:{'|'.join(TENS)})(?:-(?:{ONES}))?|{ONES})"
SCALE = "|".join(SCALES)
WORDS = rf"(?:{BELOW}(?: (?:{SCALE}))*|(?:{SCALE})(?: (?:{SCALE}))*)"
WORDS += rf"(?:(?<=hundred)(?: and)? {BELOW})?"
UNITS = (
    r"s|min|h|µs|seconds?|minutes?|hours?|days?|weeks?|ms|milliseconds?|microseconds?"
    r"|[KkMGT]i?B|kilobytes?|megabytes?|gigabytes?|terabytes?|nats?|dollars?"
    r"|euros?|FLOPs?|GHz|watts?|percent|per cent"
    r"|percentage points"
)
PARTS = "thirds?|quarters?|fifths?|sixths?|sevenths?|eighths?|ninths?|tenths?"
PARTS += "|hundredths?|thousandths?|millionths?"
MORE = "of|the|more|less|faster|slower|longer|shorter|larger|smaller|better"
MORE += "|worse|higher|lower|as|again|to|fewer|cheaper|that|than|its"

DIGITS = re.compile(
    r"(?<![\w.,/+#])(?<![A-Za-z]-)[−+-]?"
    r"(?P<n>\d+(?:,\d{3})*(?:\.\d+)?(?!\d)|\.\d+)(?P<e>e[−+-]?\d+\b)?"
    rf"(?P<u>\s?(?:%|×(?!\s?\d)|‰)|[ -]?(?:{UNITS})\b(?!-)|x\b|-?fold\b"
    rf"| times (?:{MORE})\b)?"
    rf"(?P<s>[kMB]\b|[ -](?:{SCALE})\b)?"
)
DECADE = re.compile(r"\d{4}s")
WRITTEN = re.compile(
    rf"\b(?P<n>{WORDS})\b(?P<u>[ -](?:{UNITS})\b| times (?:{MORE})\b)?", re.I
)
SHARE = re.compile(
    r"\b(?:"
    r"(?:about|nearly|almost|than|over) half"
    r"|(?<!first )(?<!second )(?<!other )(?<!right )(?<!left )"
    rf"half (?:{MORE})"
    rf"|half an? (?:{UNITS})"
    rf"|(?:a|one|two|three|four|five|six|seven|eight|nine)[ -](?:{PARTS})"
    rf"(?= (?:{MORE})\b|[.,;:]|$)"
    r"|twice (?:as|the|that|its|what|our|more)|doubled|tripled|halved"
    r"|quadrupled|thrice"
    rf"|(?:{'|'.join([*SMALL, *TEENS, *TENS, *SCALES])})-?fold"
    rf"|(?:{'|'.join(SMALL)}) in (?:every )?(?:{'|'.join(SMALL)})"
    rf"|(?:{'|'.join(SMALL)}) out of (?:{'|'.join(SMALL)})"
    rf"|(?:{'|'.join(SMALL)}) (?:out )?of (?:the|its|our|these|those|all) "
    rf"(?:{'|'.join(SMALL)})"
    r")\b"
    r"|(?<![\w./])\d+/\d+(?:,\d{3})*(?![\w/]|\.\w)|\d*[¼½¾⅐-⅞]",
    re.I,
)
YEAR = re.compile(r"(?:in|since|of|by|until|from|before|after|\() ?$", re.I)
NAMED = re.compile(
    r"(?:Llama|Python|GPT|Qwen|Unicode|PyTorch|version|chapter|section|page|"
    r"lines?|step|row|column|layer|head|position|token|byte|bit|epoch|level|"
    r"rung|seed|exercise|part|track|Pythia|Gemma|Mistral|rule|"
    r"number|rank|place|index|OPT|PaLM|Chapter|Section|Listing|Figure)s?"
    r"(?: \d[\d,]*(?:[ ,]+(?:\d[\d,]*|to|and|or))*)? ?$",
    re.I,
)
SIZED = re.compile(r"(?:Llama|GPT|Qwen|Pythia|Gemma|Mistral)[ -]?[\d.]* ?$")
# "in 1934 stories" is no year: a word in the plural follows, and no verb.
MANY = re.compile(r" (?!was|is|has|as|its|this|does|thus)[a-z]+s\b")


NAMES = ("heading", "title")  # where a share is a manner of speaking


@dataclass(frozen=True)
class Claim:
    """A number in prose: what is written, what it says, where."""

    text: str
    value: float | None  # None: a share or a multiple
    kind: str  # plain, measured, share
    start: int
    line: int


# --- numbers -----------------------------------------------------------------


GLUED, CITED, OTHER, CODE = "\ue000", "\ue001", "\ue002", "\ue003"


def written(piece: Piece) -> str:
    """What a piece of prose contributes to the text that is searched.

    Roles are single marks; code and mathematics that are nothing but a
    number stay numbers.
    """
    if piece.kind == "text":
        return piece.text
    if piece.kind == "break":
        return " "
    if piece.kind == "link" and piece.text.startswith("http"):
        return CITED
    if piece.kind == "role":
        return {"glue": GLUED, "cite": CITED}.get(
            piece.role.partition(":")[0], OTHER
        )
    if piece.kind == "code":
        return piece.text.strip() if is_number(piece.text) else CODE
    if piece.kind == "math":
        text = piece.text.replace("\\,", "").replace("{,}", ",").strip()
        text = text.replace("\\times", "×").replace("\\%", "%")
        return text if is_number(text) else ""
    return ""


def is_number(code: str) -> bool:
    """Whether a piece of code is a number, with or without a unit."""
    text = re.sub(r"^[~±≈]|^\\approx\s*", "", code.strip())
    found = DIGITS.match(text)
    return found is not None and found.end() == len(text)


STOP = re.compile(r"[.!?:]['”\")*]*\s+(?=\W*[A-Z\ue000-\ue003])")


def sentences(text: str) -> Iterator[tuple[int, str]]:
    """The sentences of a text, each with its place."""
    start = 0
    for stop in STOP.finditer(text):
        yield start, text[start : stop.end()]
        start = stop.end()
    yield start, text[start:]


def value_of(words: str) -> float:
    """What a number in words says: "twenty-four", "two hundred and six"."""
    total = current = 0
    for word in re.split(r"[ -]", words.lower()):
        if word in SCALES:
            current = max(current, 1) * SCALES[word]
            if SCALES[word] >= 1000:
                total, current = total + current, 0
        elif word in VALUES:
            current += VALUES[word]
    return float(total + current)


def digits_value(found: re.Match[str]) -> float:
    """What a number in digits says: "3e-4", "1,024", "124 million"."""
    exponent = (found["e"] or "").replace("−", "-")
    scale = (found["s"] or "").strip(" -")
    value = float(found["n"].replace(",", "") + exponent)
    return value * (SCALES | {"": 1, "k": 1e3, "M": 1e6, "B": 1e9})[scale]


def claims(sentence: str) -> Iterator[Claim]:
    """The numbers of a sentence that need a source."""
    taken: list[range] = []
    for found in SHARE.finditer(sentence):
        taken.append(range(*found.span()))
        yield Claim(found[0], None, "share", found.start(), 0)
    for found in DIGITS.finditer(sentence):
        value = digits_value(found)
        before, after = sentence[: found.start()], sentence[found.end() :]
        if DECADE.fullmatch(found[0]):
            continue
        if found["u"]:
            unit = found["u"].lstrip(" -")
            share = unit[:5] == "times" or unit in ("x", "fold")
            kind = "share" if share else "measured"
            yield Claim(found[0], value, kind, found.start(), 0)
        elif found["s"]:
            if not SIZED.search(before):
                yield Claim(found[0], value, "plain", found.start(), 0)
        elif value != int(value) or (value > 12 and not NAMED.search(before)):
            year = found["n"].isdigit() and 1600 <= value < 2100
            year = year and bool(YEAR.search(before)) and not MANY.match(after)
            if not year:
                yield Claim(found[0], value, "plain", found.start(), 0)
    for found in WRITTEN.finditer(sentence):
        if any(found.start() in span for span in taken):
            continue
        value = value_of(found["n"])
        if found["u"]:
            kind = "share" if " times " in found["u"] else "measured"
            yield Claim(found[0], value, kind, found.start(), 0)
        elif value > 12 and found["n"].lower() not in SCALES:
            yield Claim(found[0], value, "plain", found.start(), 0)


def formula_numbers(text: str) -> set[float]:
    """The numbers that a formula is written with."""
    text = text.replace("{,}", "").replace("\\,", "")
    text = re.sub(r"\\[td]?frac(\d)(\d)", r" \1 / \2 ", text)
    text = re.sub(r"\\[A-Za-z]+", " ", text)
    return {float(n) for n in re.findall(r"(?<![.\d])\d+(?:\.\d+)?", text)}


def in_formula(piece: Piece) -> Iterator[Claim]:
    """The numbers of a formula that we cannot recompute."""
    right = verdict(piece.text)
    if right is False:
        yield Claim(f"${piece.text}$", None, "wrong", 0, piece.line)
    elif right is None:
        for value in sorted(formula_numbers(piece.text)):
            if value != int(value) or value > 12:
                yield Claim(f"{value:g}", value, "plain", 0, piece.line)


# --- what a page's code says -------------------------------------------------


def literals(tree: ast.Module, strings: bool, idle: set[int]) -> set[float]:
    """The numbers that a piece of code says, in products and powers too."""
    found: set[float] = set()
    for node in ast.walk(tree):
        if id(node) in idle:
            continue
        if isinstance(node, ast.Constant):
            if isinstance(node.value, int | float):
                found.add(float(node.value))
            elif isinstance(node.value, str) and strings:
                numbers = re.findall(r"\d+(?:\.\d+)?", node.value)
                found |= {float(number) for number in numbers}
        elif isinstance(node, ast.BinOp):
            try:
                expression = ast.Expression(node)
                parts = [n for n in ast.walk(node) if isinstance(n, ast.expr)]
                if all(isinstance(p, ast.Constant | ast.BinOp) for p in parts):
                    found.add(float(folded(expression.body)))
            except (ValueError, TypeError, OverflowError, ZeroDivisionError):
                continue
    return found


def idle(tree: ast.Module, uses: dict[str, int]) -> set[int]:
    """The parts of code that decide nothing: of names that nobody reads."""
    found: set[int] = set()
    for node in ast.walk(tree):
        alone = isinstance(node, ast.Expr) and constant(node.value)
        if isinstance(node, ast.Assign | ast.AnnAssign):
            names = [name for name, _ in assigned(node)]
            alone = bool(names) and not any(uses.get(name) for name in names)
        if alone:
            found |= {id(part) for part in ast.walk(node)}
    return found


def folded(node: ast.expr) -> float:
    """The value of an expression of constants."""
    if isinstance(node, ast.Constant):
        return node.value  # type: ignore[return-value]
    assert isinstance(node, ast.BinOp)
    left, right = folded(node.left), folded(node.right)
    if isinstance(node.op, ast.Add):
        return left + right
    if isinstance(node.op, ast.Sub):
        return left - right
    if isinstance(node.op, ast.Mult):
        return left * right
    if isinstance(node.op, ast.Div):
        return left / right
    if isinstance(node.op, ast.Pow) and abs(right) < 64:
        return left**right
    raise ValueError("no such operator")


@lru_cache(maxsize=256)
def said(page: Page) -> set[float]:
    """All numbers that the code on a page says: cells and listings."""
    found: set[float] = set()
    cells = [cell_tree(block) for block in page.named("code-cell")]
    _, uses = names_of(cells)
    for tree in cells:
        found |= literals(tree, True, idle(tree, uses))
    for block in page.blocks:
        if block.directive == "listing":
            try:
                part = str(block.option("part") or "")
                text = find(block.argument, part).text
                found |= literals(parse(text), False, set())
            except (LookupError, SyntaxError):
                continue
        elif not block.directive:
            numbers = re.findall(r"\d+(?:\.\d+)?", block.body)
            found |= {float(number) for number in numbers}
    for passage in page.passages:
        for piece in passage.pieces:
            if piece.kind == "math" and verdict(piece.text):
                found |= formula_numbers(piece.text)
            if piece.kind == "code":
                numbers = re.findall(r"\d+(?:\.\d+)?(?:e-?\d+)?", piece.text)
                if not is_number(piece.text):
                    found |= {float(number) for number in numbers}
    return found


@lru_cache(maxsize=4)
def constants(text: str) -> dict[str, Any]:
    """The list of numbers that cannot change, with reasons."""
    return yaml.safe_load(text) or {}


def asked(page: Page) -> set[float]:
    """The numbers that a chapter's exercises assume."""
    found: set[float] = set()
    for passage in page.passages:
        if passage.box == "exercise":
            text, _ = passage.flat(written)
            found |= {
                digits_value(match) for match in DIGITS.finditer(text)
            }
            found |= {value_of(m["n"]) for m in WRITTEN.finditer(text)}
            for piece in passage.pieces:
                if piece.kind == "math":
                    found |= formula_numbers(piece.text)
    return found


def sourceless(
    page: Page, allowed: dict[str, str], given: set[float]
) -> Iterator[Claim]:
    """The page's claims that are not glued, cited, set or constant."""
    known = said(page) | given
    own = set(allowed)
    for passage in page.passages:
        if passage.box == "exercise":
            continue  # what a task assumes is no claim
        text, lines = passage.flat(written)
        whole = " ".join(text.split())
        for start, sentence in sentences(text):
            if CITED in sentence:
                continue
            for claim in claims(sentence):
                if claim.kind == "share" and GLUED in sentence:
                    continue
                if claim.kind == "plain" and claim.value in known:
                    continue
                large = claim.kind == "measured" and (claim.value or 0) > 12
                if large and claim.value in known:
                    continue
                if claim.kind == "share" and passage.kind in NAMES:
                    continue
                what = claim.text.strip()
                if any(what in phrase and phrase in whole for phrase in own):
                    continue
                line = lines[start + claim.start]
                yield Claim(claim.text, claim.value, claim.kind, 0, line)
        for piece in passage.pieces:
            if piece.kind != "math" or written(piece):
                continue
            for claim in in_formula(piece):
                if claim.value not in known and claim.text not in allowed:
                    yield claim


def numbers(book: Book) -> list[str]:
    """Every number that is a claim is glued, cited, set, or a constant."""
    listed = constants(book.read("press/gates/constants.yml"))
    everywhere = listed.get("everywhere") or {}
    problems = []
    for page in book.pages.values():
        own = (listed.get("pages") or {}).get(page.name) or {}
        given: set[float] = set()
        if "/solutions/" in page.name:  # the exercise's numbers are its own
            topic = book.roadmap.by_id.get(page.path.stem)
            chapter = topic and book.pages.get(topic.files["chapter"])
            if chapter:
                given = asked(chapter) | said(chapter)
        for claim in sourceless(page, {**everywhere, **own}, given):
            where = f"{page.name}:{claim.line}"
            why = "is wrong" if claim.kind == "wrong" else "comes from nowhere"
            problems.append(f"{where}: {claim.text.strip()} {why}")
    return problems


# --- words and characters ----------------------------------------------------


def words(book: Book) -> list[str]:
    """No filler, no hype."""
    problems = []
    for page in book.pages.values():
        for passage in page.passages:
            for pattern in (NEVER_RE, JUST):
                for found in pattern.finditer(passage.words):
                    line = passage.line_of(found.start())
                    problems.append(f"{page.name}:{line}: “{found[0]}”")
    return problems


def glyphs(book: Book) -> list[str]:
    """Only characters that the fonts of the PDF have."""
    problems = []
    paths = [*book.pages, *book.files("src", "solutions")]
    for name in paths:
        for number, line in enumerate(book.read(name).splitlines(), 1):
            for c in sorted(set(line)):
                if ord(c) > 126 and c not in GLYPHS:
                    title = unicodedata.name(c, repr(c))
                    problems.append(f"{name}:{number}: {c} ({title})")
    return problems
