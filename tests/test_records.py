"""Every record is complete, and its first steps come out the same again."""

import json
from copy import deepcopy
from pathlib import Path

import pytest

from check import running
from press.records import read
from records import __main__ as records
from records import make_mistakes

ROOT = Path(__file__).parent.parent
MISTAKES = ROOT / "records" / "mistakes.json"
FORMS = ROOT / "records" / "forms.json"


@pytest.mark.parametrize("name", records.names())
def test_a_record_is_replayed(name: str) -> None:
    path = ROOT / "records" / f"{name}.json"
    record = read(path)
    assert record["name"] == name
    assert record["machine"]
    assert {"python", "torch"} <= set(record["versions"])
    records.maker(name).replay(record["data"])


def test_the_forms_were_tried_with_all_checks_of_today() -> None:
    for topic, tried in read(FORMS)["data"].items():
        count = len(running.check_functions(running.load(topic)))
        assert {form["checks"] for form in tried.values()} == {count}, topic


@pytest.mark.judge
@pytest.mark.parametrize("topic", read(MISTAKES)["data"])
def test_each_mistake_fails_and_is_told_as_it_was(topic: str) -> None:
    known = read(MISTAKES)["data"][topic]
    make_mistakes.replay_topic(known, topic)


@pytest.mark.parametrize("part", ["marks", "words"])
def test_a_mistake_that_ends_in_another_way_is_noticed(part: str) -> None:
    known = deepcopy(read(MISTAKES)["data"]["files"])
    first = next(iter(known["mistakes"].values()))
    first[part] += "x"
    with pytest.raises(AssertionError):
        make_mistakes.replay_topic(known, "files")


def test_every_mistake_is_told_or_stopped() -> None:
    """A stopped one has no check that fails; every other one has words."""
    for topic, part in read(MISTAKES)["data"].items():
        for name, way in part["mistakes"].items():
            assert bool(way["words"]) != way["stopped"], (topic, name)


def test_a_record_that_was_changed_is_caught() -> None:
    """The replay of memory compares; it does not only run."""
    path = ROOT / "records" / "memory.json"
    data = read(path)["data"]
    text = json.dumps(data)
    digits = [i for i, c in enumerate(text) if c == "1" and text[i - 1] == " "]
    changed = json.loads(
        "".join("7" if i in digits else c for i, c in enumerate(text))
    )
    assert changed != data
    with pytest.raises(AssertionError):
        records.maker("memory").replay(changed)


def test_unknown_records_are_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert records.main(["nothing"]) == 2
    assert "there are: " in capsys.readouterr().err


def test_nothing_is_measured_that_cannot_be_written(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records.os, "access", lambda path, mode: False)
    monkeypatch.setattr(records, "make", lambda name: 1 / 0)
    assert records.main(["memory"]) == 2
    assert "cannot be written to" in capsys.readouterr().err


def test_a_record_named_twice_is_made_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[str] = []
    monkeypatch.setattr(records, "write", made.append)
    assert records.main(["memory", "memory"]) == 0
    assert made == ["memory"]


def test_a_damaged_record_is_named_in_the_list(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "memory.json").write_text('{"made": "2026-01-01"', "utf-8")
    monkeypatch.setattr(records, "names", lambda: ["memory"])
    monkeypatch.setattr(records, "HERE", tmp_path)
    assert records.main([]) == 0
    out = capsys.readouterr().out
    assert "run it again: python -m records memory" in out


def test_without_names_the_records_are_listed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert records.main([]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in records.names())
    assert "not recorded yet" not in out


def test_the_ladder_begins_so_on_shakespeare(shakespeare: str) -> None:
    """The recorded runs, in their first steps, on their own text."""
    from records import make_speed

    path = ROOT / "records" / "speed.json"
    record = read(path)
    make_speed.replay(record["data"], make_speed.split(shakespeare))


def test_the_ten_minutes_begin_so_on_shakespeare(shakespeare: str) -> None:
    from records import make_shakespeare, make_speed

    record = read(ROOT / "records" / "shakespeare.json")
    texts = make_speed.split(shakespeare)
    make_shakespeare.replay(record["data"], texts)
