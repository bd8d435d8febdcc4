"""Our model against `transformers`, for each published form.

The same random weights, the same tokens: how far are the logits apart?
"""

from typing import Any

import torch
import transformers
from torch import Tensor

from scratchlm.model.gpt import GPT, parameter_table
from scratchlm.model.published import from_published, read_form

VOCABULARY, LENGTH, LAYERS = 257, 96, 4
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 112,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "max_position_embeddings": LENGTH,
}
SLOWED = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 24,
}
GPT2_SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "n_positions": LENGTH,
    "n_embd": 64,
    "n_layer": LAYERS,
    "n_head": 8,
}
FORMS: dict[str, tuple[type, dict[str, Any]]] = {
    "GPT-2": (transformers.GPT2Config, GPT2_SIZES),
    "GPT-2, wide": (transformers.GPT2Config, {**GPT2_SIZES, "n_inner": 90}),
    "Llama 2": (
        transformers.LlamaConfig,
        {**SIZES, "num_key_value_heads": 8},
    ),
    "Llama 3.1": (
        transformers.LlamaConfig,
        {**SIZES, "rope_parameters": SLOWED},
    ),
    "Llama 3.2": (
        transformers.LlamaConfig,
        {**SIZES, "rope_parameters": SLOWED, "tie_word_embeddings": True},
    ),
    "SmolLM2": (
        transformers.LlamaConfig,
        {**SIZES, "tie_word_embeddings": True},
    ),
    "Qwen2.5": (
        transformers.Qwen2Config,
        {**SIZES, "rms_norm_eps": 1e-6, "tie_word_embeddings": True},
    ),
    "Qwen3": (transformers.Qwen3Config, {**SIZES, "head_dim": 16}),
    "OLMo 2": (transformers.Olmo2Config, SIZES),
}


def random_model(name: str) -> transformers.PreTrainedModel:
    """The library's model of a form, each of whose weights matters."""
    make, sizes = FORMS[name]
    model = transformers.AutoModelForCausalLM.from_config(make(**sizes))
    generator = torch.Generator().manual_seed(7)
    for _, weight in sorted(model.named_parameters()):
        noise = torch.randn(weight.shape, generator=generator)
        if weight.ndim == 2:
            weight.data.copy_(noise * weight.shape[1] ** -0.5)
        else:  # a norm's about 1, a bias about 0
            weight.data.add_(0.3 * noise)
    return model.eval()


def weights(model: transformers.PreTrainedModel) -> dict[str, Tensor]:
    """What the library would save: what is tied comes once."""
    state = dict(model.state_dict())
    if model.config.tie_word_embeddings:
        del state["lm_head.weight"]
    return state


@torch.no_grad()
def compare(name: str) -> dict[str, Any]:
    """How far two models of the same weights are apart."""
    theirs = random_model(name)
    form = read_form(theirs.config.to_dict())
    ours = GPT(form).eval()
    ours.load_state_dict(from_published(weights(theirs), form))
    generator = torch.Generator().manual_seed(11)
    ids = torch.randint(VOCABULARY, (4, LENGTH), generator=generator)
    wanted, found = theirs(ids).logits, ours(ids)
    return {
        "name": name,
        "parameters": sum(parameter_table(form).values()),
        "difference": float((found - wanted).abs().max()),
        "largest": round(float(wanted.abs().max()), 3),
    }


def record() -> dict[str, Any]:
    """The difference for each form, and which library it is to."""
    torch.set_num_threads(1)
    return {
        "transformers": transformers.__version__,
        "layers": LAYERS,
        "length": LENGTH,
        "forms": [compare(name) for name in FORMS],
    }


def replay(data: dict[str, Any]) -> None:
    """Each form still agrees with the library that is installed here."""
    assert [row["name"] for row in data["forms"]] == list(FORMS)
    for row in data["forms"]:
        found = compare(row["name"])
        assert found["parameters"] == row["parameters"], row
        assert abs(found["largest"] - row["largest"]) < 0.01, (row, found)
        assert max(found["difference"], row["difference"]) < 1e-4, (row, found)
