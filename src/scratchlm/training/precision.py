"""Number formats, and bfloat16 where it pays.

A floating-point format is a number of exponent bits and one of mantissa bits;
`round_to` rounds to any format, to show what it does to numbers. `autocast`
is what training uses: matrix products in bfloat16, all else in float32, the
weights included (Micikevicius et al., 2018; Kalamkar et al., 2019).
`LossScaler` is what float16 needs as well, since its range is too narrow for
gradients.

Left out: training in 8 bits, and float16 in the trainer.
"""

import math
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.benchmark import Timer

Precision = Literal["auto", "float32", "tf32", "bfloat16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)[1:]  # after "auto"


@dataclass(frozen=True)
class Format:
    """A binary floating-point format: one sign bit and two fields.

    Formats with `infinity` reserve the highest exponent for it and for NaN,
    as IEEE 754 does; E4M3 gives up a single value (Micikevicius et al., 2022).
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


def supported(device_type: str) -> list[Precision]:
    """The precisions in which a device can train: float32 everywhere."""
    if device_type == "cuda":
        return list(PRECISIONS)
    return ["float32", "bfloat16"] if device_type == "cpu" else ["float32"]


def autocast(
    device_type: str, precision: Precision
) -> AbstractContextManager[Any]:
    """The context in which to run the model and the loss.

    In "bfloat16" matrix products take and give bfloat16; the loss computes
    in float32, as do norms and softmax on CUDA, and the weights stay
    float32. In the others it changes nothing. The way back needs no context
    of its own. Raises ValueError for other names, and for devices where a
    precision is untested.
    """
    if precision not in supported(device_type):
        raise ValueError(
            f"unknown precision {precision!r} on {device_type}: choose one "
            f"of {', '.join(supported(device_type))}"
        )
    if precision != "bfloat16":
        return nullcontext()
    return torch.autocast(device_type, dtype=torch.bfloat16)


class LossScaler:
    """Keeps the gradients of float16 in range: what GradScaler does.

    The loss is multiplied by `scale` before the way back, and the gradients
    are divided by it before the step. A step whose gradients overflow is
    skipped, and the scale halved; after `patience` good ones it is doubled
    (Micikevicius et al., 2018, section 3.2).
    """

    def __init__(self, scale: float = 2.0**16, patience: int = 2000) -> None:
        """Powers of two change no digit of what they multiply."""
        self.scale, self.patience, self.good = scale, patience, 0

    def scaled(self, loss: Tensor) -> Tensor:
        """The loss from which to go back."""
        return loss * self.scale

    @torch.no_grad()
    def unscale(self, parameters: Iterable[Tensor]) -> bool:
        """Divide all gradients by the scale; returns whether all are finite.

        If not, do not step. Call it once for each way back.
        """
        gradients = [p.grad for p in parameters if p.grad is not None]
        for gradient in gradients:
            gradient /= self.scale
        return all(bool(g.isfinite().all()) for g in gradients)

    def update(self, finite: bool) -> None:
        """Choose the next step's scale by how this one went."""
        self.good = self.good + 1 if finite else 0
        if not finite:
            self.scale /= 2
        elif self.good == self.patience:
            self.scale, self.good = 2 * self.scale, 0


@contextmanager
def float32_products(precision: Precision) -> Iterator[None]:
    """The context in which float32 products are exact, or TF32.

    TF32 cards round the factors to 10 bits of mantissa and add up in
    float32. Forward and back belong inside. The earlier setting is restored.
    """
    before = torch.get_float32_matmul_precision()
    fast = precision == "tf32"
    torch.set_float32_matmul_precision("high" if fast else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def product_seconds(
    device_type: str, rows: int, channels: int
) -> dict[Precision, float]:
    """Seconds for a layer from C to 4C channels, (rows, C), by precision.

    Forward and back, with all conversions, as in training. It takes a
    fraction of a second; `rows` beyond 512 are left out. The quickest of
    several tries counts, and precisions take turns: whatever else the
    machine does can only add to the time.
    """
    x = torch.ones(min(rows, 512), channels, device=device_type)
    x.requires_grad_()
    weight = torch.ones(4 * channels, channels, device=device_type)
    weight.requires_grad_()

    def work(precision: Precision) -> None:
        with float32_products(precision):
            with autocast(device_type, precision):
                y = F.linear(x, weight).sum()
            y.backward()

    def best(precision: Precision) -> float:
        timer = Timer(
            "work(precision)",
            globals={"work": work, "precision": precision},
            num_threads=torch.get_num_threads(),
        )
        return min(timer.blocked_autorange(min_run_time=0.01).times)

    tries = [{name: best(name) for name in supported(device_type)}]
    tries += [{name: best(name) for name in tries[0]} for _ in range(2)]
    return {name: min(turn[name] for turn in tries) for name in tries[0]}


def fast_precision(
    device_type: str = "cpu", rows: int = 512, channels: int = 512
) -> Precision:
    """The precision in which this device trains fastest, by measurement.

    Fewer digits are worth it only if float32 takes a fifth longer.
    """
    seconds = product_seconds(device_type, rows, channels)
    best = min(seconds, key=lambda name: seconds[name])
    return best if 1.2 * seconds[best] < seconds["float32"] else "float32"


def slowdown(
    precision: Precision, device_type: str, rows: int, channels: int
) -> float:
    """How many times as long as in float32 the products take here.

    Above 1, the device has no instructions for this precision and emulates
    it.
    """
    seconds = product_seconds(device_type, rows, channels)
    return seconds[precision] / seconds["float32"]
