"""Budgets: what a machine has, and which topics take more than that."""

import json
from dataclasses import replace

import pytest
import yaml

from press import budgets
from press.budgets import BUDGETS, Budget
from press.effort import Running
from press.extensions.cards import gpus
from press.extensions.roadmap_figure import facts
from press.roadmap import load

LAPTOP = Budget("cpu", "two cores", memory=2 * 2**30, gpus=0)


def test_a_budget_has_gpus_if_it_trains_on_them() -> None:
    plans = yaml.safe_load(BUDGETS.read_text(encoding="utf-8"))
    found = budgets.budgets()
    assert [budget.id for budget in found] == list(plans)
    for budget in found:
        on_gpu = plans[budget.id]["toytown"].get("device") == "cuda"
        assert (budget.gpus > 0) == on_gpu
        assert budget.memory == plans[budget.id]["memory"]
    assert {budget.gpus for budget in found} == {0, 1, 8}


def test_a_topic_may_need_more_gpus_or_more_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    topic = load().by_id["attention"]
    monkeypatch.setattr(budgets, "running", lambda _: None)
    assert LAPTOP.lacks(topic) == ""
    many = replace(topic, gpus=1)
    assert LAPTOP.lacks(many) == "needs 1 GPU for more than its check"
    assert replace(LAPTOP, gpus=1).lacks(many) == ""
    used = Running(seconds=1.0, bytes=3 * 2**30)
    monkeypatch.setattr(budgets, "running", lambda _: used)
    assert LAPTOP.lacks(topic) == "needs 3.0 GiB of memory"
    assert replace(LAPTOP, memory=3 * 2**30).lacks(topic) == ""


def test_every_page_of_the_book_runs_on_the_smallest_machine() -> None:
    small, *_, node = budgets.budgets()
    lacking = {t.id for t in load().topics if small.lacks(t)}
    assert lacking == {t.id for t in load().topics if t.gpus}
    assert not any(node.lacks(topic) for topic in load().topics)


def test_the_facts_are_those_of_the_topics_in_their_order() -> None:
    topics = load().topics
    odd = replace(topics[0], title="</script> & “more”")
    text = facts([odd, *topics[1:]])
    assert "<" not in text
    told = json.loads(text)
    assert [x["id"] for x in told["topics"]] == [t.id for t in topics]
    assert told["topics"][0]["title"] == odd.title
    assert list(told["budgets"]) == [b.id for b in budgets.budgets()]


def test_titles_tell_the_topics_apart() -> None:
    """The script finds a box's topic by its title."""
    titles = [topic.title for topic in load().topics]
    assert len(set(titles)) == len(titles)


def test_a_card_says_how_many_gpus() -> None:
    assert gpus(load().by_id["attention"]) == []
    [(label, [words])] = gpus(load().by_id["distributed"])
    assert label == "GPUs"
    assert words.astext().startswith("2, to do what")
