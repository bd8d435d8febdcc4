"""Solutions on the model: others' weights, budgets, a loss in chunks."""

import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
)

from scratchlm.model.gpt import (
    GPT,
    gpt2_config,
    llama_config,
    memory_estimate,
    next_token_loss,
)
from solutions.model.gpt import (
    chunked_loss,
    deepest_that_fits,
    gpt2_weights,
    llama_weights,
)


def test_names_of_gpt2() -> None:
    settings = GPT2Config(
        vocab_size=11,
        n_positions=8,
        n_embd=8,
        n_layer=3,
        n_head=2,
        bos_token_id=0,
        eos_token_id=0,
    )
    theirs, ours = GPT2LMHeadModel(settings), GPT(gpt2_config(11, 8, 3, 2, 8))
    ours.load_state_dict(gpt2_weights(theirs.state_dict(), 3))
    ids = torch.randint(11, (2, 8))
    with torch.no_grad():
        wanted = theirs.eval()(ids).logits
        torch.testing.assert_close(ours.eval()(ids), wanted)


def test_names_of_llama() -> None:
    config = llama_config(11, 8, 3, 2, 8, kv_heads=1)
    settings = LlamaConfig(
        vocab_size=11,
        max_position_embeddings=8,
        hidden_size=8,
        intermediate_size=config.inner,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=1,
        rms_norm_eps=1e-5,
    )
    theirs, ours = LlamaForCausalLM(settings), GPT(config)
    ours.load_state_dict(llama_weights(theirs.state_dict(), 3))
    ids = torch.randint(11, (2, 8))
    with torch.no_grad():
        wanted = theirs.eval()(ids).logits
        torch.testing.assert_close(ours.eval()(ids), wanted)


def test_deepest_that_fits() -> None:
    config = gpt2_config(1000, 64, 1, 4, 64)
    for budget in (10**6, 10**7, 10**8, 2**30):
        layers = deepest_that_fits(budget, 4, config)
        for n in (layers, layers + 1):
            deep = gpt2_config(1000, 64, n, 4, 64)
            fits = memory_estimate(deep, 4).total <= budget
            assert fits == (n == layers) or n == 0
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
