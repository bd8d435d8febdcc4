"""What real drafts gain: seconds with a draft, by seconds without one.

The drafts are those of the chapter, and the model is the book's. Times are
those of the processor, of one thread, so that other programs count for less;
everybody takes turns. Apart from them, how much of the time is the draft's.
"""

import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor

from press.files import ROOT
from records.make_speculative import FORMS, build, cpu_ms
from scratchlm.generation.generate import generate
from scratchlm.generation.sampling import SamplingConfig
from scratchlm.generation.speculative import (
    LookupDraft,
    ModelDraft,
    NGramDraft,
    speculate,
)
from scratchlm.model.gpt import GPT, next_token_loss
from scratchlm.model.ngram import NGram
from scratchlm.text.tokenizer import Tokenizer
from scratchlm.text.tokens import open_tokens
from scratchlm.training.checkpoint import load_model

RUN = ROOT / "_build" / "runs" / "toytown"
GUESSES, TOKENS, TURNS = (1, 2, 4), 100, 9
GREEDY = SamplingConfig(temperature=0)
BEGINNING = "It was a cold Tuesday"


class Timed:
    """A draft, and the milliseconds that it has taken."""

    def __init__(self, draft: Any) -> None:
        """Nothing taken yet."""
        self.draft, self.taken = draft, 0.0

    def propose(
        self,
        ids: Sequence[int],
        count: int,
        sampling: SamplingConfig,
        generator: torch.Generator | None = None,
    ) -> tuple[list[int], Tensor]:
        """What the draft proposes."""
        start = time.thread_time()
        found: tuple[list[int], Tensor] = self.draft.propose(
            ids, count, sampling, generator
        )
        self.taken += 1000 * (time.thread_time() - start)
        return found


def first_layer(model: GPT, stream: np.ndarray) -> GPT:
    """The first layer of a model, which learns to do without the rest."""
    torch.manual_seed(0)
    small = GPT(replace(model.config, layers=1))
    small.load_state_dict(model.state_dict(), strict=False)
    optimizer = torch.optim.AdamW(small.parameters(), lr=1e-3)
    windows = torch.from_numpy(stream[:64_000].astype(np.int64)).view(-1, 64)
    for step in range(40):
        rows = windows[8 * step : 8 * step + 8]  # (8, 64)
        loss = next_token_loss(small(rows[:, :-1]), rows[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return small.eval()


def make_drafts(model: GPT, vocab_size: int) -> dict[str, Any]:
    """The drafts of the chapter, by their names."""
    stream = np.asarray(open_tokens(RUN / "train.tokens").tokens)
    return {
        "the text before": LookupDraft(vocab_size),
        "counts": NGramDraft(NGram(3, vocab_size, 0.01).fit(stream)),
        "a small model": ModelDraft(first_layer(model, stream)),
    }


def written(
    model: GPT, prompt: list[int], draft: Any, guesses: int, tokens: int
) -> list[list[int]]:
    """What each read brings, at temperature 0."""
    return list(speculate(model, draft, prompt, tokens, guesses, GREEDY))


def alone(model: GPT, prompt: list[int], tokens: int) -> list[int]:
    """The same text without a draft."""
    steps = generate(model, torch.tensor([prompt]), tokens, GREEDY)
    return [int(step) for step in steps]


def compare(
    model: GPT, prompt: list[int], drafts: dict[str, Any]
) -> list[dict[str, Any]]:
    """Each draft with each number of guesses, in turns with none."""
    works = {
        (name, guesses): Timed(draft)
        for name, draft in drafts.items()
        for guesses in GUESSES
    }
    plain: list[float] = []
    times: dict[Any, list[float]] = {key: [] for key in works}
    for turn in range(TURNS + 1):  # the first one warms up
        plain.append(cpu_ms(partial(alone, model, prompt, TOKENS)))
        for (name, guesses), draft in works.items():
            if turn == 1:
                draft.taken = 0.0
            work = partial(written, model, prompt, draft, guesses, TOKENS)
            times[name, guesses].append(cpu_ms(work))
    base, rows = statistics.median(plain[1:]), []
    for (name, guesses), draft in works.items():
        own = times[name, guesses][1:]
        found = written(model, prompt, draft.draft, guesses, TOKENS)
        if list(chain.from_iterable(found)) != alone(model, prompt, TOKENS):
            raise RuntimeError(f"{name}: another text")
        rows.append(
            {
                "draft": name,
                "guesses": guesses,
                "reads": len(found),
                "ratio": round(base / statistics.median(own), 3),
                "guessing": round(draft.taken / sum(own), 3),
            }
        )
    return rows


def small() -> list[int]:
    """The reads of a small random model, which repeats itself."""
    model, prompt = build(FORMS["book"]), [464, 464]
    draft = LookupDraft(model.config.vocab_size)
    found = written(model, prompt, draft, 4, 24)
    assert list(chain.from_iterable(found)) == alone(model, prompt, 24)
    return [len(new) for new in found]


@torch.no_grad()
def record() -> dict[str, Any]:
    """All drafts beside the model alone."""
    torch.set_num_threads(1)
    model = load_model(RUN)
    tokenizer = Tokenizer.load(RUN / "tokenizer.json")
    with torch.enable_grad():
        drafts = make_drafts(model, tokenizer.vocab_size)
    prompt = [tokenizer.end_id, *tokenizer.encode(BEGINNING)]
    return {
        "tokens": TOKENS,
        "rows": compare(model, prompt, drafts),
        "small": small(),
    }


@torch.no_grad()
def replay(data: dict[str, Any]) -> None:
    """A small model is read as often; the record is complete."""
    assert small() == data["small"]
    found = [(row["draft"], row["guesses"]) for row in data["rows"]]
    names = list(dict.fromkeys(name for name, _ in found))
    assert found == [(name, g) for name in names for g in GUESSES]
    for row in data["rows"]:
        most = 1 + row["guesses"]
        assert data["tokens"] / most <= row["reads"] <= data["tokens"], row
        assert 0 < row["guessing"] < 1, row
