"""Byte-pair encoding: which pairs of neighbors become one token.

Text is cut into words by a pattern, words into bytes; then the most frequent
pair of neighbors becomes a token of its own, again and again (Gage, 1994;
Sennrich et al., 2016; on bytes: Radford et al., 2019). Twice over: naively,
as one would explain it, and incrementally, as one would run it.

Left out: encoding with what was learned, which is `scratchlm.text.tokenizer`.
"""

import gc
import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import regex
from tqdm import tqdm

Pair = tuple[int, int]

# How text is cut before any pair is counted: contractions; a word with the
# character before it; up to three digits; other signs; line ends; spaces.
# The pattern of GPT-4's tokenizer, so that its tokens can be ours.
PATTERN = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# The older one of GPT-2.
GPT2_PATTERN = (
    r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+"
    r"|\s+(?!\S)|\s+"
)
COMPLETE = (PATTERN, GPT2_PATTERN)  # every character is in some word
# The last place after a letter and before what is neither a letter nor visible
# ASCII. Read from the end, (?r). Both patterns end a word there.
LAST_EDGE = regex.compile(r"(?r)(?<=\p{L})(?=[^\p{L}!-~])")
NEW_LETTERS = {
    "17.0": "\U000323b0",  # an ideograph
    "16.0": "\U00010d50",  # Garay
    "15.1": "\U0002ebf0",  # an ideograph
    "15.0": "\U00011f04",  # Kawi
    "14.0": "\U00010570",  # Vithkuqi
}
BLOCK = 1 << 16  # characters that are cut into words at once
LONGEST = 50  # characters of a word, when learning


def pre_tokenize(text: str, pattern: str = PATTERN) -> list[str]:
    """Cut text into words; joined again they are the text.

    What the pattern leaves out is a word as well.

    >>> pre_tokenize("Mrs Pell counts 12 loaves.")
    ['Mrs', ' Pell', ' counts', ' ', '12', ' loaves', '.']
    >>> pre_tokenize("a, b", r"\\w+")
    ['a', ', ', 'b']
    """
    cut = regex.compile(pattern)  # regex keeps what it compiled
    if pattern in COMPLETE:
        return cut.findall(text)
    words, end = [], 0
    for match in cut.finditer(text):
        words += [text[end : match.start()], match[0]]
        end = match.end()
    return [word for word in [*words, text[end:]] if word]


def unicode_version() -> str:
    r"""The newest Unicode whose letters `\p{L}` knows, or "older".

    What is a letter decides where words are cut. Each version is asked for
    by one of the letters that came with it.
    """
    for version, letter in NEW_LETTERS.items():
        if regex.match(r"\p{L}", letter):
            return version
    return "older"


def in_blocks(text: str) -> Iterator[str]:
    """A text in blocks of at most `BLOCK` characters."""
    for start in range(0, len(text), BLOCK):
        yield text[start : start + BLOCK]


def in_parts(blocks: Iterable[str], pattern: str = PATTERN) -> Iterator[str]:
    """Join the blocks of a text into parts that can be cut one by one.

    The words of the parts are the words of the text. Parts end after a
    letter and before white space or a non-ASCII sign: there both patterns
    above end a word, and neither looks back. With any other pattern, the
    text is one part.

    >>> list(in_parts(["The ba", "ker, the sm", "ith"]))
    ['The', ' baker, the', ' smith']
    """
    held: list[str] = []
    last = ""
    for block in blocks:
        edge = pattern in COMPLETE and LAST_EDGE.search(last + block)
        if edge:
            at = edge.start() - len(last)
            yield "".join([*held, block[:at]])
            held, block = [], block[at:]
        held.append(block)
        last = block[-1:] or last
    if any(held):
        yield "".join(held)


def count_words(texts: Iterable[str], pattern: str = PATTERN) -> Counter[bytes]:
    """How often each word occurs, as bytes of UTF-8.

    A string is one text. A word of more than `LONGEST` characters is counted
    in pieces.

    >>> count_words(["so so"], GPT2_PATTERN)
    Counter({b'so': 1, b' so': 1})
    """
    counts: Counter[str] = Counter()
    for text in [texts] if isinstance(texts, str) else texts:
        for part in in_parts(in_blocks(text), pattern):
            counts.update(pre_tokenize(part, pattern))
    words: Counter[bytes] = Counter()
    for word, count in counts.items():
        try:
            for start in range(0, len(word), LONGEST):
                words[word[start : start + LONGEST].encode()] += count
        except UnicodeEncodeError as error:
            raise ValueError(
                f"{word[:80]!r} holds half of a surrogate pair, which is no "
                "text; remove it, or read the text again in the encoding "
                "that it was written in"
            ) from error
    return words


# --- as one would explain it -------------------------------------------------


def count_pairs(words: Iterable[tuple[Sequence[int], int]]) -> Counter[Pair]:
    """How often each pair of neighbors occurs in words with their counts.

    >>> count_pairs([([1, 2, 1, 2], 10), ([2, 1], 1)])
    Counter({(1, 2): 20, (2, 1): 11})
    """
    pairs: Counter[Pair] = Counter()
    for word, count in words:
        for pair in zip(word, word[1:]):
            pairs[pair] += count
    return pairs


def merge_word(word: Sequence[int], pair: Pair, new: int) -> list[int]:
    """The word with each occurrence of the pair made one, from the left.

    >>> merge_word([1, 1, 1, 2, 1, 1], (1, 1), 9)
    [9, 1, 2, 9]
    """
    merged: list[int] = []
    i = 0
    while i < len(word):
        if tuple(word[i : i + 2]) == pair:
            merged.append(new)
            i += 2
        else:
            merged.append(word[i])
            i += 1
    return merged


def learn_merges_naive(words: Counter[bytes], merges: int) -> list[Pair]:
    """Count all pairs, merge the most frequent one, count all again.

    Of equally frequent pairs the smaller one wins. Tokens 0 to 255 are the
    bytes; the i-th merge makes token 256 + i. Stops early when no pair is
    left.
    """
    split = [(list(word), count) for word, count in words.items()]
    learned: list[Pair] = []
    while len(learned) < merges:
        pairs = count_pairs(split)
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        new = 256 + len(learned)
        split = [(merge_word(w, best, new), count) for w, count in split]
        learned.append(best)
    return learned


# --- as one would run it -----------------------------------------------------


class PairIndex:
    """Words, the counts of their pairs, and where each pair occurs.

    A merge touches only the words that hold the pair, and of their pairs
    only those beside it. The heap holds a pair under the count it once had;
    `pop` brings such an entry up to date before it believes it.
    """

    def __init__(self, words: Counter[bytes]) -> None:
        """Count every pair once; it is never done again."""
        self.words = [list(word) for word in words]
        self.times = list(words.values())
        self.counts: dict[Pair, int] = defaultdict(int)
        self.places: dict[Pair, set[int]] = defaultdict(set)
        for i, (word, times) in enumerate(zip(self.words, self.times)):
            for pair in zip(word, word[1:]):
                self.counts[pair] += times
                self.places[pair].add(i)
        self.heap = [(-count, pair) for pair, count in self.counts.items()]
        heapq.heapify(self.heap)

    def pop(self) -> Pair | None:
        """Take out the most frequent pair; None when no pair is left."""
        while self.heap:
            count, pair = heapq.heappop(self.heap)
            now = self.counts.get(pair, 0)
            if now == 0:  # it has gone
                continue
            if now == -count:
                return pair
            heapq.heappush(self.heap, (-now, pair))  # it became rarer
        return None

    def merge(self, pair: Pair, new: int) -> None:
        """Make the pair one token in every word that holds it."""
        grown: set[Pair] = set()
        for i in self.places.pop(pair):
            self.merge_in(i, pair, new, grown)
        del self.counts[pair]
        for other in grown - {pair}:
            heapq.heappush(self.heap, (-self.counts[other], other))

    def merge_in(self, i: int, pair: Pair, new: int, grown: set[Pair]) -> None:
        """Merge the pair in word `i`; note the pairs whose counts grew."""
        first, second = pair
        word, times, counts = self.words[i], self.times[i], self.counts
        merged: list[int] = []
        at, end = 0, len(word)
        while at < end:
            token = word[at]
            if token != first or at + 1 == end or word[at + 1] != second:
                merged.append(token)
                at += 1
                continue
            if merged:
                left = merged[-1]
                counts[left, first] -= times
                counts[left, new] += times
                grown.add((left, new))
                self.places[left, new].add(i)
            at += 2
            if at < end:
                right = word[at]
                counts[second, right] -= times
                counts[new, right] += times
                grown.add((new, right))
                self.places[new, right].add(i)
            merged.append(new)
        self.words[i] = merged


@contextmanager
def collector_off() -> Iterator[None]:
    """Spare Python the search for circular garbage; there is none here."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@collector_off()
def learn_merges(words: Counter[bytes], merges: int) -> list[Pair]:
    """The same merges as `learn_merges_naive`, in a fraction of the time."""
    index = PairIndex(words)
    learned: list[Pair] = []
    for new in tqdm(
        range(256, 256 + merges), desc="merges", leave=False, disable=None
    ):
        pair = index.pop()
        if pair is None:
            break
        index.merge(pair, new)
        learned.append(pair)
    return learned


def spell(merges: Sequence[Pair]) -> list[bytes]:
    """The bytes of every token: 256 single ones, then the merges'.

    >>> spell([(104, 101), (256, 110)])[256:]
    [b'he', b'hen']
    """
    tokens = [bytes([i]) for i in range(256)]
    for first, second in merges:
        tokens.append(tokens[first] + tokens[second])
    return tokens
