"""From text of any size to files of tokens, in constant memory.

Text is read as a stream: documents from a file of JSON lines, or one text in
blocks. It is never held as a whole, and neither are its tokens.

Left out: several token files as one, and going on with a file that was
begun; a corpus is encoded again from its first document.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from scratchlm.text import toytown
from scratchlm.text.characters import CharTokenizer
from scratchlm.text.corpus import read_json_lines, read_lines
from scratchlm.text.tokenizer import Tokenizer
from scratchlm.text.tokens import encode_documents, write_tokens

AnyTokenizer = CharTokenizer | Tokenizer
BLOCK = 1 << 20  # characters of text that are read at once


class MaterialError(ValueError):
    """The text cannot be used; the message says why and what to do."""


# --- where text comes from ---------------------------------------------------


def read_texts(path: Path) -> Iterator[str]:
    """The documents of a file of JSON lines; other text in blocks."""
    if path.suffix == ".jsonl":
        yield from read_json_lines(path)
        return
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            while block := file.read(BLOCK):
                yield block
    except UnicodeDecodeError:
        for _ in read_lines(path):  # it says in which line
            pass
        raise


@dataclass(frozen=True)
class Share:
    """A share of a file, read as a stream, again each time.

    Of JSON lines the documents from `start` to `stop`; of any other text
    the characters, in blocks.
    """

    path: Path
    start: int
    stop: int

    def __iter__(self) -> Iterator[str]:
        """Read it from its beginning."""
        texts = read_texts(self.path)
        if self.path.suffix == ".jsonl":
            yield from islice(texts, self.start, self.stop)
            return
        at = 0
        for block in texts:
            part = block[max(self.start - at, 0) : max(self.stop - at, 0)]
            if part:
                yield part
            at += len(block)
            if at >= self.stop:
                return


@dataclass(frozen=True)
class Material:
    """Text to learn from, text to be judged by, and facts.

    Both can be gone through again and again. `separate` says that they are
    documents, with a mark behind each; otherwise blocks of one text.
    """

    train: Iterable[str]
    validation: Iterable[str]
    separate: bool
    facts: dict[str, Any] = field(default_factory=dict)


def toytown_material(characters: int, seed: int) -> Material:
    """Stories from Toytown, and the entropy of those for validation."""
    splits = toytown.split_stories(toytown.write_corpus(characters, seed))
    nats = -sum(story.log_prob for story in splits.validation)
    return Material(
        [story.text for story in splits.train],
        [story.text for story in splits.validation],
        True,
        {"corpus": "toytown", "characters": characters, "entropy_nats": nats},
    )


def size_of(path: Path) -> int:
    """Documents of a file of JSON lines, characters of any other."""
    texts = read_texts(path)
    if path.suffix == ".jsonl":
        return sum(1 for _ in texts)
    return sum(map(len, texts))


def file_material(path: Path, name: str) -> Material:
    """Nine tenths of a file to learn from, the last to be judged by.

    A folder that `corpus prepare` wrote is split already.
    """
    if path.is_dir():
        files = [path / f"{part}.jsonl" for part in ("train", "validation")]
        for file in files:
            if not file.is_file():
                raise MaterialError(
                    f"{path} has no {file.name}; make it from a text: "
                    f"corpus prepare TEXT --out {path}"
                )
        train, validation = (Share(file, 0, size_of(file)) for file in files)
    else:
        size = size_of(path)
        cut = int(0.9 * size)
        train, validation = Share(path, 0, cut), Share(path, cut, size)
    for share in (train, validation):
        if sum(map(len, islice(share, 2))) < 2:
            raise MaterialError(f"{path} holds too little text to train on")
    separate = train.path.suffix == ".jsonl"
    return Material(train, validation, separate, {"corpus": name})


# --- tokenizers --------------------------------------------------------------


def train_tokenizer(
    kind: str, texts: Iterable[str], vocab_size: int
) -> AnyTokenizer:
    """A tokenizer of "characters" or of byte pairs ("bpe"), from texts.

    An alphabet of characters has the line end, which divides documents.
    """
    if kind == "characters":
        alphabet = {"\n"}
        for text in texts:
            alphabet.update(text)
        return CharTokenizer("".join(alphabet))
    return Tokenizer.train(texts, vocab_size)


def load_tokenizer(path: Path) -> AnyTokenizer:
    """Either kind of tokenizer, by what its file says."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise MaterialError(f"{path} holds no tokenizer: {error}") from error
    if isinstance(data, dict) and "merges" in data:
        return Tokenizer.load(path)
    return CharTokenizer.load(path)


# --- encoding ----------------------------------------------------------------


@dataclass(frozen=True)
class Encoded:
    """What became of a text: how many tokens, of how many bytes."""

    tokens: int
    bytes: int


def encode_to_file(
    tokenizer: AnyTokenizer, texts: Iterable[str], separate: bool, path: Path
) -> Encoded:
    """Write the tokens of texts into a file.

    Behind each document stands a mark: the end token, or an empty line
    where there is none.
    """
    documents = list(texts)
    size = sum(len(text.encode()) for text in documents)
    if isinstance(tokenizer, CharTokenizer):
        mark = "\n\n" if separate else ""
        text = "".join(document + mark for document in documents)
        ids = np.array(tokenizer.encode(text))
    elif separate:
        ids = encode_documents(tokenizer, documents)
    else:
        ids = np.array(tokenizer.encode("".join(documents)))
    write_tokens(path, ids, tokenizer.vocab_size, tokenizer.fingerprint)
    return Encoded(len(ids), size)


def write_material(
    material: Material, tokenizer: AnyTokenizer, folder: Path
) -> dict[str, Any]:
    """Write tokenizer and tokens into a run's folder; return the facts."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(folder / "tokenizer.json")
    done = {
        name: encode_to_file(
            tokenizer, texts, material.separate, folder / f"{name}.tokens"
        )
        for name, texts in (
            ("train", material.train),
            ("validation", material.validation),
        )
    }
    return {
        **material.facts,
        "train_tokens": done["train"].tokens,
        "validation_tokens": done["validation"].tokens,
        "validation_bytes": done["validation"].bytes,
    }
