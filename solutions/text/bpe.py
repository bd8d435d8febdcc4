"""Solutions of the exercises on learning byte pairs."""

from collections import Counter

from scratchlm.text.bpe import (
    Pair,
    PairIndex,
    learn_merges,
    merge_word,
    spell,
)
from scratchlm.text.tokenizer import Tokenizer


def tokens_per_merge(words: Counter[bytes], merges: int) -> list[int]:
    """How many tokens the words have after 0, 1, … merges.

    A merge saves as many tokens as there are occurrences of its pair that do
    not overlap.
    """
    split = [(list(word), count) for word, count in words.items()]
    sizes = [sum(len(word) * count for word, count in split)]
    for i, pair in enumerate(learn_merges(words, merges)):
        split = [(merge_word(word, pair, 256 + i), c) for word, c in split]
        sizes.append(sum(len(word) * count for word, count in split))
    return sizes


def learn_merges_scanning(words: Counter[bytes], merges: int) -> list[Pair]:
    """With kept counts but without a heap: scan all pairs for the best."""
    index, learned = PairIndex(words), []
    for new in range(256, 256 + merges):
        pairs = {pair: n for pair, n in index.counts.items() if n > 0}
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        index.merge(best, new)
        learned.append(best)
    return learned


def unused_tokens(words: Counter[bytes], merges: list[Pair]) -> list[bytes]:
    """Merged tokens that no word contains any more once all is merged.

    They were steps on the way to longer ones, and are dead weight after.
    """
    tokenizer = Tokenizer(merges)
    used = {i for word in words for i in tokenizer.encode_piece(word)}
    tokens = spell(merges)
    return [tokens[i] for i in range(256, len(tokens)) if i not in used]

