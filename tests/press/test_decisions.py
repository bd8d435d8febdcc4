"""The tree of the pitfalls: its boxes lead to sections, and it fits."""

import re
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pikepdf
import pytest
from lxml import etree
from sphinx.application import Sphinx

from press.extensions.decisions import draw, packed, read_rows
from press.extensions.roadmap_figure import (
    SVG,
    XLINK,
    ResolveRoadmap,
    dot,
    roadmap_node,
    spoken,
)
from press.gates.pages import Page
from press.tracks import sections, titles

ROOT = Path(__file__).parents[2]
PAGE = "book/guide/pitfalls.md"
TEXT = (ROOT / PAGE).read_text(encoding="utf-8")
TREE = """Mistakes
========

.. decisions:: Ask from the top.
   :alt: A tree.

   - asks: Is it low enough?
     leads: pitfalls-high
     causes: [the rate]
   - {leads: pitfalls-unknown, causes: [all others]}

.. _pitfalls-high:

Too high
--------

.. _pitfalls-unknown:

Unknown
-------
"""
CONFIG = """
extensions = ["press.extensions.roadmap_figure", "press.extensions.decisions"]
"""
COLUMN = 140 / 25.4 * 72  # points: the width of the column for figures


def rows_of_the_page() -> list[dict[str, Any]]:
    [tree] = Page(ROOT / PAGE, PAGE, TEXT).named("decisions")
    return read_rows(tree.body)


def test_each_section_has_a_box_with_as_many_causes_as_pitfalls() -> None:
    *asked, last = rows_of_the_page()
    found = [titles()[row["leads"]] for row in [*asked, last]]
    heads = [part.title for part in sections(TEXT) if part.level == 2]
    assert heads[: len(found)] == found
    many: dict[str, int] = {}
    section = ""
    for part in sections(TEXT):
        section = part.title if part.level == 2 else section
        if part.level == 3:
            many[section] = many.get(section, 0) + 1
    for row in asked:
        assert len(row["causes"]) == many[titles()[row["leads"]]]


def test_the_boxes_are_links_with_names_in_reading_order() -> None:
    rows = rows_of_the_page()
    source = re.sub(r'ref="([^"]+)"', r'URL="#\1"', draw(rows))
    root = etree.fromstring(spoken(dot(source, "svg").decode(), "A tree"))
    links = list(root.iter(f"{{{SVG}}}a"))
    assert [a.get(f"{{{XLINK}}}href") for a in links] == [
        f"#{row['leads']}" for row in rows
    ]
    assert [a.get("aria-label") for a in links] == [
        titles()[row["leads"]] for row in rows
    ]
    words = " ".join(root.itertext())
    for row in rows:
        for cause in row["causes"]:
            assert cause in words


def test_in_print_a_link_lies_over_each_box(tmp_path: Path) -> None:
    rows = rows_of_the_page()
    known = {row["leads"]: ("book/guide/pitfalls", "x") for row in rows}
    app = SimpleNamespace(outdir=tmp_path)
    domain = SimpleNamespace(anonlabels=known)
    env = SimpleNamespace(get_domain=lambda _: domain, app=app, _app=app)
    figure: Any = ResolveRoadmap.__new__(ResolveRoadmap)
    figure.document = SimpleNamespace(settings=SimpleNamespace(env=env))
    text = figure.tex(roadmap_node(dot=draw(rows)))
    assert text.count(r"\XeTeXLinkBox") == len(rows)
    [path] = tmp_path.glob("*.pdf")
    with pikepdf.open(path) as pdf:
        _, _, width, height = map(float, pdf.pages[0].MediaBox)
    assert width < COLUMN
    assert height < 440


def test_causes_are_packed_whole() -> None:
    lines = packed(["one", "two and more", "three", "four"], 12)
    assert lines == ["one", "two and more", "three · four"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("", "write a list"),
        ("a: b", "write a list"),
        ("- [", "no YAML"),
        ("- {leads: pitfalls}", "row 1 needs causes, leads"),
        ("- {leads: nowhere, causes: [a]}", "no section is called 'nowhere'"),
        (
            "- {leads: pitfalls, causes: [a]}\n- {leads: cards, causes: [a]}",
            "row 1 needs asks, causes, leads",
        ),
    ],
)
def test_a_wrong_body_is_refused(body: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_rows(body)


def test_on_a_page_the_boxes_lead_to_its_sections(tmp_path: Path) -> None:
    (tmp_path / "conf.py").write_text(CONFIG, encoding="utf-8")
    (tmp_path / "index.rst").write_text(TREE, encoding="utf-8")
    out = str(tmp_path / "out")
    app = Sphinx(str(tmp_path), str(tmp_path), out, out, "html", status=None)
    app.build()
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    links = re.findall(r'<a [^>]*href="(#pitfalls-[^"]+)"[^>]*aria-label', page)
    assert links == ["#pitfalls-high", "#pitfalls-unknown"]
    assert 'aria-label="A tree."' in page
    assert "Ask from the top" in page
    assert "roadmap.js" not in page


def test_a_wrong_tree_stops_the_page(tmp_path: Path) -> None:
    (tmp_path / "conf.py").write_text(CONFIG, encoding="utf-8")
    wrong = TREE.replace("leads: pitfalls-high", "leads: nowhere")
    (tmp_path / "index.rst").write_text(wrong, encoding="utf-8")
    out, said = str(tmp_path / "out"), StringIO()
    app = Sphinx(
        str(tmp_path), str(tmp_path), out, out, "html", None, warning=said
    )
    app.build()
    assert "decisions: no section is called 'nowhere'" in said.getvalue()
