"""A message has room for its end, however long its parts are."""

import pytest

from check.commands import main
from check.message import LINES, fit
from check.places import Site

WHOLE = 25  # lines of one topic, with the count below them
HEAD = ["topic: title"]


def lines(name: str, count: int) -> list[str]:
    """So many lines that can be told apart."""
    return [f"{name} {i}" for i in range(count)]


@pytest.mark.parametrize("good", [0, 1, 9, 40])
@pytest.mark.parametrize("bad", [0, 1, 9, 40])
@pytest.mark.parametrize("beside", [0, 2])
@pytest.mark.parametrize("count", [5, 15, 21, 24, 26, 60])
def test_the_end_of_the_details_is_never_cut(
    count: int, beside: int, bad: int, good: int
) -> None:
    details = lines("detail", count)
    other = lines("✗", bad)
    made = fit(HEAD, lines("✓", good), details, other, lines("–", beside))
    assert len(made) <= LINES == WHOLE - 1
    assert made[0] == HEAD[0]
    shown = [line for line in made if line.startswith("detail")]
    assert shown[:2] == details[:2]
    assert shown[-2:] == details[-2:]
    assert (shown == details) == ("      …" not in made)
    if count <= 15:
        assert shown == details
    if 1 + good + count + bad + beside <= LINES:
        left = lines("–", beside)
        assert made == [*HEAD, *lines("✓", good), *details, *other, *left]


def test_what_is_left_out_is_counted() -> None:
    made = fit(HEAD, lines("✓", 9), lines("d", 12), lines("✗", 12), ["– 1"])
    assert made[1] == "  ✓ 9 checks pass"
    assert made[-1] == "– 1"
    assert made[-2] == "  ✗ 4 others fail, too"
    assert made[-10:-2] == lines("✗", 8)


WORDS = "all the words that a value has when it is long and printed, too; "


def test_a_long_message_says_what_is_next(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    """All parts at their longest: the command at the end is there."""
    path = site.path(site.topics["attention"])
    text = path.read_text(encoding="utf-8")
    old = "    return scores.softmax(dim=-1)\n"
    assert old in text
    loud = f"    print({WORDS!r} * 9)\n    raise ValueError({WORDS!r} * 9)\n"
    path.write_text(text.replace(old, loud), encoding="utf-8")
    assert main(["attention"], site) == 1
    said = capsys.readouterr().out.splitlines()
    assert len(said) <= WHOLE
    assert any(
        line == "      next      python -m check hint attention"
        for line in said
    )
