"""Solutions on probes: no story, read once, a sixth kind, and how many."""

import math
import random
from collections.abc import Sequence
from dataclasses import replace
from statistics import NormalDist

import torch
from torch.nn import functional as F

from scratchlm.evaluation.probes import (
    Answer,
    Probe,
    ask,
    make_probe,
    tell_with_gaps,
)
from scratchlm.generation.cache import KVCache
from scratchlm.model.gpt import GPT
from scratchlm.text.tokenizer import Tokenizer


def ask_relative(
    model: GPT, tokenizer: Tokenizer, probes: Sequence[Probe], words: int = 2
) -> list[Answer]:
    """Answers whose scores are what a candidate gains by the whole prompt.

    From each log-likelihood that after the prompt's last words alone is
    taken away.
    """
    short = [
        replace(probe, prompt=" ".join(probe.prompt.split()[-words:]))
        for probe in probes
    ]
    pairs = zip(
        ask(model, tokenizer, probes),
        ask(model, tokenizer, short),
        strict=True,
    )
    return [
        replace(
            told,
            log_probs=tuple(
                a - b
                for a, b in zip(told.log_probs, alone.log_probs, strict=True)
            ),
        )
        for told, alone in pairs
    ]


@torch.inference_mode()
def read_once(
    model: GPT, prompt: Sequence[int], candidates: Sequence[Sequence[int]]
) -> list[float]:
    """The log-likelihood of each candidate; the prompt is read one time."""
    cache = KVCache(model.config)
    first = model(torch.tensor([prompt]), cache)[0, -1:]  # (1, V)
    known, found = cache.length, []
    for candidate in candidates:
        cache.rewind(known)
        logits = first
        if len(candidate) > 1:
            rest = model(torch.tensor([candidate[:-1]]), cache)[0]
            logits = torch.cat([first, rest])  # (tokens, V)
        loss = F.cross_entropy(logits, torch.tensor(candidate), reduction="sum")
        found.append(-float(loss))
    return found


def thing_probes(seed: int, n: int) -> list[Probe]:
    """Is what was lost an "it" or a "them"? One probe from a story."""
    source, draw = random.Random(seed), random.Random(f"things {seed}")
    found: list[Probe] = []
    while len(found) < n:
        story, gaps = tell_with_gaps(source)
        fit = [gap for gap in gaps if gap.slot.form == "them"]
        if fit:
            found.append(make_probe("reference", story, fit[0], draw))
    return found


def needed(
    share: float, gain: float, level: float = 0.95, power: float = 0.8
) -> int:
    """How many probes each of two models needs to show a gain.

    With so many, each model having its own, a true gain passes the test at
    this level as often as `power` says.
    """
    normal, better = NormalDist(), share + gain
    z = normal.inv_cdf((1 + level) / 2) + normal.inv_cdf(power)
    spread = share * (1 - share) + better * (1 - better)
    return math.ceil(z * z * spread / gain**2)
