"""Figures of the book: one palette, one style, a few things to draw with.

Every chapter's first cell calls `setup()`. Figures come out as vectors, SVG
for the site and PDF for print, the same bytes at every build.
"""

import os
import random
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import torch
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle
from matplotlib_inline.backend_inline import set_matplotlib_formats

from press import records
from press.files import ROOT

# After Okabe and Ito (2008): apart for every kind of color vision, and with
# distinct lightness, so that they stay apart in grey-scale print.
PALETTE = {
    "blue": "#1f6fb2",
    "orange": "#d97a12",
    "green": "#1a8a6b",
    "red": "#b8412f",
    "purple": "#7b4f9d",
    "grey": "#5f6b76",
    "light": "#e9eef3",
    "ink": "#1d2730",
}
# Six inches are printed as five and a half: this is the least that comes out
# at seven points (`press.labels` reads what did).
SMALL = 7.8
CYCLE = ("blue", "orange", "green", "purple", "red", "grey")


def tint(color: str, amount: float = 0.82) -> tuple[float, float, float]:
    """The palette's color, mixed with `amount` of white."""
    r, g, b = to_rgb(PALETTE.get(color, color))
    return tuple(c + (1 - c) * amount for c in (r, g, b))  # type: ignore


def register_maps() -> None:
    """Color maps from white to a palette color, and one that diverges."""
    for name, color in (("blues", "blue"), ("oranges", "orange")):
        ramp = ["#ffffff", PALETTE[color], PALETTE["ink"]]
        mpl.colormaps.register(
            LinearSegmentedColormap.from_list(name, ramp), force=True
        )
    ramp = [PALETTE["blue"], "#ffffff", PALETTE["orange"]]
    mpl.colormaps.register(
        LinearSegmentedColormap.from_list("diverging", ramp), force=True
    )


def setup(seed: int = 2026) -> None:
    """Seeds, one thread, style and vector formats; once per chapter."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    os.environ.setdefault("SOURCE_DATE_EPOCH", "0")
    mpl.rcParams.update(
        {
            "figure.dpi": 100,
            "figure.constrained_layout.use": True,
            "font.family": "sans-serif",
            "font.sans-serif": ["DejaVu Sans"],
            "font.size": 8,
            "axes.titlesize": 8.5,
            "axes.titleweight": "bold",
            "axes.titlelocation": "left",
            "axes.edgecolor": PALETTE["grey"],
            "axes.labelcolor": PALETTE["ink"],
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": False,
            "axes.prop_cycle": cycler(color=[PALETTE[c] for c in CYCLE]),
            "xtick.color": PALETTE["grey"],
            "ytick.color": PALETTE["grey"],
            "text.color": PALETTE["ink"],
            "lines.linewidth": 1.6,
            "legend.frameon": False,
            "legend.fontsize": SMALL,
            "pdf.fonttype": 42,
            "svg.fonttype": "path",
            "svg.hashsalt": "scratchlm",
        }
    )
    register_maps()
    set_matplotlib_formats("svg", "pdf", bbox_inches="tight", pad_inches=0.04)


def figure(width: float = 6, height: float = 2.6, **grid: Any) -> Any:
    """A figure of `width` × `height` inches and its axes (text: 6 wide)."""
    return plt.subplots(figsize=(width, height), **grid)


def canvas(width: float = 6, height: float = 2.6) -> tuple[Figure, Axes]:
    """An empty drawing board measured in inches, origin bottom left."""
    fig = plt.figure(figsize=(width, height), layout="none")
    ax = fig.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, width), ylim=(0, height), aspect="equal")
    ax.axis("off")
    return fig, ax


def box(
    ax: Axes,
    x: float,
    y: float,
    w: float,
    h: float,
    text: str = "",
    color: str = "blue",
    **style: Any,
) -> None:
    """A rounded box with its lower left corner at (x, y)."""
    ax.add_patch(
        FancyBboxPatch(
            (x, y),
            w,
            h,
            boxstyle="round,pad=0,rounding_size=0.06",
            facecolor=tint(color),
            edgecolor=PALETTE.get(color, color),
            linewidth=1,
        )
    )
    style = {"ha": "center", "va": "center", "fontsize": 8, **style}
    ax.text(x + w / 2, y + h / 2, text, **style)


def arrow(
    ax: Axes,
    start: tuple[float, float],
    end: tuple[float, float],
    text: str = "",
    color: str = "grey",
    bend: float = 0,
    dashed: bool = False,
) -> None:
    """An arrow from `start` to `end`, its label beside the middle."""
    ax.add_patch(
        FancyArrowPatch(
            start,
            end,
            arrowstyle="-|>",
            mutation_scale=8,
            color=PALETTE.get(color, color),
            linewidth=1,
            linestyle="--" if dashed else "-",
            connectionstyle=f"arc3,rad={bend}",
            shrinkA=0,
            shrinkB=0,
        )
    )
    if text:
        middle = ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
        ax.annotate(
            text,
            middle,
            xytext=(4, 2),
            textcoords="offset points",
            fontsize=SMALL,
            color=PALETTE["grey"],
        )


def matrix(
    ax: Axes,
    x: float,
    y: float,
    rows: int,
    columns: int,
    label: str = "",
    color: str = "blue",
    cell: float = 0.18,
    values: Any = None,
) -> tuple[float, float]:
    """A grid of cells with its lower left corner at (x, y), label above.

    `values` (rows × columns, from 0 to 1) shade the cells. Returns the
    width and the height drawn, in inches.
    """
    for i in range(rows):
        for j in range(columns):
            level = 0.8 if values is None else 1 - 0.85 * float(values[i][j])
            ax.add_patch(
                Rectangle(
                    (x + j * cell, y + (rows - 1 - i) * cell),
                    cell,
                    cell,
                    facecolor=tint(color, level),
                    edgecolor="white",
                    linewidth=0.8,
                )
            )
    w, h = columns * cell, rows * cell
    ax.add_patch(
        Rectangle(
            (x, y),
            w,
            h,
            fill=False,
            edgecolor=PALETTE.get(color, color),
            linewidth=1,
        )
    )
    ax.text(x + w / 2, y + h + 0.05, label, ha="center", va="bottom")
    return w, h


def heatmap(
    ax: Axes,
    values: Any,
    rows: list[str] | None = None,
    columns: list[str] | None = None,
    numbers: bool = False,
    cmap: str = "blues",
    **limits: Any,
) -> Any:
    """A matrix as shades, with labels and, if asked, its numbers."""
    values = np.asarray(torch.as_tensor(values).detach())
    picture = ax.pcolormesh(
        values, cmap=cmap, edgecolors="white", linewidth=0.4, **limits
    )
    ax.invert_yaxis()
    ax.set_aspect("equal")
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    for axis, labels, count in (
        (ax.yaxis, rows, values.shape[0]),
        (ax.xaxis, columns, values.shape[1]),
    ):
        axis.set_ticks([i + 0.5 for i in range(count)] if labels else [])
        if labels:
            axis.set_ticklabels(labels)
    if columns:
        ax.xaxis.tick_top()
        long = max(len(label) for label in columns) > 3
        ax.tick_params(axis="x", labelrotation=90 if long else 0)
    if numbers:
        write_numbers(ax, values, picture)
    return picture


def write_numbers(ax: Axes, values: Any, picture: Any) -> None:
    """Each cell's number on it, in ink or white, whichever is readable."""
    for (i, j), value in np.ndenumerate(values):
        r, g, b, _ = picture.cmap(picture.norm(value))
        dark = 0.299 * r + 0.587 * g + 0.114 * b < 0.5
        ax.text(
            j + 0.5,
            i + 0.5,
            f"{value:.2f}",
            ha="center",
            va="center",
            fontsize=SMALL,
            color="white" if dark else PALETTE["ink"],
        )


def record(name: str) -> dict[str, Any]:
    """The stored run ``records/NAME.json``, its seal verified."""
    return records.read(ROOT / "records" / f"{name}.json")


def book_run() -> Path:
    """The folder of the small model that the build trains."""
    path = ROOT / "_build" / "runs" / "toytown"
    if not (path / "log.jsonl").exists():
        raise FileNotFoundError(f"{path} is not there; run: make run")
    return path
