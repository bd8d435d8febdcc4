"""Solutions on dialogues: means, marks, and a model in between."""

import pytest
import torch

from scratchlm.model.gpt import GPT, gpt2_config
from scratchlm.text.tokenizer import END, Tokenizer
from scratchlm.training.memory import IGNORED
from scratchlm.tuning.instruct import Turn, make_example, with_marks
from solutions.tuning.instruct import (
    SYSTEM,
    blend,
    encode_dialogue,
    last_only,
    mean_of_means,
    with_system,
)

TURNS = [Turn("Who?", "Ada."), Turn("Where?", "Here.")]


def letters() -> Tokenizer:
    """A token for each byte, and the marks."""
    return with_marks(Tokenizer([], {END: 256}))


def test_a_mean_of_means_depends_on_the_cut() -> None:
    losses = [[3.0], [1.0] * 9, [2.0] * 2, [1.0] * 8]
    flat = [x for row in losses for x in row]
    assert mean_of_means(losses, 4) == pytest.approx(sum(flat) / len(flat))
    assert mean_of_means(losses, 1) == pytest.approx(7 / 4)
    assert mean_of_means(losses, 2) != mean_of_means(losses, 1)


def test_only_the_last_answer_is_a_target() -> None:
    tokenizer = letters()
    example = last_only(make_example(tokenizer, TURNS))
    said = [i for i in example.targets if i != IGNORED]
    assert tokenizer.decode(said) == " Here.<|end|>"
    assert len(example.ids) == len(example.targets)
    nothing = type(example)([1, 2], [IGNORED, IGNORED])
    assert last_only(nothing) == nothing


def test_a_system_speaks_first_and_changes_no_other_token() -> None:
    plain = letters()
    tokenizer = with_system(plain)
    assert encode_dialogue(tokenizer, TURNS) == encode_dialogue(plain, TURNS)
    ids = encode_dialogue(tokenizer, TURNS, f"Be kind.{SYSTEM}")
    assert tokenizer.decode(ids).startswith(f"{SYSTEM}Be kind.{SYSTEM}<|user|>")
    assert ids.count(tokenizer.special_tokens[SYSTEM]) == 1


def test_between_two_models() -> None:
    torch.manual_seed(0)
    base, tuned = (GPT(gpt2_config(20, 8, 1, 2, 8)) for _ in range(2))
    ids = torch.arange(8)[None]
    with torch.no_grad():
        assert torch.equal(blend(base, tuned, 0.0)(ids), base(ids))
        torch.testing.assert_close(blend(base, tuned, 1.0)(ids), tuned(ids))
    half = blend(base, tuned, 0.5)
    torch.testing.assert_close(
        half.token.weight, (base.token.weight + tuned.token.weight) / 2
    )
    assert half.head.weight is half.token.weight
