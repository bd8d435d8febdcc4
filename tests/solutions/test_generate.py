"""Solutions on writing: scores, stop strings, drafts."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from scratchlm.generation.generate import generate
from scratchlm.generation.sampling import SamplingConfig
from scratchlm.model.gpt import GPT, GPTConfig, gpt2_config, llama_config
from solutions.generation.generate import draft_and_verify, score, until


def build(config: GPTConfig, seed: int = 0) -> GPT:
    torch.manual_seed(seed)
    model = GPT(config).eval()
    for parameter in model.parameters():
        if parameter.ndim == 2:
            nn.init.normal_(parameter, std=0.3)
    return model


def test_the_score_is_a_sum_of_logarithms() -> None:
    model = build(gpt2_config(11, 16, 1, 2, 8))
    ids = torch.tensor([[1, 2, 3, 4], [4, 3, 2, 1]])
    got = score(model, ids, prompt=2)
    for row, value in zip(ids, got, strict=True):
        total = 0.0
        for end in (2, 3):
            p = model(row[None, :end])[0, -1].softmax(-1)
            total += p[row[end]].log().item()
        assert float(value) == pytest.approx(total, abs=1e-5)


def test_unguided_scores_are_uniform() -> None:
    model = GPT(gpt2_config(8, 16, 1, 2, 8)).eval()
    with torch.no_grad():
        model.token.weight.zero_()
    got = score(model, torch.ones(1, 6, dtype=torch.long), prompt=1)
    assert float(got) == pytest.approx(-5 * 2.0794415, abs=1e-4)


def test_nothing_predicts_the_first_token() -> None:
    model = build(gpt2_config(11, 16, 1, 2, 8))
    with pytest.raises(ValueError, match="a prompt of 0 tokens"):
        score(model, torch.tensor([[1, 2, 3]]), prompt=0)


@pytest.mark.always
@settings(deadline=None, max_examples=200)
@given(
    text=st.text("ab", max_size=20),
    stop=st.text("ab", min_size=1, max_size=4),
    cuts=st.sets(st.integers(0, 20)),
)
def test_stop_strings(text: str, stop: str, cuts: set[int]) -> None:
    edges = [0, *sorted(cuts), len(text)]
    pieces = [text[a:b] for a, b in pairwise(edges)]
    got = list(until(pieces, stop))
    assert "".join(got) == text.split(stop)[0]
    assert all(got)


@pytest.mark.parametrize("ahead", [1, 3, 4])
@pytest.mark.parametrize("seed", [0, 5])
def test_drafts_change_nothing_but_the_reads(ahead: int, seed: int) -> None:
    model = build(llama_config(13, 64, 2, 2, 16))
    draft = build(gpt2_config(13, 64, 1, 1, 8), seed)
    prompt = [3, 1, 4]
    greedy = SamplingConfig(temperature=0)
    steps = generate(model, torch.tensor([prompt]), 30, greedy)
    wanted = [int(step) for step in steps]
    got, reads = draft_and_verify(model, draft, prompt, 30, ahead)
    assert got == wanted
    assert reads <= 30
    got, reads = draft_and_verify(model, model, prompt, 30, ahead)
    assert got == wanted
    assert reads == -(-30 // (ahead + 1))  # every guess is right
