"""Solutions to the exercises on quantization."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from scratchlm.model.gpt import GPT
from scratchlm.serving.quantize import (
    Scheme,
    dequantize,
    largest_scales,
    quantize,
)


def bits_per_weight(scheme: Scheme, columns: int) -> float:
    """Bits of a weight with its share of a 16-bit scale, in rows of `columns`.

    Up to 4 bits take 4, since two codes share a byte; more take 8.

    >>> bits_per_weight(Scheme(4, 32), 4096), bits_per_weight(Scheme(8), 4096)
    (4.5, 8.00390625)
    """
    codes = 4 if scheme.bits <= 4 else 8
    return codes + 16 / scheme.size(columns)


def signed_grid(weights: Tensor, size: int, bits: int = 4) -> Tensor:
    """Weights (R, C) on a grid that uses its lowest code, too: (R, C).

    The scale has a sign, such that each group's largest weight gets the
    code -8 (llama.cpp's Q4_0). What is as large on the other side is cut.

    >>> signed_grid(torch.tensor([[0.8, -0.3, 0.1, -0.8]]), 4)
    tensor([[ 0.8000, -0.3000,  0.1000, -0.7000]])
    """
    low = -(2 ** (bits - 1))
    groups = weights.unflatten(1, (-1, size))
    at = groups.abs().argmax(dim=2, keepdim=True)
    scales = groups.gather(2, at) / low  # (R, G, 1)
    scales = scales.masked_fill(scales == 0, 1)
    codes = (groups / scales).round().clamp(low, -low - 1)
    return (codes * scales).flatten(1)


@torch.no_grad()
def balance(
    norm: nn.Module, *linears: nn.Linear, strength: float = 0.5
) -> None:
    """Move large columns of linear layers into the norm before them, in place.

    Column i of each is divided, and channel i of the norm multiplied, by the
    largest weight of all columns i to the power of `strength`, rounded to a
    power of two. So they compute together what they did before, to the last
    bit.
    """
    weights = torch.cat([linear.weight for linear in linears])
    size = weights.abs().amax(dim=0)  # (C,)
    size = (size / size.log2().mean().exp2()) ** strength
    factor = size.log2().round().exp2()
    for linear in linears:
        linear.weight /= factor
    for parameter in norm.parameters():
        parameter *= factor


def sensitivity(
    model: GPT, scheme: Scheme, score: Callable[[GPT], float]
) -> dict[str, float]:
    """By how much the score changes if one matrix alone is quantized.

    The largest change comes first.
    """
    whole, changes = score(model), {}
    small = copy.deepcopy(model)
    for name, parameter in small.named_parameters():
        if parameter.ndim == 2 and not name.startswith("position"):
            before = parameter.detach().clone()
            with torch.no_grad():
                parameter.copy_(dequantize(*quantize(parameter, scheme)))
            changes[name] = score(small) - whole
            with torch.no_grad():
                parameter.copy_(before)
    return dict(sorted(changes.items(), key=lambda item: -item[1]))


def compensated(
    weights: Tensor, inputs: Tensor, scheme: Scheme, damping: float = 0.01
) -> Tensor:
    """Weights on the grid, chosen for what they do to inputs (N, C): (R, C).

    Column after column is rounded, and the columns to its right make up for
    the error, as far as they are fed by similar inputs. GPTQ (Frantar et
    al., 2023, algorithm 1) without its blocks, in float64; a scale is that
    of the original weights.
    """
    w = weights.detach().double().clone()
    x = inputs.double()
    scales = largest_scales(weights.detach(), scheme).double()
    size = w.shape[1] // scales.shape[1]
    gram = x.t() @ x  # (C, C)
    gram += damping * gram.diagonal().mean() * torch.eye(len(gram))
    factor = torch.linalg.cholesky(gram.inverse(), upper=True)
    for j in range(w.shape[1]):
        scale = scales[:, j // size]  # (R,)
        codes = (w[:, j] / scale).round().clamp(-scheme.top, scheme.top)
        error = (w[:, j] - codes * scale) / factor[j, j]
        w[:, j] = codes * scale
        w[:, j + 1 :] -= torch.outer(error, factor[j, j + 1 :])
    return w.float()
