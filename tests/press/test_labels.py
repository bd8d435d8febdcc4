"""Letters that are too small in a printed figure are found and named."""

from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import pikepdf
import pytest

from press import drawing
from press.extensions import roadmap_figure
from press.labels import labels, too_small

POINTS = 72
COLUMN = 140 / 25.4 * POINTS  # the width of the column for figures


def figure(path: Path, width: float, *texts: tuple[str, float]) -> Path:
    """A drawing of `width` inches with texts of these sizes."""
    with mpl.rc_context({"pdf.fonttype": 42}):
        picture = plt.figure(figsize=(width, 2), layout="none")
        for i, (text, size) in enumerate(texts):
            picture.text(0.1, 0.8 - 0.2 * i, text, fontsize=size)
        picture.savefig(path)
        plt.close(picture)
    return path


def printed(path: Path, drawn: Path, number: str = "3.2") -> Path:
    """A page as TeX makes it: the figure on its column, and a caption."""
    page = plt.figure(figsize=(7.5, 9.25))
    page.text(0.15, 0.4, f"Figure {number}   What one sees.", fontsize=5)
    page.savefig(path)
    plt.close(page)
    with pikepdf.open(path, allow_overwriting_input=True) as pdf:
        with pikepdf.open(drawn) as source:
            _, _, width, height = map(float, source.pages[0].MediaBox)
            scale = min(1.0, COLUMN / width)
            box = 74, 300, 74 + scale * width, 300 + scale * height
            pdf.pages[0].add_overlay(source.pages[0], pikepdf.Rectangle(*box))
        pdf.save(path)
    return path


def test_a_label_of_seven_points_is_less_in_print(tmp_path: Path) -> None:
    drawn = figure(tmp_path / "figure.pdf", 6, ("tiny one", 7), ("fine", 9))
    found = too_small(printed(tmp_path / "book.pdf", drawn))
    size = 7 * COLUMN / (6 * POINTS)
    assert found == [f"page 1, Figure 3.2: “tiny” is {size:.2f} pt"]


def test_what_is_not_shrunk_keeps_its_size(tmp_path: Path) -> None:
    drawn = figure(tmp_path / "figure.pdf", 4, ("seven", 7), ("eight", 8))
    path = printed(tmp_path / "book.pdf", drawn)
    assert [x.size for x in labels(path)] == pytest.approx([7, 8], abs=0.01)
    assert too_small(path) == []


def test_an_index_may_be_smaller_but_not_as_small_as_it_likes(
    tmp_path: Path,
) -> None:
    good = figure(tmp_path / "good.pdf", 4, ("$x_k$", 8))
    assert too_small(printed(tmp_path / "book.pdf", good)) == []
    bad = figure(tmp_path / "bad.pdf", 4, ("$x_{k_m}$", 8))
    (found,) = too_small(printed(tmp_path / "bad-book.pdf", bad, "A.1"))
    assert "Figure A.1" in found


def test_prose_is_no_label(tmp_path: Path) -> None:
    # The caption of these pages is set in five points, and no figure's.
    drawn = figure(tmp_path / "figure.pdf", 4)
    path = printed(tmp_path / "book.pdf", drawn)
    assert list(labels(path)) == []


def test_our_smallest_size_can_be_printed() -> None:
    assert drawing.SMALL * COLUMN / (6 * POINTS) > 7


@pytest.mark.parametrize("track", ["", *roadmap_figure.TRACKS])
def test_the_roadmap_is_printed_as_it_is_drawn(
    track: str, tmp_path: Path
) -> None:
    path = tmp_path / "roadmap.pdf"
    path.write_bytes(roadmap_figure.dot(roadmap_figure.draw(track), "pdf"))
    with pikepdf.open(path) as pdf:
        _, _, width, height = map(float, pdf.pages[0].MediaBox)
    assert width < COLUMN
    assert height < 176 / 25.4 * POINTS - 28  # the lowest page, a caption
