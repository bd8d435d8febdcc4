"""`notes/budget.md`: what the run takes, and why it is as large as it is.

The numbers and reasons are those of config.toml (`scaffold.config`), which
belongs to the reader, and so this page does from the first day, too.
"""

import textwrap

from scaffold.config import (
    batch_reasons,
    model_reasons,
    money_reasons,
    run_reasons,
    text_reasons,
)
from scaffold.estimate import (
    THRESHOLD,
    Estimate,
    dollars,
    estimate,
    hourly,
    step_tokens,
)
from scaffold.plan import Plan, budgets
from scaffold.tables import basis, count
from scratchlm.cli.estimate import duration, size

WIDTH = 79
BEGIN = """\
Before anything has run, this can be computed of the run of `config.toml`.
`python train.py --dry-run` measures a step on your machine; write what you got
into the last column, and say why where the two differ. The page is yours."""
END = """\
These numbers depend on each other: after a change, `python -m scaffold
estimate`, in the book's folder, computes the table anew (`--help` lists its
options)."""


def rows(plan: Plan, run: Estimate) -> list[str]:
    """The table: size, batch, time and money, with a cell for the reader."""
    facts, settings = budgets()[plan.budget], plan.settings
    often = settings.get("accumulate", 1)
    windows = f"{settings['batch_size']}, {often} to a step"
    price = hourly(facts, plan.limits)
    cells = {
        "parameters": count(run.parameters),
        "tokens to read": count(run.tokens),
        "windows at a time": windows,
        "tokens in a step": f"{step_tokens(settings):,}",
        "memory at the highest": f"{size(run.memory)} of "
        f"{size(facts['memory'])}",
        "operations": f"{run.operations:.2e}, {run.share:.1g} of "
        f"{THRESHOLD:.0e}",
        "time": f"{duration(3600 * run.hours)}, {basis(facts)}",
        "money": f"{dollars(run.usd)}, at {dollars(price)} an hour",
    }
    head = ["| | Estimated | Mine |", "| --- | --- | --- |"]
    return head + [f"| {name} | {cell} | |" for name, cell in cells.items()]


def reasons(plan: Plan, run: Estimate) -> dict[str, list[str]]:
    """What is said of each question, a paragraph each."""
    facts = budgets()[plan.budget]
    why = text_reasons(plan, run) | model_reasons(plan)
    why |= batch_reasons(plan, facts) | run_reasons(plan, facts, run)
    why |= money_reasons(plan, facts)
    size_of = ["layers", "channels", "vocab_size", "context"]
    parts = {
        "Why this size": size_of,
        "Why this batch": ["batch_size", "accumulate"],
        "Why so long": ["steps", "max_minutes"],
        "What it may cost": ["max_usd", "usd_per_hour"],
    }
    found = {
        title: [
            f"`{name} = {plan.settings[name]}`: {why[name]}"
            for name in names
            if name in plan.settings
        ]
        for title, names in parts.items()
    }
    found["Why this size"] += [f"{n[0].upper()}{n[1:]}." for n in plan.notes]
    return {title: said for title, said in found.items() if said}


def budget_page(plan: Plan) -> str:
    """The page, as Markdown."""
    facts = budgets()[plan.budget]
    run = estimate(plan.settings, facts, plan.limits)
    title = f"{facts['title'][0].upper()}{facts['title'][1:]}"
    lines = ["# The budget", "", f"{title} (`{plan.budget}`).", "", BEGIN, ""]
    lines += [*rows(plan, run), ""]
    for question, said in reasons(plan, run).items():
        lines += [f"## {question}", ""]
        for text in said:
            lines += [*textwrap.wrap(text, WIDTH), ""]
    return "\n".join([*lines, END]) + "\n"
