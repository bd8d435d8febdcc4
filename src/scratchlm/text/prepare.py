"""From text of any size to files of tokens, in constant memory.

Text is read as a stream: documents from a file of JSON lines, or one text in
parts. It is never held as a whole, and neither are its tokens, unless it has
no letters: a table of numbers shows no place to cut it at. Several
processes encode; the tokens are written in the order of the text, so the
number of processes leaves no trace.

Left out: going on with a file that was begun; a corpus is encoded again from
its first document, unless it is cut into shards (`shards`).
"""

import multiprocessing
import os
import sys
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import accumulate, islice
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from tqdm import tqdm

from scratchlm.text import toytown
from scratchlm.text.bpe import in_parts
from scratchlm.text.characters import CharTokenizer
from scratchlm.text.corpus import (
    has_json_lines,
    read_json_lines,
    read_lines,
)
from scratchlm.text.files import read_json
from scratchlm.text.tokenizer import (
    Batch,
    Tokenizer,
    encode_batch,
    follow_parent,
)
from scratchlm.text.tokens import token_writer

AnyTokenizer = CharTokenizer | Tokenizer
Encoding = Generator[tuple[Batch, np.ndarray], None, None]
BLOCK = 1 << 18  # characters of text that are read at once
BATCH = 1 << 19  # characters that a process is given at once
ALONE = 8  # batches that are encoded before other processes are started
SAMPLE = 20_000_000  # characters that a tokenizer learns from, at most


class MaterialError(ValueError):
    """The text cannot be used; the message says why and what to do."""


# --- where text comes from ---------------------------------------------------


def read_texts(path: Path) -> Iterator[str]:
    """The documents of a file of JSON lines; other text in blocks."""
    if has_json_lines(path):
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
    the characters, in parts that can be cut into words one by one.
    """

    path: Path
    start: int
    stop: int
    bytes: int  # of text, about

    def __iter__(self) -> Iterator[str]:
        """Read it from its beginning."""
        if has_json_lines(self.path):
            return islice(read_texts(self.path), self.start, self.stop)
        return in_parts(self.blocks())

    def blocks(self) -> Iterator[str]:
        """The characters of the share, as they are read."""
        at = 0
        for block in read_texts(self.path):
            yield block[max(self.start - at, 0) : max(self.stop - at, 0)]
            at += len(block)
            if at >= self.stop:
                return


@dataclass(frozen=True)
class Material:
    """Text to learn from, text to be judged by, and facts.

    Both can be gone through again and again. `separate` says that they are
    documents, with a mark after each; otherwise parts of one text.
    """

    train: Share | list[str]
    validation: Share | list[str]
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


def measure(path: Path) -> tuple[int, int]:
    """Documents, or characters, of a file, and the bytes of its text.

    That way a file that cannot be read to its end is found before any work.
    """
    units = size = 0
    for text in read_texts(path):
        units += 1 if has_json_lines(path) else len(text)
        size += len(text.encode())
    return units, size


def file_material(path: Path, name: str) -> Material:
    """Nine tenths of a file to learn from, the last to be judged by.

    A folder that `corpus prepare` wrote is split already.
    """
    if path.is_dir():
        train, validation = (whole_file(path / f"{part}.jsonl")
                             for part in ("train", "validation"))
    elif path.exists() and not path.is_file():
        raise MaterialError(
            f"{path} is no file that can be read twice; write its text into "
            "one first"
        )
    else:
        units, size = measure(path)
        cut = int(0.9 * units)
        if has_json_lines(path) and not cut:
            raise MaterialError(
                f"{path} holds {units} documents; it takes two or more, to "
                "learn from and to be judged by"
            )
        train = Share(path, 0, cut, int(0.9 * size))
        validation = Share(path, cut, units, size - train.bytes)
    for share in (train, validation):
        if all(total < 2 for total in accumulate(map(len, share))):
            raise MaterialError(f"{path} holds too little text to train on")
    separate = has_json_lines(train.path)
    return Material(train, validation, separate, {"corpus": name})


def whole_file(path: Path) -> Share:
    """A part that `corpus prepare` wrote."""
    if not path.is_file():
        raise MaterialError(
            f"{path.parent} has no {path.name}; make it from a text: "
            f"corpus prepare TEXT --out {path.parent}"
        )
    return Share(path, 0, *measure(path))


# --- tokenizers --------------------------------------------------------------


def train_tokenizer(
    kind: str, texts: Iterable[str], vocab_size: int
) -> AnyTokenizer:
    """A tokenizer of "characters" or of byte pairs ("bpe"), from texts.

    An alphabet has all characters, and the line end, which divides
    documents. Byte pairs are learned from the first `SAMPLE` characters.
    """
    if kind == "characters":
        alphabet = {"\n"}
        for text in texts:
            alphabet.update(text)
        return CharTokenizer("".join(alphabet))
    return Tokenizer.train(first_characters(texts, SAMPLE), vocab_size)


def first_characters(texts: Iterable[str], count: int) -> Iterator[str]:
    """The texts that begin within the first `count` characters."""
    for text in texts:
        if count <= 0:
            return
        yield text
        count -= len(text)


def load_tokenizer(path: Path) -> AnyTokenizer:
    """Either kind of tokenizer, by what its file says."""
    data = read_json(path)
    if isinstance(data, dict) and "merges" in data:
        return Tokenizer.load(path)
    return CharTokenizer.load(path)


# --- encoding ----------------------------------------------------------------


def in_batches(texts: Iterable[str]) -> Iterator[Batch]:
    """Texts in batches of about `BATCH` characters, in their order."""
    first, held, size = 0, list[str](), 0
    for text in texts:
        held.append(text)
        size += len(text)
        if size >= BATCH:
            yield Batch(first, held)
            first, held, size = first + len(held), [], 0
    if held:
        yield Batch(first, held)


def processors() -> int:
    """How many processors this program may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def encode_batches(
    tokenizer: Tokenizer,
    batches: Iterable[Batch],
    separate: bool,
    workers: int,
) -> Encoding:
    """Each batch with its tokens, in order, whatever `workers` is.

    The first few are encoded here; a short text needs no other process.
    """
    text, batches = tokenizer.to_json(), iter(batches)
    for batch in islice(batches, ALONE if workers > 1 else None):
        yield batch, encode_batch(text, batch, separate)
    yield from encode_elsewhere(text, batches, separate, workers)


@contextmanager
def without_main() -> Iterator[None]:
    """Keep processes that start now from importing the running program.

    They need none of it, and it may bring all of torch, or begin anew.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def encode_elsewhere(
    text: str, batches: Iterable[Batch], separate: bool, workers: int
) -> Encoding:
    """The same by other processes; `text` is the tokenizer's JSON.

    Three batches are under way for each worker, and no more are read.
    """
    forks = "forkserver" in multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if forks else "spawn")
    most = 61 if sys.platform == "win32" else workers  # it allows no more
    pool = ProcessPoolExecutor(min(workers, most), context, follow_parent)
    waiting: deque[tuple[Batch, Future[np.ndarray]]] = deque()
    try:
        for batch in batches:
            with without_main():
                task = pool.submit(encode_batch, text, batch, separate)
            waiting.append((batch, task))
            if len(waiting) >= 3 * workers:
                batch, task = waiting.popleft()
                yield batch, task.result()
        for batch, task in waiting:
            yield batch, task.result()
    except BrokenProcessPool as error:
        raise MaterialError(
            "a process that encodes was killed, most likely for lack of "
            "memory; run again with fewer processes or more memory"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def encode_characters(
    tokenizer: CharTokenizer, batches: Iterable[Batch], separate: bool
) -> Encoding:
    """The same with an alphabet, where an empty line is the mark."""
    mark = "\n\n" if separate else ""
    for batch in batches:
        text = "".join(item + mark for item in batch.texts)
        yield batch, np.array(tokenizer.encode(text), dtype=np.uint32)


@dataclass(frozen=True)
class Encoded:
    """What became of a text: how many tokens, of how many bytes."""

    tokens: int
    bytes: int


def encode_texts(
    tokenizer: AnyTokenizer,
    texts: Iterable[str],
    separate: bool,
    workers: int,
) -> Encoding:
    """Batches of texts, each with its tokens.

    After each document comes a mark: the end token, or an empty line
    if there is none.
    """
    if isinstance(tokenizer, CharTokenizer):
        return encode_characters(tokenizer, in_batches(texts), separate)
    if not separate:  # cut where the tokenizer's pattern allows
        texts = in_parts(texts, tokenizer.pattern)
    return encode_batches(tokenizer, in_batches(texts), separate, workers)


def encode_to_file(
    tokenizer: AnyTokenizer,
    texts: Share | list[str],
    separate: bool,
    path: Path,
    workers: int,
) -> Encoded:
    """Write the tokens of texts into a file: all of them, or no file."""
    total = texts.bytes if isinstance(texts, Share) else None
    bar = tqdm(
        desc=f"encoding {path.stem}",
        total=total,
        unit="B",
        unit_scale=True,
        leave=False,
        disable=None,  # no bar where nobody watches
    )
    size = 0
    done = encode_texts(tokenizer, texts, separate, workers)
    with (
        token_writer(
            path, tokenizer.vocab_size, tokenizer.fingerprint
        ) as writer,
        bar,
        closing(done),  # ends the processes, whatever happens
    ):
        for batch, ids in done:
            writer.append(ids)
            size += batch.bytes
            bar.update(batch.bytes)
    return Encoded(writer.count, size)


def write_material(
    material: Material,
    tokenizer: AnyTokenizer,
    folder: Path,
    workers: int | None = None,
) -> dict[str, Any]:
    """Write tokenizer and tokens into a run's folder; return the facts.

    `workers` processes encode; as many as there are processors if None.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(folder / "tokenizer.json")
    train, validation = (
        encode_to_file(
            tokenizer,
            texts,
            material.separate,
            folder / f"{name}.tokens",
            workers or processors(),
        )
        for name, texts in (
            ("train", material.train),
            ("validation", material.validation),
        )
    )
    return {
        **material.facts,
        "train_tokens": train.tokens,
        "validation_tokens": validation.tokens,
        "validation_bytes": validation.bytes,
    }
