"""Solutions of the exercises on the tokenizer."""

import random
from collections.abc import Mapping

from scratchlm.text.bpe import Pair
from scratchlm.text.tokenizer import Tokenizer


def bytes_per_token(tokenizer: Tokenizer, text: str) -> float:
    """How much text a token holds on average."""
    return len(text.encode()) / len(tokenizer.encode(text))


def encode_with_dropout(
    piece: bytes,
    ranks: Mapping[Pair, int],
    share: float,
    rng: random.Random,
) -> list[int]:
    """BPE-dropout: at each step, leave out each merge with chance `share`.

    Provilkov et al. (2020), algorithm 1. With 0 it is ordinary encoding,
    with 1 it gives bytes.
    """
    ids = list(piece)
    while True:
        possible = [
            (ranks[pair], i)
            for i, pair in enumerate(zip(ids, ids[1:]))
            if pair in ranks and rng.random() >= share
        ]
        if not possible:
            return ids
        new, at = min(possible)
        ids[at : at + 2] = [new]


def truncate(tokenizer: Tokenizer, text: str, count: int) -> str:
    """The start of the text that its first `count` tokens hold.

    Cuts tokens, not characters, and drops half a character at the end.
    """
    ids = tokenizer.encode(text)[:count]
    return tokenizer.decode_bytes(ids).decode("utf-8", errors="ignore")


def healed_prompt(tokenizer: Tokenizer, prompt: str) -> tuple[str, list[int]]:
    """A prompt without its last token, and what may stand in its place.

    The tokens that begin with the bytes of the one that was taken away: a
    model that may choose among them can end the word as it was trained to.
    """
    ids = tokenizer.encode(prompt)
    try:
        start = tokenizer.decode_bytes(ids[:-1]).decode()
    except UnicodeDecodeError:  # the last token is a part of a character
        ids, start = [], prompt
    if not ids:
        return start, sorted(tokenizer.tokens)
    last = tokenizer.tokens[ids[-1]]
    special = tokenizer.special_tokens.values()
    fitting = [
        number
        for number, token in tokenizer.tokens.items()
        if number not in special and token.startswith(last)
    ]
    return start, sorted(fitting)
