"""A page of notes for each phase: questions, a table, and whose it is."""

import re
from pathlib import Path

import pytest

from press.plan import checks
from press.roadmap import load
from scaffold.__main__ import main
from scaffold.config import config
from scaffold.emit import emit
from scaffold.estimate import dollars, estimate, hourly
from scaffold.page import budget_page
from scaffold.plan import Limits, Plan, budgets, tracks
from scaffold.repository import git
from scaffold.stamp import BUDGET, STAMP, digest, is_managed, read_stamp
from scaffold.tables import count
from scratchlm.cli.app import main as library
from scratchlm.cli.estimate import duration, size


@pytest.fixture(scope="module", params=tracks())
def repository(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    return emit(Plan(request.param, "cpu"), tmp_path_factory.mktemp("n") / "a")


def written(folder: Path) -> dict[str, str]:
    """The pages of the phases by their path, as they lie there."""
    return {
        path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted((folder / "notes").iterdir())
        if path.relative_to(folder).as_posix() != BUDGET
    }


@pytest.mark.parametrize("budget", budgets())
@pytest.mark.parametrize("limited", [False, True])
def test_a_page_says_what_the_budget_takes_and_why(
    budget: str, limited: bool
) -> None:
    """The numbers are those of the estimate and of config.toml."""
    limits = Limits(usd=0.05, hourly_usd=2.0) if limited else Limits()
    plan, facts = Plan("practitioner", budget, limits=limits), budgets()[budget]
    run = estimate(plan.settings, facts, limits)
    text = budget_page(plan)
    table = dict(re.findall(r"^\| (\S.*?) \| (.*?) \| \|$", text, re.M))
    assert table["parameters"] == count(run.parameters)
    assert table["tokens to read"] == count(run.tokens)
    often = plan.settings.get("accumulate", 1)
    windows = f"{plan.settings['batch_size']}, {often} to a step"
    assert table["windows at a time"] == windows
    assert table["memory at the highest"].startswith(size(run.memory))
    assert table["time"].startswith(duration(3600 * run.hours))
    money = f"{dollars(run.usd)}, at {dollars(hourly(facts, limits))} an hour"
    assert table["money"] == money
    said = " ".join(text.split())
    written = re.sub(r"\n# ", " ", config(plan))
    for name in ("channels", "batch_size", "steps", "max_minutes"):
        assert f"`{name} = {plan.settings[name]}`: " in said
        reason = said.split(f"`{name} = ")[1].split("`: ")[1][:40]
        assert reason in " ".join(written.split())
    assert ("`max_usd = 0.05`" in said) is limited
    assert ("`usd_per_hour = " in said) is bool(hourly(facts, limits))
    for note in plan.notes:
        assert note[1:] in said
    assert limited or not plan.notes
    assert not re.search(r"\n{3}|[ ]$", text, re.M)
    assert all(len(line) < 80 for line in text.splitlines() if line[0:1] != "|")


def test_the_page_on_the_budget_is_the_readers(repository: Path) -> None:
    """Its numbers depend on their text, which no update knows."""
    page = repository / BUDGET
    assert page.read_text(encoding="utf-8").startswith("# The budget\n")
    assert BUDGET not in read_stamp(repository).managed
    assert not is_managed(BUDGET)
    assert is_managed("notes/1-data.md")
    for text in written(repository).values():
        assert "[budget.md](budget.md)" in text


def test_each_phase_has_a_page_with_all_its_topics(repository: Path) -> None:
    plan = read_stamp(repository).plan
    pages = written(repository)
    assert list(pages) == list(plan.pages)
    assert [p.milestone for p in plan.pages.values()] == list(load().milestones)
    for name, phase in plan.pages.items():
        text = pages[name]
        assert text.startswith(f"# {phase.milestone.title}\n")
        assert f"you have {phase.milestone.holds}." in text
        for topic in phase.topics:
            assert text.count(f"(`{topic.id}`): {topic.gives}.\n") == 1
            questions = text.split(f"### {topic.title}\n")[1].split("##")[0]
            assert topic.hazard in questions
            assert topic.done in questions
            assert questions.count("?") >= 3
    listed = re.findall(r"^- .*\(`(\w+)`\)", "".join(pages.values()), re.M)
    assert sorted(listed) == sorted(topic.id for topic in plan.topics)
    assert not re.search(r"\n{4}|\{\{|\{%|[ ]$", "".join(pages.values()), re.M)


def test_its_table_has_a_cell_for_what_the_reader_measured(
    repository: Path,
) -> None:
    plan = read_stamp(repository).plan
    for name, text in written(repository).items():
        phase = plan.pages[name]
        table = re.findall(r"^\| (.+?) \|(.*?)\|(.*?)\|$", text, re.M)
        assert {len(cells[2].strip()) for cells in table[2:]} == {0}
        commands = [cells[0].strip("`") for cells in table]
        for topic in phase.topics:
            assert f"python -m check {topic.id}" in commands
        shows = phase.milestone.shows
        assert shows in commands
        assert f"{phase.minutes / 60:.1f}" in table[2][1]
        block = text.split("```sh\n")[1].split("```")[0]
        assert block == f"{shows}\n{checks(phase.topics)}\n"


def test_its_commands_are_commands(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Of the library; a run that has to be there is not looked for."""
    for milestone in load().milestones:
        program, name = milestone.shows.split()[2:4]
        assert program == "scratchlm"
        assert library([name, "--help"]) == 0
        assert f"Usage: python -m scratchlm {name}" in capsys.readouterr().out


def test_a_page_is_the_books_until_a_word_is_written_on_it(
    repository: Path,
) -> None:
    plain, mine = list(written(repository))[:2]
    fresh = written(repository)
    (repository / plain).write_text("As an older edition had it.\n")
    kept = repository / STAMP
    text = kept.read_text(encoding="utf-8")
    for name in (plain, mine):
        older = digest(repository / plain)
        text = re.sub(rf'("{name}" = )"\w+"', rf'\1"{older}"', text)
    kept.write_text(text, encoding="utf-8")
    (repository / mine).write_text("My answer.\n", encoding="utf-8")
    (repository / "notes" / "own.md").write_text("Mine.\n", encoding="utf-8")
    git(repository, "add", "--all")
    git(repository, "commit", "--quiet", "-m", "As an older edition made it")
    assert main(["update", str(repository)]) == 0
    now = written(repository)
    assert now[plain] == fresh[plain]
    assert now[mine] == "My answer.\n"
    assert now["notes/own.md"] == "Mine.\n"
    assert now[f"{mine}.new"] == fresh[mine]
