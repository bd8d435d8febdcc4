"""The pitfalls of the guide: the checks it names exist, mistakes go away."""

import importlib
import re
from pathlib import Path
from types import ModuleType

import pytest
import torch

from check.running import HERE
from records import make_pitfalls as pitfalls
from scratchlm.model import attention, gpt, heads

PAGE = Path(__file__).parents[2] / "book" / "guide" / "pitfalls.md"
SECTION = re.compile(r"^### (.+?)$(.*?)(?=^\(pitfalls-|^#|\Z)", re.M | re.S)
CAUGHT = re.compile(r"\*\*Caught\s+by\*\*(.*)", re.S)


def sections() -> dict[str, str]:
    """What each pitfall says from "Caught by" on, in one line."""
    found = {}
    for title, body in SECTION.findall(PAGE.read_text(encoding="utf-8")):
        caught = CAUGHT.search(body)
        found[title] = " ".join(caught[1].split()) if caught else ""
    return found


def checks(topic: str) -> ModuleType:
    """The module with the checks of a topic."""
    return importlib.import_module(HERE.check_module(HERE.topics[topic]))


def test_there_are_pitfalls_enough() -> None:
    assert len(sections()) >= 18


@pytest.mark.parametrize("title", sections())
def test_the_checks_that_are_named_exist(title: str) -> None:
    text = sections()[title]
    named = re.findall(r"\{ref\}`(\w+)`", text)
    assert named
    bugs = {bug for topic in named for bug in checks(topic).BUGS}
    assert set(re.findall(r"“([^”]+)”", text)) <= bugs


def test_mistakes_of_the_record_are_those_of_the_checks() -> None:
    known = {
        (module.rpartition(".")[2].removeprefix("check_"), *bug)
        for module in map(HERE.check_module, HERE.topics.values())
        for bug in importlib.import_module(module).BUGS.values()
    }
    planted = {
        name: (place.partition(".")[2], old, new)
        for name, (place, old, new) in pitfalls.PLANTS.items()
    }
    own = {name for name, bug in planted.items() if bug not in known}
    assert own == {"pieces", "decay"}  # these two do what no check plants


@pytest.mark.parametrize("name", pitfalls.PLANTS)
def test_each_mistake_can_be_planted_and_goes_away(name: str) -> None:
    place = importlib.import_module(f"scratchlm.{pitfalls.PLANTS[name][0]}")
    before = dict(vars(place))
    with pitfalls.planted(name):
        assert vars(place) != before
    assert vars(place) == before


def test_a_planted_mistake_reaches_who_imported_it() -> None:
    q = torch.zeros(1, 1, 2, 4)
    kept = heads.attention_weights
    layer = heads.MultiHeadAttention(4, 1, reference=True)
    right = layer.attention(q, q, torch.eye(2, 4)[None, None])
    with pitfalls.planted("ahead"):
        assert heads.attention_weights is attention.attention_weights
        assert heads.attention_weights is not kept
        wrong = layer.attention(q, q, torch.eye(2, 4)[None, None])
    assert heads.attention_weights is kept
    assert right[0, 0, 0, 1] == 0
    assert wrong[0, 0, 0, 1] == 0.5


def test_a_mistake_ends_with_an_error_in_it() -> None:
    kept = gpt.GPT

    def stumble() -> None:
        with pitfalls.planted("softmax"):
            assert gpt.GPT is not kept
            raise KeyError

    with pytest.raises(KeyError):
        stumble()
    assert gpt.GPT is kept


def test_a_mistake_that_fits_nowhere_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lost = ("model.gpt", "no such line", "")
    monkeypatch.setitem(pitfalls.PLANTS, "lost", lost)
    with (
        pytest.raises(ValueError, match="does not hold 'no such line' once"),
        pitfalls.planted("lost"),
    ):
        pass


def test_equal_heads_stay_equal() -> None:
    settings = pitfalls.replace(pitfalls.RIGHT, twins=True)
    model = pitfalls.build(settings, 9)
    ids = torch.arange(8)[None] % 9
    gpt.next_token_loss(model(ids), ids).backward()
    layer = model.blocks[0].attention
    first, *others = layer.out.weight.grad.chunk(pitfalls.HEADS, dim=1)
    assert all(torch.allclose(first, other) for other in others)


def test_a_record_that_was_changed_is_caught(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = pitfalls.Run(model=torch.nn.Identity(), losses=[4.0, 3.5, 3.0])
    monkeypatch.setattr(pitfalls, "train", lambda name, stop: run)
    rows = {"right": {"losses": [4.0, 3.5, 3.1]}}
    with pytest.raises(AssertionError, match="right"):
        pitfalls.replay({"runs": rows})
