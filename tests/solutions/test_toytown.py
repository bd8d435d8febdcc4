"""Solutions on the town: a perfect code, true predictions, exact entropy."""

import doctest
import math
import statistics

import pytest

from scratchlm.text.toytown import (
    START,
    advance,
    derivations,
    parse,
    write_corpus,
    write_stories,
)
from solutions.text import toytown
from solutions.text.toytown import (
    compress,
    decompress,
    next_characters,
    story_entropy,
)


def shares(text: str) -> list[tuple[int, int]]:
    """A story's choices, as pairs of option and number of alternatives."""
    found, (todo, facts) = [], (parse("<story>"), START)
    for step in derivations(text)[0]:
        _, choice = advance(todo, facts)
        assert choice is not None
        found.append((step.option, len(choice.options)))
        todo, facts = choice.take(step.option)
    return found


def test_the_code_is_as_short_as_the_surprise() -> None:
    for story in write_corpus(15_000):
        bits = compress(shares(story.text))
        assert decompress(bits) == story.text
        surprise = -story.log_prob / math.log(2)
        assert surprise - 1e-9 <= len(bits) < surprise + 2
    assert compress([]) == ""
    assert compress([(0, 1), (0, 1)]) == ""


def test_true_predictions_follow_the_chain_rule() -> None:
    story = next(write_stories(3))
    total, cut = 0.0, 70
    for i, character in enumerate(story.text[:cut]):
        follow = next_characters(story.text[:i])
        assert sum(follow.values()) == pytest.approx(1)
        total += math.log(follow[character])
    steps = derivations(story.text)[0]
    before = -sum(s.nats for s in steps if s.start < cut - 20)
    assert story.log_prob < total < before + 1e-9


def test_the_end_is_certain() -> None:
    text = next(write_stories(3)).text
    assert next_characters(text) == {"": 1.0}
    assert next_characters(text[:-1]) == {".": 1.0}
    assert next_characters("Once upon") == {}
    assert "" not in next_characters("It")


def test_all_predictions_together_are_the_story() -> None:
    text = min((s.text for s in write_corpus(8_000)), key=len)
    log_prob = sum(
        math.log(next_characters(text[:i])[c]) for i, c in enumerate(text)
    )
    nats = sum(step.nats for step in derivations(text)[0])
    assert log_prob == pytest.approx(-nats, rel=1e-9)


@pytest.mark.always
def test_exact_entropy_agrees_with_the_sample() -> None:
    surprises = [-story.log_prob for story in write_corpus()]
    error = statistics.stdev(surprises) / math.sqrt(len(surprises))
    assert abs(statistics.mean(surprises) - story_entropy()) < 3 * error


def test_probabilities_of_a_rule_sum_to_one() -> None:
    ends = toytown.read_rule("story", frozenset(START))
    assert sum(p for p, _ in ends.values()) == pytest.approx(1, abs=1e-12)
    assert doctest.testmod(toytown).failed == 0
