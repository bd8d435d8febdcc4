"""The book passes every gate, and the command tells which it does not."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from press.gates import GATES, Book
from press.gates.__main__ import main
from press.records import seal

ROOT = Path(__file__).parents[2]
SLOW = ("mypy",)  # `make check` runs it
Plant = Callable[..., list[str]]


@pytest.mark.parametrize("name", [n for n in GATES if n not in SLOW])
def test_the_book_passes_every_gate(name: str) -> None:
    assert GATES[name](Book()) == []


def test_each_gate_says_what_it_is_for() -> None:
    for name, gate in GATES.items():
        assert len((gate.__doc__ or "").split()) > 3, name


def test_the_command_runs_the_gates_that_are_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["glyphs", "contents"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in out] == ["glyphs", "contents"]
    assert all("holds" in line for line in out)


def test_the_command_fails_where_a_gate_does(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(GATES, "glyphs", lambda book: ["a.md:3: wrong"])
    assert main(["glyphs"]) == 1
    assert "    a.md:3: wrong\n" in capsys.readouterr().out


def test_an_unknown_gate_is_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        main(["nothing"])
    assert "no gate nothing" in capsys.readouterr().err


def test_a_slip_of_spelling_is_caught(tmp_path: Path) -> None:
    for name in ("src", "book"):
        (tmp_path / name).mkdir()
    (tmp_path / "book" / "a.md").write_text("We belei" + "ve it.\n")
    found = GATES["codespell"](Book(tmp_path))
    assert any("belei" + "ve" in line for line in found), found


# --- records -----------------------------------------------------------------

RECORD = "records/memory.json"


def test_a_record_that_was_changed_is_caught(plant: Plant) -> None:
    def change(text: str) -> str:
        assert '"batch": 8' in text
        return text.replace('"batch": 8', '"batch": 9')

    [problem] = plant("records", RECORD, change)
    assert f"{RECORD} is not as it was recorded" in problem


def test_a_record_that_is_gone_is_caught(plant: Plant) -> None:
    [problem] = plant("records", RECORD, None)
    assert problem == f"{RECORD} is missing"


def test_a_record_that_nothing_makes_is_caught(plant: Plant) -> None:
    text = json.dumps(seal({"name": "other", "data": 1}))
    found = plant("records", "records/planted.json", text)
    assert found == [
        "records/planted.json: there is no script that makes it",
        "records/planted.json: it is the record of other",
    ]
