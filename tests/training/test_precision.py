"""Number formats against torch's own, and what autocast leaves alone."""

import doctest
import math
import struct
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

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
    LossScaler,
    autocast,
    bit_fields,
    fast_precision,
    float32_products,
    product_seconds,
    round_to,
    slowdown,
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
    ("device", "precision"),
    [("cpu", "float16"), ("mps", "bfloat16"), ("cpu", "tf32"), ("cpu", "auto")],
)
def test_what_is_not_supported_is_refused(device: str, precision: Any) -> None:
    with pytest.raises(ValueError, match=f"{precision}' on {device}: choose"):
        autocast(device, precision)


def test_tf32_is_set_inside_and_only_there() -> None:
    before = torch.get_float32_matmul_precision()
    settings: dict[Any, str] = {"tf32": "high", "float32": "highest"}
    for precision, wanted in settings.items():
        with float32_products(precision):
            assert torch.get_float32_matmul_precision() == wanted
        assert torch.get_float32_matmul_precision() == before

    @float32_products("tf32")
    def fails() -> None:
        raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert torch.get_float32_matmul_precision() == before


def test_the_way_back_is_that_of_training(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It goes to the weights and to the layer below: three products."""

    class Once:
        def __init__(self, statement: str, globals: Any, **_: Any) -> None:
            self.names = globals

        def blocked_autorange(self, **_: Any) -> Any:
            with FlopCounterMode(display=False) as counter:
                self.names["work"](self.names["precision"])
            return SimpleNamespace(times=[counter.get_total_flops()])

    monkeypatch.setattr(module, "Timer", Once)
    found = module.product_seconds("cpu", 8, 4)
    assert set(found.values()) == {3 * 2 * 8 * 4 * 16}


def test_products_are_timed_in_each_precision() -> None:
    seconds = product_seconds("cpu", 64, 32)
    assert set(seconds) == {"float32", "bfloat16"}
    assert all(0 < s < 1 for s in seconds.values())


@pytest.mark.parametrize(
    ("bfloat16", "wanted"),
    [(0.5, "bfloat16"), (0.95, "float32"), (3.0, "float32")],
)
def test_auto_is_what_the_measurement_says(
    monkeypatch: pytest.MonkeyPatch, bfloat16: float, wanted: str
) -> None:
    times = {"float32": 1.0, "bfloat16": bfloat16}
    seen: list[Any] = []

    def measured(*arguments: Any) -> Any:
        seen.append(arguments)
        return times

    monkeypatch.setattr(module, "product_seconds", measured)
    assert fast_precision("cpu", 96, 48) == wanted
    assert seen == [("cpu", 96, 48)]
    assert slowdown("bfloat16", "cpu", 96, 48) == bfloat16
    assert slowdown("float32", "cpu", 96, 48) == 1


def test_a_card_knows_all_precisions_and_others_fewer() -> None:
    assert module.supported("cuda") == list(module.PRECISIONS)
    assert module.supported("mps") == ["float32"]


@settings(deadline=None, max_examples=20)
@given(
    sizes=st.lists(st.sampled_from([1.0, 3.0, math.inf, math.nan]), max_size=9),
    patience=st.integers(1, 3),
)
def test_the_scaler_does_what_the_librarys_does(
    sizes: list[float], patience: int
) -> None:
    """The same scales, the same gradients, and the same steps left out."""
    theirs = torch.amp.GradScaler(
        "cpu", init_scale=2.0**5, growth_interval=patience
    )
    ours = LossScaler(2.0**5, patience)
    pair = [torch.nn.Parameter(torch.ones(2)) for _ in range(2)]
    steps = [torch.optim.SGD([p], lr=0.125) for p in pair]
    for size in sizes:
        for parameter, optimizer in zip(pair, steps, strict=True):
            optimizer.zero_grad()
            scale = theirs.scale if parameter is pair[0] else ours.scaled
            scale((parameter * torch.tensor([size, 1.0])).sum()).backward()
        theirs.step(steps[0])
        theirs.update()
        finite = ours.unscale([pair[1]])
        if finite:
            steps[1].step()
        ours.update(finite)
        assert finite == math.isfinite(size)
        assert ours.scale == theirs.get_scale()
        assert torch.equal(pair[0], pair[1])


def test_parameters_without_a_gradient_have_nothing_to_unscale() -> None:
    assert LossScaler().unscale([torch.nn.Parameter(torch.ones(1))])
    assert LossScaler().scale == 65536
