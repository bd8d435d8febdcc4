"""Solutions on heads: memory of the cache, pooling, silencing."""

import pytest
import torch

from scratchlm.model.embeddings import Rotary
from scratchlm.model.heads import MultiHeadAttention
from scratchlm.model.layers import RMSNorm
from solutions.model.heads import cache_bytes, pool_kv_heads, silence


def test_a_gibibyte_for_llama_3_8b_at_8192_tokens() -> None:
    assert cache_bytes(32, 8, 128, 8192) == 2**30
    assert cache_bytes(32, 32, 128, 8192) == 4 * 2**30


@pytest.mark.parametrize("bias", [True, False])
def test_pooling_equal_heads_changes_nothing(bias: bool) -> None:
    torch.manual_seed(0)
    rotary = Rotary(4, 16)
    grouped = MultiHeadAttention(24, 6, 2, bias=bias, rotary=rotary)
    full = MultiHeadAttention(24, 6, bias=bias, rotary=rotary)
    with torch.no_grad():
        for name, rows in grouped.qkv.named_parameters():
            q, k, v = rows.split([24, 8, 8])
            k, v = (
                x.view(2, 4, *x.shape[1:]).repeat_interleave(3, 0).flatten(0, 1)
                for x in (k, v)
            )
            getattr(full.qkv, name).copy_(torch.cat([q, k, v]))
        full.out.load_state_dict(grouped.out.state_dict())
    x = torch.randn(2, 7, 24)
    pooled = pool_kv_heads(full, 2)
    assert torch.allclose(pooled(x), grouped(x), atol=1e-5)
    assert torch.allclose(pool_kv_heads(full, 6)(x), full(x), atol=1e-6)


@pytest.mark.parametrize("reference", [True, False])
def test_pooling_keeps_all_else(reference: bool) -> None:
    torch.manual_seed(2)
    layer = MultiHeadAttention(
        10, 4, 2, 0.5, False, Rotary(6, 16), reference, True, 6
    ).eval()
    pooled = pool_kv_heads(layer, 2).eval()
    x = torch.randn(2, 7, 10)
    assert torch.equal(pooled(x), layer(x))
    assert pooled.dropout.p == 0.5
    assert pooled.reference is reference
    assert pool_kv_heads(layer, 1)(x).shape == x.shape


def test_pooling_does_not_forget_learned_norms() -> None:
    norms = RMSNorm(4), RMSNorm(4)
    layer = MultiHeadAttention(8, 2, norms=norms)
    with pytest.raises(ValueError, match="learned norms"):
        pool_kv_heads(layer, 1)


def test_pooling_to_one_head_is_the_mean() -> None:
    layer = MultiHeadAttention(8, 4)
    pooled = pool_kv_heads(layer, 1)
    keys = layer.qkv.weight[8:16].view(4, 2, 8).mean(dim=0)
    assert torch.allclose(pooled.qkv.weight[8:10], keys)


def test_a_silent_head_is_not_heard() -> None:
    torch.manual_seed(1)
    layer = MultiHeadAttention(8, 4, bias=False)
    x = torch.randn(1, 5, 8)
    before = layer(x)
    silence(layer, 2)
    assert not torch.allclose(layer(x), before)
    silenced = layer(x)
    with torch.no_grad():
        layer.qkv.weight[4:6] += 1  # the queries of head 2
        layer.qkv.weight[20:22] += 1  # its values
    assert torch.allclose(layer(x), silenced, atol=1e-6)
