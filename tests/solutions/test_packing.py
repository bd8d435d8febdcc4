"""Solutions on packing: shares, leaks, kernels' lengths, streams, cursors."""

import random

import pytest
import torch
from torch import Tensor

from scratchlm.model.gpt import GPT, gpt2_config
from scratchlm.model.heads import MultiHeadAttention
from scratchlm.training.packing import (
    Part,
    attend_apart,
    best_fit,
    document_mask,
    lay_out,
)
from solutions.training.packing import (
    PackedCursor,
    attend_in_turn,
    cumulative_lengths,
    fit_in_stream,
    leak,
    seen_share,
)


def some_parts(count: int, seed: int = 0) -> list[Part]:
    """Documents of three to nine random tokens below 20."""
    draw = random.Random(seed)
    texts = [
        [draw.randrange(20) for _ in range(draw.randint(3, 9))]
        for _ in range(count)
    ]
    return [(text, text) for text in texts]


def test_of_n_equal_documents_about_an_nth_is_seen() -> None:
    for n in (1, 2, 5, 10):
        sizes = [100] * n
        document = torch.arange(n).repeat_interleave(100)[None]
        counted = document_mask(document).sum().item()
        total = 100 * n * (100 * n + 1) / 2
        assert seen_share(sizes) == pytest.approx(counted / total)
        assert seen_share(sizes) == pytest.approx(1 / n, rel=0.01)


def causal(document: Tensor) -> Tensor:
    """The mask of one who forgot the documents."""
    return document_mask(torch.zeros_like(document))


def test_a_leak_is_found_where_there_is_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(0)
    model = GPT(gpt2_config(20, 32, 2, 2, 16))
    batch = lay_out([some_parts(3), some_parts(3, seed=1)], 32)
    assert all(leak(model, batch, number) < 1e-6 for number in (0, 1, 2))
    monkeypatch.setattr("scratchlm.training.packing.document_mask", causal)
    assert leak(model, batch, 0) > 1e-3


def test_lengths_are_what_kernels_want() -> None:
    document = torch.tensor([4, 4, 7, 7, 7, -1])
    got = cumulative_lengths(document)
    assert got.tolist() == [0, 2, 5, 6]
    assert got.dtype == torch.int32


def test_in_turn_is_under_a_mask() -> None:
    torch.manual_seed(0)
    layer = MultiHeadAttention(16, 4, kv_heads=2)
    x = torch.randn(12, 16)
    document = torch.tensor([0] * 5 + [1] * 4 + [-1] * 3)
    mask: Tensor = document_mask(document[None])[:, None]
    wanted = attend_apart(layer, x[None], mask)[0]
    got = attend_in_turn(layer, x, document)
    torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-4)


def test_a_few_open_rows_are_nearly_enough() -> None:
    draw = random.Random(2)
    sizes = [draw.randint(5, 60) for _ in range(600)]
    counts = {}
    for open_rows in (1, 4, 16, 600):
        rows = fit_in_stream(sizes, 128, open_rows)
        assert sorted(i for row in rows for i in row) == list(range(600))
        assert max(sum(sizes[i] for i in row) for row in rows) <= 128
        counts[open_rows] = len(rows)
    assert counts[600] <= counts[16] < counts[4] < counts[1]
    assert counts[16] <= 1.03 * len(best_fit(sizes, 128))


def test_a_cursor_goes_on_where_it_stopped() -> None:
    parts = some_parts(30)
    one = PackedCursor(parts, 24, 3, seed=1)
    for _ in range(4):
        one.next_batch()
    state = one.state_dict()
    rest = [one.next_batch().ids for _ in range(6)]
    assert one.epoch > state["epoch"]
    other = PackedCursor(parts, 24, 3, seed=5)
    other.load_state_dict(state)
    again = [other.next_batch().ids for _ in range(6)]
    assert all(torch.equal(a, b) for a, b in zip(rest, again, strict=True))
