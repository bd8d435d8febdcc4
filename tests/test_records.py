"""Every record is complete, and its first steps come out the same again."""

import json
from pathlib import Path

import pytest

from press.records import read
from records import __main__ as records

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("name", records.names())
def test_a_record_is_replayed(name: str) -> None:
    path = ROOT / "records" / f"{name}.json"
    record = read(path)
    assert record["name"] == name
    assert record["machine"]
    assert {"python", "torch"} <= set(record["versions"])
    records.maker(name).replay(record["data"])


def test_a_record_that_was_changed_is_caught() -> None:
    """The replay of memory compares; it does not only run."""
    path = ROOT / "records" / "memory.json"
    data = read(path)["data"]
    text = json.dumps(data)
    digits = [i for i, c in enumerate(text) if c == "1" and text[i - 1] == " "]
    changed = json.loads("".join(
        "7" if i in digits else c for i, c in enumerate(text)
    ))
    assert changed != data
    with pytest.raises(AssertionError):
        records.maker("memory").replay(changed)


def test_unknown_records_are_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert records.main(["nothing"]) == 2
    assert "there are: " in capsys.readouterr().err


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
