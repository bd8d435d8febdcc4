"""The cards: what they say, and that the roadmap's boxes lead to them."""

import ast
import json
import re
import subprocess
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pikepdf
import pytest
from lxml import etree

from press import cards
from press.budgets import BUDGETS, budgets
from press.cards import figures, head, hours, neighbors, symbol
from press.effort import Running
from press.extensions import roadmap_figure
from press.extensions.roadmap_figure import SVG, XLINK, dot, draw, spoken
from press.heights import shares
from press.records import seal
from press.roadmap import load
from press.sources import find

ROOT = Path(__file__).parents[2]
CARDS = ROOT / "book" / "guide" / "cards.md"
HREF = f"{{{XLINK}}}href"

# --- what a card says --------------------------------------------------------


def test_the_head_is_read_from_the_sources() -> None:
    """But for spaces, each line stands in the listing."""
    for topic in load().topics:
        lines = head(topic).splitlines()
        listing = " ".join(find(symbol(topic)).text.split())
        assert 1 < len(lines) <= cards.LONGEST, topic.id
        assert re.search(r"\b(def|class) ", head(topic)), topic.id
        for line in lines:
            told = " ".join(line.strip().strip('"').split())
            assert told in listing, (topic.id, line)
            assert len(line.encode()) <= 80


def test_packing_changes_no_signature() -> None:
    """The parser sees the parameters that the sources have."""
    shorter = 0
    for topic in load().topics:
        node = cards.definition(find(symbol(topic)))
        if not isinstance(node, ast.FunctionDef):
            continue
        seen = ast.parse(head(topic)).body[0]
        assert isinstance(seen, ast.FunctionDef)
        seen.body = node.body
        assert ast.dump(seen) == ast.dump(node), topic.id
        above = node.body[0].lineno - find(symbol(topic)).first
        shorter += len(head(topic).splitlines()) < above + 1
    assert shorter > 5


def test_a_class_shows_its_fields() -> None:
    config = load().by_id["sampling"]
    assert "temperature: float" in head(config)


def test_a_function_of_one_line_and_no_words_is_shown_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "one.py"
    path.write_text("def twice(x): return 2 * x\n\n\nMANY = [\n 1,\n]\n")
    topic = load().topics[0]
    for names, shown in (
        ((1, 1), "def twice(x): return 2 * x"),
        ((4, 6), "MANY = [\n 1,\n]"),
    ):
        snippet = cards.Snippet(path, *names)
        monkeypatch.setattr(cards, "find", lambda _, s=snippet: s)
        assert head(topic) == shown


def test_each_figure_says_how_it_is_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    topic = load().by_id["attention"]
    monkeypatch.setattr(cards, "running", lambda _: None)
    known = [(f.what, f.known) for f in figures(topic)]
    assert known == [
        ("reading", "counted"),
        ("exercises", "estimated"),
    ]
    monkeypatch.setattr(cards, "running", lambda _: Running(0.2, 300 << 20))
    *_, run, memory = figures(topic)
    assert (run.amount, run.known) == ("1 s", "measured")
    assert (memory.amount, memory.known) == ("300 MiB", "measured")


def test_times_are_said_as_people_say_them() -> None:
    said = [hours(minutes) for minutes in (20, 59, 60, 75, 90, 225)]
    assert said == ["20 min", "59 min", "1 h", "1¼ h", "1½ h", "3¾ h"]


def test_neighbors_know_each_other() -> None:
    book = load()
    for topic in book.topics:
        for words, names in neighbors(topic, book):
            other = {"Needs": "Needed by", "Needed by": "Needs"}[words]
            for name in names:
                back = dict(neighbors(book.by_id[name], book))
                assert topic.id in back[other]


def test_the_page_has_each_card_once_under_its_part() -> None:
    book = load()
    text = CARDS.read_text(encoding="utf-8")
    found = re.findall(r"^## (.+)$|^```\{card\} (\w+)$", text, re.M)
    expected = []
    for part, title in book.parts.items():
        expected.append((title, ""))
        expected += [("", t.id) for t in book.topics if t.part == part]
    assert found == expected


# --- the roadmap's boxes -----------------------------------------------------


def boxes(svg: str) -> list[Any]:
    return list(etree.fromstring(svg).iter(f"{{{SVG}}}a"))


def test_the_boxes_are_links_with_names_in_reading_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(roadmap_figure, "book_roadmap", load)
    source = re.sub(r'ref="(\w+)"', r'URL="#\1"', draw(""))
    svg = spoken(dot(source, "svg").decode(), "A & B")
    topics = load().topics
    assert [a.get("aria-label") for a in boxes(svg)] == [
        t.title for t in topics
    ]
    assert [a.get(HREF) for a in boxes(svg)] == [f"#{t.id}" for t in topics]
    root = etree.fromstring(svg)
    assert root.get("role") == "group"
    assert root.get("aria-label") == "A & B"
    groups = Counter(
        (g.get("class"), g.get("aria-hidden")) for g in root.iter(f"{{{SVG}}}g")
    )
    assert groups["node", None] == len(topics)
    assert groups["edge", "true"] > len(topics)
    assert groups["edge", None] == 0
    assert not list(root.iter(f"{{{SVG}}}title"))


# --- a small book ------------------------------------------------------------

TOPIC = """
- id: {id}
  title: {title}
  part: model
  package: model
  requires: [{requires}]
  symbol: {symbol}
  gives: a number
  tracks: {{beginner: core, practitioner: core, researcher: core}}
  explanation: It makes a number of a number, and is here for a test.
  tools:
  - name: NumPy
    url: https://numpy.org
    license: BSD-3-Clause
    for: "`add`, and the rest"
  hazard: The number is another number than it was.
  compliance:
    note: A number can be somebody's, so ask whose it is.
    rules: [whose-number, no-number]
    source: A law of numbers
    date: "2026-01-02"
  done: The number is as large as it ought to be.
"""
TOPICS = [
    ("one", "Once & always", "", "once"),
    ("two", "Twice", "one", "Twice"),
]
CODE = '''"""Numbers."""


def once(x: float) -> float:
    """The number itself.

    >>> once(1)
    1
    """
    return x


class Twice:
    """Two of a kind."""

    first: int
'''
RULES = '''"""Rules."""


@rule("runs", "An act", "2025-01-01")
def whose_number(run, site):
    """Nobody's."""


@rule("runs", "An act", "2025-01-01")
def no_number(run, site):
    """None."""
'''
CHAPTER = """---
file_format: mystnb
kernelspec: {{name: python3, display_name: Python 3}}
---
({id})=
# {title}

Words.

```{{code-cell}}
print("{id}")
```
"""
MAP = """(roadmap)=
# The way

```{roadmap} All of it.
:name: fig-roadmap
:alt: Two boxes & an arrow.
```
"""
PAGES = ["start/roadmap", "model/one", "model/two", "guide/cards", "last"]
TYPESET = """
from press import build
print(build.typeset(build.BUILD / "out" / "_build" / "latex"))
"""


@pytest.fixture
def small_map(small_book: Any) -> Any:
    """The small book with two topics, a roadmap, and their cards."""
    roadmap = "parts:\n- {id: model, title: The model}\ntopics:"
    pages = {}
    listed = "# Cards\n\n```{prices}\n```\n"
    for name, title, requires, what in TOPICS:
        roadmap += TOPIC.format(
            id=name, title=title, requires=requires, symbol=what
        )
        files = {
            f"src/scratchlm/model/{name}.py": CODE,
            f"tests/model/test_{name}.py": "import sys\n",
            f"scaffold/checks/model/check_{name}.py": "import os\n",
            f"book/model/{name}.md": CHAPTER.format(id=name, title=title),
        }
        for path, text in files.items():
            small_book.write(path, text)
        listed += f"\n```{{card}} {name}\n```\n"
        pages[name] = {"seconds": 12.3, "bytes": 5 << 20, "cells": 1}
    toc = "format: jb-book\nroot: book/index\nparts:\n- caption: All\n"
    toc += "  numbered: true\n  chapters:\n"
    toc += "".join(f"  - {{file: book/{page}}}\n" for page in PAGES)
    record = seal({"name": "pages", "data": {"pages": pages}})
    for style in (ROOT / "book" / "_latex").glob("*.sty"):
        text = style.read_text(encoding="utf-8")
        small_book.write(f"book/_latex/{style.name}", text)
    machines = BUDGETS.read_text(encoding="utf-8")
    small_book.write("scaffold/budgets.yml", machines)
    for path, text in {
        "roadmap.yml": roadmap,
        "_toc.yml": toc,
        "book/start/roadmap.md": MAP,
        "compliance/numbers.py": RULES,
        "book/guide/cards.md": listed,
        "records/pages.json": json.dumps(record),
    }.items():
        small_book.write(path, text)
    return small_book


def test_the_site_has_cards_and_the_map_leads_to_them(small_map: Any) -> None:
    done = small_map.build("html")
    assert done.returncode == 0, done.stderr[-3000:]
    html = small_map.folder / "_build" / "out" / "_build" / "html" / "book"
    page = (html / "start" / "roadmap.html").read_text(encoding="utf-8")
    svg = re.search(r'<svg [^>]*class="roadmap".*?</svg>', page, re.S)
    assert svg is not None
    links = {a.get("aria-label"): a.get(HREF) for a in boxes(svg[0])}
    assert links == {
        "Once & always": "../guide/cards.html#card-one",
        "Twice": "../guide/cards.html#card-two",
    }
    facts = re.search(r'class="roadmap-facts">(.*?)</script>', page)
    assert facts is not None
    told = json.loads(facts[1])["topics"]
    assert [topic["title"] for topic in told] == [
        title for _, title, *_ in TOPICS
    ]
    text = (html / "guide" / "cards.html").read_text(encoding="utf-8")
    chapter = (html / "model" / "one.html").read_text(encoding="utf-8")
    scripts = ["/roadmap.js" in found for found in (page, text, chapter)]
    assert scripts == [True, True, False]
    for name, *_ in TOPICS:
        assert text.count(f'id="card-{name}"') == 1
    one, two = text.split('id="card-two"')
    assert 'href="../model/one.html#one"' in one
    assert 'href="#card-two"' in one
    assert 'href="#card-one"' in two
    for card in (one, two):
        assert 'href="../start/roadmap.html#fig-roadmap"' in card
        assert 'href="https://numpy.org"' in card
        assert "</a> (BSD-3-Clause): " in card
        words = " ".join(re.sub("<[^>]*>", "", card).split())
        assert (
            "whose it is. python -m compliance --only whose-number no-number "
            "(An act, since 2025-01-01; A law of numbers, since 2026-01-02)"
        ) in words
        downloads = r"_downloads/\w+/\w+\.(?:py|ipynb)"
        assert len(re.findall(downloads, card)) == 5
        assert "run 12 s, in 5 MiB <em>measured</em>" in card
        assert "reading 5 min <em>counted</em>" in card
        assert card.count("<em>measured</em>") == 1
    plain = " ".join(re.sub("<[^>]*>", "", one).split())
    assert "module, line 4 · tests · check: python -m check one" in plain
    prices = re.sub("<[^>]*>", "", text.split('id="card-one"')[0])
    for machine in budgets():
        assert machine.title in prices
        if machine.card:
            assert f"{machine.card} at $" in prices
        assert machine.source in prices
        assert machine.seen in prices


def test_an_edition_has_no_card_of_what_it_leaves_out(small_map: Any) -> None:
    """Nor does another card name it as a neighbor."""
    roadmap = (small_map.folder / "roadmap.yml").read_text(encoding="utf-8")
    head, two = roadmap.split("- id: two")
    two = two.replace("practitioner: core", "practitioner: optional")
    small_map.write("roadmap.yml", f"{head}- id: two{two}")
    done = small_map.build("html", "practitioner")
    assert done.returncode == 0, done.stderr[-3000:]
    html = small_map.folder / "_build" / "out" / "_build" / "html" / "book"
    cards = (html / "guide" / "cards.html").read_text(encoding="utf-8")
    assert 'id="card-one"' in cards
    assert "card-two" not in cards
    way = (html / "start" / "roadmap.html").read_text(encoding="utf-8")
    assert "card-one" in way
    assert "card-two" not in way


def targets(pdf: pikepdf.Pdf) -> list[list[int]]:
    """For each page, the pages to which its links lead."""
    pages = {page.objgen: i for i, page in enumerate(pdf.pages)}
    named = dict(pikepdf.NameTree(pdf.Root.Names.Dests).items())
    found = []
    for page in pdf.pages:
        led = []
        for note in page.get("/Annots", []):
            target: Any = note.get("/Dest")
            if target is None and "/A" in note:
                target = note.A.get("/D")
            if target is None:
                continue
            if isinstance(target, pikepdf.String):
                target = named[str(target)]
            if isinstance(target, pikepdf.Dictionary):
                target = target.D
            led.append(pages[target[0].objgen])
        found.append(led)
    return found


def hold_links(pdf: pikepdf.Pdf) -> None:
    """The drawing's links lead to the cards, and these lead on and back."""
    files = [
        [str(n.Subtype) for n in page.get("/Annots", [])].count(
            "/FileAttachment"
        )
        for page in pdf.pages
    ]
    led = targets(pdf)
    many = len(TOPICS)
    [drawn] = [
        i for i, to in enumerate(led) if len(to) == many and not files[i]
    ]
    first = min(led[drawn])  # the page where the cards begin
    assert first > drawn
    cards = led[first:]
    assert sum(files[first:]) == 5 * many
    assert sum(files[:first]) == 2 * many  # each chapter has its cells
    assert sum(to.count(drawn) for to in cards) == many
    within = [to for links in cards for to in links if to >= first]
    assert len(within) == 2  # from each to the other
    outside = [to for links in cards for to in links if drawn < to < first]
    assert len(outside) == 2 * many  # to its chapter, by title and by word


def test_the_pdf_has_links_to_the_cards_and_files_in_them(
    small_map: Any,
) -> None:
    done = small_map.build("latex")
    assert done.returncode == 0, done.stderr[-3000:]
    run = subprocess.run(
        [str(small_map.python), "-c", TYPESET],
        cwd=small_map.folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    made = Path(run.stdout.splitlines()[-1])
    with pikepdf.open(made) as pdf:
        hold_links(pdf)
    high = shares(made.with_suffix(".aux"))
    assert len(high) == len(TOPICS)
    assert all(0.2 < share < 0.5 for share in high)


def test_an_unknown_topic_has_no_card(small_map: Any) -> None:
    small_map.write("book/guide/cards.md", "# Cards\n\n```{card} three\n```\n")
    done = small_map.build("html")
    assert done.returncode == 1
    assert "no topic three in the roadmap" in done.stderr


def test_a_rule_that_there_is_not_is_named(small_map: Any) -> None:
    small_map.write("compliance/numbers.py", '"""No rules."""\n')
    done = small_map.build("html")
    assert done.returncode == 1
    assert "one: no rule whose-number, no-number; there are:" in done.stderr


def test_without_a_page_of_cards_a_box_leads_to_its_chapter() -> None:
    kind = roadmap_figure.ResolveRoadmap
    labels = {"one": ("book/model/one", "one")}
    known = SimpleNamespace(anonlabels=labels)
    figure: Any = kind.__new__(kind)
    env = SimpleNamespace(get_domain=lambda _: known)
    figure.document = SimpleNamespace(settings=SimpleNamespace(env=env))
    assert figure.place("one") == ("book/model/one", "one")
    labels["card-one"] = ("book/guide/cards", "card-one")
    assert figure.place("one") == ("book/guide/cards", "card-one")
    assert figure.place("two") is None


def test_a_topic_says_who_needs_it() -> None:
    book = load()
    assert book.followers("attention") == ["heads"]
    alone = replace(book, topics=book.topics[:1])
    assert alone.followers("toytown") == []
