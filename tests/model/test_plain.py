"""The model in NumPy: equal to the one in torch, and without torch."""

import ast
import inspect
import subprocess
import sys
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from scratchlm.model import plain
from scratchlm.model.gpt import GPT, GPTConfig, gpt2_config, llama_config

SIZES: dict[str, Any] = {"vocab_size": 50, "context": 16, "layers": 3}
SIZES |= {"heads": 4, "channels": 24}
FORMS = {
    "gpt2": gpt2_config(**SIZES),
    "gpt2 without bias, untied": gpt2_config(**SIZES, bias=False, tied=False),
    "llama": llama_config(**SIZES),
    "llama, shared keys, tied": llama_config(**SIZES, kv_heads=2, tied=True),
    "wide heads, one of keys": replace(
        llama_config(**SIZES, kv_heads=1), head_size=10, hidden=33
    ),
    "another base and epsilon": replace(
        llama_config(**SIZES), rope_base=500.0, norm_eps=1e-2
    ),
    "rotary with layer norm": replace(gpt2_config(**SIZES), position="rotary"),
    "learned with RMSNorm": replace(llama_config(**SIZES), position="learned"),
}


def trained(config: GPTConfig) -> tuple[GPT, dict[str, np.ndarray]]:
    """A model with weights that look trained, and the weights by name."""
    torch.manual_seed(0)
    model = GPT(config).eval()
    for name, weights in model.named_parameters():
        wide = 1.0 if weights.ndim == 1 else weights.shape[1] ** -0.5
        nn.init.normal_(weights, mean=float("norm" in name), std=wide)
    model.tie()
    return model, {n: p.detach().numpy() for n, p in model.named_parameters()}


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("length", [1, 7, 16])
def test_equals_the_model(name: str, length: int) -> None:
    model, weights = trained(FORMS[name])
    ids = torch.arange(3, 3 + length)
    with torch.no_grad():
        wanted = model(ids[None])[0]
    got = plain.logits(weights, asdict(FORMS[name]), ids.tolist())
    assert got.shape == (length, 50)
    np.testing.assert_allclose(got, wanted, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize(
    "change", [
        {"norm_order": "post"},
        {"qk_norm": "layernorm"},
        {"rope_factor": 2.0},
        {"mlp": "gelu"},
    ]
)
def test_what_is_left_out_is_refused(change: dict[str, Any]) -> None:
    config = replace(FORMS["gpt2"], **change)
    with pytest.raises(ValueError, match="written here"):
        plain.logits({}, asdict(config), [1])


def test_the_weights_stay_as_they_were() -> None:
    _, weights = trained(FORMS["gpt2"])
    before = {name: array.copy() for name, array in weights.items()}
    plain.logits(weights, asdict(FORMS["gpt2"]), [1, 2, 3])
    for name, array in weights.items():
        np.testing.assert_array_equal(array, before[name])


def test_no_torch_is_needed() -> None:
    code = (
        "import sys\n"
        "from scratchlm.model import plain\n"
        "print('torch' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True
    )
    assert done.stdout == "False\n", done.stderr


def test_sixty_lines_at_most() -> None:
    text = inspect.getsource(plain)
    lines = {n for n, line in enumerate(text.splitlines(), 1) if line.strip()}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            lines -= set(range(node.lineno, (node.end_lineno or 0) + 1))
    assert len(lines) <= 60
