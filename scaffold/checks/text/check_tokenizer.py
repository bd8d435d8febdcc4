"""What a byte-pair tokenizer must do."""

import tempfile
from collections.abc import Callable
from pathlib import Path

from scratchlm.text import tokenizer

from ..expect import equal, grows, raises, true

END = "<|endoftext|>"
TEXT = "Mrs Pell bakes. Mrs Pell counts. é \N{BREAD} \n\n" * 3


def small() -> tokenizer.Tokenizer:
    """Merges he, hen; and two special tokens, one within the other."""
    special = {"<|a|>": 258, "<|a|><|b|>": 259}
    return tokenizer.Tokenizer([(104, 101), (256, 110)], special)


def long_word(letters: int) -> Callable[[], object]:
    """One word of so many letters, which nobody has encoded before."""
    fresh = tokenizer.Tokenizer([(97, 98), (256, 99), (257, 257), (258, 97)])
    word = ("abcabcbaacb" * letters)[:letters]
    return lambda: fresh.encode(word)


def check_the_merge_learned_first_is_applied_first() -> None:
    """With ab before bc, abc is ab·c; with bc before ab it is a·bc."""
    for name, encode in (
        ("encode_short", tokenizer.encode_short),
        ("encode_long", tokenizer.encode_long),
    ):
        first = {(97, 98): 256, (98, 99): 257}
        equal(encode(b"abc", first), [256, 99], f"abc, ab first ({name})")
        second = {(98, 99): 256, (97, 98): 257}
        equal(
            encode(b"abc", second),
            [97, 256],
            f"abc, bc first ({name})",
            hint="join the pair of lowest rank, not the leftmost one",
        )


def check_scan_and_heap_agree_on_runs() -> None:
    """Seven equal letters: three pairs and one, in either form."""
    ranks = {(97, 97): 256, (256, 256): 257}
    for name, encode in (
        ("encode_short", tokenizer.encode_short),
        ("encode_long", tokenizer.encode_long),
    ):
        equal(
            encode(b"aaaaaaa", ranks),
            [257, 256, 97],
            f"aaaaaaa ({name})",
            hint="of equal ranks the leftmost pair is joined first",
        )
    grows(
        long_word,
        400,
        "the time for a word that is twice as long",
        hint="do not look through the whole word for each pair that is joined",
    )


def check_any_text_comes_back() -> None:
    """Accents, emoji and line breaks included."""
    trained = tokenizer.Tokenizer.train(TEXT, 280)
    for text in (TEXT, "unseen: ß, \N{SNOWMAN}, 東京\r\n", ""):
        equal(trained.decode(trained.encode(text)), text, f"{text[:20]!r}")


def check_special_tokens_count() -> None:
    """Of 264 tokens, 256 are bytes, 2 special and 6 learned."""
    trained = tokenizer.Tokenizer.train(TEXT, 264, (END, "<|b|>"))
    equal(trained.vocab_size, 264, "the vocabulary that was asked for")
    equal(len(trained.merges), 6, "merges that were learned")


def check_no_token_reaches_over_a_word() -> None:
    """In a b a b a b, a space belongs to the word behind it."""
    made = tokenizer.Tokenizer([(97, 32), (32, 98)])
    equal(
        made.encode("a b a b a b"),
        [97, 257, 32, 97, 257, 32, 97, 257],
        "a b a b a b, with merges of a and space, space and b",
        hint="cut the text into words first, and encode each by itself",
    )


def check_special_tokens_do_not_come_from_text() -> None:
    """Text that spells a special token stays text, unless allowed."""
    one = small()
    ids = one.encode("<|a|>")
    true(258 not in ids, "without permission it is six ordinary tokens")
    equal(
        one.encode("<|a|>", allowed_special={"<|a|>"}),
        [258],
        "with permission it is one special token",
    )


def check_the_longest_special_token_wins() -> None:
    """Where one begins with another."""
    one = small()
    equal(
        one.encode("<|a|><|b|>", allowed_special=set(one.special_tokens)),
        [259],
        "the longer of two special tokens",
        hint="try the longest first",
    )


def check_a_stream_never_splits_a_character() -> None:
    """Three bytes of one character: two are held back."""
    stream = small().decode_stream(list("\u6771".encode()))
    pieces = [piece for piece in stream if piece]  # an empty one says nothing
    equal(pieces, ["\u6771"], "the pieces of a stream of three bytes")
    stream = small().decode_stream([104, 195])
    equal(
        [piece for piece in stream if piece],
        ["h", "\ufffd"],
        "a stream that ends within a character",
        hint="what is held back at the end has to come out",
    )


def check_a_file_brings_back_the_same_tokens() -> None:
    """Saved and loaded; a tokenizer with another merge is another."""
    path = Path(tempfile.mkdtemp()) / "tokenizer.json"
    one = small()
    one.save(path)
    again = tokenizer.Tokenizer.load(path)
    equal(again.encode("hen"), [257], "hen after loading")
    equal(again.fingerprint, one.fingerprint, "the fingerprint")
    other = tokenizer.Tokenizer(one.merges[:1])
    true(other.fingerprint != one.fingerprint, "other merges, other print")
    raises(
        ValueError,
        lambda: one.decode([999]),
        "decoding a token that does not exist",
    )


def check_a_text_in_blocks_has_the_tokens_of_the_whole() -> None:
    """Wherever the blocks end, in the middle of a word or of white space."""
    text = "hen hens  hen.\n\n then, hen's   12345 hens"
    made = tokenizer.Tokenizer.train(text * 9, 300)
    for size in (1, 2, 7):
        blocks = [text[i : i + size] for i in range(0, len(text), size)]
        equal(
            list(made.encode_stream(blocks)),
            made.encode(text),
            f"the tokens of blocks of {size} characters",
            hint="hold back what may belong to a word of the next block",
        )


def check_words_end_where_the_pattern_says() -> None:
    """With a pattern of one's own, tokens stay within its words."""
    made = tokenizer.Tokenizer([(97, 98), (98, 97)], {}, r"ab|ba|.")
    equal(
        made.encode("aba"),
        [256, 97],
        "aba, cut into ab and a",
        hint="cut words by the tokenizer's own pattern",
    )
    split = tokenizer.Tokenizer([(97, 98)], {}, r".")
    equal(split.encode("ab"), [97, 98], "ab, cut into letters")


BUGS = {
    "each block of a stream is a text of its own": (
        "for part in in_parts(blocks, self.pattern):",
        "for part in blocks:",
    ),
    "the leftmost pair is joined first": (
        "        new, at = min(\n"
        "            (ranks.get(pair, 1 << 60), i) for i, pair in "
        "enumerate(pairs)\n"
        "        )\n",
        "        found = ((i, p) for i, p in enumerate(pairs) if p in ranks)\n"
        "        at, pair = next(found, (0, None))\n"
        "        new = ranks.get(pair, 1 << 60)\n",
    ),
    "places that are out of date are used": (
        "if ranks.get((ids[i], ids[j])) != new:",
        "if ids[i] < 0 or ids[j] < 0:",
    ),
    "special tokens are found in any text": (
        "        if not allowed_special:\n",
        "        allowed_special = allowed_special or set("
        "self.special_tokens)\n        if not allowed_special:\n",
    ),
    "the shortest special token wins": (
        "key=len, reverse=True)",
        "key=len)",
    ),
    "what a stream holds back is lost": (
        "        if rest:\n            yield rest\n",
        "",
    ),
    "a stream decodes each token alone": (
        "text = decoder.decode(self.decode_bytes([number]))",
        "text = self.decode([number])",
    ),
    "special tokens do not count": (
        "merges = vocab_size - 256 - len(special_tokens)",
        "merges = vocab_size - 256",
    ),
    "the text is not cut into words": (
        "for word in pre_tokenize(part, self.pattern):",
        "for word in [part]:",
    ),
}
