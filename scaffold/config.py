"""`config.toml`: the settings of a run, and why each has its value.

Every number in a comment is computed from the settings: by the library's
counts of parameters, operations and bytes, and by the scaffold's estimate of
the time. Nothing has run when they are written.
"""

import textwrap
from typing import Any

import tomlkit

from scaffold.estimate import (
    ROOM,
    Estimate,
    dollars,
    estimate,
    hourly,
    model_of,
    step_tokens,
)
from scaffold.plan import BYTES_PER_TOKEN, ENOUGH, Plan, budgets
from scaffold.tables import words
from scratchlm.cli.estimate import duration, size
from scratchlm.cli.presets import WORDS
from scratchlm.model.gpt import memory_estimate, parameter_table
from scratchlm.training.scaling import operations

WIDTH = 77  # of a comment without its mark
INDENT = 14 * " "  # of a line of the estimate that goes on
OPTIMIZERS = {
    "muon": "Muon for the matrices and AdamW for the rest: on a processor it "
    "learned as much as AdamW alone in less than half the time.",
    "fused_adamw": "PyTorch's AdamW, one kernel for all tensors: it learns "
    "what `adamw` does, and a card is not left waiting.",
}


def text_reasons(plan: Plan, run: Estimate) -> dict[str, str]:
    """Why the text, and why so much of it."""
    settings = plan.settings
    if plan.data is None:
        there = settings["characters"] / BYTES_PER_TOKEN
        corpus = "The town of the book: nothing to download, its floor known."
    else:
        there = plan.tokens
        corpus = f"Your text: about {there:,.0f} tokens to learn from."
    return {
        "corpus": corpus,
        "characters": f"At about {BYTES_PER_TOKEN:g} characters for each token "
        f"these are {there:,.0f} tokens, and the run reads each of them about "
        f"{run.tokens / there:.1f} times.",
    }


def model_reasons(plan: Plan) -> dict[str, str]:
    """Why the model is as large as it is, and where its parameters are."""
    settings = plan.settings
    model, table = model_of(settings), parameter_table(model_of(settings))
    whole = sum(table.values())
    ends = table["tokens"] + table["head"]
    blocks = table["attention"] + table["feed-forward"]
    work = operations(model)
    share = work["scores and means"] / sum(work.values())
    name = settings.get("preset", "small")
    return {
        "preset": f"{WORDS[name][0].upper()}{WORDS[name][1:]}: norm, position "
        "and feed-forward network come from there, sizes from here.",
        "vocab_size": f"Different tokens. They take {ends:,} of {whole:,} "
        f"parameters ({ends / whole:.0%}): more tokens make a text shorter, "
        "and each is seen less often.",
        "layers": f"Blocks, one after the other: {blocks // model.layers:,} "
        "weights each, without norms.",
        "heads": f"Each head looks with {model.channels_per_head} of the "
        f"{model.channels} channels.",
        "channels": "Twice as many make a block's matrices four times as "
        "large; a multiple of the heads.",
        "context": "Tokens that the model sees at a time. At this length, "
        f"looking back takes {share:.0%} of all operations, and the share "
        "grows with it.",
    }


def batch_reasons(plan: Plan, facts: dict[str, Any]) -> dict[str, str]:
    """Why so many windows at a time, and how often to one step."""
    settings, memory = plan.settings, facts["memory"]
    model, windows = model_of(settings), settings["batch_size"]
    now, twice = (memory_estimate(model, n * windows).peak for n in (1, 2))
    often = settings.get("accumulate", 1)
    why = f"twice as many would take {size(twice)}"
    if often > 1:
        why += f", above the {ROOM:.0%} of it that a run should fill"
    else:
        why += ", but a step needs no more"
    return {
        "batch_size": f"Windows at a time: they take {size(now)} of "
        f"{size(memory)}, in float32; {why}.",
        "accumulate": f"Batches to one step, which is then one of {often} × "
        f"{windows} windows, {step_tokens(settings):,} tokens; its memory is "
        "that of one batch.",
    }


def run_reasons(
    plan: Plan, facts: dict[str, Any], run: Estimate
) -> dict[str, str]:
    """Why so many steps, at these rates, for so long at most."""
    settings, limits = plan.settings, plan.limits
    steps, every = settings["steps"], settings["evaluate_every"]
    rates = ", ".join(f"{rate:g}" for rate in plan.rates[2:7])
    often = -(-steps // every)  # the last step is judged as well
    minutes = settings["max_minutes"]
    most = dollars(minutes / 60 * hourly(facts, limits))
    guard = minutes == 60 * facts["hours"] and limits.hours is None
    limit = "A guard" if guard else "The limit that was asked for"
    return {
        "steps": f"{steps:,} steps of {step_tokens(settings):,} tokens are "
        f"{run.tokens:,}: {run.tokens / run.parameters:.1f} for each "
        f"parameter. Where text and time allow, {ENOUGH} are about the best "
        "for the money (Hoffmann et al., 2022).",
        "optimizer": OPTIMIZERS[settings["optimizer"]],
        "learning_rate": "The highest, after the warmup; it falls from there. "
        "The best depends on the model and its text, and only runs tell: "
        f"compare {rates}.",
        "warmup": f"The rate rises for {settings['warmup'] / steps:.0%} of the "
        "steps, since an optimizer's averages are noise at first.",
        "evaluate_every": f"The held-out loss is taken {often} times "
        "on the way, and the best weights are kept.",
        "device": "A run that must not end up on the processor unnoticed. "
        "`--device cpu` has it there all the same.",
        "max_minutes": f"{limit}: `train` measures a step, takes as many as "
        f"fit, and stops in any case. The whole run is estimated at "
        f"{duration(3600 * run.hours)}; these minutes cost {most}.",
    }


def money_reasons(plan: Plan, facts: dict[str, Any]) -> dict[str, str]:
    """Why an end by money, and where the price comes from."""
    seen = facts.get("priced")
    source = "as you said"
    if plan.limits.hourly_usd is None and seen:
        cards = facts["cards"]
        rented = f"{cards} cards" if cards > 1 else "one card"
        source = f"for {rented}, by {seen['from']}, {seen['seen']}"
    return {
        "max_usd": "The limit that was asked for: `train` takes as many steps "
        "as fit into it, and stops when the money is spent, whatever a step "
        "takes.",
        "usd_per_hour": f"Dollars for an hour of the machine, {source}. Write "
        "what yours costs: `train` says at its end what it has cost.",
    }


def config(plan: Plan) -> str:
    """The settings of `scratchlm train` that fit the budget, as TOML."""
    facts = budgets()[plan.budget]
    run = estimate(plan.settings, facts, plan.limits)
    why = text_reasons(plan, run) | model_reasons(plan)
    why |= batch_reasons(plan, facts) | run_reasons(plan, facts, run)
    why |= money_reasons(plan, facts)
    document = tomlkit.document()
    title = f"Settings of `scratchlm train`: {facts['title']}."
    lines = [title, "Options that follow train.py win over them."]
    for line in [*lines, *words(run, facts, plan.limits)]:
        for part in textwrap.wrap(line, WIDTH, subsequent_indent=INDENT):
            document.add(tomlkit.comment(part))
    for name, value in plan.settings.items():
        document.add(tomlkit.nl())
        for line in textwrap.wrap(why[name], WIDTH):
            document.add(tomlkit.comment(line))
        document.add(name, value)
    return tomlkit.dumps(document)
