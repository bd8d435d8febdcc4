"""The gate on terms: nothing is used before it is explained.

Three kinds of things have to be known before they are used. A *term* stands
in the glossary, which names the pages that explain it. A *symbol* is a letter
in a formula: the table of notation names the page that explains it, or the
page itself says what it is. A *name* is a definition of the library that a
printed cell uses: a listing shows it, or a sentence speaks of it.

The pages are walked in the order of the book, in that of each track, which
leaves pages out, and as the edition for each track has them, which leaves out
sections, too. On a page before its explanation a term is used only
after a link to the glossary, in the same sentence or before it; and a page
that explains a term says so, in italics, in a heading or by a link, before it
uses the term. Words that are a term in one sense and everyday English in
another one are listed in ``terms.yml``, by the phrases that are meant, each
with its reason.
"""

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from press.gates.book import Book
from press.gates.book import page as read_page
from press.gates.chapters import cell_tree
from press.gates.pages import Page, Passage, Piece
from press.gates.prose import sentences
from press.roadmap import TRACKS, contents
from press.tracks import blank

FIRST = "book/index.md"
GLOSSARY = "book/appendix/glossary.md"
NOTATION = "book/appendix/notation.md"
EXCEPTIONS = Path(__file__).parent / "terms.yml"
SELF_TEST = "Can you skip this?"  # asks for what its page goes on to explain
LINK, MARK = "\ue002", "\ue003"  # a link to the glossary; anything else

Reading = list[tuple[str, bool]]  # pages in order; whether a track may skip


@dataclass(frozen=True)
class Entry:
    """A term of the glossary: its names, and the topics that explain it."""

    names: tuple[str, ...]
    refs: tuple[str, ...]
    line: int
    alias: bool  # of a name that only other books use


@dataclass(frozen=True)
class Event:
    """Something that a page does with a term or a symbol, and where."""

    kind: str  # use, link, or intro
    name: str
    place: tuple[int, int]  # passage, and sentence in it
    line: int


def terms(book: Book) -> list[str]:
    """No term, symbol or name is used before it is explained, on any way."""
    entries = glossary(book)
    problems = unexplained(book, entries) + unlettered(book)
    problems += stale(book, entries)
    seen: set[str] = set()
    ways = [
        ("book" if walk == "book" else f"track {walk}", book, way)
        for walk, way in readings(book).items()
    ]
    ways += [(f"{t}'s edition", *edition(book, t)) for t in TRACKS]
    for walk, there, reading in ways:
        found = [
            *early_terms(there, entries, reading),
            *early_symbols(there, reading),
            *early_names(there, reading),
        ]
        whom = "" if walk == "book" else f", in the {walk}"
        problems += [text + whom for text in found if text not in seen]
        seen.update(found)
    return problems


# --- the ways through the book -----------------------------------------------


def readings(book: Book) -> dict[str, Reading]:
    """The pages in order, for the whole book and for each track.

    A track leaves out what it skims; its optional pages are walked, but
    nothing that is not optional may build on them.
    """
    pages = in_order(book, "")
    topics = {t.files["chapter"]: t for t in book.roadmap.topics}
    ways: dict[str, Reading] = {"book": [(page, False) for page in pages]}
    for track in TRACKS:
        depth = {p: t.tracks[track] for p, t in topics.items()}
        ways[track] = [
            (page, depth.get(page) == "optional")
            for page in pages
            if depth.get(page) != "skim"
        ]
    return {
        walk: [(page, may) for page, may in way if page in book.pages]
        for walk, way in ways.items()
    }


def in_order(book: Book, track: str) -> list[str]:
    """The pages before the appendix, of the book or of an edition."""
    toc = contents(book.roadmap, track)
    files = [toc["root"]]
    files += [x["file"] for part in toc["parts"] for x in part["chapters"]]
    return [f"{x}.md" for x in files if not x.startswith("book/appendix/")]


def edition(book: Book, track: str) -> tuple[Book, Reading]:
    """The book as the edition for a track has it, and its pages in order."""
    pages = [x for x in in_order(book, track) if x in book.pages]
    texts = {name: book.pages[name].text for name in pages}
    short = {name: blank(text, track) for name, text in texts.items()}
    changed = {name: x for name, x in short.items() if x != texts[name]}
    there = replace(book, changes={**book.changes, **changed})
    return there, [(name, False) for name in pages]


def before(reading: Reading, place: int) -> list[str]:
    """The pages on which the one at `place` can build."""
    optional = reading[place][1]
    return [page for page, may in reading[:place] if optional or not may]


def page_of(book: Book, ref: str) -> str:
    """The page that a reference leads to."""
    topic = book.roadmap.by_id.get(ref)
    return topic.files["chapter"] if topic else f"book/start/{ref}.md"


# --- terms -------------------------------------------------------------------


def glossary(book: Book) -> list[Entry]:
    """The entries of the glossary."""
    text = book.read(GLOSSARY)
    whole = read_page(book.root / GLOSSARY, GLOSSARY, text)
    block = whole.named("glossary")[0]
    found: list[tuple[list[str], str, int]] = []
    fresh = True
    for number, line in enumerate(block.lines, block.start):
        if not line.strip():
            fresh = True
        elif not line.startswith(" "):
            if fresh:
                found.append(([], "", number))
            found[-1][0].append(line.strip())
            fresh = False
        else:
            names, body, start = found[-1]
            found[-1] = (names, body + line, start)
    return [
        Entry(
            tuple(names),
            tuple(re.findall(r"\{ref\}`(\w+)`", body)),
            start,
            body.lstrip().startswith("Another name"),
        )
        for names, body, start in found
    ]


def unexplained(book: Book, entries: list[Entry]) -> list[str]:
    """Entries without a page, and pages that never speak of the term."""
    problems = []
    words = vocabulary(tuple(entries))
    for entry in entries:
        where, term = f"{GLOSSARY}:{entry.line}", entry.names[0]
        if not entry.refs:
            problems.append(f"{where}: {term} names no page")
        for ref in entry.refs:
            page = book.pages.get(page_of(book, ref))
            if page is None:
                if not book.exists(page_of(book, ref)):
                    problems.append(f"{where}: {ref} explains nothing")
            elif not entry.alias and not speaks(page, entry, words):
                problems.append(f"{where}: {ref} does not speak of {term}")
    return problems


def early_terms(
    book: Book, entries: list[Entry], reading: Reading
) -> Iterator[str]:
    """Terms that a page uses before they are explained."""
    words = vocabulary(tuple(entries))
    explain = {
        e.names[0]: {page_of(book, ref) for ref in e.refs} for e in entries
    }
    for place, (name, _) in enumerate(reading):
        earlier = set(before(reading, place))
        known = {
            entry.names[0]
            for entry in entries
            for page in explain[entry.names[0]] & earlier
            if entry.alias or speaks(book.pages[page], entry, words)
        }
        for event in happenings(book.pages[name], words):
            if event.name in known or name in exceptions().get(event.name, {}):
                continue
            explains = name in explain[event.name]
            if event.kind == "link" or (explains and event.kind == "intro"):
                known.add(event.name)
            elif event.kind == "use":
                known.add(event.name)  # once is enough
                page = "this page" if explains else "a page"
                what = f"{event.name} is used before {page} explains it"
                yield f"{name}:{event.line}: {what}"


def plurals(name: str) -> set[str]:
    """A term in its singular and plural."""
    if re.search(r"[^aeiou]y$", name):
        return {name, name[:-1] + "ies"}
    if name.endswith("is"):
        return {name, name[:-2] + "es"}
    return {name, name + ("es" if re.search(r"(s|x|ch|sh)$", name) else "s")}


@dataclass(frozen=True, eq=False)
class Words:
    """The forms of all terms: a pattern, and the term of each form."""

    pattern: re.Pattern[str]
    term: Mapping[str, str]
    everyday: re.Pattern[str]

    def of(self, form: str) -> str:
        """The term of a form, "" if there is none."""
        form = " ".join(form.split())
        return self.term.get(form) or self.term.get(form.lower(), "")

    def found(self, text: str) -> Iterator[tuple[int, str]]:
        """The terms in a text that are meant as such, with their places."""
        common = [m.span() for m in self.everyday.finditer(text)]
        for match in self.pattern.finditer(text):
            start, end = match.span()
            if not any(a <= start and end <= b for a, b in common):
                yield start, self.of(match[0])


def spaced(form: str) -> str:
    """A pattern for a form, whatever the spaces in it are."""
    return r"\s+".join(re.escape(word) for word in form.split())


@lru_cache(maxsize=4)
def vocabulary(entries: tuple[Entry, ...]) -> Words:
    """The forms of the glossary's terms."""
    term: dict[str, str] = {}
    for entry in entries:
        for name in entry.names:
            for form in plurals(name):
                term.setdefault(form, entry.names[0])
    forms = [
        spaced(f) if any(c.isupper() for c in f) else f"(?i:{spaced(f)})"
        for f in sorted(term, key=len, reverse=True)
    ]
    phrases = [
        spaced(p) if any(c.isupper() for c in p) else f"(?i:{spaced(p)})"
        for group in exceptions().values()
        for p in group
        if not p.endswith(".md")
    ]
    pattern = re.compile(rf"(?<![\w-])(?:{'|'.join(forms)})(?![\w-])")
    common = re.compile("|".join(phrases) or r"(?!)")
    return Words(pattern, term, common)


@lru_cache(maxsize=1)
def exceptions() -> dict[str, dict[str, str]]:
    """Term → phrase (or page) in which it is no term → why."""
    return yaml.safe_load(EXCEPTIONS.read_text(encoding="utf-8")) or {}


def stale(book: Book, entries: list[Entry]) -> list[str]:
    """Exceptions without a reason, and those that nothing needs any more."""
    problems = []
    names = {entry.names[0] for entry in entries}
    words = vocabulary(tuple(entries))
    said = " ".join(text_of(page) for page in book.pages.values())

    def happen(name: str) -> tuple[Event, ...]:
        return happenings(book.pages[name], words)

    for term, phrases in exceptions().items():
        if term not in names:
            problems.append(f"terms.yml: {term} is not in the glossary")
        for phrase, reason in phrases.items():
            if len(str(reason).split()) < 3:
                problems.append(f"terms.yml: “{phrase}” needs a reason")
            if len(book.pages) < 9:
                continue  # a test looks at few pages
            if phrase in book.pages:
                if not any(e.name == term for e in happen(phrase)):
                    problems.append(f"terms.yml: no {term} in {phrase}")
            elif phrase.lower() not in said:
                problems.append(f"terms.yml: no page says “{phrase}”")
    return problems


@lru_cache(maxsize=512)
def text_of(page: Page) -> str:
    """All prose of a page, in small letters, with single spaces."""
    texts = [passage.flat(shown)[0] for passage in page.passages]
    return " ".join(" ".join(texts).split()).lower()


@lru_cache(maxsize=512)
def happenings(page: Page, words: Words) -> tuple[Event, ...]:
    """What a page does with terms, in order; links and intros before uses."""
    tests = [
        range(block.line, block.start + len(block.lines) + 1)
        for block in page.named("aside")
        if block.argument == SELF_TEST
    ]
    events: list[Event] = []
    for number, passage in enumerate(page.passages):
        title = page.name == FIRST and number == 0  # of the book, from book.yml
        alt = passage.kind == "alt"
        if not (title or alt or any(passage.line in t for t in tests)):
            events += passing(number, passage, words)
    order = ("link", "intro", "use")
    return tuple(sorted(events, key=lambda e: (e.place, order.index(e.kind))))


def speaks(page: Page, entry: Entry, words: Words) -> bool:
    """Whether a page uses a term, or one of its names in code."""
    return any(e.name == entry.names[0] for e in happenings(page, words)) or (
        any(name in page.text for name in entry.names)
    )


def passing(number: int, passage: Passage, words: Words) -> Iterator[Event]:
    """What a passage does with terms."""
    text, lines = passage.flat(shown)
    cuts = [start for start, _ in sentences(text)]

    def event(kind: str, term: str, at: int) -> Event:
        sentence = sum(cut <= at for cut in cuts)
        return Event(kind, term, (number, sentence), lines[at])

    for at, term in words.found(text):
        yield event("use", term, at)
        if passage.kind in ("heading", "title"):
            yield event("intro", term, at)
    for at, kind, said in marked(passage):
        if kind == "link" and (term := words.of(said)):
            yield event("link", term, at)
        elif kind == "intro":
            for _, term in words.found(said):
                yield event("intro", term, at)


def shown(piece: Piece) -> str:
    """What a piece contributes to the text that is searched for terms."""
    if piece.kind == "text":
        return piece.text
    if piece.kind == "break":
        return " "
    return LINK if piece.role == "term" else MARK


def marked(passage: Passage) -> Iterator[tuple[int, str, str]]:
    """Links to the glossary and what stands in italics, with the places."""
    at, run, start = 0, "", 0
    for piece in passage.pieces:
        if piece.role == "emphasis" or (run and piece.kind == "break"):
            start = start if run else at
            run += piece.text if piece.kind == "text" else " "
        elif run:
            yield start, "intro", run
            run = ""
        if piece.role == "term":
            named = re.fullmatch(r".*<(.+)>\s*", piece.text, re.S)
            yield at, "link", named[1] if named else piece.text
        at += len(shown(piece))
    if run:
        yield start, "intro", run


# --- symbols -----------------------------------------------------------------

GREEK = set(
    re.findall(
        r"\w+",
        "alpha beta gamma delta epsilon varepsilon zeta eta theta kappa lambda"
        " mu nu xi pi rho sigma tau phi varphi chi psi omega"
        " Gamma Delta Theta Lambda Sigma Phi Psi Omega",
    )
)
WORDS = re.compile(
    r"\\(?:text|mathrm|mathbf|operatorname|mathit|texttt|begin|end)\*?\{[^}]*\}"
    r"(?:\{[lrc|]+\})?"
)
LETTER = re.compile(r"\\([A-Za-z]+)|([A-Za-z])")
# An index that a sum runs over, or that counts rows, explains itself.
COUNTERS = set("ijkmn")
CONSTANTS = {"e", "\\pi", "d"}  # the d of a derivative or an integral


def letters(formula: str) -> set[str]:
    """The symbols of a formula."""
    found = set()
    for command, letter in LETTER.findall(WORDS.sub(" ", formula)):
        if command in GREEK:
            found.add(f"\\{command}")
        elif letter:
            found.add(letter)
    return found - CONSTANTS


def counters(formula: str) -> set[str]:
    """The letters that are nothing but an index below another one."""
    below = re.findall(r"_(?:\{([^}]*)\}|(\w))", formula)
    inside = {x for pair in below for part in pair for x in letters(part)}
    outside = letters(re.sub(r"_(?:\{[^}]*\}|\w)", " ", formula))
    return (inside - outside) & COUNTERS


def defined(formula: str) -> set[str]:
    """The letters that a formula defines: "H(p) = …", "a = 3, b = 4"."""
    found = set()
    for part in re.split(r"\\\\|,\s*\\q?quad|\\qquad", formula):
        left = part.partition("=")[0]
        if "=" in part and not re.search(r"[-+]|\\(?:sum|frac|cdot)", left):
            first = LETTER.search(re.sub(r"\\(?:hat|bar|text)|&", " ", left))
            found |= letters(first[0]) if first else set()
    return found


def notation(book: Book) -> dict[str, set[str]]:
    """Symbol → the pages that explain it, by the table of notation."""
    found: dict[str, set[str]] = {}
    for line in book.read(NOTATION).splitlines():
        if line.startswith("| $"):
            refs = re.findall(r"\{ref\}`(\w+)`", line)
            for formula in re.findall(r"\$([^$]+)\$", line.split("|")[1]):
                for letter in letters(formula):
                    pages = found.setdefault(letter, set())
                    pages |= {page_of(book, ref) for ref in refs}
    return found


def unlettered(book: Book) -> list[str]:
    """Symbols of the table without a page, or whose page has no such letter."""
    problems = []
    for letter, names in notation(book).items():
        if not names:
            problems.append(f"{NOTATION}: {letter} names no page")
        for name in sorted(names):
            page = book.pages.get(name)
            if page is None:
                if not book.exists(name):
                    problems.append(f"{NOTATION}: {letter}: no page {name}")
            elif not any(event.name == letter for event in formulas(page)):
                problems.append(f"{NOTATION}: {letter} is not in {name}")
    return problems


@lru_cache(maxsize=512)
def formulas(page: Page) -> tuple[Event, ...]:
    """What a page does with symbols: it names them, and it uses them."""
    events = []
    for number, passage in enumerate(page.passages):
        for piece in passage.pieces:
            if piece.kind != "math":
                continue
            used = letters(piece.text)
            alone = passage.kind != "formula" and len(used) <= 3
            place = (number, 0)
            for name in sorted(used):
                if alone or name in defined(piece.text):
                    events.append(Event("intro", name, place, piece.line))
                if name not in counters(piece.text):
                    events.append(Event("use", name, place, piece.line))
    return tuple(events)


def early_symbols(book: Book, reading: Reading) -> Iterator[str]:
    """Letters in formulas of which nobody has said what they are.

    The table of notation says it for those of earlier pages. Else the page
    has to name the letter alone, before the formula or right behind it.
    """
    table = notation(book)
    for place, (name, _) in enumerate(reading):
        earlier = set(before(reading, place))
        known = {
            event.name
            for page in earlier
            for event in formulas(book.pages[page])
            if page in table.get(event.name, set())
        }
        events = formulas(book.pages[name])
        named: dict[str, int] = {}
        for event in events:
            if event.kind == "intro":
                named.setdefault(event.name, event.place[0])
        for event in events:
            if event.kind == "use" and event.name not in known:
                known.add(event.name)
                if named.get(event.name, 10**6) > event.place[0] + 2:
                    where = f"{name}:{event.line}"
                    yield f"{where}: nothing says what {event.name} is"


# --- names -------------------------------------------------------------------


def early_names(book: Book, reading: Reading) -> Iterator[str]:
    """Definitions that a printed cell uses, and that nothing introduces."""
    for place, (name, _) in enumerate(reading):
        way = [*before(reading, place), name]
        known = set().union(*(introduced(book.pages[page]) for page in way))
        for full, line in used_names(book.pages[name]):
            if not {full, full.rpartition(".")[2]} & known:
                yield f"{name}:{line}: nothing introduces {full}"


@lru_cache(maxsize=512)
def introduced(page: Page) -> frozenset[str]:
    """The names that a page lists, and those of which it speaks."""
    found: set[str] = set()
    for block in page.named("listing"):
        words = block.argument.split(".")
        found |= {".".join(words[:n]) for n in range(3, len(words) + 1)}
    for passage in page.passages:
        for piece in passage.pieces:
            if piece.kind == "code":
                found |= set(re.findall(r"[A-Za-z_]\w*", piece.text))
    return frozenset(found)


@lru_cache(maxsize=512)
def used_names(page: Page) -> tuple[tuple[str, int], ...]:
    """The library's definitions in printed cells, each where it is first."""
    full: dict[str, str] = {}
    first: dict[str, int] = {}
    for cell in page.named("code-cell"):
        tree: Any = cell_tree(cell)
        for node in ast.walk(tree):
            source = getattr(node, "module", None) or ""
            if isinstance(node, ast.ImportFrom) and source[:9] == "scratchlm":
                for alias in node.names:
                    name = alias.asname or alias.name
                    full[name] = f"{source}.{alias.name}"
        if {"remove-cell", "remove-input"} & set(cell.tags):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Name) and node.id in full:
                line = cell.start + node.lineno - 1
                first.setdefault(full[node.id], line)
    return tuple(first.items())
