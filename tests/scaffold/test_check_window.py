"""The check on windows takes other shapes of the right answer, too."""

from typing import Any

import pytest
import torch
from torch import Tensor

from check import running as runner
from scratchlm.model import window as module
from scratchlm.model.embeddings import wave_frequencies
from scratchlm.model.window import masked_attention


def mask_by_distance(
    queries: int, keys: int, window: int, sinks: int = 0, device: Any = None
) -> Tensor:
    """As `window_mask`, out of positions and their differences."""
    if window < 1 or queries > keys:
        raise ValueError("no window")
    key = torch.arange(keys, device=device)
    distance = (key[-queries:, None] - key).float()
    near = (distance >= 0) & (distance < window)
    return near | ((distance >= 0) & (key < sinks))


class GrowingCache:
    """As `RollingCache`: a list that is cut off, and no slots."""

    def __init__(self, b: int, heads: int, window: int, size: int) -> None:
        self.k = self.v = torch.zeros(b, heads, 0, size)
        self.window, self.length = window, 0

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        k, v = torch.cat([self.k, k], dim=2), torch.cat([self.v, v], dim=2)
        self.length += k.shape[2] - self.k.shape[2]
        self.k, self.v = k[:, :, -self.window :], v[:, :, -self.window :]
        return k, v


def test_the_check_takes_other_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Code that is right and looks different passes."""

    def other_base(frequencies: Tensor, factor: float) -> Tensor:
        pairs = len(frequencies)
        ratio = (frequencies[-1] / frequencies[0]).item()
        base = ratio ** (-pairs / (pairs - 1))
        base *= factor ** (pairs / (pairs - 1))
        return wave_frequencies(2 * pairs, base)

    for name, other in (
        ("window_mask", mask_by_distance),
        ("banded_attention", masked_attention),
        ("RollingCache", GrowingCache),
        ("raise_base", other_base),
    ):
        monkeypatch.setattr(module, name, other)
    assert runner.run_topic("window") == 0
