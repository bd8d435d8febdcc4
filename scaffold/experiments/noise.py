"""Can your model predict noise? One that can has seen the future."""

from dataclasses import replace
from statistics import fmean

import numpy as np
import torch

from scratchlm.model.gpt import GPT, gpt2_config
from scratchlm.text.tokens import BatchCursor
from scratchlm.training.trainer import TrainConfig, Trainer, validation_loss

from .town import NEVER, Tick, between, train

VOCABULARY, CONTEXT, BATCH, STEPS = 16, 16, 32, 300
LAYERS, HEADS, CHANNELS = 2, 2, 32
LAST, JUDGED = 50, 4096  # steps of which the mean is taken; tokens


def new_trainer(seed: int, noise: np.ndarray, fused: bool) -> Trainer:
    """A small model before its run; its attention the kernel's or its own."""
    torch.manual_seed(seed)
    form = gpt2_config(VOCABULARY, CONTEXT, LAYERS, HEADS, CHANNELS)
    model = GPT(replace(form, fused=fused))
    model.train()
    cursor = BatchCursor(noise, CONTEXT, BATCH, seed)
    config = TrainConfig(steps=STEPS, learning_rate=3e-3)
    return Trainer(model, cursor, noise[:CONTEXT], config, NEVER)


def run(seed: int, tick: Tick) -> dict[str, float]:
    """Train on random tokens, each read once; losses at the end."""
    draw = np.random.default_rng(seed)
    noise = draw.integers(VOCABULARY, size=(STEPS + 2) * BATCH * CONTEXT)
    unseen = draw.integers(VOCABULARY, size=JUDGED)
    plain = train(new_trainer(seed, noise, False), between(tick, 0.0, 0.5))
    trainer = new_trainer(seed, noise, True)
    fused = train(trainer, between(tick, 0.5, 1.0))
    return {
        "plain": fmean(plain[-LAST:]),
        "fused": fmean(fused[-LAST:]),
        "unseen": validation_loss(trainer.model, unseen, CONTEXT),
    }
