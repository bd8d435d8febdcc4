"""Experiments: in their bands with the book's code, outside with mistakes."""

import doctest
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from check import experiment
from check.commands import main
from check.experiment import Outcome, load, measure, recorded
from check.places import Site
from press.extensions import cards
from press.roadmap import load as roadmap
from scaffold.emit import emit
from scaffold.plan import Plan, tracks

ROOT = Path(__file__).parents[2]
NAMES = tuple(load(Site(ROOT)))
OTHER = 77  # a seed from which no band was made


@pytest.fixture
def whole(site: Site) -> Site:
    """A reader's repository with experiments and their bands."""
    folder = site.root / "experiments"
    folder.mkdir()
    for path in (ROOT / "scaffold" / "experiments").glob("*.*"):
        (folder / path.name).symlink_to(path)
    (folder / "experiments.json").symlink_to(ROOT / "records/experiments.json")
    return site


def change(site: Site, name: str, old: str, new: str) -> None:
    """Plant a mistake in the reader's module of a topic."""
    path = site.path(site.topics[name])
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1
    path.write_text(text.replace(old, new), encoding="utf-8")


def nothing(share: float) -> None:
    """Show no progress."""


def outside(site: Site, name: str) -> set[str]:
    """The numbers that lie outside their bands, with a seed of their own."""
    found = measure(site, name, OTHER, nothing)
    assert found.told is None, found.told
    bands = recorded(site)[name]["bands"]
    assert found.numbers.keys() == bands.keys()
    return {
        key
        for key, value in found.numbers.items()
        if not experiment.inside(value, bands[key])
    }


# --- what there is -----------------------------------------------------------


def test_what_is_said_of_them_leads_somewhere() -> None:
    """Numbers have bands; topics to check, and those needed, are there."""
    site = Site(ROOT)
    for name, found in load(site).items():
        known = recorded(site)[name]
        assert known["bands"].keys() == found.numbers.keys()
        assert known["seconds"] <= 120
        for number in found.numbers.values():
            for side in (number.below, number.above):
                assert side.check in site.topics
    assert {t.experiment for t in roadmap().topics} == {*NAMES, ""}


@pytest.mark.parametrize("track", tracks())
def test_every_track_has_what_they_need(track: str) -> None:
    there = {topic.id for topic in Plan(track, "cpu").topics}
    for found in load(Site(ROOT)).values():
        assert {*found.needs} <= there
        for number in found.numbers.values():
            assert {number.below.check, number.above.check} <= there


def test_their_examples_hold() -> None:
    for path in (ROOT / "scaffold" / "experiments").glob("*.py"):
        name = f"scaffold.experiments.{path.stem}".removesuffix(".__init__")
        assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_a_card_names_the_experiment_of_its_topic() -> None:
    topics = roadmap().by_id
    [(label, [command])] = cards.experiment(topics["attention"])
    assert label == "Measure"
    assert command.astext() == "python -m check experiment noise"
    assert cards.experiment(topics["characters"]) == []


def test_all_of_them_are_listed(
    whole: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["experiment"], whole) == 0
    out = capsys.readouterr().out
    for name, found in load(whole).items():
        assert name in out
        assert found.title in out
        assert f"needs {', '.join(found.needs)}" in out
    assert out.count("  todo  ") == len(NAMES)
    assert max(map(len, out.splitlines())) <= 80


def test_what_is_none_is_told_in_one_sentence(
    whole: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["experiment", "nose"], whole) == 2
    error = capsys.readouterr().err
    assert "no experiment 'nose': did you mean noise?" in error
    assert len(error.splitlines()) == 1
    assert main(["experiment", "noise", "--seed", "-1"], whole) == 2
    assert "Must be >= 0" in capsys.readouterr().err
    (whole.root / "experiments" / "experiments.json").unlink()
    assert main(["experiment"], whole) == 2
    assert "experiments.json cannot be read" in capsys.readouterr().err


def test_without_a_topic_its_experiments_are_not_there(whole: Site) -> None:
    path = whole.root / "check" / "topics.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    data["topics"] = [t for t in data["topics"] if t["id"] != "preference"]
    path.write_text(json.dumps(data), encoding="utf-8")
    assert {*NAMES} - load(Site(whole.root)).keys() == {"dpo"}


# --- what is said ------------------------------------------------------------


def test_a_number_outside_says_what_it_means(
    whole: Site,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Below, above, and what is no number; and the state is remembered."""
    values = {"plain": 1.2, "fused": 2.773, "unseen": 9.0}
    monkeypatch.setattr(
        experiment, "measure", lambda *_: Outcome({**values}, 1.0)
    )
    assert main(["experiment", "noise"], whole) == 1
    out = capsys.readouterr().out
    assert [line[2] for line in out.splitlines()[1:4]] == ["✗", "✓", "✗"]
    assert "nobody can predict noise" in out
    assert max(map(len, out.splitlines())) <= 80
    assert "next: python -m check attention" in out
    assert "next: python -m check tokens" in out
    chosen = load(whole)["noise"]
    assert experiment.state(whole, chosen) == "fail"
    values.update(plain=2.773, unseen=2.773)
    assert main(["experiment", "noise"], whole) == 0
    assert experiment.state(whole, chosen) == "pass"
    change(whole, "attention", "    if causal:\n", "    if causal is True:\n")
    assert experiment.state(whole, chosen) == "stale"
    values["fused"] = float("nan")
    assert main(["experiment", "noise"], whole) == 1


def test_code_that_fails_is_named(
    whole: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    change(whole, "attention", "    if causal:\n", "    if casual:\n")
    assert main(["experiment", "noise"], whole) == 1
    out = capsys.readouterr().out
    assert "it did not come to its end: a name is used that" in out
    assert "attention.py:" in out


def test_what_ends_the_process_is_told(
    whole: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    old = "    if causal:\n"
    change(whole, "attention", old, "    __import__('os')._exit(0)\n" + old)
    assert main(["experiment", "noise"], whole) == 1
    assert "the code ended the whole process" in capsys.readouterr().out


def test_the_books_modules_stand_in(
    whole: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["reset", "bpe", "--stub", "--yes"], whole) == 0
    assert main(["experiment", "tokenizer"], whole) == 0
    assert "still the book's: bpe" in capsys.readouterr().out


def test_every_line_of_every_table_can_be_read(whole: Site) -> None:
    """No line is wider than a terminal, outside on either side."""
    for name, found in load(whole).items():
        bands = recorded(whole)[name]["bands"]
        for far in (-1234.5, 1234.5):
            values = dict.fromkeys(found.numbers, far)
            lines = experiment.table(found, values, bands)
            assert max(map(len, lines)) <= 80
            assert sum("next: " in line for line in lines) == len(values)


# --- in their bands, and outside ---------------------------------------------

SHORT = ("tokenizer", "noise")
LONG = [name for name in NAMES if name not in SHORT]
COUNTS = "    words: Counter[bytes] = Counter()\n"
SHIFT = "return batch[:, :-1], batch[:, 1:]"
MISTAKES = {  # experiment, module, its text, the mistake, what is outside
    "words are taken once each": (
        "tokenizer",
        "bpe",
        COUNTS,
        COUNTS + "    counts = Counter(dict.fromkeys(counts, 1))\n",
        {"bytes_per_token"},
    ),
    "the mask is missing": (
        "noise",
        "attention",
        "    if causal:\n",
        "    if False:\n",
        {"plain"},
    ),
    "the kernel is not causal": (
        "noise",
        "heads",
        "        causal = True\n",
        "        causal = False\n",
        {"fused", "unseen"},
    ),
    "targets are what is read": (
        "noise",
        "tokens",
        SHIFT,
        "return batch[:, :-1], batch[:, :-1]",
        {"plain", "fused"},
    ),
}
LONGER = {
    "the rate is ten times too high": (
        "million",
        "schedule",
        "return Schedule(peak, steps, warmup, floor=floor)",
        "return Schedule(10 * peak, steps, warmup, floor=floor)",
        {"unseen", "above_floor"},
    ),
    "targets are not shifted": (
        "million",
        "tokens",
        SHIFT,
        "return batch[:, :-1], batch[:, :-1]",
        {"unseen", "above_floor"},
    ),
    "a layer adds nothing": (
        "scaling",
        "block",
        "return x + self.mlp(self.norm2(x))",
        "return x",
        {"largest", "alpha"},
    ),
    "the worst candidate is chosen": (
        "probe",
        "probes",
        "scores.index(max(scores))",
        "scores.index(min(scores))",
        {"agreement", "all"},
    ),
    "the sign is turned": (
        "dpo",
        "preference",
        "rewards[0] - rewards[1]",
        "rewards[1] - rewards[0]",
        {"learned", "after", "margin"},
    ),
}


@pytest.mark.parametrize(
    "name", [*SHORT, *(pytest.param(x, marks=pytest.mark.judge) for x in LONG)]
)
def test_the_books_code_is_in_the_bands(whole: Site, name: str) -> None:
    assert not outside(whole, name)


@pytest.mark.parametrize(
    ("name", "topic", "old", "new", "wanted"),
    [
        *MISTAKES.values(),
        *(pytest.param(*x, marks=pytest.mark.judge) for x in LONGER.values()),
    ],
    ids=[*MISTAKES, *LONGER],
)
def test_a_mistake_is_outside(
    whole: Site, name: str, topic: str, old: str, new: str, wanted: set[str]
) -> None:
    change(whole, topic, old, new)
    assert outside(whole, name) >= wanted


def test_one_runs_in_an_emitted_repository(tmp_path: Path) -> None:
    """By its own command, in the repository's own folder."""
    out = emit(Plan("beginner", "cpu"), tmp_path / "llm")
    environment = {
        k: v for k, v in os.environ.items() if not k.startswith("PYTHON")
    }
    done = subprocess.run(
        [sys.executable, "-m", "check", "experiment", "tokenizer"],
        cwd=out,
        env=environment | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "bytes per token of unseen stories" in done.stdout
    assert "still the book's: " in done.stdout
