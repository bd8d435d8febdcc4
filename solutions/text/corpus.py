"""Solutions to the exercises on gathering text."""

import random
import re
from collections import Counter
from collections.abc import Sequence
from hashlib import blake2b

PRIME = (1 << 61) - 1

# --- MinHash by hand ---------------------------------------------------------


def minhash(
    runs: frozenset[str], numbers: int = 128, seed: int = 1
) -> list[int]:
    """The smallest hash of a set's elements, under so many hash functions.

    One good hash makes a number of each element; the line a x + b modulo a
    prime, with another a and b each time, makes many hashes of it. The sets
    must not be empty.
    """
    generator = random.Random(seed)
    marks = [
        int.from_bytes(blake2b(run.encode(), digest_size=7).digest(), "big")
        for run in runs
    ]
    found = []
    for _ in range(numbers):
        a, b = generator.randrange(1, PRIME), generator.randrange(PRIME)
        found.append(min((a * mark + b) % PRIME for mark in marks))
    return found


def agreement(a: Sequence[int], b: Sequence[int]) -> float:
    """The share of places where two sketches hold the same number.

    >>> agreement([3, 1, 4, 1], [3, 1, 5, 9])
    0.5
    """
    return sum(x == y for x, y in zip(a, b, strict=True)) / len(a)


# --- Bands -------------------------------------------------------------------


def proposed(similarity: float, bands: int, rows: int) -> float:
    """The probability that a pair agrees in all rows of one band or more.

    >>> proposed(0.5, bands=2, rows=1)
    0.75
    """
    return 1 - (1 - similarity**rows) ** bands


def choose_bands(similarity: float, numbers: int, risk: float) -> int:
    """The most rows a band may have, so that few pairs are overlooked.

    More rows mean fewer pairs to compare in vain. `risk` is the probability
    of overlooking a pair that is just as similar as given.
    """
    fitting = [
        rows
        for rows in range(1, numbers + 1)
        if 1 - proposed(similarity, numbers // rows, rows) <= risk
    ]
    if not fitting:
        raise ValueError(
            f"{numbers} numbers cannot keep the risk below {risk}; take more"
        )
    return max(fitting)


# --- Account numbers ---------------------------------------------------------

IBAN = re.compile(r"(?<!\w)[A-Z]{2}\d{2}(?: ?[A-Z0-9]){11,30}(?!\w)")


def is_iban(text: str) -> bool:
    """Whether the check digits of an account number are right (ISO 13616).

    The first four characters go to the end, letters become numbers from 10
    to 35, and the whole, read as one number, leaves 1 when divided by 97.

    >>> is_iban("GB82 WEST 1234 5698 7654 32")
    True
    """
    plain = text.replace(" ", "")
    moved = plain[4:] + plain[:4]
    return int("".join(str(int(c, 36)) for c in moved)) % 97 == 1


def redact_ibans(text: str) -> str:
    """Put <iban> for account numbers.

    The pattern takes what follows a number for a part of it, as both are
    capital letters and digits. So shorter and shorter beginnings are tried.
    """

    def replace(match: re.Match[str]) -> str:
        found = match[0]
        for end in range(len(found), 14, -1):
            if found[end - 1] != " " and is_iban(found[:end]):
                return "<iban>" + found[end:]
        return found

    return IBAN.sub(replace, text)


# --- What stands on every page -----------------------------------------------


def remove_repeated_lines(
    documents: Sequence[str], limit: int = 2
) -> list[str]:
    """The documents without the lines that more than `limit` of them hold.

    Menus, notices of cookies and mottos are not duplicates of documents,
    only of lines. Empty lines stay.
    """
    counts: Counter[str] = Counter()
    for text in documents:
        counts.update({line for line in text.split("\n") if line})
    return [
        "\n".join(x for x in text.split("\n") if counts[x] <= limit)
        for text in documents
    ]
