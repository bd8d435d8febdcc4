"""How dialogues look to a model: the book's layout, and two by others.

A layout says what comes before a request, between it and the answer, and
after. Marks go in as numbers, so nobody can type one.

Left out: templates as programs, voices besides user and assistant.
"""

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

from scratchlm.text.prepare import AnyTokenizer
from scratchlm.text.tokenizer import Tokenizer, split_special
from scratchlm.tuning.instruct import ASSISTANT, STOP, USER, Turn

Piece = tuple[bool, str]  # a mark, or a text in which nothing is special


class Layout(NamedTuple):
    """What comes before a request, between it and the answer, and after."""

    before: str
    between: str
    after: str

    def marks(self, tokenizer: Tokenizer) -> list[str]:
        """The special tokens in it."""
        names = tokenizer.special_tokens
        return [p for part in self for p in split_special(part, names)[1::2]]


OURS = Layout(USER, ASSISTANT, STOP)
PUBLISHED = (
    Layout(
        "<|im_start|>user\n",
        "<|im_end|>\n<|im_start|>assistant\n",
        "<|im_end|>\n",
    ),
    Layout(
        "<|start_header_id|>user<|end_header_id|>\n\n",
        "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
        "<|eot_id|>",
    ),
)


def layout_of(
    tokenizer: AnyTokenizer, instructed: bool = False
) -> Layout | None:
    """How dialogues of this model look; None if it has had none.

    A template that came with it is a program, and is not run: for others'
    models that were `instructed` we know two layouts, by their marks.
    """
    if not isinstance(tokenizer, Tokenizer):
        return None
    if len(OURS.marks(tokenizer)) == 3:
        return OURS
    known = PUBLISHED if instructed else ()
    return next((x for x in known if len(x.marks(tokenizer)) > 3), None)


def encode_pieces(tokenizer: Tokenizer, pieces: Sequence[Piece]) -> list[int]:
    """Marks as their numbers, and neighboring texts joined into one."""
    ids: list[int] = []
    for is_mark, group in groupby(pieces, key=lambda piece: piece[0]):
        names = [text for _, text in group]
        if is_mark:
            ids += [tokenizer.special_tokens[name] for name in names]
        else:
            ids += tokenizer.encode_ordinary("".join(names))
    return ids


def encode_dialogue(
    tokenizer: Tokenizer, layout: Layout, turns: Sequence[Turn], request: str
) -> list[int]:
    """The prompt: what was said, the request, and the mark to answer after.

    What was typed is never special, even if it spells a mark.
    """

    def part(text: str) -> list[Piece]:
        halves = split_special(text, tokenizer.special_tokens)
        return [(i % 2 == 1, half) for i, half in enumerate(halves) if half]

    before, between, after = map(part, layout)
    pieces: list[Piece] = []
    for turn in turns:
        pieces += [*before, (False, turn.request), *between]
        pieces += [(False, turn.answer), *after]
    pieces += [*before, (False, request), *between]
    return encode_pieces(tokenizer, pieces)
