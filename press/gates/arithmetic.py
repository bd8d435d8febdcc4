"""Recompute the formulas that hold nothing but numbers.

`$4 \\cdot 31 = 124$` needs no source: we compute it. A side with a letter in
it is left alone; of the other sides each must equal the next, ``=`` to the
last digit written and ``\\approx`` as far as rounding goes.
"""

import math
import re
from collections.abc import Iterator
from functools import lru_cache

TOKEN = re.compile(
    r"\s*(\d+(?:(?:\{,\}|\\,|,)\d{3})*(?:\.\d+)?|\\[A-Za-z]+|e(?=\^)|[-+*/^_(){}|])"
)
RELATION = re.compile(
    r"(=|\\approx|\\doteq|<|>|\\leq?|\\geq?|\\ne)(?![A-Za-z])"
)
QUIET = re.compile(r"\\(?:left|right|bigl|bigr|big|displaystyle|quad|;|!)\b")
FUNCTIONS = {"\\ln": math.log, "\\sqrt": math.sqrt, "\\exp": math.exp}
FRACTIONS = {"\\frac", "\\tfrac", "\\dfrac"}
TIMES = {"\\cdot", "\\times", "*"}


class Open(ValueError):
    """The side of a formula is no number: it has letters, or is cut off."""


class Side:
    """One side of a formula, read from left to right."""

    def __init__(self, text: str) -> None:
        self.tokens: list[str] = []
        at = 0
        text = QUIET.sub(" ", text.replace("\\,", "").replace("{,}", ""))
        text = text.strip().rstrip(".,;")
        while at < len(text):
            found = TOKEN.match(text, at)
            if not found:
                raise Open(text)
            self.tokens.append(found[1].replace(",", ""))
            at = found.end()
            while at < len(text) and text[at].isspace():
                at += 1

    def peek(self) -> str:
        return self.tokens[0] if self.tokens else ""

    def next(self) -> str:
        if not self.tokens:
            raise Open("nothing left")
        return self.tokens.pop(0)

    def value(self) -> float:
        """The value of the whole side."""
        total = self.sum()
        if self.tokens:
            raise Open(self.peek())
        return total

    def sum(self) -> float:
        sign = 1
        if self.peek() in ("+", "-"):
            sign = -1 if self.next() == "-" else 1
        total = sign * self.product()
        while self.peek() in ("+", "-"):
            sign = -1 if self.next() == "-" else 1
            total += sign * self.product()
        return total

    def product(self) -> float:
        total = self.power()
        while self.peek() and self.peek() not in ("+", "-", ")", "}", "|"):
            if self.peek() == "/":
                self.next()
                total /= self.power()
            else:
                if self.peek() in TIMES:
                    self.next()
                total *= self.power()
        return total

    def power(self) -> float:
        base = self.atom()
        if self.peek() == "^":
            self.next()
            return float(base ** self.argument())
        return base

    def argument(self) -> float:
        """What stands in braces, or the one digit that needs none."""
        if self.peek() == "{":
            self.next()
            total = self.sum()
            if self.next() != "}":
                raise Open("}")
            return total
        ahead = self.peek()
        if ahead.isdigit() and len(ahead) > 1:  # \frac12 is 1 by 2
            self.tokens[0] = ahead[1:]
            return float(ahead[0])
        return self.atom()

    def atom(self) -> float:
        word = self.next()
        if word[0].isdigit():
            return float(word)
        if word == "e":
            return math.e
        if word in ("(", "{"):
            total = self.sum()
            if self.next() not in (")", "}"):
                raise Open(word)
            return total
        if word in FRACTIONS:
            top = self.argument()
            return top / self.argument()
        if word == "\\log" and self.peek() == "_":
            self.next()
            base = self.argument()
            return math.log(self.power()) / math.log(base)
        if word in FUNCTIONS:
            return FUNCTIONS[word](
                self.argument() if self.peek() == "{" else self.power()
            )
        raise Open(word)


def closed(text: str) -> float | None:
    """The value of a side, None where it is no closed number."""
    try:
        return Side(text).value()
    except (Open, ValueError, ZeroDivisionError, OverflowError):
        return None


def digits(text: str) -> int:
    """How many decimals a number is written with."""
    last = re.findall(r"\d+(?:\.(\d+))?", text.replace("\\,", ""))
    return len(last[-1]) if last else 0


def equal(left: float, right: float, written: str, relation: str) -> bool:
    """Whether two sides agree as far as the right one is written."""
    if relation in ("<", ">", "\\le", "\\ge", "\\leq", "\\geq", "\\ne"):
        return {
            "<": left < right,
            ">": left > right,
            "\\le": left <= right,
            "\\leq": left <= right,
            "\\ge": left >= right,
            "\\geq": left >= right,
            "\\ne": left != right,
        }[relation]
    half = 0.5 * 10 ** -digits(written)
    if relation == "=":
        return math.isclose(left, right, rel_tol=1e-9) or (
            digits(written) > 0 and abs(left - right) <= half * 1.0000001
        )
    if re.fullmatch(r"\s*-?[\d{}\\,.]+\s*", written):
        zeros = len(re.sub(r"\D", "", written).rstrip("0"))
        size = 10 ** (math.floor(math.log10(abs(right) or 1)) + 1 - zeros)
        half = max(half, 0.5 * size) if not digits(written) else half
        return abs(left - right) <= half * 1.0000001
    return math.isclose(left, right, rel_tol=0.06)


@lru_cache(maxsize=4096)
def verdict(formula: str) -> bool | None:
    """Whether a formula's closed sides agree; None where there are not two."""
    found: bool | None = None
    for part in re.split(r",\s*\\quad|;|\\\\|\\qquad", formula):
        for left, relation, right in comparisons(part.replace("&", "")):
            a, b = closed(left), closed(right)
            if a is None or b is None:
                continue
            if not equal(a, b, right, relation):
                return False
            found = True
    return found


def comparisons(text: str) -> Iterator[tuple[str, str, str]]:
    """The neighboring sides of a chain, with the relation between them."""
    parts = RELATION.split(text)
    for at in range(0, len(parts) - 2, 2):
        yield parts[at], parts[at + 1], parts[at + 2]
