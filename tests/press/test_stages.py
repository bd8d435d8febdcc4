"""The stages of the book as a picture: every topic once, in its place."""

import json
import subprocess

import pytest

from press.extensions.roadmap_figure import dot, is_drawn
from press.extensions.stages_figure import draw, left_column
from press.roadmap import TRACKS, Topic, load

TALLEST = 176 / 25.4 - 28 / 72  # inches: the lowest page, without a caption
WIDEST = 140 / 25.4


def topics(track: str) -> list[Topic]:
    """What the picture of a track shows."""
    return [topic for topic in load().topics if is_drawn(topic, track)]


def laid_out(track: str) -> dict[str, dict[str, str]]:
    """What Graphviz has placed, by its name."""
    graph = json.loads(dot(draw(topics(track), track), "json0"))
    return {item["name"]: item for item in graph["objects"]}


def corners(item: dict[str, str]) -> tuple[float, float, float, float]:
    """Left, bottom, right and top in inches."""
    x, y = (float(value) / 72 for value in item["pos"].split(","))
    width, height = float(item["width"]) / 2, float(item["height"]) / 2
    return x - width, y - height, x + width, y + height


@pytest.mark.parametrize("track", ["", *TRACKS])
def test_each_topic_stands_once_in_the_frame_of_its_stage(track: str) -> None:
    placed = laid_out(track)
    shown = topics(track)
    assert {x for x in placed if "_" not in x} == {t.id for t in shown}
    for topic in shown:
        left, bottom, right, top = corners(placed[topic.id])
        frame = corners(placed[f"stage_{topic.part}"])
        title = corners(placed[f"title_{topic.part}"])
        assert frame[0] < left < right < frame[2]
        assert frame[1] < bottom < top < title[1]


@pytest.mark.parametrize("track", ["", *TRACKS])
def test_no_box_hides_another(track: str) -> None:
    placed = laid_out(track)
    kinds = [[n for n in placed if "_" not in n]]
    kinds.append([n for n in placed if n.startswith("stage_")])
    for names in kinds:
        for i, one in enumerate(names):
            a = corners(placed[one])
            for other in names[:i]:
                b = corners(placed[other])
                across = a[0] < b[2] and b[0] < a[2]
                assert not (across and a[1] < b[3] and b[1] < a[3])


@pytest.mark.parametrize("track", ["", *TRACKS])
def test_what_is_needed_stands_above_and_it_fits_on_a_page(
    track: str,
) -> None:
    placed = laid_out(track)
    by_id = {topic.id: topic for topic in topics(track)}
    for topic in by_id.values():
        for need in set(topic.requires) & set(by_id):
            if by_id[need].part == topic.part:
                above = corners(placed[need])[1]
                assert above > corners(placed[topic.id])[3]
    frames = [corners(placed[n]) for n in placed if n.startswith("stage_")]
    left, bottom, right, top = zip(*frames, strict=True)
    assert max(top) - min(bottom) <= TALLEST
    assert max(right) - min(left) <= WIDEST


def test_every_name_fits_into_its_box() -> None:
    """Graphviz complains of each that does not."""
    done = subprocess.run(
        ["dot", "-Tjson"],
        input=draw(topics(""), "").encode(),
        capture_output=True,
        check=True,
    )
    assert done.stderr == b""
    wide = draw(topics(""), "").replace("width=0.", "width=0.0")
    done = subprocess.run(
        ["dot", "-Tjson"], input=wide.encode(), capture_output=True
    )
    assert b"too small for label" in done.stderr


def test_a_box_leads_to_its_card_and_optional_ones_are_dashed() -> None:
    for track in TRACKS:
        lines = draw(topics(track), track).splitlines()
        for topic in topics(track):
            line = next(x for x in lines if x.startswith(f"{topic.id} ["))
            assert f'ref="{topic.id}"' in line
            assert ("dashed" in line) == (topic.tracks[track] == "optional")
    assert "dashed" not in draw(topics(""), "")


def test_the_columns_end_alike() -> None:
    assert left_column([1, 1, 1, 1]) == 2
    assert left_column([3, 1, 1, 1]) == 1
    assert left_column([1, 1, 1, 3]) == 3
    assert left_column([2]) == 1
