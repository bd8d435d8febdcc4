"""What shards of a corpus must do."""

import json
import tempfile
from pathlib import Path

import numpy as np

from scratchlm.text import shards
from scratchlm.text.tokenizer import Tokenizer
from scratchlm.text.tokens import TokenFileError, encode_documents

from ..expect import equal, raises, true

STORIES = [
    f"On day {day} Mrs Pell counts {day * 7} loaves." for day in range(20)
]


def town() -> Tokenizer:
    """A small tokenizer with an end token."""
    return Tokenizer.train(STORIES, 280)


def corpus(texts: list[str] = STORIES) -> Path:
    """A file of documents as JSON lines."""
    path = Path(tempfile.mkdtemp()) / "town.jsonl"
    path.write_text("".join(json.dumps({"text": t}) + "\n" for t in texts))
    return path


def check_each_document_is_in_one_piece() -> None:
    """However the file is cut, all pieces together are the corpus."""
    path = corpus(STORIES[:4])
    line = path.read_bytes().index(b"\n") + 1
    for size in (1, 7, line, line + 1, 10_000):
        pieces = shards.cut_files([path], size)
        equal(
            [text for piece in pieces for text in piece],
            STORIES[:4],
            f"the documents of all pieces of {size} bytes",
            hint="a document belongs to the piece in which its line begins",
        )


def check_shards_are_the_corpus() -> None:
    """Opened as one row they are the documents, an end behind each."""
    tokenizer, folder = town(), Path(tempfile.mkdtemp()) / "shards"
    shards.write_shards(tokenizer, [corpus()], folder, 200, workers=1)
    row = shards.open_shards(folder, tokenizer.fingerprint)
    equal(
        row[:].tolist(),
        encode_documents(tokenizer, STORIES).tolist(),
        "the tokens of all shards",
    )


def check_slices_cross_seams() -> None:
    """A slice of several parts is that of one array."""
    whole = np.arange(10)
    row = shards.TokenRow([whole[:3], whole[3:3], whole[3:7], whole[7:]])
    equal(len(row), 10, "the length of the row")
    for start in range(10):
        for stop in range(start, 11):
            equal(
                row[start:stop].tolist(),
                whole[start:stop].tolist(),
                f"row[{start}:{stop}] of parts with 3, 0, 4 and 3 tokens",
            )


def check_what_is_done_stays() -> None:
    """A second run encodes nothing; a changed word, one shard."""
    tokenizer, path = town(), corpus()
    folder = path.parent / "shards"
    first = shards.write_shards(tokenizer, [path], folder, 200, 1).shards
    times = {p: p.stat().st_mtime_ns for p in folder.glob("*.tokens")}
    shards.write_shards(tokenizer, [path], folder, 200, 1)
    true(
        all(p.stat().st_mtime_ns == times[p] for p in times),
        "a second run leaves all shards as they are",
        hint="compare the hashes of piece and file with those in the row",
    )
    path.write_text(path.read_text().replace("day 3 ", "dog 3 "))
    again = shards.write_shards(tokenizer, [path], folder, 200, 1).shards
    equal(
        sum(again[name] != first[name] for name in again),
        1,
        "the number of shards that are new after one word was changed",
    )


def check_a_half_is_no_corpus() -> None:
    """Shards that stop at a bad line are no row, and can be gone on with."""
    tokenizer, path = town(), corpus()
    folder, good = path.parent / "shards", path.read_text()
    path.write_text(good.replace('"text": "On day 12', '"txet": "On day 12'))
    raises(
        ValueError,
        lambda: shards.write_shards(tokenizer, [path], folder, 200, 1),
        "a line without a text",
    )
    raises(
        TokenFileError,
        lambda: shards.open_shards(folder),
        "opening a folder that was never finished",
        hint="the manifest knows how many pieces there are",
    )
    path.write_text(good)
    shards.write_shards(tokenizer, [path], folder, 200, 1)
    true(len(shards.open_shards(folder)) > 0, "mended, it can be finished")
    path.write_text(good.replace('"text": "On day 1', '"txet": "On day 1', 1))
    raises(
        ValueError,
        lambda: shards.write_shards(tokenizer, [path], folder, 200, 1),
        "a line without a text, in a corpus that was whole",
    )
    raises(
        TokenFileError,
        lambda: shards.open_shards(folder),
        "opening old shards beside those that are to be made",
        hint="strike what has changed before anything is encoded",
    )


def check_a_changed_byte_is_noticed() -> None:
    """One token more or less, and the row is refused."""
    tokenizer, path = town(), corpus()
    folder = path.parent / "shards"
    shards.write_shards(tokenizer, [path], folder, 200, 1)
    damaged = folder / "00001.tokens"
    damaged.write_bytes(damaged.read_bytes()[:-2] + b"\x01\x00")
    raises(
        TokenFileError,
        lambda: shards.open_shards(folder),
        "opening shards of which one has another last token",
    )


def check_fewer_pieces_than_before() -> None:
    """Shards of pieces that there are no longer are deleted."""
    tokenizer, path = town(), corpus()
    folder = path.parent / "shards"
    shards.write_shards(tokenizer, [path], folder, 200, 1)
    before = len(list(folder.glob("*.tokens")))
    path.write_text(json.dumps({"text": STORIES[0]}) + "\n")
    manifest = shards.write_shards(tokenizer, [path], folder, 200, 1)
    equal(manifest.vocab_size, tokenizer.vocab_size, "the vocabulary")
    true(before > 1, "the whole corpus takes several shards")
    equal(
        [p.name for p in folder.glob("*.tokens")],
        ["00000.tokens"],
        "the shards of a corpus that is one story now",
    )


def check_what_is_no_file_of_lines_is_refused() -> None:
    """Plain text, a folder, a name that nobody has, pieces of nothing."""
    path = corpus()
    plain = path.with_suffix(".txt")
    plain.write_text("no lines of JSON")
    for name, wrong in (
        ("plain text", plain),
        ("a folder", path.parent),
        ("a file that is not there", path.with_name("other.jsonl")),
    ):
        raises(
            ValueError,
            lambda wrong=wrong: shards.cut_files([wrong]),  # type: ignore
            name,
        )
    raises(ValueError, lambda: shards.cut_files([path], 0), "pieces of 0 bytes")
    equal(len(shards.cut_files([path])), 1, "pieces of a small file, untold")


BUGS = {
    "a line that begins at a cut is lost": (
        "file.seek(self.start - 1)",
        "file.seek(self.start)",
    ),
    "a document ends with its piece": (
        "line := file.readline()",
        "line := file.readline(self.stop - at)",
    ),
    "nothing is skipped at a cut": (
        "            if self.start:\n",
        "            if False:\n",
    ),
    "a slice stops at the end of a part": (
        "start, part = end, part + 1",
        "start, part = stop, part + 1",
    ),
    "a slice begins one part too early": (
        "part = bisect_right(self.ends, start)",
        "part = max(bisect_right(self.ends, start) - 1, 0)",
    ),
    "whoever has a row is done": (
        "        and shard.source == piece.digest()\n",
        "",
    ),
    "everything is always encoded again": (
        "not is_done(manifest.shards.get(path.name), piece, path)",
        "path.name",
    ),
    "the number of pieces is not asked": (
        "    if len(manifest.shards) != manifest.pieces:\n",
        "    if not manifest.shards:\n",
    ),
    "hashes are written and never compared": (
        "            if found != shards[path.name].sha256:\n",
        "            if not found:\n",
    ),
    "what has changed stays in the manifest": (
        "            manifest.shards.pop(path.name, None)\n",
        "",
    ),
}
