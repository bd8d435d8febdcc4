"""Train the runs of a sweep, register them, and report what they say.

    python sweep.py run sweeps/rate.toml      trains what is not registered
    python sweep.py run sweeps/rate.toml -n   says what it would train
    python sweep.py report sweeps/rate.toml   writes reports/rate.md and .svg

A sweep is a TOML file: the settings that all runs share, those that vary, and
at least three seeds, since one seed cannot tell a difference from luck. What it
is to find out stands in the remark at its head, and in the report. Each
run is a line of registry.jsonl, with the commit, hashes of its settings and of
its text, its weights, tokens, operations, seconds and losses, and the machine.
Nothing in it is typed. Stopped in the middle, the same command goes on.
"""

import argparse
import hashlib
import itertools
import json
import shlex
import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

import matplotlib as mpl
import tomllib
import torch
from matplotlib.figure import Figure

from scratchlm.cli.app import make_app, parse
from scratchlm.cli.errors import UserError
from scratchlm.cli.runs import run_tokenizer
from scratchlm.model.gpt import flops_per_token
from scratchlm.text.corpus import find_leaks
from scratchlm.text.files import (
    FileError,
    append_text,
    file_sha256,
    replacing,
    write_text,
)
from scratchlm.text.tokens import open_tokens
from scratchlm.training.checkpoint import has_run, load_model
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
Group = tuple[Point, list[Entry]]  # a point, and its runs


class SweepError(ValueError):
    """A sweep that cannot be run or reported; says why, and the way out."""


@dataclass(frozen=True)
class Sweep:
    """What a file of `sweeps/` asks for."""

    name: str
    settings: Point
    vary: dict[str, list[Any]]
    seeds: list[int]
    remark: str = ""  # what it is to find out

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
        text = path.read_text(encoding="utf-8")
        data = tomllib.loads(text)
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
    lines = itertools.takewhile(lambda x: x[:1] == "#", text.splitlines())
    remark = " ".join(line.lstrip("# ") for line in lines)
    sweep = Sweep(
        path.stem, data["settings"], data["vary"], data["seeds"], remark
    )
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
    try:
        done = subprocess.run(
            ["git", *words],
            cwd=HERE,
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:  # a machine without it
        return ""
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


def call(words: list[str]) -> int:
    """The exit code of a command; STOPPED where Ctrl-C was typed meanwhile.

    It reaches the command as well, which saves its run before it ends;
    `subprocess.run` would kill it in the middle of that.
    """
    stopped = False
    with subprocess.Popen(words, cwd=HERE) as process:
        while True:
            try:
                status = process.wait()
                return STOPPED if stopped else status
            except KeyboardInterrupt:
                stopped = True


def train(sweep: Sweep, settings: Point) -> None:
    """One run by `scratchlm train`, and its line in the registry."""
    mark = digest(settings)
    folder = HERE / "runs" / sweep.name / mark[:12]
    words = [sys.executable, "-m", "scratchlm", "train", "--out", str(folder)]
    if has_run(folder):
        words.append("--resume")
    words += options(settings)  # a device, a limit of time: no run keeps them
    code = commit()
    if status := call(words):
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


def grouped(sweep: Sweep) -> list[Group]:
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


def mean(entries: list[Entry]) -> float:
    """The mean of the best losses of some runs."""
    return statistics.mean(entry["loss"] for entry in entries)


def table(groups: list[Group]) -> list[str]:
    """Mean and range of the best losses of each point, in Markdown."""
    names = list(groups[0][0])
    head = [*names, "weights", "tokens", "seeds", "mean", "lowest", "highest"]
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for point, entries in groups:
        losses = [e["loss"] for e in entries]
        sizes = [f"{entries[0][k]:,}" for k in ("weights", "tokens")]
        numbers = [mean(entries), min(losses), max(losses)]
        cells = [str(point[name]) for name in names] + sizes
        cells += [str(len(losses)), *(f"{x:.4f}" for x in numbers)]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def law(groups: list[Group]) -> str:
    """The law of weights and tokens that fits the means, or why there is none.

    Each point counts once, with the mean of its seeds.
    """
    rows = [
        (
            float(entries[0]["weights"]),
            float(entries[0]["tokens"]),
            mean(entries),
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


def contamination(groups: list[Group]) -> list[str]:
    """For each text, how much of what judges was in what taught."""
    found: dict[str, list[str]] = {}
    for entry in (e for _, entries in groups for e in entries):
        found.setdefault(entry["text_hash"], []).append(entry["run"])
    lines = []
    for mark, runs in sorted(found.items()):
        run = next((run for run in runs if has_run(HERE / run)), None)
        if run is None:  # in a clone: Git has the registry, and no run
            lines.append(f"- text {mark[:12]}: no run of it is here to look at")
            continue
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


def question(sweep: Sweep) -> list[str]:
    """What was asked: the remark at the head of the sweep's file."""
    names = ", ".join(f"`{name}`" for name in sweep.vary)
    asked = f"What does the loss do when {names} vary and nothing else does?"
    return [sweep.remark or asked]


def method(sweep: Sweep, entries: list[Entry]) -> list[str]:
    """How the runs were made: what they share, and what each of them had."""
    seconds = sum(entry["seconds"] for entry in entries)
    seeds = ", ".join(map(str, sweep.seeds))
    kinds = {
        "Commit": sorted({entry["commit"] for entry in entries}),
        "Machine": sorted({entry["machine"] for entry in entries}),
        "Text (hash)": sorted({entry["text_hash"][:12] for entry in entries}),
    }
    return [
        f"Each of {len(sweep.points)} points was trained {len(sweep.seeds)} "
        f"times, with the seeds {seeds}: {len(entries)} runs, "
        f"{seconds:,.0f} seconds and "
        f"{sum(entry['operations'] for entry in entries):.2e} operations. "
        "What a run's loss is: the lowest on the held-out text, in nats per "
        "token.",
        "",
        "| Setting | Value |",
        "| --- | --- |",
        *(f"| `{k}` | {v} |" for k, v in sweep.settings.items()),
        *(
            f"| `{name}`, varied | {', '.join(map(str, values))} |"
            for name, values in sweep.vary.items()
        ),
        *(f"| {kind} | {', '.join(said)} |" for kind, said in kinds.items()),
    ]


def best(groups: list[Group]) -> str:
    """Which point has the lowest mean, and whether the ranges agree."""
    ranked = sorted(groups, key=lambda group: mean(group[1]))
    said = [
        ", ".join(f"{k} {v}" for k, v in point.items()) for point, _ in ranked
    ]
    first = max(entry["loss"] for entry in ranked[0][1])
    near = [
        name
        for name, (_, entries) in zip(said[1:], ranked[1:], strict=True)
        if min(entry["loss"] for entry in entries) <= first
    ]
    lead = f"The lowest mean is that of {said[0]}: {mean(ranked[0][1]):.4f}."
    if not near:
        return f"{lead} No other point's range reaches its own."
    return (
        f"{lead} The ranges of {'; '.join(near)} overlap with its own: these "
        f"{len(ranked[0][1])} seeds cannot tell them apart."
    )


def limits(sweep: Sweep, groups: list[Group]) -> list[str]:
    """What these runs cannot say."""
    entries = [entry for _, each in groups for entry in each]
    sizes = [
        f"{e['weights']:,}" for e in sorted(entries, key=itemgetter("weights"))
    ]
    lengths = [
        f"{e['tokens']:,}" for e in sorted(entries, key=itemgetter("tokens"))
    ]
    said = [
        f"- Models of {between(sizes)} weights read {between(lengths)} "
        "tokens. What holds there need not hold for larger ones.",
        f"- {len(sweep.seeds)} seeds give a range, and no probability.",
        "- The best loss of a run is chosen on the text that judges it, so it "
        "is a little too low, for every point alike.",
    ]
    for kind, word in (
        ("text_hash", "text"),
        ("commit", "commit"),
        ("machine", "machine"),
    ):
        if len({entry[kind] for entry in entries}) > 1:
            said.append(
                f"- More than one {word} is among the runs: a difference "
                "between points may come from that."
            )
    if any("+changes" in entry["commit"] for entry in entries):
        said.append(
            "- Some runs had changes that were not committed: their code "
            "cannot be had again."
        )
    return said


def between(sizes: list[str]) -> str:
    """The first and the last of some sizes, or the one that there is."""
    return sizes[0] if sizes[0] == sizes[-1] else f"{sizes[0]} to {sizes[-1]}"


def again(sweep: Sweep, entries: list[Entry]) -> list[str]:
    """The commands that make the same runs and the same report.

    In a folder of that commit, if there is one; else in this folder, and
    what it has of all sweeps goes to another.
    """
    code = entries[-1]["commit"].removesuffix("+changes")
    words = f"sweeps/{sweep.name}.toml"
    inside = git("rev-parse", "--show-prefix")  # in another repository
    place = shlex.quote(f"../again/{inside}")
    lines = [
        f"git worktree add ../again {code}",
        f"cp {words} {place}sweeps/",
        f"cd {place}",
        "rm -f registry.jsonl  # else nothing is trained again",
    ]
    aside = ["mkdir ../before && mv registry.jsonl runs ../before/"]
    return [
        "```sh",
        *(lines if git("cat-file", "-t", code) == "commit" else aside),
        f"python sweep.py run {words}",
        f"python sweep.py report {words}",
        "```",
    ]


def draw(sweep: Sweep, groups: list[Group], path: Path) -> None:
    """Each run as a dot, each point's mean as a stroke; the same bytes again.

    The dots stand over the settings' values, in the order of the table.
    """
    with mpl.rc_context({"svg.hashsalt": sweep.name, "font.size": 9}):
        figure = Figure(figsize=(6.3, 3.2), layout="constrained")
        axes = figure.add_subplot()
        for place, (_, entries) in enumerate(groups):
            losses = [entry["loss"] for entry in entries]
            axes.plot([place] * len(losses), losses, "o", mfc="none", c="0.3")
            axes.plot(place, mean(entries), "_", c="black", ms=16, mew=2)
        names = ["\n".join(map(str, point.values())) for point, _ in groups]
        axes.set_xticks(range(len(groups)), names)
        axes.set_xlabel(", ".join(sweep.vary))
        axes.set_ylabel("best held-out loss (nats per token)")
        axes.spines[["top", "right"]].set_visible(False)
        with replacing(path) as partial:
            figure.savefig(partial, format="svg", metadata={"Date": None})


def report(sweep: Sweep) -> str:
    """What the registry says of a sweep, in Markdown; draws its figure."""
    groups = grouped(sweep)
    entries = [entry for _, each in groups for entry in each]
    draw(sweep, groups, REPORTS / f"{sweep.name}.svg")
    alt = f"Loss of each run of {sweep.name}, over {', '.join(sweep.vary)}"
    parts = {
        "Question": question(sweep),
        "Method": method(sweep, entries),
        "Results": [
            *table(groups),
            "",
            f"![{alt}; a stroke for the mean]({sweep.name}.svg)",
            "",
            best(groups),
        ],
        "Scaling": [law(groups)],
        "Contamination": contamination(groups),
        "Limits": limits(sweep, groups),
        "How to repeat it": again(sweep, entries),
    }
    lines = [f"# Sweep {sweep.name}", ""]
    for title, said in parts.items():
        lines += [f"## {title}", "", *said, ""]
    return "\n".join(lines)


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
    except (SweepError, FileError, UserError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on", file=sys.stderr)
        return STOPPED
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
