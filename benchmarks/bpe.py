"""Byte pairs: learning them and encoding with them, beside Rust."""

from collections.abc import Callable
from typing import Any

from benchmarks.measure import (
    Row,
    in_a_process,
    load,
)
from benchmarks.texts import shakespeare, toytown
from scratchlm.generation.speed import medians, take_turns
from scratchlm.text.bpe import PATTERN
from scratchlm.text.exchange import to_tiktoken, to_tokenizers
from scratchlm.text.tokenizer import Tokenizer

SMALL, LARGE = 8_192, 16_384
LARGE_TEXT = 50_000_000  # characters of Toytown; as many bytes
ENCODED = 10_000_000
LONG_PIECE = 50_000

# A process of its own for each training on the large text: both libraries
# start cold, and the most memory that a process ever held is its own.
LARGE_RUN = """
import json, sys, time
from benchmarks.measure import peak_memory
who, path, vocab = sys.argv[1], sys.argv[2], int(sys.argv[3])

def stories():
    held = ""
    with open(path, encoding="utf-8") as file:
        while block := file.read(1 << 20):
            *whole, held = (held + block).split("\\0")
            yield from whole

if who == "ours":
    from scratchlm.text.tokenizer import Tokenizer
    start = time.perf_counter()
    tokens = Tokenizer.train(stories(), vocab, ()).vocab_size
else:
    from benchmarks.bpe import peer_train
    from benchmarks.measure import load
    load("tokenizers")
    start = time.perf_counter()
    tokens = peer_train(stories(), vocab)
seconds = time.perf_counter() - start
print(json.dumps(
    {"seconds": seconds, "bytes": peak_memory(), "tokens": tokens}
))
"""


def peer_train(texts: Any, vocab_size: int) -> int:
    """Train the peer's byte-level BPE, cut by our pattern; its size."""
    peer = load("tokenizers")
    from tokenizers import models, pre_tokenizers, trainers

    tokenizer = peer.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(peer.Regex(PATTERN), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(texts, trainer)
    return int(tokenizer.get_vocab_size())


def training(text: str) -> Row:
    """Learning 8,192 tokens from tiny Shakespeare."""
    times = take_turns(
        {
            "ours": lambda: Tokenizer.train(text, SMALL, ()),
            "peer": lambda: peer_train([text], SMALL),
        },
        what="learning, Shakespeare",
    )
    found = medians(times)
    return Row(
        f"learn {SMALL:,} tokens, Shakespeare",
        found["ours"],
        found["peer"],
        "tokenizers",
        "s",
        "no slower",
        found["ours"] <= found["peer"],
        times,
    )


def large_training() -> list[Row]:
    """Learning 16,384 tokens from 50 MB, each in a process of its own."""
    path = str(toytown(LARGE_TEXT))
    runs: dict[str, list[dict[str, Any]]] = {"ours": [], "peer": []}

    def one(who: str) -> Callable[[], None]:
        return lambda: runs[who].append(
            in_a_process(LARGE_RUN, who, path, str(LARGE))
        )

    take_turns({who: one(who) for who in runs}, what="learning, 50 MB")
    seconds = {w: [r["seconds"] for r in runs[w][1:]] for w in runs}
    memory = {w: [r["bytes"] / 1e9 for r in runs[w][1:]] for w in runs}
    tokens = {who: runs[who][0]["tokens"] for who in runs}
    if tokens["ours"] != tokens["peer"]:
        raise AssertionError(f"vocabularies differ in size: {tokens}")
    time, space = medians(seconds), medians(memory)
    what = f"learn up to {LARGE:,} tokens, 50 MB of Toytown"
    return [
        Row(
            what,
            time["ours"],
            time["peer"],
            "tokenizers",
            "s",
            "at most twice",
            time["ours"] <= 2 * time["peer"],
            {**seconds, "tokens": tokens["ours"]},
        ),
        Row(
            "  its resident memory",
            space["ours"],
            space["peer"],
            "tokenizers",
            "GB",
            "at most 1 GB",
            space["ours"] <= 1,
            memory,
        ),
    ]


def peers(tokenizer: Tokenizer) -> tuple[Any, Any]:
    """The same tokenizer for `tokenizers` and for `tiktoken`."""
    theirs = load("tokenizers").Tokenizer.from_str(to_tokenizers(tokenizer))
    fast = load("tiktoken").Encoding(**to_tiktoken(tokenizer))
    return theirs, fast


def encoding(text: str) -> list[Row]:
    """Encoding 10 MB on one thread, with an empty and a full cache."""
    tokenizer = Tokenizer.train(text, SMALL)
    theirs, fast = peers(tokenizer)
    long = text * -(-ENCODED // len(text))
    long = long[:ENCODED]

    def cold() -> None:
        tokenizer.cache.clear()
        tokenizer.encode_ordinary(long)

    ids = tokenizer.encode_ordinary(long)
    if not ids == theirs.encode(long).ids == fast.encode_ordinary(long):
        raise AssertionError("the three tokenizers disagree")
    times = take_turns(
        {
            "cold": cold,
            "warm": lambda: tokenizer.encode_ordinary(long),
            "tokenizers": lambda: theirs.encode(long),
            "tiktoken": lambda: fast.encode_ordinary(long),
        },
        what="encoding 10 MB",
    )
    seconds = medians(times)
    megabytes = len(long.encode()) / 1e6
    rate = {name: megabytes / value for name, value in seconds.items()}
    rows = []
    for cache in ("cold", "warm"):
        for peer, share in (("tokenizers", 1.0), ("tiktoken", 0.2)):
            words = "no slower" if share == 1 else "at least a fifth"
            rows.append(Row(
                f"encode {megabytes:.0f} MB, one thread, cache {cache}",
                rate[cache],
                rate[peer],
                peer,
                "MB/s",
                words,
                rate[cache] >= share * rate[peer],
                {cache: times[cache], peer: times[peer]},
            ))
    return rows


def long_piece(text: str) -> Row:
    """One word of 50,000 equal characters."""
    tokenizer = Tokenizer.train(text + 64 * ("a" * 64 + " "), SMALL)
    piece = b"a" * LONG_PIECE
    times = take_turns(
        {"ours": lambda: tokenizer.encode_piece(piece)}, what="long piece"
    )
    seconds = medians(times)["ours"]
    return Row(
        f"one piece of {LONG_PIECE:,} equal characters",
        seconds,
        None,
        "",
        "s",
        "under 0.2 s",
        seconds < 0.2,
        times,
    )


def rows() -> list[Row]:
    """All that is measured about byte pairs."""
    text = shakespeare()
    return [
        training(text),
        *large_training(),
        *encoding(text),
        long_piece(text),
    ]
