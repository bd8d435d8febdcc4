"""Solutions on the learned bigram."""

import pytest
import torch

from scratchlm.model.bigram import (
    BigramModel,
    cross_entropy,
    table_gradient,
    train,
)
from solutions.model.bigram import ThinBigram, doubting_gradient, row_gradient

IDS = torch.tensor([0, 1, 0, 2, 0, 1, 1, 0, 2, 2, 0])  # 3 never occurs


def counts() -> torch.Tensor:
    table = torch.zeros(4, 4)
    ones = torch.ones(len(IDS) - 1)
    return table.index_put_((IDS[:-1], IDS[1:]), ones, accumulate=True)


def test_doubt_vanishes_at_smoothed_counts() -> None:
    table = (counts() + 0.5).log()
    slope = doubting_gradient(table, IDS[:-1], IDS[1:], 0.5)
    assert slope.abs().max() < 1e-6
    assert table_gradient(table, IDS[:-1], IDS[1:]).abs().max() > 0.01


def test_without_doubt_it_is_the_gradient() -> None:
    table = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))
    got = doubting_gradient(table, IDS[:-1], IDS[1:], 0.0)
    wanted = table_gradient(table, IDS[:-1], IDS[1:])
    assert torch.allclose(got, wanted, atol=1e-6)
    uses = counts().sum(dim=1, keepdim=True).clamp(min=1)
    by_rows = row_gradient(table, IDS[:-1], IDS[1:])
    assert torch.allclose(by_rows * uses / 10, wanted, atol=1e-6)


def test_rare_rows_keep_up() -> None:
    ids = torch.tensor([0, 0] * 200 + [1, 2] + [0])  # 1 occurs once
    plain, fair = torch.zeros(3, 3), torch.zeros(3, 3)
    for _ in range(50):
        plain -= table_gradient(plain, ids[:-1], ids[1:])
        fair -= row_gradient(fair, ids[:-1], ids[1:])
    assert plain.softmax(dim=-1)[1, 2] < 0.5
    assert fair.softmax(dim=-1)[1, 2] > 0.95


@pytest.mark.always
def test_a_thin_table_learns_less() -> None:
    drawn = torch.Generator().manual_seed(0)
    leads = torch.randn(8, 8, generator=drawn).mul(2).softmax(dim=-1)
    ids = [0]
    for _ in range(3000):
        ids.append(int(torch.multinomial(leads[ids[-1]], 1, generator=drawn)))
    text = torch.tensor(ids)
    losses = []
    torch.manual_seed(0)
    for model in (ThinBigram(8, 1), ThinBigram(8, 3), BigramModel(8)):
        train(model, text, 600, 512, 3.0, drawn)
        loss = cross_entropy(model(text[:-1]), text[1:])
        losses.append(loss.item())
    assert losses[0] > losses[1] > losses[2]
    assert ThinBigram(8, 2)(text[:6].view(2, 3)).shape == (2, 3, 8)
