"""Pieces of words: equal to the libraries, and to all ways counted out."""

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import combinations
from random import Random

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from scratchlm.text import pieces as module
from scratchlm.text.bpe import merge_word
from scratchlm.text.pieces import (
    ENDS,
    INSIDES,
    UNKNOWN,
    Marks,
    Unigram,
    apply_merges,
    bare_words,
    best_pair,
    by_count,
    by_gain,
    by_ratio,
    from_counts,
    improve,
    learn_pieces,
    log_sum,
    longest_match,
    marked_words,
    prune,
    seed_model,
    train_unigram,
    unmark,
)
from scratchlm.text.toytown import join, write_corpus

TOWN = join(write_corpus(20_000))
BARE = Counter(bare_words(TOWN))
MARKED = Counter(marked_words(TOWN))
OUTSIDE = "<unk>"  # the library's name for what is unknown
SMALL = st.text("abc", min_size=1, max_size=7)
MODELS = st.dictionaries(
    st.text("abc", min_size=1, max_size=4),
    st.floats(-9, -0.1),
    min_size=1,
    max_size=14,
).map(Unigram)


def all_cuts(word: str) -> Iterator[list[str]]:
    """Every way to cut a word: 2 to the n - 1 of them."""
    for count in range(len(word)):
        for places in combinations(range(1, len(word)), count):
            edges = [0, *places, len(word)]
            yield [word[a:b] for a, b in zip(edges, edges[1:])]


def scored(model: Unigram, word: str) -> dict[tuple[str, ...], float]:
    """ln p of each possible cut; an unknown letter is a piece as well."""
    found = {}
    for cut in all_cuts(word):
        scores = [
            model.scores.get(p, model.unknown if len(p) == 1 else -math.inf)
            for p in cut
        ]
        if min(scores) > -math.inf:
            found[tuple(cut)] = sum(scores)
    return found


# --- words -------------------------------------------------------------------


@given(st.text("ab \n\t.,é_1", max_size=40))
def test_marked_words_give_the_text_back(text: str) -> None:
    assert unmark(marked_words(text)) == text


def test_a_word_is_the_same_at_the_start_of_a_line() -> None:
    assert marked_words("so\nso so") == ["▁so", "\n", "▁so", "▁so"]
    assert marked_words("a  b") == ["▁a", "▁", "▁b"]


def test_bare_words_lose_the_spaces() -> None:
    assert bare_words("a  b.\n") == bare_words("a b .") == ["a", "b", "."]


# --- joined pieces -----------------------------------------------------------


def library_pairs(marks: Marks, size: int) -> tokenizers.Tokenizer:
    """The library's byte pairs, with the same marks."""
    model = tokenizers.models.BPE(
        end_of_word_suffix=marks.end, continuing_subword_prefix=marks.inside
    )
    made = tokenizers.Tokenizer(model)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=size,
        show_progress=False,
        end_of_word_suffix=marks.end,
        continuing_subword_prefix=marks.inside,
    )
    made.train_from_iterator(BARE.elements(), trainer)
    return made


@pytest.mark.parametrize("marks", [ENDS, INSIDES])
def test_each_merge_of_the_library_is_a_best_one(marks: Marks) -> None:
    """Equal but for ties, which the library breaks by its own numbers."""
    data = json.loads(library_pairs(marks, 160).to_str())["model"]
    names = sorted({x for word in BARE for x in marks.letters(word)})
    numbers = {name: i for i, name in enumerate(names)}
    split = [
        ([numbers[x] for x in marks.letters(word)], count)
        for word, count in BARE.items()
    ]
    assert len(data["merges"]) > 50
    for left, right in data["merges"]:
        pairs = module.count_pairs(split)
        pair = numbers[left], numbers[right]
        assert pairs[pair] == max(pairs.values())
        new = numbers.setdefault(marks.join(left, right), len(numbers))
        split = [(merge_word(ids, pair, new), n) for ids, n in split]


def test_merges_apply_as_in_the_library() -> None:
    pieces, merges = learn_pieces(BARE, 160, ENDS)
    assert len(pieces) == len(set(pieces)) == 160
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    names = [(pieces[a], pieces[b]) for a, b in merges]
    peer = tokenizers.Tokenizer(
        tokenizers.models.BPE(vocabulary, names, end_of_word_suffix="</w>")
    )
    unseen = ["bakerly", "thethe", "counterbridge", "s", "ss", "Tomtom"]
    for word in [*BARE, *unseen]:
        assert apply_merges(word, pieces, merges, ENDS) == (
            peer.encode(word).tokens
        )
    with pytest.raises(KeyError):
        apply_merges("Zoë", pieces, merges, ENDS)


def test_two_merges_may_make_one_piece() -> None:
    words = Counter({"abc": 3, "bcd": 9, "aab": 5, "ab": 9, "xbc": 9})
    pieces, merges = learn_pieces(words, 99, Marks())
    assert len(set(pieces)) == len(pieces) < 99  # no pair was left
    assert len(merges) >= len(pieces) - 5
    for word in words:
        assert apply_merges(word, pieces, merges, Marks()) == [word]


def test_of_equal_scores_the_smaller_pair_wins() -> None:
    assert best_pair([([1, 2], 3), ([0, 5], 3)], by_count) == (0, 5)
    assert best_pair([([1], 3), ([0], 3)], by_count) is None


def test_a_piece_made_twice_is_numbered_once() -> None:
    words = Counter({"aaa": 5})
    pieces, merges = learn_pieces(words, 9, Marks())
    assert pieces == ["a", "aa", "aaa"]
    words = Counter({"abc": 10, "ab": 10, "bc": 9, "xabc": 1, "zbc": 30})
    pieces, merges = learn_pieces(words, 50, Marks())
    assert len(set(pieces)) == len(pieces)
    assert set(merges.values()) <= set(range(len(pieces)))


def text_nats(split: list[tuple[list[int], int]]) -> float:
    """ln of the probability of tokens that are as probable as frequent."""
    counts: Counter[int] = Counter()
    for ids, n in split:
        for i in ids:
            counts[i] += n
    total = counts.total()
    return sum(n * math.log(n / total) for n in counts.values())


def test_the_gain_is_what_the_text_gains() -> None:
    split = [([0, 1, 2], 5), ([1, 2], 7), ([0, 2, 1], 3), ([2, 0, 1], 1)]
    counts = module.count_pairs(split)
    single = {0: 9, 1: 16, 2: 16}
    for (a, b), together in counts.items():
        gain = by_gain(together, single[a], single[b], 41)
        joined = [(merge_word(ids, (a, b), 9), n) for ids, n in split]
        assert gain == pytest.approx(text_nats(joined) - text_nats(split))


def test_the_ratio_likes_what_is_rare() -> None:
    words = Counter({"the": 100, "xq": 1, "that": 50})
    assert learn_pieces(words, 7, Marks(), by_ratio)[0][-1] == "xq"
    assert learn_pieces(words, 7, Marks(), by_count)[0][-1] == "th"
    assert best_pair([([0, 1], 1), ([2, 3], 100)], by_ratio) == (0, 1)
    assert best_pair([([0, 1], 1), ([2, 3], 100)], by_gain) == (2, 3)


# --- the longest match -------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    st.sets(st.text("abc", min_size=1, max_size=3), min_size=1),
    st.sets(st.text("abc", min_size=1, max_size=3)),
    st.lists(st.text("abcd", min_size=1, max_size=9), max_size=8),
)
def test_the_longest_match_is_that_of_the_library(
    first: set[str], later: set[str], words: list[str]
) -> None:
    pieces = {*first, *("##" + piece for piece in later)}
    vocabulary = {p: i for i, p in enumerate([UNKNOWN, *sorted(pieces)])}
    peer = tokenizers.Tokenizer(
        tokenizers.models.WordPiece(vocabulary, unk_token=UNKNOWN)
    )
    for word in words:
        assert longest_match(word, pieces) == peer.encode(word).tokens


def test_the_longest_match_on_the_town() -> None:
    pieces = set(learn_pieces(BARE, 160, INSIDES)[0])
    vocabulary = {p: i for i, p in enumerate([UNKNOWN, *sorted(pieces)])}
    peer = tokenizers.Tokenizer(
        tokenizers.models.WordPiece(vocabulary, unk_token=UNKNOWN)
    )
    for word in [*BARE, "Zoë", "breadmakership"]:
        assert longest_match(word, pieces) == peer.encode(word).tokens
    assert longest_match("Zoë", pieces) == [UNKNOWN]


# --- Unigram -----------------------------------------------------------------


def library_unigram(model: Unigram) -> tokenizers.Tokenizer:
    """The library's model of the same pieces and scores."""
    lowest = min(model.scores.values())  # the unknown must not be lower
    vocabulary = [(OUTSIDE, lowest), *model.scores.items()]
    return tokenizers.Tokenizer(tokenizers.models.Unigram(vocabulary, 0))


def fused(model: Unigram, cut: list[str]) -> list[str]:
    """Unknown letters that stand together as one, as the library has them."""
    joined: list[str] = []
    open_ = False
    for piece in cut:
        unknown = piece not in model.scores
        if unknown and open_:
            joined[-1] += piece
        else:
            joined.append(piece)
        open_ = unknown
    return joined


@settings(max_examples=60, deadline=None)
@given(MODELS, st.text("abcd", min_size=1, max_size=12))
def test_the_best_cut_is_that_of_the_library(model: Unigram, word: str) -> None:
    best, _ = model.best(word)
    assert fused(model, best) == library_unigram(model).encode(word).tokens


def test_the_best_cuts_of_the_town_are_those_of_the_library() -> None:
    model = seed_model(MARKED)
    peer = library_unigram(model)
    for word in [*MARKED, "▁breadmakership", "▁Zoë", "▁"]:
        best, _ = model.best(word)
        assert fused(model, best) == peer.encode(word).tokens


@settings(max_examples=50, deadline=None)
@given(MODELS, SMALL)
def test_all_cuts_counted_out(model: Unigram, word: str) -> None:
    cuts = scored(model, word)
    best, score = model.best(word)
    assert score == pytest.approx(max(cuts.values()))
    assert cuts[tuple(best)] == pytest.approx(score)
    total = log_sum(list(cuts.values()))
    assert model.forward(word)[-1] == pytest.approx(total)
    expected: dict[str, float] = defaultdict(float)
    for cut, value in cuts.items():
        for piece in cut:
            expected[piece] += math.exp(value - total)
    got = model.expect(word)
    assert got.keys() == expected.keys()
    assert got == pytest.approx(dict(expected), abs=1e-9)
    parts = [value for cut, value in cuts.items() if len(cut) > 1]
    if parts:
        assert model.best_of_parts(word) == pytest.approx(max(parts))


MODEL = Unigram({"a": -2.0, "b": -2.5, "ab": -3.0, "ba": -4.0, "aba": -5.0})


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 4.0])
def test_drawn_cuts_are_as_frequent_as_probable(power: float) -> None:
    word, draws, generator = "abab", 4000, Random(3)
    cuts = {cut: power * score for cut, score in scored(MODEL, word).items()}
    total = log_sum(list(cuts.values()))
    seen = Counter(
        tuple(MODEL.sample(word, power, generator)) for _ in range(draws)
    )
    assert seen.keys() <= cuts.keys()
    squares = 0.0
    for cut, score in cuts.items():
        wanted = draws * math.exp(score - total)
        squares += (seen[cut] - wanted) ** 2 / wanted
    assert squares < 3 * len(cuts)  # chi squared: its mean is one less


def test_drawing_costs_no_underflow() -> None:
    word = "ab" * 800
    assert MODEL.forward(word)[-1] < -1000
    assert "".join(MODEL.sample(word, 1.0, Random(1))) == word
    assert sum(
        len(piece) * share for piece, share in MODEL.expect(word).items()
    ) == pytest.approx(len(word))


def test_a_large_power_takes_the_best() -> None:
    best, _ = MODEL.best("abab")
    assert best == ["ab", "ab"]
    for seed in range(20):
        assert MODEL.sample("abab", 60.0, Random(seed)) == best


def test_no_pieces_are_refused() -> None:
    with pytest.raises(ValueError, match="cuts nothing"):
        Unigram({})


# --- learning them -----------------------------------------------------------


def nats(model: Unigram, words: Counter[str]) -> float:
    """Nats of all words, over all their cuts."""
    return -sum(n * model.forward(word)[-1] for word, n in words.items())


def test_seeds_occur_twice_and_letters_always() -> None:
    model = seed_model(Counter({"▁ab": 3, "▁ac": 1}))
    assert model.scores.keys() == {"▁", "a", "b", "c", "▁a", "ab", "▁ab"}
    assert sum(map(math.exp, model.scores.values())) == pytest.approx(1)


def test_seeds_are_the_longest_of_the_most_frequent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "SEEDS", 2)
    model = seed_model(Counter({"abcd": 4, "ab": 3}))
    assert set(model.scores) - set("abcd") == {"abcd", "ab"}


def test_a_step_makes_the_text_more_probable() -> None:
    model = from_counts({"a": 1, "b": 1, "c": 1, "ab": 1, "bc": 1, "abc": 1})
    words = Counter({"abc": 50, "ab": 20, "cab": 30, "bcbc": 25})
    before = nats(model, words)
    for _ in range(5):
        model = improve(model, words)
        after = nats(model, words)
        assert after < before + 1e-9
        before = after
    assert sum(map(math.exp, model.scores.values())) == pytest.approx(1)


def test_a_piece_that_is_not_expected_goes_and_a_letter_stays() -> None:
    model = from_counts({"a": 100, "b": 100, "ab": 1})
    scores = improve(model, {"ab": 1}).scores
    assert scores.keys() == {"a", "b"}
    model = from_counts({"a": 1, "b": 1, "ab": 100_000})
    scores = improve(model, {"ab": 1}).scores
    assert scores.keys() == {"a", "b", "ab"}
    assert scores["a"] == scores["b"] == pytest.approx(math.log(0.5 / 2), 1e-2)


def test_what_goes_is_missed_least() -> None:
    scores = {"a": -3.0, "b": -3.0, "c": -3.0, "ab": -2.0, "bc": -2.0}
    words = {"ab": 5, "bc": 3}
    assert set(prune(Unigram(scores), words, 4).scores) == {*"abc", "ab"}
    assert set(prune(Unigram(scores), words, 1).scores) == {*"abc"}


@settings(max_examples=30, deadline=None)
@given(MODELS, st.lists(SMALL, min_size=1, max_size=5))
def test_the_loss_is_never_too_small(model: Unigram, words: list[str]) -> None:
    """Without a piece, the best cuts lose at most what `prune` reckons."""
    scores = {"a": -9.0, "b": -9.0, "c": -9.0, **model.scores}
    model = Unigram(scores)
    for gone in [piece for piece in scores if len(piece) > 1]:
        rest = Unigram({p: x for p, x in scores.items() if p != gone})
        reckoned = lost = 0.0
        for word in words:
            best, score = model.best(word)
            each = scores[gone] - model.best_of_parts(gone)
            reckoned += best.count(gone) * each
            lost += score - rest.best(word)[1]
        assert lost <= reckoned + 1e-9


def test_training_reaches_its_size_and_beats_the_library() -> None:
    size = 250
    model = train_unigram(seed_model(MARKED), MARKED, size)
    assert len(model.scores) == size
    trainer = tokenizers.trainers.UnigramTrainer(
        vocab_size=size + 1,
        show_progress=False,
        special_tokens=[OUTSIDE],
        unk_token=OUTSIDE,
    )
    peer = tokenizers.Tokenizer(tokenizers.models.Unigram())
    peer.train_from_iterator(MARKED.elements(), trainer)
    vocabulary = json.loads(peer.to_str())["model"]["vocab"]
    theirs = Unigram({p: x for p, x in vocabulary if p != OUTSIDE})
    assert abs(len(theirs.scores) - size) <= 2
    assert nats(model, MARKED) < nats(theirs, MARKED)
    for word in MARKED:
        assert "".join(model.best(word)[0]) == word


def test_too_few_pieces_are_refused() -> None:
    words = Counter({"abc": 2})
    with pytest.raises(ValueError, match="too few for 3 different letters"):
        train_unigram(seed_model(words), words, 2)
