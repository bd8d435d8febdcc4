"""Filters of quality: what they refuse, keep, find and overlook."""

import doctest
import random
import re
import subprocess
import sys
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scratchlm.text import quality
from scratchlm.text.quality import (
    JUNK,
    Judge,
    Kept,
    Reason,
    Rules,
    find_overlaps,
    fit_judge,
    item_runs,
    keep_best,
    kept_by_group,
    marks,
    measure,
    reasons,
    repeated_parts,
    repeated_share,
    share,
    top_share,
    web_page,
)
from scratchlm.text.toytown import write_corpus

SHORT = Rules(words=(5, 100_000))
STORIES = [story.text for story in write_corpus(60_000)]
WORDS = [f"word{i}" for i in range(60)]


def test_doctests() -> None:
    assert doctest.testmod(quality).failed == 0


def broken(text: str, rules: Rules = SHORT) -> set[str]:
    """The names of the rules that a text breaks."""
    return {reason.rule for reason in reasons(text, rules)}


def test_every_rule_has_a_measure_and_the_other_way_round() -> None:
    names = {field.name for field in fields(Rules)}
    assert set(measure("Some words.")) == names


GOOD = "The geese of the town have seen that it is to be a cold winter."


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("The geese of old.", "words"),
        ("Th ge of th to have it is a co wi.", "word_length"),
        (GOOD + " #cold #winter", "symbols"),
        (GOOD + " So... it was\u2026 and\u2026 yes.", "symbols"),
        (GOOD + " 1 2 3 4 5 6 7 8.", "letters"),
        ("Geese are loud in town when winter comes.", "stop_words"),
        (f"* {GOOD}\n- {GOOD[:-3]}.\n\u2022 {GOOD[4:]}", "bullets"),
        (GOOD[:-1] + "\u2026", "ellipses"),
        (GOOD[:-1], "sentences"),
        (GOOD + " Please enable JavaScript.", "code"),
        ("if (x) { y = 1 } of the.", "code"),
        (f"{GOOD}\nHome.\nHome.\nHome.", "repeated_lines"),
        (f"{GOOD}\n\nMore.\n\nMore.\n\nMore.", "repeated_paragraphs"),
        (GOOD + " Buy now! Buy now! Buy now!", "top_2"),
        (GOOD + " Do buy now! Do buy now! Do buy now!", "top_3"),
        (GOOD + " You do buy now! You do buy now!", "top_4"),
        (f"{GOOD} {GOOD}", "repeated_5"),
        (f"{GOOD} {GOOD}", "repeated_10"),
    ],
)
def test_each_rule_refuses_what_it_should(text: str, rule: str) -> None:
    assert rule in broken(text)


def test_a_good_text_breaks_no_rule() -> None:
    assert broken(GOOD) == set()
    assert broken(f"{GOOD[:-1]}.\u201d") == set()


def test_limits_belong_to_what_is_allowed() -> None:
    rules = Rules(words=(5, 5))
    assert "words" not in broken("The geese of old Tobias.", rules)
    assert "words" in broken("The geese of old Mr Tobias.", rules)


def test_a_reason_says_value_and_limits() -> None:
    found = reasons(GOOD, Rules())
    assert found == [Reason("words", 15, 50, 100_000)]


def test_nothing_at_all_is_measured_and_refused() -> None:
    found = measure(" \n\n ")
    assert set(found.values()) == {0.0}
    assert {"words", "stop_words"} <= broken("")


def test_measures_by_hand() -> None:
    found = measure("# The 3 bees...\n\n\u2022 And \u2026\n* Home")
    assert found["words"] == 9
    assert found["word_length"] == (1 + 3 + 1 + 7 + 1 + 3 + 1 + 1 + 4) / 9
    assert found["symbols"] == 2 / 9
    assert found["letters"] == 4 / 9
    assert found["stop_words"] == 2
    assert found["bullets"] == 2 / 3
    assert found["ellipses"] == 2 / 3


def test_shares() -> None:
    assert share(iter([True, False])) == 0.5
    assert repeated_parts([]) == 0
    assert repeated_parts(["a", "b"]) == 0
    assert repeated_parts(["a", "a", "a", "b"]) == 0.5


def test_runs_share_characters_once() -> None:
    words = ["a", "b", "a", "b", "a", "b"]
    assert repeated_share(words, 2) == 4 / 6
    assert top_share(words, 2) == 1
    assert top_share(["ha", "ha", "ha", "ha"], 2) == 1.5
    assert top_share(["each", "comes", "once"], 2) == 0
    assert top_share([], 2) == repeated_share([], 2) == 0
    assert repeated_share(["a"], 5) == 0


@given(st.lists(st.sampled_from(["a", "bb", "ccc"]), max_size=30))
def test_repeated_share_is_that_of_its_definition(words: list[str]) -> None:
    n, old = 3, set[int]()
    runs = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
    for i, run in enumerate(runs):
        if run in runs[:i]:
            old |= set(range(i, i + n))
    letters = sum(len(words[i]) for i in old)
    assert repeated_share(words, n) == letters / max(len("".join(words)), 1)


@given(st.text(max_size=200))
def test_any_text_can_be_measured(text: str) -> None:
    assert all(value >= 0 for value in measure(text).values())
    for reason in reasons(text):
        assert not reason.least <= reason.value <= reason.most


def test_stories_pass_and_junk_of_most_kinds_does_not() -> None:
    rules, draw = Rules(words=(30, 100_000)), random.Random(0)
    kept = [not reasons(text, rules) for text in STORIES]
    assert sum(kept) > 0.97 * len(STORIES)
    for kind in JUNK:
        pages = [web_page(kind, text, draw) for text in STORIES[:20]]
        passed = sum(not reasons(text, rules) for text in pages)
        well_formed = kind in ("shuffled", "shop", "notice")
        assert passed >= 19 if well_formed else passed == 0, kind


def test_web_pages() -> None:
    one, other = (
        [web_page(kind, STORIES[0], random.Random(3)) for kind in JUNK]
        for _ in range(2)
    )
    assert one == other
    assert len(set(one)) == len(JUNK)
    shuffled = one[JUNK.index("shuffled")]
    assert sorted(shuffled[:-1].split()) == sorted(STORIES[0].split())
    with pytest.raises(ValueError, match="no such kind of page: poem"):
        web_page("poem", STORIES[0], random.Random(0))


# --- The judge ---------------------------------------------------------------


def test_marks_are_words_and_pairs_without_their_number() -> None:
    assert marks("a b", 1 << 20).tolist() == marks("A b!", 1 << 20).tolist()
    assert len(marks("a b a b", 1 << 20)) == 4  # a, b, a b, b a
    assert set(marks("a b", 1 << 20)) != set(marks("b a", 1 << 20))
    assert marks("a b c d e", 2).tolist() == [0, 1]
    assert marks("", 8).tolist() == []


def test_marks_are_the_same_in_every_process() -> None:
    code = (
        "from scratchlm.text.quality import marks;"
        "print(marks('the geese are loud', 65536).tolist())"
    )
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert told.stdout.strip() == str(
        marks("the geese are loud", 1 << 16).tolist()
    )


def judge() -> Judge:
    """One that was shown stories and offers."""
    draw = random.Random(0)
    offers = [web_page("shop", text, draw) for text in STORIES[:40]]
    return fit_judge(STORIES[:40], offers, buckets=1 << 14)


def test_a_judge_tells_new_stories_from_new_offers() -> None:
    found, draw = judge(), random.Random(1)
    stories = [found.score(text) for text in STORIES[40:80]]
    offers = [found.score(web_page("shop", t, draw)) for t in STORIES[40:80]]
    assert min(stories) > 0.5 > max(offers)
    assert 0 < found.score("") < 1


def test_a_judge_goes_downhill() -> None:
    texts = ["red blue", "red green"], ["dull gray", "dull blue"]

    def loss(steps: int) -> float:
        found = fit_judge(*texts, buckets=64, steps=steps)
        right = [found.score(text) for text in texts[0]]
        right += [1 - found.score(text) for text in texts[1]]
        return float(-np.log(right).mean())

    losses = [loss(steps) for steps in (0, 1, 10, 100)]
    assert losses[0] == pytest.approx(np.log(2))
    assert losses == sorted(losses, reverse=True)


def test_a_judge_agrees_with_the_gradient() -> None:
    good, heap = ["a b", "a"], ["b c"]
    one = fit_judge(good, heap, buckets=32, steps=1, rate=1.0)
    expected = np.zeros(32)
    for texts, wanted, weight in ((good, 1, 0.25), (heap, 0, 0.5)):
        for text in texts:
            row = marks(text, 32)
            expected[row] += weight * (wanted - 0.5) / len(row) ** 0.5
    assert one.weights == pytest.approx(expected)
    assert one.bias == pytest.approx(0.0)


def test_the_sides_weigh_the_same() -> None:
    few = fit_judge(["good words"], ["bad words"], buckets=256)
    many = fit_judge(["good words"], ["bad words"] * 5, buckets=256)
    assert few.score("words") == pytest.approx(many.score("words"))


@pytest.mark.parametrize("sides", [([], ["a"]), (["a"], [])])
def test_a_judge_needs_both_sides(sides: tuple[list[str], list[str]]) -> None:
    with pytest.raises(ValueError, match="good texts and a heap"):
        fit_judge(*sides)


def test_the_best_are_kept() -> None:
    assert keep_best([3, 1, 2], 2 / 3) == [True, False, True]
    assert keep_best([1, 1, 1, 1], 0.5) == [True, True, False, False]
    assert keep_best([], 0.5) == []
    assert keep_best([1, 2], 1) == [True, True]
    for kept in (0, -0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="above 0 and at most 1"):
            keep_best([1.0], kept)


# --- Public tests ------------------------------------------------------------


def text(start: int, stop: int) -> str:
    """Some words in a row."""
    return " ".join(WORDS[start:stop])


def test_a_run_of_an_item_is_found_wherever_it_stands() -> None:
    documents = [
        f"Before: {text(5, 18).upper()}, after.",  # 13 words
        f"{text(5, 17)} after",  # 12 of them
        text(0, 60).replace(" ", ",\n"),
    ]
    found = list(find_overlaps(documents, ["nothing of it", text(0, 30)]))
    assert [hit.document for hit in found] == [0, 2]
    assert [hit.items for hit in found] == [[1], [1]]
    assert [hit.words for hit in found] == [text(5, 18), text(0, 13)]


def test_short_items_are_looked_for_in_full() -> None:
    items = [text(0, 7), text(10, 18), text(20, 29)]
    documents = [text(0, 30), text(10, 18), text(21, 29)]
    found = list(find_overlaps(documents, items))
    assert [(hit.document, hit.items) for hit in found] == [
        (0, [1, 2]),
        (1, [1]),
    ]
    assert next(iter(find_overlaps(documents, items, least=7))).items == [
        0,
        1,
        2,
    ]


def test_items_that_share_a_run_are_all_named() -> None:
    found = list(find_overlaps([text(0, 13)], [text(0, 14), text(0, 13)]))
    assert found[0].items == [0, 1]


def test_composed_characters_make_no_difference() -> None:
    item = text(0, 12) + " cafe\u0301"
    assert list(find_overlaps([text(0, 12) + " caf\u00e9"], [item]))


def test_other_words_are_not_found() -> None:
    changed = re.sub("word(5|11)\\b", "term", text(0, 20))
    assert not list(find_overlaps([changed], [text(0, 13)]))


def test_item_runs() -> None:
    tables = item_runs([text(0, 15), text(0, 9), ""])
    assert {length: len(table) for length, table in tables.items()} == {
        13: 3,
        9: 1,
    }


# --- Groups ------------------------------------------------------------------


def test_kept_by_group() -> None:
    found = kept_by_group("abab", [True, False, True, True])
    assert found == {"a": Kept(2, 2), "b": Kept(1, 2)}
    assert found["b"].share == 0.5
    assert kept_by_group([], []) == {}
    with pytest.raises(ValueError, match="zip"):
        kept_by_group("ab", [True])
