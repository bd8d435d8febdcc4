"""The solutions of the exercises on token files and batches."""

import numpy as np
import pytest
import torch

from solutions.text.tokens import (
    SplitCursor,
    document_targets,
    random_windows,
    share_seen,
)


def test_a_step_has_one_batch() -> None:
    tokens = np.arange(500)
    one, target = random_windows(tokens, 10, 4, seed=1, step=9)
    two, _ = random_windows(tokens, 10, 4, seed=1, step=9)
    other, _ = random_windows(tokens, 10, 4, seed=1, step=10)
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert torch.equal(target, one + 1)
    last = max(
        int(random_windows(np.arange(12), 10, 50, 0, s)[1].max())
        for s in range(5)
    )
    assert last == 11  # the last token can be a target


def test_a_third_is_never_seen() -> None:
    assert share_seen(10_000, 10_000) == pytest.approx(1 - np.exp(-1), abs=1e-4)
    assert share_seen(10, 0) == 0
    seen = {
        int(x) for step in range(100)
        for x in random_windows(np.arange(101), 1, 1, 5, step)[0].flatten()
    }
    assert len(seen) / 100 == pytest.approx(share_seen(100, 100), abs=0.12)


def test_processes_share_an_epoch() -> None:
    cursors = [SplitCursor(np.arange(1000), 10, 2, 4, r, 3) for r in range(3)]
    parts = [set(cursor.starts.tolist()) for cursor in cursors]
    assert len(set.union(*parts)) == sum(map(len, parts)) >= 96
    again = SplitCursor(np.arange(1000), 10, 2, 4, 1, 3)
    cursors[1].next_batch()
    again.load_state_dict(cursors[1].state_dict())
    assert torch.equal(again.next_batch()[0], cursors[1].next_batch()[0])


def test_the_first_token_of_a_document_is_not_asked() -> None:
    x = torch.tensor([[5, 9, 6, 7]])
    y = torch.tensor([[9, 6, 7, 9]])
    assert document_targets(x, y, end=9).tolist() == [[9, -100, 7, 9]]
