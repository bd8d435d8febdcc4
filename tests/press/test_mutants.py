"""Mistakes are planted where they should be, and noticed or not."""

import json
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import pytest

from press import mutants
from press.mutations import Mutant, Source, changed

TEXT = '''"""A module."""

import math

import torch


@torch.no_grad()
def mean(x: list[float], least: int = 1) -> float:
    """The mean of `x`."""
    if len(x) < least:
        raise ValueError("too few")
    with torch.no_grad():
        x.sort()
    total = float(sum(x)).real
    return total / len(x) if x else -math.inf
'''


@cache
def made(text: str = TEXT) -> set[tuple[str, str]]:
    """What stood there and what could, of all mutants."""
    source = Source("m", text)
    every = (source.mutant(index) for index in range(len(source)))
    return {(m.before, m.after) for m in every if m is not None}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("@torch.no_grad()", ""),
        ("with torch.no_grad():", "if True:"),
        ("x.sort()", "pass"),
        ('raise ValueError("too few")', "pass"),
        ("if len(x) < least:", "if len(x) <= least:"),
        ("if len(x) < least:", "if not (len(x) < least):"),
        ("total = float(sum(x)).real", "total = None"),
        (
            "def mean(x: list[float], least: int = 1) -> float:",
            "def mean(x: list[float], least: int = 0) -> float:",
        ),
        (
            "def mean(x: list[float], least: int = 1) -> float:",
            "def mean(x: list[float], least: int = 2) -> float:",
        ),
        (
            "return total / len(x) if x else -math.inf",
            "return total / len(x) if x else -1e4",
        ),
        (
            "return total / len(x) if x else -math.inf",
            "return total * len(x) if x else -math.inf",
        ),
        ("return total / len(x) if x else -math.inf", "return None"),
    ],
)
def test_mistakes_that_are_planted(before: str, after: str) -> None:
    assert (before, after) in made()


def test_what_no_test_should_hold_is_left_alone() -> None:
    for before, after in made():
        assert "too few" not in after
        assert before != '"""The mean of `x`."""'
        assert not before.startswith("import")
        assert before != after


def test_a_method_is_dropped_from_a_chain() -> None:
    found = made("def f(x):\n    return x.float().mean()\n")
    assert ("return x.float().mean()", "return x.mean()") in found
    assert ("return x.float().mean()", "return x.float()") in found


def test_a_mutant_knows_where_it_is() -> None:
    text = "class A:\n    def f(self):\n        return 1 + 2\n\n\nX = 3\n"
    source = Source("m", text)
    every = [source.mutant(index) for index in range(len(source))]
    places = {(m.where, m.line) for m in every if m is not None}
    assert places == {("A.f", 3), ("", 6)}


def test_the_same_seed_draws_the_same_mutants() -> None:
    source = Source("m", TEXT)
    first, again, other = (mutants.drawn(source, 5, s) for s in (0, 0, 1))
    assert first == again != other
    assert len(first) == 5
    assert len(mutants.drawn(source, 0, 0)) > 15


def test_only_differing_lines_are_told() -> None:
    assert changed("a\n  b\n", "a\n  c\n") == ("b", "c")
    assert changed("a\nb\nc\n", "a\nc\n") == ("b", "")


def test_the_tests_of_a_module() -> None:
    own = mutants.own_tests("scratchlm.model.heads")
    more = mutants.more_tests("scratchlm.model.heads")
    assert own[0] == "tests/model/test_heads.py"
    assert "tests/model/test_gpt.py" in more
    assert "tests/solutions/test_heads.py" in more
    assert not set(own) & set(more)


def test_a_share_is_of_what_counts() -> None:
    one = Mutant("scratchlm.model.a", "f", 1, "b", "c", "")
    verdict = mutants.Verdict("scratchlm.model.a", 20, 10, [one], [one] * 3)
    assert verdict.killed == 6
    table = mutants.summary([verdict])
    assert table["model"]["share"] == pytest.approx(6 / 9)
    told = json.loads(mutants.as_json([verdict], 10, 0))
    assert told["modules"]["scratchlm.model.a"]["tried"] == 10
    assert told["survivors"][0]["at"] == "src/scratchlm/model/a.py:1"


def test_each_reason_is_of_a_line_that_exists() -> None:
    known = mutants.reasons()
    assert known
    for (module, _, before, after), reason in known.items():
        text = mutants.source_of(module).read_text(encoding="utf-8")
        assert before in " ".join(text.split())
        assert before != after
        assert reason.endswith(".")


@pytest.mark.judge
def test_each_reason_is_of_a_mutant_that_exists() -> None:
    known = set(mutants.reasons())
    for module in {key[0] for key in known}:
        text = mutants.source_of(module).read_text(encoding="utf-8")
        source = Source(module, text)
        wanted = {key for key in known if key[0] == module}
        for index, (where, *_) in enumerate(source.found):
            if any(where == key[1] for key in wanted):
                mutant = source.mutant(index)
                wanted -= {mutant.key} if mutant else set()
        assert not wanted


@pytest.mark.judge
def test_a_mistake_is_noticed_and_no_mistake_is_not(tmp_path: Path) -> None:
    module = "scratchlm.model.block"
    text = mutants.source_of(module).read_text(encoding="utf-8")
    wrong = text.replace("self.norm2(x)", "self.norm1(x)")
    endless = text.replace("def rms(", "while True: pass\n\n\ndef rms(")
    planted = [
        Mutant(module, "", 0, name, "", source)
        for name, source in (("", text), ("w", wrong), ("e", endless))
    ]
    assert len({m.source for m in planted}) == 3
    tests = mutants.own_tests(module)
    # Not in this process, which has run other tests and has threads.
    new = get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=new) as fresh:
        limit = fresh.submit(mutants.clean_run, planted[0], tests).result()
        job = fresh.submit(mutants.survivors, planted, tests, limit, 2)
        alive = job.result()
    assert [mutant.before for mutant in alive] == [""]
