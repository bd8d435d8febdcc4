"""Formulas in words: every part said, its end too, nothing left out."""

import doctest

import pytest
from latex2mathml.converter import convert
from lxml import etree

from press import speech

# By ear: from LaTeX to what a reader should hear.
HEARD = {
    "x": "x",
    "B \\times T": "upper B times upper T",
    "\\frac{1}{N}": "1 over upper N",
    "\\frac{a + b}{c}": "the fraction a plus b over c, end of fraction",
    "x^2 + y^3": "x squared plus y cubed",
    "e^{-x}": "e to the power of minus x, end of power",
    "W^\\top": "upper W transposed",
    "x_i": "x sub i",
    "x_{i+1} y": "x sub i plus 1, end of sub, y",
    "x_i^2": "x sub i squared",
    "\\sum_i p_i": "the sum over i p sub i",
    "\\sum_{i=1}^{n} x": "the sum from i equals 1 to n x",
    "\\sqrt{2} \\cdot \\sqrt{a b}": "the square root of 2, end of root, times "
    "the square root of a b, end of root",
    "50\\,257 + 1": "50257 plus 1",
    "n! ; 5\\%": "n factorial semicolon 5 percent",
    "a / b": "a divided by b",
    "\\hat{m}_t": "m hat sub t",
    "p(y \\mid x)": "p open parenthesis y given x close parenthesis",
    "\\lambda \\le \\beta_1": "lambda is at most beta sub 1",
    "\\#(x)": "the number of open parenthesis x close parenthesis",
    "f(a, b)": "f open parenthesis a, b close parenthesis",
}


def formula(latex: str) -> etree._Element:
    """The formula as MathML."""
    return etree.fromstring(convert(latex))


@pytest.mark.parametrize("latex", HEARD)
def test_a_formula_is_read_as_one_would_read_it_aloud(latex: str) -> None:
    assert speech.reading(formula(latex)) == HEARD[latex]


def test_formulas_that_look_different_sound_different() -> None:
    alike = ["a + b / c", "(a + b) / c", "\\frac{a + b}{c}"]
    alike += ["x_i^2", "x_{i^2}", "x^2_j", "X_i^2", "\\sqrt{a} b"]
    alike += ["\\sqrt{a b}", "\\frac{1}{2} x", "1/2x", "\\frac{a}{b^2}"]
    alike += ["{\\frac{a}{b}}^2", "e^{a} b", "e^{a b}", "e^{a_i} b"]
    said = [speech.reading(formula(latex)) for latex in alike]
    assert len(set(said)) == len(alike), said


def test_rows_are_told_apart() -> None:
    both = formula("\\begin{cases} 0 & s < t \\\\ 1 & s = t \\end{cases}")
    heard = "open brace 0, if s is less than t; 1, if s equals t"
    assert speech.reading(both) == heard


@pytest.mark.parametrize(
    ("latex", "named"), [("a \\smile b", "⌣"), ("\\overrightarrow{x}", "→")]
)
def test_what_has_no_words_is_an_error(latex: str, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        speech.reading(formula(latex))


def test_an_unknown_part_is_an_error() -> None:
    planted = f"<math xmlns='{speech.MATHML[1:-1]}'><menclose/></math>"
    with pytest.raises(ValueError, match="<menclose> has no words"):
        speech.reading(etree.fromstring(planted))


def test_the_examples_hold() -> None:
    assert doctest.testmod(speech).failed == 0
