"""What a tokenizer of characters must do."""

import tempfile
from pathlib import Path

from scratchlm.text import characters

from ..expect import equal, raises, true


def check_numbers_follow_the_sorted_alphabet() -> None:
    """The five letters of "hello" become 1, 0, 2, 2, 3."""
    tokenizer = characters.CharTokenizer.train("hello")
    equal(tokenizer.alphabet, "ehlo", "the alphabet of hello")
    equal(
        tokenizer.encode("hello"),
        [1, 0, 2, 2, 3],
        "the numbers of hello",
        hint="sort the set of characters, then count from 0",
    )


def check_decoding_undoes_encoding() -> None:
    """What was encoded comes back, line breaks and all."""
    text = "Mrs Pell counts:\n1, 2, 3 … é!\n\n"
    tokenizer = characters.CharTokenizer.train(text)
    equal(
        tokenizer.decode(tokenizer.encode(text)),
        text,
        "the text after there and back",
        hint="no character may be dropped, not even a line break",
    )


def check_training_does_not_depend_on_order() -> None:
    """The same characters in another order are the same tokenizer."""
    one = characters.CharTokenizer.train("baker")
    two = characters.CharTokenizer.train("break")
    equal(
        one.fingerprint,
        two.fingerprint,
        "the fingerprints of baker and break",
        hint="an alphabet in the order of first use depends on the text",
    )
    other = characters.CharTokenizer.train("bread")
    true(
        other.fingerprint != one.fingerprint,
        "bread has other letters, and another fingerprint",
    )


def check_unknown_characters_are_an_error() -> None:
    """A character that was never seen has no number."""
    tokenizer = characters.CharTokenizer.train("abc")
    raises(
        ValueError,
        lambda: tokenizer.encode("abz"),
        "encoding z with the alphabet abc",
        hint="skipping it would lose text without a word",
    )
    for number in (-1, 3):
        raises(
            ValueError,
            lambda number=number: tokenizer.decode([number]),  # type: ignore
            f"decoding {number} with three characters",
            hint="a Python list takes −1 for its last element",
        )


def check_a_file_brings_back_the_same_tokenizer() -> None:
    """Saved and loaded, it encodes as before."""
    path = Path(tempfile.mkdtemp()) / "tokenizer.json"
    tokenizer = characters.CharTokenizer.train("zebra")
    tokenizer.save(path)
    again = characters.CharTokenizer.load(path)
    equal(again.encode("zebra"), [4, 2, 1, 3, 0], "zebra after loading")
    true(again.fingerprint == tokenizer.fingerprint, "the same fingerprint")


def check_one_letter_and_none() -> None:
    """A letter alone or twice, and no letter at all, are texts, too."""
    tokenizer = characters.CharTokenizer.train("abc")
    for text, ids in (("b", [1]), ("cc", [2, 2]), ("", [])):
        equal(tokenizer.encode(text), ids, f"the numbers of {text!r}")
        equal(tokenizer.decode(ids), text, f"the text of {ids}")


BUGS = {
    "characters are numbered in the order of the text": (
        '"".join(sorted(set(alphabet)))',
        '"".join(dict.fromkeys(alphabet))',
    ),
    "unknown characters are skipped": (
        "return [self.ids[c] for c in text]",
        "return [self.ids[c] for c in text if c in self.ids]",
    ),
    "negative numbers are decoded": (
        "not 0 <= min(ids) <= max(ids)",
        "not max(ids)",
    ),
    "line breaks are lost": (
        '"".join(self.alphabet[i] for i in ids)',
        '" ".join("".join(self.alphabet[i] for i in ids).split())',
    ),
}
