"""Solutions of the exercises on Muon."""

import torch
from torch import Tensor


def orthogonal_by_svd(matrix: Tensor) -> Tensor:
    """U Vᵀ exactly, by a singular value decomposition."""
    u, _, vh = torch.linalg.svd(matrix, full_matrices=False)
    return u @ vh


def cubic(matrix: Tensor, steps: int) -> Tensor:
    """The classic iteration 1.5 x − 0.5 x³: slower, and to exactly 1."""
    x = matrix / matrix.norm()
    for _ in range(steps):
        x = 1.5 * x - 0.5 * x @ x.mT @ x
    return x


def effective_rank(matrix: Tensor) -> float:
    """e to the entropy of the squared singular values' shares.

    Between 1, when one direction has everything, and min(R, C).
    """
    shares = torch.linalg.svdvals(matrix).square()
    shares = shares / shares.sum()
    shares = shares[shares > 0]
    return float(torch.exp(-(shares * shares.log()).sum()))
