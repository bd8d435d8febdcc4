"""What a read of several tokens costs, and what guessing ahead gains by it.

Times are those of the processor, of one thread, so that other programs count
for less; the weights are random, since time does not depend on what they are.
The draft knows what the model will write, and errs as often as it is told.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from scratchlm.generation.generate import generate
from scratchlm.generation.sampling import SamplingConfig
from scratchlm.generation.speculative import Reader, speculate, speedup
from scratchlm.model.gpt import GPT, GPTConfig, gpt2_config

COUNTS = (1, 2, 3, 5, 9)  # tokens read at once
STORED = 48  # tokens in the cache before
FORMS = {
    "book": gpt2_config(1024, 128, 4, 4, 128),
    "gpt2": gpt2_config(context=128),
}
KEPT = (0.0, 0.4, 0.6, 0.8, 1.0)  # chances that a guess is right
GUESSES, TOKENS, TURNS = 4, 40, 3
GREEDY = SamplingConfig(temperature=0)
PROMPT = [464]


def build(config: GPTConfig) -> GPT:
    """A model with random weights, the same ones each time."""
    torch.manual_seed(0)
    return GPT(config).eval()


def cpu_ms(work: Callable[[], object]) -> float:
    """Milliseconds of this thread."""
    start = time.thread_time()
    work()
    return 1000 * (time.thread_time() - start)


def reading(config: GPTConfig, turns: int) -> list[float]:
    """Median milliseconds for so many tokens behind those stored."""
    reader = Reader(build(config))
    text = list(range(STORED + max(COUNTS)))

    def read(count: int) -> float:
        reader.logits(text[:STORED])  # whatever was read behind is forgotten
        longer = text[: STORED + count]
        return cpu_ms(lambda: reader.logits(longer, count))

    times = [[read(count) for count in COUNTS] for _ in range(turns + 1)]
    return [
        round(statistics.median(of_count), 3)
        for of_count in zip(*times[1:], strict=True)
    ]


class Oracle:
    """Guesses from the text that will come, with mistakes."""

    def __init__(self, future: Sequence[int], kept: float, size: int) -> None:
        """Be right with the chance `kept` at each place."""
        self.future, self.kept, self.size = list(future), kept, size

    def propose(
        self,
        ids: Sequence[int],
        count: int,
        sampling: SamplingConfig,
        generator: torch.Generator | None = None,
    ) -> tuple[list[int], Tensor]:
        """What comes, or the number after it."""
        at = len(ids) - len(PROMPT)
        right = torch.rand(count, generator=generator) < self.kept
        guesses = [
            (token + (not fine)) % self.size
            for token, fine in zip(
                self.future[at : at + count], right.tolist(), strict=True
            )
        ]
        row = torch.tensor(guesses, dtype=torch.long)
        return guesses, F.one_hot(row, self.size).float()


def rounds(
    model: GPT, future: Sequence[int], kept: float, tokens: int
) -> list[list[int]]:
    """What each read brings with such a draft."""
    draft = Oracle(future, kept, model.config.vocab_size)
    generator = torch.Generator().manual_seed(0)
    return list(
        speculate(model, draft, PROMPT, tokens, GUESSES, GREEDY, generator)
    )


def plain(model: GPT, tokens: int) -> list[int]:
    """What the model writes alone."""
    steps = generate(model, torch.tensor([PROMPT]), tokens, GREEDY)
    return [int(step) for step in steps]


@torch.no_grad()
def writing(config: GPTConfig) -> list[dict[str, float]]:
    """Time alone by time with a draft, for drafts that err more and less."""
    model = build(config)
    future = plain(model, TOKENS)
    alone: list[float] = []
    found: dict[float, list[float]] = {kept: [] for kept in KEPT}
    for _ in range(TURNS):
        alone.append(cpu_ms(partial(plain, model, TOKENS)))
        for kept, times in found.items():
            times.append(cpu_ms(partial(rounds, model, future, kept, TOKENS)))
    base = statistics.median(alone)
    return [
        {
            "kept": kept,
            "reads": len(rounds(model, future, kept, TOKENS)),
            "ratio": round(base / statistics.median(times), 3),
            "formula": round(speedup(kept, GUESSES, 0), 3),
        }
        for kept, times in found.items()
    ]


@torch.no_grad()
def record() -> dict[str, Any]:
    """Reads of several tokens, and texts with drafts, for both sizes."""
    torch.set_num_threads(1)
    turns = {"book": 60, "gpt2": 9}
    return {
        "counts": COUNTS,
        "guesses": GUESSES,
        "tokens": TOKENS,
        "milliseconds": {n: reading(c, turns[n]) for n, c in FORMS.items()},
        "writing": {name: writing(config) for name, config in FORMS.items()},
        "first": plain(build(FORMS["book"]), 12),
    }


@torch.no_grad()
def replay(data: dict[str, Any]) -> None:
    """The small model writes the same, and needs as many reads."""
    model = build(FORMS["book"])
    assert plain(model, 12) == data["first"]
    future = plain(model, data["tokens"])
    for row in data["writing"]["book"]:
        found = rounds(model, future, row["kept"], data["tokens"])
        assert list(chain.from_iterable(found)) == future, row
        assert len(found) == row["reads"], row
    assert data["milliseconds"].keys() == FORMS.keys()
