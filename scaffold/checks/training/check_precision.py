"""What number formats and autocast must do."""

import math
from typing import Any

import torch
from torch import nn

from scratchlm.training import precision

from ..expect import close, equal, raises, true

HALF, BRAIN = precision.FLOAT16, precision.BFLOAT16


def check_limits_of_the_formats() -> None:
    """float16 ends at 65504; bfloat16 reaches as far as float32."""
    close(HALF.largest, 65504.0, "the largest float16")
    close(BRAIN.epsilon, 0.0078125, "the step of bfloat16 after 1")
    close(HALF.smallest, 6.103515625e-05, "the smallest normal float16")
    true(BRAIN.largest > 3e38, "bfloat16 reaches beyond 3e38")


def check_rounding_goes_to_the_nearest() -> None:
    """In bfloat16 numbers from 256 to 512 are two apart."""
    x = torch.tensor([1.0, 1.003, 1.004, 257.0, 259.0])
    close(
        precision.round_to(x, BRAIN),
        torch.tensor([1.0, 1.0, 1.0078125, 256.0, 260.0]),
        "1, 1.003, 1.004, 257 and 259 in bfloat16",
        tol=1e-9,
        hint="ties go to the even last digit: 257 down, 259 up",
    )


def check_small_numbers_lose_digits_before_they_vanish() -> None:
    """Below 6e-5 float16 counts in steps of 2**-24, and then is zero."""
    step = 2.0**-24
    x = torch.tensor([1.4 * step, 0.4 * step], dtype=torch.float64)
    close(
        precision.round_to(x, HALF),
        torch.tensor([step, 0.0]),
        "1.4 and 0.4 steps of the smallest float16",
        tol=1e-12,
        hint="the exponent does not go below 1 - bias",
    )


def check_too_large_is_infinite_or_nothing() -> None:
    """1e5 is infinite in float16 and not a number in E4M3."""
    x = torch.tensor([1e5])
    true(precision.round_to(x, HALF).isinf().all(), "1e5 in float16 is inf")
    true(
        precision.round_to(x, precision.FLOAT8_E4M3).isnan().all(),
        "1e5 in float8 E4M3 is NaN",
    )
    close(precision.FLOAT8_E4M3.largest, 448.0, "the largest float8 E4M3")


def check_bits_by_hand() -> None:
    """-1.5 is minus, exponent 127, mantissa one half."""
    equal(
        precision.bit_fields(-1.5, BRAIN),
        ("1", "01111111", "1000000"),
        "the bits of -1.5 in bfloat16",
    )
    equal(
        precision.bit_fields(0.0, BRAIN),
        ("0", "00000000", "0000000"),
        "the bits of 0",
    )


def check_products_are_in_sixteen_bits_and_weights_are_not() -> None:
    """Inside autocast a linear layer gives bfloat16; its weight stays."""
    layer = nn.Linear(4, 4)
    with precision.autocast("cpu", "bfloat16"):
        out = layer(torch.ones(1, 4))
    equal(out.dtype, torch.bfloat16, "the type of the output")
    out.float().sum().backward()
    equal(layer.weight.dtype, torch.float32, "the type of the weight")
    assert layer.weight.grad is not None
    equal(layer.weight.grad.dtype, torch.float32, "that of its gradient")
    with precision.autocast("cpu", "float32"):
        equal(layer(torch.ones(1, 4)).dtype, torch.float32, "with float32")
    no_format: Any = "float16"
    raises(
        ValueError,
        lambda: precision.autocast("cpu", no_format),
        "asking for float16",
    )


def check_a_scaled_loss_gives_the_same_gradients() -> None:
    """A loss of 3w, scaled by 8 and unscaled again, has the gradient 3."""
    scaler = precision.LossScaler(8.0, patience=2)
    weight = nn.Parameter(torch.ones(1))
    loss = scaler.scaled((3 * weight).sum())
    equal(loss.item(), 24.0, "the scaled loss")
    loss.backward()
    equal(scaler.unscale([weight]), True, "all gradients are finite")
    assert weight.grad is not None
    equal(weight.grad.item(), 3.0, "the gradient after unscaling")


def check_the_scale_follows_what_happened() -> None:
    """8 is doubled after two good steps, and halved by an infinite one."""
    scaler = precision.LossScaler(8.0, patience=2)
    weight = nn.Parameter(torch.ones(1))
    scales = []
    for size in (1.0, math.inf, 1.0, 1.0, 1.0, 1.0):
        weight.grad = torch.tensor([size])
        scaler.update(scaler.unscale([weight]))
        scales.append(scaler.scale)
    equal(
        scales,
        [8.0, 4.0, 4.0, 8.0, 8.0, 16.0],
        "scales after a good step, a bad one, and four good ones",
        hint="halve at once, double after patience good steps in a row, and "
        "count anew after each change",
    )


def check_products_of_float32() -> None:
    """Inside, TF32 is allowed only where asked for; after, as before."""
    before = torch.get_float32_matmul_precision()
    try:
        for outside in ("highest", "high"):
            torch.set_float32_matmul_precision(outside)
            for name, wanted in (("tf32", "high"), ("float32", "highest")):
                with precision.float32_products(name):  # type: ignore
                    got = torch.get_float32_matmul_precision()
                equal(got, wanted, f"the setting inside, for {name}")
                got = torch.get_float32_matmul_precision()
                equal(got, outside, "the setting after that")
    finally:
        torch.set_float32_matmul_precision(before)


def check_the_fastest_is_measured() -> None:
    """A precision is chosen where it wins a fifth of the time."""
    found = precision.product_seconds("cpu", 4, 8)
    equal(sorted(found), ["bfloat16", "float32"], "what is timed on a CPU")
    true(all(seconds > 0 for seconds in found.values()), "times are positive")
    usual = precision.product_seconds
    try:
        for few, wanted in ((1.0, "bfloat16"), (1.9, "float32")):
            times = {"float32": 2.0, "bfloat16": few}
            precision.product_seconds = lambda *given, t=times: t
            equal(precision.fast_precision(), wanted, f"best of {times}")
            got = precision.slowdown("bfloat16", "cpu", 4, 8)
            close(got, few / 2, f"slowdown, times {times}")
    finally:
        precision.product_seconds = usual


def check_what_devices_can_do() -> None:
    """Everything on CUDA, bfloat16 on a CPU, float32 elsewhere."""
    for device, wanted in (
        ("cuda", ["float32", "tf32", "bfloat16"]),
        ("cpu", ["float32", "bfloat16"]),
        ("mps", ["float32"]),
    ):
        equal(precision.supported(device), wanted, f"precisions on {device}")
    sizes = [(f.exponent, f.mantissa) for f in precision.FORMATS]
    bits = [(8, 23), (8, 10), (5, 10), (8, 7), (5, 2), (4, 3)]
    equal(sizes, bits, "bits of exponent and mantissa of all formats")
    for fmt in (precision.FLOAT16, precision.FLOAT8_E4M3):
        top = torch.tensor([fmt.largest, -fmt.largest])
        close(precision.round_to(top, fmt), top, f"the largest in {fmt.name}")


BUGS = {
    "the gradients stay scaled": (
        "            gradient /= self.scale\n",
        "            pass\n",
    ),
    "a bad step does not end the row of good ones": (
        "self.good = self.good + 1 if finite else 0",
        "self.good += 1",
    ),
    "the scale never grows": (
        "self.scale, self.good = 2 * self.scale, 0",
        "self.good = 0",
    ),
    "an overflow is not noticed": (
        "return all(bool(g.isfinite().all()) for g in gradients)",
        "return True",
    ),
    "the bias is one too large": (
        "return 2 ** (self.exponent - 1) - 1",
        "return 2 ** (self.exponent - 1)",
    ),
    "numbers are cut off instead of rounded": (
        "rounded = torch.round(x / grid) * grid",
        "rounded = torch.trunc(x / grid) * grid",
    ),
    "small numbers keep all their digits": (
        "exponent = (exponent - 1).clamp(min=1 - fmt.bias)",
        "exponent = exponent - 1",
    ),
    "what is too large becomes the largest": (
        "return torch.where(too_large, x.sign() * beyond, rounded)",
        "return rounded.clamp(-fmt.largest, fmt.largest)",
    ),
    "autocast takes float16": (
        "return torch.autocast(device_type, dtype=torch.bfloat16)",
        "return torch.autocast(device_type, dtype=torch.float16)",
    ),
    "autocast does nothing": (
        '    if precision != "bfloat16":\n',
        '    if precision != "float16":\n',
    ),
    "TF32 is always allowed": (
        '"high" if fast else "highest"',
        '"high"',
    ),
    "the setting of products stays": (
        "        torch.set_float32_matmul_precision(before)",
        "        pass",
    ),
    "any gain of time is enough": (
        "if 1.2 * seconds[best]",
        "if seconds[best]",
    ),
    "the largest number is too large": (
        "rounded.abs() > fmt.largest",
        "rounded.abs() >= fmt.largest",
    ),
    "a slowdown is upside down": (
        'return seconds[precision] / seconds["float32"]',
        'return seconds["float32"] / seconds[precision]',
    ),
}
