"""The block's two lines, its two orders, and how far gradients carry."""

import pytest
import torch
from torch import Tensor, nn

from scratchlm.model.block import Block, depth_profile, rms
from scratchlm.model.heads import MultiHeadAttention
from scratchlm.model.layers import GELUMLP, LayerNorm, RMSNorm, SwiGLU


def make(order: str = "pre", channels: int = 16, seed: int = 0) -> Block:
    """A block with weights that look trained, norms included."""
    torch.manual_seed(seed)
    block = Block(
        LayerNorm(channels),
        MultiHeadAttention(channels, 4),
        LayerNorm(channels),
        GELUMLP(channels),
        order,
    )
    for norm in (block.norm1, block.norm2):
        nn.init.normal_(norm.weight, mean=1, std=0.3)
        nn.init.normal_(norm.bias, std=0.3)
    return block


class Memory:
    """The smallest store of keys and values."""

    def __init__(self) -> None:
        self.kept: list[tuple[Tensor, Tensor]] = []
        self.length = 0

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        self.kept.append((k, v))
        self.length += k.shape[2]
        ks, vs = zip(*self.kept, strict=True)
        return torch.cat(ks, dim=2), torch.cat(vs, dim=2)


def test_pre_norm_equation() -> None:
    block, x = make(), torch.randn(2, 5, 16)
    middle = x + block.attention(block.norm1(x))
    wanted = middle + block.mlp(block.norm2(middle))
    assert torch.equal(block(x), wanted)


def test_post_norm_equation() -> None:
    block, x = make("post"), torch.randn(2, 5, 16)
    middle = block.norm1(x + block.attention(x))
    wanted = block.norm2(middle + block.mlp(middle))
    assert torch.equal(block(x), wanted)


def test_branch_norm_equation() -> None:
    block, x = make("branch"), torch.randn(2, 5, 16)
    middle = x + block.norm1(block.attention(x))
    wanted = middle + block.norm2(block.mlp(middle))
    assert torch.equal(block(x), wanted)


@pytest.mark.parametrize("norm_first", [True, False])
def test_equals_the_library_layer(norm_first: bool) -> None:
    block, x = make("pre" if norm_first else "post"), torch.randn(2, 5, 16)
    layer = nn.TransformerEncoderLayer(
        16, 4, 64, 0.0, "gelu", batch_first=True, norm_first=norm_first
    )
    ours = block.state_dict()
    names = {
        "self_attn.in_proj_": "attention.qkv.",
        "self_attn.out_proj.": "attention.out.",
        "linear1.": "mlp.up.",
        "linear2.": "mlp.down.",
        "norm1.": "norm1.",
        "norm2.": "norm2.",
    }
    layer.load_state_dict(
        {
            theirs + kind: ours[mine + kind]
            for theirs, mine in names.items()
            for kind in ("weight", "bias")
        }
    )
    mask = nn.Transformer.generate_square_subsequent_mask(5)
    wanted = layer(x, src_mask=mask, is_causal=True)
    torch.testing.assert_close(block(x), wanted, atol=1e-5, rtol=1e-5)


def test_silent_parts_leave_the_stream_bit_for_bit() -> None:
    block, x = make(), 100 * torch.randn(2, 5, 16)
    for part in (block.attention.out, block.mlp.down):
        nn.init.zeros_(part.weight)
        nn.init.zeros_(part.bias)
    assert torch.equal(block(x), x)


def test_no_position_sees_the_future() -> None:
    block, x = make(), torch.randn(1, 6, 16)
    changed = x.clone()
    changed[:, 4:] += 1
    for order in ("pre", "post", "branch"):
        block.norm_order = order
        assert torch.equal(block(x)[:, :4], block(changed)[:, :4])
        assert not torch.allclose(block(x)[:, 4:], block(changed)[:, 4:])


@pytest.mark.parametrize("order", ["pre", "post", "branch"])
def test_in_pieces_with_a_store(order: str) -> None:
    block, x = make(order), torch.randn(2, 16, 16)
    store = Memory()
    pieces = [block(piece, store) for piece in x.split([4, 3, 1, 5, 3], 1)]
    torch.testing.assert_close(
        torch.cat(pieces, dim=1), block(x), atol=1e-5, rtol=1e-5
    )


def test_modern_parts_fit_too() -> None:
    block = Block(
        RMSNorm(16), MultiHeadAttention(16, 4, 2), RMSNorm(16), SwiGLU(16)
    )
    block(torch.randn(2, 5, 16)).sum().backward()
    grads = [p.grad for p in block.parameters() if p.grad is not None]
    assert len(grads) == len(list(block.parameters()))
    assert all(grad.abs().max() > 0 for grad in grads)


def test_rms() -> None:
    assert rms(torch.tensor([3.0, -3.0])) == 3
    assert rms(torch.tensor([[1.0, 7.0]])) == 5
    for size in (1e-30, 1e30):  # whose squares no float32 holds
        assert rms(torch.tensor([size, -size])) == pytest.approx(size)
    third = torch.tensor([1 / 3], dtype=torch.float64)
    assert rms(third) == 1 / 3
    big = torch.tensor([300.0], dtype=torch.float16)
    assert rms(big) == 300  # its square is no number in float16


def test_depth_profile_of_multiplications() -> None:
    class Twice(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * x

    x = torch.full((1, 2, 3), 5.0)
    streams, gradients = depth_profile([Twice(), Twice(), Twice()], x)
    assert streams == pytest.approx([5, 10, 20, 40])
    ratios = [gradients[i] / gradients[i + 1] for i in range(3)]
    assert ratios == pytest.approx([2, 2, 2])
    assert gradients[-1] == pytest.approx(1, abs=0.5)


def test_the_direction_is_random_and_always_the_same() -> None:
    blocks, x = [make()], torch.randn(2, 50, 16)
    torch.manual_seed(1)
    first = depth_profile(blocks, x)
    torch.manual_seed(2)
    assert depth_profile(blocks, x) == first
    size = first[1][-1]  # that of the direction itself
    assert size == pytest.approx(1, abs=0.1)
    assert size != 1


def test_depth_profile_leaves_no_gradients_behind() -> None:
    blocks = [make(seed=i) for i in range(2)]
    x = torch.randn(2, 5, 16)
    depth_profile(blocks, x)
    assert x.grad is None
    assert not x.requires_grad
    assert all(p.grad is None for b in blocks for p in b.parameters())


def test_pre_norm_carries_gradients_through_depth() -> None:
    x = torch.randn(2, 8, 16)
    found = {}
    for order in ("pre", "post"):
        blocks = [make(order, seed=i) for i in range(24)]
        for block in blocks:
            for norm in (block.norm1, block.norm2):
                nn.init.ones_(norm.weight)
            for part in (block.attention.out, block.mlp.down):
                nn.init.normal_(part.weight, std=0.3)
        _, gradients = depth_profile(blocks, x)
        found[order] = gradients[0] / gradients[-1]
    # Forward, the pre-norm stream grows; backward, its gradient may grow
    # but not vanish. The post-norm one is divided at every norm.
    assert found["pre"] > 1
    assert found["post"] < found["pre"] / 10
