"""The command `compare`: runs side by side."""

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from scratchlm.cli.errors import UserError
from scratchlm.cli.plot import print_plot, save_plot
from scratchlm.cli.runs import check_files, read_settings, taken
from scratchlm.training.trainer import read_log

Rows = list[tuple[str, ...]]


def summary(log: list[dict[str, Any]]) -> tuple[str, ...]:
    """Steps, minutes, best validation loss and the step it came at."""
    judged = [line for line in log if "validation_loss" in line]
    if not judged:
        return (str(len(log)), "", "", "")
    best = min(judged, key=lambda line: line["validation_loss"])
    return (
        str(log[-1]["step"]),
        f"{log[-1]['seconds'] / 60:.1f}",
        f"{best['validation_loss']:.4f}",
        str(best["step"]),
    )


def differing(runs: tuple[Path, ...]) -> dict[str, list[str]]:
    """The settings that are not the same in all runs, by name."""
    settings = [taken(run) for run in runs]
    found = {}
    for name in dict.fromkeys(key for each in settings for key in each):
        values = [str(each.get(name, "")) for each in settings]
        if len(set(values)) > 1:
            found[name] = values
    return found


def table(rows: Rows) -> str:
    """Columns that line up, the first flush left, the others flush right."""
    wide = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *rest in rows:
        cells = [text.rjust(w) for text, w in zip(rest, wide[1:], strict=True)]
        lines.append("  ".join([first.ljust(wide[0]), *cells]).rstrip())
    return "\n".join(lines)


def compare(
    *runs: Annotated[Path, Parameter(help="the runs' folders")],
    svg: Annotated[
        Path | None, Parameter(help="draw the curves into this file as well")
    ] = None,
) -> None:
    """Show runs side by side.

    Draws their validation losses as curves in the terminal, and lists the
    best loss of each run and the settings in which the runs differ. For a
    single run it draws both losses, training and validation.

    Example:
      python -m scratchlm compare runs/toytown runs/muon --svg losses.svg

    Book: The loop: a trainer
    """
    if not runs:
        raise UserError("name the folders of one run or more")
    if svg is not None and svg.suffix != ".svg":
        raise UserError(f"--svg {svg}: the picture is SVG; end it in .svg")
    for run in runs:
        read_settings(run)
        check_files(run, "log.jsonl")
    logs = {str(run): read_log(run) for run in runs}
    if not all(logs.values()):
        empty = [name for name, log in logs.items() if not log]
        raise UserError(f"{empty[0]} has no step yet: there is nothing to show")
    print_plot(logs)
    print()
    head = ("run", "steps", "minutes", "best", "at step")
    print(table([head, *((name, *summary(log)) for name, log in logs.items())]))
    if found := differing(runs):
        print("\nwhat differs:")
        print(table([(name, *values) for name, values in found.items()]))
    if svg is not None:
        save_plot(logs, svg)
        print(f"\n{svg}: drawn")
