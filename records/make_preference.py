"""How DPO learns, step by step: three seeds at two prices of straying.

The model is that of the chapter: tuned on every question with a short answer
and with a whole sentence. Each seed draws replies of its own, pairs them, and
shuffles the pairs in its own way.
"""

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor

from press.files import ROOT
from scratchlm.evaluation.perplexity import evaluate
from scratchlm.model.gpt import GPT, gpt2_config
from scratchlm.text.tokenizer import END, Tokenizer
from scratchlm.text.tokens import open_tokens
from scratchlm.training.checkpoint import load_model
from scratchlm.training.packing import packed_batches
from scratchlm.tuning.instruct import (
    Reply,
    Task,
    TuneConfig,
    fine_tune,
    make_examples,
    make_tasks,
    widen,
    with_marks,
)
from scratchlm.tuning.preference import (
    Pair,
    PairBatch,
    compare,
    dpo_loss,
    gains,
    make_pairs,
    pair_batches,
    whole_sentence,
    with_reference,
)

RUN = ROOT / "_build" / "runs" / "toytown"
TUNED, STEPS, SEEDS, DRAWS, SIZE, SCORED = 80, 120, 3, 6, 8, 6400
TUNING, RATE = 2e-3, 3e-4  # for questions and answers; for the pairs
BETAS = (1.0, 0.1)
CURVES = ("loss", "margin", "accuracy", "chosen", "rejected")


def two_manners(tokenizer: Tokenizer) -> GPT:
    """The book's model, tuned on short answers and on whole sentences."""
    torch.manual_seed(0)
    model = widen(load_model(RUN), tokenizer.vocab_size)
    context = model.config.context
    both = [
        task._replace(answer=answer)
        for task in make_tasks()
        for answer in (task.answer, whole_sentence(task))
    ]
    examples = make_examples(tokenizer, both, context)
    batches = packed_batches(examples, context, rows=4, seed=0)
    fine_tune(model, batches, TuneConfig(TUNED, TUNING))
    return model


def best_pairs(tokenizer: Tokenizer, tasks: list[Task]) -> list[Pair]:
    """The short answer of each task, and its whole sentence."""
    found = [
        compare(
            tokenizer,
            task,
            Reply(task.answer, True),
            Reply(whole_sentence(task), True),
        )
        for task in tasks
    ]
    return [pair for pair in found if pair is not None]


def judged(model: GPT, tokenizer: Tokenizer) -> dict[str, float]:
    """Probabilities of short and of long answers, and nats on stories."""
    found = {}
    for held_out in (False, True):
        pairs = best_pairs(tokenizer, make_tasks(held_out))
        means = with_reference(model, pairs).reference.exp().mean(dim=1)
        where = "kept back" if held_out else "learned"
        for name, mean in zip(("short", "long"), means.tolist(), strict=True):
            found[f"{name}, {where}"] = round(mean, 4)
    unseen = open_tokens(RUN / "validation.tokens").tokens[:SCORED]
    context = model.config.context
    found["nats"] = round(evaluate(model, unseen, context).nats_per_token, 4)
    return found


def prefer(
    model: GPT, data: PairBatch, beta: float, steps: int, size: int, seed: int
) -> dict[str, list[float]]:
    """Train a model in place by DPO; loss and gains of every step's batch."""
    seen: dict[str, list[float]] = {name: [] for name in CURVES}

    def loss(model: GPT, batch: PairBatch) -> Tensor:
        gained = gains(model, batch)
        now = dpo_loss(gained, beta)
        chosen, rejected = gained.detach()
        values = (
            now.detach(),
            (chosen - rejected).mean(),
            (chosen > rejected).float().mean(),
            chosen.mean(),
            rejected.mean(),
        )
        for name, value in zip(CURVES, values, strict=True):
            seen[name].append(round(float(value), 4))
        return now

    batches = pair_batches(data, size, seed)
    fine_tune(model, batches, TuneConfig(steps, RATE), loss=loss)
    return seen


def learned(
    start: GPT, tokenizer: Tokenizer, beta: float, seed: int
) -> dict[str, Any]:
    """A run of one seed at one price: its curves, and what it says then."""
    pairs = make_pairs(start, tokenizer, make_tasks(), DRAWS, seed)
    model = deepcopy(start)
    data = with_reference(start, pairs)
    row: dict[str, Any] = {"beta": beta, "seed": seed, "pairs": len(pairs)}
    row |= prefer(model, data, beta, STEPS, SIZE, seed)
    row |= judged(model, tokenizer)
    print(beta, seed, len(pairs), judged(model, tokenizer), flush=True)
    return row


def small_run(steps: int) -> dict[str, list[float]]:
    """The curves of a small random model that prefers short sums."""
    tokenizer = with_marks(Tokenizer([], {END: 256}))
    torch.manual_seed(0)
    model = GPT(gpt2_config(tokenizer.vocab_size, 64, 2, 2, 16))
    pairs = best_pairs(tokenizer, make_tasks()[-4:])
    data = with_reference(model, pairs)
    return prefer(model, data, 1.0, steps, size=2, seed=0)


def record() -> dict[str, Any]:
    """The start, and each price with each seed."""
    torch.set_num_threads(1)
    tokenizer = with_marks(Tokenizer.load(RUN / "tokenizer.json"))
    start = two_manners(tokenizer)
    return {
        "tuned": TUNED,
        "steps": STEPS,
        "rate": RATE,
        "size": SIZE,
        "betas": BETAS,
        "seeds": SEEDS,
        "start": judged(start, tokenizer),
        "runs": [
            learned(start, tokenizer, beta, seed)
            for beta in BETAS
            for seed in range(SEEDS)
        ],
        "small": small_run(6),
    }


def replay(data: dict[str, Any]) -> None:
    """A small model still learns as it did; the record is complete."""
    again = small_run(6)
    for name, wanted in data["small"].items():
        for got, known in zip(again[name], wanted, strict=True):
            assert abs(got - known) < 0.01, (name, got, known)
    found = [(row["beta"], row["seed"]) for row in data["runs"]]
    assert found == [(beta, s) for beta in BETAS for s in range(SEEDS)]
    for row in data["runs"]:
        assert all(len(row[name]) == data["steps"] for name in CURVES)
