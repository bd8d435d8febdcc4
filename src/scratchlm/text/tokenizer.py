"""From text to tokens and back, with what byte-pair encoding learned.

A word is encoded by joining, again and again, the neighbors whose merge was
learned first (Sennrich et al., 2016). Special tokens stand for no text and
never come from text, unless the caller allows it.

Left out: normalization, which would make decoding inexact, and a prefix
space.
"""

import codecs
import hashlib
import heapq
import json
import multiprocessing
import os
import signal
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from multiprocessing import connection
from operator import index
from pathlib import Path
from sys import getsizeof
from threading import Thread
from typing import Literal

import numpy as np
import regex

from scratchlm.text.bpe import (
    PATTERN,
    Pair,
    count_words,
    in_blocks,
    in_parts,
    learn_merges,
    pre_tokenize,
    spell,
    unicode_version,
)
from scratchlm.text.files import FileError, read_bytes, write_text

FORMAT = "scratchlm byte pairs 1"
END = "<|endoftext|>"
SURROGATE = regex.compile("[\ud800-\udfff]")
LONG = 40  # bytes, from which the linked list is faster than the scan
CACHED = 32 << 20  # bytes of words and tokens that the cache holds at most
ENTRY = 100  # bytes of a dictionary for an entry, about
LARGEST = 1 << 16  # bytes of a token; learned ones have a few hundred at most


def encode_short(piece: bytes, ranks: Mapping[Pair, int]) -> list[int]:
    """Join the pair of lowest rank until none is left; O(n²), n small.

    `ranks` gives for each pair the token that it becomes.

    >>> encode_short(b"hhen", {(104, 101): 256, (256, 110): 257})
    [104, 257]
    """
    ids = list(piece)
    while len(ids) > 1:
        pairs = zip(ids, ids[1:])
        new, at = min(
            (ranks.get(pair, 1 << 60), i) for i, pair in enumerate(pairs)
        )
        if new == 1 << 60:
            break
        ids[at : at + 2] = [new]
    return ids


def encode_long(piece: bytes, ranks: Mapping[Pair, int]) -> list[int]:
    """The same tokens in nearly linear time, over a linked list.

    `places` holds for each rank where its pairs begin. A pair that has a
    token in it was learned later than that token, so joining never makes a
    pair of a rank that is done: ranks are taken in their order, once each.
    `after[i]` is the place of the token after the one at place i; a joined
    token keeps the left place, and the right one is marked with −1.
    """
    size = len(piece)
    ids = [*piece, -1]  # −1 joins with nothing; it is also ids[-1]
    before, after = list(range(-1, size)), list(range(1, size + 2))
    places: dict[int, list[int]] = defaultdict(list)
    for i, pair in enumerate(zip(ids, ids[1:])):
        if (rank := ranks.get(pair)) is not None:
            places[rank].append(i)
    todo = list(places)
    heapq.heapify(todo)
    while todo:
        new = heapq.heappop(todo)
        for i in sorted(places.pop(new)):
            j = after[i]
            if ranks.get((ids[i], ids[j])) != new:
                continue  # one of them was joined to another
            ids[i], ids[j] = new, -1
            after[i] = k = after[j]
            before[k] = i
            for left, right in ((before[i], i), (i, k)):
                if (rank := ranks.get((ids[left], ids[right]))) is not None:
                    if rank not in places:
                        heapq.heappush(todo, rank)
                    places[rank].append(left)
    return [i for i in ids if i >= 0]


def check_text(text: str, before: int = 0) -> None:
    """Refuse what UTF-8 cannot hold, and say where it stands.

    `before` characters came earlier.
    """
    if half := SURROGATE.search(text):
        raise ValueError(
            f"character {before + half.start():,}, {half[0]!r}, is half of a "
            "surrogate pair and no text; remove it, or read the text again "
            "in the encoding that it was written in"
        )


class Tokenizer:
    """Byte-level BPE: encodes any text, decodes any tokens."""

    def __init__(
        self,
        merges: Sequence[Pair],
        special_tokens: Mapping[str, int] | None = None,
        pattern: str = PATTERN,
    ) -> None:
        """Make the tables; merge i makes token 256 + i.

        Raises ValueError for merges of tokens that do not exist yet, for
        merges that occur twice, and for special tokens with numbers in use.
        """
        self.merges = [(index(a), index(b)) for a, b in merges]
        special = (special_tokens or {}).items()
        self.special_tokens = {text: index(number) for text, number in special}
        self.pattern = pattern
        regex.compile(pattern)  # an error in it shows here
        self.check()
        self.ranks = {pair: 256 + i for i, pair in enumerate(self.merges)}
        self.tokens: dict[int, bytes] = dict(enumerate(spell(self.merges)))
        for text, number in self.special_tokens.items():
            self.tokens[number] = text.encode()
        self.cache: dict[str, list[int]] = {}
        self.cached = 0  # bytes

    def check(self) -> None:
        """Refuse tables that contradict themselves, and say where."""
        for i, pair in enumerate(self.merges):
            if not all(0 <= token < 256 + i for token in pair):
                raise ValueError(
                    f"merge {i} joins {pair}, but only tokens below "
                    f"{256 + i} exist by then"
                )
        if len(set(self.merges)) < len(self.merges):
            raise ValueError("a pair of tokens is merged twice")
        sizes = [1] * 256  # bytes; each merge may double them
        for i, (first, second) in enumerate(self.merges):
            sizes.append(sizes[first] + sizes[second])
            if sizes[-1] > LARGEST:
                raise ValueError(
                    f"merge {i} makes a token of more than {LARGEST:,} bytes"
                )
        used = sorted(self.special_tokens.values())
        if len(set(used)) < len(used) or (
            used and used[0] < 256 + len(self.merges)
        ):
            raise ValueError(
                "special tokens need numbers of their own, from "
                f"{256 + len(self.merges)} on, not {used}"
            )
        if "" in self.special_tokens:
            raise ValueError("a special token cannot be the empty text")

    @classmethod
    def train(
        cls,
        texts: str | Iterable[str],
        vocab_size: int,
        special_tokens: Sequence[str] = (END,),
        pattern: str = PATTERN,
    ) -> "Tokenizer":
        """Learn merges from texts until there are `vocab_size` tokens.

        Special tokens count, get the last numbers, and are cut out of the
        texts. Text with few different words may give fewer tokens.
        """
        if len(set(special_tokens)) < len(special_tokens):
            raise ValueError(
                f"a special token stands twice in {list(special_tokens)}"
            )
        merges = vocab_size - 256 - len(special_tokens)
        if merges < 0:
            raise ValueError(
                f"a vocabulary of {vocab_size} cannot hold 256 bytes and "
                f"{len(special_tokens)} special tokens"
            )
        texts = [texts] if isinstance(texts, str) else texts
        pieces = (
            piece
            for text in texts
            for piece in split_special(text, special_tokens)[::2]
        )
        learned = learn_merges(count_words(pieces, pattern), merges)
        first = 256 + len(learned)
        special = {name: first + i for i, name in enumerate(special_tokens)}
        return cls(learned, special, pattern)

    @property
    def vocab_size(self) -> int:
        """V: one more than the largest token."""
        return max(self.tokens) + 1

    @property
    def end_id(self) -> int:
        """The token that ends a document."""
        if END not in self.special_tokens:
            raise ValueError(f"this tokenizer has no special token {END}")
        return self.special_tokens[END]

    def encode_piece(self, piece: bytes) -> list[int]:
        """The tokens of one word."""
        if len(piece) < LONG:
            return encode_short(piece, self.ranks)
        return encode_long(piece, self.ranks)

    def encode_word(self, word: str) -> list[int]:
        """The tokens of one word, kept for the next time it occurs."""
        ids = self.encode_piece(word.encode())
        if self.cached > CACHED:
            self.cache.clear()
            self.cached = 0
        self.cache[word] = ids
        self.cached += getsizeof(word) + getsizeof(ids) + ENTRY
        return ids

    def encode_part(self, part: str) -> list[int]:
        """The tokens of a text so short that all its words fit in memory."""
        cache, ids = self.cache, []
        for word in pre_tokenize(part, self.pattern):
            found = cache.get(word)
            ids += self.encode_word(word) if found is None else found
        return ids

    def encode_parts(self, blocks: Iterable[str]) -> Iterator[list[int]]:
        """The tokens of a text that comes in blocks, many at a time."""
        done = 0
        for part in in_parts(blocks, self.pattern):
            try:
                yield self.encode_part(part)
            except UnicodeEncodeError:
                check_text(part, done)
                raise
            done += len(part)

    def encode_stream(self, blocks: Iterable[str]) -> Iterator[int]:
        """The tokens of a text that comes in blocks, as they are found.

        They are those of the whole text, wherever it was cut, and nothing in
        it is special. Holds a block or two, not the text; with a pattern
        that `in_parts` does not know, however, all of it.
        """
        return chain.from_iterable(self.encode_parts(blocks))

    def encode_ordinary(self, text: str) -> list[int]:
        """The tokens of a text in which nothing is special."""
        return list(self.encode_stream(in_blocks(text)))

    def encode(
        self,
        text: str,
        allowed_special: Set[str] | Literal["all"] = frozenset(),
    ) -> list[int]:
        """The tokens of a text.

        A special token that is written in the text becomes that token only
        if it is in `allowed_special`; otherwise it is text like any other.
        """
        if not allowed_special:
            return self.encode_ordinary(text)
        if isinstance(allowed_special, str):
            if allowed_special != "all":
                raise ValueError(
                    'allowed_special is a set of special tokens, or "all", '
                    f"and not {allowed_special!r}"
                )
            allowed_special = self.special_tokens.keys()
        unknown = set(allowed_special) - set(self.special_tokens)
        if unknown:
            raise ValueError(
                f"{sorted(unknown)} are not special tokens; these are: "
                f"{sorted(self.special_tokens)}"
            )
        check_text(text)
        ids = []
        for i, part in enumerate(split_special(text, allowed_special)):
            if i % 2:
                ids.append(self.special_tokens[part])
            else:
                ids += self.encode_ordinary(part)
        return ids

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The bytes of tokens.

        Raises ValueError for a token that does not exist, TypeError for
        anything but a whole number.
        """
        try:
            return b"".join([self.tokens[index(i)] for i in ids])
        except KeyError as error:
            raise ValueError(
                f"there is no token {error.args[0]}; they run from 0 to "
                f"{self.vocab_size - 1}"
            ) from None

    def decode(self, ids: Iterable[int]) -> str:
        """The text of tokens; bytes that are no UTF-8 become U+FFFD."""
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    def decode_stream(self, ids: Iterable[int]) -> Iterator[str]:
        """Pieces of text as tokens arrive, never half a character.

        A character of several bytes may be spread over tokens; its bytes
        are held back until the last of them is there.
        """
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        for number in ids:
            text = decoder.decode(self.decode_bytes([number]))
            if text:
                yield text
        rest = decoder.decode(b"", final=True)
        if rest:
            yield rest

    def to_json(self) -> str:
        """The tokenizer as text, the same for equal tokenizers."""
        data = {
            "format": FORMAT,
            "pattern": self.pattern,
            "special_tokens": dict(sorted(self.special_tokens.items())),
            "merges": self.merges,
        }
        return json.dumps(data, ensure_ascii=True) + "\n"

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the tokenizer; equal only for equal tokenizers."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def save(self, path: Path) -> None:
        """Write the tokenizer as JSON: all of it, or nothing.

        The version of Unicode is noted with it. That is not part of the
        tokenizer, but it decides where new scripts are cut.
        """
        data = json.loads(self.to_json())
        data["unicode"] = unicode_version()
        write_text(path, json.dumps(data, ensure_ascii=True) + "\n")

    @classmethod
    def from_json(cls, text: str) -> "Tokenizer":
        """A tokenizer from what `to_json` gave; ValueError for other text."""
        try:
            data = json.loads(text)
            if data["format"] != FORMAT:
                raise ValueError(f"its format is {data['format']!r}")
            merges = [(a, b) for a, b in data["merges"]]
            return cls(merges, data["special_tokens"], data["pattern"])
        except (
            LookupError, TypeError, AttributeError, RecursionError, regex.error
        ) as error:  # fmt: skip
            raise ValueError(f"it cannot be read: {error!r}") from error

    @classmethod
    def load(cls, path: Path) -> "Tokenizer":
        """Read what `save` wrote; FileError for any other file.

        Warns if the file was saved under a version of Unicode other than ours.
        """
        text = read_bytes(path)
        try:
            tokenizer = cls.from_json(text.decode())
        except ValueError as error:
            raise FileError(f"{path} holds no tokenizer: {error}") from error
        saved, here = json.loads(text).get("unicode"), unicode_version()
        if saved not in (None, here):
            warnings.warn(
                f"{path} was saved with the letters of Unicode {saved}, and "
                f"here are those of {here}: scripts newer than either may be "
                "cut into other tokens than the model has learned from",
                stacklevel=2,
            )
        return tokenizer


@lru_cache(maxsize=1)
def remembered(text: str) -> Tokenizer:
    """The tokenizer of this JSON; with the same text again, the same one."""
    return Tokenizer.from_json(text)


@dataclass(frozen=True)
class Batch:
    """Some texts of many; `first` is the number of the first of them."""

    first: int
    texts: list[str]

    @property
    def bytes(self) -> int:
        """How long they are in UTF-8."""
        return sum(len(text.encode()) for text in self.texts)


def encode_batch(text: str, batch: Batch, separate: bool) -> np.ndarray:
    """Tokens (N,) of some texts, for another process to compute.

    `text` is the tokenizer's JSON. With `separate` the end token comes
    after each of them. This module needs no torch, so a process that only
    runs this starts at once and is small.
    """
    tokenizer = remembered(text)
    end = [tokenizer.end_id] if separate else []
    ids: list[int] = []
    for number, item in enumerate(batch.texts, batch.first):
        try:
            ids += tokenizer.encode_ordinary(item) + end
        except ValueError as error:
            raise ValueError(f"document {number:,}: {error}") from error
    return np.array(ids, dtype=np.uint32)


def follow_parent() -> None:
    """Leave Ctrl-C to the process that started this one; end with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        Thread(target=end_after, args=(parent.sentinel,), daemon=True).start()


def end_after(sentinel: int) -> None:
    """Wait until a process has ended, then end at once."""
    connection.wait([sentinel])
    os._exit(1)


def split_special(text: str, special: Iterable[str]) -> list[str]:
    """Text, special token, text, …: the special ones at odd places.

    Where one begins with another, the longer one is taken.

    >>> split_special("a<|b|>c", ["<|b|>"])
    ['a', '<|b|>', 'c']
    """
    names = sorted(special, key=len, reverse=True)
    if not names:
        return [text]
    choice = "|".join(regex.escape(name) for name in names)
    return regex.split(f"({choice})", text)
