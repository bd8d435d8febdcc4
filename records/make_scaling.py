"""Widths times rates in two forms, and the law of a dozen small runs.

All models read the same tokens of Toytown and are judged by the same unseen
stories, each token behind half a window at least. First three widths learn at
five rates each, in the standard form and in μP. Then, at the best rate of the
narrowest, models of four sizes learn from texts of three lengths; the longest
runs are looked at on their way, too. Last comes a model of four times the
largest size.
"""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scratchlm.model.gpt import GPT, gpt2_config
from scratchlm.text.tokenizer import Tokenizer
from scratchlm.text.tokens import BatchCursor, encode_documents
from scratchlm.text.toytown import (
    entropy_per_token,
    split_stories,
    write_corpus,
)
from scratchlm.training.scaling import multiplied_weights, use_mup
from scratchlm.training.trainer import TrainConfig, Trainer, token_losses

CHARACTERS, JUDGED, VOCABULARY = 4_000_000, 50, 512
CONTEXT, BATCH, LAYERS, HEAD = 64, 8, 2, 8
BASE, WIDTHS = 16, (16, 40, 96)
RATES, SHORT = (0.001, 0.003, 0.01, 0.03, 0.1), 60  # steps of the first part
CHANNELS, STEPS = (8, 16, 24, 32), (96, 192, 384)
LARGE, LONG = 72, 384  # channels and steps of the last run
SEEDS, SAME = 3, (24, 192)  # runs that differ in nothing but chance
FIRST = 3  # steps that are replayed


@cache
def town() -> tuple[np.ndarray, np.ndarray, float, int]:
    """Tokens to read, tokens to judge by, their entropy, the vocabulary."""
    splits = split_stories(write_corpus(CHARACTERS))
    texts = [story.text for story in splits.train]
    tokenizer = Tokenizer.train(texts[:300], VOCABULARY)
    judge = splits.validation[:JUDGED]
    other = encode_documents(tokenizer, [story.text for story in judge])
    floor = entropy_per_token(judge, len(other) - 1)  # the first is given
    text = encode_documents(tokenizer, texts)
    return text, other, floor, tokenizer.vocab_size


def trainer(
    channels: int, steps: int, rate: float, mup: bool, seed: int
) -> Trainer:
    """A run that has not begun, in either form."""
    text, other, _, size = town()
    torch.manual_seed(seed)
    heads = channels // HEAD
    shape = gpt2_config(size, CONTEXT, LAYERS, heads, channels, tied=False)
    config = TrainConfig(steps=steps, learning_rate=rate, warmup=20)
    cursor = BatchCursor(text, CONTEXT, BATCH, seed)
    made = Trainer(GPT(shape), cursor, other, config, Path("never-written"))
    if mup:
        use_mup(made, BASE)
    made.model.train()
    return made


def judged(made: Trainer, context: int = CONTEXT) -> float:
    """Nats per token of unseen stories, by overlapping windows."""
    losses = token_losses(
        made.model, made.validation, context, stride=context // 2
    )
    return round(losses.double().mean().item(), 4)


def run(
    channels: int,
    steps: int,
    rate: float,
    mup: bool = True,
    seed: int = 1,
    looks: tuple[int, ...] = (),
) -> dict[str, Any]:
    """Train one model; its loss at the end, and at the steps of `looks`."""
    made = trainer(channels, steps, rate, mup, seed)
    first, on_the_way = [], []
    for step in range(1, steps + 1):
        loss = made.train_step()["train_loss"]
        if step <= FIRST:
            first.append(loss)
        if step in looks:
            on_the_way.append(judged(made))
    return {
        "channels": channels,
        "weights": multiplied_weights(made.model.config),
        "steps": steps,
        "tokens": made.tokens,
        "rate": rate,
        "mup": mup,
        "seed": seed,
        "first": first,
        "on_the_way": on_the_way,
        "loss": judged(made),
    }


def record() -> dict[str, Any]:
    """Widths and rates, then sizes and lengths, then the large one."""
    torch.set_num_threads(1)
    _, _, floor, size = town()
    widths = [
        run(channels, SHORT, rate, mup)
        for channels in WIDTHS
        for mup in (False, True)
        for rate in RATES
        if channels > BASE or mup  # at the base both are the same run
    ]
    narrow = [row for row in widths if row["channels"] == BASE]
    rate = min(narrow, key=lambda row: row["loss"])["rate"]
    sweep = [
        run(channels, steps, rate, looks=STEPS if steps == max(STEPS) else ())
        for channels in CHANNELS
        for steps in STEPS
    ]
    return {
        "vocabulary": size,
        "context": CONTEXT,
        "layers": LAYERS,
        "head": HEAD,
        "batch": BATCH,
        "base": BASE,
        "floor": round(floor, 4),
        "rate": rate,
        "widths": widths,
        "sweep": sweep,
        "same": [run(*SAME, rate, seed=1 + number) for number in range(SEEDS)],
        "large": run(LARGE, LONG, rate),
    }


def replay(data: dict[str, Any]) -> None:
    """The first steps of one run of each kind are the same."""
    torch.set_num_threads(1)
    assert abs(town()[2] - data["floor"]) < 1e-3
    rows = [data["widths"][0], data["widths"][-1], data["sweep"][0]]
    for row in [*rows, data["large"]]:
        names = ("channels", "steps", "rate", "mup", "seed")
        made = trainer(*(row[name] for name in names))
        for wanted in row["first"]:
            got = made.train_step()["train_loss"]
            assert abs(got - wanted) < 1e-3, (got, row)
