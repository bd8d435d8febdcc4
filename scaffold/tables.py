"""The commands `list` and `estimate`: what each choice takes."""

import argparse
import json
from typing import Any

from scaffold.estimate import (
    SHARE,
    THRESHOLD,
    Estimate,
    dollars,
    estimate,
    hourly,
)
from scaffold.new import limits
from scaffold.plan import Limits, Plan, budgets, tracks
from scratchlm.cli.estimate import duration, size


def count(number: float) -> str:
    """A large number for people.

    >>> count(917504), count(3_276_800), count(2.2e9)
    ('0.918 M', '3.28 M', '2.2 G')
    """
    unit, name = (1e9, "G") if number >= 1e9 else (1e6, "M")
    return f"{number / unit:.3g} {name}"


def basis(facts: dict[str, Any]) -> str:
    """What the time of an estimate assumes."""
    if "peak" not in facts:
        return "at the rate of the book's own run on two cores"
    return (
        f"at {SHARE:.0%} of what the maker of the {facts['card']} promises: "
        "an assumption"
    )


def priced(facts: dict[str, Any], limits: Limits) -> list[str]:
    """What an hour costs, and who says so; nothing where nothing is paid."""
    if limits.hourly_usd is not None:
        return [f"  price       {dollars(limits.hourly_usd)} an hour, as asked"]
    if "priced" not in facts:
        return []
    seen = facts["priced"]
    return [
        f"  price       {dollars(facts['price'])} an hour for a card: "
        f"{seen['from']}, {seen['seen']}"
    ]


def words(run: Estimate, facts: dict[str, Any], limits: Limits) -> list[str]:
    """An estimate, a line for each part."""
    rented = facts["cards"]
    price = f"for {rented} cards" if rented > 1 else "for the machine"
    return [
        "the run of config.toml, estimated:",
        f"  parameters  {count(run.parameters)}",
        f"  tokens      {count(run.tokens)}, some of them more than once",
        f"  operations  {run.operations:.2e}, {run.share:.1g} of "
        f"{THRESHOLD:.0e}",
        f"  memory      {size(run.memory)} of {size(facts['memory'])}, in "
        "float32",
        f"  time        {duration(3600 * run.hours)}, {basis(facts)}",
        f"  money       {dollars(run.usd)} {price}",
        *priced(facts, limits),
    ]


def brief(run: Estimate) -> str:
    """An estimate in a line.

    >>> brief(Estimate(917504, 1_433_600, 10**13, 10**8, 0.06, 0.0, 1e-10))
    '0.918 M parameters, 1.43 M tokens; estimated: 4 min, nothing'
    """
    return (
        f"{count(run.parameters)} parameters, {count(run.tokens)} tokens; "
        f"estimated: {duration(3600 * run.hours)}, {dollars(run.usd)}"
    )


def show_estimate(options: argparse.Namespace) -> int:
    """Print what one run takes."""
    plan = Plan(
        options.track, options.budget, options.data, limits=limits(options)
    )
    facts = budgets()[plan.budget]
    run = estimate(plan.settings, facts, plan.limits)
    if options.json:
        said = {"track": plan.track, "budget": plan.budget, **run.facts}
        said["hourly_usd"] = hourly(facts, plan.limits)
        said["priced"] = facts.get("priced")
        said["notes"] = plan.notes
        print(json.dumps(said, indent=1))
        return 0
    lines = words(run, facts, plan.limits)
    print("\n".join([*lines, *(f"note: {n}" for n in plan.notes)]))
    return 0


def rows() -> list[dict[str, Any]]:
    """Every track with every budget: what to read, what to run."""
    found = []
    for track in tracks():
        for budget, facts in budgets().items():
            plan = Plan(track, budget)
            reading = {
                "topics": len(plan.topics),
                "weeks": len(plan.weeks),
                "reading_hours": round(sum(w.hours for w in plan.weeks), 1),
            }
            run = estimate(plan.settings, facts, Limits())
            names = {"track": track, "budget": budget}
            found.append(names | reading | run.facts)
    return found


def show_list(options: argparse.Namespace) -> int:
    """Print the tracks and budgets, with what they take."""
    found = rows()
    if options.json:
        print(json.dumps(found, indent=1))
        return 0
    for name, item in tracks().items():
        one = next(row for row in found if row["track"] == name)
        print(f"{name:<14}{item['aim']}")
        print(
            f"{'':<14}{one['topics']} topics in {one['weeks']} weeks, about "
            f"{one['reading_hours']:.0f} hours"
        )
    print(f"\n{'budget':<8}{'parameters':>12}{'tokens':>9}", end="")
    print(f"{'memory':>9}{'time':>8}{'dollars':>9}  for")
    for row in found[: len(budgets())]:
        title = budgets()[row["budget"]]["title"]
        print(
            f"{row['budget']:<8}{count(row['parameters']):>12}"
            f"{count(row['tokens']):>9}{size(row['memory']):>9}"
            f"{duration(3600 * row['hours']):>8}{row['usd']:>9.2f}  {title}"
        )
    print(
        "\nThe runs learn Toytown, and every number is estimated; `estimate` "
        "says how.\nWith a text of your own (--data), models become larger."
    )
    return 0
