"""Weights in a byte, or in half of one: codes on a grid, and their scales.

Each weight becomes a small whole number, its code; code times scale is the
nearest point to it on an even grid. One scale serves a whole matrix, a row
(an output channel), or a group of neighbors in a row: symmetric quantization
by the largest value (Jacob et al., 2018, section 2.1, with the zero point at
0; Gholami et al., 2021, section III). `quantize_model` does this to all
matrices of a trained `GPT`; norms, biases and learned positions stay.

Left out: grids that are not symmetric or not even, activations in 8 bits
beyond one product (Dettmers et al., 2022), and codes chosen by what they do
to the outputs (Frantar et al., 2023), which an exercise adds.
"""

import copy
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scratchlm.model.gpt import GPT, GPTConfig
from scratchlm.text.files import (
    entry,
    read_json,
    verify,
    write_json,
    write_seal,
)
from scratchlm.training.checkpoint import (
    blaming,
    put_weights,
    read_tensors,
    save_weights,
    unique_tensors,
)

SCALE = torch.bfloat16  # two bytes, and the range of float32
WEIGHTS, CONFIG = "model.safetensors", "config.json"

# --- the grid ----------------------------------------------------------------


@dataclass(frozen=True)
class Scheme:
    """How many bits a weight gets, and which weights share a scale.

    `group` is "tensor", "row", or a number of neighbors in a row. Codes of
    4 bits and fewer are kept two in a byte.
    """

    bits: int = 8
    group: int | str = "row"

    def __post_init__(self) -> None:
        """Refuse what cannot be packed or shared."""
        if not 2 <= self.bits <= 8:
            raise ValueError(f"bits={self.bits}: choose 2 to 8")
        named = self.group in ("tensor", "row")
        if not named and (isinstance(self.group, str) or self.group < 1):
            raise ValueError(
                f"group={self.group!r}: choose tensor, row, or 1 or more"
            )

    @property
    def top(self) -> int:
        """The largest code, as far above 0 as the smallest is below.

        >>> Scheme(bits=8).top, Scheme(bits=4).top
        (127, 7)
        """
        return 2 ** (self.bits - 1) - 1

    def size(self, columns: int) -> int:
        """How many neighbors in a row of `columns` share a scale."""
        if isinstance(self.group, str):
            return columns
        if columns % self.group:
            raise ValueError(
                f"rows of {columns} do not split into groups of "
                f"{self.group}: choose a group that divides them"
            )
        return self.group


def largest_scales(weights: Tensor, scheme: Scheme) -> Tensor:
    """The scale with which a group's largest weight has the largest code.

    Weights (R, C) → (R, C / group), (R, 1), or (1, 1) for a tensor. Scales
    are rounded to bfloat16; 127 codes of such a scale miss the largest
    weight by 127 · 2^-8 of a step at most, less than half of one. Zeros get
    the scale 1. Raises ValueError for NaN and infinity.
    """
    size = scheme.size(weights.shape[1])
    largest = weights.abs().unflatten(1, (-1, size)).amax(dim=2)
    if scheme.group == "tensor":
        largest = largest.amax().view(1, 1)
    scales = (largest / scheme.top).to(SCALE)
    if not bool(scales.isfinite().all()):
        raise ValueError("weights of NaN or infinity have no scale")
    return scales.masked_fill(scales == 0, 1)


def quantize(weights: Tensor, scheme: Scheme) -> tuple[Tensor, Tensor]:
    """Codes and scales of weights (R, C); no weight moves by more than s/2.

    Codes are int8 (R, C) from -top to top, scales as in `largest_scales`.

    >>> codes, scales = quantize(torch.tensor([[0.5, -1.27, 0.014]]), Scheme())
    >>> codes
    tensor([[  50, -127,    1]], dtype=torch.int8)
    """
    weights = weights.detach().float()
    scales = largest_scales(weights, scheme)
    groups = weights.unflatten(1, (scales.shape[1], -1))  # (R, G, C / G)
    steps = groups / scales.float().unsqueeze(-1)
    codes = steps.round().clamp(-scheme.top, scheme.top)
    return codes.flatten(1).to(torch.int8), scales


def dequantize(codes: Tensor, scales: Tensor) -> Tensor:
    """Codes times their scales: the weights that the codes stand for.

    (R, C) int8 and (R, G), (R, 1) or (1, 1) → (R, C) float32.

    >>> dequantize(torch.tensor([[50, -127]]), torch.tensor([[0.01]]))
    tensor([[ 0.5000, -1.2700]])
    """
    groups = codes.float().unflatten(1, (scales.shape[1], -1))
    return (groups * scales.float().unsqueeze(-1)).flatten(1)


# --- two codes in a byte -----------------------------------------------------


def pack(codes: Tensor) -> Tensor:
    """Codes from -8 to 7 (R, C), two in a byte: (R, C / 2) uint8.

    8 is added, so that they count from 0 to 15. The first of two neighbors
    has the lower four bits.

    >>> pack(torch.tensor([[-8, 7]], dtype=torch.int8))
    tensor([[240]], dtype=torch.uint8)
    """
    if codes.shape[1] % 2:
        raise ValueError(
            f"rows of {codes.shape[1]} codes do not make pairs: keep them in "
            "a byte each, with more than 4 bits"
        )
    low, high = (codes + 8).to(torch.uint8).unflatten(1, (-1, 2)).unbind(2)
    return low | high << 4


def unpack(packed: Tensor) -> Tensor:
    """The codes that `pack` put together: (R, C / 2) uint8 → (R, C) int8.

    >>> unpack(torch.tensor([[240]], dtype=torch.uint8))
    tensor([[-8,  7]], dtype=torch.int8)
    """
    pairs = torch.stack([packed & 15, packed >> 4], dim=2)
    return pairs.flatten(1).to(torch.int8) - 8


# --- layers ------------------------------------------------------------------


class QuantizedMatrix(nn.Module):
    """A matrix (R, C) as codes and scales; several layers may read it."""

    codes: Tensor
    scales: Tensor

    def __init__(self, weights: Tensor, scheme: Scheme) -> None:
        """Quantize the weights; they are not kept."""
        super().__init__()
        codes, scales = quantize(weights, scheme)
        self.scheme = scheme
        self.packed = scheme.bits <= 4
        self.register_buffer("codes", pack(codes) if self.packed else codes)
        self.register_buffer("scales", scales)

    def rows(self, which: Tensor | slice = slice(None)) -> Tensor:
        """Some rows, or all, as float32: (rows, C)."""
        one = self.scheme.group == "tensor"
        scales = self.scales if one else self.scales[which]
        codes = self.codes[which]
        return dequantize(unpack(codes) if self.packed else codes, scales)


def fused_linear(x: Tensor, matrix: QuantizedMatrix) -> Tensor:
    """x (..., C) times a matrix that is never made: (..., R), as x's type.

    PyTorch's kernel for processors reads codes of one byte each, adds up
    their products, and multiplies each sum by the scale of its row. It is
    written for x in bfloat16, and much slower in float32.
    """
    rows = x.reshape(-1, x.shape[-1])  # (N, C)
    scales = matrix.scales.flatten().to(x.dtype)
    y = torch._weight_int8pack_mm(rows, matrix.codes, scales)
    return y.view(*x.shape[:-1], -1)


class QuantizedLinear(nn.Module):
    """A linear layer whose weights are codes and scales.

    The result is that of `nn.Linear` with the weights of the grid, which
    are made anew at every call. With `fused` they are not: the kernel gets
    x in that type, if each row has a scale and each code a byte.
    """

    bias: nn.Parameter | None

    def __init__(
        self,
        matrix: QuantizedMatrix,
        bias: nn.Parameter | None = None,
        fused: torch.dtype | None = None,
    ) -> None:
        """Read a matrix, which other layers may read as well."""
        super().__init__()
        self.matrix, self.bias = matrix, bias
        fits = matrix.scheme.group == "row" and not matrix.packed
        self.fused = fused if fits else None

    @property
    def weight(self) -> Tensor:
        """The whole matrix as float32, (R, C), for as long as it is held."""
        return self.matrix.rows()

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) → (..., R)."""
        if self.fused is None or x.device.type != "cpu":
            return F.linear(x, self.weight, self.bias)
        y = fused_linear(x.to(self.fused), self.matrix).to(x.dtype)
        return y if self.bias is None else y + self.bias


class QuantizedEmbedding(nn.Module):
    """A table of tokens that makes only those rows that are looked up."""

    def __init__(self, matrix: QuantizedMatrix) -> None:
        """Read a matrix, which may be that of the head."""
        super().__init__()
        self.matrix = matrix

    @property
    def weight(self) -> Tensor:
        """The whole table as float32, (V, C)."""
        return self.matrix.rows()

    def forward(self, ids: Tensor) -> Tensor:
        """The rows of `ids`: (B, T) → (B, T, C)."""
        return self.matrix.rows(ids.flatten()).unflatten(0, ids.shape)


# --- a whole model -----------------------------------------------------------


def quantize_model(
    model: GPT, scheme: Scheme, fused: torch.dtype | None = None
) -> GPT:
    """A copy of a trained model whose matrices are codes and scales.

    Linear layers and the table of tokens; a tied head reads the table's
    matrix, and the rule of `GPT` that would tie its weights is off. The
    copy is for reading and writing, not for training.
    """
    small = copy.deepcopy(model).eval().requires_grad_(False)
    small.config = replace(model.config, tied=False)
    table = QuantizedMatrix(model.token.weight, scheme)
    for name, layer in list(small.named_modules()):
        if isinstance(layer, nn.Linear):
            tied = name == "head" and model.config.tied
            matrix = table if tied else QuantizedMatrix(layer.weight, scheme)
            new = QuantizedLinear(matrix, layer.bias, fused)
            small.set_submodule(name, new)
    small.set_submodule("token", QuantizedEmbedding(table))
    return small


def model_bytes(model: nn.Module) -> int:
    """What the tensors of a model take, shared ones once."""
    return sum(tensor.nbytes for tensor in unique_tensors(model).values())


def save_quantized(
    folder: Path, model: GPT, others: Sequence[str] = ()
) -> None:
    """Write a quantized model into a folder, and seal it.

    Codes and scales go to safetensors, the form of the model and the scheme
    to JSON. `others` are files of the folder that belong to it.
    """
    table = cast(QuantizedEmbedding, model.token).matrix
    head = cast(QuantizedLinear, model.head).matrix
    config = replace(model.config, tied=head is table)
    facts = {"model": asdict(config), "scheme": asdict(table.scheme)}
    save_weights(folder / WEIGHTS, model)
    write_json(folder / CONFIG, facts)
    names = (WEIGHTS, CONFIG, *others)
    write_seal(folder, {name: entry(folder / name) for name in names})


def load_quantized(folder: Path) -> GPT:
    """Read what `save_quantized` wrote; FileError if it is not as sealed.

    A model of the same form is made and quantized, for its shapes, and the
    saved tensors take the place of its own.
    """
    verify(folder, (WEIGHTS, CONFIG))
    facts = read_json(folder / CONFIG)
    with blaming(folder / CONFIG):
        empty = GPT(GPTConfig(**facts["model"]))
        model = quantize_model(empty, Scheme(**facts["scheme"]))
    put_weights(model, read_tensors(folder / WEIGHTS), folder / WEIGHTS)
    return model


# --- both factors in whole numbers -------------------------------------------


def integer_linear(x: Tensor, codes: Tensor, scales: Tensor) -> Tensor:
    """x times a matrix of codes, both in 8 bits, added up in 32: (..., R).

    x (..., C) gets a scale for each row, codes (R, C) have one per row, so
    both stay outside the sum (Jacob et al., 2018, section 2.2; Dettmers et
    al., 2022, section 2.1). The sum is exact: 127² · C stays below 2^31 for
    rows of up to 133,000.

    >>> codes, scales = quantize(torch.tensor([[1.0, -2.0]]), Scheme())
    >>> integer_linear(torch.tensor([3.0, 1.0]), codes, scales).round()
    tensor([1.])
    """
    rows = x.reshape(-1, x.shape[-1])  # (N, C)
    x_codes, x_scales = quantize(rows, Scheme(8, "row"))
    sums = torch._int_mm(x_codes, codes.t())  # (N, R) int32
    y = sums * x_scales.float() * scales.float().t()
    return y.view(*x.shape[:-1], -1)
