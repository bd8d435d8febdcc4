"""The graph of parts says what the roadmap says, and fits on a page."""

import re
from itertools import pairwise
from pathlib import Path

import networkx as nx
import pikepdf
import pytest

from press.extensions import components_figure as figure
from press.extensions.roadmap_figure import dot, spoken
from press.gates.pages import Page
from press.roadmap import TRACKS, load
from scaffold.estimate import SHARE
from scaffold.plan import budgets

ROOT = Path(__file__).parent.parent.parent
PAGE = "book/guide/components.md"
POINTS = 72
COLUMN = 140 / 25.4 * POINTS  # the width of the column for figures


def parts_of_the_page() -> dict[str, str]:
    """What the chapter draws."""
    page = Page(ROOT / PAGE, PAGE, (ROOT / PAGE).read_text("utf-8"))
    first = page.named("components")[0]
    return figure.read_parts(first.body.splitlines())


def lines_of(track: str) -> dict[str, str]:
    """The lines of a drawing, by the topic that each begins with."""
    drawn = figure.draw(parts_of_the_page(), track)
    return {
        line.split(" ")[0]: line
        for line in drawn.splitlines()
        if " [label=" in line
    }


def test_an_arrow_is_a_need_by_whichever_way() -> None:
    book = load()
    found = figure.needs_among(parts_of_the_page())
    for need, topic in found:
        assert need in book.needs({topic}) - {topic}
    graph = nx.DiGraph(found)
    for topic in parts_of_the_page():
        shown = book.needs({topic}) & set(parts_of_the_page()) - {topic}
        above = nx.ancestors(graph, topic) if topic in graph else set()
        assert above == shown


def test_needs_lead_through_topics_that_are_not_shown() -> None:
    assert figure.needs_among(["bpe", "gpt"]) == [("bpe", "gpt")]
    assert figure.needs_among(["bpe", "tokens", "gpt"]) == list(
        pairwise(["bpe", "tokens", "gpt"])
    )


@pytest.mark.parametrize("track", TRACKS)
def test_a_track_dashes_what_is_optional_and_greys_what_it_skips(
    track: str,
) -> None:
    lines = lines_of(track)
    assert list(lines) == list(parts_of_the_page())
    for name, line in lines.items():
        depth = load().by_id[name].tracks[track]
        assert ("dashed" in line) == (depth == "optional")
        assert (figure.LEFT_OUT[0] in line) == (depth == "skim")


def test_the_color_is_that_of_the_first_track() -> None:
    lines = lines_of("")
    assert figure.SHADES["beginner"][1] in lines["gpt"]
    assert figure.SHADES["practitioner"][1] in lines["quantize"]
    assert figure.SHADES["researcher"][1] in lines["distributed"]
    dashed = {name for name, line in lines.items() if "dashed" in line}
    assert dashed == {
        name
        for name in parts_of_the_page()
        if "core" not in load().by_id[name].tracks.values()
    }


def test_arrows_to_what_can_wait_are_dashed() -> None:
    drawn = figure.draw({"bpe": "a", "gpt": "b", "cache": "c"}, "beginner")
    assert "gpt -> cache [style=dashed];" in drawn
    assert "bpe -> gpt;" in drawn
    left = figure.draw({"generate": "a", "speed": "b"}, "beginner")
    assert f'generate -> speed [color="{figure.LEFT_OUT[1]}"];' in left


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["nothing: a part"], "no topic 'nothing'"),
        (["gpt: model", "gpt: again"], "gpt stands twice"),
        (["gpt"], "its part"),
        (['gpt: the "model"'], "without quotes"),
        ([], "name a topic"),
    ],
)
def test_a_wrong_line_is_refused(lines: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        figure.read_parts(lines)


@pytest.mark.parametrize("track", ["", *TRACKS])
def test_the_drawing_fits_on_a_page(track: str, tmp_path: Path) -> None:
    path = tmp_path / "components.pdf"
    path.write_bytes(dot(figure.draw(parts_of_the_page(), track), "pdf"))
    with pikepdf.open(path) as pdf:
        _, _, width, height = map(float, pdf.pages[0].MediaBox)
    assert width < COLUMN
    assert height < 176 / 25.4 * POINTS - 28  # the lowest page, a caption


def test_two_drawings_on_a_page_share_no_id() -> None:
    source = figure.draw({"bpe": "tokenizer", "gpt": "model"}, "")
    page = spoken(dot(source, "svg").decode(), "Two parts and an arrow.")
    assert page.count('class="node"') == 2
    assert not re.search(r"\sid=", page)


def test_the_page_assumes_what_the_scaffold_does() -> None:
    """Rate, memory and price of the card that the page rents."""
    text = (ROOT / PAGE).read_text("utf-8")
    [(share, peak, memory, price)] = re.findall(
        r"Budget\(hours=1, rate=(\S+) \* (\S+), memory=(\S+) \* 10\*\*9, "
        r"price=(\S+)\)",
        text,
    )
    [facts] = [f for f in budgets().values() if f.get("card") == "RTX 4090"]
    assert float(share) == SHARE
    assert float(peak) == facts["peak"]
    assert float(memory) * 1e9 == facts["memory"]
    assert float(price) == facts["price"]
