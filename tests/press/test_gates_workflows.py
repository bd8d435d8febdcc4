"""Workflows: commands that exist, actions of fixed versions, no secrets."""

from collections.abc import Callable

import pytest
import yaml

from press.gates import GATES, Book
from press.gates.workflows import FOLDER
from press.pages import papers
from press.roadmap import TRACKS

Plant = Callable[..., list[str]]
BUILD, TESTS = f"{FOLDER}/book.yml", f"{FOLDER}/tests.yml"


def swap(old: str, new: str) -> Callable[[str], str]:
    """Write something else in place of what stands there."""
    return lambda text: text.replace(old, new)


def test_our_workflows_hold_and_do_what_a_release_needs() -> None:
    assert GATES["workflows"](Book()) == []
    jobs = yaml.safe_load(Book().read(BUILD))["jobs"]
    steps = jobs["build"]["steps"] + jobs["release"]["steps"]
    said = "\n".join(step.get("run", "") for step in steps)
    for command in ("make pdf\n", "make html", "make epub", "release create"):
        assert command in said
    editions = {f"make pdf TRACK={track}\n" for track in TRACKS}
    editions |= {f"make pdf PAPER={paper}\n" for paper in papers()[1:]}
    assert len(editions) == 6
    assert all(edition in said for edition in editions)
    [kept] = [
        step["with"]["path"]
        for step in steps
        if "upload-artifact@" in step.get("uses", "")
    ]
    assert {"_build/book*.pdf", "_build/book.epub"} <= set(kept.split())
    systems = yaml.safe_load(Book().read(TESTS))["jobs"].values()
    assert {job["runs-on"] for job in systems} == {
        "ubuntu-latest",
        "macos-latest",
        "windows-latest",
    }


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (
            "make html",
            "make site",
            "make site: the Makefile has no such target",
        ),
        ("PAPER=a4", "SHEET=a4", "make SHEET=a4: the Makefile has no SHEET"),
        ("PAPER=a4", "PAPER=a5", "make PAPER=a5: there is no such paper"),
        (
            "TRACK=beginner",
            "TRACK=novice",
            "make TRACK=novice: there is no such track",
        ),
        (
            "-m press.judge",
            "-m press.judges",
            "python -m press.judges: there is no such module",
        ),
        (
            "press.system --judges",
            "press.system --all",
            "python -m press.system: press/system.py has no --all",
        ),
        (
            "checkout@v4",
            "checkout@main",
            "actions/checkout@main has no fixed version: write owner/name@v1",
        ),
        (
            "GH_TOKEN: ${{ github.token }}",
            "GH_TOKEN: abc",
            "GH_TOKEN stands there in plain words: use a secret of GitHub",
        ),
        (
            "permissions:\n  contents: read\nconcurrency",
            "concurrency",
            "has all permissions: name those it needs",
        ),
        ("jobs:", "tasks:", "no jobs"),
    ],
)
def test_what_would_fail_at_the_next_release_is_caught(
    plant: Plant, old: str, new: str, problem: str
) -> None:
    assert plant("workflows", BUILD, swap(old, new)) == [f"{BUILD}: {problem}"]


def test_a_command_over_two_lines_is_read_whole(plant: Plant) -> None:
    broken = "press.judge \\\n            --none epubcheck"
    [problem] = plant("workflows", BUILD, swap("press.judge --only", broken))
    assert problem.endswith("press/judge.py has no --none")
    assert problem.startswith(f"{BUILD}: python -m press.judge")


def test_what_is_no_yaml_is_named(plant: Plant) -> None:
    [problem] = plant("workflows", TESTS, "jobs: [linux")
    assert problem.startswith(f"{TESTS}: while parsing a flow sequence")
