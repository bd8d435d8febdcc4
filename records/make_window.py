"""A model that reads four times its context: windows, stretches, steps."""

import copy
import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from records.make_heads import letters
from scratchlm.model.embeddings import slow_down
from scratchlm.model.gpt import GPT, llama_config, next_token_loss
from scratchlm.model.heads import (
    MultiHeadAttention,
    attention_maps,
    fused_attention,
)
from scratchlm.model.window import (
    WindowAttention,
    banded_attention,
    interpolate,
    masked_attention,
    raise_base,
    sharpness,
    stretch,
    use_window,
    window_mask,
    yarn,
)

CONTEXT, LONG, LAYERS, HEADS, CHANNELS = 64, 256, 4, 4, 64
STEPS, ROWS, RATE, SEEDS = 800, 16, 3e-3, 2
MORE_STEPS, MORE_RATE = 60, 1e-3
WINDOWS, SINKS, WINDOW, BUCKET, TEXTS = (8, 16, 32, 64), 4, 32, 8, 128
FACTOR = LONG / CONTEXT
Change = Callable[[Tensor], Tensor]
STRETCHES: dict[str, tuple[Change, float]] = {
    "plain": (lambda waves: waves, 1.0),
    "interpolated": (partial(interpolate, factor=FACTOR), 1.0),
    "larger base": (partial(raise_base, factor=FACTOR), 1.0),
    "Llama 3": (partial(slow_down, factor=FACTOR, original=CONTEXT), 1.0),
    "YaRN": (
        partial(yarn, factor=FACTOR, original=CONTEXT),
        sharpness(FACTOR),
    ),
}
TUNED = ("plain", "interpolated", "larger base", "YaRN")
LENGTHS, TIMED_WINDOW, HEAD_SIZE, TIMES = (512, 1024, 2048, 4096), 128, 32, 5


def texts(
    stream: Tensor, length: int, count: int, generator: torch.Generator
) -> Tensor:
    """Random pieces, each with the letter after it: (count, length + 1)."""
    high = len(stream) - length - 1
    at = torch.randint(high, (count, 1), generator=generator)
    return stream[at + torch.arange(length + 1)]


def train(
    model: GPT,
    stream: Tensor,
    rows: int,
    steps: int,
    rate: float,
    seed: int,
    taken: int | None = None,
) -> list[float]:
    """Steps on pieces as long as the context, at a falling rate; losses.

    The rate falls over all `steps`, of which the first `taken` are taken.
    """
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=rate, betas=(0.9, 0.95)
    )
    generator = torch.Generator().manual_seed(seed)
    losses = []
    for step in range(steps if taken is None else taken):
        for group in optimizer.param_groups:
            group["lr"] = rate * (1 - 0.9 * step / steps)
        ids = texts(stream, model.config.context, rows, generator)
        loss = next_token_loss(model(ids[:, :-1]), ids[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def build(vocab_size: int, context: int, seed: int) -> GPT:
    """A small Llama with first weights of this seed."""
    torch.manual_seed(seed)
    return GPT(
        llama_config(vocab_size, context, LAYERS, HEADS, CHANNELS, tied=True)
    )


def stretched(model: GPT, name: str) -> GPT:
    """A copy of the model for `LONG` positions."""
    change, size = STRETCHES[name]
    return stretch(copy.deepcopy(model), LONG, change, size)


class NearSinks(WindowAttention):
    """Sinks that stand right before the window, wherever it is.

    As a cache of sinks and window numbers its entries (Xiao et al., 2023): a
    sink at its own place, the window after the sinks.
    """

    def attention(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(B, H, T, D); queries are turned back for the sinks alone."""
        return self.near_weights(q, k) @ v

    def near_weights(self, q: Tensor, k: Tensor) -> Tensor:
        """The weights (B, H, T, T) of queries and keys that are turned."""
        t, n = q.shape[2], self.sinks
        mask = window_mask(t, t, self.window, n, q.device)
        assert self.rotary is not None
        cos, sin = self.rotary.cos[:t], self.rotary.sin[:t]
        a, b = q.chunk(2, dim=-1)  # undo the rotation, and turn by less
        bare = torch.cat([a * cos + b * sin, b * cos - a * sin], dim=-1)
        place = torch.arange(t).clamp(max=n + self.window - 1)
        cos, sin = cos[place], sin[place]
        a, b = bare.chunk(2, dim=-1)
        near = torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)
        scores = q @ k.transpose(2, 3)
        left = ~window_mask(t, t, self.window)[:, :n]  # sinks left behind
        sinks = near @ k[:, :, :n].transpose(2, 3)
        scores[..., :n] = torch.where(left, sinks, scores[..., :n])
        scores = scores / math.sqrt(q.shape[-1])
        return scores.masked_fill(~mask, -math.inf).softmax(dim=-1)

    def head_weights(self, x: Tensor) -> Tensor:
        """Each head's weights, for `attention_maps`."""
        q, k, _ = self.split(x, start=0)
        return self.near_weights(q, k)


def with_near_sinks(model: GPT) -> GPT:
    """The model with a window and sinks that move along."""
    for block in model.blocks:
        layer = block.get_submodule("attention")
        assert isinstance(layer, MultiHeadAttention)
        block.attention = NearSinks(layer, WINDOW, SINKS)
    return model


@torch.no_grad()
def by_position(model: GPT, stream: Tensor) -> list[float]:
    """Bits per letter on pieces of `LONG`, for each `BUCKET` positions."""
    generator = torch.Generator().manual_seed(99)
    total = torch.zeros(LONG)
    for ids in texts(stream, LONG, TEXTS, generator).split(32):
        nats = next_token_loss(model(ids[:, :-1]), ids[:, 1:], "none")
        total += nats.view(len(ids), LONG).sum(dim=0)
    bits = total.view(-1, BUCKET).mean(dim=1) / TEXTS / math.log(2)
    return [round(b, 4) for b in bits.tolist()]


def on_sinks(model: GPT, stream: Tensor, length: int) -> list[float]:
    """The share of attention on the first keys, by quarters of the text."""
    generator = torch.Generator().manual_seed(99)
    ids = texts(stream, length, 16, generator)[:, :-1]
    maps = torch.stack(attention_maps(model, ids))  # (L, B, H, T, T)
    share = maps[..., :SINKS].sum(dim=-1).mean(dim=(0, 1, 2))  # (T,)
    return [round(part.mean().item(), 4) for part in share.chunk(4)]


def measured(seed: int) -> dict[str, Any]:
    """All that one model of its own seed can tell."""
    stream, unseen, size = letters()
    model = build(size, CONTEXT, seed)
    losses = train(model, stream, ROWS, STEPS, RATE, seed)
    curves: dict[str, list[float]] = {}

    def judge(name: str, reader: GPT) -> None:
        curves[name] = by_position(reader, unseen)
        print(seed, name, curves[name][::8], flush=True)

    for name in STRETCHES:
        judge(name, stretched(model, name))
    plain = stretched(model, "plain")
    for window in WINDOWS:
        judge(f"window {window}", use_window(copy.deepcopy(plain), window))
    old = use_window(copy.deepcopy(plain), WINDOW, SINKS)
    near = with_near_sinks(copy.deepcopy(plain))
    judge("sinks in old places", old)
    judge("sinks kept near", near)
    shares = {
        "at home": on_sinks(model, unseen, CONTEXT),
        "in old places": on_sinks(old, unseen, LONG),
        "kept near": on_sinks(near, unseen, LONG),
    }
    for name in TUNED:
        tuned = stretched(model, name)
        rows = ROWS * CONTEXT // LONG
        train(tuned, stream, rows, MORE_STEPS, MORE_RATE, seed + 50)
        judge(f"{name}, tuned", tuned)
    at_once = build(size, LONG, seed)
    train(at_once, stream, ROWS * CONTEXT // LONG, STEPS, RATE, seed)
    judge("trained long", at_once)
    judge("trained long, window", use_window(at_once, WINDOW))
    first = [round(loss, 6) for loss in losses[:3]]
    return {"seed": seed, "curves": curves, "shares": shares, "first": first}


def milliseconds(attend: Callable[..., Tensor], *what: Any) -> float:
    """Processor time of the fastest of `TIMES` calls, after one more."""
    attend(*what)
    times = []
    for _ in range(TIMES):
        start = time.process_time()
        attend(*what)
        times.append(1000 * (time.process_time() - start))
    return round(min(times), 2)


def heads_of(length: int) -> Tensor:
    """Queries, keys and values: (3, 1, H, T, D), the same at every call."""
    generator = torch.Generator().manual_seed(length)
    shape = (3, 1, HEADS, length, HEAD_SIZE)
    return torch.randn(shape, generator=generator)


@torch.no_grad()
def timing(length: int) -> dict[str, Any]:
    """Milliseconds of one layer's attention over a whole text."""
    q, k, v = heads_of(length)
    return {
        "length": length,
        "full": milliseconds(fused_attention, q, k, v),
        "masked": milliseconds(masked_attention, q, k, v, TIMED_WINDOW),
        "banded": milliseconds(banded_attention, q, k, v, TIMED_WINDOW),
    }


def record() -> dict[str, Any]:
    """Bits by position of each way to read on, and what a window costs."""
    torch.set_num_threads(1)
    runs = [measured(seed) for seed in range(SEEDS)]
    return {
        "context": CONTEXT,
        "long": LONG,
        "layers": LAYERS,
        "steps": STEPS,
        "more_steps": MORE_STEPS,
        "bucket": BUCKET,
        "window": WINDOW,
        "sinks": SINKS,
        "timed_window": TIMED_WINDOW,
        "runs": runs,
        "times": [timing(length) for length in LENGTHS],
    }


def replay(data: dict[str, Any]) -> None:
    """The first losses are the recorded ones; both forms agree again."""
    stream, _, size = letters()
    for run in data["runs"]:
        model = build(size, CONTEXT, run["seed"])
        steps = len(run["first"])
        seen = train(model, stream, ROWS, STEPS, RATE, run["seed"], steps)
        for got, wanted in zip(seen, run["first"], strict=True):
            assert abs(got - wanted) < 1e-3, (run["seed"], seen)
    q, k, v = heads_of(data["times"][0]["length"])
    window = data["timed_window"]
    gap = masked_attention(q, k, v, window) - banded_attention(q, k, v, window)
    assert gap.abs().max() < 1e-5
