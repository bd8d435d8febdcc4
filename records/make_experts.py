"""A feed-forward layer against experts, with the same work for each token."""

from typing import Any

import torch
from torch import Tensor

from records.make_heads import letters
from scratchlm.model.experts import (
    Experts,
    Routing,
    add_experts,
    balance_loss,
    count_active,
    load,
    watch_routers,
    within_capacity,
)
from scratchlm.model.gpt import (
    GPT,
    count_parameters,
    llama_config,
    next_token_loss,
)
from scratchlm.text.characters import CharTokenizer
from scratchlm.text.toytown import join, split_stories, write_corpus

CONTEXT, CHANNELS, LAYERS, HEADS = 64, 64, 2, 4
EXPERTS, CHOSEN, HIDDEN = 8, 2, 32
STEPS, BATCH, SEEDS, RATE, EVERY, WINDOWS = 200, 16, 2, 3e-3, 10, 128
BALANCE, FACTORS = 0.01, (1.0, 1.25, 1.5, 2.0)
FORMS = ("one layer", "balanced", "left alone")


def windows(stream: Tensor, count: int, seed: torch.Generator) -> Tensor:
    """Random windows, each with the letter after it: (count, CONTEXT + 1)."""
    high = len(stream) - CONTEXT
    at = torch.randint(high, (count, 1), generator=seed)
    return stream[at + torch.arange(CONTEXT + 1)]


def build(form: str, vocab_size: int) -> GPT:
    """A small Llama; its layers are one of `FORMS`."""
    config = llama_config(
        vocab_size,
        CONTEXT,
        layers=LAYERS,
        heads=HEADS,
        channels=CHANNELS,
        hidden=CHOSEN * HIDDEN,
        tied=True,
    )
    model = GPT(config)
    if form == "one layer":
        return model
    return add_experts(model, EXPERTS, CHOSEN, HIDDEN)


def trained(
    form: str, seed: int, steps: int, stream: Tensor, vocab_size: int
) -> tuple[GPT, list[float], list[list[list[float]]]]:
    """A model, its losses, and every `EVERY` steps the load of each layer."""
    torch.manual_seed(seed)
    model = build(form, vocab_size)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=RATE, betas=(0.9, 0.95)
    )
    generator = torch.Generator().manual_seed(seed)
    losses, loads = [], []
    for step in range(steps):
        rows = windows(stream, BATCH, generator)
        with watch_routers(model) as seen:
            loss = next_token_loss(model(rows[:, :-1]), rows[:, 1:])
        losses.append(loss.item())
        if step % EVERY == 0 or step == steps - 1:
            loads.append([rounded(load(routing)) for routing in seen])
        if form == "balanced":
            loss = loss + BALANCE * sum(balance_loss(r) for r in seen)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model, losses, loads


def rounded(x: Tensor) -> list[float]:
    """A row of numbers with four decimals."""
    return [round(v, 4) for v in x.tolist()]


@torch.no_grad()
def judged(model: GPT, stream: Tensor) -> tuple[float, list[Routing], Tensor]:
    """Nats per letter on fixed windows, the routings, and the letters."""
    rows = windows(stream, WINDOWS, torch.Generator().manual_seed(99))
    with watch_routers(model) as seen:
        loss = next_token_loss(model(rows[:, :-1]), rows[:, 1:])
    return round(loss.item(), 4), seen, rows[:, :-1].flatten()


def crowded(model: GPT, stream: Tensor) -> list[list[float]]:
    """Nats if experts can be full, and how much is dropped: by `FACTORS`."""
    rows = []
    for factor in FACTORS:
        for part in model.modules():
            if isinstance(part, Experts):
                part.capacity_factor = factor
        nats, seen, _ = judged(model, stream)
        capacity = int(factor * seen[0].chosen.numel() / EXPERTS)
        kept = torch.cat([within_capacity(r, capacity) for r in seen])
        rows.append([factor, nats, round(1 - kept.float().mean().item(), 4)])
    return rows


def by_letter(routing: Routing, ids: Tensor, vocab_size: int) -> Tensor:
    """How often each letter's first choice is which expert: (V, E) counts."""
    pairs = ids * EXPERTS + routing.chosen[:, 0]
    counts = pairs.bincount(minlength=vocab_size * EXPERTS)
    return counts.view(vocab_size, EXPERTS)


def alphabet() -> list[str]:
    """The letters of Toytown by their number."""
    splits = split_stories(write_corpus(400_000))
    tokenizer = CharTokenizer.train(join(splits.train))
    return [tokenizer.decode([i]) for i in range(tokenizer.vocab_size)]


def measured(form: str, seed: int) -> tuple[dict[str, Any], list[Any]]:
    """What a form comes to with this seed; and each letter's first choices."""
    train, valid, size = letters()
    model, losses, loads = trained(form, seed, STEPS, train, size)
    nats, seen, ids = judged(model, valid)
    row = {
        "form": form,
        "seed": seed,
        "nats": nats,
        "parameters": count_parameters(model),
        "active": count_active(model),
        "loads": loads,
        "final": [rounded(load(routing)) for routing in seen],
        "first": [round(loss, 6) for loss in losses[:3]],
    }
    choices = [by_letter(routing, ids, size).tolist() for routing in seen]
    if form != "one layer":
        row["crowded"] = crowded(model, valid)
    print(form, seed, nats, row["final"], row.get("crowded"), flush=True)
    return row, choices


def assembled(found: list[tuple[dict[str, Any], list[Any]]]) -> dict[str, Any]:
    """The record of what `measured` has returned, for all forms and seeds."""
    choices = [
        who
        for row, who in found
        if (row["form"], row["seed"]) == ("balanced", 0)
    ]
    return {
        "steps": STEPS,
        "every": EVERY,
        "experts": EXPERTS,
        "chosen": CHOSEN,
        "hidden": HIDDEN,
        "balance": BALANCE,
        "letters": alphabet(),
        "choices": choices[0],
        "forms": [row for row, _ in found],
    }


def record() -> dict[str, Any]:
    """Losses and loads of each form, seed by seed; who chose whom, once."""
    torch.set_num_threads(1)
    return assembled(
        [measured(form, seed) for form in FORMS for seed in range(SEEDS)]
    )


def replay(data: dict[str, Any]) -> None:
    """The first losses of each form are still the recorded ones."""
    train, _, size = letters()
    for row in data["forms"]:
        if row["seed"] == 0:
            steps = len(row["first"])
            _, seen, _ = trained(row["form"], 0, steps, train, size)
            for got, wanted in zip(seen, row["first"], strict=True):
                assert abs(got - wanted) < 1e-3, (row["form"], seen)
