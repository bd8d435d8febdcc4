"""What a reward makes of the book's model, three times for each kind of it.

The model is tuned on questions and answers for a while, as in the chapter on
instruction tuning. Then it draws replies to the sums among them and is paid.
"""

from collections import Counter
from copy import deepcopy
from typing import Any

import torch

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
from scratchlm.tuning.preference import draw_replies
from scratchlm.tuning.reward import (
    RewardConfig,
    learn_from_reward,
    pay_form,
    pay_right,
    right_chances,
)

RUN = ROOT / "_build" / "runs" / "toytown"
TUNED, STEPS, SEEDS, DRAWS, SCORED = 55, 100, 3, 8, 6400
TUNING, RATE = 2e-3, 2e-4  # for questions and answers; for the reward
FORMS = {  # what is paid, and how it is learned from
    "sequence": (pay_right, RewardConfig(new_tokens=8)),
    "token": (pay_right, RewardConfig(new_tokens=8, average="token")),
    "constant": (
        pay_right,
        RewardConfig(new_tokens=8, average="constant", scaled=False),
    ),
    "priced": (pay_right, RewardConfig(new_tokens=8, beta=0.3)),
    "form": (pay_form, RewardConfig(new_tokens=8)),
}


def instructed(tokenizer: Tokenizer, steps: int) -> GPT:
    """The book's model after some steps of questions and answers."""
    torch.manual_seed(0)
    model = widen(load_model(RUN), tokenizer.vocab_size)
    context = model.config.context
    examples = make_examples(tokenizer, make_tasks(), context)
    batches = packed_batches(examples, context, rows=4, seed=0)
    fine_tune(model, batches, TuneConfig(steps, TUNING))
    return model


def rounded(values: Any) -> list[float]:
    """Numbers with four decimals."""
    return [round(float(value), 4) for value in values]


def judged(model: GPT, tokenizer: Tokenizer) -> dict[str, Any]:
    """Chances of right answers, nats on stories, and what is said most."""
    found: dict[str, Any] = {}
    for held_out in (False, True):
        tasks = make_tasks(held_out)
        for kind in ("sum", "fact"):
            part = [task for task in tasks if task.kind == kind]
            name = f"{kind}s {'kept back' if held_out else 'learned'}"
            found[name] = rounded(right_chances(model, tokenizer, part))
    unseen = open_tokens(RUN / "validation.tokens").tokens[:SCORED]
    context = model.config.context
    found["nats"] = round(evaluate(model, unseen, context).nats_per_token, 4)
    sums = [task for task in make_tasks() if task.kind == "sum"]
    drawn = draw_replies(model, tokenizer, sums, DRAWS, seed=0)
    texts = Counter(r.text for group in drawn for r in group if r.ended)
    found["most"] = texts.most_common(3)
    return found


def paid(form: str, seed: int, start: GPT, tokenizer: Tokenizer) -> Any:
    """A run of one form: what it earned by step, and what it can do then."""
    pay, config = FORMS[form]
    sums = [task for task in make_tasks() if task.kind == "sum"]
    model = deepcopy(start)
    earned = learn_from_reward(
        model,
        tokenizer,
        sums,
        pay,
        config,
        TuneConfig(STEPS, RATE),
        torch.Generator().manual_seed(seed),
        start if config.beta else None,
    )
    row: dict[str, Any] = {"form": form, "seed": seed}
    row["earned"] = rounded(earned)
    row |= judged(model, tokenizer)
    chances = row["sums learned"]
    print(form, seed, sum(chances) / len(chances), row["most"], flush=True)
    return row


def letters(task: Task, reply: Reply) -> float:
    """A pay that random replies earn a part of: the share of small letters."""
    return sum(c.islower() for c in reply.text) / max(1, len(reply.text))


def small_run(steps: int) -> list[float]:
    """What a small random model earns in its first steps, by letters."""
    tokenizer = with_marks(Tokenizer([], {END: 256}))
    torch.manual_seed(0)
    model = GPT(gpt2_config(tokenizer.vocab_size, 64, 2, 2, 16))
    config = RewardConfig(prompts=2, replies=16, new_tokens=4)
    chance = torch.Generator().manual_seed(0)
    return rounded(
        learn_from_reward(
            model,
            tokenizer,
            make_tasks()[-2:],
            letters,
            config,
            TuneConfig(steps, 1e-3),
            chance,
        )
    )


def record() -> dict[str, Any]:
    """The start, and each form with each seed."""
    torch.set_num_threads(1)
    tokenizer = with_marks(Tokenizer.load(RUN / "tokenizer.json"))
    start = instructed(tokenizer, TUNED)
    first = judged(start, tokenizer)
    runs = [
        paid(form, seed, start, tokenizer)
        for form in FORMS
        for seed in range(SEEDS)
    ]
    config = FORMS["priced"][1]
    return {
        "tuned": TUNED,
        "steps": STEPS,
        "rate": RATE,
        "prompts": config.prompts,
        "replies": config.replies,
        "beta": config.beta,
        "draws": DRAWS,
        "start": first,
        "runs": runs,
        "small": small_run(4),
    }


def replay(data: dict[str, Any]) -> None:
    """A small model still earns what it did; the record is complete."""
    for got, wanted in zip(small_run(4), data["small"], strict=True):
        assert abs(got - wanted) < 0.02, (got, wanted)
    found = [(row["form"], row["seed"]) for row in data["runs"]]
    assert found == [(form, seed) for form in FORMS for seed in range(SEEDS)]
    for row in data["runs"]:
        assert len(row["earned"]) == data["steps"]
