"""Solutions on the block: side by side, silent, left out."""

import torch

from scratchlm.model.block import Block
from scratchlm.model.gpt import GPT, gpt2_config
from scratchlm.model.heads import MultiHeadAttention
from scratchlm.model.layers import GELUMLP, LayerNorm
from solutions.model.block import ParallelBlock, silence, without_block


def test_parallel_block() -> None:
    torch.manual_seed(0)
    block = ParallelBlock(LayerNorm(8), MultiHeadAttention(8, 2), GELUMLP(8))
    x = torch.randn(2, 5, 8)
    attended, fed = block.attention(block.norm(x)), block.mlp(block.norm(x))
    torch.testing.assert_close(block(x) - x, attended + fed)


def test_silent_block_changes_nothing_and_learns() -> None:
    torch.manual_seed(0)
    block = Block(
        LayerNorm(8), MultiHeadAttention(8, 2), LayerNorm(8), GELUMLP(8)
    )
    silence(block)
    x = torch.randn(2, 5, 8)
    assert torch.equal(block(x), x)
    block(x).square().sum().backward()
    assert block.mlp.down.weight.grad.abs().sum() > 0
    assert block.mlp.up.weight.grad.abs().sum() == 0


def test_without_block() -> None:
    torch.manual_seed(0)
    model = GPT(gpt2_config(11, 8, 3, 2, 8)).eval()
    ids = torch.randint(11, (2, 6))
    assert torch.equal(without_block(model, -1, ids), model(ids))
    wanted = model(ids)
    silence(model.blocks[1])
    torch.testing.assert_close(without_block(model, 1, ids), model(ids))
    assert not torch.equal(model(ids), wanted)
