"""Solutions on probes: without the story, read once, things, how many."""

import random

import pytest
import torch

from scratchlm.evaluation.probes import ask, log_likelihoods, probes
from scratchlm.model.gpt import GPT, GPTConfig
from scratchlm.text.tokenizer import Tokenizer
from scratchlm.text.toytown import begins_story
from solutions.evaluation.probes import (
    ask_relative,
    needed,
    read_once,
    thing_probes,
)

BYTES = Tokenizer([], {"<|endoftext|>": 256})


def small_gpt(vocab_size: int, context: int) -> GPT:
    torch.manual_seed(0)
    model = GPT(GPTConfig(vocab_size, context, 2, 2, 16)).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p) * 0.2)
    return model


def test_relative_to_the_last_words() -> None:
    model = small_gpt(257, 128)
    some = probes(seed=1, n=1)
    told, gained = ask(model, BYTES, some), ask_relative(model, BYTES, some)
    for before, after in zip(told, gained, strict=True):
        assert before.probe == after.probe
        assert before.log_probs != after.log_probs
    # where the last words are the whole prompt, nothing is gained by more
    for answer in ask_relative(model, BYTES, some, words=10_000):
        flat = "\n" not in answer.probe.prompt
        zero = pytest.approx([0] * len(answer.log_probs), abs=1e-4)
        assert not flat or list(answer.log_probs) == zero


def test_read_once() -> None:
    model = small_gpt(50, 16)
    prompt, candidates = [1, 2, 3, 4], [[5], [6, 7, 8], [5, 9]]
    pairs = [(prompt, candidate) for candidate in candidates]
    wanted = [float(x.sum()) for x in log_likelihoods(model, pairs)]
    got = read_once(model, prompt, candidates)
    assert got == pytest.approx(wanted, abs=1e-4)


def test_things() -> None:
    made = thing_probes(seed=1, n=8)
    assert len(made) == 8
    for probe in made:
        words = {candidate.split()[0] for candidate in probe.candidates}
        assert words == {"it", "them"}
        could = [begins_story(probe.prompt + c) for c in probe.candidates]
        assert could == [i == probe.answer for i in range(2)]


def test_needed() -> None:
    assert needed(0.5, 0.1) < needed(0.5, 0.05)
    n, draw, seen = needed(0.6, 0.15), random.Random(0), 0
    for _ in range(300):
        a = sum(draw.random() < 0.6 for _ in range(n)) / n
        b = sum(draw.random() < 0.75 for _ in range(n)) / n
        error = ((a * (1 - a) + b * (1 - b)) / n) ** 0.5
        seen += abs(b - a) > 1.96 * error
    assert 0.72 < seen / 300 < 0.88
