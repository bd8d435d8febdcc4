"""Solutions to the exercises on the town whose entropy we know."""

import math
from collections import defaultdict
from fractions import Fraction
from functools import cache

from scratchlm.text.toytown import (
    START,
    TOWN,
    Part,
    Rule,
    advance,
    first_empty,
    parse,
    templates,
    weight_sums,
)

Filled = frozenset[str]
Ends = dict[Filled, tuple[float, float]]

# --- A code that is as short as the surprise ----------------------------------


def compress(shares: list[tuple[int, int]]) -> str:
    """Bits for a story's choices, each given as (option, alternatives).

    Arithmetic coding with exact fractions. Every choice narrows an interval
    to the part that its option has of it. At the end the shortest binary
    fraction whose extensions all lie inside is written down.
    """
    low, width = Fraction(0), Fraction(1)
    for option, alternatives in shares:
        sums = [0, *weight_sums(alternatives)]
        low += width * Fraction(sums[option], sums[-1])
        width *= Fraction(sums[option + 1] - sums[option], sums[-1])
    bits = 0
    while True:
        first = math.ceil(low * 2**bits)  # the first fraction not below low
        if Fraction(first + 1, 2**bits) <= low + width:
            return format(first, f"0{bits}b") if bits else ""
        bits += 1


def decompress(bits: str) -> str:
    """The story behind `compress`'s bits: the town tells it again."""
    point = Fraction(int(bits or "0", 2), 2 ** len(bits))
    text, todo, facts = "", parse("<story>"), START
    while True:
        written, choice = advance(todo, facts)
        text += written
        if choice is None:
            return text
        sums = [0, *weight_sums(len(choice.options))]
        option = next(
            i for i in range(len(sums)) if point * sums[-1] < sums[i + 1]
        )
        point = point * sums[-1] - sums[option]
        point /= sums[option + 1] - sums[option]
        todo, facts = choice.take(option)


# --- What may follow, and how likely ------------------------------------------


def next_characters(prefix: str) -> dict[str, float]:
    """The true distribution of the character after a beginning.

    The key "" stands for the end of the story. Empty if no story begins so.
    """
    total: defaultdict[str, float] = defaultdict(float)
    paths = [(0, parse("<story>"), START, 1.0)]
    while paths:
        start, todo, facts, probability = paths.pop()
        written, choice = advance(todo, facts)
        here = prefix[start:]
        if len(written) > len(here):
            if written.startswith(here):
                total[written[len(here)]] += probability
        elif not here.startswith(written):
            continue
        elif choice is None:
            if here == written:
                total[""] += probability
        else:
            sums = weight_sums(len(choice.options))
            for option in range(len(sums)):
                share = (len(sums) - option) / sums[-1]
                todo, facts = choice.take(option)
                now = start + len(written)
                paths.append((now, todo, facts, probability * share))
    whole = math.fsum(total.values())
    return {c: p / whole for c, p in sorted(total.items())}


# --- The entropy, without a single story --------------------------------------


def choice_entropy(alternatives: int) -> float:
    """Entropy in nats of one choice among so many.

    >>> round(choice_entropy(2), 4)
    0.6365
    """
    total = weight_sums(alternatives)[-1]
    shares = [(alternatives - i) / total for i in range(alternatives)]
    return -math.fsum(p * math.log(p) for p in shares)


def remaining(role: str, filled: Filled) -> int:
    """How many words can fill the role once the others are filled."""
    table = TOWN.roles[role]
    if table not in TOWN.words:  # somebody's goods: three of them
        return 3
    taken = sum(TOWN.roles.get(other) == table for other in filled)
    return len(TOWN.words[table]) - taken


def read_part(part: Part, filled: Filled) -> Ends:
    """Where one part leads: roles filled → (probability, nats times it)."""
    if isinstance(part, str):
        return {filled: (1.0, 0.0)}
    if isinstance(part, Rule):
        return read_rule(part.name, filled)
    nats = 0.0
    while role := first_empty(part, dict.fromkeys(filled, START["it"])):
        nats += choice_entropy(remaining(role, filled))
        filled |= {role}
    return {filled: (1.0, nats)}


@cache
def read_rule(name: str, filled: Filled) -> Ends:
    """Where a rule leads, over all its templates.

    The entropy of a choice depends on how many alternatives it has, and
    these on which roles are filled, never on with whom. So sets of roles
    are all the memory that is needed.
    """
    ends: defaultdict[Filled, list[float]] = defaultdict(lambda: [0.0, 0.0])
    lines = templates(name)
    total = weight_sums(len(lines))[-1]
    for option, line in enumerate(lines):
        share = (len(lines) - option) / total
        paths: Ends = {filled: (share, -share * math.log(share))}
        for part in line:
            further: defaultdict[Filled, list[float]]
            further = defaultdict(lambda: [0.0, 0.0])
            for roles, (p, nats) in paths.items():
                for end, (q, more) in read_part(part, roles).items():
                    further[end][0] += p * q
                    further[end][1] += nats * q + p * more
            paths = {end: (p, nats) for end, (p, nats) in further.items()}
        for end, (p, nats) in paths.items():
            ends[end][0] += p
            ends[end][1] += nats
    return {end: (p, nats) for end, (p, nats) in ends.items()}


def story_entropy() -> float:
    """The entropy of one story in nats, exact but for rounding."""
    ends = read_rule("story", frozenset(START))
    return math.fsum(nats for _, nats in ends.values())
