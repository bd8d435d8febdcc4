"""Layouts of dialogues: the book's is that of training; two of others."""

from scratchlm.text.characters import CharTokenizer
from scratchlm.text.tokenizer import Tokenizer
from scratchlm.text.toytown import join, write_corpus
from scratchlm.tuning.dialogue import OURS, encode_dialogue, layout_of
from scratchlm.tuning.instruct import (
    Turn,
    encode_request,
    encode_turn,
    with_marks,
)

TOWN = Tokenizer.train(join(write_corpus(20_000)), 300)
MARKED = with_marks(TOWN)
CHATML = ("<|im_start|>", "<|im_end|>")
HEADED = ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")


def marked(names: tuple[str, ...]) -> Tokenizer:
    """The tokenizer with other special tokens."""
    first = TOWN.vocab_size
    more = {name: first + i for i, name in enumerate(names)}
    return Tokenizer(TOWN.merges, TOWN.special_tokens | more, TOWN.pattern)


def test_our_layout_is_that_of_training() -> None:
    turns = [Turn("Who?", " Ada."), Turn("What <|end|>?", " Six.")]
    ids = encode_dialogue(MARKED, OURS, turns, "And?")
    wanted = [
        i
        for turn in turns
        for i in encode_turn(MARKED, Turn(turn.request, turn.answer[1:]))
    ]
    assert ids == [*wanted, *encode_request(MARKED, "And?")]


def test_layouts_of_others() -> None:
    tokenizer = marked(CHATML)
    found = layout_of(tokenizer, True)
    assert found is not None
    ids = encode_dialogue(
        tokenizer, found, [Turn("Hi <|im_end|>", "Yes")], "So?"
    )
    start, end = (tokenizer.special_tokens[name] for name in CHATML)
    text = tokenizer.encode_ordinary
    assert ids == [
        *(start, *text("user\nHi <|im_end|>"), end, *text("\n")),
        *(start, *text("assistant\nYes"), end, *text("\n")),
        *(start, *text("user\nSo?"), end, *text("\n")),
        *(start, *text("assistant\n")),
    ]
    assert tokenizer.decode(ids).endswith("assistant\n")
    other = layout_of(marked(HEADED), True)
    assert other is not None
    assert other.marks(marked(HEADED))[-1] == "<|eot_id|>"


def test_who_was_never_taught() -> None:
    assert layout_of(TOWN, True) is None
    assert layout_of(marked(CHATML)) is None
    assert layout_of(MARKED) == OURS
    assert layout_of(CharTokenizer.train("abc")) is None
