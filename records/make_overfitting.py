"""Models too small and too large for ten stories, and what helps.

All are trained alike on letters of Toytown; only the number of channels, the
dropout, and how many stories there are to read differ. Each is measured on
what it reads and on stories that it never reads.
"""

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scratchlm.model.gpt import GPT, count_parameters, gpt2_config
from scratchlm.model.ngram import choose_ngram
from scratchlm.text.characters import CharTokenizer
from scratchlm.text.tokens import BatchCursor
from scratchlm.text.toytown import (
    Story,
    entropy_per_character,
    join,
    split_stories,
    write_corpus,
)
from scratchlm.training.overfitting import recited, watch
from scratchlm.training.trainer import TrainConfig, Trainer, read_log

CONTEXT, STEPS, SEEDS, JUDGED = 32, 800, 3, 24
BATCH, FIRST = 16, 3
FEW, WIDE = 10, 64  # stories, and channels of the model that is too large
CHANNELS = (4, 8, 16, 32, 64, 128)
DROPOUT = (0.1, 0.25)
STORIES = (40, 160)


@cache
def letters() -> tuple[list[Story], list[Story], CharTokenizer]:
    """Stories to read, stories to judge by, and the alphabet of both."""
    splits = split_stories(write_corpus(200_000))
    tokenizer = CharTokenizer.train(join(splits.train))
    return splits.train, splits.validation[:JUDGED], tokenizer


def encoded(tokenizer: CharTokenizer, stories: list[Story]) -> np.ndarray:
    """The ids of some stories, one behind the other."""
    return np.array(tokenizer.encode(join(stories)))


def build(size: int, channels: int, dropout: float, seed: int) -> GPT:
    """Two layers of two heads, whatever their width."""
    torch.manual_seed(seed)
    config = gpt2_config(size, CONTEXT, 2, 2, channels, dropout)
    return GPT(config)


def settings() -> TrainConfig:
    """Half a cosine after a short warm-up, whatever the model."""
    return TrainConfig(
        steps=STEPS,
        learning_rate=4e-3,
        warmup=30,
        evaluate_every=50,
        checkpoint_every=STEPS,
    )


def run(
    channels: int, stories: int, dropout: float = 0.0, seed: int = 0
) -> dict[str, Any]:
    """Train one model; both curves, and what it recites in the end."""
    train, judge, tokenizer = letters()
    text, other = encoded(tokenizer, train[:stories]), encoded(tokenizer, judge)
    model = build(tokenizer.vocab_size, channels, dropout, seed)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "run"
        curves = watch(model, text, other, settings(), place, BATCH)
        lines = read_log(place)[:FIRST]
    return {
        "channels": channels,
        "parameters": count_parameters(model),
        "stories": stories,
        "characters": len(text),
        "dropout": dropout,
        "seed": seed,
        "first": [line["train_loss"] for line in lines],
        "steps": list(curves.steps),
        "seen": [round(loss, 4) for loss in curves.seen],
        "unseen": [round(loss, 4) for loss in curves.unseen],
        "recites_seen": round(recited(model, text, 16, 16), 4),
        "recites_unseen": round(recited(model, other, 16, 16), 4),
    }


def counted() -> float:
    """Nats per letter of the best counts of those few stories."""
    train, judge, tokenizer = letters()
    text = encoded(tokenizer, train[:FEW])
    other = encoded(tokenizer, judge)
    return choose_ngram(text, tokenizer.vocab_size, [2]).nats(other)


def record() -> dict[str, Any]:
    """All runs: by size, then the cures of the one that is too large."""
    torch.set_num_threads(1)
    _, judge, _ = letters()
    seeds = range(SEEDS)
    return {
        "context": CONTEXT,
        "floor": round(entropy_per_character(judge), 4),
        "bigram": round(counted(), 4),
        "sizes": [run(channels, FEW) for channels in CHANNELS],
        "plain": [run(WIDE, FEW, seed=seed) for seed in seeds],
        "dropout": [
            run(WIDE, FEW, share, seed) for share in DROPOUT for seed in seeds
        ],
        "text": [
            run(WIDE, count, seed=seed) for count in STORIES for seed in seeds
        ],
    }


def first_losses(row: dict[str, Any]) -> list[float]:
    """The losses of the first steps of a recorded run, computed again."""
    train, judge, tokenizer = letters()
    text = encoded(tokenizer, train[: row["stories"]])
    model = build(
        tokenizer.vocab_size, row["channels"], row["dropout"], row["seed"]
    )
    trainer = Trainer(
        model,
        BatchCursor(text, CONTEXT, BATCH, seed=1),
        encoded(tokenizer, judge),
        settings(),
        Path("never-written"),
    )
    model.train()
    return [trainer.train_step()["train_loss"] for _ in range(FIRST)]


def replay(data: dict[str, Any]) -> None:
    """The counts and the first steps of each kind of run are the same."""
    assert abs(counted() - data["bigram"]) < 1e-3
    for kind in ("sizes", "dropout", "text"):
        row = data[kind][-1]
        again = first_losses(row)
        for got, wanted in zip(again, row["first"], strict=True):
            assert abs(got - wanted) < 1e-3, (again, row)
