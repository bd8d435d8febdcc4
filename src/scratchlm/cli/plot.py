"""Losses as a picture: in the terminal, and as a file beside the run."""

import sys
from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import plotext

from scratchlm.text.files import replacing

Log = Sequence[Mapping[str, Any]]
Curve = tuple[list[int], list[float]]
MARKS = "·ox+*#%@"
LINES = dict.fromkeys(range(0x2500, 0x2580), "+")  # corners, crossings
LINES |= {ord("─"): "-", ord("│"): "|", ord("·"): "."}


def curve(log: Log, name: str) -> Curve:
    """Steps and losses of the lines of a log that have this loss.

    >>> curve([{"step": 1, "a": 3.0}, {"step": 2}], "a")
    ([1], [3.0])
    """
    lines = [line for line in log if name in line]
    return [line["step"] for line in lines], [line[name] for line in lines]


def curves(logs: Mapping[str, Log]) -> dict[str, Curve]:
    """What to draw: both losses of one run, or the validation's of several."""
    if len(logs) == 1:
        (log,) = logs.values()
        return {
            "training": curve(log, "train_loss"),
            "validation": curve(log, "validation_loss"),
        }
    return {
        name: curve(log, "validation_loss") for name, log in logs.items()
    }


def drawable(picture: str, encoding: str) -> str:
    """The picture, its lines in ASCII if an encoding has no others.

    >>> drawable("┌─·─┐", "ascii")
    '+-.-+'
    """
    try:
        picture.encode(encoding)
    except UnicodeEncodeError:
        return picture.translate(LINES)
    return picture


def terminal_plot(
    logs: Mapping[str, Log],
    width: int = 72,
    height: int = 16,
    encoding: str = "utf-8",
) -> str:
    """The losses by step in characters, and a key below; no colors."""
    figure, keys = plotext.figure, list[str]()
    figure.clear()
    figure.theme("colorless")
    figure.plot_size(width, height)
    figure.title("loss, in nats per token")
    for (name, (steps, losses)), mark in zip(
        curves(logs).items(), cycle(MARKS), strict=False
    ):
        if steps:  # or it would be drawn at 0
            figure.draw(figure.signal(steps, losses, marker=mark))
            keys.append(f"{mark} {name}")
    text: str = plotext.uncolorize(str(figure.build()))
    lines = [line.rstrip() for line in text.splitlines()] + keys
    return drawable("\n".join(lines), encoding)


def print_plot(logs: Mapping[str, Log]) -> None:
    """Print the losses, drawn in characters that the output can show."""
    print(terminal_plot(logs, encoding=sys.stdout.encoding or "utf-8"))


def save_plot(logs: Mapping[str, Log], path: Path) -> None:
    """The losses by step as SVG; equal logs give equal files."""
    import matplotlib
    from matplotlib.figure import Figure

    settings: Any = {"svg.hashsalt": "loss", "svg.fonttype": "none"}
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=(6, 3.5), layout="constrained")
        axes = figure.add_subplot()
        for i, (name, (steps, losses)) in enumerate(curves(logs).items()):
            mark = "-" if name == "training" else "o-"
            axes.plot(
                steps, losses, mark, color=f"C{i}", label=name, markersize=3
            )
        axes.set_xlabel("step")
        axes.set_ylabel("nats per token")
        for text in axes.legend(frameon=False).get_texts():
            text.set_parse_math(False)  # a folder's name may have a $
        axes.grid(alpha=0.3)
        with replacing(path) as partial:
            figure.savefig(partial, format="svg", metadata={"Date": None})
