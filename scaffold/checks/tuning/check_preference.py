"""What learning from pairs must do."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import ModuleType

import torch

from scratchlm.model.gpt import GPT, gpt2_config
from scratchlm.text.tokenizer import END, Tokenizer
from scratchlm.training.memory import IGNORED
from scratchlm.tuning import preference
from scratchlm.tuning.instruct import Reply, Task, with_marks
from scratchlm.tuning.preference import Pair

from ..expect import close, equal, raises, true
from ..inputs import scattered, settled

PIES = Task("fact", "Who sells pies?", "Mrs Pell.")
PAIRS = [
    Pair([1, 2, 3], [4, 5], [6, 7, 8, 9]),
    Pair([3], [2, 1, 0], [5]),
    Pair([8, 6], [4, 9], [4, 1]),
]


def mixer(step: float = 1.7) -> GPT:
    """A model in which every token depends on all before it."""
    return settled(GPT(gpt2_config(12, 16, 2, 2, 8)).eval(), 0.5, step)


def alone(model: GPT, prompt: list[int], answer: list[int]) -> float:
    """ln of an answer's probability, token by token."""
    total, text = 0.0, list(prompt)
    with torch.no_grad():
        for token in answer:
            logs = model(torch.tensor([text]))[0, -1].log_softmax(-1)
            total += logs[token].item()
            text.append(token)
    return total


def check_judge() -> None:
    """The right answer is worth most when it is short."""
    for text, ended, value in (
        ("Mrs Pell.", True, 2),
        ("Mrs Pell sells pies.", True, 1),
        ("Mr Dunn.", True, 0),
        ("Mrs Pell.", False, 0),
    ):
        equal(
            preference.worth(PIES, Reply(text, ended)),
            value,
            f"what {text!r} is worth{'' if ended else ', without an end'}",
        )


def check_order() -> None:
    """Of two replies the better is chosen, wherever it stands."""
    tokenizer = with_marks(Tokenizer([], {END: 256}))
    short, longer = (
        Reply("Mrs Pell.", True),
        Reply("Mrs Pell sells pies.", True),
    )
    for first, second in ((short, longer), (longer, short)):
        pair = preference.compare(tokenizer, PIES, first, second)
        true(pair is not None, "a pair of a short and a long answer")
        assert pair is not None
        equal(
            [tokenizer.decode(part) for part in pair],
            [
                "<|user|>Who sells pies?<|assistant|>",
                " Mrs Pell.<|end|>",
                " Mrs Pell sells pies.<|end|>",
            ],
            "prompt, chosen and rejected, decoded",
            hint="the chosen answer is the one that is worth more; both have "
            "their end marks and not the prompt",
        )


def check_ties() -> None:
    """Of two replies that are worth the same, nothing is to be learned."""
    tokenizer = with_marks(Tokenizer([], {END: 256}))
    wrong, worse = Reply("Mr Dunn.", True), Reply("Miss Finch.", True)
    equal(
        preference.compare(tokenizer, PIES, wrong, worse),
        None,
        "the pair of two wrong answers",
    )


def check_sums() -> None:
    """ln π of an answer is the sum over its own tokens."""
    data = preference.with_reference(mixer(), PAIRS)
    wanted = [
        [alone(mixer(), pair.prompt, pair[side]) for pair in PAIRS]
        for side in (1, 2)
    ]
    close(
        data.reference,
        wanted,
        "ln of the probabilities of six answers",
        tol=1e-4,
        hint="add the logarithms of the answer's tokens: do not divide by "
        "their number, and leave out prompt and padding",
    )


def check_start() -> None:
    """Before the first step the loss is ln 2, whatever β is."""
    model = mixer()
    data = preference.with_reference(model, PAIRS)
    for beta in (0.1, 2.0):
        close(
            preference.dpo_loss(preference.gains(model, data), beta),
            math.log(2),
            f"the loss of a model that is its own reference, β = {beta}",
            tol=1e-5,
        )


def check_reference() -> None:
    """The reference is numbers: a model that moves does not move them."""
    model = mixer()
    data = preference.with_reference(model, PAIRS)
    true(
        not data.reference.requires_grad,
        "no gradient flows into the reference",
        hint="compute it under torch.no_grad, once, before the first step",
    )
    model.load_state_dict(mixer(2.3).state_dict())
    wanted = [
        [
            alone(mixer(2.3), pair.prompt, pair[side])
            - alone(mixer(), pair.prompt, pair[side])
            for pair in PAIRS
        ]
        for side in (1, 2)
    ]
    close(
        preference.gains(model, data),
        wanted,
        "nats gained by a model that has moved",
        tol=1e-4,
        hint="the model's ln π less that of the reference, in this order",
    )


def check_loss() -> None:
    """−ln σ(β · margin), the mean over pairs, by hand."""
    gained = torch.tensor([[1.0, -3.0], [-1.0, 1.0]])
    wanted = (math.log1p(math.exp(-1.0)) + math.log1p(math.exp(2.0))) / 2
    close(
        preference.dpo_loss(gained, beta=0.5),
        wanted,
        "the loss of margins 2 and -4 at β = 0.5",
        tol=1e-5,
        hint="the logistic function of β times (chosen less rejected)",
    )


def check_direction() -> None:
    """A step makes the chosen answers likelier against the rejected ones."""
    model = mixer()
    data = preference.with_reference(model, PAIRS)
    loss = preference.dpo_loss(preference.gains(model, data))
    weights = list(model.parameters())
    slopes = torch.autograd.grad(loss, weights)
    with torch.no_grad():
        for weight, slope in zip(weights, slopes, strict=True):
            weight.sub_(0.01 * slope)
        moved = preference.gains(model, data)
    true(
        bool((moved[0] - moved[1]).mean() > 0),
        "the mean margin grows after a step against the gradient",
        hint="chosen less rejected, and a minus before the logarithm",
    )


def check_batches() -> None:
    """A pair's two answers and their reference stay together."""
    data = preference.with_reference(mixer(), PAIRS)
    batches = preference.pair_batches(data, 1, seed=0)
    seen = []
    for _ in PAIRS:
        batch = next(batches)
        equal(tuple(batch.ids.shape[:2]), (2, 1), "answers and pairs of one")
        said = [
            row[row != IGNORED].tolist()
            for side in batch.targets
            for row in side
        ]
        pair = next(p for p in PAIRS if p.chosen == said[0])
        equal(said[1], pair.rejected, "what was rejected for the chosen")
        close(
            batch.reference[:, 0],
            [alone(mixer(), pair.prompt, pair[side]) for side in (1, 2)],
            "the reference of a pair in a batch",
            tol=1e-4,
        )
        seen.append(pair)
    equal(sorted(seen), sorted(PAIRS), "the pairs of an epoch")


def check_whole_sentences() -> None:
    """An answer takes the words of its question along."""
    for request, answer, wanted in (
        ("Who sells pies?", "Mrs Pell.", "Mrs Pell sells pies."),
        ("What is five and two?", "Seven.", "Five and two is seven."),
        ("What are they?", "Pies.", "They are pies."),
        ("What does Mrs Pell sell?", "Pies.", "Mrs Pell sells pies."),
        ("What do they sell?", "Pies.", "they sell pies."),
    ):
        task = Task("fact", request, answer)
        equal(preference.whole_sentence(task), wanted, f"to {request!r}")


def check_replies_are_drawn() -> None:
    """Two draws for each task, the same again for the same seed."""
    tokenizer = with_marks(Tokenizer([], {END: 256}))
    model = GPT(gpt2_config(tokenizer.vocab_size, 80, 1, 1, 8)).eval()
    scattered(model, 0.1)
    tasks = [PIES, PIES._replace(request="Who sells flour?")]
    for draws in (1, 2):
        found = preference.draw_replies(model, tokenizer, tasks, draws, 5, 3)
        again = preference.draw_replies(model, tokenizer, tasks, draws, 5, 3)
        sizes = [len(replies) for replies in found]
        equal(sizes, [draws] * 2, f"replies to two tasks, {draws} for each")
        equal(found, again, "replies with the same seed")
    with swapped(preference, "draw_replies", lambda *given: DRAWN):
        pairs = preference.make_pairs(model, tokenizer, tasks[:1], 4, 5)
    texts = [[tokenizer.decode(part) for part in pair] for pair in pairs]
    chosen = [" Mrs Pell.<|end|>", " Mrs Pell sells pies.<|end|>"]
    request = "<|user|>Who sells pies?<|assistant|>"
    equal(texts, [[request, *chosen]], "pairs of four replies, two and two")


DRAWN = [
    [
        Reply("Mrs Pell sells pies.", True),
        Reply("Mrs Pell.", True),
        Reply("Mr Dunn.", True),
        Reply("Miss Finch.", True),
    ]
]


@contextmanager
def swapped(module: ModuleType, name: str, value: object) -> Iterator[None]:
    """Inside, the module has something else of this name."""
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)


def check_type_of_the_loss() -> None:
    """One number, of the type of what was gained."""
    loss = preference.dpo_loss(torch.ones(2, 3))
    kind = (loss.dtype, tuple(loss.shape))
    equal(kind, (torch.float32, ()), "type and shape of the loss")
    nats = preference.with_reference(mixer(), PAIRS).reference
    kind = (nats.dtype, tuple(nats.shape))
    equal(kind, (torch.float32, (2, 3)), "type and shape of the reference")
    data = preference.with_reference(mixer(), PAIRS)
    for size in (0, 4):
        batches = preference.pair_batches(data, size, seed=0)
        raises(ValueError, partial(next, batches), f"{size} of 3 pairs")


BUGS = {
    "an answer without an end is right": (
        "return 2 * is_right(task, reply) + is_right(longer, reply)",
        "ended = Reply(reply.text, True)\n"
        "    return 2 * is_right(task, ended) + is_right(longer, ended)",
    ),
    "a whole sentence is worth more": (
        "return 2 * is_right(task, reply) + is_right(longer, reply)",
        "return is_right(task, reply) + 2 * is_right(longer, reply)",
    ),
    "the first reply is always chosen": (
        "for reply in (first, second) if gap > 0 else (second, first):",
        "for reply in (first, second):",
    ),
    "a tie makes a pair": (
        "    if gap == 0:\n        return None\n",
        "",
    ),
    "an answer has no end mark": (
        "end = len(whole) if reply.ended else len(whole) - 1  # its end mark",
        "end = len(whole) - 1",
    ),
    "a mean instead of a sum": (
        "return -nats.view(targets.shape).sum(dim=-1)",
        "count = (targets != -100).sum(dim=-1)\n"
        "    return -nats.view(targets.shape).sum(dim=-1) / count",
    ),
    "a surprise instead of a logarithm": (
        "return -nats.view(targets.shape).sum(dim=-1)",
        "return nats.view(targets.shape).sum(dim=-1)",
    ),
    "the reference has a gradient": (
        "with torch.no_grad():",
        "with torch.enable_grad():",
    ),
    "there is no reference": (
        "return now - batch.reference",
        "return now",
    ),
    "chosen and rejected are exchanged": (
        "return -F.logsigmoid(rewards[0] - rewards[1]).mean()",
        "return -F.logsigmoid(rewards[1] - rewards[0]).mean()",
    ),
    "β is forgotten": (
        "rewards = beta * gained  # (2, B)",
        "rewards = gained",
    ),
    "the loss is added up": (
        "return -F.logsigmoid(rewards[0] - rewards[1]).mean()",
        "return -F.logsigmoid(rewards[0] - rewards[1]).sum()",
    ),
    "batches mix up the reference": (
        "pairs.reference[:, some],",
        "pairs.reference[:, some.flip(0) - 1],",
    ),
    "the loss comes in 64 bits": (
        "return -F.logsigmoid(rewards[0] - rewards[1]).mean()",
        "return -F.logsigmoid(rewards[0] - rewards[1]).mean().double()",
    ),
    "a verb loses its place": (
        'if verb in ("is", "are"):',
        'if verb == "is":',
    ),
    "replies of all tasks are mixed": (
        "[prompt for prompt in prompts for _ in range(draws)]",
        "prompts",
    ),
    "every reply is compared with the next": (
        "zip(replies[::2], replies[1::2], strict=True)",
        "zip(replies[:-1], replies[1:], strict=True)",
    ),
}
