"""Solutions on the model in a page, each in the engine it is for."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from py_mini_racer import MiniRacer
from torch import nn

from scratchlm.model.gpt import GPT, GPTConfig, gpt2_config, llama_config
from scratchlm.serving import browser
from scratchlm.serving.browser import (
    CALLS,
    STAND_INS,
    inline_json,
    load_into,
    model_page,
    packed_weights,
    read_script,
    run_facts,
)
from scratchlm.serving.quantize import Scheme, quantize_model
from scratchlm.text.tokenizer import Tokenizer
from scratchlm.training.trainer import token_losses
from solutions.serving.browser import (
    any_order,
    asks_outside,
    changed,
    keep_codes,
    packed_nibbles,
    page_bytes,
    read_nibbles,
    surprises,
)

TEXT = "The baker counts her loaves, and the loaves are four. "
SIZES: dict[str, Any] = {"context": 16, "layers": 2, "heads": 2}
SIZES |= {"channels": 32}


def trained(config: GPTConfig) -> GPT:
    """A model with weights that look trained."""
    torch.manual_seed(0)
    model = GPT(config).eval()
    for name, weights in model.named_parameters():
        wide = 1.0 if weights.ndim == 1 else weights.shape[1] ** -0.5
        nn.init.normal_(weights, mean=float("norm" in name), std=wide)
    model.tie()
    return model


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(TEXT, 270)


@pytest.fixture(scope="module")
def model(tokenizer: Tokenizer) -> GPT:
    return trained(gpt2_config(tokenizer.vocab_size, **SIZES))


def last_scores(model: GPT, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.tensor([ids]))[0, -1]


def test_base64_takes_four_for_three(model: GPT, tokenizer: Tokenizer) -> None:
    data = packed_weights(model)
    page = model_page(model, tokenizer, "A page")
    inside = page.partition('id="weights">')[2].partition("<")[0]
    assert page_bytes(len(data)) == len(inside)
    assert page_bytes(len(data) // 4, 4) == page_bytes(len(data) // 4 * 4)


@pytest.mark.always
def test_surprise_is_the_loss_in_bits(model: GPT, tokenizer: Tokenizer) -> None:
    engine = MiniRacer()
    load_into(engine, model, tokenizer)
    ids = tokenizer.encode(TEXT)[:16]
    small = quantize_model(model, Scheme())
    wanted = token_losses(small, np.array(ids), 15) / np.log(2)
    np.testing.assert_allclose(surprises(engine, ids), wanted, rtol=1e-3)


def test_who_is_asked(model: GPT, tokenizer: Tokenizer) -> None:
    page = model_page(model, tokenizer, "A page", TEXT)
    assert asks_outside(page) == []
    for old, new, fault in (
        ("<main>", '<main onclick="go()">', "main has code in onclick"),
        ("<main>", '<img src="a.png"><main>', "img asks for a.png"),
        ("start();\n</script>", "stop();\n</script>", "does not name"),
        ("<style>", '<link rel="x" href="//a.org/b"><style>', "//a.org/b"),
        ("</body>", "<script>go()</script></body>", "does not name"),
        ("</body>", '<script type="module">go()</script></body>', "not name"),
    ):
        assert page.count(old) == 1
        [found] = asks_outside(page.replace(old, new))
        assert fault in found


def test_codes_are_kept(model: GPT, tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode(TEXT)[:9]
    engine = MiniRacer()
    load_into(engine, model, tokenizer, keep_codes(read_script()))
    got = torch.tensor(engine.call("read", ids))
    wanted = last_scores(quantize_model(model, Scheme()), ids)
    torch.testing.assert_close(got, wanted, atol=1e-4, rtol=1e-4)
    kind = "model.tensors['token.weight'].data.constructor.name"
    assert engine.eval(kind) == "Int8Array"


def test_what_is_not_there_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="not once"):
        changed("let x;", ("let y", "let z"))


@pytest.mark.parametrize("order", ["pre", "post", "branch"])
def test_norms_in_every_order(
    order: str, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders = {"norm_order": ("pre", "post", "branch")}
    monkeypatch.setattr(browser, "KNOWN", browser.KNOWN | orders)
    form = replace(
        llama_config(tokenizer.vocab_size, **SIZES), norm_order=order
    )
    model, ids = trained(form), tokenizer.encode(TEXT)[:9]
    engine = MiniRacer()
    load_into(engine, model, tokenizer, any_order(read_script()))
    got = torch.tensor(engine.call("read", ids))
    wanted = last_scores(quantize_model(model, Scheme()), ids)
    torch.testing.assert_close(got, wanted, atol=1e-4, rtol=1e-4)


def test_half_a_byte(model: GPT, tokenizer: Tokenizer) -> None:
    data, engine = packed_nibbles(model), MiniRacer()
    assert len(data) < 0.8 * len(packed_weights(model))
    engine.eval(STAND_INS + read_nibbles(read_script()))
    shared = f"const memory = new SharedArrayBuffer({len(data)}); memory"
    engine.eval(shared)[:] = data
    facts = inline_json(run_facts(model, tokenizer))
    engine.eval(f"const run = {facts};{CALLS}")
    ids = tokenizer.encode(TEXT)[:9]
    got = torch.tensor(engine.call("read", ids))
    wanted = last_scores(quantize_model(model, Scheme(4, 32)), ids)
    torch.testing.assert_close(got, wanted, atol=1e-4, rtol=1e-4)
