"""Four ways to cut Shakespeare and the town, beside two libraries.

`record` needs the package `sentencepiece`, which nothing else here does.
"""

import importlib
import io
import json
import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any

import tokenizers

from scratchlm.text.corpus import get
from scratchlm.text.pieces import (
    UNKNOWN,
    Unigram,
    bare_words,
    longest_match,
    marked_words,
    seed_model,
    train_unigram,
)
from scratchlm.text.toytown import join, split_stories, write_corpus

ROOT = Path(__file__).parent.parent
SIZE, TOWN_SIZE, TOWN = 2000, 400, 400_000
ENDINGS = ("s", "es", "ed", "ing", "er", "est", "ly", "ness", "less", "ful")
OUTSIDE = "<unk>"  # how Unigram models name what they do not know

Cut = Callable[[str], list[str]]


def repeated(words: Mapping[str, int]) -> Iterator[str]:
    """Each word as often as it occurs, for trainers that count themselves."""
    for word, count in words.items():
        yield from [word] * count


def library(words: Mapping[str, int], model: Any, trainer: Any) -> Any:
    """A tokenizer of the library that has learned from words."""
    made = tokenizers.Tokenizer(model)
    made.train_from_iterator(repeated(words), trainer)
    return made


def pairs(words: Mapping[str, int], size: int, end: str = "") -> Cut:
    """Byte-pair encoding of the library, on letters."""
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=size, show_progress=False, end_of_word_suffix=end
    )
    model = tokenizers.models.BPE(end_of_word_suffix=end)
    made = library(words, model, trainer)
    return lambda word: list(made.encode(word).tokens)


def word_pieces(words: Mapping[str, int], size: int) -> Cut:
    """The library's WordPiece vocabulary, and our longest match."""
    model = tokenizers.models.WordPiece(unk_token=UNKNOWN)
    trainer = tokenizers.trainers.WordPieceTrainer(
        vocab_size=size, show_progress=False
    )
    vocabulary = library(words, model, trainer).get_vocab()
    return lambda word: longest_match(word, vocabulary)


def of_tokenizers(words: Mapping[str, int], size: int) -> Unigram:
    """What the trainer of `tokenizers` makes of the same words."""
    trainer = tokenizers.trainers.UnigramTrainer(
        vocab_size=size + 1,
        show_progress=False,
        special_tokens=[OUTSIDE],
        unk_token=OUTSIDE,
    )
    made = library(words, tokenizers.models.Unigram(), trainer)
    vocabulary = json.loads(made.to_str())["model"]["vocab"]
    return Unigram({p: x for p, x in vocabulary if p != OUTSIDE})


def of_sentencepiece(text: str, size: int) -> tuple[Unigram, Any]:
    """What SentencePiece makes of the lines of a text, and its own model."""
    package = importlib.import_module("sentencepiece")
    file = io.BytesIO()
    package.SentencePieceTrainer.train(
        sentence_iterator=(line for line in text.split("\n") if line),
        model_writer=file,
        vocab_size=size + 3,  # three of its pieces are no text
        character_coverage=1.0,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        num_threads=1,
        minloglevel=2,
    )
    peer = package.SentencePieceProcessor(model_proto=file.getvalue())
    numbers = range(3, peer.get_piece_size())
    scores = {peer.id_to_piece(i): peer.get_score(i) for i in numbers}
    return Unigram(scores), peer


def nats(model: Unigram, words: Mapping[str, int]) -> float:
    """Nats per character of all words but the line ends, over all cuts."""
    rows = [(w, n) for w, n in words.items() if w != "\n"]
    total = -sum(n * model.forward(w)[-1] for w, n in rows)
    return total / sum(n * len(w) for w, n in rows)


def tokens(model: Unigram, words: Mapping[str, int]) -> int:
    """How many pieces the words become."""
    return sum(n * len(model.best(w)[0]) for w, n in words.items())


def endings(words: Iterable[str]) -> list[tuple[str, int]]:
    """Words that are another word and an ending; where the ending begins."""
    there = set(words)
    return sorted(
        (word, len(word) - len(ending))
        for word in there
        for ending in ENDINGS
        if word.endswith(ending)
        and len(word) - len(ending) >= 3
        and word.removesuffix(ending) in there
    )


def where_cut(cut: Cut, known: list[tuple[str, int]], mark: str) -> list[int]:
    """Words that are cut; those cut at the ending; all cuts in them.

    `mark` is put before each word, and is no letter of it.
    """
    several = right = cuts = 0
    for word, at in known:
        pieces = cut(mark + word)
        sizes = [len(bare(piece)) for piece in pieces]
        edges = [x for x in accumulate(sizes) if 0 < x < len(word)]
        several += bool(edges)
        right += at in edges
        cuts += len(set(edges))
    return [several, right, cuts]


def bare(piece: str) -> str:
    """A piece without the signs that say where it stands."""
    return piece.removeprefix("##").removesuffix("</w>").lstrip("\u2581")


def shakespeare(text: str) -> dict[str, Any]:
    """All ways on Shakespeare: lengths, endings, nats of the three Unigrams."""
    cut = int(0.9 * len(text))
    parts = text[:cut], text[cut:]
    plain, marked = map(bare_words, parts), list(map(marked_words, parts))
    words, valid = map(Counter, plain)
    with_marks = Counter(marked[0])
    known = endings(words)
    unigram = train_unigram(seed_model(with_marks), with_marks, SIZE)
    peers = {
        "ours": unigram,
        "tokenizers": of_tokenizers(with_marks, SIZE),
        "sentencepiece": of_sentencepiece(parts[0], SIZE)[0],
    }
    front = lru_cache(None)(pairs(with_marks, SIZE))
    best = lru_cache(None)(lambda word: unigram.best(word)[0])
    ways = (
        ("</w>", pairs(words, SIZE, "</w>"), valid, ""),
        ("WordPiece", word_pieces(words, SIZE), valid, ""),
        ("byte pairs", front, Counter(marked[1]), "\u2581"),
        ("Unigram", best, Counter(marked[1]), "\u2581"),
    )
    rows: list[dict[str, Any]] = []
    for name, way, read, mark in ways:
        used = sum(n * len(way(w)) for w, n in read.items())
        several, right, cuts = where_cut(way, known, mark)
        rows.append(
            {
                "way": name,
                "letters": len(parts[1]) / used,
                "cut": several,
                "right": right,
                "cuts": cuts,
            }
        )
        print(rows[-1], flush=True)
    return {
        "words": len(words),
        "endings": len(known),
        "ways": rows,
        "nats": {name: nats(peer, with_marks) for name, peer in peers.items()},
    }


def town() -> tuple[str, str]:
    """What the chapter learns from, and what it reads."""
    splits = split_stories(write_corpus(TOWN))
    return join(splits.train), join(splits.validation)


def beside_sentencepiece() -> dict[str, Any]:
    """Its pieces for the town, its cuts of other stories, and our own."""
    text, other = town()
    words = Counter(marked_words(text))
    theirs, peer = of_sentencepiece(text, TOWN_SIZE)
    lines = [line for line in other.split("\n") if line]
    cuts = [peer.encode(line, out_type=str) for line in lines]
    ours = train_unigram(seed_model(words), words, TOWN_SIZE)
    package = importlib.import_module("sentencepiece")
    return {
        "version": package.__version__,
        "pieces": [[piece, score] for piece, score in theirs.scores.items()],
        "lines": len(lines),
        "same": sum(
            got == cut_line(theirs, line) for got, line in zip(cuts, lines)
        ),
        "first": cuts[:20],
        "nats": {"ours": nats(ours, words), "theirs": nats(theirs, words)},
        "tokens": sum(map(len, cuts)),
        "ours": tokens(
            ours, Counter(w for x in lines for w in marked_words(x))
        ),
    }


def cut_line(model: Unigram, line: str) -> list[str]:
    """The best cut of a line, word by word."""
    return [p for word in marked_words(line) for p in model.best(word)[0]]


def record() -> dict[str, Any]:
    """Measure on Shakespeare and on the town."""
    mirror = os.environ.get("SCRATCHLM_MIRROR")
    path = get(
        "shakespeare", ROOT / "data", mirror=Path(mirror) if mirror else None
    )
    return {
        "town": beside_sentencepiece(),
        "size": SIZE,
        "tokenizers": tokenizers.__version__,
        "shakespeare": shakespeare(path.read_text(encoding="utf-8")),
    }


def replay(data: dict[str, Any]) -> None:
    """With its pieces and scores, we cut the town as SentencePiece did."""
    kept = data["town"]
    text, other = town()
    model = Unigram(dict(kept["pieces"]))
    lines = [line for line in other.split("\n") if line]
    cuts = [cut_line(model, line) for line in lines]
    assert cuts[:20] == kept["first"]
    assert sum(map(len, cuts)) == kept["tokens"]
    assert len(lines) == kept["lines"] == kept["same"]
    found = nats(model, Counter(marked_words(text)))
    assert math.isclose(found, kept["nats"]["theirs"], rel_tol=1e-9)
