"""Solutions on experts: queues, balance without a loss, copies, buffers."""

import pytest
import torch

from scratchlm.model.experts import (
    Experts,
    Router,
    load,
    mix_sorted,
    route,
    within_capacity,
)
from scratchlm.model.gpt import GPT, gpt2_config
from scratchlm.model.layers import SwiGLU
from solutions.model.experts import (
    BiasedRouter,
    mix_buffered,
    router_z_loss,
    upcycle,
    visited,
    within_capacity_in_order,
)


def test_experts_visited_by_a_batch() -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(400, 12, 8, generator=generator)
    chosen = scores.topk(2, dim=-1).indices.flatten(1)
    mean = sum(len(row.unique()) for row in chosen) / 400
    assert visited(8, 2, tokens=12) == pytest.approx(mean, abs=0.05)


def test_z_loss_sees_what_the_shares_hide() -> None:
    scores = torch.randn(9, 4)
    torch.testing.assert_close(
        route(scores + 10, 2).shares, route(scores, 2).shares
    )
    assert router_z_loss(scores + 10) > router_z_loss(scores) + 50
    assert router_z_loss(torch.zeros(3, 1)) == 0


def test_a_queue_in_order_has_no_future() -> None:
    torch.manual_seed(0)
    scores = torch.randn(40, 4)
    changed = scores.clone()
    changed[30:] = torch.randn(10, 4)
    for fits in (within_capacity_in_order, within_capacity):
        before = fits(route(scores, 2), 12)[:30]
        after = fits(route(changed, 2), 12)[:30]
        assert torch.equal(before, after) is (fits is not within_capacity)


def test_a_bias_evens_out_a_lopsided_router() -> None:
    torch.manual_seed(0)
    router = BiasedRouter(8, 4, 1)
    rows = torch.randn(400, 8) + 1
    with torch.no_grad():
        router.scores.weight[0] += 0.3  # the first is everybody's favorite
        before = load(router(rows)).max().item()
        for _ in range(60):
            router.even_out(router(rows))
        routing = router(rows)
    assert before > 0.6
    assert load(routing).max() < 0.35
    wanted = routing.shares.gather(1, routing.chosen)
    wanted = wanted / wanted.sum(dim=-1, keepdim=True)
    assert torch.equal(routing.weights, wanted)  # the bias is not in them


def test_copies_compute_what_the_model_did() -> None:
    torch.manual_seed(0)
    model = GPT(gpt2_config(30, 16, layers=2, heads=2, channels=16)).eval()
    ids = torch.randint(30, (2, 16))
    mixture = upcycle(model, experts=4, k=2)
    with torch.no_grad():
        torch.testing.assert_close(
            mixture(ids), model(ids), atol=1e-5, rtol=1e-4
        )
    assert isinstance(mixture.blocks[0].mlp, Experts)
    assert not isinstance(model.blocks[0].mlp, Experts)


@pytest.mark.parametrize("capacity", [1, 5, 60])
def test_buffers_equal_queues(capacity: int) -> None:
    torch.manual_seed(0)
    layers = [SwiGLU(8, 12) for _ in range(5)]
    rows = torch.randn(30, 8)
    routing = Router(8, 5, 2)(rows)
    kept = within_capacity(routing, capacity)
    wanted = mix_sorted(rows, routing, layers, kept)
    got = mix_buffered(rows, routing, layers, capacity)
    torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-4)
