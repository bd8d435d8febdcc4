"""Solutions to the exercises on instruction tuning."""

from collections.abc import Sequence

from scratchlm.model.gpt import GPT
from scratchlm.text.tokenizer import Tokenizer
from scratchlm.training.memory import IGNORED
from scratchlm.tuning.instruct import (
    Example,
    Turn,
    encode_turn,
    widen,
)


def mean_of_means(losses: Sequence[Sequence[float]], rows: int) -> float:
    """The loss of a batch, if each piece of `rows` dialogues has its mean.

    `losses` are the nats of each dialogue's targets.

    >>> mean_of_means([[4.0, 4.0], [1.0] * 8], rows=1)  # of 4 and of 1
    2.5
    >>> mean_of_means([[4.0, 4.0], [1.0] * 8], rows=2)  # of ten targets
    1.6
    """
    means = []
    for start in range(0, len(losses), rows):
        nats = [
            x for dialogue in losses[start : start + rows] for x in dialogue
        ]
        means.append(sum(nats) / len(nats))
    return sum(means) / len(means)


def last_only(example: Example) -> Example:
    """Of several answers only the last one is a target."""
    targets = example.targets
    last = len(targets)
    while last and targets[last - 1] != IGNORED:
        last -= 1
    return Example(example.ids, [IGNORED] * last + targets[last:])


SYSTEM = "<|system|>"


def with_system(tokenizer: Tokenizer) -> Tokenizer:
    """The tokenizer with one more mark, for who has set the dialogue up."""
    special = tokenizer.special_tokens | {SYSTEM: tokenizer.vocab_size}
    return Tokenizer(tokenizer.merges, special, tokenizer.pattern)


def encode_dialogue(
    tokenizer: Tokenizer, turns: Sequence[Turn], system: str = ""
) -> list[int]:
    """A dialogue; with a word of the system's in front, if there is one."""
    ids: list[int] = []
    if system:
        ids.append(tokenizer.special_tokens[SYSTEM])
        ids += tokenizer.encode_ordinary(system)
    for turn in turns:
        ids += encode_turn(tokenizer, turn)
    return ids


def blend(base: GPT, tuned: GPT, share: float) -> GPT:
    """A model between two: each weight `share` of the way to the tuned one.

    Wortsman et al. (2022). Both have the same form.
    """
    between = widen(base, base.config.vocab_size)  # a copy
    theirs = tuned.state_dict()
    between.load_state_dict(
        {
            name: weight.lerp(theirs[name], share)
            for name, weight in base.state_dict().items()
        }
    )
    return between
