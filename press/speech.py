"""A formula in words, for readers who hear it.

MathML says how a formula is built; here each part of it gets words, in the
order in which one would read it to somebody. Parts of more than one symbol
are closed aloud (*the fraction a plus b over c, end of fraction*), so that
nobody has to guess where they end. Only what this book uses is known;
anything else is an error, never silence.
"""

import unicodedata
from collections.abc import Callable, Sequence

from lxml import etree

MATHML = "{http://www.w3.org/1998/Math/MathML}"
SIGNS = {
    "=": "equals",
    "≈": "is about",
    "<": "is less than",
    ">": "is greater than",
    "≤": "is at most",
    "≥": "is at least",
    "≻": "is preferred to",
    "∈": "in",
    "+": "plus",
    "−": "minus",
    "±": "plus or minus",
    "·": "times",
    "×": "times",
    "⊙": "times, entry by entry,",
    "/": "divided by",
    "*": "star",
    "!": "factorial",
    "#": "the number of",
    "%": "percent",
    ";": "semicolon",
    "∑": "the sum",
    "∫": "the integral",
    "∩": "intersected with",
    "∪": "united with",
    "∂": "partial",
    "∇": "the gradient",
    "∞": "infinity",
    "⊤": "transposed",
    "′": "prime",
    "←": "becomes",
    "(": "open parenthesis",
    ")": "close parenthesis",
    "[": "open bracket",
    "]": "close bracket",
    "{": "open brace",
    "}": "close brace",
    "|": "bar",
    "∣": "given",
    "‖": "double bar",
    ",": "comma",
    ".": "",
    ":": "colon",
    "…": "and so on",
    "⋯": "and so on",
    "ln": "the logarithm of",
    "𝔼": "the expectation of",
    "ℒ": "script L",
    "ℓ": "script l",
    "ℝ": "the real numbers",
}
MARKS = {"^": "hat", "¯": "bar", "~": "tilde"}  # above a symbol
POWERS = {"2": "squared", "3": "cubed", "⊤": "transposed", "′": "prime"}
POWERS["*"] = "star"
RANGES = (SIGNS["∑"], SIGNS["∫"])  # that run from something to something


def symbol(text: str) -> str:
    """One letter, number, name or sign in words.

    >>> [symbol(text) for text in ("x", "C", "β", "Σ", "12", "softmax")]
    ['x', 'upper C', 'beta', 'upper sigma', '12', 'softmax']
    """
    text = text.replace("\u2061", "").strip()
    if text in SIGNS:
        return SIGNS[text]
    if len(text) != 1 or (text.isascii() and text.isalnum()):
        single = len(text) == 1 and text.isupper()
        return f"upper {text}" if single else text
    name = unicodedata.name(text, "").lower()
    if name.startswith("greek "):
        word = name.replace(" symbol", "").split()[-1]
        word = "lambda" if word.startswith("lam") else word  # in Unicode: mda
        return f"upper {word}" if "capital" in name else word
    raise ValueError(f"{text} ({name}) has no word in press/speech.py")


def closed(words: str, end: str) -> str:
    """A part with its end said, if it is longer than one symbol.

    >>> closed("upper C", "sub"), closed("i plus 1", "sub")
    ('upper C', 'i plus 1, end of sub,')
    """
    short = len(words.removeprefix("upper ").split()) == 1
    return words if short else f"{words}, end of {end},"


def fraction(parts: Sequence[str]) -> str:
    """One part over another."""
    over = " over ".join(parts)
    plain = all(closed(part, "") == part for part in parts)
    return over if plain else f"the fraction {over}, end of fraction,"


def power(base: str, exponent: str) -> str:
    """A part with what stands above it, at its right.

    >>> power("a over b", "2")
    'the fraction a over b, end of fraction, squared'
    """
    if " over " in base and not base.startswith(RANGES):
        base = f"the fraction {base}, end of fraction,"
    known = {symbol(sign): word for sign, word in POWERS.items()}
    raised = closed(exponent, "power")
    return f"{base} {known.get(exponent, f'to the power of {raised}')}"


def sub(base: str, index: str) -> str:
    """A part with what stands below it, at its right."""
    if base in RANGES:
        return under(base, index)
    return f"{base} sub {closed(index, 'sub')}"


def under(base: str, below: str) -> str:
    """A sum or a maximum with what it runs over."""
    return f"{base} over {closed(below, 'range')}"


def between(base: str, below: str, above: str) -> str:
    """A sum or an integral with both its ends, or an index and a power."""
    if base not in RANGES:
        return power(sub(base, below), above)
    return f"{base} from {below} to {closed(above, 'range')}"


def over(base: str, mark: str) -> str:
    """A symbol with a mark above it."""
    return f"{base} {MARKS.get(mark, f'with {mark} above it,')}"


def symbol_or_mark(text: str) -> str:
    """A sign in words, or itself if it is a mark above a symbol."""
    return text if text in MARKS else symbol(text)


SHAPES: dict[str, Callable[..., str]] = {
    "mfrac": lambda *parts: fraction(parts),
    "msup": power,
    "msub": sub,
    "msubsup": between,
    "munder": under,
    "munderover": between,
    "mover": over,
}
NUMBER = f"{MATHML}mn"
THIN = "0.167em"  # between groups of digits
GROUPS = ("math", "mrow", "mstyle", "mtd", "mtr", "mtable")
NAMES = ("mi", "mn", "mo", "mtext")


def spoken(element: etree._Element) -> str:
    """The words for a formula or a part of one, without needless spaces.

    Raises ValueError for a part or a sign that has no words here.
    """
    name = etree.QName(element).localname
    if name in NAMES:
        return symbol_or_mark((element.text or "").strip())
    if name == "mspace":
        return ""
    parts = [spoken(child) for child in whole_numbers(element)]
    if name == "msqrt":
        return f"the square root of {joined(parts)}, end of root,"
    if name in SHAPES:
        return SHAPES[name](*parts)
    if name not in GROUPS:
        raise ValueError(f"<{name}> has no words in press/speech.py")
    return joined(parts, between_parts(element))


def whole_numbers(parent: etree._Element) -> list[etree._Element]:
    """The children, groups of digits with thin spaces between as one."""
    found: list[etree._Element] = []
    for child in parent:
        thin = len(found) > 1 and found[-1].get("width") == THIN
        text = child.text or ""
        if thin and child.tag == found[-2].tag == NUMBER and len(text) == 3:
            whole = etree.Element(NUMBER)
            whole.text = f"{found[-2].text}{text}"
            found[-2:] = [whole]
        else:
            found.append(child)
    return found


def between_parts(element: etree._Element) -> str:
    """What is said between the parts of a group.

    Rows end with a pause; behind an open brace, each row is a case.
    """
    name = etree.QName(element).localname
    if name == "mtable":
        return "; "
    above = element.getparent()
    before = None if above is None else above.getprevious()
    cases = before is not None and (before.text or "").strip() == "{"
    return ", if " if name == "mtr" and cases else " "


def joined(parts: Sequence[str], between: str = " ") -> str:
    """What is there of the parts, one after the other."""
    words = between.join(part for part in parts if part)
    return words.replace(" comma", ",").replace(",,", ",").replace(",;", ";")


def reading(math: etree._Element) -> str:
    """A whole formula in words, as an alternative text.

    >>> reading(etree.fromstring(
    ...     '<math xmlns="http://www.w3.org/1998/Math/MathML"><msup><mi>x</mi>'
    ...     "<mn>2</mn></msup><mo>=</mo><mi>C</mi></math>"
    ... ))
    'x squared equals upper C'
    """
    return spoken(math).strip().rstrip(",").replace(" ,", ",")
