"""Each known mistake, planted in the reader's file, is named."""

from collections import Counter

import pytest

from check.diagnose import (
    compare,
    diagnose,
    failures,
    known_bugs,
    known_ways,
    slim,
)
from check.places import Site
from check.process import Job, run
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
