"""Duties: each has its rules, its law and its day, and nothing is twice."""

import ast
from datetime import date
from pathlib import Path

import pytest

from compliance.__main__ import ORDERED, main
from press.duties import Source, command, rules, rules_in, sources
from press.roadmap import Duty, Topic, load

TOPICS = [topic for topic in load().topics if topic.compliance]


def duty_of(topic: Topic) -> Duty:
    assert topic.compliance is not None
    return topic.compliance


def test_the_rules_are_read_as_the_command_knows_them() -> None:
    found = rules()
    assert set(found) == set(ORDERED)
    for name, rule in ORDERED.items():
        assert "; ".join(s.name for s in found[name]) == rule.source
        assert "; ".join(s.since for s in found[name]) == rule.since
    assert len(found["card"]) == 2  # of the Union and of California
    assert len(found["modifier"]) == 1  # two texts of one day


def test_a_source_may_be_a_name_of_the_module() -> None:
    code = 'DAY = "2026-01-01"\n@rule("runs", "A law", DAY)\ndef one_rule(): 0'
    assert list(rules_in(ast.parse(code))) == [
        ("one-rule", "A law", "2026-01-01")
    ]


@pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: topic.id)
def test_what_a_topic_names_is_there(topic: Topic) -> None:
    for source in sources(duty_of(topic)):
        assert source.name
        date.fromisoformat(source.since)
    assert set(duty_of(topic).rules) <= set(ORDERED)


def test_each_rule_looks_after_a_topic() -> None:
    """But for one, of which the guide's page on safety tells."""
    named = {name for topic in TOPICS for name in duty_of(topic).rules}
    assert set(ORDERED) - named == {"loopback"}


def test_no_source_is_written_twice() -> None:
    """What stands with a rule does not stand in the roadmap again."""
    known = {source.name for found in rules().values() for source in found}
    own = [duty_of(topic).source for topic in TOPICS]
    assert not known & set(own)
    assert sum(map(bool, own)) >= 5
    for topic in TOPICS:
        for source in sources(duty_of(topic)):
            assert source.name not in duty_of(topic).note


def test_a_duty_has_its_sources_once() -> None:
    duty = Duty("A note.", ("pickle", "tensors"), "A law", "2026-01-01")
    found = sources(duty)
    assert found[1:] == [Source("A law", "2026-01-01")]
    assert found[0] == rules()["pickle"][0]
    assert sources(Duty("A note that no law stands behind.")) == []


def test_an_unknown_rule_is_named_with_those_that_there_are() -> None:
    with pytest.raises(
        LookupError, match=r"no rule pickles; there are: .*seal"
    ):
        sources(Duty("A note.", ("seal", "pickles")))


def test_the_command_of_a_card_is_one_that_runs(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = command(Duty("A note.", ("seal", "pickle"))).split()
    assert words[:3] == ["python", "-m", "compliance"]
    assert command(Duty("A note.")) == ""
    assert main([str(tmp_path), *words[3:]]) == 0
    out = capsys.readouterr().out
    assert [line.split()[0] for line in out.splitlines()[:2]] == [
        "seal",
        "pickle",
    ]
