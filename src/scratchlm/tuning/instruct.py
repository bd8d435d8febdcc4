"""From a model that goes on to a model that answers: instruction tuning.

A dialogue becomes tokens by a template of three marks. Only what the model
is to say itself is a target (Ouyang et al., 2022); the rest is masked. Short
dialogues share a row, as `scratchlm.training.packing` lays them out. The
requests are about Toytown: its people, and the sums that its stories make.

Left out: a voice for the system, tools, and resuming a run that was stopped.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from scratchlm.generation.generate import generate, pad_prompts
from scratchlm.generation.sampling import SamplingConfig
from scratchlm.model.gpt import GPT
from scratchlm.text.tokenizer import Tokenizer
from scratchlm.text.tokens import BatchCursor
from scratchlm.text.toytown import TOWN, Word, conjugate, number_word
from scratchlm.training.memory import (
    IGNORED,
    accumulate_gradients,
)
from scratchlm.training.optimizer import (
    AdamW,
    clip_gradients,
    parameter_groups,
)
from scratchlm.training.packing import packed_loss
from scratchlm.training.schedule import cosine, set_learning_rate

USER, ASSISTANT, STOP = "<|user|>", "<|assistant|>", "<|end|>"
MARKS = (USER, ASSISTANT, STOP)

# --- Requests and their answers ----------------------------------------------


class Task(NamedTuple):
    """Something to ask, and the answer that counts as right."""

    kind: str  # fact or sum
    request: str
    answer: str


def sentence(text: str) -> str:
    """A text with a capital letter and a period.

    >>> sentence("the forge behind the church")
    'The forge behind the church.'
    """
    return text[0].upper() + text[1:] + "."


def person_facts(person: Word) -> list[Task]:
    """Eight questions about somebody, which the town's stories answer."""
    name, trade, place = (person.forms[x] for x in ("", "trade", "place"))
    goods = [thing.forms["many"] for thing in person.goods]
    do, be, keep, sell = (
        conjugate(verb, person.count, "present")
        for verb in ("do", "be", "keep", "sell")
    )
    asked = {
        f"What {do} {name} keep?": place,
        f"Who {keep} {place}?": name,
        f"What {be} {name}?": f"the {trade}",
        f"Who {be} the {trade}?": name,
        f"What {do} {name} sell?": f"{', '.join(goods[:-1])} and {goods[-1]}",
    } | {f"Who {sell} {thing}?": name for thing in goods}
    return [Task("fact", ask, sentence(said)) for ask, said in asked.items()]


def sums(a: int, b: int) -> list[Task]:
    """What two numbers make together, and what is left, in words."""
    one, other = number_word(a), number_word(b)
    asked = {f"{one} and {other}": a + b, f"{one} less {other}": a - b}
    return [
        Task("sum", f"What is {text}?", sentence(number_word(n)))
        for text, n in asked.items()
    ]


def make_tasks(held_out: bool = False) -> list[Task]:
    """What is asked in training, or what is kept back to judge by.

    Every third of the people is kept back, and every pair of numbers whose
    sum is a multiple of four; the numbers are those of the town's stories.
    """
    people = [
        person
        for i, person in enumerate(TOWN.words["people"])
        if (i % 3 == 2) == held_out
    ]
    pairs = [
        (a, b)
        for a in range(5, 13)
        for b in range(2, 5)
        if ((a + b) % 4 == 0) == held_out
    ]
    facts = [task for person in people for task in person_facts(person)]
    return facts + [task for a, b in pairs for task in sums(a, b)]


# --- The template ------------------------------------------------------------


def with_marks(tokenizer: Tokenizer) -> Tokenizer:
    """The same tokenizer, with the three marks of a dialogue as tokens."""
    first, special = tokenizer.vocab_size, tokenizer.special_tokens
    new = [mark for mark in MARKS if mark not in special]
    special = special | {mark: first + i for i, mark in enumerate(new)}
    return Tokenizer(tokenizer.merges, special, tokenizer.pattern)


def widen(model: GPT, vocab_size: int) -> GPT:
    """A copy of the model with a larger vocabulary; old scores stay.

    A new token begins as the mean of all old ones (Hewitt, 2021): a random
    row might score higher than every token that was trained.
    """
    old = model.config.vocab_size
    if vocab_size < old:
        raise ValueError(f"{vocab_size} tokens are fewer than {old}")
    weights = model.state_dict()
    for name in ("token.weight", "head.weight"):
        rows = weights[name]  # (V, C)
        mean = rows.mean(dim=0, keepdim=True)
        weights[name] = torch.cat([rows, mean.repeat(vocab_size - old, 1)])
    wider = GPT(replace(model.config, vocab_size=vocab_size))
    wider = wider.to(model.token.weight)  # its device and its dtype
    wider.load_state_dict(weights)
    return wider.train(model.training)


class Turn(NamedTuple):
    """One request of a dialogue, and what was answered."""

    request: str
    answer: str


def encode_request(
    tokenizer: Tokenizer, request: str, before: Sequence[Turn] = ()
) -> list[int]:
    """The prompt: earlier turns, the request, and the mark to answer after.

    The marks are put in as numbers. A text that spells one is encoded like
    any other, so nobody can write a mark.
    """
    mark = tokenizer.special_tokens
    ids = [i for turn in before for i in encode_turn(tokenizer, turn)]
    text = tokenizer.encode_ordinary(request)
    return [*ids, mark[USER], *text, mark[ASSISTANT]]


def encode_turn(tokenizer: Tokenizer, turn: Turn) -> list[int]:
    """A request and its answer, closed by the end mark.

    The answer gets a space in front, as a word has in the town's text: the
    tokens of " Six" are known from there, those of "Six" hardly at all.
    """
    prompt = encode_request(tokenizer, turn.request)
    reply = tokenizer.encode_ordinary(" " + turn.answer)
    return [*prompt, *reply, tokenizer.special_tokens[STOP]]


class Example(NamedTuple):
    """What the model reads, and what it is to say after each token."""

    ids: list[int]  # (T,)
    targets: list[int]  # (T,), IGNORED where others speak


def make_example(tokenizer: Tokenizer, turns: Sequence[Turn]) -> Example:
    """A dialogue as an example: the answers and their ends are targets."""
    ids: list[int] = []
    said: list[int] = []  # the same tokens, or IGNORED
    for turn in turns:
        prompt = encode_request(tokenizer, turn.request)
        whole = encode_turn(tokenizer, turn)
        ids += whole
        said += [IGNORED] * len(prompt) + whole[len(prompt) :]
    return Example(ids[:-1], said[1:])


def make_examples(
    tokenizer: Tokenizer, tasks: Sequence[Task], context: int
) -> list[Example]:
    """One example for each task that fits; no answer is ever cut."""
    made = [
        make_example(tokenizer, [Turn(task.request, task.answer)])
        for task in tasks
    ]
    return [example for example in made if len(example.ids) <= context]


# --- Training ----------------------------------------------------------------


@dataclass(frozen=True)
class TuneConfig:
    """How a model is tuned: less, and at a lower rate, than in training."""

    steps: int = 50
    learning_rate: float = 1e-3  # the highest
    warmup: int = 5
    weight_decay: float = 0.0
    clip: float = 1.0


def fine_tune(
    model: GPT,
    batches: Iterator[Any],
    config: TuneConfig,
    old_text: BatchCursor | None = None,
    loss: Callable[[GPT, Any], Tensor] = packed_loss,
) -> list[float]:
    """Train on batches, in place; returns the loss of every step.

    With `old_text` each step also learns from a batch of what the model was
    pretrained on, its mean loss added to that of the answers.
    """
    groups = parameter_groups(model, config.weight_decay)
    optimizer = AdamW(groups, lr=config.learning_rate)
    warmup = min(config.warmup, config.steps // 2)
    schedule = cosine(config.learning_rate, warmup, config.steps)
    losses = []
    model.train()
    model.zero_grad()  # frozen weights, too: clipping would count them
    for step in range(config.steps):
        set_learning_rate([optimizer], schedule.rate(step))
        optimizer.zero_grad()
        now = loss(model, next(batches))
        now.backward()
        if old_text is not None:
            accumulate_gradients(model, [old_text.next_batch()])
        clip_gradients(model.parameters(), config.clip)
        optimizer.step()
        losses.append(now.item())
    model.eval()
    return losses


# --- Asking ------------------------------------------------------------------


class Reply(NamedTuple):
    """What the model said, and whether it ended on its own."""

    text: str
    ended: bool


def read_reply(
    tokenizer: Tokenizer, written: Sequence[int], stop_id: int
) -> Reply:
    """What tokens say up to `stop_id`, without the space in front."""
    said = list(written)
    ended = stop_id in said
    said = said[: said.index(stop_id)] if ended else said
    return Reply(tokenizer.decode(said).removeprefix(" "), ended)


def ask(
    model: GPT,
    tokenizer: Tokenizer,
    prompts: Sequence[Sequence[int]],
    new_tokens: int,
    stop_id: int,
    sampling: SamplingConfig | None = None,
    generator: torch.Generator | None = None,
) -> list[Reply]:
    """Answers to many prompts at once, up to `stop_id`; greedy by default.

    A prompt is what `encode_request` gives, or any text of the model's own.
    """
    ids, lengths = pad_prompts(prompts)
    shortest = int(lengths.min())
    steps = int(lengths.max()) - shortest + new_tokens
    sampling = sampling or SamplingConfig(temperature=0)
    written = generate(
        model, ids, steps, sampling, generator, stop_id, lengths=lengths
    )
    columns = torch.stack(list(written), dim=1)  # (B, steps), or fewer
    replies = []
    for row, length in zip(columns.tolist(), lengths.tolist(), strict=True):
        said = row[length - shortest :][:new_tokens]
        replies.append(read_reply(tokenizer, said, stop_id))
    return replies


def is_right(task: Task, reply: Reply) -> bool:
    """Whether a reply is the answer, all of it, and has ended."""
    return reply == Reply(task.answer, True)
