"""The solutions of the exercises on several processes."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from scratchlm.training.distributed import (
    SummedLoss,
    drill_model,
    drill_steps,
    joined,
    rank_bytes,
    ring_bytes,
    share,
    travelling,
)
from solutions.training.distributed import (
    largest_model,
    pooled,
    ring_all_reduce,
    same_everywhere,
)


@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
def test_a_ring_adds_up(ranks: int) -> None:
    tensors = list(torch.arange(1.0, 30 * ranks + 1).view(ranks, 30))
    before = [tensor.clone() for tensor in tensors]
    found, sent = ring_all_reduce(tensors)
    for tensor in found:
        assert torch.equal(tensor, sum(before))
    assert 4 * sent == ring_bytes(4 * 30, ranks)
    assert all(torch.equal(a, b) for a, b in zip(tensors, before, strict=True))


@pytest.mark.parametrize("stage", range(4))
def test_the_largest_model_fits(stage: int) -> None:
    for ranks in (1, 8, 64):
        size = largest_model(80e9, ranks, stage)
        assert rank_bytes(size, ranks, stage) <= 80e9 + 100
        assert rank_bytes(size + 1000, ranks, stage) > 80e9
    assert largest_model(80e9, 13, 3) < 70e9 <= largest_model(80e9, 14, 3)
    assert largest_model(80e9, 10**6, 2) < 20e9 + 1e6


def test_parts_are_pooled_by_their_tokens() -> None:
    losses = torch.rand(11, dtype=torch.float64)
    cuts = [losses[:2], losses[2:3], losses[3:]]
    got = pooled([(float(part.sum()), len(part)) for part in cuts])
    assert got == pytest.approx(float(losses.mean()))


def test_equal_weights_pass_and_others_do_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = drill_model()
    monkeypatch.setattr(dist, "all_reduce", lambda tensor, op: None)
    same_everywhere(model)
    monkeypatch.setattr(dist, "all_reduce", lambda tensor, op: tensor.add_(1))
    with pytest.raises(RuntimeError, match=r"token.weight is not the same"):
        same_everywhere(model)


def test_ranks_that_part_are_found(
    among: Callable[[int, Callable[[int], Any]], list[Any]],
) -> None:
    def work(rank: int) -> str:
        with joined():
            model = DistributedDataParallel(SummedLoss(drill_model()))
            optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
            same_everywhere(model)
            pieces = [share(batch, rank, 2) for batch in drill_steps(1)[0]]
            for place, (ids, targets) in enumerate(pieces):
                with travelling(model, place % len(pieces) == 0):
                    model(ids, targets).backward()
            optimizer.step()
            with pytest.raises(RuntimeError) as found:
                same_everywhere(model)
            return str(found.value)

    words = among(2, work)
    assert words[0] == words[1]
    assert "is not the same on all ranks" in words[0]
