"""Number formats against torch's own, and what autocast leaves alone."""

import doctest
import math
import struct

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scratchlm.model.gpt import GPT, gpt2_config, next_token_loss
from scratchlm.training import precision as module
from scratchlm.training.precision import (
    BFLOAT16,
    FLOAT8_E4M3,
    FLOAT8_E5M2,
    FLOAT16,
    FLOAT32,
    FORMATS,
    TF32,
    Format,
    autocast,
    bit_fields,
    default_precision,
    round_to,
)

TORCH = {
    FLOAT32: torch.float32,
    FLOAT16: torch.float16,
    BFLOAT16: torch.bfloat16,
    FLOAT8_E5M2: torch.float8_e5m2,
    FLOAT8_E4M3: torch.float8_e4m3fn,
}
NUMBERS = st.floats(allow_nan=False, allow_infinity=False, width=32)


def test_the_examples_hold() -> None:
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize("form", TORCH, ids=lambda form: form.name)
def test_the_limits_are_torchs(form: Format) -> None:
    info = torch.finfo(TORCH[form])
    assert form.epsilon == info.eps
    assert form.smallest == info.smallest_normal
    assert form.largest == info.max
    if form in (FLOAT32, FLOAT16, BFLOAT16):
        assert info.bits == 1 + form.exponent + form.mantissa


@settings(deadline=None, max_examples=300)
@given(NUMBERS, st.sampled_from([FLOAT32, FLOAT16, BFLOAT16]))
def test_rounding_is_torchs_rounding(value: float, form: Format) -> None:
    x = torch.tensor(value, dtype=torch.float64)
    assert round_to(x, form).item() == x.to(TORCH[form]).double().item()


@settings(deadline=None, max_examples=200)
@given(st.floats(-400, 400), st.sampled_from([FLOAT8_E5M2, FLOAT8_E4M3]))
def test_eight_bits_too(value: float, form: Format) -> None:
    x = torch.tensor(value, dtype=torch.float32)
    assert round_to(x, form).item() == x.to(TORCH[form]).double().item()


def test_what_is_too_large() -> None:
    x = torch.tensor([1e5, -1e5])
    assert round_to(x, FLOAT16).tolist() == [math.inf, -math.inf]
    assert round_to(x, FLOAT8_E4M3).isnan().all()
    assert round_to(x, BFLOAT16).isfinite().all()


@settings(deadline=None, max_examples=200)
@given(NUMBERS)
def test_the_bits_are_those_of_the_machine(value: float) -> None:
    sign, exponent, mantissa = bit_fields(value, FLOAT32)
    number = struct.unpack(">I", struct.pack(">f", value))[0]
    assert f"{number:032b}" == sign + exponent + mantissa


@settings(deadline=None, max_examples=200)
@given(st.floats(-6e4, 6e4), st.sampled_from([FLOAT16, BFLOAT16]))
def test_the_bits_of_sixteen(value: float, form: Format) -> None:
    bits = "".join(bit_fields(value, form))
    stored = torch.tensor(value, dtype=torch.float64).to(TORCH[form])
    number = stored.view(torch.int16).item() & 0xFFFF
    assert bits == f"{number:016b}"


def test_bfloat16_is_the_upper_half_of_float32() -> None:
    for value in (1.0, -2.5, 0.15625):  # numbers that both have
        whole = "".join(bit_fields(value, FLOAT32))
        assert "".join(bit_fields(value, BFLOAT16)) == whole[:16]


def test_numbers_beyond_the_largest_have_no_bits() -> None:
    with pytest.raises(ValueError, match="no finite form in float16"):
        bit_fields(1e6, FLOAT16)


def test_every_format_has_its_name_once() -> None:
    assert len({form.name for form in FORMATS}) == len(FORMATS)
    assert TF32.epsilon == FLOAT16.epsilon
    assert TF32.largest > 1e38


def test_autocast_computes_in_bfloat16_and_keeps_float32() -> None:
    torch.manual_seed(0)
    model = GPT(
        gpt2_config(vocab_size=32, context=8, layers=1, heads=2, channels=16)
    )
    ids = torch.randint(32, (2, 8))
    with autocast("cpu", "bfloat16"):
        logits = model(ids)
        loss = next_token_loss(logits, ids)
    assert logits.dtype == torch.bfloat16
    assert loss.dtype == torch.float32
    loss.backward()
    for p in model.parameters():
        assert p.dtype == torch.float32
        assert p.grad is not None
        assert p.grad.dtype == torch.float32
    plain = next_token_loss(model(ids), ids)
    assert loss.item() == pytest.approx(plain.item(), abs=0.02)


def test_float32_changes_nothing() -> None:
    x = torch.randn(3, 3)
    with autocast("cpu", "float32"):
        assert (x @ x).dtype == torch.float32


@pytest.mark.parametrize(
    ("device", "precision", "message"),
    [("cpu", "float16", "float16"), ("mps", "bfloat16", "not supported")],
)
def test_what_is_not_supported_is_refused(
    device: str, precision: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        autocast(device, precision)


def test_the_default_is_what_the_hardware_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert default_precision("cpu") == "float32"
    for supported, wanted in ((True, "bfloat16"), (False, "float32")):
        monkeypatch.setattr(
            torch.cuda, "is_bf16_supported", lambda *_, s=supported: s
        )
        assert default_precision("cuda") == wanted
