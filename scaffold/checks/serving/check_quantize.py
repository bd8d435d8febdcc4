"""What codes, scales and a model made of them must do."""

import tempfile
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scratchlm.model.gpt import GPT, gpt2_config
from scratchlm.serving import quantize

from ..expect import close, equal, raises, true
from ..inputs import scattered, waves


def spread(scales: Tensor, columns: int) -> Tensor:
    """The scale that each weight of a row has."""
    return scales.float().repeat_interleave(columns // scales.shape[1], 1)


def model() -> GPT:
    """A small model with a tied head; its weights are no longer tiny."""
    config = gpt2_config(16, 8, layers=1, heads=2, channels=16)
    return scattered(GPT(config).eval(), 0.42)


def check_codes_by_hand() -> None:
    """1.27, -0.64 and 0.004 on a grid of steps of 0.01."""
    codes, scales = quantize.quantize(
        torch.tensor([[1.27, -0.64, 0.004]]), quantize.Scheme()
    )
    close(
        scales.float(),
        torch.tensor([[0.01]]),
        "the scale: the largest weight divided by 127",
        tol=1e-4,
        hint="the largest by size, whatever its sign",
    )
    equal(codes.tolist(), [[127, -64, 0]], "the codes")
    codes, scales = quantize.quantize(
        torch.tensor([[0.1, -0.7]]), quantize.Scheme(4)
    )
    close(scales.float(), [[0.1]], "the scale in 4 bits: 0.7 / 7", tol=1e-3)
    equal(codes.tolist(), [[1, -7]], "the codes in 4 bits")


def check_the_bound() -> None:
    """No weight moves by more than half its scale."""
    w = waves(6, 16) ** 3  # many small, a few large
    w[2] *= 50
    for bits in (8, 4):
        for group in ("tensor", "row", 4):
            codes, scales = quantize.quantize(w, quantize.Scheme(bits, group))
            got = quantize.dequantize(codes, scales)
            equal(got.shape, w.shape, "the shape that comes back")
            gap = (got - w).abs() / spread(scales, 16)
            true(
                gap.max() < 0.501,
                f"{bits} bits, group {group}: the largest error is "
                f"{gap.max():.2f} scales, at most 0.50",
                hint="round to the nearest; the scale is the largest size by "
                "127 or 7, and belongs to its own group",
            )


def check_who_shares_a_scale() -> None:
    """An outlier spoils its own group and no other."""
    w = waves(4, 16)
    w[1, 3] = 100.0
    for group, shape in (("tensor", (1, 1)), ("row", (4, 1)), (8, (4, 2))):
        _, scales = quantize.quantize(w, quantize.Scheme(8, group))
        equal(tuple(scales.shape), shape, f"scales for group {group}")
    _, scales = quantize.quantize(w, quantize.Scheme(8, 8))
    large = (scales > 0.1).nonzero().tolist()
    equal(large, [[1, 0]], "groups whose scale the outlier in w[1, 3] sets")
    raises(
        ValueError,
        lambda: quantize.quantize(w, quantize.Scheme(8, 5)),
        "groups of 5 in rows of 16",
    )


def check_zeros() -> None:
    """A row of zeros stays one."""
    w = torch.zeros(2, 4)
    w[0] = 1.0
    codes, scales = quantize.quantize(w, quantize.Scheme())
    true(
        (scales > 0).all(),
        "every scale is above 0",
        hint="0 / 0 is no number, and what becomes of it is up to the chip",
    )
    close(
        quantize.dequantize(codes, scales),
        w,
        "a row of ones and one of zeros",
        tol=0.01,
        hint="a scale of 0 divides by 0",
    )


def check_two_in_a_byte() -> None:
    """-8 and 7 are 0 and 15: together 0xF0, the first one below."""
    codes = torch.tensor([[-8, 7, 1, -1]], dtype=torch.int8)
    packed = quantize.pack(codes)
    equal(
        packed.tolist(),
        [[0xF0, 0x79]],
        "the bytes of -8, 7, 1 and -1",
        hint="add 8; the first of a pair takes the lower four bits",
    )
    equal(quantize.unpack(packed), codes, "what comes back")


def check_layers() -> None:
    """A layer computes with the weights of the grid, and adds its bias."""
    w, x, bias = (
        waves(8, 16),
        waves(3, 16, step=0.3),
        nn.Parameter(torch.ones(8)),
    )
    for scheme in (quantize.Scheme(), quantize.Scheme(4, 8)):
        matrix = quantize.QuantizedMatrix(w, scheme)
        grid = quantize.dequantize(*quantize.quantize(w, scheme))
        for fused in (None, torch.float32):
            layer = quantize.QuantizedLinear(matrix, bias, fused)
            close(layer(x), F.linear(x, grid, bias), f"a layer, {scheme}")
        ids = torch.tensor([[0, 7, 7]])
        close(
            quantize.QuantizedEmbedding(matrix)(ids),
            grid[ids],
            f"rows of a table, {scheme}",
        )


def check_whole_numbers() -> None:
    """The product of codes, times both scales, is the product."""
    w, x = waves(8, 64), waves(3, 64, step=0.3)
    close(
        quantize.integer_linear(x, *quantize.quantize(w, quantize.Scheme())),
        x @ w.t(),
        "a product in whole numbers",
        tol=0.2,
        hint="each row of x and each row of the matrix has a scale",
    )


def check_the_model() -> None:
    """The original stays; the copy shares what was tied."""
    whole, ids = model(), torch.tensor([[1, 2, 3]])
    before = whole(ids)
    small = quantize.quantize_model(whole, quantize.Scheme())
    close(whole(ids), before, "what the original says afterwards")
    close(small(ids), before, "what the copy says", tol=0.3)
    true(not torch.equal(small(ids), before), "the copy is rounded")
    matrices = (16 + 48 + 16 + 64 + 64) * 16
    rows = 16 + 48 + 16 + 64 + 16
    floats = sum(p.numel() for p in whole.parameters()) - matrices
    equal(
        quantize.model_bytes(small),
        matrices + 2 * rows + 4 * floats,
        "bytes of the copy",
        hint="a tied head reads the matrix of the tokens",
    )


def check_to_disk_and_back() -> None:
    """What was saved comes back; what was changed is refused."""
    small, ids = (
        quantize.quantize_model(model(), quantize.Scheme(4, 8)),
        torch.ones(1, 3).int(),
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        quantize.save_quantized(folder, small)
        close(quantize.load_quantized(folder)(ids), small(ids), "after loading")
        path = folder / quantize.WEIGHTS
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(bytes(data))
        raises(
            ValueError,
            lambda: quantize.load_quantized(folder),
            "a file of which one bit was flipped",
            hint="ask the seal before you read",
        )


BUGS = {
    "the sign of the largest weight counts": (
        "largest = weights.abs().unflatten(1, (-1, size)).amax(dim=2)",
        "largest = weights.unflatten(1, (-1, size)).amax(dim=2)",
    ),
    "all rows share a scale": (
        'if scheme.group == "tensor":\n        largest',
        "if True:\n        largest",
    ),
    "the scale leaves no room for the largest weight": (
        "scales = (largest / scheme.top).to(SCALE)",
        "scales = (largest / (scheme.top + 1)).to(SCALE)",
    ),
    "codes are cut, not rounded": (
        "codes = steps.round().clamp(-scheme.top, scheme.top)",
        "codes = steps.trunc().clamp(-scheme.top, scheme.top)",
    ),
    "a row of zeros divides by zero": (
        "return scales.masked_fill(scales == 0, 1)",
        "return scales",
    ),
    "scales go along the columns": (
        "return (groups * scales.float().unsqueeze(-1)).flatten(1)",
        "return (groups * scales.float().unsqueeze(1)).flatten(1)",
    ),
    "the pairs are in the wrong order": (
        "return low | high << 4",
        "return high | low << 4",
    ),
    "the 8 is not taken off again": (
        "return pairs.flatten(1).to(torch.int8) - 8",
        "return pairs.flatten(1).to(torch.int8)",
    ),
    "the kernel's layer forgets its bias": (
        "return y if self.bias is None else y + self.bias",
        "return y",
    ),
    "a tied head gets a matrix of its own": (
        'tied = name == "head" and model.config.tied',
        "tied = False",
    ),
    "the original is changed": (
        "small = copy.deepcopy(model).eval()",
        "small = model.eval()",
    ),
    "one of the two scales is forgotten": (
        "y = sums * x_scales.float() * scales.float().t()",
        "y = sums * scales.float().t()",
    ),
    "the seal is not asked": (
        "verify(folder, (WEIGHTS, CONFIG))",
        "folder = Path(folder)",
    ),
}
