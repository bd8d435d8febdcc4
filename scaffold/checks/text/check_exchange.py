"""What exchanging a tokenizer with other libraries must do."""

import json
from functools import partial

import tiktoken
import tokenizers

from scratchlm.text import exchange
from scratchlm.text.bpe import GPT2_PATTERN
from scratchlm.text.tokenizer import Tokenizer

from ..expect import equal, raises, true

END = "<|endoftext|>"
TEXT = "Mrs Pell bakes; Mr Dunn counts 12 nails.\n\nThe café is shut. " * 4
SAMPLES = [TEXT, "unseen: ß \N{SNOWMAN}\r\n\t 東京 1234567", " ", "'S 'll"]


def town() -> Tokenizer:
    """A small tokenizer with an end token."""
    return Tokenizer.train(TEXT, 300)


def check_bytes_have_printable_letters() -> None:
    """256 different letters; a space is U+0120, a line feed U+010A."""
    letters = exchange.byte_alphabet()
    equal(len(set(letters)), 256, "how many letters are different")
    equal(
        exchange.to_letters(b" a\n"),
        "\u0120a\u010a",
        "a space, an a and a line feed",
        hint="bytes that do not print are counted from U+0100, in order",
    )
    everything = bytes(range(256))
    equal(
        exchange.from_letters(exchange.to_letters(everything)),
        everything,
        "all bytes, there and back",
    )


def check_tiktoken_gives_the_same_tokens() -> None:
    """On text that was seen and on text that was not."""
    ours = town()
    theirs = tiktoken.Encoding(**exchange.to_tiktoken(ours))
    for text in SAMPLES:
        equal(theirs.encode_ordinary(text), ours.encode(text), repr(text[:20]))


def check_tokenizers_gives_the_same_tokens() -> None:
    """The same, and the end token where it is allowed."""
    ours = town()
    theirs = tokenizers.Tokenizer.from_str(exchange.to_tokenizers(ours))
    for text in [*SAMPLES, f"one{END}two"]:
        equal(
            theirs.encode(text, add_special_tokens=False).ids,
            ours.encode(text, allowed_special={END}),
            repr(text[:20]),
            hint="no space before the text, and the pattern isolates words",
        )


def check_there_and_back() -> None:
    """Through either form the tokenizer is the same afterwards."""
    ours = town()
    again, numbers = exchange.from_tokenizers(exchange.to_tokenizers(ours))
    equal(again.fingerprint, ours.fingerprint, "through tokenizer.json")
    equal(numbers, list(range(ours.vocab_size)), "the numbers of our tokens")
    parts = exchange.to_tiktoken(ours)
    back, _ = exchange.from_tiktoken(
        parts["mergeable_ranks"], parts["special_tokens"]
    )
    equal(
        back.merges,
        ours.merges,
        "the merges, recovered from ranks",
        hint="encode each token with the merges before it: two are left",
    )
    equal(back.special_tokens, ours.special_tokens, "its special tokens")


def check_ranks_are_written_as_base64() -> None:
    """he, token 256, is the line aGU= 256."""
    equal(exchange.write_ranks({b"he": 256}), "aGU= 256\n", "the line of he")
    equal(exchange.read_ranks("aGU= 256\n"), {b"he": 256}, "read again")
    raises(
        ValueError,
        lambda: exchange.read_ranks("aGU=\n"),
        "a line without its rank",
    )


def check_two_tokens_of_the_same_bytes_are_refused() -> None:
    """aaa as a·aa and as aa·a cannot both be in a table of bytes."""
    double = Tokenizer([(97, 97), (97, 256), (256, 97)])
    raises(ValueError, lambda: exchange.to_tiktoken(double), "aaa twice")
    raises(ValueError, lambda: exchange.to_tokenizers(double), "aaa twice")
    data = json.loads(exchange.to_tokenizers(town()))
    data["normalizer"] = {"type": "Lowercase"}
    raises(
        ValueError,
        lambda: exchange.from_tokenizers(json.dumps(data)),
        "reading a tokenizer that makes everything small",
    )
    true(data["model"]["type"] == "BPE", "the model is byte pairs")


def check_what_cuts_otherwise_is_refused() -> None:
    """One pattern that keeps all of the text, and nothing else."""
    data = json.loads(exchange.to_tokenizers(town()))
    steps = data["pre_tokenizer"]["pretokenizers"]
    own = {**steps[1], "use_regex": True}
    removing = {**steps[0], "behavior": "Removed"}
    data["pre_tokenizer"] = own
    theirs, _ = exchange.from_tokenizers(json.dumps(data))
    equal(
        theirs.pattern,
        GPT2_PATTERN,
        "the pattern of ByteLevel alone",
        hint="GPT-2's pattern is built into it",
    )
    for name, wrong in (
        ("two Splits", [steps[0], *steps]),
        ("a Split that removes", [removing, steps[1]]),
        ("a Split and another pattern", [steps[0], own]),
        ("no pattern at all", [steps[1]]),
    ):
        data["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": wrong}
        raises(
            ValueError,
            lambda: exchange.from_tokenizers(json.dumps(data)),
            f"reading {name}",
        )


def check_added_tokens_that_may_meet_are_refused() -> None:
    """Two rounds of looking agree with one only if no two words overlap."""
    data = json.loads(exchange.to_tokenizers(town()))
    added = data["added_tokens"][0]
    for content, meets in (
        ("<|other|>", False),
        (">>", True),  # begins as the end token ends
        ("x<|", True),  # ends as it begins
        ("text", True),  # lies in it
    ):
        late = {**added, "content": content, "normalized": True}
        late["id"] = added["id"] + 1
        changed = json.dumps({**data, "added_tokens": [added, late]})
        what = f"{content} beside {END}, which is looked for before it"
        if meets:
            read = partial(exchange.from_tokenizers, changed)
            raises(ValueError, read, what)
        else:
            ours, _ = exchange.from_tokenizers(changed)
            true(content in ours.special_tokens, what)


BUGS = {
    "a Split may throw away what it finds": (
        'keeps = behavior == "Isolated" or (',
        'keeps = behavior in ("Isolated", "Removed") or (',
    ),
    "a pre-tokenizer without a pattern is read": (
        'if kinds == ["ByteLevel"] and cuts:',
        'if kinds == ["ByteLevel"]:',
    ),
    "bytes that do not print keep their place": (
        "letters.append(chr(byte if byte in printed else extra))",
        "letters.append(chr(byte if byte in printed else 256 + byte))",
    ),
    "a space is put before the text": (
        '        "add_prefix_space": False,\n',
        '        "add_prefix_space": True,\n',
    ),
    "the library's own pattern is used as well": (
        '        "use_regex": False,\n',
        '        "use_regex": True,\n',
    ),
    "merges are written without their order": (
        "for a, b in tokenizer.merges],",
        "for a, b in sorted(tokenizer.merges, reverse=True)],",
    ),
    "the numbers of the other library are lost": (
        "        numbers.append(ranks[token])\n",
        "        numbers.append(0)\n        known.pop(pair)\n",
    ),
    "a token may be twice in the table": (
        "        if token in seen:\n",
        "        if False:\n",
    ),
}
