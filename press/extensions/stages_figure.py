"""``{stages}``: the topics by the stage of the work they belong to.

The road as one sees it on a spread: a panel for each part of the book, in two
columns, and in it the part's topics, each below those that it needs. What it
needs of other stages is left to ``{roadmap}``. The boxes lead to the cards.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise

from docutils import nodes
from sphinx.application import Sphinx

from press.extensions.roadmap_figure import (
    COLORS,
    Drawing,
    arrows,
    box,
    in_rows,
    is_drawn,
)
from press.identity import book_roadmap
from press.roadmap import Topic, of_edition

# In inches.
LETTER, FRAME, HEIGHT = 0.075, 0.12, 0.19  # of a box
BESIDE, ROW = 0.1, 0.275  # from box to box, from row to row
PANEL, APART, HEAD = 2.6, 0.13, 0.28  # of a frame, and for its title
ROOM = 33  # letters in a row of boxes
GRAPH = """digraph stages { layout=neato; splines=line; margin=0; pad=0.02;
outputorder=edgesfirst; bgcolor="transparent";
node [shape=box, fixedsize=true, fontname="DejaVu Sans", fontsize=8.5,
 margin="0,0", width=0.2];
edge [color="#5f6b76", arrowsize=0.5];"""


class StagesFigure(Drawing):
    """Directive: the stages of the whole book, or of one track's topics."""

    def run(self) -> list[nodes.Node]:
        edition = self.config.book_track
        track = self.options.get("track", edition)
        topics = of_edition(book_roadmap(), edition)
        shown = [topic for topic in topics if is_drawn(topic, track)]
        return self.framed(draw(shown, track))


def draw(topics: Sequence[Topic], track: str) -> str:
    """The stages in DOT, each box in its place; a track's optional dashed."""
    parts = [
        (part, title, [t for t in topics if t.part == part])
        for part, title in book_roadmap().parts.items()
    ]
    parts = [part for part in parts if part[2]]
    heights = [panel_height(group) for *_, group in parts]
    first = left_column(heights)
    out, top = [GRAPH], 0.0
    for i, (part, title, group) in enumerate(parts):
        if i == first:
            top = 0.0
        left = 0.0 if i < first else PANEL + APART
        out += panel(f"{i + 1}  {title}", part, left, top, heights[i])
        out += boxes(group, track, left, top)
        top -= heights[i] + APART
    names = [part for part, *_ in parts]
    out += [
        f"stage_{a} -> stage_{b} [penwidth=2, arrowsize=0.8];"
        for column in (names[:first], names[first:])
        for a, b in pairwise(column)
    ]
    return "\n".join([*out, "}"])


def panel_height(group: Sequence[Topic]) -> float:
    """How high the panel of some topics is."""
    return HEAD + ROW * len(in_rows(group, ROOM))


def left_column(heights: Sequence[float]) -> int:
    """How many panels stand on the left, so that the columns end alike."""
    whole = sum(heights)
    return min(
        range(1, len(heights) + 1),
        key=lambda n: max(sum(heights[:n]), whole - sum(heights[:n])),
    )


def panel(
    title: str, part: str, left: float, top: float, height: float
) -> list[str]:
    """The frame of a stage, and its title at the top on the left."""
    fill, edge = COLORS[part]
    middle = left + PANEL / 2
    return [
        f'stage_{part} [label="", style="rounded,filled", color="{edge}", '
        f'fillcolor="{fill}60", width={PANEL}, height={height:.3f}, '
        f'pos="{middle:.3f},{top - height / 2:.3f}!"];',
        f'title_{part} [label="{title}\\l", shape=plaintext, '
        f"width={PANEL - 0.2:.3f}, height={HEIGHT}, "
        f'pos="{middle:.3f},{top - HEAD / 2:.3f}!"];',
    ]


def boxes(
    group: Sequence[Topic], track: str, left: float, top: float
) -> Iterable[str]:
    """The topics of a stage, row by row, and the arrows among them."""
    by_id = {topic.id: topic for topic in group}
    for down, row in enumerate(in_rows(group, ROOM)):
        x = left + (PANEL - row_width(row)) / 2
        y = top - HEAD - ROW * down - HEIGHT / 2
        for name in row:
            width = LETTER * len(name) + FRAME
            place = (
                f", width={width:.3f}, height={HEIGHT}, "
                f'pos="{x + width / 2:.3f},{y:.3f}!"'
            )
            yield box(by_id[name], track, place)
            x += width + BESIDE
    yield from (f"{a} -> {b};" for a, b in arrows(group, set(by_id)))


def row_width(row: Sequence[str]) -> float:
    """From the first box of a row to the last, in inches."""
    widths = (LETTER * len(name) + FRAME for name in row)
    return sum(widths) + BESIDE * (len(row) - 1)


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("stages", StagesFigure)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
