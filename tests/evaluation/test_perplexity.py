"""Evaluation: every token once, closed forms, and honest intervals."""

import math
import sys

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from scratchlm.evaluation.perplexity import (
    Evaluation,
    bits_per_byte,
    bootstrap,
    by_document,
    by_position,
    evaluate,
    gap,
    perplexity,
)
from scratchlm.model.gpt import GPT, GPTConfig
from scratchlm.text.toytown import entropy_per_token, write_corpus
from scratchlm.training.trainer import validation_loss


class Uniform(nn.Module):
    """Believes nothing, and has no parameters."""

    def forward(self, ids: Tensor) -> Tensor:
        return torch.zeros(*ids.shape, 6)


def small_gpt(dropout: float = 0.0) -> GPT:
    torch.manual_seed(0)
    model = GPT(
        GPTConfig(
            vocab_size=11,
            context=8,
            layers=2,
            heads=2,
            channels=16,
            dropout=dropout,
        )
    )
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p) * 0.2)
    return model


def test_agrees_with_the_loss_of_the_trainer() -> None:
    model = small_gpt()
    ids = np.random.default_rng(0).integers(11, size=100).astype(np.uint16)
    result = evaluate(model, ids, 8)
    assert result.tokens == 99
    wanted = validation_loss(model, ids, 8)
    assert result.nats_per_token == pytest.approx(wanted, abs=1e-6)


def test_a_die() -> None:
    result = evaluate(Uniform(), [1, 2, 3, 4, 5, 0, 1], context=4)
    assert result.tokens == 6
    assert result.perplexity == pytest.approx(6)
    assert result.nats == pytest.approx(6 * math.log(6))


class Diligent(Uniform):
    """Notes how many windows it is given at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.windows: list[int] = []

    def forward(self, ids: Tensor) -> Tensor:
        self.windows.append(len(ids))
        return super().forward(ids)


def test_thirty_two_windows_at_a_time_unless_told_otherwise() -> None:
    model = Diligent()
    evaluate(model, [0] * 81, context=2)
    assert model.windows == [32, 8]
    evaluate(model, [0] * 81, context=2, batch_size=30)
    assert model.windows[2:] == [30, 10]


def test_the_mean_is_made_in_double_precision() -> None:
    """ln 2 nats, nearly fifty thousand times, and once a million."""

    class Surprised(nn.Module):
        def forward(self, ids: Tensor) -> Tensor:
            logits = torch.zeros(*ids.shape, 2)
            logits[..., 1] = ids * 1e6
            return logits

    tokens = [0] * 50_000
    tokens[7] = 1
    result = evaluate(Surprised(), tokens, context=1000)
    others = (len(tokens) - 2) * float(torch.tensor(2.0).log())
    wanted = (others + 1e6) / (len(tokens) - 1)
    assert result.nats_per_token == pytest.approx(wanted, rel=1e-9)


def test_perplexity_of_the_impossible() -> None:
    assert perplexity(0) == 1
    assert perplexity(1e6) == math.inf
    assert Evaluation(math.inf, 3).perplexity == math.inf
    largest = math.log(sys.float_info.max)
    assert perplexity(709.78) == math.exp(709.78) < math.inf
    assert perplexity(largest + 1e-9) == math.inf
    assert math.isnan(perplexity(math.nan))


def test_a_stride_of_nothing_is_refused() -> None:
    for stride in (0, -1, 5):
        with pytest.raises(ValueError, match=f"stride {stride} "):
            evaluate(Uniform(), [0] * 9, 4, stride=stride)
    for tokens in ([], [3]):
        with pytest.raises(ValueError, match="takes two to predict one"):
            evaluate(Uniform(), tokens, 4)


def test_bits_per_byte_do_not_see_the_tokens() -> None:
    text = "fün\u2009f!"  # 9 bytes of UTF-8
    size = len(text.encode())
    assert size == 9
    bytewise = Evaluation(math.log(256), size)  # each byte one token
    pairwise = Evaluation(2 * math.log(256), size // 2)
    assert bits_per_byte(bytewise.nats, size) == pytest.approx(8)
    assert bits_per_byte(pairwise.nats, size - 1) == pytest.approx(8)
    with pytest.raises(ValueError, match="0 bytes"):
        bits_per_byte(1.0, 0)
    assert bits_per_byte(math.log(2), 1) == 1


def test_gap() -> None:
    stories = write_corpus(3_000)
    floor = entropy_per_token(stories, 700)
    result = Evaluation(floor + 0.25, 700)
    assert gap(result, stories) == pytest.approx(0.25)


def test_by_position_against_loops() -> None:
    losses = torch.rand(23)
    for context in (1, 4, 23, 40):
        got = by_position(losses, context)
        wanted = [
            float(losses[t::context].mean()) for t in range(min(context, 23))
        ]
        assert got.tolist() == pytest.approx(wanted)


def test_by_document() -> None:
    losses = torch.tensor([1.0, 2, 3, 4, 5, 6])
    table = by_document(losses, [7, 0, 0, 7, 7, 0], end_id=0)
    assert table.tolist() == [[3, 2], [3, 1], [15, 3]]
    # what follows the last end is a document too
    table = by_document(losses, [7, 0, 0, 7, 7, 7], end_id=0)
    assert table[:, 1].tolist() == [2, 1, 3]
    # in half precision, and added up in double
    many = torch.full((300,), 1.5, dtype=torch.bfloat16)
    assert by_document(many, [7] * 300, end_id=0).tolist() == [[450, 300]]
    assert by_document(losses[:0], [], end_id=0).shape == (0, 2)


def test_bootstrap_covers_the_truth() -> None:
    draw = np.random.default_rng(3)
    hits = 0
    for _ in range(100):
        counts = draw.integers(20, 60, size=80)
        nats = counts * (1.5 + draw.normal(0, 0.3, size=80))
        low, high = bootstrap(np.stack([nats, counts], 1), samples=200)
        assert low < high
        hits += low < 1.5 < high
    assert 85 <= hits <= 100  # 95 expected


def test_bootstrap_by_hand() -> None:
    """A thousand draws of as many documents, and 95 % of their means."""
    table = np.random.default_rng(1).random((30, 2)) + 1
    draw, means = np.random.default_rng(0), []
    for _ in range(1000):
        nats, tokens = table[draw.integers(30, size=30)].T
        means.append(nats.sum() / tokens.sum())
    wanted = [np.quantile(means, share) for share in (0.025, 0.975)]
    assert bootstrap(table) == pytest.approx(wanted, abs=1e-9)
    low, high = bootstrap(table[:2])
    ratios = sorted(table[:2, 0] / table[:2, 1])
    assert (low, high) == pytest.approx(ratios)


def test_bootstrap_edges() -> None:
    same = np.array([[2.0, 1.0]] * 5)
    assert bootstrap(same) == (2.0, 2.0)
    wide = np.random.default_rng(0).random((50, 2)) + 1
    assert bootstrap(wide) == bootstrap(wide)
    low, high = bootstrap(wide, level=0.5)
    lower, higher = bootstrap(wide, level=0.99)
    assert lower < low < high < higher
    with pytest.raises(ValueError, match="one document"):
        bootstrap(wide[:1])


def test_a_model_is_scored_in_the_precision_asked_for() -> None:
    model = small_gpt()
    ids = list(range(11)) * 4
    rough = evaluate(model, ids, 8, precision="bfloat16")
    wanted = validation_loss(model, ids, 8, precision="bfloat16")
    assert rough.nats_per_token == pytest.approx(wanted, abs=1e-9)
    exact = evaluate(model, ids, 8)
    assert rough.nats_per_token != exact.nats_per_token
