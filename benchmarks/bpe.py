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
LONG_PIECE = 200_000
LONG_WORD, LEARNED = 20_000, 800  # characters, tokens

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
            "no more",
            space["ours"] <= space["peer"],
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


def growth(
    what: str, work: Callable[[int], object], size: int, unit: str
) -> Row:
    """Twice as much work, beside the work: at most 2.3 times the time."""
    times = take_turns(
        {"twice": lambda: work(2 * size), "once": lambda: work(size)},
        what=what,
    )
    seconds = medians(times)
    return Row(
        f"{what}, {2 * size:,} {unit}",
        seconds["twice"],
        seconds["once"],
        "half as many",
        "s",
        "at most 2.3 times",
        seconds["twice"] <= 2.3 * seconds["once"],
        times,
    )


def long_pieces(text: str) -> list[Row]:
    """What is one word to the pattern, and long: time grows with length."""
    tokenizer = Tokenizer.train([text, *(s * 64 for s in "a \n")], SMALL)

    def letters(count: int) -> None:
        tokenizer.encode_piece(b"a" * count)

    def spaces(count: int) -> None:
        tokenizer.encode_piece(b" " * count)

    def learn(characters: int) -> None:
        signs = [chr(0x4E00 + i * i % 2003) for i in range(characters)]
        Tokenizer.train("".join(signs), LEARNED, ())

    signs = "characters"
    return [
        growth("encode one piece of letters", letters, LONG_PIECE, signs),
        growth("encode one piece of spaces", spaces, LONG_PIECE, signs),
        growth("learn from one word", learn, LONG_WORD, "ideographs"),
    ]


# In a process of its own, and a script, since other processes import it.
PREPARE_RUN = """
import json, sys, time
from pathlib import Path
from benchmarks.measure import peak_memory
from benchmarks.bpe import peers
from scratchlm.text.prepare import encode_to_file, processors
from scratchlm.text.tokenizer import Tokenizer

class Stories:
    def __iter__(self):
        held, left = "", int(sys.argv[4])
        with open(sys.argv[3], encoding="utf-8") as file:
            while left > 0 and (block := file.read(min(left, 1 << 20))):
                left -= len(block)
                *whole, held = (held + block).split("\\0")
                yield from whole

def ours(tokenizer):
    out = Path(sys.argv[3]).with_suffix(".tokens")
    return encode_to_file(tokenizer, Stories(), True, out, processors()).bytes

def peer(tokenizer):
    theirs, _ = peers(tokenizer)
    texts = list(Stories())
    theirs.encode_batch_fast(texts, add_special_tokens=False)
    return sum(len(text.encode()) for text in texts)

if __name__ == "__main__":
    tokenizer = Tokenizer.load(Path(sys.argv[2]))
    start = time.perf_counter()
    size = globals()[sys.argv[1]](tokenizer)
    seconds = time.perf_counter() - start
    print(json.dumps({"rate": size / seconds / 1e6, "bytes": peak_memory()}))
"""


def preparing() -> list[Row]:
    """Text to a token file, all processors, beside a batch of the peer."""
    path = toytown(LARGE_TEXT)
    head = path.read_text(encoding="utf-8")[:ENCODED]
    tokenizer = Tokenizer.train(head, SMALL)
    table = path.with_suffix(".json")
    tokenizer.save(table)
    runs: dict[str, list[dict[str, Any]]] = {}

    def one(who: str, size: int) -> Callable[[], None]:
        made = runs.setdefault(f"{who} {size}", [])
        return lambda: made.append(
            in_a_process(PREPARE_RUN, who, str(table), str(path), str(size))
        )

    half = LARGE_TEXT // 2
    sizes = (("ours", LARGE_TEXT), ("ours", half), ("peer", half))
    take_turns(
        {f"{who} {size}": one(who, size) for who, size in sizes},
        turns=3,
        what="preparing",
    )
    rate = medians({w: [r["rate"] for r in runs[w][1:]] for w in runs})
    space = medians({w: [r["bytes"] / 1e6 for r in runs[w][1:]] for w in runs})
    ours, less, peer = (f"ours {LARGE_TEXT}", f"ours {half}", f"peer {half}")
    return [
        Row(
            "text to token file, all processors",
            rate[ours],
            rate[peer],
            "tokenizers, batch",
            "MB/s",
            "no slower",
            rate[ours] >= rate[peer],
            runs,
        ),
        Row(
            "  its resident memory",
            space[ours],
            space[less],
            "half the text",
            "MB",
            "at most 1.1 times",
            space[ours] <= 1.1 * space[less],
        ),
    ]


def rows() -> list[Row]:
    """All that is measured about byte pairs."""
    text = shakespeare()
    return [
        training(text),
        *large_training(),
        *encoding(text),
        *long_pieces(text),
        *preparing(),
    ]
