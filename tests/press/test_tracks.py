"""Editions by track: what is cut, what stays, what a reference becomes."""

import re
from typing import Any

import pytest

from press import browser
from press.build import too_thick
from press.effort import count
from press.files import ROOT
from press.roadmap import TRACKS, contents, load, of_edition
from press.tracks import (
    CUT,
    END,
    PAGES,
    REFERENCE,
    TASK,
    TracksError,
    asides,
    blank,
    cut,
    labels,
    said,
    sections,
    shorter,
    shown,
    titles,
    unmarked,
)

GLOSSARY = "book/appendix/glossary"
PAGE = """(top)=
# Title

Words.

```{code-cell}
# no heading
a = 1
```

(deep)=
(deeper)=
## Deep
```{tracks} practitioner researcher
```

Deep words.

````{code-cell}
:tags: [remove-input]
## no heading, either
b = 2
````

### Below

Words below.

```{listing} a.b
```

(next)=
## Next

More.
"""

# What beginners' chapters need of others only for sections cut for them.
APART = dict.fromkeys(("schedule", "memory", "checkpoint"), "trainer")
APART |= {"cache": "generate", "probes": "instruct", "packing": "instruct"}


def test_sections_begin_with_their_labels_and_end_before_the_next() -> None:
    found = sections(PAGE)
    assert [s.title for s in found] == ["Title", "Deep", "Below", "Next"]
    lines = PAGE.splitlines()
    assert lines[found[1].start] == "(deep)="
    assert found[2].end == found[1].end == lines.index("(next)=")
    assert found[1].tracks == ("practitioner", "researcher")
    assert found[0].tracks == ()


def test_a_section_is_cut_with_all_below_it_but_its_cells_stay() -> None:
    short = cut(PAGE, "beginner")
    assert "Deep" not in short
    assert "below" not in short
    assert "listing" not in short
    assert "(deep" not in short
    kept = f"% {CUT}\n\n````{{code-cell}}\n:tags: [remove-input]\n"
    assert kept + "## no heading, either\nb = 2\n````\n" in short
    assert short.count(f"% {CUT}\n") == short.count(f"% {END}\n") == 1
    assert short.endswith("(next)=\n## Next\n\nMore.\n")
    cells = re.compile(r"^`+\{code-cell\}\n(?:.*\n)+?`+$", re.M)
    assert cells.findall(short) == cells.findall(PAGE)


def test_those_for_whom_it_is_have_it_whole() -> None:
    assert cut(PAGE, "practitioner") == cut(PAGE, "researcher") == PAGE


def test_a_cell_at_the_very_end_is_closed() -> None:
    page = "# A\n```{tracks} researcher\n```\n\n```{code-cell}\na = 1\n```\n"
    short = cut(page, "beginner")
    assert short.strip().endswith(f"% {END}")
    assert "# A" not in short


@pytest.mark.parametrize("names", ["novice", "", "beginner novice"])
def test_a_track_that_there_is_not_is_refused(names: str) -> None:
    page = f"# A\n## B\n```{{tracks}} {names}\n```\n"
    with pytest.raises(TracksError, match=r"line 3: .*known: beginner, "):
        cut(page, "beginner")


def test_the_glossary_keeps_what_the_pages_that_are_there_use() -> None:
    head = "# Glossary\n\n```{glossary}\n"
    entries = ["one\nOne thing\n  A. See {ref}`a`.", "two\n  See {ref}`b`."]
    entries += ["both\n  See {ref}`the b <b>` and {ref}`a`.", "none\n  C."]
    entries += ["three\n  Of a page, and not used. See {ref}`a`."]
    whole = head + "\n\n".join(entries) + "\n```\n\n## Names\n"
    page = "One\nthings, two, both, none.\n\n```{code-cell}\nthree = 3\n```\n"
    short = shorter(whole, {"a"}, said(page))
    kept = [entries[0], "both\n  See {ref}`a`.", entries[3]]
    assert short == head + "\n\n".join(kept) + "\n```\n\n## Names\n"
    more = "a\n  See\n  {ref}`a`, {ref}`x`, {ref}`b` and\n  {ref}`c`.\n```\n"
    seen = "a\n  See {ref}`a`, {ref}`b` and {ref}`c`.\n```\n"
    assert shorter(head + more, {"a", "b", "c"}, "a") == head + seen
    assert said(page).strip() == "one things, two, both, none."


PASSAGES = """# A

One.

% tracks: practitioner researcher

Two, for some.

```{code-cell}
b = 2
```

% tracks: all

Three.

```text
% tracks: all
```
"""


def test_a_passage_is_cut_and_its_marks_are_never_seen() -> None:
    short, whole = cut(PASSAGES, "beginner"), cut(PASSAGES, "researcher")
    assert "for some" not in short
    assert f"% {CUT}\n\n```{{code-cell}}\nb = 2\n" in short
    assert "One." in short
    assert "Three." in short
    assert "Two, for some." in whole
    assert whole == unmarked(PASSAGES)
    for text in (short, whole, blank(PASSAGES, "beginner")):
        assert text.count("% tracks:") == 1  # the one that is shown
    lines = [len(x.splitlines()) for x in (PASSAGES, whole)]
    lines.append(len(blank(PASSAGES, "beginner").splitlines()))
    assert len(set(lines)) == 1


@pytest.mark.parametrize(
    ("page", "why"),
    [
        ("% tracks: beginner\n\nA.\n", "line 1: .* does not end"),
        ("% tracks: beginner\n\n# B\n\n% tracks: all\n", "line 1: "),
        ("A.\n\n% tracks: all\n", "line 3: .* before it began"),
        ("% tracks: beginner\n% tracks: beginner\n", "line 2: .* within"),
        ("% tracks: novice\n% tracks: all\n", "known: beginner"),
    ],
)
def test_a_passage_has_both_ends_in_one_section(page: str, why: str) -> None:
    with pytest.raises(TracksError, match=why):
        cut(page, "beginner")


EXERCISES = """# A
```{exercise} Short
:name: ex-short
:hours: 1
Short task.
```

```{exercise} Long
:name: ex-long
:hours: 2
Long task.
```

# Solutions
```{solution} ex-short
```

Short answer.

```{solution} ex-long
```

Long answer.

# End
"""


def test_a_short_edition_has_no_long_exercise_and_no_answer_to_it() -> None:
    short = cut(EXERCISES, "beginner")
    assert "Short task." in short
    assert "Short answer." in short
    assert "ong" not in short
    assert "# End" in short
    assert cut(EXERCISES, "practitioner") == EXERCISES


def edition_pages() -> list[str]:
    toc = contents(load(), "beginner")
    files = [x["file"] for part in toc["parts"] for x in part["chapters"]]
    there = (ROOT / f"{name}.md" for name in files if "appendix" not in name)
    texts = [path.read_text(encoding="utf-8") for path in there]
    return [blank(text, "beginner") for text in texts]


def test_the_beginners_edition_stays_a_book_for_some_weeks() -> None:
    """Measured: 346 words or 29 lines to a page, figures and boxes included.

    The other 127 are openers, contents, glossary, bibliography and indexes. A
    build of 496 pages and one of 321 gave these numbers.
    """
    found = [count(text) for text in edition_pages()]
    pages = 127 + sum(x.words / 346 + x.lines / 29 for x in found)
    assert PAGES["beginner"] - 20 < pages < PAGES["beginner"] + 5


@pytest.mark.parametrize("track", TRACKS)
def test_a_topic_of_an_edition_has_its_card_and_its_check(track: str) -> None:
    for topic in of_edition(load(), track):
        path = ROOT / topic.files["chapter"]
        text = blank(path.read_text(encoding="utf-8"), track)
        for box in ("topic", "check"):
            assert f"```{{{box}}} {topic.id}\n" in text, (box, topic.id)


def test_what_a_page_asks_and_answers_is_cut_together() -> None:
    answered = 0
    for text in edition_pages():
        found = [(x[1], x[2]) for x in map(TASK.match, text.splitlines()) if x]
        solved = {name.strip() for kind, name in found if kind == "solution"}
        asked = set(re.findall(r"^:name: (ex-\S+)$", text, flags=re.M))
        assert not solved or solved == asked
        answered += len(solved)
    assert answered > 10


HERE = {"here", "there", "fig-here"}


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("It is old ({ref}`gone`), and short.", "It is old, and short."),
        ("Old (see {ref}`gone` or ask) as it is.", "Old as it is."),
        ("Old ({ref}`gone`, {ref}`here`).", "Old ({ref}`here`)."),
        ("Old ({ref}`here`; {numref}`fig-here`).", None),
        ("First.\n{ref}`gone` has `a.b` of it; more. Last.", "First. Last."),
        ("One.\n\n{ref}`gone` has it.\n\nTwo.", "One.\n\n\n\nTwo."),
        ("One. {ref}`here` has it. Two.", None),
        ("So it is; {numref}`fig-gone` shows it. Two.", "So it is. Two."),
        ("So it is; {eq}`gone` says it; and on.", "So it is; and on."),
        ("Read {ref}`here`, {ref}`gone` and {ref}`there` first.",
         "Read {ref}`here` and {ref}`there` first."),
        ("| a | {ref}`gone` | b |\n", "| a |  | b |\n"),
        ("| A size ({ref}`gone`) | 3 |\n| B | 4 |\n", "| B | 4 |\n"),
        ("| A size ({ref}`here`) | 3 |\n", None),
        ("It is in {ref}`gone` and not here.", None),  # what nobody can cut
    ],
)  # fmt: skip
def test_what_only_sends_elsewhere_goes(text: str, left: str | None) -> None:
    assert asides(text, HERE) == (text if left is None else left)


@pytest.mark.parametrize("track", TRACKS)
def test_no_page_of_an_edition_sends_its_readers_to_what_it_lacks(
    track: str,
) -> None:
    files = str(contents(load(), track))
    names = re.findall(r"(?:file|root)': '([^']+)'", files)
    texts = {n: (ROOT / f"{n}.md").read_text(encoding="utf-8") for n in names}
    pages = {name: cut(text, track) for name, text in texts.items()}
    there = set().union(*map(labels, pages.values()))
    name, rest = GLOSSARY, {n: x for n, x in pages.items() if n != GLOSSARY}
    words = " ".join(map(said, rest.values()))
    pages[name] = cut(shorter(texts[name], there, words), track)
    for name, page in pages.items():
        lost = set(REFERENCE.findall(asides(shown(page), there))) - there
        assert not lost, name
        if track == "beginner":
            assert labels(page) <= labels(texts[name])


def test_an_edition_that_is_too_thick_is_refused() -> None:
    limit = PAGES["beginner"]
    assert too_thick("beginner", limit) == too_thick("", 2000) == ""
    assert f"{limit + 1} pages" in too_thick("beginner", limit + 1)


@pytest.mark.parametrize("track", TRACKS)
def test_an_edition_has_what_its_topics_need(track: str) -> None:
    found = of_edition(load(), track)
    names = {topic.id for topic in found}
    lost = {n: t.id for t in found for n in t.requires if n not in names}
    skimmed = {t.id for t in load().topics if t.tracks[track] == "skim"}
    known = skimmed | (set(APART) if track == "beginner" else set())
    assert set(lost) <= known  # what is skimmed, its readers know already
    files = str(contents(load(), track))
    if track == "beginner":
        assert lost == APART
    for topic in load().topics:
        name = topic.files["chapter"].removesuffix(".md")
        assert (f"'{name}'" in files) == (topic.id in names)


def test_every_edition_is_shorter_than_the_book() -> None:
    counts = [len(of_edition(load(), track)) for track in ("", *TRACKS)]
    assert counts[0] == len(load().topics)
    assert max(counts[1:]) < counts[0]
    assert counts[1] < min(counts[2:])


def test_titles_are_known_by_their_labels() -> None:
    assert titles()["attention"] == "Looking only backwards: attention"
    assert titles()["track-beginner"] == "Beginners"


SENDS = """
See {ref}`deep` and {ref}`words <deep>`, {numref}`fig-deep` and {eq}`sum`.
"""
DEEP = """
(deep)=
## Deep
```{tracks} practitioner
```

Deep words, and {cite}`someone2026`.

```{math}
:label: sum
a + b
```

```{code-cell}
---
mystnb:
  figure:
    name: fig-deep
    caption: A line.
---
import matplotlib.pyplot as plt
figure = plt.figure()
glue("later", 7, display=False)
```

(end)=
## End

It is {glue:text}`later`.
"""


@pytest.mark.judge
def test_an_edition_is_built_without_what_is_not_for_it(
    small_book: Any,
) -> None:
    page = small_book.folder / "book" / "page.md"
    text = page.read_text(encoding="utf-8")
    text = text.replace(", and {cite}`someone2026`", "")
    texts = {}
    for track, more in (("practitioner", SENDS), ("beginner", "")):
        page.write_text(text + more + DEEP)
        done = small_book.build("html", track)
        assert done.returncode == 0, done.stderr
        out = small_book.folder / "_build" / "out" / "_build" / "html" / "book"
        html = (out / "page.html").read_text(encoding="utf-8")
        html = html.partition("<article")[2].partition("</article>")[0]
        last = (out / "last.html").read_text(encoding="utf-8")
        texts[track] = re.sub(r"<[^>]+>", "", html), html.count("<figure")
        assert ("Some One" in last) == (track == "practitioner")
    whole, figures = texts["practitioner"]
    assert "See Deep and words, Figure 1.1 and (1.1)." in whole
    assert "It is 7." in whole
    assert figures == 1
    short, figures = texts["beginner"]
    assert "It is 7." in short
    assert "Deep words" not in short
    assert figures == 0


@pytest.mark.judge
def test_an_edition_that_sends_its_readers_away_is_refused(
    small_book: Any,
) -> None:
    page = small_book.folder / "book" / "page.md"
    page.write_text(page.read_text(encoding="utf-8") + SENDS + DEEP)
    done = small_book.build("html", "beginner")
    assert done.returncode == 1
    said = "the beginners' edition lacks {}, to which this sends its readers"
    for target in ("deep", "fig-deep", "sum"):
        assert said.format(target) in done.stderr


@pytest.mark.judge
def test_the_site_folds_what_is_for_others_and_remembers(
    small_book: Any, tab: Any
) -> None:
    page = small_book.folder / "book" / "page.md"
    page.write_text(page.read_text(encoding="utf-8") + DEEP)
    done = small_book.build("html")
    assert done.returncode == 0, done.stderr
    site = small_book.folder / "_build" / "out" / "_build" / "html"
    with browser.served(site) as address:
        tab.goto(f"{address}book/page.html")
        deep = tab.locator("section#deep p", has_text="Deep words")
        assert deep.is_visible()
        assert tab.locator("section#deep .for-tracks").is_visible()
        tab.select_option(".track-switch select", "beginner")
        assert not deep.is_visible()
        tab.reload()
        assert not deep.is_visible()
        tab.evaluate(browser.axe_script())
        assert browser.ask_axe(tab) == []
        tab.get_by_role("button", name="Show this section").click()
        assert deep.is_visible()
        tab.goto(f"{address}book/last.html")
        tab.goto(f"{address}book/page.html#deep")  # an address is not hidden
        assert deep.is_visible()
        tab.select_option(".track-switch select", "practitioner")
        tab.reload()
        assert deep.is_visible()
