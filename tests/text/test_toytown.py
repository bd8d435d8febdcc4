"""Toytown's stories: reproducible, unambiguous, of known probability."""

import doctest
import hashlib
import itertools
import math
import random
import re
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scratchlm.text import toytown
from scratchlm.text.toytown import (
    START,
    TOWN,
    Facts,
    Part,
    Rule,
    Slot,
    Story,
    begins_story,
    conjugate,
    derivations,
    entropy_per_character,
    entropy_per_token,
    first_empty,
    inflect,
    join,
    log_probability,
    number_word,
    parse_slot,
    read_grammar,
    split_stories,
    templates,
    weight_sums,
    write_corpus,
    write_stories,
)

FIRST = "8a1751492e817d20893c5dd7c578770b330d6e296c42360998c8ac4979678e5a"
CORPUS = "a6e79e2e28795c7d98b44bb2b43b724d6141ee2c3faf3080361e1366a5d63aff"


@pytest.fixture(scope="module")
def corpus() -> list[Story]:
    return write_corpus()


# --- The bytes ---------------------------------------------------------------


def test_corpus_is_the_same_everywhere(corpus: list[Story]) -> None:
    text = join(corpus).encode("ascii")
    assert hashlib.sha256(text).hexdigest() == CORPUS
    first = hashlib.sha256(corpus[0].text.encode()).hexdigest()
    assert first == FIRST
    last = len(corpus[-1].text) + 2
    assert 1_000_000 <= len(text) < 1_000_000 + last


def test_a_million_characters_take_seconds() -> None:
    start = time.process_time()
    write_corpus()
    assert time.process_time() - start < 5


def test_a_smaller_corpus_is_the_beginning_of_a_larger() -> None:
    small, large = write_corpus(3_000), write_corpus(9_000)
    assert large[: len(small)] == small
    assert small == list(itertools.islice(write_stories(2026), len(small)))
    assert write_corpus(3_000, seed=1) != small
    assert write_corpus(0) == []


def test_negative_seeds_are_refused() -> None:
    # random.Random takes -1 for 1, and nobody would notice.
    with pytest.raises(ValueError, match="negative"):
        next(write_stories(-1))


def test_form_of_the_stories(corpus: list[Story]) -> None:
    for story in corpus:
        assert re.fullmatch(r"[\x20-\x7e]+(\n[\x20-\x7e]+){2}", story.text)
        assert "  " not in story.text
        assert " ." not in story.text
        assert not re.search(r"[{}<>]|\b(\w+) \1\b(?! [0-9])", story.text)
        last = story.text.splitlines()[-1]
        assert re.fullmatch(r"[^?]+\? [^?]+\.", last)
    lengths = [len(story.text) for story in corpus]
    assert min(lengths) > 200
    assert max(lengths) < 750
    assert 350 < sum(lengths) / len(lengths) < 450


def pieces(text: str) -> set[tuple[str, ...]]:
    """All runs of eight words."""
    words = text.split()
    return {tuple(words[i : i + 8]) for i in range(len(words) - 7)}


def test_no_two_stories_are_alike(corpus: list[Story]) -> None:
    assert len({story.text for story in corpus}) == len(corpus)
    # Not nearly alike either: most pieces of eight words are a story's own.
    common = Counter(
        piece for story in corpus[:1000] for piece in pieces(story.text)
    )
    own = sum(count for piece, count in common.items() if count == 1)
    assert own > 0.75 * sum(common.values())


def test_every_rule_and_word_occurs(corpus: list[Story]) -> None:
    seen = {
        (step.name.rpartition(" ")[0] or step.name, step.option)
        if step.name not in TOWN.rules
        else (step.name, step.option)
        for story in corpus[:400]
        for step in derivations(story.text)[0]
    }
    named = {name for name, _ in seen}
    assert set(TOWN.rules) <= named
    assert set(TOWN.roles) <= named


# --- One text, one derivation ------------------------------------------------

Way = tuple[str, tuple[Part, ...], Facts]


def moves(path: Way) -> Iterator[Way]:
    """All ways to go on by one part, whatever has been said before."""
    _, todo, facts = path
    part, rest = todo[0], todo[1:]
    if isinstance(part, str):
        yield part, rest, facts
    elif isinstance(part, Rule):
        for template in templates(part.name):
            yield "", template + rest, facts
    elif role := first_empty(part, facts):
        yield from (("", todo, f) for f in fillings(role, facts))
    else:
        yield inflect(part, facts), rest, facts


def fillings(role: str, facts: Facts) -> Iterator[Facts]:
    """All ways to fill a role, and the role before it if it needs one."""
    table = TOWN.roles[role]
    if table in TOWN.words:
        yield from ({**facts, role: word} for word in TOWN.words[table])
    elif table not in facts:
        yield from fillings(table, facts)
    else:
        yield from ({**facts, role: word} for word in facts[table].goods)


def clash(a: Way, b: Way) -> bool:
    """Whether some text of one path begins with a text of the other."""
    if len(a[0]) > len(b[0]):
        a, b = b, a
    if not b[0].startswith(a[0]):
        return False
    if not a[1]:
        return True
    b = (b[0][len(a[0]) :], b[1], b[2])
    return any(clash(move, b) for move in moves(("", a[1], a[2])))


def all_rules() -> set[str]:
    """All rules that stories use, those with a role for x filled in."""
    found, todo = set(), {"story"}
    while todo:
        name = todo.pop()
        found.add(name)
        for part in itertools.chain.from_iterable(templates(name)):
            if isinstance(part, Rule) and part.name not in found:
                todo.add(part.name)
    return found


@pytest.mark.parametrize("name", sorted(all_rules()))
def test_no_template_begins_like_another(name: str) -> None:
    """The heart of the proof: a text tells which template made it.

    The paths of two templates are followed side by side through everything
    that either can say, with all roles free. That is more than any story
    can say, so templates that never clash here never clash in a story.
    """
    for a, b in itertools.combinations(templates(name), 2):
        assert not clash(("", a, START), ("", b, START)), (a, b)


def filled_after(
    parts: tuple[Part, ...], sure: frozenset[str]
) -> tuple[frozenset[str], set[tuple[str, Slot, frozenset[str]]]]:
    """Roles surely filled after the parts, and where each may be first."""
    firsts: set[tuple[str, Slot, frozenset[str]]] = set()
    for part in parts:
        if isinstance(part, Rule):
            ends = []
            for template in templates(part.name):
                end, inner = filled_after(template, sure)
                ends.append(end)
                firsts |= inner
            sure = frozenset.intersection(*ends)
        elif isinstance(part, Slot):
            while role := first_empty(part, dict.fromkeys(sure, START["it"])):
                firsts.add((role, part, sure))
                sure |= {role}
    return sure, firsts


def first_mentions() -> set[tuple[str, Slot, frozenset[str]]]:
    return filled_after((Rule("story"),), frozenset(START))[1]


def test_first_mentions_give_the_word_away() -> None:
    """Where a role may be filled, no form begins like another's."""
    for role, slot, sure in first_mentions():
        if role == "tense":
            assert slot.subject in START, slot
            count = START[slot.subject].count
            past, present = (
                conjugate(slot.verb, count, tense.forms[""])
                for tense in TOWN.words["tense"]
            )
            assert prefix_free([past, present]), (slot, past, present)
            continue
        assert role == slot.subject, (role, slot)
        assert not slot.sign, (role, slot)
        table = TOWN.roles[role]
        groups = [TOWN.words[table]] if table in TOWN.words else []
        if not groups:  # goods: their maker is known by then
            assert table in sure, (role, slot)
            groups = [person.goods for person in TOWN.words["people"]]
        for group in groups:
            forms = [inflect(slot, {role: word}) for word in group]
            assert prefix_free(forms), (slot, forms)


def prefix_free(forms: list[str]) -> bool:
    """Whether no form begins with another; sorted, neighbors would."""
    ordered = sorted(forms)
    pairs = itertools.pairwise(ordered)
    return not any(b.startswith(a) for a, b in pairs)


@pytest.mark.always
def test_reading_finds_what_was_written(corpus: list[Story]) -> None:
    for story in corpus[:150]:
        found = derivations(story.text)
        assert len(found) == 1
        nats = sum(step.nats for step in found[0])
        assert nats == pytest.approx(-story.log_prob, rel=1e-12)
        assert log_probability(story.text) == pytest.approx(story.log_prob)
        starts = [step.start for step in found[0]]
        assert starts == sorted(starts)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**9), st.randoms(use_true_random=False))
def test_no_story_is_the_beginning_of_another(
    seed: int, cuts: random.Random
) -> None:
    text = next(write_stories(seed)).text
    assert log_probability(text[: cuts.randrange(len(text))]) == -math.inf
    assert log_probability(text + " ") == -math.inf
    assert log_probability(text + text) == -math.inf


def test_the_town_makes_no_mistakes(corpus: list[Story]) -> None:
    """A wrong sum, a wrong pronoun or a wrong answer has probability 0."""
    text = next(s.text for s in corpus if "How many" in s.text)
    body, _, answer = text.rpartition("? ")
    for n in range(1, 20):
        changed = f"{body}? {number_word(n).capitalize()}."
        same = changed == text
        assert (log_probability(changed) > -math.inf) == same
    assert answer.endswith(".")
    assert log_probability("") == -math.inf


# --- The probabilities -------------------------------------------------------


def test_weights_sum_to_one() -> None:
    for k in range(1, 40):
        sums = weight_sums(k)
        assert sums[-1] == k * (k + 1) // 2
        shares = [(k - i) / sums[-1] for i in range(k)]
        assert sum(shares) == pytest.approx(1)
    # The same list twice is two lists: nobody can spoil the other's.
    assert weight_sums(3) == [3, 5, 6]


def test_days_come_as_often_as_they_should(corpus: list[Story]) -> None:
    """Chi square of the seven days: below 22.5 in 999 cases of 1,000."""
    pattern = r"\b(Mon|Satur|Tues|Fri|Wednes|Thurs|Sun)day"
    days = [re.search(pattern, s.text) for s in corpus]
    counts = Counter(found[1] for found in days if found)
    order = ("Mon", "Satur", "Tues", "Fri", "Wednes", "Thurs", "Sun")
    wanted = [len(corpus) * (7 - i) / 28 for i in range(7)]
    pairs = zip(order, wanted, strict=True)
    chi = sum((counts[day] - want) ** 2 / want for day, want in pairs)
    assert sum(counts.values()) == len(corpus)
    assert chi < 22.5


def test_probability_by_hand() -> None:
    """It was Monday: 2/3 with news, 2/3 past, each word by its place."""
    story = next(write_stories(1))
    steps = derivations(story.text)[0]
    for step in steps:
        assert 0 <= step.nats < 6
    first = steps[0]
    assert first.name == "story"
    assert first.nats == pytest.approx(0)


def test_entropy_is_the_mean_surprise() -> None:
    stories = [Story("ab", -6.0), Story("abcd", -4.0)]
    assert join(stories) == "ab\n\nabcd\n\n"
    assert entropy_per_character(stories) == 1.0
    assert entropy_per_token(stories, tokens=4) == 2.5
    with pytest.raises(ValueError, match="none to take a mean"):
        entropy_per_token(stories, 0)


def test_entropy_agrees_between_corpora(corpus: list[Story]) -> None:
    """Two corpora from different seeds: the same within 1 percent."""
    other = write_corpus(seed=7)
    here, there = entropy_per_character(corpus), entropy_per_character(other)
    assert here == pytest.approx(there, rel=0.01)


# --- Splits ------------------------------------------------------------------


def test_splits_are_disjoint_and_whole(corpus: list[Story]) -> None:
    splits = split_stories(corpus)
    parts = [splits.train, splits.validation, splits.test]
    assert sum(map(len, parts)) == len(corpus)
    assert {s.text for part in parts for s in part} == {s.text for s in corpus}
    assert len(splits.train) == pytest.approx(0.9 * len(corpus), abs=2)
    assert len(splits.validation) == pytest.approx(0.05 * len(corpus), abs=1)
    assert len(splits.test) == pytest.approx(0.05 * len(corpus), abs=1)


def test_a_story_stays_on_its_side() -> None:
    small = split_stories(write_corpus(20_000))
    large = split_stories(write_corpus(60_000))
    assert large.train[: len(small.train)] == small.train
    assert large.test[: len(small.test)] == small.test
    with pytest.raises(ValueError, match="too few"):
        split_stories(write_corpus(1_000))


# --- Words -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verb", "forms"),
    [
        ("be", "was were is are"),
        ("have", "had had has have"),
        ("do", "did did does do"),
        ("miss", "missed missed misses miss"),
        ("carry", "carried carried carries carry"),
        ("play", "played played plays play"),
        ("watch", "watched watched watches watch"),
        ("announce", "announced announced announces announce"),
        ("wrap", "wrapped wrapped wraps wrap"),
        ("fly", "flew flew flies fly"),
        ("go", "went went goes go"),
    ],
)
def test_verbs(verb: str, forms: str) -> None:
    got = [conjugate(verb, n, t) for t in ("past", "present") for n in (1, 2)]
    assert got == forms.split()


def test_every_verb_of_the_town() -> None:
    """Verbs that double a letter or change it must be in the table."""
    slots = {
        part
        for name in all_rules()
        for template in templates(name)
        for part in template
        if isinstance(part, Slot) and part.verb and part.verb not in TOWN.roles
    }
    verbs = {slot.verb for slot in slots}
    assert set(TOWN.past) <= verbs
    regular = sorted(verbs - set(TOWN.past) - {"be"})
    assert set(regular) == set(REGULAR.split())


REGULAR = """
announce answer ask believe borrow carry count cross cry dance follow invite
laugh look miss move mutter notice owe play point promise repeat scratch search
shout sigh smell sneeze talk want watch whisper whistle yawn quarrel
"""


def test_number_words_are_distinct() -> None:
    words = [number_word(n) for n in range(40)]
    assert len(set(words)) == 40
    assert words[21] == "twenty-one"
    assert words[39] == "thirty-nine"


def test_one_thing_is_singular() -> None:
    slot = parse_slot("N-m item")
    loaf = TOWN.words["people"][0].goods[0]
    few = {w.count: w for w in TOWN.words["few"] + TOWN.words["many"]}
    facts = {"n": few[5], "m": few[4], "item": loaf}
    assert inflect(slot, facts) == "One loaf"
    assert inflect(slot, {**facts, "m": few[2]}) == "Three loaves"
    assert inflect(parse_slot("n*m"), {**facts, "m": few[4]}) == "twenty"


def test_slots_that_are_none() -> None:
    with pytest.raises(ValueError, match="no slot"):
        parse_slot("who sells loaves")


def test_doctests() -> None:
    assert doctest.testmod(toytown).failed == 0


# --- The grammar, read -------------------------------------------------------

GRAMMAR = """\
people:
  - {name: Mrs Pell, pronoun: she, trade: baker, place: here, goods: [no]}
tables: {tense: [past, present], pet: [goat]}
roles: {who: people, item: who, pet: pet, tense: tense}
pronouns: {she: {she: she, her: her, him: her}}
past: {}
rules:
  story: ['{who} {who be} <tag who>.', '{Item} and {pet.a}!']
  tag: ['{x.trade}']
"""


def test_a_small_grammar(tmp_path: Path) -> None:
    path = tmp_path / "town.yaml"
    path.write_text(GRAMMAR)
    town = read_grammar(path)
    assert town.words["people"][0].goods[0].forms[""] == "no"
    assert [word.forms["a"] for word in town.fillings("pet")] == ["a goat"]
    assert [word.forms[""] for word in town.fillings("item")] == ["no"]
    assert town.rules["tag"] == ["{x.trade}"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("tag who", "tagg who", "rules, story: <tagg who> is no rule"),
        ("{x.trade}", "{x.trades}", "rules, tag who: who has no form 'trades'"),
        ("{x.trade}", "{x trade!}", "rules, tag who: {who trade!} is no slot"),
        ("{Item}", "{Items}", "rules, story: items is no role"),
        ("{pet.a}", "{it}", "rules, story: it has no form ''"),
        ("{pet.a}", "{pet-cat}", "rules, story: cat is no role"),
        ("{x.trade}", "<story>", "rules, story: it calls itself"),
        ("<tag who>", "late", "rules, tag: no story ever comes here"),
        ("  tag:", "  story:", "line 9: story is there twice"),
        ("pet: pet", "pet: pets", "roles, pet: pets is no table"),
        ("item: who", "item: item", "roles, item: item is no table"),
        ("[goat]", "[goat, goat]", "tables, pet: 'goat' is there twice"),
        ("[goat]", "[]", "tables, pet is to be a list"),
        ("[goat]", "goat", "tables, pet is to be a list"),
        ("[goat]", "[[goat]]", "tables, pet is to be a list"),
        ("['{x.trade}']", "{x: y}", "rules, tag is to be a list"),
        ("pronoun: she", "pronoun: it", "people, number 1: no pronoun 'it'"),
        ("place: here, ", "", "people, number 1, is to have name, pronoun"),
        ("[no]", "no", "people, number 1, goods is to be a list"),
        ("past: {}", "past: []", "past is to have names and values"),
        ("past: {}", "past: {run: [ran]}", "past is to have names and values"),
        ("pet: pet", "pet: [pet]", "roles is to have names and values"),
        ("{she: {she: she, her: her, him: her}}", "{she: [she]}",
         "pronouns, she is to have names and values"),
        ("her: her, him: her", "her: [her], him: her",
         "pronouns, she is to have names and values"),
        ("name: Mrs Pell", "name: [Mrs, Pell]",
         "people, number 1 is to have names and values"),
        (GRAMMAR[: GRAMMAR.index("tables")], "people: []\n",
         "people is to be a list"),
        ("[goat]", "['']", "'' is no thing"),
        ("[goat]", "[/goats]", "'/goats' is no thing"),
        ("past: {}", "", "its sections are to be people, tables, roles"),
        ("past: {}", "past: {", "line 8, column 8"),
        (GRAMMAR, "", "its sections are to be"),
        ("{pet.a}", "{pet+pet.a}", "rules, story: a sum has no form 'a'"),
        ("[goat]", "&a [*a, goat]", "recursion"),
        ("past: {}", "past: {[a, b]: c}", "line 6: a name is to be a word"),
        ("past: {}", "past: {{a: b}: c}", "line 6: a name is to be a word"),
        ("past: {}", "past: {a: \udcff}", "can't decode byte 0xff"),
    ],
)
def test_mistakes_in_a_grammar_are_named(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    path = tmp_path / "town.yaml"
    text = GRAMMAR.replace(old, new)
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        read_grammar(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_goods_may_be_named_before_who_has_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "town.yaml"
    path.write_text(GRAMMAR.replace("[no]", "[bun]"))
    monkeypatch.setattr(toytown, "TOWN", read_grammar(path))
    monkeypatch.setattr(toytown, "templates", toytown.templates.__wrapped__)
    told = {story.text for story in write_corpus(2_000)}
    assert "Bun and a goat!" in told
    assert "Mrs Pell is baker." in told


SCENE = "Friday comes, and fog hangs over the hill."
COUNTS = "Mrs Pell, who keeps the bakery by the old bridge, counts her loaves"


def test_every_beginning_of_a_story_is_one() -> None:
    for story in write_corpus(5_000):
        for end in (0, 1, 40, len(story.text) // 2, len(story.text)):
            assert begins_story(story.text[:end])


@pytest.mark.parametrize(
    "text",
    [
        COUNTS,  # no scene
        "Mrs",
        f"{SCENE} Mrs Pell counted her loaves",  # another tense
        f"{SCENE} Mrs Pell counts his loaves",
        f"{SCENE} Mrs Pell counts her nails",  # the smith's
        f"{SCENE}  Mrs Pell",  # two spaces
    ],
)
def test_what_the_town_never_says_begins_no_story(text: str) -> None:
    assert not begins_story(text)


def test_a_whole_story_with_more_behind_it_begins_none() -> None:
    text = write_corpus(2_000)[0].text
    assert begins_story(text)
    assert not begins_story(f"{text}!")


def test_the_sentence_of_the_attention_chapter_begins_one() -> None:
    assert begins_story(f"{SCENE} {COUNTS} with a smile: nine.")
