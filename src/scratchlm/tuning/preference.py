"""Better and worse: learning from pairs of answers (DPO).

Two answers to one request are compared, and nobody has to say what the best
one would be. Direct preference optimization (Rafailov et al., 2023) raises the
probability of the better one relative to that of the worse, both measured from
where a model began, the reference. Which of two is better follows from the
model of Bradley and Terry (1952): the logistic function of a difference.

The pairs are from Toytown: a judge wants the right answer, and wants it short.

Left out: a model of the reward, several answers in order, labels that are
uncertain, and making new pairs while the model changes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from scratchlm.evaluation.probes import pad_pairs
from scratchlm.generation.sampling import SamplingConfig
from scratchlm.model.gpt import GPT, next_token_loss
from scratchlm.text.tokenizer import Tokenizer
from scratchlm.tuning.instruct import (
    STOP,
    Reply,
    Task,
    Turn,
    ask,
    encode_request,
    encode_turn,
    is_right,
    sentence,
)

# --- Answers, and which of two is better -------------------------------------


def whole_sentence(task: Task) -> str:
    """The answer as a sentence that could stand alone.

    >>> whole_sentence(Task("fact", "Who sells pies?", "Mrs Pell."))
    'Mrs Pell sells pies.'
    >>> whole_sentence(Task("sum", "What is five and two?", "Seven."))
    'Five and two is seven.'
    >>> whole_sentence(Task("fact", "What does Mrs Pell sell?", "Pies."))
    'Mrs Pell sells pies.'
    """
    asked, _, rest = task.request.removesuffix("?").partition(" ")
    said = task.answer.removesuffix(".")
    if asked == "Who":
        return f"{said} {rest}."
    verb, _, rest = rest.partition(" ")
    said = said[0].lower() + said[1:]
    if verb in ("is", "are"):
        return sentence(f"{rest} {verb} {said}")
    ending = "s" if verb == "does" else ""
    return f"{rest}{ending} {said}."


def worth(task: Task, reply: Reply) -> int:
    """2 for the short answer, 1 for the whole sentence, 0 for the rest."""
    longer = task._replace(answer=whole_sentence(task))
    return 2 * is_right(task, reply) + is_right(longer, reply)


class Pair(NamedTuple):
    """Two answers to a request, in tokens with their ends."""

    prompt: list[int]
    chosen: list[int]
    rejected: list[int]


def compare(
    tokenizer: Tokenizer, task: Task, first: Reply, second: Reply
) -> Pair | None:
    """The pair that the judge makes of two replies; None if they tie."""
    gap = worth(task, first) - worth(task, second)
    if gap == 0:
        return None
    prompt = encode_request(tokenizer, task.request)
    answers = []
    for reply in (first, second) if gap > 0 else (second, first):
        whole = encode_turn(tokenizer, Turn(task.request, reply.text))
        end = len(whole) if reply.ended else len(whole) - 1  # its end mark
        answers.append(whole[len(prompt) : end])
    return Pair(prompt, *answers)


def draw_replies(
    model: GPT,
    tokenizer: Tokenizer,
    tasks: Sequence[Task],
    draws: int,
    seed: int,
    new_tokens: int = 24,
) -> list[list[Reply]]:
    """What a model says to each task, drawn `draws` times."""
    prompts = [encode_request(tokenizer, task.request) for task in tasks]
    replies = ask(
        model,
        tokenizer,
        [prompt for prompt in prompts for _ in range(draws)],
        new_tokens,
        tokenizer.special_tokens[STOP],
        SamplingConfig(),
        torch.Generator().manual_seed(seed),
    )
    starts = range(0, len(replies), draws)
    return [replies[start : start + draws] for start in starts]


def make_pairs(
    model: GPT,
    tokenizer: Tokenizer,
    tasks: Sequence[Task],
    draws: int,
    seed: int,
) -> list[Pair]:
    """Compare a model's own replies, two at a time; ties are left out."""
    if draws % 2:
        raise ValueError(f"draws={draws}: two make a pair, take an even number")
    drawn = draw_replies(model, tokenizer, tasks, draws, seed)
    found = [
        compare(tokenizer, task, first, second)
        for task, replies in zip(tasks, drawn, strict=True)
        for first, second in zip(replies[::2], replies[1::2], strict=True)
    ]
    return [pair for pair in found if pair is not None]


# --- What a model makes of them ----------------------------------------------


def answer_log_probs(model: GPT, ids: Tensor, targets: Tensor) -> Tensor:
    """ln of the probability of each answer: (..., T) → (...).

    The sum over its tokens, its end among them. What is `IGNORED` does not
    count: the prompt, and padding.
    """
    logits = model(ids.flatten(0, -2))  # (N, T, V)
    nats = next_token_loss(logits, targets.flatten(0, -2), "none")
    return -nats.view(targets.shape).sum(dim=-1)


@dataclass(frozen=True)
class PairBatch:
    """Pairs as tensors, and what the reference thought of them."""

    ids: Tensor  # (2, B, T), the chosen answers first
    targets: Tensor  # (2, B, T), IGNORED where nothing is scored
    reference: Tensor  # (2, B), ln of probabilities


def with_reference(model: GPT, pairs: Sequence[Pair]) -> PairBatch:
    """All pairs as one batch; the model as it is now is the reference.

    It is asked once, and its answers are numbers that no training moves.
    """
    if model.config.dropout:
        raise ValueError("with dropout, no two passes agree: switch it off")
    if not pairs:
        raise ValueError("there are no pairs: all replies were equally good")
    rows = [(pair.prompt, pair.chosen) for pair in pairs]
    rows += [(pair.prompt, pair.rejected) for pair in pairs]
    ids, targets = pad_pairs(rows, model.config.context)
    ids = ids.view(2, len(pairs), -1)
    targets = targets.view(ids.shape)
    with torch.no_grad():
        return PairBatch(ids, targets, answer_log_probs(model, ids, targets))


def pair_batches(pairs: PairBatch, size: int, seed: int) -> Iterator[PairBatch]:
    """Endless batches of `size` pairs, shuffled anew each epoch.

    What is left over at the end of an epoch is dropped.
    """
    count = pairs.ids.shape[1]
    if not 0 < size <= count:
        raise ValueError(f"{size} of {count} pairs do not make a batch")
    draw = np.random.default_rng(seed)
    while True:
        order = torch.from_numpy(draw.permutation(count))
        for some in order.split(size)[: count // size]:
            yield PairBatch(
                pairs.ids[:, some],
                pairs.targets[:, some],
                pairs.reference[:, some],
            )


def gains(model: GPT, batch: PairBatch) -> Tensor:
    """How many nats likelier each answer is than at first: (2, B)."""
    now = answer_log_probs(model, batch.ids, batch.targets)
    return now - batch.reference


def dpo_loss(gained: Tensor, beta: float = 0.1) -> Tensor:
    """Mean surprise, in nats, that the chosen answers were chosen.

    gained (2, B), from `gains`; Rafailov et al. (2023), equation 7.

    >>> dpo_loss(torch.zeros(2, 3))
    tensor(0.6931)
    """
    rewards = beta * gained  # (2, B)
    return -F.logsigmoid(rewards[0] - rewards[1]).mean()
