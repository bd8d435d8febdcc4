"""The same tokenizer for other libraries, and theirs for us.

Two forms are in wide use: the ``tokenizer.json`` of Hugging Face, which holds
merges, and the ranks of tiktoken, which hold the bytes of every token. Left
out: their normalizers, prefix spaces and other models (unigram, word pieces).
"""

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scratchlm.text.bpe import PATTERN, Pair, spell
from scratchlm.text.characters import write_whole
from scratchlm.text.tokenizer import Tokenizer, encode_short


class ExchangeError(ValueError):
    """This tokenizer cannot be put into that form; the message says why."""


# --- bytes that can be printed -----------------------------------------------


def byte_alphabet() -> list[str]:
    """For each byte the character by which Hugging Face writes it.

    Bytes that print stand for themselves; the other 68 get characters from
    U+0100 on, in order (Radford et al., 2019). So a space is Ġ, U+0120.

    >>> [byte_alphabet()[byte] for byte in b"a~"]
    ['a', '~']
    """
    printed = {*range(33, 127), *range(161, 173), *range(174, 256)}
    letters, extra = [], 256
    for byte in range(256):
        letters.append(chr(byte if byte in printed else extra))
        extra += byte not in printed
    return letters


def to_letters(token: bytes) -> str:
    """A token in the alphabet of `byte_alphabet`."""
    alphabet = byte_alphabet()
    return "".join(alphabet[byte] for byte in token)


def from_letters(text: str) -> bytes:
    """The bytes of a token that is written in that alphabet."""
    bytes_of = {letter: byte for byte, letter in enumerate(byte_alphabet())}
    try:
        return bytes(bytes_of[letter] for letter in text)
    except KeyError as error:
        raise ExchangeError(
            f"{text!r} is not written in the alphabet of bytes: {error}"
        ) from None


# --- tokenizer.json ----------------------------------------------------------


def to_tokenizers(tokenizer: Tokenizer) -> str:
    """The ``tokenizer.json`` that the library `tokenizers` reads."""
    check_distinct(tokenizer)
    spelled = [to_letters(token) for token in spell(tokenizer.merges)]
    split = {
        "type": "Split",
        "pattern": {"Regex": tokenizer.pattern},
        "behavior": "Isolated",
        "invert": False,
    }
    letters = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": False,
        "use_regex": False,
    }
    special = [
        {
            "id": number,
            "content": text,
            "special": True,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
        }
        for text, number in tokenizer.special_tokens.items()
    ]
    data = {
        "version": "1.0",
        "added_tokens": special,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [split, letters],
        },
        "decoder": letters,
        "model": {
            "type": "BPE",
            "vocab": {text: i for i, text in enumerate(spelled)},
            "merges": [[spelled[a], spelled[b]] for a, b in tokenizer.merges],
        },
    }
    return json.dumps(data, ensure_ascii=True, indent=1) + "\n"


def from_tokenizers(text: str) -> tuple[Tokenizer, list[int]]:
    """A tokenizer from a ``tokenizer.json``, and its numbers for our tokens.

    Their tokens may be numbered in any order; ours are bytes first, then
    merges. The list gives for each of our tokens the number it has there.
    """
    data = json.loads(text)
    model = data["model"]
    if model.get("type") != "BPE" or data.get("normalizer"):
        raise ExchangeError("only byte-level BPE without a normalizer is read")
    theirs = {from_letters(t): i for t, i in model["vocab"].items()
              if not is_added(t, data)}
    places = {bytes([byte]): byte for byte in range(256)}
    merges: list[Pair] = []
    for merge in model["merges"]:
        first, second = merge.split(" ") if isinstance(merge, str) else merge
        pair = from_letters(first), from_letters(second)
        merges.append((places[pair[0]], places[pair[1]]))
        places[pair[0] + pair[1]] = 255 + len(merges)
    added = sorted(data["added_tokens"], key=lambda token: token["id"])
    start = 256 + len(merges)
    special = {token["content"]: start + i for i, token in enumerate(added)}
    numbers = [theirs[token] for token in spell(merges)]
    numbers += [token["id"] for token in added]
    return Tokenizer(merges, special, find_pattern(data)), numbers


def is_added(text: str, data: Mapping[str, Any]) -> bool:
    """Whether a token of the vocabulary is a special one."""
    return any(token["content"] == text for token in data["added_tokens"])


def find_pattern(data: Mapping[str, Any]) -> str:
    """The pattern by which a ``tokenizer.json`` cuts text into words."""
    pre = data.get("pre_tokenizer") or {}
    steps = pre.get("pretokenizers", [pre])
    if any(step.get("add_prefix_space") for step in steps):
        raise ExchangeError("it puts a space before each text; ours does not")
    for step in steps:
        if step.get("type") == "Split" and "Regex" in step["pattern"]:
            return str(step["pattern"]["Regex"])
    raise ExchangeError("its pre-tokenizer has no pattern that we could use")


# --- ranks -------------------------------------------------------------------


def check_distinct(tokenizer: Tokenizer) -> None:
    """Refuse two tokens of the same bytes: other forms know only bytes."""
    seen: dict[bytes, int] = {}
    for number, token in enumerate(spell(tokenizer.merges)):
        if token in seen:
            raise ExchangeError(
                f"tokens {seen[token]} and {number} are both {token!r}; "
                "forms that name tokens by their bytes cannot hold both"
            )
        seen[token] = number


def to_tiktoken(tokenizer: Tokenizer) -> dict[str, Any]:
    """What ``tiktoken.Encoding(**…)`` takes; token i has rank i."""
    check_distinct(tokenizer)
    ranks = {token: i for i, token in enumerate(spell(tokenizer.merges))}
    return {
        "name": f"scratchlm-{tokenizer.fingerprint[:12]}",
        "pat_str": tokenizer.pattern,
        "mergeable_ranks": ranks,
        "special_tokens": dict(tokenizer.special_tokens),
    }


def from_tiktoken(
    ranks: Mapping[bytes, int],
    special_tokens: Mapping[str, int] | None = None,
    pattern: str = PATTERN,
) -> tuple[Tokenizer, list[int]]:
    """A tokenizer from ranks, and their number for each of our tokens.

    Ranks do not say which two tokens a token was made of. Encoding its bytes
    with all the merges before it leaves exactly those two.
    """
    tokens = sorted(ranks, key=lambda token: ranks[token])
    numbers = [ranks[bytes([byte])] for byte in range(256)]
    merges: list[Pair] = []
    known: dict[Pair, int] = {}
    for token in tokens:
        if len(token) == 1:
            continue
        parts = encode_short(token, known)
        if len(parts) != 2:
            raise ExchangeError(
                f"{token!r} is not made of two tokens of lower rank"
            )
        pair = parts[0], parts[1]
        known[pair] = 256 + len(merges)
        merges.append(pair)
        numbers.append(ranks[token])
    first = 256 + len(merges)
    named = sorted((special_tokens or {}).items(), key=lambda item: item[1])
    special = {name: first + i for i, (name, _) in enumerate(named)}
    numbers += [number for _, number in named]
    return Tokenizer(merges, special, pattern), numbers


def write_ranks(ranks: Mapping[bytes, int]) -> str:
    """The text of a ``.tiktoken`` file: a line of base64 and rank each.

    >>> write_ranks({b"he": 256})
    'aGU= 256\\n'
    """
    lines = [
        f"{base64.b64encode(token).decode()} {rank}\n"
        for token, rank in sorted(ranks.items(), key=lambda item: item[1])
    ]
    return "".join(lines)


def read_ranks(text: str) -> dict[bytes, int]:
    """The ranks in the text of a ``.tiktoken`` file."""
    ranks = {}
    for number, line in enumerate(text.splitlines(), 1):
        try:
            token, rank = line.split()
            ranks[base64.b64decode(token, validate=True)] = int(rank)
        except ValueError as error:
            raise ExchangeError(f"line {number} is no rank: {error}") from None
    return ranks


def export(tokenizer: Tokenizer, form: str, path: Path) -> None:
    """Write the file that `form` ("tokenizers", "tiktoken") wants."""
    if form == "tokenizers":
        text = to_tokenizers(tokenizer)
    elif form == "tiktoken":
        text = write_ranks(to_tiktoken(tokenizer)["mergeable_ranks"])
    else:
        raise ExchangeError(f"no form {form!r}; there are tokenizers, tiktoken")
    write_whole(path, text)
