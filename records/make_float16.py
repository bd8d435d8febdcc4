"""A small model trained in float16, with and without a scaled loss.

The loss is a mean over the tokens of a step. Large models take half a
million tokens and more to a step, ours 512; so that our gradients are as
small as theirs on the way back, the loss is multiplied by `SHARE`, and the
gradients of the weights, which are float32, are divided by it again.
"""

from functools import cache
from typing import Any

import torch
from torch import Tensor

from scratchlm.model.gpt import GPT, gpt2_config, next_token_loss
from scratchlm.text.toytown import join, split_stories, write_corpus
from scratchlm.training.optimizer import AdamW, parameter_groups
from scratchlm.training.precision import LossScaler

STEPS, RATE, SHARE = 120, 0.002, 2.0**-10
START, PATIENCE = 2.0**24, 20  # a scale too small shows nothing of its growth
KINDS = ("float32", "float16", "float16, scaled")


@cache
def text() -> Tensor:
    """Bytes of Toytown (N,)."""
    stories = split_stories(write_corpus(200_000)).train
    return torch.tensor(list(join(stories).encode()))


def train(kind: str, steps: int = STEPS) -> dict[str, Any]:
    """Losses and scales, step by step, and the zeros in the last gradient."""
    torch.manual_seed(0)
    model = GPT(gpt2_config(128, 32, 2, 2, 48))
    optimizer = AdamW(parameter_groups(model, 0.1), RATE)
    generator = torch.Generator().manual_seed(7)
    scaler = LossScaler(START, PATIENCE) if "scaled" in kind else LossScaler(1)
    losses, scales = [], []
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1, (step + 1) / 30)
        at = torch.randint(len(text()) - 33, (16, 1), generator=generator)
        window = text()[at + torch.arange(33)]
        half = kind != "float32"
        with torch.autocast("cpu", dtype=torch.float16, enabled=half):
            loss = next_token_loss(model(window[:, :-1]), window[:, 1:])
        optimizer.zero_grad()
        scaler.scaled(loss * SHARE).backward()
        finite = scaler.unscale(model.parameters())
        scales.append(scaler.scale)
        if "scaled" in kind:
            scaler.update(finite)
        if finite:
            for parameter in model.parameters():
                assert parameter.grad is not None
                parameter.grad /= SHARE
            optimizer.step()
        losses.append(round(loss.item(), 5))
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    zeros = sum(int((g == 0).sum()) for g in gradients)
    share = zeros / sum(g.numel() for g in gradients)
    return {"losses": losses, "scales": scales, "zeros": round(share, 4)}


def record() -> dict[str, Any]:
    """The three runs."""
    torch.set_num_threads(1)
    return {"tokens": 512 / SHARE} | {kind: train(kind) for kind in KINDS}


def replay(data: dict[str, Any]) -> None:
    """The first losses are the recorded ones."""
    for kind in KINDS:
        again = train(kind, 2)["losses"]
        for got, wanted in zip(again, data[kind]["losses"], strict=False):
            assert abs(got - wanted) < 2e-3, (kind, again)
