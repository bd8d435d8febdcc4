"""A researcher's sweep: seeds, a registry that runs write, a report of it."""

import json
import os
import re
import signal
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
from scratchlm.cli.errors import UserError
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


SLOW = """\
import signal, sys, time
def save(*_):
    time.sleep(1)
    print("saved", flush=True)
    sys.exit(130)
signal.signal(signal.SIGINT, save)
print("begun", flush=True)
time.sleep(60)
"""


def test_ctrl_c_leaves_a_run_the_time_to_save() -> None:
    line = "import sys; from scaffold.lab import sweep; "
    line += f"sys.exit(sweep.call([sys.executable, '-c', {SLOW!r}]))"
    with subprocess.Popen(
        [sys.executable, "-c", line],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # so that both have it, as from a keyboard
    ) as started:
        assert started.stdout is not None
        assert started.stdout.readline() == "begun\n"
        os.killpg(started.pid, signal.SIGINT)
        assert started.stdout.read() == "saved\n"
    assert started.returncode == sweep.STOPPED


def test_a_run_that_goes_on_has_the_settings_of_its_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No run keeps its device; and one that never saved begins anew."""
    monkeypatch.setattr(sweep, "HERE", tmp_path)
    called: list[list[str]] = []

    def stop(words: list[str]) -> int:
        called.append(words)
        return sweep.STOPPED

    monkeypatch.setattr(sweep, "call", stop)
    settings = {"device": "cpu", "steps": 4, "seed": 1}
    own = Sweep("own", {}, {"steps": [4]}, [1, 2, 3])
    folder = tmp_path / "runs" / "own" / digest(settings)[:12]
    (folder / "checkpoint" / "step-000000").mkdir(parents=True)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            sweep.train(own, settings)
        (folder / "seal.json").write_text("{}", encoding="utf-8")
    assert ["--resume" in words for words in called] == [False, True]
    for words in called:
        assert words[-6:] == sweep.options(settings)
        assert words[words.index("--device") + 1] == "cpu"


def test_without_git_there_is_no_commit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "")
    assert sweep.commit() == "no commit"


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


@pytest.fixture
def reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Sweep, list[dict[str, Any]]]:
    """A sweep of two points whose runs are registered, and their entries."""
    monkeypatch.setattr(sweep, "REGISTRY", tmp_path / "registry.jsonl")
    monkeypatch.setattr(sweep, "REPORTS", tmp_path / "reports")
    monkeypatch.setattr(sweep, "contamination", lambda _: ["- none"])
    path = tmp_path / "own.toml"
    path.write_text(f"# Which rate?\n# One of two.\n{SMALL}", encoding="utf-8")
    own = read_sweep(path)
    known: dict[str, Any] = {"commit": "c0ffee", "machine": "a card"}
    known["text_hash"] = "t" * 64
    known |= {"weights": 5000, "tokens": 512, "operations": 10**9, "seconds": 2}
    losses = {1: 3.0, 2: 3.1, 3: 3.2}
    entries = [
        entry(s, **known, loss=losses[s["seed"]] + 100 * s["learning_rate"])
        for s in own.runs
    ]
    return own, entries


def register(entries: list[dict[str, Any]]) -> None:
    """Write the registry anew."""
    lines = [json.dumps(each) + "\n" for each in entries]
    sweep.REGISTRY.write_text("".join(lines), encoding="utf-8")


def parts(text: str) -> dict[str, str]:
    """The sections of a report by their title."""
    return dict(
        re.findall(r"^## (.+?)\n\n(.*?)\n(?=## |\Z)", text, re.M | re.S)
    )


def test_a_report_has_the_parts_of_a_paper(
    reported: tuple[Sweep, list[dict[str, Any]]],
) -> None:
    own, entries = reported
    register(entries)
    text = sweep.report(own)
    found = parts(text)
    assert list(found) == [
        *("Question", "Method", "Results", "Scaling", "Contamination"),
        *("Limits", "How to repeat it"),
    ]
    assert all(said.strip() for said in found.values())
    assert found["Question"] == "Which rate? One of two.\n"
    for line in (
        "| `steps` | 4 |",
        "| `learning_rate`, varied | 0.001, 0.004 |",
        "| Commit | c0ffee |",
        "| Machine | a card |",
        f"| Text (hash) | {'t' * 12} |",
    ):
        assert f"{line}\n" in found["Method"]
    assert (
        "the seeds 1, 2, 3: 6 runs, 12 seconds and 6.00e+09 operations"
        in (found["Method"])
    )
    assert "| 0.001 | 5,000 | 512 | 3 | 3.2000 | 3.1000 | 3.3000 |" in text
    assert "of learning_rate 0.001: 3.2000." in found["Results"]
    assert "No other point's range reaches its own" in found["Results"]
    assert "(own.svg)" in found["Results"]
    assert "Models of 5,000 weights read 512 tokens" in found["Limits"]
    assert "More than one" not in found["Limits"]
    assert "python sweep.py run sweeps/own.toml" in found["How to repeat it"]
    assert "c0ffee" not in found["How to repeat it"]  # there is none here
    head = sweep.git("rev-parse", "HEAD")
    again = "\n".join(sweep.again(own, [{"commit": f"{head}+changes"}]))
    assert f"git worktree add ../again {head}\n" in again
    inside = "scaffold/lab/"  # where this module is in its repository
    assert f"\ncp sweeps/own.toml ../again/{inside}sweeps/\n" in again
    assert f"\ncd ../again/{inside}\n" in again
    nowhere = "\n".join(sweep.again(own, [{"commit": "no commit"}]))
    assert "rm " not in nowhere  # it would be the only registry
    assert "mv registry.jsonl runs ../before/\n" in nowhere


def test_a_report_without_the_runs_says_that_they_are_not_here(
    reported: tuple[Sweep, list[dict[str, Any]]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As in a clone: the registry is committed, and runs/ is not."""
    own, entries = reported
    monkeypatch.undo()  # the contamination that the fixture leaves out
    monkeypatch.setattr(sweep, "HERE", tmp_path)
    monkeypatch.setattr(sweep, "REGISTRY", tmp_path / "registry.jsonl")
    monkeypatch.setattr(sweep, "REPORTS", tmp_path / "reports")
    register([e | {"run": "runs/own/" + "0" * 12} for e in entries])
    assert sweep.main(["report", str(tmp_path / f"{own.name}.toml")]) == 0
    text = (tmp_path / "reports" / "own.md").read_text(encoding="utf-8")
    assert f"- text {'t' * 12}: no run of it is here" in text


def test_a_damaged_run_is_one_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def damaged(_: Sweep) -> str:
        raise UserError("it is damaged")

    monkeypatch.setattr(sweep, "report", damaged)
    path = tmp_path / "own.toml"
    path.write_text(SMALL, encoding="utf-8")
    assert sweep.main(["report", str(path)]) == 2
    assert capsys.readouterr().err == "error: it is damaged\n"


def test_what_weakens_a_result_is_told(
    reported: tuple[Sweep, list[dict[str, Any]]],
) -> None:
    own, entries = reported
    entries[3]["loss"] = 3.2  # now the two ranges meet
    entries[4] |= {"commit": "beef+changes", "machine": "another"}
    entries[5] |= {"text_hash": "u" * 64, "weights": 6000}
    register(entries)
    found = parts(sweep.report(own))
    assert "learning_rate 0.004 overlap with its own" in found["Results"]
    for word in ("text", "commit", "machine"):
        assert f"More than one {word} is among" in found["Limits"]
    assert "not committed" in found["Limits"]
    assert "5,000 to 6,000 weights" in found["Limits"]


def test_the_figure_is_the_same_each_time_and_has_each_run(
    reported: tuple[Sweep, list[dict[str, Any]]],
) -> None:
    own, entries = reported
    register(entries)
    drawn = []
    for _ in range(2):
        sweep.report(own)
        drawn.append((sweep.REPORTS / "own.svg").read_bytes())
    assert drawn[0] == drawn[1]
    text = drawn[0].decode()
    assert text.startswith("<?xml")
    series = re.findall(r'<g id="line2d_\d+">(?:(?!</g>).)*<use', text, re.S)
    assert len(series) > 2 * len(own.points)
    entries[0]["loss"] += 1
    register(entries)
    sweep.report(own)
    assert (sweep.REPORTS / "own.svg").read_bytes() != drawn[0]


def test_a_sweep_without_a_remark_asks_what_it_varies() -> None:
    own = Sweep("own", {}, {"layers": [1, 2], "heads": [1, 2]}, [1, 2, 3])
    assert sweep.question(own) == [
        "What does the loss do when `layers`, `heads` vary and nothing else "
        "does?"
    ]
    for path in SWEEPS:
        assert read_sweep(path).remark.count("?") == 1


def test_a_sweep_runs_registers_and_reports(tmp_path: Path) -> None:
    folder = emit(Plan("researcher", "cpu"), tmp_path / "llm")
    (folder / "sweeps" / "own.toml").write_text(SMALL, encoding="utf-8")
    words = ("sweep.py", "run", "sweeps/own.toml")
    dry = call(folder, *words, "--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert "6 runs to train, 0 registered" in dry.stdout
    assert not (folder / "registry.jsonl").exists()
    first = digest(next(read_sweep(folder / "sweeps" / "own.toml").runs))
    killed = folder / "runs" / "own" / first[:12]  # while it first saved
    (killed / "checkpoint" / "step-000000").mkdir(parents=True)
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
    assert report == made.stdout.removesuffix("\n")
    figure = folder / "reports" / "own.svg"
    assert "</svg>" in figure.read_text(encoding="utf-8")
    assert f"git worktree add ../again {lines[0]['commit']}" in report
    for line in ("0.001", "0.004"):
        assert re.search(rf"^\| {line} \| .* \| 3 \| ", report, re.M)
    assert "No law was fitted: a law has five numbers" in report
    assert re.search(r"of \d+ documents that judge, \d+ share a run", report)
