"""Solutions to the exercises on gathering text."""

import random
import re
from collections import Counter
from collections.abc import Iterable, Sequence

PRIME = (1 << 61) - 1

# --- MinHash by hand ---------------------------------------------------------


def minhash(
    runs: Iterable[int], numbers: int = 128, seed: int = 1
) -> list[int]:
    """The smallest hash of a set's elements, under so many hash functions.

    The elements are numbers of 64 bits, as of `shingles`. The line a x + b
    modulo a prime, with another a and b each time, makes many hashes of
    each. The sets must not be empty.
    """
    generator = random.Random(seed)
    marks, found = [int(run) for run in runs], []
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


# --- Identity numbers --------------------------------------------------------

DNI = re.compile(r"(?<![\w.-])\d{8}-?[A-Z](?![\w-])")
LETTERS = "TRWAGMYFPDXBNJZSQVHLCKE"


def is_dni(text: str) -> bool:
    """Whether the letter of a Spanish identity number is right.

    It stands in LETTERS at the remainder of the number divided by 23.

    >>> is_dni("12345678Z"), is_dni("12345678A")
    (True, False)
    """
    return text[-1] == LETTERS[int(text[:8]) % 23]


def redact_dnis(text: str) -> str:
    """Put <dni> for Spanish identity numbers.

    >>> redact_dnis("DNI 12345678Z, part 12345678A")
    'DNI <dni>, part 12345678A'
    """
    return DNI.sub(lambda m: "<dni>" if is_dni(m[0]) else m[0], text)


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
