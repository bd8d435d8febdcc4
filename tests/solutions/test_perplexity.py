"""Solutions on evaluation: stories apart, and luck."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from solutions.evaluation.perplexity import chance, story_losses


class Echo(nn.Module):
    """Expects what it saw first in the window."""

    def forward(self, ids: Tensor) -> Tensor:
        first = ids[:, :1].expand_as(ids)
        return 2 * nn.functional.one_hot(first, 4).float()


def test_each_story_begins_after_an_end() -> None:
    losses = story_losses(Echo(), [[1, 3], [2]], end_id=3, context=8)
    assert [len(one) for one in losses] == [3, 2]
    total = math.log(math.exp(2) + 3)
    assert losses[0].tolist() == pytest.approx([total, total - 2, total - 2])
    assert losses[1].tolist() == pytest.approx([total, total - 2])


def test_long_stories_take_several_windows() -> None:
    story = torch.randint(4, (30,)).tolist()
    (losses,) = story_losses(Echo(), [story], end_id=0, context=8)
    assert len(losses) == 31


def test_chance() -> None:
    draw = np.random.default_rng(1)
    noise = draw.normal(0, 1, size=50)
    assert chance(noise - noise.mean()) == 1  # no difference at all
    assert chance(noise + 2) < 0.01
    assert chance(np.array([1.0, 1.0])) == pytest.approx(0.5, abs=0.06)
