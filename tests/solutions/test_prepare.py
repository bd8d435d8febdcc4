"""The solutions of the exercises on preparing a corpus."""

from collections import Counter
from itertools import repeat
from pathlib import Path

import numpy as np
import pytest

from scratchlm.text import prepare
from scratchlm.text.tokenizer import Tokenizer
from scratchlm.text.tokens import encode_documents, open_tokens
from scratchlm.text.toytown import write_corpus
from solutions.text.prepare import (
    copying_share,
    encode_resumably,
    mixture,
    sample,
)

STORIES = [story.text for story in write_corpus(20_000)]
TOWN = Tokenizer.train(STORIES, 400)


def test_a_killed_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare, "BATCH", 2000)
    count = encode_resumably(TOWN, STORIES, tmp_path)
    assert count > 5
    files = sorted(tmp_path.iterdir())
    for path in files[4:]:
        path.unlink()
    (tmp_path / "000004.tokens.partial").write_bytes(b"half")
    assert encode_resumably(TOWN, STORIES, tmp_path) == count - 4
    assert encode_resumably(TOWN, STORIES, tmp_path) == 0
    ids = np.concatenate([open_tokens(path).tokens for path in files])
    assert ids.tolist() == encode_documents(TOWN, STORIES).tolist()


def test_a_mixture_has_its_shares_and_order() -> None:
    streams = [repeat("a", 3000), repeat("b", 3000)]
    mixed = list(mixture(streams, [3, 1], seed=1))
    counts = Counter(mixed)
    assert counts["a"] == 3000
    assert 2.7 < counts["a"] / counts["b"] < 3.3
    again = mixture([repeat("a", 3000), repeat("b", 3000)], [3, 1], seed=1)
    assert list(again) == mixed
    assert list(mixture([[1, 2], []], [1, 0])) == [1, 2]


def test_a_sample_is_fair() -> None:
    drawn = Counter(
        number
        for seed in range(2000)
        for number in sample(range(10), 3, seed)
    )
    assert sorted(drawn) == list(range(10))
    assert all(abs(drawn[i] - 600) < 100 for i in range(10))
    assert sorted(sample(range(3), 5)) == [0, 1, 2]
    assert len(set(sample(iter(range(100)), 20))) == 20


def test_large_batches_are_worth_their_copies() -> None:
    text = "".join(STORIES)
    small = min(copying_share(TOWN, text, 20) for _ in range(5))
    large = min(copying_share(TOWN, text, 20_000) for _ in range(5))
    assert 0 < large < small < 1
