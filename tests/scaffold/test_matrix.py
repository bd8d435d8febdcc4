"""Every combination of track, budget and mode gives a repository that works."""

import shutil
from pathlib import Path

import pytest

from scaffold import matrix
from scaffold.emit import emit
from scaffold.holes import chosen
from scaffold.matrix import Row, combinations, tried
from scaffold.plan import MODES, Plan, ScaffoldError, budgets, tracks

# One of each kind: three tracks, both modes, with a card and without.
SHORT = {
    ("beginner", "cpu", "stubs"),
    ("practitioner", "gpu8", "solutions"),
    ("researcher", "node8", "stubs"),
}


def marked() -> list[object]:
    """The combinations; most of them are for the judges."""
    return [
        pytest.param(
            *wanted,
            marks=() if wanted in SHORT else pytest.mark.judge,
        )
        for wanted in combinations()
    ]


def test_each_choice_is_in_the_short_suite_or_the_long_one() -> None:
    assert len(combinations()) == len(tracks()) * len(budgets()) * len(MODES)
    assert set(combinations()) > SHORT
    assert {track for track, _, _ in SHORT} == set(tracks())
    assert {mode for _, _, mode in SHORT} == set(MODES)


@pytest.mark.parametrize(("track", "budget", "mode"), marked())
def test_a_repository_is_made_imported_and_clean(
    track: str, budget: str, mode: str, tmp_path: Path
) -> None:
    out = tmp_path / "llm"
    row = tried(track, budget, mode, out)
    assert (row.track, row.budget, row.mode) == (track, budget, mode)
    assert row.modules >= len(Plan(track, budget).topics)
    assert row.tests > 1000
    assert row.seconds_to_emit > 0
    assert row.seconds_to_import > 0
    left = "Yours to write"
    library = (out / "scratchlm").rglob("*.py")
    holes = sum(left in p.read_text(encoding="utf-8") for p in library)
    wanted = len(Plan(track, budget).topics) if mode == "stubs" else 0
    assert holes == wanted <= len(chosen())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    plan = Plan("practitioner", "cpu")
    return emit(plan, tmp_path_factory.mktemp("made") / "llm")


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("scratchlm/text/new.py", "import nothing_like_it\n", "-c import"),
        ("tests/test_new.py", "import nothing_like_it\n", "-m pytest failed"),
        ("left.txt", "", "not committed: \\?\\? left.txt"),
    ],
)
def test_what_does_not_work_is_told(
    name: str,
    text: str,
    why: str,
    made: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def spoiled(_: Plan, out: Path) -> None:
        shutil.copytree(made, out)
        (out / name).write_text(text, encoding="utf-8")

    monkeypatch.setattr(matrix, "emit", spoiled)
    with pytest.raises(ScaffoldError, match=why):
        tried("practitioner", "cpu", "solutions", tmp_path / "llm")


def test_the_table_is_one_that_markdown_draws(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def found(track: str, budget: str, mode: str, out: Path) -> Row:
        return Row(track, budget, mode, 1.25, 2.0, 3, 4)

    monkeypatch.setattr(matrix, "tried", found)
    assert matrix.main(["--track", "researcher"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + len(budgets()) * len(MODES)
    assert len({line.count("|") for line in lines}) == 1
    assert lines[2] == "| researcher | cpu | stubs | 1.2 | 2.0 | 3 | 4 |"
    assert lines[:2] == matrix.head().splitlines()

    def failed(*_: object) -> Row:
        raise ScaffoldError("it does not work")

    monkeypatch.setattr(matrix, "tried", failed)
    assert matrix.main([]) == 1
    assert "beginner cpu stubs: it does not work" in capsys.readouterr().err
