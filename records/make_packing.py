"""Rows filled in several ways, and judged by documents that stand alone.

A document is the last line of a story of Toytown: a question, its answer.
All models take the same number of steps on rows of the same length.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cache
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from scratchlm.model.gpt import GPT, GPTConfig, gpt2_config, llama_config
from scratchlm.text.characters import CharTokenizer
from scratchlm.text.toytown import Story, split_stories, write_corpus
from scratchlm.training import packing
from scratchlm.training.memory import IGNORED
from scratchlm.training.packing import (
    Packed,
    Part,
    Rows,
    cut_anywhere,
    document_mask,
    join_documents,
    keep_whole,
    lay_out,
    packed_batches,
    packed_features,
    packed_loss,
    predict_next,
)

CONTEXT, LAYERS, HEADS, CHANNELS = 128, 2, 2, 48
STEPS, BATCH, SEEDS, RATE, WARMUP = 600, 6, 3, 4e-3, 20
FIRST, LAST, PLACES = 3, 50, 30
LONG, LONGER = 2400, ("cut, open", "cut, apart")  # four times the steps


def one_each(parts: list[Part], length: int) -> Rows:
    """Every document in a row of its own, with padding behind it."""
    return [[part] for part in parts]


@dataclass(frozen=True)
class Form:
    """How rows are filled, and what is done to them afterwards."""

    arrange: Callable[..., Rows]
    mask: bool = True  # no token sees another document
    restart: bool = True  # positions begin anew in each document
    scored: bool = False  # padding is a target, too
    rotary: bool = False


FORMS = {
    "cut, open": Form(cut_anywhere, mask=False, restart=False),
    "cut, apart": Form(cut_anywhere),
    "whole, open": Form(keep_whole, mask=False, restart=False),
    "whole, apart": Form(keep_whole),
    "whole, mask only": Form(keep_whole, restart=False),
    "whole, restart only": Form(keep_whole, mask=False),
    "padded": Form(one_each),
    "padded, scored": Form(one_each, scored=True),
    "cut, open, rotary": Form(
        cut_anywhere, mask=False, restart=False, rotary=True
    ),
    "cut, apart, rotary": Form(cut_anywhere, rotary=True),
}


def last_lines(stories: list[Story]) -> list[str]:
    """The question of each story, with its answer."""
    return [story.text.strip().split("\n")[-1] for story in stories]


@cache
def documents() -> tuple[list[Part], list[Part], int]:
    """Parts to learn, parts to judge by, and how many tokens there are.

    Before each document and behind it stands the end token.
    """
    splits = split_stories(write_corpus(1_000_000))
    train, judge = last_lines(splits.train), last_lines(splits.validation)
    letters = CharTokenizer.train("".join(train + judge))
    end = letters.vocab_size
    both = [
        [predict_next([end, *letters.encode(text), end]) for text in texts]
        for texts in (train, judge)
    ]
    return both[0], both[1], end + 1


def prepared(form: Form, batches: Iterator[Packed]) -> Packed:
    """The next batch, as this form has it."""
    batch = next(batches)
    if not form.mask and not form.restart:
        return join_documents(batch)
    if form.scored:
        padding = batch.document < 0
        return replace(batch, targets=batch.targets.masked_fill(padding, 0))
    return batch


def run_on(document: Tensor) -> Tensor:
    """Positions that count from the beginning of the row: the mistake."""
    return torch.arange(document.shape[1]).expand_as(document)


def see_all(document: Tensor) -> Tensor:
    """The causal mask of one who forgot the documents."""
    return document_mask(torch.zeros_like(document))


def rules(form: Form) -> AbstractContextManager[Any]:
    """Inside, packed models see and count as this form does."""
    if form.mask == form.restart:
        return nullcontext()
    if form.mask:
        return patch.object(packing, "restart", run_on)
    return patch.object(packing, "document_mask", see_all)


def build(form: Form, vocab_size: int) -> GPT:
    """A small GPT-2, or a Llama of the same width."""
    make: Callable[..., GPTConfig]
    make = llama_config if form.rotary else gpt2_config
    return GPT(make(vocab_size, CONTEXT, LAYERS, HEADS, CHANNELS))


def trained(
    name: str, seed: int, steps: int, of: int = STEPS
) -> tuple[GPT, list[float], int]:
    """A model, its losses, and how many targets it has learned from.

    The first steps of a run of so many.
    """
    form = FORMS[name]
    train, _, size = documents()
    torch.manual_seed(seed)
    model = build(form, size)
    batches = packed_batches(train, CONTEXT, BATCH, seed, form.arrange)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=RATE, betas=(0.9, 0.95)
    )
    losses, targets = [], 0
    for step in range(steps):
        batch = prepared(form, batches)
        rate = min((step + 1) / WARMUP, 1.0) * (1 - 0.9 * step / of)
        optimizer.param_groups[0]["lr"] = RATE * rate
        with rules(form):
            loss = packed_loss(model, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        targets += int((batch.targets != IGNORED).sum())
    return model, losses, targets


@torch.no_grad()
def by_place(model: GPT, batch: Packed) -> list[float]:
    """Nats at each of the first places of a document that stands alone."""
    logits = model.head(packed_features(model, batch)).log_softmax(dim=-1)
    nats = -logits.gather(2, batch.targets.clamp(min=0)[..., None])[..., 0]
    said = batch.targets != IGNORED
    mean = (nats * said).sum(dim=0) / said.sum(dim=0)
    return [round(x, 4) for x in mean[:PLACES].tolist()]


@torch.no_grad()
def judged(model: GPT) -> dict[str, Any]:
    """Nats per token: each document alone, and in an open row of many."""
    _, judge, _ = documents()
    alone = lay_out(one_each(judge, CONTEXT), CONTEXT)
    rows = lay_out(cut_anywhere(judge, CONTEXT), CONTEXT)
    return {
        "alone": round(packed_loss(model, alone).item(), 4),
        "company": round(packed_loss(model, join_documents(rows)).item(), 4),
        "by_place": by_place(model, alone),
    }


def measured(name: str, seed: int, steps: int = STEPS) -> dict[str, Any]:
    """What a form comes to with this seed."""
    model, losses, targets = trained(name, seed, steps, of=steps)
    row = {
        "form": name,
        "seed": seed,
        "steps": steps,
        "targets": targets,
        "first": [round(loss, 6) for loss in losses[:FIRST]],
        "last": round(sum(losses[-LAST:]) / LAST, 4),
        **judged(model),
    }
    print(
        name, seed, steps, row["last"], row["alone"], row["company"], flush=True
    )
    return row


def assembled(
    forms: list[dict[str, Any]], longer: list[dict[str, Any]]
) -> dict[str, Any]:
    """The record of what `measured` has returned."""
    train, judge, _ = documents()
    return {
        "steps": STEPS,
        "rows": BATCH,
        "length": CONTEXT,
        "seeds": SEEDS,
        "documents": len(train),
        "judged": len(judge),
        "forms": forms,
        "longer": longer,
    }


def record() -> dict[str, Any]:
    """All forms, with three seeds each; two of them for longer."""
    torch.set_num_threads(1)
    seeds = range(SEEDS)
    return assembled(
        [measured(name, seed) for name in FORMS for seed in seeds],
        [measured(name, seed, LONG) for name in LONGER for seed in seeds],
    )


def replay(data: dict[str, Any]) -> None:
    """The first losses of each form are still the recorded ones."""
    for row in [*data["forms"], *data["longer"]]:
        if row["seed"] == 0:
            steps, of = len(row["first"]), row["steps"]
            _, losses, _ = trained(row["form"], 0, steps, of)
            for got, wanted in zip(losses, row["first"], strict=True):
                assert abs(got - wanted) < 1e-3, (row["form"], losses)
