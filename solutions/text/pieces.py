"""Solutions of the exercises on pieces of words."""

from collections import defaultdict
from collections.abc import Iterable, Mapping

from scratchlm.text.pieces import (
    RARE,
    Unigram,
    from_counts,
    longest_match,
)

Scored = tuple[float, list[str]]  # ln p, and a cut


def n_best(model: Unigram, word: str, count: int) -> list[Scored]:
    """The `count` most probable cuts of a word, the best one first.

    Each place keeps so many cuts of what stands before it, and not one.

    >>> model = Unigram({"a": -2.0, "b": -2.0, "ab": -3.0})
    >>> n_best(model, "ab", 5)
    [(-3.0, ['ab']), (-4.0, ['a', 'b'])]
    """
    kept: list[list[Scored]] = [[(0.0, [])]]
    for end, ending in enumerate(model.arcs(word), 1):
        found = [
            (total + score, [*cut, word[start:end]])
            for start, score in ending
            for total, cut in kept[start]
        ]
        kept.append(sorted(found, reverse=True)[:count])
    return kept[-1]


def cost_of_greed(model: Unigram, words: Iterable[str]) -> tuple[int, float]:
    """How many words the longest match cuts otherwise, and the nats lost.

    The pieces are the model's; the words hold none of its unknown letters.
    """
    changed, lost = 0, 0.0
    for word in words:
        best, score = model.best(word)
        greedy = longest_match(word, model.scores, inside="")
        changed += greedy != best
        lost += score - sum(model.scores[piece] for piece in greedy)
    return changed, lost


def improve_sparsely(model: Unigram, words: Mapping[str, int]) -> Unigram:
    """A step of EM in which half an occurrence is taken from each piece.

    For counts of one and more this is nearly what SentencePiece does.
    """
    expected: dict[str, float] = defaultdict(float)
    for word, count in words.items():
        for piece, share in model.expect(word).items():
            expected[piece] += count * share
    return from_counts(
        {
            piece: max(count - 0.5, RARE)
            for piece, count in expected.items()
            if count - 0.5 >= RARE or len(piece) == 1
        }
    )


BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


def cut_with_bytes(model: Unigram, word: str) -> list[str]:
    """The best cut, with the bytes of each letter that is no piece.

    >>> cut_with_bytes(Unigram({"Zo": -1.0}), "Zoé")
    ['Zo', '<0xC3>', '<0xA9>']
    """
    pieces: list[str] = []
    for piece in model.best(word)[0]:
        known = piece in model.scores
        pieces += [piece] if known else [BYTES[b] for b in piece.encode()]
    return pieces


def join_with_bytes(pieces: Iterable[str]) -> str:
    """The word again, from pieces of which some are bytes.

    >>> join_with_bytes(["Zo", "<0xC3>", "<0xA9>"])
    'Zoé'
    """
    numbers = {name: byte for byte, name in enumerate(BYTES)}
    joined = b"".join(
        bytes([numbers[piece]]) if piece in numbers else piece.encode()
        for piece in pieces
    )
    return joined.decode(errors="replace")
