"""The solutions of the exercises on Muon."""

import pytest
import torch

from scratchlm.training.muon import newton_schulz
from solutions.training.muon import cubic, effective_rank, orthogonal_by_svd


def test_the_iteration_comes_close_to_the_decomposition() -> None:
    torch.manual_seed(0)
    matrix = torch.randn(6, 9)
    exact = orthogonal_by_svd(matrix)
    torch.testing.assert_close(exact @ exact.T, torch.eye(6), atol=1e-5, rtol=0)
    fast = newton_schulz(matrix)
    cosine = (fast * exact).sum() / fast.norm() / exact.norm()
    assert cosine > 0.98


def test_the_cubic_needs_more_steps_and_ends_at_one() -> None:
    torch.manual_seed(0)
    matrix = torch.randn(5, 5) + 2 * torch.eye(5)
    few = torch.linalg.svdvals(cubic(matrix, 5))
    many = torch.linalg.svdvals(cubic(matrix, 40))
    assert few.min() < 0.75
    torch.testing.assert_close(many, torch.ones(5), atol=1e-4, rtol=0)


def test_effective_ranks() -> None:
    assert effective_rank(torch.eye(4)) == pytest.approx(4)
    one = torch.outer(torch.ones(3), torch.arange(1.0, 6.0))
    assert effective_rank(one) == pytest.approx(1, abs=1e-3)
