"""The same tokenizer for other libraries, and theirs for us.

Two forms are in wide use: the ``tokenizer.json`` of Hugging Face, which holds
merges, and the ranks of tiktoken, which hold the bytes of every token. Left
out: their normalizers, prefix spaces and other models (unigram, word pieces).
"""

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from operator import index
from pathlib import Path
from typing import Any

import regex

from scratchlm.text.bpe import COMPLETE, GPT2_PATTERN, PATTERN, Pair, spell
from scratchlm.text.files import write_text
from scratchlm.text.tokenizer import Tokenizer, encode_short

UNREADABLE = (
    LookupError, TypeError, ValueError, AttributeError, RecursionError
)  # fmt: skip


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


LETTERS = byte_alphabet()
INNER = r"\\[pP]\{\w+\}|\\[sSdDrntf]|\\[^\w\s]"  # \p{L}, \s, \.
ALIKE = regex.compile(  # what a pattern may be made of, to mean one thing
    rf"(?:{INNER}|\[\^?(?:{INNER}|(?!--|~~)[^\\\[\]&])+\]"
    r"|\((?:\?(?:[:=!>]|i:|<[=!])|(?!\?))|\{\d*,?\d*\}(?!\+)|[)|.?*+]"
    r"|[^\\\[\](){}|?*+^$.])*+"
)
BYTES = {letter: byte for byte, letter in enumerate(LETTERS)}


def to_letters(token: bytes) -> str:
    """A token in the alphabet of `byte_alphabet`."""
    return "".join([LETTERS[byte] for byte in token])


def from_letters(text: str) -> bytes:
    """The bytes of a token that is written in that alphabet."""
    try:
        return bytes([BYTES[letter] for letter in text])
    except KeyError as error:
        raise ExchangeError(
            f"{text!r} is not written in the alphabet of bytes: {error}"
        ) from None


# --- tokenizer.json ----------------------------------------------------------


def to_tokenizers(tokenizer: Tokenizer) -> str:
    """The ``tokenizer.json`` that the library `tokenizers` reads."""
    check_distinct(tokenizer)
    check_alike(tokenizer.pattern)
    spelled = [to_letters(token) for token in spell(tokenizer.merges)]
    if both := tokenizer.special_tokens.keys() & set(spelled):
        raise ExchangeError(
            f"{min(both)!r} is a special token and the spelling of another; "
            "that form has one number for a spelling"
        )
    vocab = {text: i for i, text in enumerate(spelled)}
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
            "vocab": vocab | tokenizer.special_tokens,  # or numbers move up
            "merges": [[spelled[a], spelled[b]] for a, b in tokenizer.merges],
        },
    }
    return json.dumps(data, ensure_ascii=True, indent=1) + "\n"


def from_tokenizers(text: str) -> tuple[Tokenizer, list[int]]:
    """A tokenizer from a ``tokenizer.json``, and its numbers for our tokens.

    Their tokens may be numbered in any order; ours are bytes first, then
    merges. The list gives for each of our tokens the number it has there.
    What would give tokens other than ours is refused, by name. Only tokens
    that a post-processor adds around a text are left to the caller.
    """
    try:
        data = json.loads(text)
        model, added = data["model"], data.get("added_tokens") or []
        check_equal(data)
        pattern = find_pattern(data.get("pre_tokenizer") or {})
        merges = read_merges(model["merges"])
        vocab, letters = model["vocab"], map(to_letters, spell(merges))
        numbers = [index(vocab[token]) for token in letters]
        check_numbers(added, vocab)
        added = sorted(added, key=lambda token: token["id"])
        start = 256 + len(merges)
        special = {t["content"]: start + i for i, t in enumerate(added)}
        tokenizer = Tokenizer(merges, special, pattern)
        numbers += [index(token["id"]) for token in added]
    except ExchangeError:
        raise
    except UNREADABLE as error:
        raise ExchangeError(f"it cannot be read: {error!r}") from error
    except regex.error as error:
        raise ExchangeError(f"its pattern: {error}") from error
    if model.get("ignore_merges"):
        check_whole_words(tokenizer, vocab)
    return tokenizer, numbers


def check_equal(data: Mapping[str, Any]) -> None:
    """Refuse, by name, what would make tokens other than ours of a text."""
    model, normalizer = data["model"], data.get("normalizer") or {}
    added = data.get("added_tokens") or []
    changes = normalizer.get("normalizers", normalizer)
    problems = {
        # the oldest files do not name it
        f"its model is {model.get('type')}": model.get("type", "BPE") != "BPE",
        "it changes text (normalizer)": changes,
        "it skips merges at random (dropout)": model.get("dropout"),
        "it cuts long texts (truncation)": data.get("truncation"),
        "it fills up short texts (padding)": data.get("padding"),
    }
    for name in ("continuing_subword_prefix", "end_of_word_suffix"):
        problems[f"it marks parts of words ({name})"] = model.get(name)
    for name in ("lstrip", "rstrip", "single_word"):
        problems[f"an added token looks at what is beside it ({name})"] = any(
            token.get(name) for token in added
        )
    late = {t["content"] for t in added if t.get("normalized")}
    early = {t["content"] for t in added if not t.get("normalized")}
    problems["it looks for added tokens in two rounds (normalized)"] = any(
        can_overlap(one, other) for one in early for other in late
    )
    found = [problem for problem, there in problems.items() if there]
    if found:
        raise ExchangeError("; ".join(found) + "; ours does none of this")


def check_numbers(
    added: Iterable[Mapping[str, Any]], vocab: Mapping[str, int]
) -> None:
    """Refuse numbers of added tokens that the other library does not use.

    A token that is in the vocabulary keeps the number that it has there, any
    other gets the next one, whatever the file says.
    """
    highest = len(vocab) - 1
    for token in added:
        text, number = token["content"], token["id"]
        used = vocab.get(text, highest + 1)
        if number != used:
            raise ExchangeError(
                f"its added token {text!r} has the number {number}, and the "
                f"library that it is written for would use {used}"
            )
        highest = max(highest, used)


def can_overlap(one: str, other: str) -> bool:
    """Whether some text holds both words and they share letters of it.

    >>> can_overlap("abc", "cd"), can_overlap("abc", "d")
    (True, False)
    """
    return any(
        second in first
        or any(second.startswith(first[at:]) for at in range(1, len(first)))
        for first, second in ((one, other), (other, one))
    )


def check_alike(pattern: str) -> None:
    """Refuse a pattern with signs that the libraries read differently.

    To one of them ^ and $ are the ends of a line, an h in an escape is a
    digit, and a + after braces repeats them once more.
    """
    found = ALIKE.match(pattern)
    end = found.end() if found else 0
    if end < len(pattern):
        raise ExchangeError(
            f"its pattern has {pattern[end : end + 9]!r}, which not all "
            "libraries read in the same way; put it in other words"
        )


def find_pattern(pre_tokenizer: Mapping[str, Any]) -> str:
    """The one pattern by which a pre-tokenizer cuts text into words.

    Two forms do what ours does: ByteLevel, which has GPT-2's pattern built
    in; and a Split that keeps all of the text, before a ByteLevel without it.
    """
    steps = pre_tokenizer.get("pretokenizers", [pre_tokenizer])
    if any(step.get("add_prefix_space") for step in steps):
        raise ExchangeError("it puts a space before each text; ours does not")
    kinds = [step.get("type") for step in steps]
    cuts = bool(steps) and steps[-1].get("use_regex", True)
    if kinds == ["ByteLevel"] and cuts:
        return GPT2_PATTERN
    if kinds == ["Split", "ByteLevel"] and not cuts:
        found, behavior = steps[0]["pattern"].get("Regex"), steps[0]["behavior"]
        keeps = behavior == "Isolated" or (
            # the gaps are removed, and these patterns leave none
            behavior == "Removed" and steps[0]["invert"] and found in COMPLETE
        )
        if found and keeps:
            check_alike(found)
            return str(found)
    shown = [{**step, "pattern": list(step.get("pattern", ()))}
             for step in steps]
    raise ExchangeError(
        "its pre-tokenizer does not cut by one pattern and keep all of the "
        f"text, as ours does: {json.dumps(shown)}"
    )


def read_merges(lines: Iterable[str | Sequence[str]]) -> list[Pair]:
    """The merges of a ``tokenizer.json``, in both spellings, as numbers."""
    places = {bytes([byte]): byte for byte in range(256)}
    merges: list[Pair] = []
    for line in lines:
        first, second = line.split(" ") if isinstance(line, str) else line
        left, right = from_letters(first), from_letters(second)
        if left not in places or right not in places:
            raise ExchangeError(
                f"merge {len(merges)} joins {first!r} and {second!r}, and not "
                "both exist by then"
            )
        if left + right in places:
            raise ExchangeError(
                f"two merges make {first + second!r}; ours would be two tokens"
            )
        merges.append((places[left], places[right]))
        places[left + right] = 255 + len(merges)
    return merges


def check_whole_words(tokenizer: Tokenizer, vocab: Iterable[str]) -> None:
    """Refuse `ignore_merges` where it makes a difference.

    It takes a word that is in the vocabulary as one token. That makes no
    difference if the merges make this very token of the word.
    """
    special = tokenizer.special_tokens
    for text in (text for text in vocab if text not in special):
        if len(tokenizer.encode_piece(from_letters(text))) > 1:
            raise ExchangeError(
                f"it takes the word {text!r} as one token (ignore_merges), "
                "which its merges do not make; ours goes by merges"
            )


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


def check_reached(tokenizer: Tokenizer) -> None:
    """Refuse a token that merges never make: forms of ranks would make it.

    They join whatever makes a token; merges join only what was learned.
    """
    for number, token in enumerate(spell(tokenizer.merges)):
        if tokenizer.encode_piece(token) != [number]:
            raise ExchangeError(
                f"token {number}, {token!r}, is not what the merges make of "
                "its bytes; forms that name tokens by their bytes would"
            )


def to_tiktoken(tokenizer: Tokenizer) -> dict[str, Any]:
    """What ``tiktoken.Encoding(**…)`` takes; token i has rank i."""
    check_distinct(tokenizer)
    check_reached(tokenizer)
    check_alike(tokenizer.pattern)
    pattern = tokenizer.pattern
    if regex.fullmatch(pattern, ""):
        raise ExchangeError(
            "its pattern also finds words of no letters, at which tiktoken "
            "fails; put it in other words"
        )
    if pattern not in COMPLETE:  # what it leaves out would be lost
        pattern = f"{pattern}|(?:(?!{pattern})(?s:.))+"
    ranks = {token: i for i, token in enumerate(spell(tokenizer.merges))}
    return {
        "name": f"scratchlm-{tokenizer.fingerprint[:12]}",
        "pat_str": pattern,
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
    missing = {bytes([byte]) for byte in range(256)} - ranks.keys()
    if missing:
        raise ExchangeError(
            f"the byte {min(missing)!r} has no rank; ours are tokens of bytes, "
            "of which none may be missing"
        )
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
    ranks: dict[bytes, int] = {}
    used = set[int]()
    for number, line in enumerate(text.splitlines(), 1):
        try:
            letters, digits = line.split()
            token, rank = base64.b64decode(letters, validate=True), int(digits)
            if token in ranks or rank in used:
                raise ValueError(f"{line!r} was there before, or a part of it")
        except ValueError as error:
            raise ExchangeError(f"line {number} is no rank: {error}") from None
        ranks[token] = rank
        used.add(rank)
    return ranks


def export(tokenizer: Tokenizer, form: str, path: Path) -> None:
    """Write the file that `form` ("tokenizers", "tiktoken") wants."""
    if form == "tokenizers":
        text = to_tokenizers(tokenizer)
    elif form == "tiktoken":
        text = write_ranks(to_tiktoken(tokenizer)["mergeable_ranks"])
    else:
        raise ExchangeError(f"no form {form!r}; there are tokenizers, tiktoken")
    write_text(path, text)
