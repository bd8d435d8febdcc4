"""A researcher's sweep: seeds, a registry that runs write, a report of it."""

import json
import os
import re
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from scaffold.emit import emit
from scaffold.lab import sweep
from scaffold.lab.sweep import Sweep, SweepError, digest, read_sweep
from scaffold.plan import Plan
from scratchlm.model.gpt import GPTConfig, flops_per_token

SWEEPS = sorted((Path(sweep.__file__).parent / "sweeps").glob("*.toml"))
SMALL = """\
seeds = [1, 2, 3]
[settings]
preset = "tiny"
characters = 60000
steps = 4
warmup = 1
vocab_size = 270
layers = 1
channels = 32
context = 32
batch_size = 4
[vary]
learning_rate = [0.001, 0.004]
"""


def call(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run Python in the folder, seeing nothing of this repository."""
    hidden = ("PYTHON", "COVERAGE", "PYTEST")
    clean = {k: v for k, v in os.environ.items() if not k.startswith(hidden)}
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=clean | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("path", SWEEPS, ids=lambda p: p.stem)
def test_the_settings_of_a_sweep_are_understood(path: Path) -> None:
    found = read_sweep(path)
    runs = list(found.runs)
    assert len(runs) == len(found.points) * len(found.seeds)
    assert len({digest(each) for each in runs}) == len(runs)
    assert len(found.seeds) >= 3


def test_one_of_the_sweeps_is_enough_for_a_law() -> None:
    assert [path.stem for path in SWEEPS] == ["parts", "rate", "size"]
    vary = read_sweep(SWEEPS[-1]).vary
    assert {name: len(values) for name, values in vary.items()} == {
        "channels": 3,
        "steps": 3,
    }


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (SMALL.replace("[1, 2, 3]", "[1, 2, 2]"), "3 different seeds or more"),
        (SMALL.replace("[1, 2, 3]", "[1, 2, [3]]"), "3 different seeds"),
        (SMALL.replace("[vary]", "[very]"), "vary must be a table"),
        (SMALL.replace("[0.001, 0.004]", "0.001"), "must name lists of"),
        (SMALL.replace("[vary]", "[vary]\nhead = [1]"), "option: --head."),
        (SMALL.replace("[vary]", "[vary]\nheads = [3]"), "heads"),
        (SMALL.replace("layers = 1", "layers = 0"), "layers=0: choose"),
        ("seeds = ", "cannot be read"),
    ],
)
def test_what_is_no_sweep_is_told_so(
    text: str, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "own.toml"
    path.write_text(text, encoding="utf-8")
    assert sweep.main(["run", str(path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert why in error


def test_a_setting_is_an_option_and_a_switch_has_two() -> None:
    settings = {"learning_rate": 0.001, "bias": False, "tied": True}
    wanted = ["--learning-rate", "0.001", "--no-bias", "--tied"]
    assert sweep.options(settings) == wanted


def test_a_line_that_is_no_entry_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = tmp_path / "registry.jsonl"
    monkeypatch.setattr(sweep, "REGISTRY", registry)
    registry.write_text('{"sweep": "other"}\n{"sweep": "own", "sett\n')
    with pytest.raises(SweepError, match=r"registry\.jsonl:2 is no entry"):
        sweep.registered("own")


def entry(settings: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A line of a registry."""
    known = {"sweep": "own", "commit": "c", "settings": settings}
    return known | {"settings_hash": digest(settings), **more}


def test_a_law_is_found_where_the_losses_follow_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = tmp_path / "registry.jsonl"
    monkeypatch.setattr(sweep, "REGISTRY", registry)
    vary = {"channels": [32, 64, 128], "steps": [100, 200, 400]}
    own = Sweep("own", {}, vary, [1, 2, 3])
    lines = []
    for settings in own.runs:
        weights = 12 * settings["channels"] ** 2
        tokens = 1000 * settings["steps"]
        loss = 1.5 + 40 / weights**0.5 + 300 / tokens**0.5
        loss += 0.01 * (settings["seed"] - 2)
        sizes = {"weights": weights, "tokens": tokens, "loss": loss}
        lines.append(json.dumps(entry(settings, **sizes)))
    registry.write_text("\n".join(lines[:-1]) + "\n", encoding="utf-8")
    with pytest.raises(SweepError, match="has 2 of 3 seeds"):
        sweep.grouped(own)
    registry.write_text("\n".join(lines) + "\n", encoding="utf-8")
    groups = sweep.grouped(own)
    found = sweep.law(groups)
    numbers = re.findall(r"[\d.]+", found.replace("^", " "))
    assert float(numbers[0]) == pytest.approx(1.5, abs=0.05)
    assert "fitted to 9 means" in found
    assert "No law was fitted" in sweep.law(groups[:4])
    row = sweep.table(groups)[2]
    first = [each["loss"] for each in groups[0][1]]
    wanted = (statistics.mean(first), min(first), max(first))
    assert row.endswith(
        "| 3 | " + " | ".join(f"{x:.4f}" for x in wanted) + " |"
    )


@pytest.mark.slow
def test_a_sweep_runs_registers_and_reports(tmp_path: Path) -> None:
    folder = emit(Plan("researcher", "cpu"), tmp_path / "llm")
    (folder / "sweeps" / "own.toml").write_text(SMALL, encoding="utf-8")
    words = ("sweep.py", "run", "sweeps/own.toml")
    dry = call(folder, *words, "--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert "6 runs to train, 0 registered" in dry.stdout
    assert not (folder / "registry.jsonl").exists()
    done = call(folder, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    text = (folder / "registry.jsonl").read_text(encoding="utf-8")
    lines = [json.loads(line) for line in text.splitlines()]
    assert [e["settings"]["seed"] for e in lines] == [1, 2, 3] * 2
    assert {len(e["commit"]) for e in lines} == {40}  # nothing was changed
    assert len({e["text_hash"] for e in lines}) == 1
    assert {e["tokens"] for e in lines} == {4 * 4 * 32}
    shape = GPTConfig(270, context=32, layers=1, heads=1, channels=32)
    work = 4 * 4 * 32 * flops_per_token(shape)
    assert {e["operations"] for e in lines} == {work}
    assert "0 runs to train, 6 registered" in call(folder, *words).stdout
    made = call(folder, "sweep.py", "report", "sweeps/own.toml")
    assert made.returncode == 0, made.stderr
    report = (folder / "reports" / "own.md").read_text(encoding="utf-8")
    for line in ("0.001", "0.004"):
        assert re.search(rf"^\| {line} \| .* \| 3 \| ", report, re.M)
    assert "No law was fitted: a law has five numbers" in report
    assert re.search(r"of \d+ documents that judge, \d+ share a run", report)
