"""Train the runs of a sweep, register them, and report what they say.

    python sweep.py run sweeps/rate.toml      trains what is not registered
    python sweep.py run sweeps/rate.toml -n   says what it would train
    python sweep.py report sweeps/rate.toml   writes reports/rate.md

A sweep is a TOML file: the settings that all runs share, those that vary, and
at least three seeds, since one seed cannot tell a difference from luck. Each
run is a line of registry.jsonl, with the commit, hashes of its settings and of
its text, its weights, tokens, operations, seconds and losses, and the machine.
Nothing in it is typed. Stopped in the middle, the same command goes on.
"""

import argparse
import hashlib
import itertools
import json
import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomllib
import torch

from scratchlm.cli.app import make_app, parse
from scratchlm.cli.errors import UserError
from scratchlm.cli.runs import run_tokenizer
from scratchlm.model.gpt import flops_per_token
from scratchlm.text.corpus import find_leaks
from scratchlm.text.files import (
    FileError,
    append_text,
    file_sha256,
    write_text,
)
from scratchlm.text.tokens import open_tokens
from scratchlm.training.checkpoint import load_model
from scratchlm.training.scaling import fit_law
from scratchlm.training.trainer import read_log

HERE = Path(__file__).parent
REGISTRY = HERE / "registry.jsonl"
REPORTS = HERE / "reports"
SEEDS = 3  # the least
STOPPED = 130  # the exit code of what Ctrl-C ended
RUN_OF_WORDS = 13  # Brown et al. (2020), appendix C
Entry = dict[str, Any]
Point = dict[str, Any]


class SweepError(ValueError):
    """A sweep that cannot be run or reported; says why, and the way out."""


@dataclass(frozen=True)
class Sweep:
    """What a file of `sweeps/` asks for."""

    name: str
    settings: Point
    vary: dict[str, list[Any]]
    seeds: list[int]

    @property
    def points(self) -> list[Point]:
        """Each combination of what varies."""
        rows = itertools.product(*self.vary.values())
        return [dict(zip(self.vary, row, strict=True)) for row in rows]

    @property
    def runs(self) -> Iterator[Point]:
        """The settings of each run: a point and a seed."""
        for point in self.points:
            for seed in self.seeds:
                yield {**self.settings, **point, "seed": seed}


def read_sweep(path: Path) -> Sweep:
    """A sweep's file; SweepError for one that cannot be a sweep.

    The settings of each run are put before the command that they are for,
    so that a wrong one is told now, and not after hours.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SweepError(f"{path} cannot be read: {error}") from error
    kinds = {"settings": dict, "vary": dict, "seeds": list}
    for name, kind in kinds.items():
        if not isinstance(data.get(name), kind):
            what = "a table" if kind is dict else "a list"
            raise SweepError(f"{path}: {name} must be {what}")
    lists = data["vary"].values()
    if not lists or not all(isinstance(x, list) and x for x in lists):
        raise SweepError(f"{path}: vary must name lists of values")
    seeds = [seed for seed in data["seeds"] if isinstance(seed, int)]
    if len(set(seeds)) < SEEDS or len(seeds) < len(data["seeds"]):
        raise SweepError(f"{path}: name {SEEDS} different seeds or more")
    sweep = Sweep(path.stem, data["settings"], data["vary"], data["seeds"])
    for settings in sweep.runs:
        try:
            parse(make_app(), ["train", *options(settings)])
        except UserError as error:
            raise SweepError(f"{path}: {error}") from error
    return sweep


def options(settings: Point) -> list[str]:
    """The settings as options of `scratchlm train`."""
    words = []
    for name, value in settings.items():
        option = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{option}" if value else f"--no-{option}")
        else:
            words += [f"--{option}", str(value)]
    return words


def digest(settings: Point) -> str:
    """A hash of a run's settings, whatever their order."""
    text = json.dumps(settings, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def commit() -> str:
    """The commit of the code, marked where tracked files differ from it."""
    found = git("rev-parse", "HEAD") or "no commit"
    others = [f":!{name}" for name in (REGISTRY.name, REPORTS.name)]
    changed = git("status", "--porcelain", "-uno", "--", ".", *others)
    return found + ("+changes" if changed else "")


def git(*words: str) -> str:
    """What git prints in this folder, "" where it has nothing to say."""
    done = subprocess.run(
        ["git", *words], cwd=HERE, capture_output=True, text=True, check=False
    )
    return done.stdout.strip()


def registered(name: str) -> dict[str, Entry]:
    """The last line of the registry for each run of a sweep, by its hash."""
    if not REGISTRY.exists():
        return {}
    found = {}
    lines = REGISTRY.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, 1):
        try:
            entry = json.loads(line)
            if entry["sweep"] == name:
                found[entry["settings_hash"]] = entry
        except (ValueError, LookupError, TypeError) as error:
            raise SweepError(
                f"{REGISTRY.name}:{number} is no entry ({error}); take it "
                "out, and its run is registered again"
            ) from error
    return found


def machine() -> str:
    """What the runs are trained on."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{torch.get_num_threads()} threads of a processor"


def measured(folder: Path) -> Entry:
    """What a finished run says of itself."""
    log = read_log(folder)
    files = [folder / f"{name}.tokens" for name in ("train", "validation")]
    text = "".join(map(file_sha256, files))
    losses = [e["validation_loss"] for e in log if "validation_loss" in e]
    model = load_model(folder)
    tokens = log[-1]["tokens"]
    return {
        "text_hash": hashlib.sha256(text.encode()).hexdigest(),
        "weights": sum(p.numel() for p in model.parameters()),
        "tokens": tokens,
        "operations": tokens * flops_per_token(model.config),
        "seconds": log[-1]["seconds"],
        "machine": machine(),
        "loss": min(losses),
        "last_loss": losses[-1],
    }


def train(sweep: Sweep, settings: Point) -> None:
    """One run by `scratchlm train`, and its line in the registry."""
    mark = digest(settings)
    folder = HERE / "runs" / sweep.name / mark[:12]
    words = [sys.executable, "-m", "scratchlm", "train", "--out", str(folder)]
    begun = (folder / "checkpoint").exists()
    words += ["--resume"] if begun else options(settings)
    code = commit()
    if status := subprocess.run(words, cwd=HERE, check=False).returncode:
        if status == STOPPED:
            raise KeyboardInterrupt
        raise SweepError(f"the run in {folder} failed; its words are above")
    entry = {
        "sweep": sweep.name,
        "run": folder.relative_to(HERE).as_posix(),
        "commit": code,
        "settings": settings,
        "settings_hash": mark,
        **measured(folder),
    }
    append_text(REGISTRY, json.dumps(entry) + "\n")


def run(sweep: Sweep, dry: bool) -> None:
    """Train all runs that are not registered."""
    known = registered(sweep.name)
    todo = [each for each in sweep.runs if digest(each) not in known]
    print(f"{sweep.name}: {len(todo)} runs to train, {len(known)} registered")
    for number, settings in enumerate(todo, 1):
        said = ", ".join(f"{k} {v}" for k, v in settings.items())
        print(f"run {number} of {len(todo)}: {said}", flush=True)
        if not dry:
            train(sweep, settings)


# --- the report --------------------------------------------------------------


def grouped(sweep: Sweep) -> list[tuple[Point, list[Entry]]]:
    """The registered runs of each point; SweepError where a seed lacks."""
    known = registered(sweep.name)
    found = []
    for point in sweep.points:
        wanted = [
            {**sweep.settings, **point, "seed": seed} for seed in sweep.seeds
        ]
        entries = [known[d] for d in map(digest, wanted) if d in known]
        if len(entries) < len(wanted):
            raise SweepError(
                f"{sweep.name}: {point} has {len(entries)} of {len(wanted)} "
                "seeds; train the rest with: python sweep.py run"
            )
        found.append((point, entries))
    return found


def table(groups: list[tuple[Point, list[Entry]]]) -> list[str]:
    """Mean and range of the best losses of each point, in Markdown."""
    names = list(groups[0][0])
    head = [*names, "weights", "tokens", "seeds", "mean", "lowest", "highest"]
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for point, entries in groups:
        losses = [e["loss"] for e in entries]
        sizes = [f"{entries[0][k]:,}" for k in ("weights", "tokens")]
        numbers = [statistics.mean(losses), min(losses), max(losses)]
        cells = [str(point[name]) for name in names] + sizes
        cells += [str(len(losses)), *(f"{x:.4f}" for x in numbers)]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def law(groups: list[tuple[Point, list[Entry]]]) -> str:
    """The law of weights and tokens that fits the means, or why there is none.

    Each point counts once, with the mean of its seeds.
    """
    rows = [
        (
            float(entries[0]["weights"]),
            float(entries[0]["tokens"]),
            statistics.mean(e["loss"] for e in entries),
        )
        for _, entries in groups
    ]
    try:
        found = fit_law(*zip(*rows, strict=True))
    except ValueError as error:
        return f"No law was fitted: {error}."
    return (
        f"loss = {found.floor:.4f} + {found.a:.4g} / "
        f"weights^{found.alpha:.3f} + {found.b:.4g} / "
        f"tokens^{found.beta:.3f}, fitted to {len(rows)} means."
    )


def documents(folder: Path, name: str) -> Iterator[str]:
    """The documents of a run's tokens, as text again.

    A tokenizer of characters has no sign between two: all is one.
    """
    tokenizer = run_tokenizer(folder)
    end = getattr(tokenizer, "end_id", None)
    ids: list[int] = []
    for token in open_tokens(folder / f"{name}.tokens").tokens.tolist():
        if token == end:
            yield tokenizer.decode(ids)
            ids = []
        else:
            ids.append(token)
    if ids:
        yield tokenizer.decode(ids)


def contamination(groups: list[tuple[Point, list[Entry]]]) -> list[str]:
    """For each text, how much of what judges was in what taught."""
    folders = {e["text_hash"]: e["run"] for _, es in groups for e in es}
    lines = []
    for mark, run in sorted(folders.items()):
        held = list(documents(HERE / run, "validation"))
        taught = documents(HERE / run, "train")
        leaks = find_leaks(taught, held, RUN_OF_WORDS, share=0.0)
        half = sum(leak.share >= 0.5 for leak in leaks)
        lines.append(
            f"- text {mark[:12]}: of {len(held)} documents that judge, "
            f"{len(leaks)} share a run of {RUN_OF_WORDS} words with what "
            f"taught, and {half} half of their runs or more"
        )
    return lines


def report(sweep: Sweep) -> str:
    """What the registry says of a sweep, in Markdown."""
    groups = grouped(sweep)
    entries = [entry for _, each in groups for entry in each]
    commits = sorted({entry["commit"] for entry in entries})
    seconds = sum(entry["seconds"] for entry in entries)
    return "\n".join(
        [
            f"# Sweep {sweep.name}",
            "",
            f"{len(entries)} runs, {seconds:,.0f} seconds of training, at "
            f"{', '.join(commits)}.",
            "Losses are the best on the held-out text, in nats per token: the "
            "mean of the seeds, and the range.",
            "",
            *table(groups),
            "",
            "Where two ranges overlap, more seeds are needed to tell the two "
            "points apart.",
            "",
            "## Scaling",
            "",
            law(groups),
            "",
            "## Contamination",
            "",
            *contamination(groups),
            "",
        ]
    )


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code: 2 for what the user can mend."""
    parser = argparse.ArgumentParser(
        prog="python sweep.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", choices=["run", "report"])
    parser.add_argument("sweep", type=Path, help="a file of sweeps/")
    parser.add_argument(
        "-n", "--dry-run", action="store_true", help="train nothing"
    )
    asked = parser.parse_args(arguments)
    if asked.dry_run and asked.what == "report":
        parser.error("--dry-run goes with run: a report trains nothing")
    try:
        sweep = read_sweep(asked.sweep)
        if asked.what == "run":
            run(sweep, asked.dry_run)
            return 0
        text = report(sweep)
        write_text(REPORTS / f"{sweep.name}.md", text)
    except (SweepError, FileError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on", file=sys.stderr)
        return STOPPED
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
