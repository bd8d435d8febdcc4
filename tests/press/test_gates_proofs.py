"""Tests that prove nothing are found."""

from collections.abc import Callable

import pytest

Plant = Callable[..., list[str]]
NAME = "tests/solutions/test_planted.py"


def test(body: str) -> str:
    """A module with one test."""
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    return f"import pytest\n\n\ndef test_it():\n{lines}\n"


test.__test__ = False  # type: ignore[attr-defined]
THERE = "asserts only that it is there"
WEAK = {
    "callable": ("assert callable(solve)", THERE),
    "callable, all": ("assert all(callable(f) for f in fs)", THERE),
    "callable, and": ("assert callable(f) and callable(g)", THERE),
    "hasattr": ('assert hasattr(module, "solve")', THERE),
    "something": ("x = solve()\nassert x is not None", THERE),
    "truth": ("assert solve", THERE),
    "nothing": ("solve()", "asserts nothing"),
    "a comparison": ("solve() == 3", "asserts nothing"),
    "always": ("assert True\nassert x == 1", "always true"),
    "a tuple": ('assert (x == 1, "so")', "always true"),
    "a text": ('assert "x == 1"', "always true"),
    "a lambda": ("assert lambda: x == 1", "always true"),
    "or": ("assert x == 1 or True", "always true"),
    "itself": ("assert x == x", "always true"),
}


@pytest.mark.parametrize("kind", WEAK)
def test_a_weak_assertion_is_caught(kind: str, plant: Plant) -> None:
    body, message = WEAK[kind]
    found = plant("proofs", NAME, test(body))
    assert any(message in problem for problem in found), found


NEVER = {
    "behind return": "assert x == 1\nreturn\nassert y == 1",
    "behind raise": "assert x == 1\nraise ValueError\nassert y == 1",
    "behind continue": (
        "assert x == 1\nfor a in b:\n    continue\n    assert y == 1"
    ),
    "if False": "assert x == 1\nif False:\n    assert y == 1",
    "if 0": "assert x == 1\nif 0:\n    assert y == 1",
    "while False": "assert x == 1\nwhile False:\n    assert y == 1",
    "TYPE_CHECKING": "assert x == 1\nif TYPE_CHECKING:\n    assert y == 1",
    "a loop over nothing": "assert x == 1\nfor a in []:\n    assert y == 1",
    "a range of nothing": "assert x\nfor a in range(0):\n    assert y == 1",
    "a function that nobody calls": (
        "assert x == 1\ndef later():\n    assert y == 1"
    ),
    "behind what raises": (
        "with pytest.raises(ValueError):\n    f()\n    assert y == 1"
    ),
}


@pytest.mark.parametrize("kind", NEVER)
def test_an_assertion_that_never_runs_is_caught(
    kind: str, plant: Plant
) -> None:
    found = plant("proofs", NAME, test(NEVER[kind]))
    assert len(found) == 1, found
    assert "an assertion" in found[0]


def test_a_helper_that_nobody_calls_is_caught(plant: Plant) -> None:
    helper = "\n\ndef compare(a, b):\n    assert a == b\n"
    [problem] = plant("proofs", NAME, test("assert solve() == 1") + helper)
    assert "in compare, never called" in problem


@pytest.mark.parametrize(
    "body",
    [
        "assert solve(2) == 4",
        "with pytest.raises(ValueError):\n    solve(-1)",
        "torch.testing.assert_close(solve(x), y)",
        "for x in (1, 2):\n    assert solve(x) == x",
        "def inner():\n    assert x == 1\ninner()",
        "assert callable(solve)\nassert solve(2) == 4",
    ],
)
def test_a_proof_is_one(body: str, plant: Plant) -> None:
    assert plant("proofs", NAME, test(body)) == []
