"""``{components}``: some topics as the parts of one machine.

Each line of the body names a topic and the part that it stands for:
``bpe: tokenizer``; without a body the parts are those of the drawing before.
An arrow leads from a part to those that need it, be it by way of topics that
are not shown. The roadmap's own drawing, its links and its letters serve here,
too (`press.extensions.roadmap_figure`).
"""

from collections.abc import Iterable, Mapping

import networkx as nx
from docutils import nodes
from sphinx.application import Sphinx

from press.extensions.roadmap_figure import Drawing
from press.identity import book_roadmap
from press.roadmap import TRACKS, Topic, load

SHADES = {  # the first track that has it as core → fill, edge
    "beginner": ("#e4eef7", "#1f6fb2"),
    "practitioner": ("#fbeede", "#d97a12"),
    "researcher": ("#e2f2ee", "#1a8a6b"),
    "": ("#ffffff", "#7b4f9d"),  # a core of none
}
LEFT_OUT = ("#eef0f2", "#9aa3ab")  # fill, edge
LEFT_OUT_WORDS = "#6a737b"


class ComponentsFigure(Drawing):
    """Directive: parts and their needs, for all or with ``:track:``."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        said = self.content or self.env.temp_data.get("components", [])
        self.env.temp_data["components"] = said  # of this page
        try:
            parts = read_parts(said)
        except ValueError as error:
            raise self.error(f"components: {error}") from error
        there = book_roadmap().by_id
        parts = {name: parts[name] for name in parts if name in there}
        return self.framed(draw(parts, self.options.get("track", "")))


def read_parts(lines: Iterable[str]) -> dict[str, str]:
    """Topic → the part it stands for; ValueError says what is wrong.

    >>> read_parts(["bpe: tokenizer", "gpt: model"])
    {'bpe': 'tokenizer', 'gpt': 'model'}
    """
    known = load().by_id
    parts: dict[str, str] = {}
    for line in filter(str.strip, lines):
        topic, _, words = (part.strip() for part in line.partition(":"))
        if topic not in known:
            raise ValueError(f"there is no topic {topic!r} in roadmap.yml")
        if topic in parts:
            raise ValueError(f"{topic} stands twice")
        if not words or '"' in words:
            raise ValueError(f"write “{topic}: its part”, without quotes")
        parts[topic] = words
    if not parts:
        raise ValueError("name a topic and its part on each line")
    return parts


def first_core(topic: Topic) -> str:
    """The first track for which a topic is core; empty where none is."""
    cores = (track for track in TRACKS if topic.tracks[track] == "core")
    return next(cores, "")


def needs_among(shown: Iterable[str]) -> list[tuple[str, str]]:
    """What needs what among some topics, by way of whichever others."""
    graph = nx.DiGraph()
    for topic in load().topics:
        graph.add_node(topic.id)
        graph.add_edges_from((need, topic.id) for need in topic.requires)
    among = nx.transitive_closure(graph).subgraph(shown)
    return sorted(nx.transitive_reduction(among).edges)


def style_of(topic: Topic, track: str) -> str:
    """How a part is drawn: its color is a track's, and grey is left out.

    Dashed is what a track has as optional; without a track, what no track
    has as core.
    """
    depth = topic.tracks[track] if track else ""
    color = first_core(topic)
    fill, edge = SHADES[color]
    dashed = depth == "optional" or (not track and not color)
    words = "#1d2730"
    if depth == "skim":
        (fill, edge), words = LEFT_OUT, LEFT_OUT_WORDS
    return (
        f'fillcolor="{fill}", color="{edge}", fontcolor="{words}", '
        f'style="rounded,filled{",dashed" if dashed else ""}"'
    )


def arrow_style(topic: Topic, track: str) -> str:
    """How an arrow to a part is drawn: as the part is."""
    depth = topic.tracks[track] if track else first_core(topic)
    if depth == "skim":
        return f' [color="{LEFT_OUT[1]}"]'
    return " [style=dashed]" if depth in ("", "optional") else ""


def draw(parts: Mapping[str, str], track: str) -> str:
    """The parts in DOT; what a track leaves out stays in its place, grey."""
    out = [
        "digraph components { rankdir=TB; nodesep=0.1; ranksep=0.2; margin=0;",
        'pad=0.02; bgcolor="transparent";',
        'node [shape=box, fontname="DejaVu Sans", fontsize=8.5, width=0.2,'
        ' height=0.24, margin="0.08,0.04"];',
        'edge [color="#5f6b76", arrowsize=0.5];',
    ]
    topics = load().by_id
    for name, words in parts.items():
        topic = topics[name]
        out.append(
            f'{name} [label="{words}", tooltip="{topic.title}", '
            f'{style_of(topic, track)}, ref="{name}"];'
        )
    for need, name in needs_among(parts):
        out.append(f"{need} -> {name}{arrow_style(topics[name], track)};")
    return "\n".join([*out, "}"])


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("components", ComponentsFigure)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
