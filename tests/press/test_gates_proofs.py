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
    "its own part": ("assert x.shape == x.shape\nassert x", "always true"),
    "not never": ("assert not False\nassert x == 1", "always true"),
    "constants": ("assert 1 == 1\nassert x == 1", "always true"),
    "a size": ("assert len(x) >= 0\nassert x == 1", "always true"),
    "a list": ("assert [x == 1]", "always true"),
    "a sentence": ('assert f"{x} == 1"', "always true"),
    "and": ("assert True and 1\nassert x == 1", "always true"),
    "if not": ("assert x == 1 if False else True", "always true"),
    "skip": ('pytest.skip("later")', "asserts nothing"),
    "import or skip": ('pytest.importorskip("torch")', "asserts nothing"),
    "expected to fail": ('pytest.xfail("so be it")', "asserts nothing"),
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
    "behind skip": 'assert x == 1\npytest.skip("so")\nassert y == 1',
    "swallowed": (
        "assert x == 1\ntry:\n    assert y == 1\nexcept AssertionError:\n"
        "    pass"
    ),
    "swallowed with all": (
        "assert x == 1\ntry:\n    assert y == 1\nexcept:\n    print(1)"
    ),
    "swallowed with others": (
        "assert x == 1\ntry:\n    assert y == 1\n"
        "except (OSError, Exception):\n    pass"
    ),
    "suppressed": (
        "assert x == 1\nwith contextlib.suppress(AssertionError):\n"
        "    assert y == 1"
    ),
    "a test in a test": "assert x == 1\ndef test_in():\n    assert y == 1",
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


@pytest.mark.parametrize(
    "mark",
    [
        "skip",
        'skip(reason="later")',
        "xfail",
        'xfail(reason="later")',
        'skipif(True, reason="later")',
        'parametrize("x", [])',
        'parametrize(("x", "y"), [])',
    ],
)
def test_a_test_that_never_runs_is_caught(mark: str, plant: Plant) -> None:
    text = test("assert x == 1").replace(
        "def test", f"@pytest.mark.{mark}\ndef test"
    )
    [problem] = plant("proofs", NAME, text)
    assert "test_it is never run" in problem


@pytest.mark.parametrize("head", ["class Cases:", "class TestCases(Base):"])
def test_a_test_that_is_not_collected_is_caught(
    head: str, plant: Plant
) -> None:
    body = "    def test_it(self):\n        assert x == 1\n"
    init = "    def __init__(self):\n        pass\n"
    text = f"{head}\n{init if 'Test' in head else ''}{body}"
    [problem] = plant("proofs", NAME, text)
    assert "does not collect" in problem
    assert plant("proofs", NAME, f"class TestCases:\n{body}") == []


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
        "assert x == 1 if y else x == 2",
        "assert f(x) == f(x)",
        "assert not wrong",
        "try:\n    assert x == 1\nexcept OSError:\n    pass",
        "try:\n    assert x == 1\nexcept Exception:\n    raise",
        'if y:\n    pytest.skip("no internet")\nassert x == 1',
    ],
)
def test_a_proof_is_one(body: str, plant: Plant) -> None:
    assert plant("proofs", NAME, test(body)) == []
