"""What cutting words into pieces must do, beside the libraries."""

import math
from collections import Counter
from random import Random

import tokenizers

from scratchlm.text import pieces

from ..expect import close, equal, raises, true

WORDS = Counter({"low": 5, "lower": 2, "newest": 6, "widest": 3})
SCORES = {"a": -2.0, "b": -2.5, "ab": -3.0, "ba": -4.0, "aba": -5.0, "bb": -9}


def check_spaces_come_back() -> None:
    """Marked words are the text; a line begins with a mark, too."""
    text = "Ada, who  sings.\n Tom\n\nso it is"
    equal(pieces.unmark(pieces.marked_words(text)), text, "there and back")
    equal(
        pieces.marked_words("so\nso so"),
        ["\u2581so", "\n", "\u2581so", "\u2581so"],
        "so at the start of a line and in its middle",
        hint="put the sign for a space before each line",
    )


def check_marks() -> None:
    """Where in its word a piece stands."""
    equal(pieces.ENDS.letters("low"), ["l", "o", "w</w>"], "the end is marked")
    equal(
        pieces.INSIDES.letters("low"),
        ["l", "##o", "##w"],
        "all but the first letter are marked",
    )
    equal(
        pieces.INSIDES.join("##o", "##w"),
        "##ow",
        "two pieces joined",
        hint="the mark of the right one goes",
    )


def check_pairs_are_learned_by_their_score() -> None:
    """The classic example: es, est at the end, lo, ew."""
    learned, merges = pieces.learn_pieces(WORDS, 15, pieces.ENDS)
    equal(learned[11:], ["es", "est</w>", "lo", "ew"], "the first four pieces")
    equal(
        pieces.apply_merges("lowest", learned, merges, pieces.ENDS),
        ["lo", "w", "est</w>"],
        "lowest, which was never seen",
    )
    plain = pieces.Marks()
    learned, merges = pieces.learn_pieces({"bc": 2, "ab": 3}, 5, plain)
    equal(
        pieces.apply_merges("abc", learned, merges, plain),
        ["ab", "c"],
        "abc, after ab and bc were learned in this order",
        hint="join the pair that was learned first",
    )


def check_scores_by_hand() -> None:
    """A pair that occurs 6 times, of tokens that occur 8 and 12 times."""
    close(pieces.by_count(6, 8, 12, 50), 6, "the count")
    close(pieces.by_ratio(6, 8, 12, 50), 6 / 96, "the ratio")

    def nats(*counts: int) -> float:
        total = sum(counts)
        return sum(n * math.log(n / total) for n in counts if n)

    close(
        pieces.by_gain(6, 8, 12, 50),
        nats(2, 6, 6, 30) - nats(8, 12, 30),
        "what the text gains if the pair is one token",
        hint="there are fewer tokens afterwards: the total changes, too",
    )


def check_longest_match_is_that_of_the_library() -> None:
    """On words that fit, and on words that do not."""
    known = ["[UNK]", "low", "lowe", "n", "##e", "##r", "##st", "##est", "##w"]
    peer = tokenizers.Tokenizer(
        tokenizers.models.WordPiece(
            {piece: i for i, piece in enumerate(known)},
            unk_token=pieces.UNKNOWN,
        )
    )
    for word in ("lowest", "lower", "new", "newest", "low", "st", "lows"):
        equal(
            pieces.longest_match(word, set(known)),
            peer.encode(word).tokens,
            f"{word!r}",
            hint="behind the first piece look for pieces with the mark; if "
            "none fits, the whole word is unknown",
        )


def check_best_cut_is_that_of_the_library() -> None:
    """The most probable of all cuts, unknown letters included."""
    model = pieces.Unigram(SCORES)
    listed = [("?", -9.0), *SCORES.items()]
    peer = tokenizers.Tokenizer(tokenizers.models.Unigram(listed, 0))
    for word in ("abab", "babba", "aababaab", "bbb", "abcab"):
        equal(
            model.best(word)[0],
            peer.encode(word).tokens,
            f"the best cut of {word!r}",
            hint="the best way to each place goes on from a best way",
        )
    close(model.best("abab")[1], -6.0, "ln p of the best cut of abab")


def check_all_cuts_together() -> None:
    """aba as aba, a·ba, ab·a and a·b·a: their sum, and what is expected."""
    model = pieces.Unigram(SCORES)
    cuts = [math.exp(x) for x in (-5.0, -6.0, -5.0, -6.5)]
    close(
        model.forward("aba")[-1],
        math.log(sum(cuts)),
        "ln of the sum over the four cuts of aba",
        hint="add the probabilities of all ways to a place, not the best only",
    )
    shares = [cut / sum(cuts) for cut in cuts]
    found = model.expect("aba")
    wanted = {
        "a": shares[1] + shares[2] + 2 * shares[3],
        "b": shares[3],
        "ab": shares[2],
        "ba": shares[1],
        "aba": shares[0],
    }
    for piece, share in wanted.items():
        close(found[piece], share, f"how often {piece!r} is expected in aba")


def check_drawn_cuts() -> None:
    """A cut is drawn as often as it is probable, whatever the power."""
    model, generator = pieces.Unigram(SCORES), Random(1)
    for power in (0.0, 1.0):
        cuts = [model.sample("aba", power, generator) for _ in range(2000)]
        true(
            all("".join(cut) == "aba" for cut in cuts),
            "the pieces of each cut, joined, are the word",
        )
        drawn = Counter(map(len, cuts))
        whole = math.exp(-5 * power - model.forward("aba", power)[-1])
        close(
            drawn[1] / 2000,
            whole,
            f"how often aba stays whole at the power {power}",
            tol=0.04,
            hint="weigh each last step by the sum over all ways to its start",
        )


def check_a_step_of_learning() -> None:
    """The text becomes more probable, and the letters stay."""
    words = {"ab": 40, "aba": 10, "ba": 1}
    model = pieces.from_counts({"a": 1, "b": 1, "ab": 1, "aba": 1, "ba": 1})

    def nats(model: pieces.Unigram) -> float:
        return -sum(n * model.forward(word)[-1] for word, n in words.items())

    better = pieces.improve(model, words)
    true(nats(better) < nats(model), "a step makes the text more probable")
    close(
        sum(map(math.exp, better.scores.values())),
        1,
        "the sum of all probabilities",
    )
    sure = pieces.from_counts({"a": 1, "b": 1, "ab": 10_000})
    equal(
        set(pieces.improve(sure, {"ab": 3}).scores),
        {"a", "b", "ab"},
        "the pieces of ab, of which a and b are hardly ever expected",
        hint="a letter stays, however rare it is expected to be",
    )


def check_what_is_pruned() -> None:
    """The piece that costs least goes first, and no letter ever does."""
    scores = {"a": -3.0, "b": -3.0, "c": -3.0, "ab": -2.0, "bc": -2.0}
    words = {"ab": 5, "bc": 3}
    equal(
        set(pieces.prune(pieces.Unigram(scores), words, 4).scores),
        {"a", "b", "c", "ab"},
        "what is left of five pieces",
        hint="the loss of a piece is its count times the nats of doing without",
    )
    raises(
        ValueError,
        lambda: pieces.train_unigram(pieces.seed_model(words), words, 2),
        "two pieces for three letters",
    )


def check_pairs_are_joined_in_the_order_of_learning() -> None:
    """ab was learned before bc, and bc before abc's pair."""
    table = ["a", "b", "c", "bc", "ab", "abc"]
    for merges, wanted in (
        ({(0, 1): 4, (1, 2): 3}, ["ab", "c"]),
        ({(1, 2): 3, (0, 1): 4}, ["a", "bc"]),
        ({(1, 2): 3, (0, 3): 5, (0, 1): 4}, ["abc"]),
    ):
        got = pieces.apply_merges("abc", table, merges, pieces.Marks())
        equal(got, wanted, f"abc with the merges {list(merges)}")


BUGS = {
    "a line begins without a sign": (
        "lines = [SPACE + line",
        "lines = [line",
    ),
    "the mark stays inside a joined piece": (
        "return left + right.removeprefix(self.inside)",
        "return left + right",
    ),
    "the rarest pair is joined": (
        "key=lambda p: (-scores[p], p)",
        "key=lambda p: (scores[p], p)",
    ),
    "the last pair is joined first": (
        "pair = min(known, key=lambda pair: ranks[pair])",
        "pair = max(known, key=lambda pair: ranks[pair])",
    ),
    "the number of tokens is taken to stay": (
        "nats(total - together)",
        "nats(total)",
    ),
    "the mark is forgotten inside a word": (
        'mark = inside if start else ""',
        'mark = ""',
    ),
    "the shortest piece is taken": (
        "for end in range(len(word), start, -1):",
        "for end in range(start + 1, len(word) + 1):",
    ),
    "what was found of an unknown word is kept": (
        "            return [UNKNOWN]\n",
        "            return [*found, UNKNOWN]\n",
    ),
    "the best cut looks at the last piece only": (
        "((best[start] + score, -start) for start, score in ending)",
        "((score, -start) for start, score in ending)",
    ),
    "the sum over all cuts is that of the best": (
        "return top + math.log(",
        "return top + 0 * math.log(",
    ),
    "drawing forgets the ways to the start": (
        "math.exp(sums[start] + power * score - sums[end])",
        "math.exp(power * score)",
    ),
    "expected counts forget what follows": (
        "share = math.exp(sums[start] + path - sums[-1])",
        "share = math.exp(sums[start] + score - sums[end])",
    ),
    "a rare letter goes": (
        "if count >= RARE or len(piece) == 1",
        "if count >= RARE",
    ),
    "pruning goes by count alone": (
        "piece: used[piece] * (score - model.best_of_parts(piece))",
        "piece: -used[piece]",
    ),
}
