"""What several experiments share: the town's text, and a run on it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

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
from scratchlm.training.trainer import TrainConfig, Trainer, token_losses

Tick = Callable[[float], None]  # takes the share that is done, 0 to 1
CONTEXT, BATCH, LAYERS, HEAD = 64, 16, 2, 16
VOCABULARY, LEARNED, JUDGED = 512, 300, 80  # of these, stories the last two
NEVER = Path("never-written")


@dataclass(frozen=True)
class Text:
    """Tokens to read, tokens to judge by, and the lowest loss on these."""

    tokenizer: Tokenizer
    read: np.ndarray
    unseen: np.ndarray
    floor: float  # nats per token


def town(characters: int) -> Text:
    """The town's stories in tokens; some are kept back to judge by."""
    splits = split_stories(write_corpus(characters))
    texts = [story.text for story in splits.train]
    tokenizer = Tokenizer.train(texts[:LEARNED], VOCABULARY)
    judge = splits.validation[:JUDGED]
    unseen = encode_documents(tokenizer, [story.text for story in judge])
    return Text(
        tokenizer,
        encode_documents(tokenizer, texts),
        unseen,
        entropy_per_token(judge, len(unseen) - 1),  # the first is given
    )


def new_trainer(text: Text, channels: int, steps: int, seed: int) -> Trainer:
    """A run that has not begun."""
    torch.manual_seed(seed)
    size, heads = text.tokenizer.vocab_size, channels // HEAD
    model = GPT(gpt2_config(size, CONTEXT, LAYERS, heads, channels))
    cursor = BatchCursor(text.read, CONTEXT, BATCH, seed)
    config = TrainConfig(steps=steps, learning_rate=1e-2, warmup=100)
    model.train()
    return Trainer(model, cursor, text.unseen, config, NEVER)


def train(trainer: Trainer, tick: Tick) -> list[float]:
    """Run it to the end; the training loss of each step."""
    losses = []
    for step in range(1, trainer.config.steps + 1):
        losses.append(trainer.train_step()["train_loss"])
        tick(step / trainer.config.steps)
    return losses


def judged(model: GPT, text: Text) -> float:
    """Nats per unseen token, each behind half a window at least."""
    losses = token_losses(model, text.unseen, CONTEXT, stride=CONTEXT // 2)
    return losses.double().mean().item()


def between(tick: Tick, start: float, end: float) -> Tick:
    """A tick for a part of the work, from one share of the whole to another.

    >>> between(print, 0.5, 1.0)(0.5)
    0.75
    """
    return lambda share: tick(start + share * (end - start))
