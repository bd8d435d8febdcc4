"""Records are sealed: a change anywhere in one is noticed."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from press import drawing, records

FILES = sorted((Path(__file__).parents[2] / "records").glob("*.json"))
NAMES = [path.stem for path in FILES]


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Each container of a record with the key of each leaf in it."""
    items: Any = ()
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    for key, inner in items:
        if isinstance(inner, dict | list):
            yield from places(inner)
        else:
            yield value, key


def other(value: Any) -> Any:
    """Nearly the same value: the last digit, letter or bit changes."""
    if isinstance(value, bool) or value is None:
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value * (1 + 2**-40) if value else 2**-40
    return value + " "


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_every_change_of_every_value_is_noticed(path: Path) -> None:
    record = records.read(path)
    kept = record[records.SEAL]
    changed = 0
    for container, key in list(places(record)):
        if container is record and key == records.SEAL:
            continue
        value = container[key]
        container[key] = other(value)
        assert records.digest(record) != kept, (path.name, key, value)
        container[key] = value
        changed += 1
    assert changed > 10
    assert records.digest(record) == kept


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_a_value_that_is_taken_out_is_noticed(path: Path) -> None:
    record = json.loads(path.read_text(encoding="utf-8"))
    again = records.how_to(path.stem)
    for part in record:
        rest = {name: record[name] for name in record if name != part}
        with pytest.raises(records.RecordError, match=again):
            records.parse(json.dumps(rest), path.name)


def test_drawing_refuses_a_record_that_was_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = FILES[0].read_text(encoding="utf-8")
    name = FILES[0].stem
    (tmp_path / "records").mkdir()
    monkeypatch.setattr(drawing, "ROOT", tmp_path)
    copy = tmp_path / "records" / f"{name}.json"
    copy.write_text(text, encoding="utf-8")
    assert drawing.record(name)["name"] == name
    assert '"made": "20' in text
    changed = text.replace('"made": "20', '"made": "21')
    copy.write_text(changed, encoding="utf-8")
    with pytest.raises(records.RecordError, match="not as it was recorded"):
        drawing.record(name)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"a": 1}', "no seal"),
        ("[1]", "no seal"),
        ('{"a": 1, "a": 2, "sha256": "x"}', "a stands twice"),
        ('{"a": NaN, "sha256": "x"}', "NaN is no number"),
        ('{"a": 1e999, "sha256": "x"}', "1e999 is no number"),
        ('{"a": 1, "sha256"', "expecting"),
    ],
)
def test_what_is_no_record_is_refused(text: str, why: str) -> None:
    with pytest.raises(records.RecordError, match=f"(?i){why}"):
        records.parse(text, "records/some.json")


def test_a_record_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "some.json"
    path.write_bytes(b'{"a": "\xff"}')
    with pytest.raises(records.RecordError, match=f"{path} is no UTF-8"):
        records.read(path)


def test_a_record_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="python -m records some"):
        records.read(tmp_path / "some.json")


@pytest.mark.parametrize("name", ["mistakes", "apart"])
def test_a_topic_that_a_record_lacks_is_named(
    name: str, plant: Callable[..., list[str]]
) -> None:
    """As a new topic does, before its mistakes are measured."""

    def forget(text: str) -> str:
        record = json.loads(text)
        data = record["data"]
        del (data if name == "mistakes" else data["topics"])["bpe"]
        del record["sha256"]
        return json.dumps(records.seal(record))

    [problem] = plant("records", f"records/{name}.json", forget)
    assert problem == (
        f"records/{name}.json: bpe is missing; run python -m records {name}"
    )
