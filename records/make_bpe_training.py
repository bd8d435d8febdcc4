"""Learning merges, naively and incrementally, by size of the vocabulary."""

import random
import statistics
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from scratchlm.text.bpe import (
    count_words,
    learn_merges,
    learn_merges_naive,
    spell,
)
from scratchlm.text.toytown import join, write_corpus

CHARACTERS = 2_000_000
SYLLABLES = ["", "ba", "do", "fi", "gu", "ha", "ka", "lo", "mi", "nu"]
SYLLABLES += ["re", "sa", "te", "vo", "s"]
WORD, WORD_MERGES = 100_000, 500  # characters, merges
NAIVE, FAST = (16, 64, 256, 512), (16, 64, 256, 512)


def corpus() -> Counter[bytes]:
    """The words of two million characters of Toytown."""
    return count_words([join(write_corpus(CHARACTERS))])


def seconds(
    learn: Callable[[Counter[bytes], int], object],
    words: Counter[bytes],
    merges: int,
) -> float:
    """Median time of five runs."""
    times = []
    for _ in range(5):
        start = time.perf_counter()
        learn(words, merges)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def many_words() -> Counter[bytes]:
    """More different words than a town has."""
    return Counter(
        f"{a}{b}{c}{d}".encode()
        for a in SYLLABLES
        for b in SYLLABLES
        for c in SYLLABLES
        for d in SYLLABLES
    )


def collector_times() -> list[float]:
    """Seconds of learning with Python's collector on, and off as usual."""
    words = many_words()
    with_it = learn_merges.__wrapped__  # type: ignore[attr-defined]
    return [seconds(learn, words, 2000) for learn in (with_it, learn_merges)]


def long_word() -> str:
    """Ideographs without an end; few are frequent, most are rare."""
    signs = [chr(0x4E00 + number) for number in range(3000)]
    weights = [1 / (number + 1) for number in range(3000)]
    return "".join(random.Random(1).choices(signs, weights, k=WORD))


def one_word() -> dict[str, Any]:
    """Seconds to learn from one word, cut as usual and as a whole."""
    word, times = long_word(), {}
    whole = Counter({word.encode(): 1})
    for name, words in (("cut", count_words([word])), ("uncut", whole)):
        start = time.process_time()
        learn_merges(words, WORD_MERGES)
        times[name] = time.process_time() - start
    return {"characters": WORD, "merges": WORD_MERGES, **times}


def record() -> dict[str, Any]:
    """Times of both forms, and the first merges."""
    words = corpus()
    tokens = spell(learn_merges(words, 64))[256:]
    return {
        "characters": CHARACTERS,
        "words": len(words),
        "naive": [[n, seconds(learn_merges_naive, words, n)] for n in NAIVE],
        "fast": [[n, seconds(learn_merges, words, n)] for n in FAST],
        "first": [token.decode() for token in tokens],
        "collector": collector_times(),
        "many": len(many_words()),
        "one_word": one_word(),
    }


def replay(data: dict[str, Any]) -> None:
    """The words and the first merges come out the same."""
    words = corpus()
    assert len(words) == data["words"]
    tokens = spell(learn_merges(words, 64))[256:]
    assert [token.decode() for token in tokens] == data["first"]
    assert len(many_words()) == data["many"]
    word = data["one_word"]
    assert (word["characters"], word["merges"]) == (WORD, WORD_MERGES)
    assert word["uncut"] > 2 * word["cut"]
