"""Solutions on positions: reach, any slopes, a learned bias, the mask."""

import math

import pytest
import torch
from transformers.models.bloom.modeling_bloom import build_alibi_tensor

from scratchlm.model.positions import ALiBi, Positions, alibi_slopes
from solutions.model.positions import (
    LearnedBias,
    any_slopes,
    reach,
    told_by_the_mask,
)

CPU = torch.device("cpu")


@pytest.mark.parametrize("slope", [0.5, 0.25, 1 / 256])
def test_reach(slope: float) -> None:
    far = reach(slope)
    assert math.exp(-slope * far) < 0.01 <= math.exp(-slope * (far - 1))


@pytest.mark.parametrize("heads", [1, 2, 3, 6, 8, 12, 20])
def test_any_number_of_heads(heads: int) -> None:
    slopes = any_slopes(heads)
    theirs = build_alibi_tensor(torch.ones(1, 2), heads, torch.float32)
    torch.testing.assert_close(slopes, theirs[:, 0, 1])
    if heads & (heads - 1) == 0:
        assert torch.equal(slopes, alibi_slopes(heads))


def test_a_learned_bias_can_become_alibi() -> None:
    ours, theirs = LearnedBias(4, far=10), ALiBi(4)
    silent = ours.bias(6, CPU)
    assert torch.equal(silent, Positions().bias(6, CPU).expand(4, 6, 6))
    with torch.no_grad():
        ours.table.copy_(-alibi_slopes(4)[:, None] * torch.arange(11))
    assert torch.equal(ours.bias(6, CPU), theirs.bias(6, CPU))
    far = ours.bias(30, CPU)[:, 29]
    assert bool((far[:, :20] == far[:, :1]).all())


def test_a_mask_counts() -> None:
    wanted = [1 / t for t in range(1, 9)]
    assert told_by_the_mask(8).tolist() == pytest.approx(wanted)
