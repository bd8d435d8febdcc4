"""Keeping numbers in range, and thinking alone: norms and feed-forward layers.

Two norms, layer normalization (Ba et al., 2016) and root mean square
normalization (Zhang and Sennrich, 2019), and two feed-forward layers, with
GELU (Hendrycks and Gimpel, 2016) and with SwiGLU (Shazeer, 2020). Each is
first written out as a function, to be read; the modules call the library's
kernels. Tests check that both forms agree.

Left out: batch normalization, which mixes the texts of a batch, and mixtures
of experts.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def layer_norm(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """Each row of x (..., C) with mean 0 and variance 1, then stretched.

    Ba et al. (2016), eq. 4; the variance is the mean of the squares, over C
    and not C - 1. The sums are made in float32 whatever x is.

    >>> layer_norm(torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.ones(4))
    tensor([-1.3416, -0.4472,  0.4472,  1.3416])
    """
    rows = x.float()
    centered = rows - rows.mean(dim=-1, keepdim=True)
    variance = centered.square().mean(dim=-1, keepdim=True)  # (..., 1)
    out = centered / torch.sqrt(variance + eps) * weight
    if bias is not None:
        out = out + bias
    return out.to(x.dtype)


def rms_norm(x: Tensor, weight: Tensor, eps: float = 1e-5) -> Tensor:
    """Each row of x (..., C) with mean square 1, then stretched.

    Zhang and Sennrich (2019), eq. 4: `layer_norm` without the centering.

    >>> rms_norm(torch.tensor([3.0, 4.0]), torch.ones(2))
    tensor([0.8485, 1.1314])
    """
    rows = x.float()
    square = rows.square().mean(dim=-1, keepdim=True)  # (..., 1)
    out = rows * torch.rsqrt(square + eps) * weight
    return out.to(x.dtype)


class LayerNorm(nn.Module):
    """`layer_norm` with a learned weight and, if asked, a bias."""

    def __init__(
        self, channels: int, bias: bool = True, eps: float = 1e-5
    ) -> None:
        """Start as the plain norm: weight 1, bias 0."""
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels)) if bias else None
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) → (..., C), each row on its own."""
        shape = self.weight.shape
        return F.layer_norm(x, shape, self.weight, self.bias, self.eps)


class RMSNorm(nn.Module):
    """`rms_norm` with a learned weight, as in Llama."""

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        """Start as the plain norm: weight 1."""
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) → (..., C), each row on its own."""
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)


def gelu(x: Tensor) -> Tensor:
    """x times the probability that a normal number is below x.

    Hendrycks and Gimpel (2016), section 2.

    >>> gelu(torch.tensor([-1.0, 0.0, 1.0]))
    tensor([-0.1587,  0.0000,  0.8413])
    """
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def gelu_tanh(x: Tensor) -> Tensor:
    """The approximation of `gelu` with which GPT-2 was trained.

    Hendrycks and Gimpel (2016), section 2; off by 0.0005 at most.
    """
    inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
    return 0.5 * x * (1 + torch.tanh(inner))


def silu(x: Tensor) -> Tensor:
    """x times its sigmoid, also called swish.

    >>> silu(torch.tensor([-1.0, 0.0, 1.0]))
    tensor([-0.2689,  0.0000,  0.7311])
    """
    return x * torch.sigmoid(x)


class GELUMLP(nn.Module):
    """Widen, bend with GELU, narrow: every position on its own.

    Vaswani et al. (2017), eq. 2, with GELU for ReLU as in GPT-2.
    """

    def __init__(
        self,
        channels: int,
        hidden: int | None = None,
        bias: bool = True,
        dropout: float = 0.0,
        tanh: bool = False,
    ) -> None:
        """Hidden size 4C unless told; `tanh` for GPT-2's own weights."""
        super().__init__()
        hidden = 4 * channels if hidden is None else hidden
        self.up = nn.Linear(channels, hidden, bias=bias)
        self.down = nn.Linear(hidden, channels, bias=bias)
        self.dropout = nn.Dropout(dropout)
        self.approximate = "tanh" if tanh else "none"

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) → (B, T, C)."""
        x = F.gelu(self.up(x), approximate=self.approximate)
        return self.dropout(self.down(x))


def swiglu_hidden(channels: int) -> int:
    """The hidden size at which `SwiGLU` has as many weights as `GELUMLP`.

    Three matrices, not two, so two thirds of 4C (Shazeer, 2020, section 3),
    rounded up to a multiple that fits the hardware: 256 as in Llama, or 32
    where C is below 1,024.

    >>> swiglu_hidden(4096), swiglu_hidden(128)
    (11008, 352)
    """
    multiple = 256 if channels >= 1024 else 32
    return math.ceil(8 * channels / (3 * multiple)) * multiple


class SwiGLU(nn.Module):
    """A feed-forward layer in which one product opens the gates of another.

    Shazeer (2020), eq. 6: (silu(x W) × x V) W₂. W is `gate`, V is `up` and
    W₂ is `down`, the names that Llama's files have for them.
    """

    def __init__(
        self,
        channels: int,
        hidden: int | None = None,
        bias: bool = False,
        dropout: float = 0.0,
    ) -> None:
        """Hidden size by `swiglu_hidden` unless told."""
        super().__init__()
        hidden = swiglu_hidden(channels) if hidden is None else hidden
        self.gate = nn.Linear(channels, hidden, bias=bias)
        self.up = nn.Linear(channels, hidden, bias=bias)
        self.down = nn.Linear(hidden, channels, bias=bias)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) → (B, T, C)."""
        x = F.silu(self.gate(x)) * self.up(x)  # (B, T, hidden)
        return self.dropout(self.down(x))
