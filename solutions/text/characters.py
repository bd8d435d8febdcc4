"""Solutions of the exercises on characters."""

import math
from collections import Counter

from scratchlm.text.characters import CharTokenizer


def character_entropy(text: str) -> float:
    """Mean surprise, in nats, of one who knows only how often each occurs.

    >>> round(character_entropy("abab"), 4) == round(math.log(2), 4)
    True
    """
    counts = Counter(text)
    shares = [count / len(text) for count in counts.values()]
    return -sum(p * math.log(p) for p in shares)


class TokenizerWithUnknown(CharTokenizer):
    """As `CharTokenizer`, with one number more for all that is unknown."""

    SIGN = "\N{REPLACEMENT CHARACTER}"

    @property
    def vocab_size(self) -> int:
        """V: the alphabet, and the unknown."""
        return len(self.alphabet) + 1

    def encode(self, text: str) -> list[int]:
        """The numbers; unknown characters have the last one."""
        unknown = len(self.alphabet)
        return [self.ids.get(c, unknown) for c in text]

    def decode(self, ids: list[int]) -> str:
        """The text, with a sign where something was unknown."""
        letters = self.alphabet + self.SIGN
        return "".join(letters[i] for i in ids)


class ByteTokenizer:
    """Bytes of UTF-8 as tokens: 256 of them, and nothing is unknown."""

    vocab_size = 256

    def encode(self, text: str) -> list[int]:
        """One number for each byte.

        >>> ByteTokenizer().encode("é")
        [195, 169]
        """
        return list(text.encode())

    def decode(self, ids: list[int]) -> str:
        """The text; bytes that are no UTF-8 become U+FFFD."""
        return bytes(ids).decode(errors="replace")
