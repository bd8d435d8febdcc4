"""Solutions on serving: events in pieces, patience, buckets, turns."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scratchlm.serving.protocol import event
from solutions.serving.server import (
    Bucket,
    ask_again,
    read_events,
    take_turns,
    total_nats,
)


@given(
    st.lists(st.text("a\n€", max_size=4), max_size=4),
    st.lists(st.integers(1, 5), min_size=1),
)
@pytest.mark.always
def test_events_in_any_blocks(texts: list[str], sizes: list[int]) -> None:
    wanted = [{"text": text} for text in texts]
    data = "".join(map(event, wanted)).encode() + b"data: [DONE]\n\n"
    blocks, at = [], 0
    while at < len(data):
        size = sizes[len(blocks) % len(sizes)]
        blocks.append(data[at : at + size])
        at += size
    assert list(read_events(blocks)) == wanted


def test_a_stream_that_breaks_off_is_no_end() -> None:
    found = read_events([event({"a": 1}).encode(), b"data: {"])
    assert next(found) == {"a": 1}
    with pytest.raises(ConnectionError):
        next(found)


def test_asking_again() -> None:
    answers = iter([(429, 3.0), (503, None), (429, 0.5), (200, None)])
    waits: list[float] = []
    status = ask_again(lambda: next(answers), waits.append, lambda: 0.5)
    assert (status, waits) == (200, [3.5, 1.0, 2.5])
    assert ask_again(lambda: (429, None), waits.append, lambda: 0, 2) == 429
    assert len(waits) == 4
    assert ask_again(lambda: (400, None), waits.append, lambda: 0) == 400
    assert len(waits) == 4


def test_a_bucket() -> None:
    bucket = Bucket(rate=2, size=10)
    assert bucket.admit(10, now=0) == 0
    assert bucket.admit(4, now=1) == 1
    assert bucket.admit(4, now=2) == 0
    assert bucket.admit(10, now=100) == 0  # never more than full
    assert bucket.admit(1, now=100) == 0.5
    with pytest.raises(ValueError, match="never fits"):
        bucket.admit(11, now=200)


def test_nats_by_scores() -> None:
    asked: dict[str, Any] = {}

    def complete(**given: Any) -> dict[str, Any]:
        asked.update(given)
        table = {
            "text_offset": [0, 3, 5],
            "token_logprobs": [None, -0.5, -2.0],
        }
        return json.loads(json.dumps({"choices": [{"logprobs": table}]}))

    assert total_nats(complete, "Mrs", " Pell") == 2.5
    assert asked["prompt"] == "Mrs Pell"
    assert total_nats(complete, "", "Mrs Pell") == 2.5


def test_turns() -> None:
    order = take_turns([("a", 1), ("b", 2), ("a", 3), ("c", 4), ("b", 5)])
    assert [number for _, number in order] == [1, 2, 4, 3, 5]
    assert take_turns([]) == []
