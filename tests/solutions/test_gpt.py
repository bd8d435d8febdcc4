"""Solutions on the model: others' weights, budgets, a loss in chunks."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
)

from scratchlm.model.gpt import (
    GPT,
    GPTConfig,
    gpt2_config,
    llama_config,
    memory_estimate,
    next_token_loss,
)
from solutions.model.gpt import (
    chunked_loss,
    deepest_that_fits,
    gpt2_weights,
    meta_weights,
)

GPT2 = gpt2_config(40, 16, 2, 4, 32)
LLAMA = llama_config(40, 16, 2, 4, 32, kv_heads=2)


def some_ids() -> Tensor:
    """Random ids below 40."""
    generator = torch.Generator().manual_seed(1)
    return torch.randint(40, (3, 16), generator=generator)


@pytest.mark.parametrize("activation", ["gelu_new", "gelu"])
@pytest.mark.parametrize("eps", [1e-5, 0.1])
def test_equals_gpt2_of_transformers(activation: str, eps: float) -> None:
    torch.manual_seed(0)
    theirs = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=40,
            n_positions=16,
            n_embd=32,
            n_layer=2,
            n_head=4,
            activation_function=activation,
            layer_norm_epsilon=eps,
            bos_token_id=0,
            eos_token_id=0,
        )
    ).eval()
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.3)
    mlp = "gelu" if activation == "gelu" else "gelu_tanh"
    ours = GPT(replace(GPT2, mlp=mlp, norm_eps=eps)).eval()
    ours.load_state_dict(gpt2_weights(theirs.state_dict(), 2))
    ids = some_ids()
    with torch.no_grad():
        gap = (ours(ids) - theirs(ids).logits).abs().max().item()
        loss = theirs(ids, labels=ids).loss
    assert gap < 1e-5
    got = next_token_loss(ours(ids[:, :-1]), ids[:, 1:])
    torch.testing.assert_close(got, loss)


META = {
    "model.embed_tokens": "tok_embeddings",
    "model.": "",
    "lm_head": "output",
    "self_attn.": "attention.",
    "input_layernorm": "attention_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "feed_forward.w1",
    "mlp.down_proj": "feed_forward.w2",
    "mlp.up_proj": "feed_forward.w3",
}


def as_meta(
    state: dict[str, Tensor], config: GPTConfig
) -> dict[str, Tensor]:
    """The library's file of a Llama as Meta publishes it.

    The way back of what convert_llama_weights_to_hf.py does with each head.
    """
    found = {}
    for name, tensor in state.items():
        for theirs, metas in META.items():
            name = name.replace(theirs, metas)
        for x in "qkvo":
            name = name.replace(f"{x}_proj", f"w{x}")
        if name.endswith(("wq.weight", "wk.weight")):
            d, columns = config.channels_per_head, tensor.shape[1]
            tensor = tensor.view(-1, 2, d // 2, columns).transpose(1, 2)
            tensor = tensor.reshape(-1, columns)
        found[name] = tensor
    return found


@pytest.mark.parametrize(
    "change",
    [
        {"kv_heads": 1},
        {"kv_heads": 2},
        {"kv_heads": 4},
        {"rope_base": 500000.0},
        {"rope_base": 20.0},
        {"norm_eps": 1e-6},
        {"norm_eps": 0.1},
        {"head_size": 4},
        {"head_size": 20, "rope_base": 500.0, "norm_eps": 0.01},
    ],
    ids=str,
)
def test_meta_s_file_equals_that_of_the_library(
    change: dict[str, Any],
) -> None:
    torch.manual_seed(0)
    config = replace(LLAMA, **change)
    theirs = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=40,
            max_position_embeddings=16,
            hidden_size=32,
            intermediate_size=config.inner,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=config.kv_heads,
            head_dim=config.channels_per_head,
            rope_theta=config.rope_base,
            rms_norm_eps=config.norm_eps,
            tie_word_embeddings=False,
        )
    ).eval()
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.3)
    ours = GPT(config).eval()
    ours.load_state_dict(
        meta_weights(as_meta(theirs.state_dict(), config), config)
    )
    ids = some_ids()
    with torch.no_grad():
        gap = (ours(ids) - theirs(ids).logits).abs().max().item()
    assert gap < 1e-5


def test_deepest_that_fits() -> None:
    config = gpt2_config(1000, 64, 1, 4, 64)
    for budget in (10**6, 10**7, 10**8, 2**30):
        layers = deepest_that_fits(budget, 4, config)
        for n in (max(layers, 1), layers + 1):
            deep = gpt2_config(1000, 64, n, 4, 64)
            fits = memory_estimate(deep, 4).peak <= budget
            assert fits == (n <= layers)
    assert deepest_that_fits(1, 4, config) == 0


def test_chunked_loss() -> None:
    torch.manual_seed(0)
    model = GPT(gpt2_config(50, 16, 1, 2, 8))
    ids, targets = torch.randint(50, (2, 3, 16))
    targets[0, :5] = -100
    grads = []
    for loss in (
        lambda: next_token_loss(model(ids), targets),
        lambda: chunked_loss(model, ids, targets, 5),
    ):
        model.zero_grad()
        value = loss()
        value.backward()
        grads.append([value.detach(), *(p.grad for p in model.parameters())])
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b)
