"""Whole sentences, please: a preference against what the model does.

The model is trained, then tuned to answer, in a word or two or in a sentence.
A judge prefers the sentence; as it is longer, it is seldom the likelier one.
The pairs that count are about people and sums that no tuning has seen.
"""

from copy import deepcopy

import torch
from torch import Tensor

from scratchlm.model.gpt import GPT
from scratchlm.training.packing import packed_batches
from scratchlm.tuning.instruct import (
    TuneConfig,
    Turn,
    encode_request,
    encode_turn,
    fine_tune,
    make_examples,
    make_tasks,
    widen,
    with_marks,
)
from scratchlm.tuning.preference import (
    Pair,
    PairBatch,
    answer_log_probs,
    dpo_loss,
    gains,
    pair_batches,
    whole_sentence,
    with_reference,
)

from .town import CONTEXT, Text, Tick, between, new_trainer, town, train

CHARACTERS, CHANNELS, STEPS = 1_600_000, 48, 300
ROWS, ANSWERS, CHOICES, SIZE, RATE, BETA = 4, 60, 60, 16, 1e-3, 0.1
STORIES = 2048  # tokens of them, on which two models are compared


def make_pairs(text: Text, held_out: bool) -> list[Pair]:
    """For each task the whole sentence, chosen before the short answer."""
    pairs = []
    for task in make_tasks(held_out):
        prompt = encode_request(text.tokenizer, task.request)
        answers = [
            encode_turn(text.tokenizer, Turn(task.request, said))[len(prompt) :]
            for said in (whole_sentence(task), task.answer)
        ]
        if len(prompt) + max(map(len, answers)) <= CONTEXT:
            pairs.append(Pair(prompt, *answers))
    return pairs


def tuned(text: Text, seed: int, tick: Tick) -> GPT:
    """A model that answers requests, in both forms alike."""
    trainer = new_trainer(text, CHANNELS, STEPS, seed)
    train(trainer, tick)
    model = widen(trainer.model, text.tokenizer.vocab_size + 3)
    tasks = make_tasks()
    tasks += [t._replace(answer=whole_sentence(t)) for t in tasks]
    examples = make_examples(with_marks(text.tokenizer), tasks, CONTEXT)
    batches = packed_batches(examples, CONTEXT, rows=ROWS, seed=seed)
    fine_tune(model, batches, TuneConfig(ANSWERS))
    return model


def preferred(model: GPT, pairs: PairBatch) -> float:
    """The share of pairs in which the chosen answer is the likelier one."""
    chosen, rejected = answer_log_probs(model, pairs.ids, pairs.targets)
    return (chosen > rejected).double().mean().item()


def drift(model: GPT, reference: GPT, text: Text) -> float:
    """Mean nats by which the reference is another model, on stories: KL."""
    rows = text.unseen[:STORIES].astype("int64").reshape(-1, CONTEXT)
    ids = torch.from_numpy(rows)
    now, first = (m(ids).log_softmax(-1) for m in (model, reference))
    return (first.exp() * (first - now)).sum(-1).mean().item()


def run(seed: int, tick: Tick) -> dict[str, float]:
    """Learn the preference; how well, how clearly, and at what price."""
    text = town(CHARACTERS)
    model = tuned(text, seed, between(tick, 0.0, 0.7))
    reference = deepcopy(model)
    marked = Text(
        with_marks(text.tokenizer), text.read, text.unseen, text.floor
    )
    learned = with_reference(model, make_pairs(marked, held_out=False))
    kept = with_reference(model, make_pairs(marked, held_out=True))
    done = 0

    def loss(model: GPT, batch: PairBatch) -> Tensor:
        nonlocal done
        done += 1
        tick(0.7 + 0.3 * done / CHOICES)
        return dpo_loss(gains(model, batch), BETA)

    batches = pair_batches(learned, SIZE, seed)
    fine_tune(model, batches, TuneConfig(CHOICES, RATE), loss=loss)
    with torch.no_grad():
        gained = BETA * gains(model, kept)
        return {
            "before": preferred(reference, kept),
            "learned": preferred(model, learned),
            "after": preferred(model, kept),
            "margin": (gained[0] - gained[1]).mean().item(),
            "drift": drift(model, reference, text),
        }
