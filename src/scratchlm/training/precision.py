"""Number formats, and bfloat16 where it pays.

A floating-point format is a number of exponent bits and one of mantissa bits;
`round_to` rounds to any, to see what it does to numbers. `autocast` is
what training uses: matrix products in bfloat16, all else in float32, weights
among it (Micikevicius et al., 2018; Kalamkar et al., 2019).

Left out: float16, whose narrow range needs the loss to be scaled, and
training in 8 bits.
"""

import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True)
class Format:
    """A binary floating-point format: one sign bit and two fields.

    Formats with `infinity` keep the highest exponent for it and for NaN, as
    IEEE 754 does; E4M3 gives up one single value (Micikevicius et al., 2022).
    """

    name: str
    exponent: int  # bits
    mantissa: int  # bits
    infinity: bool = True

    @property
    def bias(self) -> int:
        """What is subtracted from the exponent's field."""
        return 2 ** (self.exponent - 1) - 1

    @property
    def epsilon(self) -> float:
        """From 1 to the next larger number."""
        return 2.0**-self.mantissa

    @property
    def smallest(self) -> float:
        """The smallest number with all its digits (normal number)."""
        return 2.0 ** (1 - self.bias)

    @property
    def largest(self) -> float:
        """The largest finite number."""
        if self.infinity:
            return (2 - self.epsilon) * 2.0**self.bias
        return (2 - 2 * self.epsilon) * 2.0 ** (self.bias + 1)


FLOAT32 = Format("float32", 8, 23)
TF32 = Format("tf32", 8, 10)
FLOAT16 = Format("float16", 5, 10)
BFLOAT16 = Format("bfloat16", 8, 7)
FLOAT8_E5M2 = Format("float8 E5M2", 5, 2)
FLOAT8_E4M3 = Format("float8 E4M3", 4, 3, infinity=False)
FORMATS = (FLOAT32, TF32, FLOAT16, BFLOAT16, FLOAT8_E5M2, FLOAT8_E4M3)


def round_to(x: Tensor, fmt: Format) -> Tensor:
    """The nearest numbers that the format has, as float64; ties to even.

    What is too large becomes infinite, or NaN in a format without infinity.

    >>> round_to(torch.tensor([1.0, 1.003, 1.004, 257.0]), BFLOAT16).tolist()
    [1.0, 1.0, 1.0078125, 256.0]
    """
    x = x.double()
    _, exponent = torch.frexp(x)  # x = mantissa 2^exponent, from 1/2 to 1
    exponent = (exponent - 1).clamp(min=1 - fmt.bias)
    grid = torch.ldexp(torch.ones_like(x), exponent - fmt.mantissa)
    rounded = torch.round(x / grid) * grid
    beyond = math.inf if fmt.infinity else math.nan
    too_large = rounded.abs() > fmt.largest
    return torch.where(too_large, x.sign() * beyond, rounded)


def bit_fields(value: float, fmt: Format) -> tuple[str, str, str]:
    """Sign, exponent and mantissa of a number in the format, in bits.

    Raises ValueError for a number beyond the largest.

    >>> bit_fields(-1.5, BFLOAT16)
    ('1', '01111111', '1000000')
    """
    near = round_to(torch.tensor(value, dtype=torch.float64), fmt).item()
    if not math.isfinite(near):
        raise ValueError(f"{value} has no finite form in {fmt.name}")
    sign = "1" if math.copysign(1, near) < 0 else "0"
    # In units of the last place, the exponent's field is the carry.
    _, power = math.frexp(abs(near))
    field = max(power - 1 + fmt.bias, 1) if near else 1
    units = int(abs(near) * 2.0 ** (fmt.mantissa + fmt.bias - field))
    code = ((field - 1) << fmt.mantissa) + units
    bits = f"{code:0{fmt.exponent + fmt.mantissa}b}"
    return sign, bits[: fmt.exponent], bits[fmt.exponent :]


def default_precision(device_type: str) -> str:
    """bfloat16 on a CUDA card that has it in hardware, else float32."""
    if device_type == "cuda" and torch.cuda.is_bf16_supported(False):
        return "bfloat16"
    return "float32"


def autocast(device_type: str, precision: str) -> AbstractContextManager[Any]:
    """The context in which to run the model and the loss.

    In "bfloat16" matrix products take and give bfloat16; the loss computes
    in float32, as do norms and softmax on CUDA, and the weights stay
    float32. In "float32" it changes nothing. The way back needs no context
    of its own. Raises ValueError for other names, and for devices where
    this is untested.
    """
    if precision not in PRECISIONS:
        raise ValueError(
            f"unknown precision {precision!r}: choose one of "
            f"{', '.join(PRECISIONS)}"
        )
    if precision == "float32":
        return nullcontext()
    if device_type not in ("cpu", "cuda"):
        raise ValueError(
            f"bfloat16 is not supported on {device_type} here: use float32"
        )
    return torch.autocast(device_type, dtype=torch.bfloat16)
