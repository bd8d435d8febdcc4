"""What takes four times as long for twice the work is told, in right code not.

Each quadratic form gives the values of the book's, so nothing but its time
betrays it.
"""

from collections.abc import Callable, Iterator

import pytest

from check import expect
from check.diagnose import failures
from check.expect import CheckFailed, grows
from check.places import Site
from check.process import Job, run
from check.running import plant

# By topic: text and its replacement, and the one check that fails on it.
QUADRATIC = {
    "bpe": (
        "    index = PairIndex(words)\n",
        "    return learn_merges_naive(words, merges)\n"
        "    index = PairIndex(words)\n",
        "check_the_fast_form_is_the_naive_form",
    ),
    "tokenizer": (
        "        if len(piece) < LONG:\n",
        "        if piece:\n",
        "check_scan_and_heap_agree_on_runs",
    ),
    "cache": (
        "        return self.k[:, :, :end], self.v[:, :, :end]\n",
        "        return self.k[:, :, :end].clone(), "
        "self.v[:, :, :end].clone()\n",
        "check_past_first",
    ),
}


@pytest.mark.parametrize("topic", QUADRATIC)
def test_what_grows_with_the_square_is_told(topic: str, book: Site) -> None:
    old, new, check = QUADRATIC[topic]
    found = book.topics[topic]
    source = book.path(found).read_text(encoding="utf-8")
    job = Job(book, found, book.sources, text=plant(source, old, new, topic))
    failed = failures(run(job, lambda _: 60.0))
    assert list(failed) == [check]
    told = failed[check]["told"]
    assert "twice" in told["what"]
    most = 1.6 if topic == "bpe" else 3.2
    assert told["wanted"] == f"at most {most:g} times as long"
    assert most <= float(told["got"].split()[0]) < 12


@pytest.mark.parametrize("topic", QUADRATIC)
def test_what_grows_with_its_size_is_not(topic: str, book: Site) -> None:
    found = book.topics[topic]
    for _ in range(3):
        assert failures(run(Job(book, found, book.sources))) == {}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[Iterator[float]], None]:
    """A clock on which each piece of work takes the next of some times."""

    def times(seconds: Iterator[float]) -> None:
        now, begun = 0.0, False

        def look() -> float:
            nonlocal now, begun
            now += next(seconds) if begun else 0.0
            begun = not begun
            return now

        monkeypatch.setattr(expect, "process_time", look)

    return times


def test_the_fastest_of_several_turns_counts(
    clock: Callable[[Iterator[float]], None],
) -> None:
    """Once in a while another program is in the way, and later it is not."""
    made: list[int] = []

    def make(size: int) -> Callable[[], object]:
        made.append(size)
        return lambda: None

    clock(iter([1.0, 9.0, 1.0, 8.0, 1.0, 4.0, 1.0, 2.5]))
    grows(make, 7, "the time")
    assert made == [7, 14] * 4
    clock(iter([5.0, 4.0, 1.0, 4.0, 1.0, 4.0] + [1.0, 4.1] * 6))
    with pytest.raises(CheckFailed) as failure:
        grows(make, 7, "the time for twice as much", hint="count again")
    assert failure.value.got == "4.0 times"
    assert failure.value.hint == "count again"
    assert len(made) == 2 * (4 + expect.TURNS)
