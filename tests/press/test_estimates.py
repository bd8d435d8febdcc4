"""What a budget's run takes is what the scaffold says, and nothing else."""

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from press import estimates
from press.budgets import BUDGETS, budgets
from press.dependencies import ROOT, estimated
from press.estimates import (
    EstimateError,
    Run,
    by_budget,
    clock,
    money,
    on,
    runs,
)
from press.extensions.cards import budgeted
from press.roadmap import load
from scaffold.estimate import estimate
from scaffold.plan import Limits, Plan
from scaffold.plan import budgets as facts

ROWS = [
    {"track": "beginner", "budget": "cpu", "hours": 0.1, "usd": 0.0},
    {"track": "beginner", "budget": "gpu8", "hours": 2.0, "usd": 0.25},
    {"track": "beginner", "budget": "node8", "hours": 0.5, "usd": 14.0},
    {"track": "researcher", "budget": "cpu", "hours": 0.1, "usd": 0.0},
]


class Told:
    """A scaffold that says ROWS and counts how often it is asked."""

    key = "1"  # of what its numbers depend on
    asked = 0

    def ask(self) -> str:
        self.asked += 1
        return json.dumps(ROWS)


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Told]:
    known = Told()
    monkeypatch.setattr(estimates, "ask", known.ask)
    monkeypatch.setattr(estimates, "BUILD", tmp_path / "_build")
    monkeypatch.setattr(estimates, "estimated", set)
    monkeypatch.setattr(estimates, "digest", lambda _: known.key)
    runs.cache_clear()
    yield known
    runs.cache_clear()


def test_the_scaffold_is_asked_once_until_something_changes(
    told: Told,
) -> None:
    found = runs()
    assert [run.budget for run in found] == ["cpu", "gpu8", "node8"]
    assert found[1] == Run("gpu8", 2.0, 0.25)
    runs.cache_clear()
    assert runs() == found
    assert told.asked == 1
    told.key = "2"
    runs.cache_clear()
    assert runs() == found
    assert told.asked == 2


def test_two_runs_take_twice_as_long(told: Told) -> None:
    """But on a node, which trains one on each card."""
    node = "node8 30 min, $14.00"
    topic = replace(load().by_id["trainer"], runs=1)
    assert by_budget(topic) == f"cpu 6 min, free · gpu8 2 h, $0.25 · {node}"
    twice = replace(topic, runs=2)
    assert by_budget(twice) == f"cpu 12 min, free · gpu8 4 h, $0.50 · {node}"
    [(label, content)] = budgeted(twice)
    assert label == "By budget"
    words = "".join(node.astext() for node in content)
    assert words == f"2 runs, estimated: {by_budget(twice)}"
    assert budgeted(replace(topic, runs=0)) == []


def test_a_machine_that_there_is_not_is_named(told: Told) -> None:
    topic = load().by_id["trainer"]
    assert on(topic, "node8") == Run("node8", 0.5, 14.0)
    assert on(replace(topic, runs=0), "cpu") == Run("cpu", 0.0, 0.0)
    with pytest.raises(LookupError, match="no budget 'tpu'; there are: cpu, g"):
        on(topic, "tpu")


def test_the_numbers_are_those_of_the_estimate() -> None:
    """All of it, by the real command."""
    runs.cache_clear()
    found = runs()
    assert [run.budget for run in found] == list(facts())
    for run in found:
        plan = Plan("researcher", run.budget)
        wanted = estimate(plan.settings, facts()[run.budget], Limits())
        assert (run.hours, run.usd) == (wanted.hours, wanted.usd)
    assert found[0].usd == 0 < min(run.usd for run in found[1:])


def test_they_depend_on_prices_and_on_the_run_of_the_book() -> None:
    found = estimated()
    for name in (
        "scaffold/budgets.yml",
        "scaffold/estimate.py",
        "records/training.json",
        "src/scratchlm/training/scaling.py",
    ):
        assert ROOT / name in found, name


def test_a_scaffold_that_fails_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "no $3" >&2\nexit 3\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(EstimateError, match="no list"):
        estimates.ask()


def test_times_and_money_are_short() -> None:
    assert [clock(t) for t in (1e-6, 0.01, 0.02, 1.0)] == [
        "1 s",
        "36 s",
        "1 min",
        "1 h",
    ]
    assert [money(m) for m in (0.0, 0.0001, 0.01, 27.92)] == [
        "free",
        "<$0.01",
        "$0.01",
        "$27.92",
    ]


def test_each_price_has_its_source_and_its_day() -> None:
    assert BUDGETS.exists()
    for budget in budgets():
        assert bool(budget.price) == bool(budget.gpus)
        assert bool(budget.source) == bool(budget.price)
        assert bool(budget.seen) == bool(budget.price)


def test_runs_are_those_of_topics_that_change_a_whole_model() -> None:
    named = {topic.id: topic.runs for topic in load().topics if topic.runs}
    assert named["trainer"] == 1
    assert named["muon"] == 2  # with it, and without
    parts = {load().by_id[name].part for name in named}
    assert parts == {"model", "training"}
