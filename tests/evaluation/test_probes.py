"""Probes: one right answer by the grammar, exact scores, honest intervals."""

import random
from collections import Counter
from dataclasses import replace

import pytest
import torch
from scipy import stats

from scratchlm.evaluation.probes import (
    KINDS,
    Answer,
    Kind,
    Pair,
    Probe,
    Rule,
    Score,
    ask,
    contamination,
    encode_pair,
    fill,
    kind_of,
    log_likelihoods,
    mcnemar,
    pad_pairs,
    probes,
    results,
    table,
    tally,
    tell_with_gaps,
    wilson,
)
from scratchlm.model.gpt import GPT, GPTConfig
from scratchlm.text.tokenizer import END, Tokenizer
from scratchlm.text.toytown import (
    START,
    TOWN,
    Slot,
    begins_story,
    calculate,
    inflect,
    join,
    number_word,
    parse,
    write_corpus,
    write_stories,
)

MADE = probes(seed=11, n=25)
BY_KIND: dict[Kind, list[Probe]] = {
    kind: [probe for probe in MADE if probe.kind == kind] for kind in KINDS
}
TOKENIZER = Tokenizer.train(join(write_corpus(20_000)), 400)


def small_gpt(context: int = 16, dropout: float = 0.0) -> GPT:
    torch.manual_seed(0)
    config = GPTConfig(TOKENIZER.vocab_size, context, 2, 2, 16, dropout=dropout)
    model = GPT(config)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p) * 0.2)
    return model


# --- stories and gaps --------------------------------------------------------


def test_stories_with_gaps_are_the_town_s_own() -> None:
    generator, stories = random.Random(3), write_stories(3)
    for _ in range(40):
        text, gaps = tell_with_gaps(generator)
        assert text == next(stories).text
        for gap in gaps:
            assert text[gap.start : gap.end] == inflect(gap.slot, gap.facts)
            assert fill(gap, calculate(gap.slot, gap.facts)) == inflect(
                gap.slot, gap.facts
            )
        assert gaps[-1].start > text.rindex("?")


def test_the_town_itself_is_the_judge() -> None:
    """It tells stories that begin with the answer, and none with another."""
    for group in BY_KIND.values():
        for probe in group[:5]:
            could = [begins_story(probe.prompt + c) for c in probe.candidates]
            wanted = [i == probe.answer for i in range(len(could))]
            assert could == wanted, probe


@pytest.mark.judge
def test_the_town_judges_many() -> None:
    for probe in probes(seed=12, n=60):
        could = [begins_story(probe.prompt + c) for c in probe.candidates]
        assert could.index(True) == probe.answer, probe
        assert could.count(True) == 1, probe


def test_as_many_of_each_kind_and_the_same_again() -> None:
    assert [probe.kind for probe in MADE] == [
        k for k in KINDS for _ in range(25)
    ]
    assert probes(seed=11, n=3) == [p for k in KINDS for p in BY_KIND[k][:3]]
    assert probes(seed=12, n=3) != probes(seed=11, n=3)
    stories = write_stories(11)
    told = [next(stories).text for _ in range(500)]
    for group in BY_KIND.values():
        places = [
            next(i for i, text in enumerate(told) if text.startswith(p.text))
            for p in group
        ]
        assert places == sorted(set(places))  # no story twice
    for seed, n in ((-1, 5), (1, 0)):
        with pytest.raises(ValueError, match=f"seed {seed}, {n} probes"):
            probes(seed, n)


def test_candidates() -> None:
    sizes = {"agreement": 2, "reference": 3}
    for probe in MADE:
        assert len(set(probe.candidates)) == sizes.get(probe.kind, 4)
        assert probe.chance == 1 / len(probe.candidates)
        assert probe.text.endswith(probe.candidates[probe.answer])
        assert not probe.prompt.endswith(" ")
        for one in probe.candidates:  # or one would get the other's chances
            others = [c for c in probe.candidates if c != one]
            assert not any(other.startswith(one) for other in others)
    for kind, group in BY_KIND.items():  # the answer has no place of its own
        places = Counter(probe.answer for probe in group)
        assert len(places) == sizes.get(kind, 4)


def test_what_each_kind_asks_for() -> None:
    for probe in BY_KIND["questions"]:
        assert probe.prompt.endswith("?")
    for probe in BY_KIND["cloze"]:
        assert probe.prompt.split()[-1] in ("the", "keep", "keeps", "kept")
    for probe in BY_KIND["reference"]:
        words = {c.split()[0].lower().strip(".,") for c in probe.candidates}
        assert words in (
            {"her", "his", "their"},
            {"her", "him", "them"},
        )
    for probe in BY_KIND["agreement"]:
        first, second = (c.split()[0] for c in probe.candidates)
        assert first != second


def test_a_question_tempts_with_what_the_story_named() -> None:
    people = [word.forms[""] for word in TOWN.words["people"]]
    for probe in BY_KIND["questions"]:
        line = probe.prompt.rsplit("\n", 1)[-1]
        if line.startswith("Who "):
            named = {name for name in people if name in probe.prompt}
            names = [c.strip(" .") for c in probe.candidates]
            others = named - {names[probe.answer]}
            assert not others or others & {*names}


NUMBERS = {number_word(n): n for n in range(40)}


def number_in(candidate: str) -> int:
    words = candidate.lower().strip(" .").split()
    return next(NUMBERS[word] for word in words if word in NUMBERS)


def test_the_rank_of_a_sum_does_not_give_it_away() -> None:
    """Always the second, say, is right about as often as blind choice."""
    summed = [p for p in probes(seed=13, n=200) if p.kind == "sums"]
    ranks = Counter(
        sorted(p.candidates, key=number_in).index(p.candidates[p.answer])
        for p in summed
    )
    assert len(ranks) == 4
    assert max(ranks.values()) < 0.35 * len(summed), ranks


def test_a_trade_is_not_told_by_its_number() -> None:
    """Of one person, "innkeepers" could be struck out without a story."""
    plural = {
        word.forms["trade"] for word in TOWN.words["people"] if word.count > 1
    }
    assert len(plural) == 3
    trades = [
        probe
        for probe in probes(seed=13, n=200)
        if probe.kind == "cloze" and probe.prompt.endswith(" the")
    ]
    assert len(trades) > 50
    for probe in trades:
        assert not plural & {c.strip(" ,") for c in probe.candidates}


def slot_of(template: str) -> Slot:
    (slot,) = parse(template)
    assert isinstance(slot, Slot)
    return slot


def test_sums() -> None:
    assert results(slot_of("{n+m}")) == list(range(7, 17))
    products = results(slot_of("{m*price}"))
    assert products[0] == 4
    assert products[-1] == 36
    assert 13 not in products
    story, gaps = next(
        (text, gaps)
        for text, gaps in iter(lambda: tell_with_gaps(GENERATOR), None)
        if any(g.slot[:3] == ("n", "-", "m") and not g.is_verb for g in gaps)
    )
    places = [i for i, g in enumerate(gaps) if g.slot[:3] == ("n", "-", "m")]
    kinds = [kind_of(story, gaps, i) for i in places if not gaps[i].is_verb]
    assert kinds[0] == "sums"
    assert "sums" not in kinds[1:]


GENERATOR = random.Random(5)


def test_verbs_of_it_and_of_one_form_are_no_probes() -> None:
    for _ in range(30):
        story, gaps = tell_with_gaps(GENERATOR)
        for place, gap in enumerate(gaps):
            if kind_of(story, gaps, place) == "agreement":
                assert gap.slot.subject not in START
                text = story[gap.start : gap.end].lower()
                present = gap.facts["tense"].forms[""] == "present"
                assert present or text in ("was", "were")


# --- scores ------------------------------------------------------------------


def test_pairs_are_cut_from_the_whole() -> None:
    end = TOKENIZER.end_id
    for probe in MADE[::5]:
        prompt, candidate = encode_pair(
            TOKENIZER, probe.prompt, probe.candidates[0]
        )
        assert prompt[0] == end
        assert end not in candidate
        whole = TOKENIZER.encode(probe.prompt + probe.candidates[0])
        assert prompt[1:] + candidate == whole
    spaced = encode_pair(TOKENIZER, "It is ", "Monday")
    assert spaced == encode_pair(TOKENIZER, "It is", " Monday")
    assert encode_pair(TOKENIZER, "", "It")[0] == [end]
    joined = Tokenizer([(116, 115)], {END: 257})  # "ts"
    with pytest.raises(ValueError, match="'pot' and 's' share a token"):
        encode_pair(joined, "pot", "s")


def one_by_one(
    model: GPT, pairs: list[Pair], context: int
) -> list[list[float]]:
    """The definition, in float64: no batch, no padding."""
    exact, found = small_gpt(context), []
    exact.load_state_dict(model.state_dict())
    exact = exact.double().eval()
    for prompt, candidate in pairs:
        row, steps = list(prompt), []
        for token in candidate:
            with torch.no_grad():
                logits = exact(torch.tensor([row[-context:]]))[0, -1]
            steps.append(float(logits.log_softmax(0)[token]))
            row.append(token)
        found.append(steps)
    return found


def test_batches_change_nothing() -> None:
    draw = random.Random(0)
    pairs = [
        (
            [draw.randrange(300) for _ in range(draw.randint(1, 9))],
            [draw.randrange(300) for _ in range(draw.randint(1, 5))],
        )
        for _ in range(23)
    ]
    model = small_gpt(dropout=0.5).train()
    wanted = one_by_one(model, pairs, context=16)
    for size in (1, 4, 32):
        got = log_likelihoods(model, pairs, size)
        assert model.training
        for ours, theirs in zip(got, wanted, strict=True):
            assert ours.tolist() == pytest.approx(theirs, abs=1e-4)


def test_long_prompts_lose_their_beginning() -> None:
    """All of the window is used, and the candidate is whole."""
    model = small_gpt(context=8)
    prompt, candidate = list(range(20)), [30, 31, 32]
    (got,) = log_likelihoods(model, [(prompt, candidate)])
    (cut,) = log_likelihoods(model, [(prompt[-6:], candidate)])
    assert got.tolist() == cut.tolist()
    assert len(got) == 3
    inputs, targets = pad_pairs([(prompt, candidate)], context=8)
    assert inputs.tolist() == [[*range(14, 20), 30, 31]]
    assert targets.tolist() == [[-100] * 5 + candidate]
    (all_of_it,) = log_likelihoods(model, [([1], list(range(8)))])
    assert len(all_of_it) == 8
    for pair in (([1], []), ([], [1]), ([1], list(range(9)))):
        with pytest.raises(ValueError, match="in a window of 8"):
            pad_pairs([pair], context=8)


def test_ask() -> None:
    model = small_gpt(context=128)
    some = [group[0] for group in BY_KIND.values()]
    answers = ask(model, TOKENIZER, some, batch_size=3)
    assert [answer.probe for answer in answers] == some
    for answer in answers:
        for candidate, nats, size in zip(
            answer.probe.candidates,
            answer.log_probs,
            answer.tokens,
            strict=True,
        ):
            pair = encode_pair(TOKENIZER, answer.probe.prompt, candidate)
            (alone,) = log_likelihoods(model, [pair])
            assert len(alone) == size
            assert nats == pytest.approx(float(alone.sum()), abs=1e-4)


def test_three_rules_and_three_choices() -> None:
    probe = Probe("questions", "Where?", (" Up.", " By the sea.", " Mill"), 1)
    answer = Answer(probe, (-2.0, -5.4, -2.4), (1, 4, 2))
    rules: tuple[Rule, ...] = ("sum", "token", "character")
    assert [answer.choice(rule) for rule in rules] == [0, 2, 1]
    assert [answer.is_right(rule) for rule in rules] == [False, False, True]
    assert answer.scores("token") == pytest.approx([-2.0, -1.35, -1.2])
    assert answer.scores("character") == pytest.approx([-0.5, -0.45, -0.48])
    even = replace(answer, log_probs=(-1.0, -1.0, -1.0))
    assert even.choice() == 0


# --- counts ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("right", "asked", "low", "high"),
    [  # Newcombe (1998), table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_as_published(
    right: int, asked: int, low: float, high: float
) -> None:
    assert wilson(right, asked) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize("level", [0.5, 0.95, 0.99])
def test_wilson_against_scipy(level: float) -> None:
    for right, asked in ((0, 1), (1, 1), (3, 10), (50, 100), (99, 100)):
        result = stats.binomtest(right, asked).proportion_ci(level, "wilson")
        wanted = (result.low, result.high)
        assert wilson(right, asked, level) == pytest.approx(wanted, abs=1e-9)


def test_no_share() -> None:
    for right, asked in ((-1, 5), (6, 5), (0, 0)):
        with pytest.raises(ValueError, match="is no share"):
            wilson(right, asked)


def test_mcnemar_against_scipy() -> None:
    for won, lost in ((0, 1), (1, 9), (7, 7), (12, 30), (40, 2)):
        first = [True] * won + [False] * lost + [True, False, True]
        second = [False] * won + [True] * lost + [True, False, True]
        wanted = stats.binomtest(won, won + lost).pvalue
        assert mcnemar(first, second) == pytest.approx(wanted)
        assert mcnemar(second, first) == mcnemar(first, second)
    assert mcnemar([True, False], [True, False]) == 1
    with pytest.raises(ValueError, match="zip"):
        mcnemar([True], [])


def answered(kind: Kind, rights: list[bool], size: int) -> list[Answer]:
    probe = Probe(kind, "", tuple("abcd"[:size]), 0)
    marks = {
        True: (0.0, *[-1.0] * (size - 1)),
        False: (*[-1.0] * (size - 1), 0.0),
    }
    return [Answer(probe, marks[right], (1,) * size) for right in rights]


def test_counting() -> None:
    answers = answered("sums", [True, False, False, True], 4)
    answers += answered("agreement", [True] * 3, 2)
    scores = tally(answers)
    assert list(scores) == ["sums", "agreement"]
    assert scores["sums"] == Score(2, 4, 0.25)
    assert scores["agreement"] == Score(3, 3, 0.5)
    assert scores["sums"].share == 0.5
    assert scores["sums"].interval == wilson(2, 4)
    head, first, second = table(answers).splitlines()
    assert head.split() == ["right", "percent", "interval", "chance"]
    assert first.split() == ["sums", "2/4", "50", "15", "to", "85", "25"]
    assert second.split() == [
        "agreement",
        "3/3",
        "100",
        "44",
        "to",
        "100",
        "50",
    ]


def test_contamination() -> None:
    stories = write_stories(11)
    told = [next(stories).text for _ in range(200)]
    own = contamination(told, MADE)
    long = [
        share
        for share, probe in zip(own, MADE, strict=True)
        if len(probe.text.split()) > 20
    ]
    assert long
    assert min(long) == 1
    other = contamination([next(stories).text for _ in range(20)], MADE)
    assert len(other) == len(MADE)
    assert max(other) < 1
    assert contamination([], MADE[:2]) == [0, 0]
