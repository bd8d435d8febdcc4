"""Each known mistake, planted in the reader's file, is named."""

import json
from collections import Counter
from itertools import count
from pathlib import Path

import pytest

from check.commands import main
from check.diagnose import (
    Cause,
    compare,
    diagnose,
    expected,
    failures,
    known_bugs,
    known_ways,
    slim,
)
from check.mine import read_mine
from check.places import Site
from check.process import Job, Report, run
from check.running import plant
from press.roadmap import load

QUICK = ("attention", "heads", "bpe", "sampling", "characters", "ngram")
ALL = tuple(topic.id for topic in load().topics)
# Mistakes that no value tells apart: what is compared is yes or no.
AMBIGUOUS = 3


def named(site: Site, name: str) -> Counter[str]:
    """How many of a topic's mistakes are named alone, with others, not."""
    topic = site.topics[name]
    ways = known_ways(site, topic, lambda text: None)
    found: Counter[str] = Counter()
    source = site.path(topic).read_text(encoding="utf-8")
    for bug, (old, new) in known_bugs(site, topic).items():
        assert failures(ways[bug]), f"{name}: {bug} is not caught"
        text = plant(source, old, new, name)
        report = run(Job(site, topic, site.sources, text=text), lambda _: 60.0)
        cause = compare(failures(slim(report)), ways)
        if bug not in cause.names:
            found["wrong"] += 1
        elif len(cause.names) == 1:
            found["alone"] += 1
        elif len(cause.names) <= AMBIGUOUS:
            found["with others"] += 1
        else:
            found["among many"] += 1
    return found


@pytest.mark.parametrize("name", QUICK)
def test_known_mistakes_are_named(name: str, site: Site) -> None:
    found = named(site, name)
    assert found["wrong"] == 0
    assert found["alone"] >= 4
    assert found.keys() <= {"alone", "with others"}


@pytest.mark.judge
@pytest.mark.parametrize("name", ALL)
def test_every_known_mistake_is_caught_and_named(name: str, book: Site) -> None:
    found = named(book, name)
    assert found["wrong"] == 0
    assert found["alone"] > found["with others"] + found["among many"]


def test_a_mistake_in_other_code_is_named_by_its_values(site: Site) -> None:
    """Nothing of the book's text is there; only the values agree."""
    topic = site.topics["attention"]
    text = (
        (site.reference / topic.file).read_text(encoding="utf-8")
        + "\n\ndef attention_weights(q, k, causal=True):\n"
        "    scores = torch.einsum('...qd,...kd->...qk', q, k)\n"
        "    if causal:\n"
        "        t = scores.shape\n"
        "        seen = causal_mask(t[-2], t[-1])\n"
        "        scores = torch.where(seen, scores, torch.tensor(-1e30))\n"
        "    e = torch.exp(scores - scores.amax(-1, keepdim=True))\n"
        "    return e / e.sum(-1, keepdim=True)\n"
    )
    report = run(Job(site, topic, site.sources, text=text))
    cause = diagnose(site, topic, report)
    assert cause.names == ("the scale is missing",)
    assert cause.gap < 1e-5


def test_an_unknown_mistake_is_said_to_be_none_of_them(site: Site) -> None:
    topic = site.topics["attention"]
    source = (site.reference / topic.file).read_text(encoding="utf-8")
    text = plant(source, "math.sqrt(q", "math.log(7 + q", topic.id)
    report = run(Job(site, topic, site.sources, text=text))
    cause = diagnose(site, topic, report)
    assert cause.names == ()
    known = len(known_bugs(site, topic))
    assert known > 5
    assert cause.text.startswith(f"none of the {known} known mistakes")


def report_of(site: Site, old: str, new: str) -> Report:
    """How attention's checks go with this in the place of that."""
    topic = site.topics["attention"]
    source = (site.reference / topic.file).read_text(encoding="utf-8")
    text = plant(source, old, new, topic.id)
    return run(Job(site, topic, site.sources, text=text))


@pytest.fixture
def slow(site: Site, monkeypatch: pytest.MonkeyPatch) -> Site:
    """Nothing is computed yet, and each look at the clock takes 6 s."""
    site.cache.joinpath("attention-mistakes.json").unlink(missing_ok=True)
    ticks = count(step=6)
    monkeypatch.setattr("check.diagnose.BUDGET", 15.0)
    monkeypatch.setattr("check.diagnose.perf_counter", lambda: next(ticks))
    return site


UNKNOWN = ("math.sqrt(q", "math.log(7 + q")


def test_a_comparison_ends_in_time_and_says_so(
    slow: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is left is compared by later runs, and no mistake twice."""
    topic, report = slow.topics["attention"], report_of(slow, *UNKNOWN)
    whole = len(known_bugs(slow, topic))
    said: list[str] = []
    for tried in range(3, whole, 3):
        cause = diagnose(slow, topic, report, said.append)
        assert (cause.names, cause.known) == ((), tried)
        words = f"compared with {tried} of {whole} known mistakes, and none"
        assert cause.text.startswith(words)
    cause = diagnose(slow, topic, report)
    assert (cause.known, cause.left) == (whole, 0)
    assert cause.text.startswith(f"none of the {whole} known mistakes")
    assert said[0].startswith(f"comparing with {whole} known mistakes")
    assert said[1].startswith(f"comparing with {whole - 3} known mistakes")
    monkeypatch.setattr("check.diagnose.with_bug", None)  # nothing to plant
    assert diagnose(slow, topic, report) == cause


def test_likely_mistakes_come_first_and_are_enough(slow: Site) -> None:
    """The record says which mistakes fail the same checks."""
    topic = slow.topics["attention"]
    bugs = list(known_bugs(slow, topic))
    bug = bugs[-1]
    report = report_of(slow, *known_bugs(slow, topic)[bug])
    cause = diagnose(slow, topic, report)
    assert bug in cause.names
    assert cause.known <= 3 < len(bugs)
    assert cause.left == 0
    assert "compared with" not in cause.text


def test_checks_that_do_not_run_the_code_tell_nothing_of_it(
    slow: Site, tmp_path: Path
) -> None:
    """With a class alone, a mistake fails fewer checks than the record has."""
    topic = slow.topics["attention"]
    text = (slow.reference / topic.file).read_text(encoding="utf-8")
    own = plant(text, *known_bugs(slow, topic)["the scale is missing"], "own")
    path = tmp_path / "own.py"
    path.write_text(own.replace("SingleHead", "My"), encoding="utf-8")
    mine = read_mine([f"{path}:MyAttention"])
    report = run(Job(slow, topic, slow.sources, mine=mine))
    recorded = expected(slow, topic)["the scale is missing"]
    assert failures(report).keys() < recorded
    for _ in range(3):
        cause = diagnose(slow, topic, report)
    assert cause.names == ("the scale is missing",)
    assert cause.sure
    assert cause.left == 0
    assert cause.known < len(known_bugs(slow, topic))


def test_without_a_record_all_are_compared_as_far_as_time_goes(
    slow: Site,
) -> None:
    topic = slow.topics["attention"]
    (slow.root / "check" / "mistakes.json").unlink()
    bugs = known_bugs(slow, topic)
    first = next(iter(bugs))
    cause = diagnose(slow, topic, report_of(slow, *bugs[first]))
    assert first in cause.names
    assert cause.known == 3
    assert f"compared with 3 of {len(bugs)} known mistakes)" in cause.text


def test_with_how_many_it_was_compared_is_printed(
    slow: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    path = slow.path(slow.topics["attention"])
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace(*UNKNOWN, 1), encoding="utf-8")
    assert main(["attention"], slow) == 1
    said = " ".join(capsys.readouterr().out.split())
    whole = len(known_bugs(slow, slow.topics["attention"]))
    assert f"cause compared with 3 of {whole} known mistakes, and" in said


def test_a_reader_has_the_marks_of_all_topics(site: Site, book: Site) -> None:
    path = site.root / "check" / "mistakes.json"
    kept = json.loads(path.read_text(encoding="utf-8"))["data"]
    assert set(kept) == set(site.topics)
    for name in site.topics:
        ours = expected(book, book.topics[name])
        assert expected(site, site.topics[name]) == ours
        assert ours
        assert all(ours.values())


def test_an_error_of_other_words_is_another_mistake(site: Site) -> None:
    """What was compared before it went well, and says nothing."""
    topic = site.topics["heads"]
    ways = known_ways(site, topic, lambda text: None)
    bug, way = next(
        (bug, way)
        for bug, way in ways.items()
        if "ValueError" in (f["told"]["kind"] for f in failures(way).values())
    )
    mine = json.loads(json.dumps(way))
    assert bug in compare(failures(mine), ways).names
    for failed in failures(mine).values():
        failed["told"]["message"] = "something else"
        failed["told"]["kind"] = "ValueError"
    assert compare(failures(mine), ways).names == ()


def test_how_many_are_left_is_said_beside_a_cause() -> None:
    cause = Cause(("the scale is missing",), 0.0, 3, False, 7)
    assert cause.text == (
        "the scale is missing (your values equal those of this mistake; "
        "compared with 3 of 10 known mistakes)"
    )
