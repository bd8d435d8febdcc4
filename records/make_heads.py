"""What heads are worth, and what attention costs in either form."""

import math
import statistics
import time
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scratchlm.model.heads import MultiHeadAttention
from scratchlm.text.characters import CharTokenizer
from scratchlm.text.toytown import join, split_stories, write_corpus

CHANNELS, CONTEXT, STEPS, SEEDS = 64, 64, 1000, 3
SHAPES = (  # heads, and heads of keys
    *((heads, heads) for heads in (1, 2, 4, 8, 16, 32, 64)),
    *((8, kv_heads) for kv_heads in (4, 2, 1)),
)
TOKENS, LENGTHS, KV_HEADS = 4096, (64, 256, 1024), (8, 2, 1)


class OneLayer(nn.Module):
    """Tokens and positions, one attention layer, a guess."""

    def __init__(self, vocab_size: int, heads: int, kv_heads: int) -> None:
        """The same number of weights for any number of equal heads."""
        super().__init__()
        self.token = nn.Embedding(vocab_size, CHANNELS)
        self.position = nn.Embedding(CONTEXT, CHANNELS)
        self.attention = MultiHeadAttention(
            CHANNELS, heads, kv_heads, bias=False
        )
        self.guess = nn.Linear(CHANNELS, vocab_size)

    def forward(self, ids: Tensor) -> Tensor:
        """(B, T) → (B, T, V)."""
        x = self.token(ids) + self.position.weight[: ids.shape[1]]
        guess: Tensor = self.guess(x + self.attention(x))
        return guess


def letters() -> tuple[Tensor, Tensor, int]:
    """Toytown as characters: to train on, to judge by, and how many."""
    splits = split_stories(write_corpus(400_000))
    tokenizer = CharTokenizer.train(join(splits.train))
    parts = (splits.train, splits.validation)
    train, valid = (torch.tensor(tokenizer.encode(join(p))) for p in parts)
    return train, valid, tokenizer.vocab_size


def loss_on(
    model: nn.Module, stream: Tensor, generator: torch.Generator
) -> Tensor:
    """Mean nats on sixteen random windows."""
    high = len(stream) - CONTEXT - 1
    at = torch.randint(high, (16, 1), generator=generator)
    rows = stream[at + torch.arange(CONTEXT + 1)]
    logits = model(rows[:, :-1])
    return F.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())


def train_layer(
    stream: Tensor, model: OneLayer, seed: int, steps: int
) -> list[float]:
    """Train in place; returns the losses of the steps."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(seed)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = loss_on(model, stream, generator)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def quality(heads: int, kv_heads: int) -> dict[str, Any]:
    """Bits per unseen letter after training, by seed."""
    train, valid, size = letters()
    bits: list[float] = []
    first: list[float] = []
    for seed in range(SEEDS):
        torch.manual_seed(seed)
        model = OneLayer(size, heads, kv_heads)
        losses = train_layer(train, model, seed, STEPS)
        first = first or losses[:5]
        generator = torch.Generator().manual_seed(99)
        with torch.no_grad():
            nats = [loss_on(model, valid, generator) for _ in range(40)]
        bits.append(torch.stack(nats).mean().item() / math.log(2))
    return {
        "heads": heads,
        "kv_heads": kv_heads,
        "bits": [round(b, 4) for b in bits],
        "first": [round(loss, 6) for loss in first],
    }


def build(kv_heads: int, reference: bool) -> MultiHeadAttention:
    """A layer with the same weights at every call."""
    torch.manual_seed(0)
    return MultiHeadAttention(256, 8, kv_heads, bias=False, reference=reference)


def batch(length: int) -> Tensor:
    """`TOKENS` tokens in rows of `length`."""
    generator = torch.Generator().manual_seed(length)
    return torch.randn(TOKENS // length, length, 256, generator=generator)


def milliseconds(layer: MultiHeadAttention, x: Tensor) -> float:
    """Median of five runs forward and back, after one to warm up."""
    times = []
    for _ in range(6):
        start = time.perf_counter()
        layer(x).sum().backward()
        times.append(1000 * (time.perf_counter() - start))
    return round(statistics.median(times[1:]), 2)


def timing(length: int, kv_heads: int) -> dict[str, Any]:
    """Milliseconds of both forms, and a number to know the output by."""
    x = batch(length)
    fused, plain = build(kv_heads, False), build(kv_heads, True)
    with torch.no_grad():
        size = fused(x).abs().mean().item()
    return {
        "length": length,
        "kv_heads": kv_heads,
        "reference": milliseconds(plain, x),
        "fused": milliseconds(fused, x),
        "size": round(size, 6),
    }


def record() -> dict[str, Any]:
    """Quality by number of heads, and times of both forms by length."""
    torch.set_num_threads(1)
    times = [timing(n, k) for n in LENGTHS for k in KV_HEADS]
    return {
        "steps": STEPS,
        "times": times,
        "quality": [quality(heads, kv_heads) for heads, kv_heads in SHAPES],
    }


def replay(data: dict[str, Any]) -> None:
    """The first losses, and both forms' outputs, are still the recorded."""
    train, _, size = letters()
    for row in data["quality"][:4]:
        torch.manual_seed(0)
        model = OneLayer(size, row["heads"], row["kv_heads"])
        losses = train_layer(train, model, 0, len(row["first"]))
        for got, wanted in zip(losses, row["first"], strict=True):
            assert abs(got - wanted) < 1e-3, (row, losses)
    for row in data["times"][: len(KV_HEADS)]:
        x = batch(row["length"])
        for reference in (False, True):
            layer = build(row["kv_heads"], reference)
            with torch.no_grad():
                got = layer(x).abs().mean().item()
            assert abs(got - row["size"]) < 1e-4, (row, got)
