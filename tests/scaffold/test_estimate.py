"""What a run takes is computed, and a run is made to fit what it may take."""

import datetime
import json
from pathlib import Path

import pytest
import tomlkit

from press.records import read
from scaffold.__main__ import main
from scaffold.estimate import (
    SHARE,
    dollars,
    estimate,
    hourly,
    measured_rate,
    model_of,
    smaller,
    step_tokens,
)
from scaffold.plan import (
    CombinationError,
    Limits,
    Plan,
    ScaffoldError,
    budgets,
    tracks,
)
from scratchlm.cli.app import main as scratchlm
from scratchlm.model.gpt import GPT, count_parameters, flops_per_token
from scratchlm.training.device import promised
from scratchlm.training.scaling import multiplied_weights

ROOT = Path(__file__).parents[2]
CPU = budgets()["cpu"]


def test_a_run_of_the_book_takes_what_it_took() -> None:
    """The record's rate, and the record's run, give the record's time."""
    kept = read(ROOT / "records" / "training.json")["data"]
    plan = Plan("beginner", "cpu")
    model, training = kept["config"]["model"], kept["config"]["training"]
    assert plan.settings["steps"] == training["steps"]
    assert plan.settings["channels"] == model["channels"]
    run = estimate(plan.settings, CPU, plan.limits)
    assert 3600 * run.hours == pytest.approx(kept["seconds"])
    assert run.usd == 0


def test_an_estimate_counts_what_the_library_counts() -> None:
    plan = Plan("beginner", "gpu8")
    run = estimate(plan.settings, budgets()["gpu8"], plan.limits)
    config = model_of(plan.settings)
    assert run.parameters == count_parameters(GPT(config))
    assert run.tokens == 3000 * 64 * 256
    assert run.operations == run.tokens * flops_per_token(config)
    assert run.share == run.operations / 1e23
    assert run.memory < budgets()["gpu8"]["memory"]


@pytest.mark.parametrize("budget", budgets())
def test_the_facts_of_a_budget_are_the_librarys(budget: str) -> None:
    facts = budgets()[budget]
    if "peak" not in facts:
        assert facts["price"] == 0
        assert 1e10 < measured_rate() < 1e12
        return
    known = promised(f"NVIDIA GeForce {facts['card']}")
    assert known in (None, facts["peak"])
    half = facts["peak"] * SHARE / 2
    plan = Plan("researcher", budget)
    run = estimate(plan.settings, facts, Limits(hourly_usd=7.0))
    assert run.usd == 7.0 * run.hours
    assert run.hours < run.operations / half / 3600
    assert hourly(facts, Limits()) == facts["cards"] * facts["price"]


def test_what_ends_in_time_stays_as_it_is() -> None:
    free, bound = (
        Plan("beginner", "cpu"),
        Plan("beginner", "cpu", limits=Limits(hours=1.5)),
    )
    assert bound.settings == free.settings | {"max_minutes": 90.0}
    assert bound.notes == []


@pytest.mark.parametrize(
    ("budget", "limits"),
    [
        ("cpu", Limits(hours=0.01)),
        ("gpu8", Limits(usd=0.001)),
        ("gpu24", Limits(usd=0.01, hourly_usd=3.0)),
        ("node8", Limits(hours=0.01, usd=1000.0)),
    ],
)
def test_what_takes_longer_is_made_smaller(budget: str, limits: Limits) -> None:
    """As many tokens for a weight, on a model of the same form."""
    facts = budgets()[budget]
    before = Plan("beginner", budget).settings
    plan = Plan("beginner", budget, limits=limits)
    now = plan.settings
    run, whole = (estimate(s, facts, limits) for s in (now, before))
    assert 60 * run.hours <= now["max_minutes"] < 60 * whole.hours
    if limits.hours is not None:
        assert run.hours <= limits.hours
    if limits.usd is not None:
        assert run.usd <= limits.usd
    ratios = [
        one.tokens / multiplied_weights(model_of(settings))
        for one, settings in ((run, now), (whole, before))
    ]
    assert ratios[0] >= ratios[1] * (1 - 1 / now["steps"])
    assert now["heads"] < before["heads"]
    assert now["steps"] <= before["steps"]
    assert now["warmup"] <= now["steps"] // 10
    assert now["channels"] % now["heads"] == 0
    size = before["channels"] // before["heads"]
    assert now["channels"] // now["heads"] == size
    [note] = plan.notes
    assert f"{now['channels']} channels" in note
    larger = [s for s in smaller(before) if s["heads"] > now["heads"]]
    for other in larger:  # none of which could have learned as much in time
        tokens = now["max_minutes"] * 60 * run.operations / run.hours / 3600
        tokens /= flops_per_token(model_of(other))
        weights = multiplied_weights(model_of(other))
        assert tokens < ratios[1] * weights + step_tokens(other)


def test_what_nothing_is_small_enough_for_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(CombinationError, match="allow more"):
        _ = Plan("beginner", "cpu", limits=Limits(hours=1e-6)).settings
    words = ["--track", "beginner", "--out", str(tmp_path / "llm")]
    assert main([*words, "--budget", "gpu24", "--usd", "1e-9"]) == 5
    assert "allow more" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_money_limits_nothing_where_nothing_is_paid() -> None:
    plan = Plan("beginner", "cpu", limits=Limits(usd=0.5))
    assert plan.settings == Plan("beginner", "cpu").settings
    assert "costs nothing" in plan.notes[0]
    for hours in (0.02, 100.0):  # beside another limit, too
        both = Plan("beginner", "cpu", limits=Limits(hours=hours, usd=0.5))
        assert "costs nothing" in both.notes[0]
    rented = Plan("beginner", "cpu", limits=Limits(usd=0.5, hourly_usd=0.25))
    assert rented.settings["max_minutes"] == 120.0


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf"])
@pytest.mark.parametrize("option", ["--hours", "--usd"])
def test_a_limit_that_is_none_is_refused(
    option: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["estimate", "--track", "beginner", option, value]
    assert main(words) == 2
    assert f"{option} must be above 0" in capsys.readouterr().err
    with pytest.raises(ScaffoldError, match="--hourly-usd"):
        Limits(hourly_usd=-1.0)


def test_the_trainer_understands_the_limit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`max_minutes` of config.toml is a setting of `scratchlm train`."""
    out = tmp_path / "llm"
    words = ["--track", "beginner", "--out", str(out), "--no-git"]
    assert main([*words, "--hours", "0.001"]) == 0
    config = out / "config.toml"
    text = config.read_text(encoding="utf-8")
    assert tomlkit.parse(text).unwrap()["max_minutes"] == 0.06
    readme = (out / "README.md").read_text(encoding="utf-8")
    assert "`config.toml` says 0.06." in readme
    words = ["train", "--config", str(config), "--dry-run"]
    assert scratchlm(words) == 0
    config.write_text(text.replace("0.06", "-1"), encoding="utf-8")
    capsys.readouterr()
    assert scratchlm(words) != 0
    assert "max_minutes must be above 0" in capsys.readouterr().err


def test_a_text_of_ones_own_counts(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_bytes(b"So they wrote, day after day. " * 40_000)
    limits = Limits(hours=0.01)
    plan = Plan("practitioner", "cpu", text, limits=limits)
    assert plan.settings["corpus"] == str(text)
    assert estimate(plan.settings, CPU, limits).hours <= 0.01


def test_the_list_is_every_track_with_every_budget(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["list", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    pairs = [(row["track"], row["budget"]) for row in found]
    assert pairs == [(t, b) for t in tracks() for b in budgets()]
    for row in found:
        plan = Plan(row["track"], row["budget"])
        run = estimate(plan.settings, budgets()[row["budget"]], Limits())
        assert row["estimated"] is True
        assert row["operations"] == run.operations
        assert row["topics"] == len(plan.topics)
        assert row["reading_hours"] > 10
    assert main(["list"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in (*tracks(), *budgets()))
    assert "estimated" in printed


def test_an_estimate_is_told_to_people_and_to_programs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["estimate", "--track", "researcher", "--budget", "node8"]
    assert main([*words, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    run = estimate(
        Plan("researcher", "node8").settings, budgets()["node8"], Limits()
    )
    assert said == {
        "track": "researcher",
        "budget": "node8",
        **run.facts,
        "hourly_usd": 8 * 3.49,
        "priced": budgets()["node8"]["priced"],
        "notes": [],
    }
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "estimated" in printed
    assert "assumption" in printed
    assert dollars(run.usd) in printed
    assert main(["estimate", "--track", "expert"]) == 2


@pytest.mark.parametrize("name", budgets())
def test_a_price_has_a_source_and_a_day(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    facts = budgets()[name]
    words = ["estimate", "--track", "researcher", "--budget", name]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert ("price" in printed) == (facts["price"] > 0)
    if facts["price"]:
        seen = facts["priced"]["seen"]
        assert datetime.date.fromisoformat(seen) <= datetime.date.today()
        assert f"{facts['priced']['from']}, {seen}" in printed
    assert main([*words, "--hourly-usd", "7"]) == 0
    assert "7.00 dollars an hour, as asked" in capsys.readouterr().out
