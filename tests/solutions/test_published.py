"""Solutions on published forms, each against the library or a count."""

from dataclasses import replace
from typing import Any

import pytest
import torch
import transformers

from scratchlm.model.gpt import (
    GPT,
    GPTConfig,
    gpt2_config,
    llama_config,
    parameter_table,
)
from scratchlm.model.published import PUBLISHED, read_form
from solutions.model.published import (
    fold_norms,
    from_phi3,
    tokens_that_fit,
    write_form,
)


@pytest.mark.parametrize("name", PUBLISHED)
def test_each_form_is_written_and_read(name: str) -> None:
    form = PUBLISHED[name]
    assert read_form(write_form(form)) == form


@pytest.mark.parametrize("name", ["gpt2", "llama-3.1-8b", "qwen3-0.6b"])
def test_the_library_builds_what_was_written(name: str) -> None:
    form = PUBLISHED[name]
    config = transformers.AutoConfig.for_model(**write_form(form))
    found = read_form(config.to_dict())  # it says what is usual, too
    assert found.channels_per_head == form.channels_per_head
    assert replace(found, head_size=form.head_size) == form


@pytest.mark.judge
@pytest.mark.parametrize("name", PUBLISHED)
def test_the_library_s_model_has_as_many_parameters(name: str) -> None:
    form = PUBLISHED[name]
    config = transformers.AutoConfig.for_model(**write_form(form))
    with torch.device("meta"):
        theirs = transformers.AutoModelForCausalLM.from_config(config)
    assert theirs.num_parameters() == sum(parameter_table(form).values())


@pytest.mark.parametrize(
    "form",
    [
        replace(llama_config(), bias=True),
        replace(llama_config(), qk_norm="layernorm"),
        replace(llama_config(), norm_order="post"),
        GPTConfig(10, 8, 1, 1, 2, mlp="gelu"),
    ],
)
def test_what_no_file_can_say_is_refused(form: GPTConfig) -> None:
    with pytest.raises(ValueError, match="no published family"):
        write_form(form)


def random_model(form: GPTConfig) -> GPT:
    """A model whose norms and biases are far from 1 and 0."""
    torch.manual_seed(3)
    model = GPT(form).eval()
    for parameter in model.parameters():
        parameter.data.add_(0.3 * torch.randn(parameter.shape))
    return model


SMALL: dict[str, Any] = {
    "vocab_size": 31,
    "context": 12,
    "layers": 2,
    "heads": 2,
    "channels": 16,
}


@pytest.mark.parametrize(
    "form",
    [
        gpt2_config(**SMALL, tied=False),
        llama_config(**SMALL, kv_heads=1),
    ],
)
@torch.no_grad()
def test_folded_norms_leave_the_logits(form: GPTConfig) -> None:
    model = random_model(form)
    ids = torch.randint(31, (2, 12), generator=torch.Generator())
    folded = fold_norms(model.state_dict(), form)
    for name, tensor in folded.items():
        if "norm" in name and name.endswith("weight"):
            assert bool((tensor == 1).all())
        elif ".norm" in name:
            assert not tensor.any()
    other = GPT(form).eval()
    other.load_state_dict(folded)
    torch.testing.assert_close(other(ids), model(ids), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("change", [{"norm_order": "branch"}, {"tied": True}])
def test_norms_that_cannot_be_folded(change: dict[str, Any]) -> None:
    form = replace(gpt2_config(**SMALL, tied=False), **change)
    with pytest.raises(ValueError, match="used once"):
        fold_norms(GPT(form).state_dict(), form)


@torch.no_grad()
def test_phi_equals_the_library() -> None:
    config = transformers.Phi3Config(
        vocab_size=97,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=24,
        original_max_position_embeddings=24,
        pad_token_id=0,
    )
    torch.manual_seed(0)
    theirs = transformers.AutoModelForCausalLM.from_config(config).eval()
    for parameter in theirs.parameters():
        parameter.data.add_(0.2 * torch.randn(parameter.shape))
    form = replace(
        llama_config(97, 24, 2, 4, 32, 2, 48), norm_eps=config.rms_norm_eps
    )
    ours = GPT(form).eval()
    ours.load_state_dict(from_phi3(theirs.state_dict(), form))
    ids = torch.randint(97, (2, 24), generator=torch.Generator())
    expected = theirs(ids).logits
    torch.testing.assert_close(ours(ids), expected, atol=1e-4, rtol=1e-4)


def test_what_fits_is_what_is_left() -> None:
    for form in PUBLISHED.values():
        count = tokens_that_fit(form, 24e9)
        held = 2 * sum(parameter_table(form).values())
        each = 4 * form.layers * form.key_heads * form.channels_per_head
        assert held + count * each <= 24e9 < held + (count + 1) * each
    assert tokens_that_fit(PUBLISHED["llama-3.1-8b"], 1e9) == 0
