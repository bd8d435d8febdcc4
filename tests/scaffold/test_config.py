"""config.toml says why, by computed numbers, and ends a run in time."""

import importlib.util
import re
from pathlib import Path

import pytest
import tomlkit

from scaffold.__main__ import main
from scaffold.config import config
from scaffold.estimate import (
    ROOM,
    batched,
    dollars,
    estimate,
    hourly,
    model_of,
    step_tokens,
)
from scaffold.plan import (
    ENOUGH,
    CombinationError,
    Limits,
    Plan,
    budgets,
    tracks,
)
from scratchlm.cli.app import main as scratchlm
from scratchlm.cli.estimate import duration, size
from scratchlm.model.gpt import memory_estimate
from scratchlm.training.scaling import multiplied_weights


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_bytes(b"So they wrote, day after day. " * 100_000)
    return path


def reasons(written: str) -> dict[str, str]:
    """The comment that stands before each setting, in one line."""
    found = re.findall(r"\n\n((?:# .*\n)+)(\w+) = ", written)
    return {n: said[2:].replace("\n# ", " ").strip() for said, n in found}


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("budget", budgets())
def test_each_setting_has_its_reason(
    budget: str, own: bool, text: Path
) -> None:
    plan = Plan("practitioner", budget, text if own else None)
    written = config(plan)
    assert tomlkit.parse(written).unwrap() == plan.settings
    assert list(reasons(written)) == list(plan.settings)
    path = str(text)
    assert all(len(x) < 80 for x in written.splitlines() if path not in x)


@pytest.mark.parametrize("track", tracks())
def test_its_numbers_are_those_of_the_library(track: str, text: Path) -> None:
    plan, facts = Plan(track, "gpu24", text), budgets()["gpu24"]
    settings, model = plan.settings, model_of(plan.settings)
    run = estimate(settings, facts, plan.limits)
    said = reasons(config(plan))
    memory = [
        memory_estimate(model, n * settings["batch_size"]) for n in (1, 2)
    ]
    assert f"they take {size(memory[0].peak)} of" in said["batch_size"]
    assert f"would take {size(memory[1].peak)}, above" in said["batch_size"]
    assert f"{step_tokens(settings):,} tokens" in said["accumulate"]
    assert f"are {run.tokens:,}: " in said["steps"]
    assert f"of {run.parameters:,} parameters" in said["vocab_size"]
    assert duration(3600 * run.hours) in said["max_minutes"]
    most = settings["max_minutes"] / 60 * hourly(facts, plan.limits)
    assert f"cost {dollars(most)}" in said["max_minutes"]
    share = settings["warmup"] / settings["steps"]
    assert f"for {share:.0%} of the steps" in said["warmup"]


@pytest.mark.parametrize("budget", budgets())
def test_a_run_without_limits_has_a_guard_that_does_not_shorten_it(
    budget: str,
) -> None:
    """Not the longest either, that of as much text as the model can use."""
    facts = budgets()[budget]
    plan = Plan("beginner", budget)
    assert plan.settings["max_minutes"] == 60 * facts["hours"]
    assert "A guard: " in reasons(config(plan))["max_minutes"]
    longest = plan.settings | facts["text"]
    weights = multiplied_weights(model_of(longest))
    longest["steps"] = ENOUGH * weights / step_tokens(longest)
    hours = estimate(longest, facts, plan.limits).hours
    assert 2 * hours < facts["hours"]
    asked = Plan("beginner", budget, limits=Limits(hours=0.5))
    said = reasons(config(asked))["max_minutes"]
    assert said.startswith("The limit that was asked for: ")
    assert asked.settings["max_minutes"] == 30
    rich = Limits(usd=1e6, hourly_usd=1.0)
    paid = Plan("beginner", budget, limits=rich).settings
    assert paid["max_minutes"] == 60 * facts["hours"]


@pytest.mark.parametrize("budget", budgets())
def test_as_many_windows_at_a_time_as_fit(budget: str, text: Path) -> None:
    facts = budgets()[budget]
    settings = Plan("beginner", budget, text).settings
    whole = {**facts["toytown"], **facts["text"]}["batch_size"]
    windows, often = settings["batch_size"], settings.get("accumulate", 1)
    assert windows * often == whole
    model, memory = model_of(settings), ROOM * facts["memory"]
    assert memory_estimate(model, windows).peak <= memory
    if often > 1:
        assert memory_estimate(model, 2 * windows).peak > memory


def test_a_smaller_memory_takes_fewer_windows_more_often() -> None:
    settings = Plan("beginner", "cpu").settings
    need = memory_estimate(model_of(settings), 4).peak
    facts = budgets()["cpu"] | {"memory": need / ROOM + 1}
    less = batched(settings, facts)
    assert (less["batch_size"], less["accumulate"]) == (4, 2)
    assert step_tokens(less) == step_tokens(settings)
    with pytest.raises(CombinationError, match="not one window"):
        batched(settings, facts | {"memory": 1e6})


def test_the_guard_is_told_in_the_readme(tmp_path: Path) -> None:
    words = ["--track", "practitioner", "--budget", "gpu8", "--no-git"]
    assert main([*words, "--out", str(tmp_path / "llm")]) == 0
    readme = (tmp_path / "llm" / "README.md").read_text(encoding="utf-8")
    minutes = 60 * budgets()["gpu8"]["hours"]
    assert f"`config.toml` says {minutes}." in readme
    assert "`--max-usd 1` does the same for a dollar" in readme


@pytest.mark.parametrize("budget", budgets())
def test_a_machine_that_is_paid_has_its_price_in_the_settings(
    budget: str,
) -> None:
    """And where dollars were asked for, they are a limit of the run."""
    facts = budgets()[budget]
    price = facts["cards"] * facts["price"]
    free = Plan("beginner", budget)
    asked = Plan("beginner", budget, limits=Limits(usd=900.0))
    own = Plan("beginner", budget, limits=Limits(usd=900.0, hourly_usd=7.5))
    if not price:
        assert not {"max_usd", "usd_per_hour"} & free.settings.keys()
        assert not {"max_usd", "usd_per_hour"} & asked.settings.keys()
    else:
        assert "max_usd" not in free.settings
        assert free.settings["usd_per_hour"] == price
        assert asked.settings["max_usd"] == 900.0
        assert asked.settings["usd_per_hour"] == price
        said = reasons(config(asked))["usd_per_hour"]
        assert facts["priced"]["seen"] in said
    assert own.settings["max_usd"] == 900.0
    assert own.settings["usd_per_hour"] == 7.5
    assert "as you said" in reasons(config(own))["usd_per_hour"]


def test_the_trainer_knows_the_price(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`max_usd` of config.toml is a setting of `scratchlm train`."""
    out = tmp_path / "llm"
    words = ["--track", "beginner", "--out", str(out), "--no-git"]
    assert main([*words, "--usd", "0.5", "--hourly-usd", "2"]) == 0
    text = (out / "config.toml").read_text(encoding="utf-8")
    kept = tomlkit.parse(text).unwrap()
    assert (kept["max_usd"], kept["usd_per_hour"]) == (0.5, 2.0)
    assert kept["max_minutes"] == 15.0
    words = ["train", "--config", str(out / "config.toml"), "--dry-run"]
    assert scratchlm(words) == 0
    (out / "config.toml").write_text(text.replace("max_usd = 0.5", "max_usd=0"))
    capsys.readouterr()
    assert scratchlm(words) != 0
    assert "max_usd must be above 0" in capsys.readouterr().err


def test_a_run_that_goes_on_has_the_limits_of_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No run keeps them, and nobody wants to pay without an end."""
    out = tmp_path / "llm"
    words = ["--track", "practitioner", "--budget", "gpu8", "--no-git"]
    assert main([*words, "--out", str(out), "--usd", "1", "-q"]) == 0
    kept = tomlkit.parse((out / "config.toml").read_text(encoding="utf-8"))
    spec = importlib.util.spec_from_file_location("own", out / "train.py")
    assert spec is not None
    assert spec.loader is not None
    own = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(own)
    names = ("device", "max_minutes", "max_usd", "usd_per_hour")
    assert names == own.MACHINE
    (out / "runs" / "1").mkdir(parents=True)
    wanted = [f"--{n.replace('_', '-')}={kept[n]}" for n in names]
    assert "--max-usd=1.0" in wanted
    for asked in (["--resume"], ["--from", "runs/1", "--steps", "9"]):
        said = own.command([*asked, "--device", "cpu"])
        assert [word for word in said if word in wanted] == wanted
        assert said[-2:] == ["--device", "cpu"]  # the last of two wins
        assert "--config" not in said
    assert not set(wanted) & set(own.command([]))
    for name in ("", "toytown", "nowhere.txt"):  # `train` is to say what it is
        (out / "config.toml").write_text(f'corpus = "{name}"')
        assert own.text() == []
    (out / "config.toml").write_text('corpus = "own.txt"')
    (out / "own.txt").write_text("So they wrote.")
    assert own.text() == [f"--corpus={out / 'own.txt'}"]
    assert f"--corpus={out / 'own.txt'}" in own.command([])
    assert own.command(["--corpus", "x"]).count("--corpus") == 1
    (out / "config.toml").write_text("device = ", encoding="utf-8")
    with pytest.raises(SystemExit):
        own.command(["--resume"])
    assert "config.toml cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize(("repeated", "often"), [(5_000, 1), (100_000, 14)])
def test_the_last_evaluation_is_counted_too(
    repeated: int, often: int, tmp_path: Path
) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(b"So they wrote, day after day. " * repeated)
    plan = Plan("practitioner", "cpu", path)
    steps, every = (plan.settings[n] for n in ("steps", "evaluate_every"))
    judged = [n for n in range(1, steps + 1) if n % every == 0 or n == steps]
    assert len(judged) == often
    assert f"taken {often} times" in reasons(config(plan))["evaluate_every"]
