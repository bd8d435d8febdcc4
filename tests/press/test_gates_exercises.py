"""Exercises: enough of them, each with grade, hint and reasoned answer."""

import re
from collections.abc import Callable

import pytest

Plant = Callable[..., list[str]]
Written = Callable[..., list[str]]
CHAPTER = "book/model/attention.md"
ANSWERS = "book/appendix/solutions/attention.md"
HINT = "*Hint:* draw it, then count again."


def exercise(hours: str = ":hours: 1\n", hint: str = HINT) -> str:
    """An exercise that nobody solves."""
    return f"```{{exercise}} New\n:name: ex-new\n{hours}Why? {hint}\n```"


def test_an_exercise_without_a_solution_is_caught(written: Written) -> None:
    [problem] = written("exercises", exercise())
    assert problem.endswith("ex-new is not both asked and solved, once each")


def test_an_exercise_that_is_asked_twice_is_caught(plant: Plant) -> None:
    def again(text: str) -> str:
        [first, *_] = re.findall(r"```\{exercise\}.*?\n```\n", text, re.S)
        return f"{text}\n{first}"

    [problem] = plant("exercises", CHAPTER, again, whole=True)
    assert "is not both asked and solved, once each" in problem


@pytest.mark.parametrize("hours", ["", ":hours: 4\n"])
def test_an_exercise_without_a_grade_is_caught(
    hours: str, written: Written
) -> None:
    found = written("exercises", exercise(hours))
    assert any("ex-new has no grade" in problem for problem in found)


@pytest.mark.parametrize(
    "hint", ["", "Hint: draw it, then count.", "*Hint:*", "*Hint:* ...\n"]
)
def test_an_exercise_without_a_hint_is_caught(
    hint: str, written: Written
) -> None:
    found = written("exercises", exercise(hint=hint))
    assert any("ex-new has no hint" in problem for problem in found)


def test_a_chapter_without_warm_ups_is_caught(plant: Plant) -> None:
    def slow(text: str) -> str:
        return text.replace(":hours: 0", ":hours: 1")

    found = plant("exercises", CHAPTER, slow)
    assert found == [f"{CHAPTER}: 0 warm-ups (:hours: 0), not 2"]


def test_a_chapter_with_few_exercises_is_caught(plant: Plant) -> None:
    def three(text: str) -> str:
        parts = re.split(r"(?m)^(?=```\{exercise\})", text)
        rest = parts[-1].partition("\n```\n")[2]
        return "".join(parts[:4]) + rest

    found = plant("exercises", CHAPTER, three)
    assert f"{CHAPTER}: 3 exercises, not 6" in found


def test_a_solution_of_nothing_is_caught(plant: Plant) -> None:
    text = "\n```{solution} ex-old\n```\n\n" + "It is so because. " * 10
    found = plant("exercises", ANSWERS, lambda old: old + text, whole=True)
    what = "ex-old is not both asked and solved, once each"
    assert found == [f"{CHAPTER}: {what}"]


def test_a_solution_that_only_shows_code_is_caught(plant: Plant) -> None:
    listing = "```{listing} solutions.model.attention.smear\n```"
    text = f"\n```{{solution}} ex-old\n```\n\nSo:\n\n{listing}\n"
    found = plant("exercises", ANSWERS, lambda old: old + text, whole=True)
    assert any("ex-old is solved in 1 words: say why" in p for p in found)
