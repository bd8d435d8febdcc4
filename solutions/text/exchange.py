"""Solutions of the exercises on exchanging tokenizers."""

from collections.abc import Callable, Iterable

from scratchlm.text.bpe import Pair, spell
from scratchlm.text.tokenizer import Tokenizer


def first_difference(
    texts: Iterable[str],
    one: Callable[[str], list[int]],
    two: Callable[[str], list[int]],
) -> str | None:
    """A short text that two tokenizers encode differently, or None.

    A text that differs is cut shorter from both ends while it still does.
    """
    for text in texts:
        if one(text) == two(text):
            continue
        changed = True
        while changed:
            changed = False
            for shorter in (text[1:], text[:-1]):
                if shorter and one(shorter) != two(shorter):
                    text, changed = shorter, True
                    break
        return text
    return None


def cut_vocabulary(tokenizer: Tokenizer, vocab_size: int) -> Tokenizer:
    """The same tokenizer with its last merges taken away.

    Special tokens keep their order and move down.
    """
    names = tokenizer.special_tokens.items()
    special = [name for name, _ in sorted(names, key=lambda item: item[1])]
    count = vocab_size - 256 - len(special)
    if not 0 <= count <= len(tokenizer.merges):
        least = 256 + len(special)
        most = least + len(tokenizer.merges)
        raise ValueError(f"{vocab_size} is not between {least} and {most}")
    numbers = {name: 256 + count + i for i, name in enumerate(special)}
    return Tokenizer(tokenizer.merges[:count], numbers, tokenizer.pattern)


def pairs_that_tiktoken_joins(tokenizer: Tokenizer) -> set[Pair]:
    """Pairs that are no merge of ours, but whose bytes are a token.

    tiktoken would join these too; ours would not.
    """
    tokens = spell(tokenizer.merges)
    places = {token: i for i, token in enumerate(tokens)}
    found = set()
    for token in tokens[256:]:
        for cut in range(1, len(token)):
            left, right = token[:cut], token[cut:]
            if left in places and right in places:
                pair = places[left], places[right]
                if pair not in tokenizer.ranks:
                    found.add(pair)
    return found

