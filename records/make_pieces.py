"""Four ways to cut Shakespeare and the town, beside two libraries.

`record` needs the package `sentencepiece`, which nothing else here does.
"""

import importlib
import io
import json
import math
import os
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any

import tokenizers
import torch
from torch import Tensor
from torch.nn import functional as F

from scratchlm.model.positions import PositionedModel, Turned
from scratchlm.text.corpus import get
from scratchlm.text.pieces import (
    Unigram,
    bare_words,
    longest_match,
    marked_words,
    seed_model,
    train_unigram,
    unmark,
)
from scratchlm.text.toytown import join, split_stories, write_corpus

ROOT = Path(__file__).parent.parent
SIZE, TOWN_SIZE, TOWN = 2000, 400, 400_000
ENDINGS = ("s", "es", "ed", "ing", "er", "est", "ly", "ness", "less", "ful")
TYPOS, POWER, STREAMS = 0.1, 0.2, 4
CONTEXT, CHANNELS, BATCH, STEPS, SEEDS = 64, 64, 8, 1500, 2

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


def pairs(words: Mapping[str, int], size: int, **marks: str) -> Cut:
    """Byte-pair encoding of the library, on letters."""
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=size, show_progress=False, **marks
    )
    made = library(words, tokenizers.models.BPE(**marks), trainer)
    return lambda word: list(made.encode(word).tokens)


def word_pieces(words: Mapping[str, int], size: int) -> Cut:
    """The library's WordPiece vocabulary, and our longest match."""
    model = tokenizers.models.WordPiece(unk_token="[UNK]")  # noqa: S106
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
        special_tokens=["<unk>"],
        unk_token="<unk>",  # noqa: S106
    )
    made = library(words, tokenizers.models.Unigram(), trainer)
    vocabulary = json.loads(made.to_str())["model"]["vocab"]
    return Unigram({p: x for p, x in vocabulary if p != "<unk>"})


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


def with_typos(words: Iterable[str], share: float) -> list[str]:
    """In a share of the longer words two letters have changed places."""
    generator, changed = random.Random(7), []
    for word in words:
        if len(word) > 3 and generator.random() < share:
            i = generator.randrange(1, len(word) - 2)
            word = word[:i] + word[i + 1] + word[i] + word[i + 2 :]
        changed.append(word)
    return changed


def losses(model: PositionedModel, rows: Tensor) -> Tensor:
    """Nats of all tokens of rows (N, T + 1) but the first."""
    logits = model(rows[:, :-1]).flatten(0, 1)
    return F.cross_entropy(logits, rows[:, 1:].flatten(), reduction="none")


def trained(streams: list[Tensor], size: int, seed: int) -> PositionedModel:
    """A small transformer; each step reads from one of the streams."""
    torch.manual_seed(seed)
    turned = Turned(CHANNELS // 4, CONTEXT)
    model = PositionedModel(size, turned, channels=CHANNELS)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(seed)
    for step in range(STEPS):
        stream = streams[step % len(streams)]
        last = len(stream) - CONTEXT - 1
        at = torch.randint(last, (BATCH, 1), generator=generator)
        optimizer.zero_grad()
        losses(model, stream[at + torch.arange(CONTEXT + 1)]).mean().backward()
        optimizer.step()
    return model


@torch.no_grad()
def bits(model: PositionedModel, stream: Tensor, characters: int) -> float:
    """Bits per character of a text whose tokens these are, in windows."""
    count = (len(stream) - 1) // CONTEXT
    at = CONTEXT * torch.arange(count)[:, None]
    rows = stream[at + torch.arange(CONTEXT + 1)].split(32)
    total = torch.cat([losses(model, part) for part in rows]).mean().item()
    return round(total * len(stream) / math.log(2) / characters, 4)


def learn_from(
    drawn: list[Cut], cut: Cut, texts: list[list[str]], pieces: list[str]
) -> dict[str, list[float]]:
    """Bits of a model, seed by seed: on clean text, and on typos.

    `drawn` cut the training text, one for each stream; `cut` the other two.
    """
    ids = {piece: i for i, piece in enumerate(pieces)}

    def stream(words: list[str], way: Cut) -> Tensor:
        return torch.tensor([ids.get(p, 0) for w in words for p in way(w)])

    train, clean, typos = texts
    streams = [stream(train, way) for way in drawn]
    found: dict[str, list[float]] = {"bits": [], "typos": []}
    for seed in range(SEEDS):
        model = trained(streams, len(pieces), seed)
        for name, words in (("bits", clean), ("typos", typos)):
            size = len(unmark(words))
            found[name].append(bits(model, stream(words, cut), size))
    return found


def drawing(model: Unigram, words: Mapping[str, int], seed: int) -> Cut:
    """Cuts that are drawn: for each word some, and one of them each time."""
    generator = random.Random(seed)
    pools = {
        word: [model.sample(word, POWER, generator) for _ in range(min(n, 20))]
        for word, n in words.items()
    }
    return lambda word: generator.choice(pools[word])


def shakespeare(text: str) -> dict[str, Any]:
    """All ways on Shakespeare: lengths, endings, and what a model learns."""
    torch.set_num_threads(1)
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
        ("</w>", pairs(words, SIZE, end_of_word_suffix="</w>"), valid, ""),
        ("WordPiece", word_pieces(words, SIZE), valid, ""),
        ("byte pairs", front, Counter(marked[1]), "\u2581"),
        ("Unigram", best, Counter(marked[1]), "\u2581"),
    )
    rows: list[dict[str, Any]] = []
    for name, way, texts, mark in ways:
        used = sum(n * len(way(w)) for w, n in texts.items())
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
    texts = [*marked, with_typos(marked[1], TYPOS)]
    found = sorted({p for w in with_marks for p in front(w)})
    learned = {"byte pairs": learn_from([front], front, texts, found)}
    print(learned, flush=True)
    scores = list(unigram.scores)
    learned["Unigram"] = learn_from([best], best, texts, scores)
    print(learned, flush=True)
    drawn = [drawing(unigram, with_marks, seed) for seed in range(STREAMS)]
    learned["sampled"] = learn_from(drawn, best, texts, scores)
    print(learned, flush=True)
    return {
        "words": len(words),
        "endings": len(known),
        "ways": rows,
        "learned": learned,
        "nats": {name: nats(peer, with_marks) for name, peer in peers.items()},
        "steps": STEPS,
        "power": POWER,
        "share of typos": TYPOS,
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
