"""Solutions of the exercises on preparing a corpus."""

import random
import time
from collections.abc import Iterable, Iterator
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import TypeVar

from scratchlm.text.prepare import in_batches
from scratchlm.text.tokenizer import Batch, Tokenizer, encode_batch
from scratchlm.text.tokens import write_tokens

T = TypeVar("T")


def encode_resumably(
    tokenizer: Tokenizer, texts: Iterable[str], folder: Path
) -> int:
    """A token file for each batch; those that are there are left alone.

    Returns how many were encoded. A file has its name only when it is
    whole, so what is there is finished.
    """
    folder.mkdir(parents=True, exist_ok=True)
    encoded = 0
    for number, batch in enumerate(in_batches(texts)):
        path = folder / f"{number:06}.tokens"
        if path.exists():
            continue
        ids = encode_batch(tokenizer.to_json(), batch, separate=True)
        write_tokens(path, ids, tokenizer.vocab_size, tokenizer.fingerprint)
        encoded += 1
    return encoded


def mixture(
    streams: list[Iterable[T]], shares: list[int], seed: int = 0
) -> Iterator[T]:
    """Documents of several streams, each as often as its share says.

    Ends with the first stream that is exhausted, so the shares hold to the
    end.
    """
    draw = random.Random(seed)
    sources = [iter(stream) for stream in streams]
    while True:
        (source,) = draw.choices(sources, shares)
        try:
            yield next(source)
        except StopIteration:
            return


def sample(documents: Iterable[T], count: int, seed: int = 0) -> list[T]:
    """`count` documents of a stream, each with the same chance.

    Algorithm R: the i-th document comes in with probability count / i, in
    the place of one that was drawn by lot.
    """
    draw = random.Random(seed)
    kept: list[T] = []
    for number, document in enumerate(documents):
        if number < count:
            kept.append(document)
        elif (place := draw.randrange(number + 1)) < count:
            kept[place] = document
    return kept


def copying_share(tokenizer: Tokenizer, text: str, characters: int) -> float:
    """Which part of the time of a batch goes into copying it."""
    batch = Batch(0, [text[:characters]])
    start = time.perf_counter()
    ids = encode_batch(tokenizer.to_json(), batch, separate=True)
    encoded = time.perf_counter()
    for thing in ((tokenizer.to_json(), batch, True), ids):
        ForkingPickler.loads(ForkingPickler.dumps(thing))
    copied = time.perf_counter() - encoded
    return copied / (encoded - start + copied)
