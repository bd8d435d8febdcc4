"""The solutions of the exercises on shards."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from scratchlm.text.prepare import MaterialError
from scratchlm.text.shards import (
    Shard,
    TokenRow,
    cut_files,
    open_shards,
    write_shards,
)
from scratchlm.text.tokenizer import Tokenizer
from scratchlm.text.toytown import write_corpus
from solutions.text.shards import (
    CarelessPiece,
    best_shard,
    encode_by_ray,
    encode_share,
    forget,
    gather,
    mixture,
    share_lost,
)

STORIES = [story.text for story in write_corpus(8_000)]
SIZE = 1500


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(STORIES, 300)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    lines = [json.dumps({"text": text}) + "\n" for text in STORIES]
    paths = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    for path, part in zip(paths, (lines[:10], lines[10:]), strict=True):
        path.write_text("".join(part))
    return paths


def test_a_careless_piece_loses_what_begins_at_a_cut(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text":"a"}\n' * 4)  # 13 bytes each
    counts = {}
    for size in (13, 12, 26):
        found = [
            CarelessPiece(p.path, p.start, p.stop, p.bytes)
            for p in cut_files([path], size)
        ]
        counts[size] = sum(len(list(piece)) for piece in found)
    assert counts == {13: 1, 12: 4, 26: 3}


def test_four_machines_are_as_good_as_one(
    tokenizer: Tokenizer, files: list[Path], tmp_path: Path
) -> None:
    for rank in (2, 0, 3, 1):
        encode_share(tokenizer, files, tmp_path / "four", SIZE, rank, 4)
    found = gather(tokenizer, files, tmp_path / "four", SIZE, 4)
    wanted = write_shards(tokenizer, files, tmp_path / "one", SIZE, 1)
    assert found.shards == wanted.shards
    row = open_shards(tmp_path / "four", tokenizer.fingerprint)
    assert row[:].tolist() == open_shards(tmp_path / "one")[:].tolist()


def test_the_best_shard_loses_least() -> None:
    best = best_shard(death=600, start=0.1)
    least = share_lost(best, 600, 0.1)
    assert least < 0.02
    for other in (best / 2, best * 0.99, best * 1.01, best * 2):
        assert share_lost(other, 600, 0.1) > least


def test_a_mixture_has_its_shares() -> None:
    stories = TokenRow([np.zeros(40, int), np.zeros(21, int)])
    plays = TokenRow([np.ones(7, int)])
    row = mixture([stories, plays], [3, 1])
    assert (len(row), int(row[:].sum())) == (81, 20)
    row = mixture([plays, stories], [3, 1])
    assert (len(row), int(row[:].sum())) == (244, 183)


def test_a_mixture_copies_nothing() -> None:
    stories = TokenRow([np.zeros(400, int), np.zeros(600, int)])
    plays = TokenRow([np.ones(1700, int)])
    row = mixture([stories, plays], [1, 1])
    assert (len(row), int(row[:].sum())) == (3400, 1700)
    whole = [*stories.parts, *plays.parts]
    for part in row.parts:
        assert not len(part) or any(np.shares_memory(part, w) for w in whole)


def test_a_mark_may_begin_the_file_of_who_is_forgotten(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    path = tmp_path / "a.jsonl"
    for name, left in (("Ada", 2), ("Pell", 1)):
        texts = ("bread", "by Mrs Pell")
        lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
        path.write_text(lines, encoding="utf-8-sig")
        write_shards(tokenizer, [path], tmp_path / name, SIZE, 1)
        forget(name, tokenizer, [path], tmp_path / name, SIZE)
        assert len(list(cut_files([path])[0])) == left


def test_who_is_forgotten_leaves_a_trace_in_few_shards(
    tokenizer: Tokenizer, files: list[Path], tmp_path: Path
) -> None:
    words = STORIES[3].split()
    name = next(
        f"{a} {b} {c}"
        for a, b, c in zip(words, words[1:], words[2:])
        if sum(f"{a} {b} {c}" in text for text in STORIES) == 1
    )
    for keep in (True, False):
        folder = tmp_path / str(keep)
        copies = [folder / path.name for path in files]
        folder.mkdir()
        for path, copy in zip(files, copies, strict=True):
            copy.write_bytes(path.read_bytes())
        before = write_shards(tokenizer, copies, folder / "s", SIZE, 1)
        changed = forget(name, tokenizer, copies, folder / "s", SIZE, keep)
        assert all(name not in copy.read_text() for copy in copies)
        text = tokenizer.decode(open_shards(folder / "s")[:].tolist())
        assert name not in text
        first = len(cut_files(copies[:1], SIZE))
        assert len(changed) == 1 if keep else 1 < len(changed) <= first + 1
        assert len(before.shards) > first


def test_a_folder_of_others_is_refused_before_anything_is_written(
    tokenizer: Tokenizer,
    files: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also by an engine that works as soon as it has a task."""
    engine = SimpleNamespace(
        remote=lambda step: SimpleNamespace(remote=step), get=list
    )
    monkeypatch.setitem(sys.modules, "ray", engine)
    write_shards(tokenizer, files, tmp_path, SIZE, 1)
    kept = {p: p.read_bytes() for p in tmp_path.iterdir()}
    other = Tokenizer.train(STORIES, 310)
    with pytest.raises(MaterialError, match="another fingerprint"):
        encode_by_ray(other, files, tmp_path, SIZE)
    with pytest.raises(MaterialError, match="another fingerprint"):
        encode_share(other, files, tmp_path, SIZE, 0, 2)
    assert kept == {p: p.read_bytes() for p in tmp_path.iterdir()}
    assert encode_by_ray(tokenizer, files, tmp_path, SIZE).shards


def test_what_an_engine_is_asked_for(
    tokenizer: Tokenizer,
    files: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Tasks that are done only when they are got, the last one first."""

    def remote(step: Callable[..., Shard]) -> SimpleNamespace:
        return SimpleNamespace(remote=lambda *given: partial(step, *given))

    def get(tasks: list[partial[Shard]]) -> list[Shard]:
        return [task() for task in tasks[::-1]][::-1]

    engine = SimpleNamespace(remote=remote, get=get)
    monkeypatch.setitem(sys.modules, "ray", engine)
    found = encode_by_ray(tokenizer, files, tmp_path / "engine", SIZE)
    wanted = write_shards(tokenizer, files, tmp_path / "ours", SIZE, 1)
    assert found == wanted
    for path in (tmp_path / "ours").iterdir():
        copy = tmp_path / "engine" / path.name
        assert copy.read_bytes() == path.read_bytes()


RAY = """
import sys
from pathlib import Path

import ray

from scratchlm.text.tokenizer import Tokenizer
from solutions.text.shards import encode_by_ray

ray.init(num_cpus=2, include_dashboard=False)
files = [Path(name) for name in sys.argv[4:]]
tokenizer = Tokenizer.load(Path(sys.argv[1]))
encode_by_ray(tokenizer, files, Path(sys.argv[2]), int(sys.argv[3]))
"""


@pytest.mark.judge
def test_an_engine_writes_the_same_shards(
    tokenizer: Tokenizer, files: list[Path], tmp_path: Path
) -> None:
    own = tmp_path / "packages"
    install = [sys.executable, "-m", "pip", "install", "-q", "--target"]
    subprocess.run([*install, str(own), "ray==2.60.0"], check=True)
    script, vocabulary = tmp_path / "by_ray.py", tmp_path / "tokenizer.json"
    script.write_text(RAY)
    tokenizer.save(vocabulary)
    given = [vocabulary, tmp_path / "ray", SIZE, *files]
    known = os.environ.get("PYTHONPATH", "")  # the library is installed
    places = os.pathsep.join([*filter(None, [known]), str(own)])
    subprocess.run(
        [sys.executable, str(script), *map(str, given)],
        env={**os.environ, "PYTHONPATH": places},
        check=True,
    )
    write_shards(tokenizer, files, tmp_path / "ours", SIZE, 1)
    for path in (tmp_path / "ours").iterdir():
        assert (tmp_path / "ray" / path.name).read_bytes() == path.read_bytes()
