"""The shortest tokenizer: a number for every character.

Other tutorials call it `CharTokenizer`, and so do we. Left out: words, pieces
of words and characters that the training text did not hold; for these see
`scratchlm.text.bpe`.
"""

import hashlib
import json
from pathlib import Path

from scratchlm.text.files import FileError, read_bytes, write_text

FORMAT = "scratchlm characters 1"


class CharTokenizer:
    """Turns characters into integers from 0 to V − 1, and back.

    The alphabet is sorted, so that the same characters get the same numbers
    on every machine.
    """

    def __init__(self, alphabet: str) -> None:
        """Number the characters of `alphabet` in sorted order."""
        if not alphabet:
            raise ValueError("an alphabet of no characters encodes nothing")
        self.alphabet = "".join(sorted(set(alphabet)))
        self.ids = {c: i for i, c in enumerate(self.alphabet)}

    @classmethod
    def train(cls, text: str) -> "CharTokenizer":
        """The tokenizer of all characters that occur in the text.

        >>> CharTokenizer.train("a baker").alphabet
        ' abekr'
        """
        return cls(text)

    @property
    def vocab_size(self) -> int:
        """V, the number of different characters."""
        return len(self.alphabet)

    def encode(self, text: str) -> list[int]:
        """The numbers of the characters.

        Raises ValueError for a character that is not in the alphabet: what
        was never seen has no number.

        >>> CharTokenizer("abc").encode("cab")
        [2, 0, 1]
        """
        try:
            return [self.ids[c] for c in text]
        except KeyError as error:
            c = error.args[0]
            raise ValueError(
                f"{c!r}, at {text.index(c)}, is not among the "
                f"{self.vocab_size} characters of this tokenizer; train it "
                "on text that has it, or use byte-pair encoding"
            ) from None

    def decode(self, ids: list[int]) -> str:
        """The text of the numbers; the inverse of `encode`."""
        if ids and not 0 <= min(ids) <= max(ids) < self.vocab_size:
            raise ValueError(
                f"ids run from 0 to {self.vocab_size - 1}, "
                f"these from {min(ids)} to {max(ids)}"
            )
        return "".join(self.alphabet[i] for i in ids)

    def to_json(self) -> str:
        """The tokenizer as text, the same for equal tokenizers."""
        data = {"format": FORMAT, "alphabet": self.alphabet}
        return json.dumps(data, ensure_ascii=True, indent=1) + "\n"

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the tokenizer; equal only for equal tokenizers."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def save(self, path: Path) -> None:
        """Write the tokenizer as JSON: all of it, or nothing."""
        write_text(path, self.to_json())

    @classmethod
    def load(cls, path: Path) -> "CharTokenizer":
        """Read what `save` wrote; FileError for any other file."""
        text = read_bytes(path)
        try:
            data = json.loads(text.decode())
            if data["format"] != FORMAT:
                raise ValueError(f"its format is {data['format']!r}")
            if not isinstance(data["alphabet"], str):
                raise TypeError("its alphabet is no text")
            return cls(data["alphabet"])
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            raise FileError(f"{path} holds no tokenizer: {error}") from error
