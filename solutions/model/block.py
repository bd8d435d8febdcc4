"""Solutions: a block, and why the residual stays clean."""

from torch import Tensor, nn

from scratchlm.model.block import Block
from scratchlm.model.gpt import GPT
from scratchlm.model.heads import KVStore, MultiHeadAttention


class ParallelBlock(nn.Module):
    """Listen and think at the same time: one norm, one sum (GPT-J, PaLM)."""

    def __init__(
        self, norm: nn.Module, attention: MultiHeadAttention, mlp: nn.Module
    ) -> None:
        """Made of parts, as `Block` is."""
        super().__init__()
        self.norm, self.attention, self.mlp = norm, attention, mlp

    def forward(self, x: Tensor, store: KVStore | None = None) -> Tensor:
        """(B, T, C) → (B, T, C)."""
        normed = self.norm(x)
        return x + self.attention(normed, store) + self.mlp(normed)


def silence(block: Block) -> None:
    """Set to zero what the block writes; a pre-norm block then changes nothing.

    Its weights still learn: the projections get gradients from the first
    step, everything before them from the second.
    """
    for part in (block.attention.out, block.mlp.down):
        for parameter in part.parameters():
            nn.init.zeros_(parameter)


def without_block(model: GPT, index: int, ids: Tensor) -> Tensor:
    """Logits of (B, T) ids with one block left out: (B, T, V)."""
    x = model.embed(ids, start=0)
    for i, block in enumerate(model.blocks):
        if i != index:
            x = block(x)
    return model.head(model.norm(x))
