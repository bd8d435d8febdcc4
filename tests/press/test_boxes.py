"""The book's boxes, read as a page is read."""

from types import SimpleNamespace

import pytest
from docutils import nodes
from docutils.frontend import get_default_settings
from docutils.parsers.rst import Parser, directives
from docutils.utils import new_document
from docutils.writers.html5_polyglot import HTMLTranslator, Writer

from press.extensions import boxes


@pytest.mark.parametrize(
    ("hours", "title"),
    [("0", "Why · minutes"), ("1", "Why ①"), ("2", "Why ②"), ("3", "Why ③")],
)
def test_an_exercise_says_how_long_it_takes(hours: str, title: str) -> None:
    directives.register_directive("exercise", boxes.Exercise)
    parser = Parser()
    settings = get_default_settings(parser)
    settings.env = SimpleNamespace(docname="page")
    document = new_document("page", settings)
    text = f".. exercise:: Why\n   :name: ex-why\n   :hours: {hours}\n\n   Go."
    parser.parse(text, document)
    [node] = document.findall(boxes.exercise)
    assert node.children[0].astext() == title
    assert settings.env.exercises == {"ex-why": ("page", "Why")}


def test_a_box_is_where_the_index_says_it_is() -> None:
    """What stands in the index before a box leads to the box."""
    document = new_document("page", get_default_settings(Writer()))
    page = HTMLTranslator(document)
    boxes.visit_box_html(page, boxes.box(kind="aside", ids=["index-8"]))
    [tag] = page.body
    assert 'id="index-8"' in tag
    assert 'class="admonition bookbox bookbox-aside"' in tag


def a_box(*content: nodes.Element) -> boxes.box:
    title = boxes.box_title("", "A title")
    return boxes.box("", title, *content, kind="check")


def test_a_box_asks_for_the_lines_that_it_takes() -> None:
    short = nodes.paragraph("", "A line of seven words, and no more.")
    long = nodes.paragraph("", "A word " * 200)
    code = nodes.literal_block("", "line\n" * 15)
    assert boxes.needed(short) == 0
    assert boxes.needed(a_box(short)) == 4
    assert boxes.needed(a_box(long)) == 11  # and the rest on the next page
    assert boxes.needed(a_box(code)) == 16
    assert boxes.needed(a_box(short, code)) == 11
    assert boxes.needed(boxes.room(12)) == boxes.SOLUTION


def test_a_solution_that_begins_with_code_asks_for_more() -> None:
    """Text turns the page anywhere; code only behind its fourth line."""
    for first, lines in (
        (nodes.paragraph("", "Because."), boxes.TEXT),
        (nodes.literal_block("", "x = 1"), boxes.SOLUTION),
    ):
        room = boxes.room(boxes.SOLUTION)
        nodes.section("", nodes.title("", "S"), room, nodes.rubric(), first)
        assert boxes.needed(room) == lines < 11


def test_room_is_asked_for_before_the_name_of_a_section() -> None:
    """Between name and heading it would part them: a name is set twice."""
    head = boxes.room(boxes.SOLUTION), nodes.rubric()
    section = nodes.section("", nodes.title("", "Solutions"), *head)
    document = new_document("page")
    document += [nodes.paragraph(), nodes.target(refid="sol"), section]
    app = SimpleNamespace(builder=SimpleNamespace(format="latex"))
    boxes.keep_heads(app, document, "page")  # type: ignore[arg-type]
    assert [type(node) for node in document] == [
        nodes.paragraph,
        nodes.raw,
        nodes.target,
        nodes.section,
    ]
    assert "needspace" in document[1].astext()


def test_a_name_may_be_the_last_node_of_the_section_before() -> None:
    """MyST reads it so."""
    name = nodes.target(refid="second")
    first = nodes.section("", nodes.title("", "First"), name)
    second = nodes.section("", nodes.title("", "Second"), boxes.room(1))
    document = new_document("page")
    document += [first, second]
    app = SimpleNamespace(builder=SimpleNamespace(format="latex"))
    boxes.keep_heads(app, document, "page")  # type: ignore[arg-type]
    assert document.children == [first, second]
    assert [type(x) for x in first] == [nodes.title, nodes.raw, nodes.target]


def test_what_knows_its_lines_is_asked_for_them() -> None:
    node = nodes.container(lines=17)
    assert boxes.needed(a_box(node)) > 0
    assert boxes.needed(node) == 17
