"""Equations: each planted fault of the table or the pages is caught."""

from collections.abc import Callable

import pytest

from press import equations

Plant = Callable[..., list[str]]
PAGE = "book/model/attention.md"
TABLE = "book/equations.yml"


def more(text: str) -> Callable[[str], str]:
    """Write more at the end."""
    return lambda old: f"{old}\n{text}\n"


def test_an_equation_without_a_line_is_caught(plant: Plant) -> None:
    found = plant("equations", PAGE, more("$$ a = b $$ (eq-planted)"))
    assert any("no line of code for eq-planted" in one for one in found)


def test_elsewhere_an_equation_needs_no_line(plant: Plant) -> None:
    page = "book/training/optimizer.md"
    assert plant("equations", page, more("$$ a = b $$ (eq-planted)")) == []


SYMBOL = "scratchlm.model.layers.gelu"


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (f"{{computes: {SYMBOL}, line: return y}}", "has 0 lines that begin"),
        (f"{{computes: {SYMBOL}, line: ''}}", "lines that begin"),
        ("{computes: scratchlm.model.layers.none, line: x}", "defines no none"),
        (f"{{knows: {SYMBOL}, line: return x}}", "needs a line and one of"),
        (f"{{computes: {SYMBOL}}}", "needs a line and one of"),
        (
            "{computes: scratchlm.text.toytown.begins_story, line: def}",
            "no named listing of scratchlm.text.toytown.begins_story",
        ),
        ("{computes: scratchlm.model.layers.gelu, line: return x}", "no page"),
        ("{computes: scratchlm.model.layers.gelu, line: return x}", "not know"),
    ],
)
def test_a_wrong_entry_is_caught(
    entry: str, message: str, plant: Plant
) -> None:
    found = plant("equations", TABLE, more(f"eq-planted:\n- {entry}"))
    assert any(message in one for one in found), found


def test_a_line_that_is_gone_is_caught(plant: Plant) -> None:
    def rename(text: str) -> str:
        return text.replace("scores.softmax", "scores.softmin")

    found = plant("equations", TABLE, rename)
    assert any("eq-attention" in one and "has 0 lines" in one for one in found)


def test_a_listing_without_a_name_is_caught(plant: Plant) -> None:
    def unname(text: str) -> str:
        assert ":name: lst-attention-weights\n" in text
        return text.replace(":name: lst-attention-weights\n", "")

    found = plant("equations", PAGE, unname)
    wanted = "no named listing of scratchlm.model.attention.attention_weights"
    assert any(wanted in one for one in found)


def test_lines_and_labels_are_found_not_written() -> None:
    table, names = equations.table(), equations.names()
    weights, mean = table["eq-attention"]
    assert names[weights.symbol] == "lst-attention-weights"
    text = equations.find(mean.symbol).text.splitlines()
    assert text[mean.number() - 1].strip().startswith(mean.code)
    assert equations.parse("") == {}


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("$a \\S b$", "(section sign) has no word in press/speech.py"),
        ("$$a \\\\ b \\S c$$", "(section sign) has no word"),
        ("$x = \\unknown{y}$", "\\unknown of $x = \\unknown{y}$ cannot be"),
        ("$\\sqrt{2cm}$", "is no number: part them"),
    ],
)
def test_a_formula_that_cannot_be_read_aloud_is_caught(
    formula: str, message: str, plant: Plant
) -> None:
    found = plant("aloud", PAGE, more(formula))
    assert len(found) == 1
    assert found[0].startswith(f"{PAGE}:")
    assert message in found[0]


def test_every_kind_of_formula_is_read_aloud(plant: Plant) -> None:
    rows = "$$ a &= b \\\\ &= c $$"
    assert plant("aloud", PAGE, more(f"$\\#(x)$\n\n{rows}")) == []
