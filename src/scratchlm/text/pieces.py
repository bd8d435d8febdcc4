"""Three more ways to cut words into pieces, beside byte-pair encoding.

Byte pairs whose last piece is marked ``</w>`` (Sennrich et al., 2016);
WordPiece (Schuster and Nakajima, 2012; Wu et al., 2016), which takes the
longest piece that fits, with the ``##`` of BERT (Devlin et al., 2019) before
what goes on; Unigram, which gives each piece a probability and takes the most
probable way to cut (Kudo, 2018), with a sign for the space (Kudo and
Richardson, 2018).

Left out: bytes for what is not in the alphabet, normalization, and the
prior that SentencePiece puts on its counts.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from random import Random

import regex

from scratchlm.text.bpe import Pair, count_pairs, merge_word

SPACE = "\u2581"  # a sign for the space: ▁
UNKNOWN = "[UNK]"
PENALTY = 10.0  # nats by which the unknown is rarer than the rarest piece
LONGEST = 16  # characters of a piece, when learning
SEEDS = 10_000  # pieces of several letters to begin with
RARE = 0.5  # expected occurrences, below which a piece goes
WORDS = regex.compile(rf"{SPACE}?\w+|{SPACE}?[^\w{SPACE}]|{SPACE}")

Score = Callable[[int, int, int, int], float]


# --- words -------------------------------------------------------------------


def bare_words(text: str) -> list[str]:
    """Words and signs, with the white space between them thrown away.

    >>> bare_words("Ada,  who sings.")
    ['Ada', ',', 'who', 'sings', '.']
    """
    return regex.findall(r"\w+|[^\w\s]", text)


def marked_words(text: str) -> list[str]:
    """Words and signs, each space kept as a sign before what follows it.

    A line begins with such a sign as well, so that a word at its start is
    the word that it is in the middle.

    >>> marked_words("Ada, who")
    ['▁Ada', ',', '▁who']
    """
    lines = [SPACE + line.replace(" ", SPACE) for line in text.split("\n")]
    return WORDS.findall("\n".join(lines))


def unmark(pieces: Iterable[str]) -> str:
    """The text that `marked_words` was given, from words or from pieces.

    A text that has the sign itself gets spaces for it.

    >>> unmark(['▁A', 'da', ',', '▁who'])
    'Ada, who'
    """
    lines = "".join(pieces).split("\n")
    return "\n".join(line[1:].replace(SPACE, " ") for line in lines)


# --- pieces that are joined --------------------------------------------------


@dataclass(frozen=True)
class Marks:
    """How pieces show where in a word they stand.

    `inside` is put before each letter but the first of a word, and is not
    repeated when pieces are joined; `end` is put after the last.
    """

    inside: str = ""
    end: str = ""

    def letters(self, word: str) -> list[str]:
        """The letters of a word, each with its marks.

        >>> Marks(inside="##").letters("low"), Marks(end="</w>").letters("low")
        (['l', '##o', '##w'], ['l', 'o', 'w</w>'])
        """
        marked = [word[0], *(self.inside + letter for letter in word[1:])]
        return [*marked[:-1], marked[-1] + self.end]

    def join(self, left: str, right: str) -> str:
        """Two neighbors as one piece.

        >>> Marks(inside="##").join("##o", "##w")
        '##ow'
        """
        return left + right.removeprefix(self.inside)


ENDS = Marks(end="</w>")  # Sennrich et al. (2016)
INSIDES = Marks(inside="##")  # BERT, Devlin et al. (2019)


def by_count(together: int, first: int, second: int, total: int) -> float:
    """How often the pair occurs: the score of byte-pair encoding."""
    return together


def by_ratio(together: int, first: int, second: int, total: int) -> float:
    """How often the pair occurs, relative to how often it would by chance.

    Up to a constant factor; only the order of the ratios matters.
    """
    return together / (first * second)


def by_gain(together: int, first: int, second: int, total: int) -> float:
    """By how many nats the text becomes more probable if the pair is joined.

    Before and after, a token is as probable as it is frequent, whatever
    stands before it. Exact where the pair is of two different tokens.
    """

    def nats(count: int) -> float:
        return count * math.log(count) if count else 0.0

    before = nats(first) + nats(second) - nats(total)
    apart = nats(first - together) + nats(second - together)
    return apart + nats(together) - nats(total - together) - before


def best_pair(words: list[tuple[list[int], int]], score: Score) -> Pair | None:
    """The neighbors with the highest score, of equal ones the smaller pair.

    None where no word has two tokens left.
    """
    single: Counter[int] = Counter()
    for ids, count in words:
        for i in ids:
            single[i] += count
    total = single.total()
    scores = {
        (a, b): score(together, single[a], single[b], total)
        for (a, b), together in count_pairs(words).items()
    }
    return min(scores, key=lambda p: (-scores[p], p), default=None)


def learn_pieces(
    words: Mapping[str, int], size: int, marks: Marks, score: Score = by_count
) -> tuple[list[str], dict[Pair, int]]:
    """Join the best pair, again and again, until there are `size` pieces.

    `words` says how often each word occurs. Returns the pieces, letters
    first, and for each pair that was joined the number of its piece, in the
    order of learning. Stops early when no pair is left.
    """
    pieces = sorted({x for word in words for x in marks.letters(word)})
    numbers = {piece: i for i, piece in enumerate(pieces)}
    split = [
        ([numbers[x] for x in marks.letters(word)], count)
        for word, count in words.items()
    ]
    merges: dict[Pair, int] = {}
    while len(pieces) < size and (best := best_pair(split, score)):
        joined = marks.join(pieces[best[0]], pieces[best[1]])
        new = merges[best] = numbers.setdefault(joined, len(pieces))
        if new == len(pieces):  # else another merge has made this piece
            pieces.append(joined)
        split = [(merge_word(ids, best, new), count) for ids, count in split]
    return pieces, merges


def apply_merges(
    word: str, pieces: list[str], merges: Mapping[Pair, int], marks: Marks
) -> list[str]:
    """Join, again and again, the pair of the word that was learned first.

    Raises KeyError for a letter that was never seen.
    """
    numbers = {piece: i for i, piece in enumerate(pieces)}
    ranks = {pair: rank for rank, pair in enumerate(merges)}
    ids = [numbers[letter] for letter in marks.letters(word)]
    while known := ranks.keys() & set(pairwise(ids)):
        pair = min(known, key=lambda pair: ranks[pair])
        ids = merge_word(ids, pair, merges[pair])
    return [pieces[i] for i in ids]


def longest_match(
    word: str, pieces: Collection[str], inside: str = "##"
) -> list[str]:
    """From left to right, each time the longest piece that fits.

    Where none fits, the whole word is unknown, as in BERT, where very
    long words are, too. `pieces` should be a set or a dictionary: n letters
    take O(n²) lookups.

    >>> longest_match("lowest", {"low", "lowe", "##st", "##est"})
    ['lowe', '##st']
    >>> longest_match("lows", {"low", "lowe", "##st", "##est"})
    ['[UNK]']
    """
    found: list[str] = []
    start = 0
    while start < len(word):
        mark = inside if start else ""
        for end in range(len(word), start, -1):
            if mark + word[start:end] in pieces:
                break
        else:
            return [UNKNOWN]
        found.append(mark + word[start:end])
        start = end
    return found


# --- pieces with probabilities -----------------------------------------------


class Unigram:
    """Pieces that come one after another, each with its own probability.

    All ways to cut a word are paths from its beginning to its end. Kudo
    (2018) calls the most probable one the segmentation, and draws others.
    """

    def __init__(self, scores: Mapping[str, float]) -> None:
        """`scores` gives the ln of the probability of each piece."""
        if not scores:
            raise ValueError("a model of no pieces cuts nothing")
        self.scores = dict(scores)
        self.longest = max(map(len, self.scores))
        self.unknown = min(self.scores.values()) - PENALTY

    def arcs(self, word: str) -> list[list[tuple[int, float]]]:
        """For each end 1, …, n: where pieces that end there begin, and ln p.

        A letter that is no piece is a step as well, and a bad one.
        """
        arcs = []
        for end in range(1, len(word) + 1):
            starts = range(max(0, end - self.longest), end)
            ending = [
                (start, self.scores[word[start:end]])
                for start in starts
                if word[start:end] in self.scores
            ]
            if word[end - 1] not in self.scores:
                ending.append((end - 1, self.unknown))
            arcs.append(ending)
        return arcs

    def best(self, word: str) -> tuple[list[str], float]:
        """The most probable cut and the ln of its probability (Viterbi).

        Of equally probable cuts, the one with the longer last piece.

        >>> model = Unigram({"a": -2.0, "b": -2.0, "ab": -3.0, "bb": -3.0})
        >>> model.best("abb")
        (['a', 'bb'], -5.0)
        """
        best = [0.0]  # best[i]: ln p of the best cut of the first i letters
        back = [0]
        for ending in self.arcs(word):
            score, start = max(
                ((best[start] + score, -start) for start, score in ending)
            )
            best.append(score)
            back.append(-start)
        pieces, end = [], len(word)
        while end:
            pieces.append(word[back[end] : end])
            end = back[end]
        return pieces[::-1], best[-1]

    def best_of_parts(self, piece: str) -> float:
        """ln p of the best way to make a piece of two others or more."""
        return max(
            self.best(piece[:start])[1] + score
            for start, score in self.arcs(piece)[-1]
            if start
        )

    def forward(self, word: str, power: float = 1.0) -> list[float]:
        """ln of the sum over all cuts of the first 0, 1, …, n letters."""
        sums = [0.0]
        for ending in self.arcs(word):
            sums.append(
                log_sum([sums[i] + power * score for i, score in ending])
            )
        return sums

    def sample(self, word: str, power: float, generator: Random) -> list[str]:
        """A cut drawn in proportion to p(cut) ** power, from its end.

        Kudo (2018), section 3.3, over all cuts: 1 draws by probability, 0
        makes all cuts alike, and a large power takes the best.
        """
        arcs, sums = self.arcs(word), self.forward(word, power)
        pieces, end = [], len(word)
        while end:
            starts = [start for start, _ in arcs[end - 1]]
            weights = [
                math.exp(sums[start] + power * score - sums[end])
                for start, score in arcs[end - 1]
            ]
            (start,) = generator.choices(starts, weights)
            pieces.append(word[start:end])
            end = start
        return pieces[::-1]

    def expect(self, word: str) -> dict[str, float]:
        """How often each piece is expected in the word, over all its cuts."""
        arcs, sums = self.arcs(word), self.forward(word)
        after = [-math.inf] * len(word) + [0.0]
        expected: dict[str, float] = {}
        for end in range(len(word), 0, -1):
            for start, score in arcs[end - 1]:
                path = score + after[end]
                after[start] = log_sum([after[start], path])
                share = math.exp(sums[start] + path - sums[-1])
                piece = word[start:end]
                expected[piece] = expected.get(piece, 0.0) + share
        return expected


def log_sum(values: list[float]) -> float:
    """ln of the sum of all exp(value), without overflow or underflow.

    >>> round(log_sum([-1000.0, -1000.0]), 4)  # ln 2 more than each
    -999.3069
    """
    top = max(values)
    return top + math.log(sum(math.exp(value - top) for value in values))


def seed_model(words: Mapping[str, int]) -> Unigram:
    """All letters, and the substrings with the largest count × length.

    A substring occurs at least twice; `words` says how often each word does.
    """
    counts: Counter[str] = Counter()
    for word, count in words.items():
        for start in range(len(word)):
            for end in range(start + 1, min(start + LONGEST, len(word)) + 1):
                counts[word[start:end]] += count
    letters = [piece for piece in counts if len(piece) == 1]
    longer = [p for p, n in counts.items() if len(p) > 1 and n > 1]
    longer.sort(key=lambda piece: (-counts[piece] * len(piece), piece))
    return from_counts({p: counts[p] for p in letters + longer[:SEEDS]})


def from_counts(counts: Mapping[str, float]) -> Unigram:
    """The pieces, as probable as they are frequent."""
    total = sum(counts.values())
    return Unigram({p: math.log(n / total) for p, n in counts.items()})


def improve(model: Unigram, words: Mapping[str, int]) -> Unigram:
    """One step of EM: expected counts, and probabilities from them.

    A piece that is expected less than half a time goes; a letter stays.
    """
    expected: dict[str, float] = defaultdict(float)
    for word, count in words.items():
        for piece, share in model.expect(word).items():
            expected[piece] += count * share
    return from_counts(
        {
            piece: max(count, RARE)
            for piece, count in expected.items()
            if count >= RARE or len(piece) == 1
        }
    )


def prune(model: Unigram, words: Mapping[str, int], size: int) -> Unigram:
    """Keep `size` pieces: all letters, and those that would be missed most.

    A piece that goes has to be put together from others. The nats lost by
    that, for each use in the best cuts, say how much it is missed.
    """
    used: Counter[str] = Counter()
    for word, count in words.items():
        for piece in model.best(word)[0]:
            used[piece] += count
    loss = {
        piece: used[piece] * (score - model.best_of_parts(piece))
        for piece, score in model.scores.items()
        if len(piece) > 1
    }
    letters = [piece for piece in model.scores if len(piece) == 1]
    missed = sorted(loss, key=lambda piece: (-loss[piece], piece))
    kept = [*letters, *missed[: max(0, size - len(letters))]]
    return Unigram({piece: model.scores[piece] for piece in kept})


def train_unigram(
    model: Unigram, words: Mapping[str, int], size: int
) -> Unigram:
    """From many pieces to `size`: two steps of EM, then prune, and again.

    Each time three quarters of the pieces stay, as in SentencePiece (Kudo,
    2018, section 3.2, keeps four fifths).
    Raises ValueError where the letters alone are more than `size`.
    """
    letters = len(set().union(*words))
    if letters > size:
        raise ValueError(
            f"{size} pieces are too few for {letters} different letters"
        )
    while True:
        model = improve(improve(model, words), words)
        if len(model.scores) <= size:
            return model
        model = prune(model, words, max(size, len(model.scores) * 3 // 4))
