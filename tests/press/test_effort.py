"""Minutes are counted from what is printed; seconds come from a record."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from press import effort as efforts
from press.effort import Effort, count, effort, running
from press.records import RecordError, seal
from press.roadmap import load

PAGE = """---
file_format: mystnb
---
(page)=
# Three short words

% a comment of many words that nobody reads

```{code-cell}
:tags: [remove-cell]
hidden = 1
```

```{code-cell}
:caption: Two words
x = 1

y = 2
```

```{listing} scratchlm.model.attention.causal_mask
```

One `code` two {ref}`three` words.

:::{pitfall} A title
Five words in a box.
:::

:::{exercise} Why
:name: ex-why
:hours: 2
Say why.
:::

:::{exercise} When
:name: ex-when
:hours: 0
Say.
:::
"""


def test_what_is_printed_counts_and_nothing_else() -> None:
    found = count(PAGE)
    words = 3 + 2 + 3 + 2 + 5 + 1 + 2 + 1 + 1  # in their order
    assert found.words == words
    assert found.grades == ("2", "0")
    listing = efforts.find("scratchlm.model.attention.causal_mask").text
    assert found.lines == 2 + len(efforts.written(listing))


def test_each_kind_takes_its_time() -> None:
    assert Effort(1000, 0, ()).reading == 5
    assert Effort(1001, 0, ()).reading == 10
    assert Effort(0, 250, ()).reading == 30
    whole = Effort(1000, 250, ("0", "0", "1", "3"))
    assert whole.reading == 35
    assert whole.minutes == 35 + 20
    assert whole.exercises == 45 + 180


@given(st.integers(0, 20000), st.integers(0, 2000), st.integers(1, 500))
def test_more_to_read_never_takes_less(
    words: int, lines: int, more: int
) -> None:
    before = Effort(words, lines, ()).reading
    assert before <= Effort(words + more, lines, ()).reading
    assert before <= Effort(words, lines + more, ()).reading
    assert before % efforts.STEP == 0


def test_every_topic_has_minutes_that_an_evening_holds() -> None:
    for topic in load().topics:
        asked = effort(topic)
        assert 15 <= asked.minutes <= 180, (topic.id, asked)
        assert asked.grades.count("0") >= 2
        assert set(asked.grades) <= set(efforts.GRADES)


def test_without_a_chapter_the_error_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(efforts, "ROOT", tmp_path)
    with pytest.raises(FileNotFoundError, match="take the whole repository"):
        effort(load().topics[0])


def written_record(path: Path, pages: dict[str, Any]) -> Path:
    record = {"name": "pages", "data": {"threads": 1, "pages": pages}}
    path.write_text(json.dumps(seal(record)), encoding="utf-8")
    return path


def test_the_run_comes_from_the_record(tmp_path: Path) -> None:
    first, second = load().topics[:2]
    page = {"seconds": 4.5, "bytes": 3 << 20, "cells": 7}
    path = written_record(tmp_path / "pages.json", {first.id: page})
    assert running(first, path) == efforts.Running(4.5, 3 << 20)
    assert running(second, path) is None
    assert running(first, tmp_path / "none.json") is None
    path.write_text(path.read_text().replace("4.5", "0.5"))
    with pytest.raises(RecordError, match="not as it was recorded"):
        running(first, path)
