"""The roadmap is valid, and what is wrong in one is named with its line."""

import re
from pathlib import Path

import pytest

from press import roadmap
from press.extensions import roadmap_figure
from press.roadmap import RoadmapError, contents, load

GOOD = roadmap.ROADMAP.read_text(encoding="utf-8")

TOOL = (
    '  - {name: NumPy, url: "https://numpy.org", license: BSD-3-Clause, '
    "for: sums}\n"
)


def test_topics_come_after_what_they_require() -> None:
    seen: set[str] = set()
    for topic in load().topics:
        assert set(topic.requires) <= seen
        seen.add(topic.id)


def test_everything_leads_back_to_the_corpus() -> None:
    book = load()
    for topic in book.topics:
        assert "toytown" in book.needs({topic.id})


# Optional topics that a core topic requires. What beginners need of theirs is
# told in the chapter that needs it (APART in test_tracks.py).
TOLD = {
    "beginner": {"schedule", "memory", "checkpoint", "cache", "probes"}
    | {"packing"},
    "practitioner": set(),
    "researcher": set(),
}


@pytest.mark.parametrize("track", roadmap.TRACKS)
def test_core_topics_require_nothing_that_the_track_skips_silently(
    track: str,
) -> None:
    """What a core topic requires is core, skimmed, or known to be told."""
    book = load()
    core = [t for t in book.topics if t.tracks[track] == "core"]
    assert len(core) >= 12
    required = {name for topic in core for name in topic.requires}
    depth = {name: book.by_id[name].tracks[track] for name in required}
    assert {n for n in depth if depth[n] == "optional"} == TOLD[track]


def test_every_chapter_is_in_the_contents_once() -> None:
    text = str(contents(load()))
    for topic in load().topics:
        name = topic.files["chapter"].removesuffix(".md")
        assert text.count(f"'{name}'") == 1


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("part: first", "part: fist", "no part fist"),
        ("requires: [toytown]", "requires: [nowhere]", "not before it"),
        ("  hazard: >-", "  hazard: soon", "does not match"),
        ("  done: >-", "  finished: >-", "'done' is a"),
        ("  - name: KenLM", "  - title: KenLM", "'name' is a"),
        ("url: https://g", "url: http://g", "does not match"),
        ("    license: MPL-2.0\n", "", "'license' is a"),
        ("license: MPL-2.0", "license: free", "is not one of"),
        ("rules: [origin]", "rules: [Origin]", "does not match"),
        ("rules: [origin]", "rules: []", "should be non-empty"),
        ("    date: ", "    day: ", "are not allowed"),
        ('    date: "2018-05-25"\n', "", "is a dependency of"),
        ("  tools:\n", "  tools:\n" + 3 * TOOL, "is too long"),
        ("gives: a corpus", "give: a corpus", "'gives' is a"),
        ("beginner: core", "beginner: all", "is not one of"),
        ("- id: characters", "- id: toytown", "toytown stands twice"),
    ],
)
def test_a_mistake_is_named_with_its_line(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    assert old in GOOD
    path = tmp_path / "roadmap.yml"
    path.write_text(GOOD.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(RoadmapError, match=r"roadmap\.yml:\d+") as error:
        load(path)
    assert message in str(error.value)


def test_the_line_is_the_right_one(tmp_path: Path) -> None:
    path = tmp_path / "roadmap.yml"
    path.write_text(GOOD.replace("package: text", "package: 7", 1))
    lines = path.read_text(encoding="utf-8").splitlines()
    with pytest.raises(RoadmapError) as error:
        load(path)
    number = int(str(error.value).split(":")[1])
    assert lines[number - 1].strip() == "package: 7"


def test_yaml_that_cannot_be_read_is_said_so(tmp_path: Path) -> None:
    path = tmp_path / "roadmap.yml"
    path.write_text("parts: [", encoding="utf-8")
    with pytest.raises(RoadmapError, match=r"roadmap\.yml"):
        load(path)


def test_an_explanation_has_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "roadmap.yml"
    long = "A word " + "more " * roadmap.LONGEST + "and an end."
    first = "  explanation: >-\n    A grammar"
    assert first in GOOD
    path.write_text(GOOD.replace(first, f"{first} {long}", 1))
    with pytest.raises(RoadmapError, match="45 are the limit") as error:
        load(path)
    number = int(str(error.value).split(":")[1])
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[number - 1].strip() == "explanation: >-"


def test_tools_are_named_alike_and_lead_to_one_place() -> None:
    """One name, one address, one license: a reader learns it once."""
    known: dict[str, tuple[str, str]] = {}
    for topic in load().topics:
        names = [tool.name for tool in topic.tools]
        assert len(set(names)) == len(names), topic.id
        for tool in topic.tools:
            what = (tool.url, tool.license)
            assert known.setdefault(tool.name, what) == what


def test_parts_of_one_repository_have_one_license() -> None:
    """Tools of one site go together, as torch's do."""
    known: dict[str, set[str]] = {}
    for topic in load().topics:
        for tool in topic.tools:
            place = re.match(r"https://(github.com/.+|[^/]+)", tool.url)
            assert place is not None
            known.setdefault(place[1], set()).add(tool.license)
    assert known["docs.pytorch.org"] == {"BSD-3-Clause"}
    assert all(len(found) == 1 for found in known.values())


def test_the_colors_of_the_roadmap_are_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each part that has a box, once, as its boxes are filled and framed."""
    monkeypatch.setattr(roadmap_figure, "book_roadmap", load)
    book = load()
    told = roadmap_figure.key(book.topics)
    assert [title for title, *_ in told] == list(book.parts.values())
    graph = roadmap_figure.draw("")
    for _, fill, edge in told:
        assert f'fillcolor="{fill}", color="{edge}"' in graph
    some = [t for t in book.topics if t.part in ("text", "serving")]
    two = roadmap_figure.key(some)
    assert [title for title, *_ in two] == ["Text becomes tokens", "Into use"]
    page = roadmap_figure.key_in_html([("A & B", "#fbeede", "#d97a12")])
    assert ">A &amp; B</li>" in page
    assert "background: #fbeede; border-color: #d97a12" in page
    printed = roadmap_figure.key_in_tex(two)
    assert r"\bookkey{D97A12}{FBEEDE}{Text becomes tokens}" in printed
    assert printed.count(r"\bookkey") == 2
