"""Codes and scales: nearest, bounded, packed, in a model, in a folder."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from scratchlm.generation.generate import generate
from scratchlm.generation.sampling import SamplingConfig
from scratchlm.generation.speed import FastStep
from scratchlm.model.gpt import GPT, GPTConfig, gpt2_config, llama_config
from scratchlm.serving.quantize import (
    CONFIG,
    WEIGHTS,
    QuantizedEmbedding,
    QuantizedLinear,
    QuantizedMatrix,
    Scheme,
    dequantize,
    fused_linear,
    integer_linear,
    largest_scales,
    load_quantized,
    model_bytes,
    pack,
    quantize,
    quantize_model,
    save_quantized,
    unpack,
)
from scratchlm.text.files import SEAL, FileError
from scratchlm.training.checkpoint import CheckpointError

GROUPS = ("tensor", "row", 32, 8)
SCHEMES = [Scheme(bits, group) for bits in (8, 4, 3) for group in GROUPS]


def drawn(rows: int = 24, columns: int = 64, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(rows, columns, generator=generator)


def small_model(tied: bool = True) -> GPT:
    torch.manual_seed(0)
    model = GPT(gpt2_config(50, 24, layers=2, heads=2, channels=32, tied=tied))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    return model.eval()


def spread(scales: Tensor, shape: torch.Size) -> Tensor:
    """The scale of each weight, (R, C)."""
    rows, columns = shape
    wide = scales.float().repeat_interleave(columns // scales.shape[1], 1)
    return wide.expand(rows, columns)


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_no_weight_moves_by_more_than_half_a_scale(scheme: Scheme) -> None:
    w = drawn()
    codes, scales = quantize(w, scheme)
    assert codes.dtype == torch.int8
    assert scales.dtype == torch.bfloat16
    assert codes.abs().max() <= scheme.top
    wide = spread(scales, w.shape)
    gap = (w - dequantize(codes, scales)).abs()
    assert bool((gap <= wide * (0.5 + 1e-5)).all())
    assert gap.max() > 0.3 * wide.min()  # it is not zero for nothing


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_the_code_is_the_nearest_of_all(scheme: Scheme) -> None:
    w = drawn(4, 32)
    codes, scales = quantize(w, scheme)
    grid = np.arange(-scheme.top, scheme.top + 1)
    wide = spread(scales, w.shape).double().numpy()
    points = wide[..., None] * grid  # (R, C, codes)
    least = np.abs(points - w.double().numpy()[..., None]).min(axis=2)
    ours = np.abs(wide * codes.numpy() - w.double().numpy())
    assert np.allclose(ours, least, atol=1e-7)


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_equals_the_quantizer_of_the_library(scheme: Scheme) -> None:
    w, top = drawn(), scheme.top
    codes, scales = quantize(w, scheme)
    groups = w.view(scales.numel(), -1)  # in the order of the scales
    theirs = torch.fake_quantize_per_channel_affine(
        groups,
        scales.float().flatten(),
        torch.zeros(len(groups), dtype=torch.int32),
        0,
        -top,
        top,
    )
    ours = dequantize(codes, scales).view_as(groups)
    steps = groups / scales.float().view(-1, 1)
    clear = ((steps % 1) - 0.5).abs() > 1e-4  # no tie, where both are right
    assert clear.float().mean() > 0.99
    torch.testing.assert_close(ours[clear], theirs[clear])


@settings(max_examples=60, deadline=None)
@given(
    st.integers(2, 8),
    st.sampled_from(["tensor", "row", 1, 2, 4, 12]),
    st.floats(1e-20, 1e20),
    st.integers(0, 1000),
)
def test_the_bound_holds_at_any_size(
    bits: int, group: int | str, size: float, seed: int
) -> None:
    w = drawn(3, 12, seed) * size
    codes, scales = quantize(w, Scheme(bits, group))
    gap = (w - dequantize(codes, scales)).abs()
    assert bool((gap <= spread(scales, w.shape) * (0.5 + 1e-4)).all())


def test_more_scales_are_never_coarser() -> None:
    w = drawn()
    for bits in (8, 4):
        scales = [quantize(w, Scheme(bits, g))[1] for g in GROUPS]
        wide = [spread(s, w.shape) for s in scales]
        for coarse, fine in zip(wide, wide[1:], strict=False):
            assert bool((fine <= coarse).all())
    assert [tuple(s.shape) for s in scales] == [
        (1, 1),
        (24, 1),
        (24, 2),
        (24, 8),
    ]


def test_zeros_stay_zeros_and_what_is_no_number_is_refused() -> None:
    w = torch.zeros(2, 4)
    w[0, 1] = 127.0  # on a grid of whole numbers
    codes, scales = quantize(w, Scheme())
    assert torch.equal(dequantize(codes, scales), w)
    assert scales.tolist() == [[1.0], [1.0]]
    for bad in (float("nan"), float("inf")):
        w[1, 1] = bad
        with pytest.raises(ValueError, match="NaN or infinity"):
            largest_scales(w, Scheme(4, 2))


def test_codes_never_wrap_around() -> None:
    least = 2.0**-133  # of bfloat16: a scale cannot be 1.3 of it
    w = least * torch.tensor([[165.0, -165.0, 1.0, 0.0]])
    codes, scales = quantize(w, Scheme())
    assert scales.item() == least
    assert codes.tolist() == [[127, -127, 1, 0]]


def test_nothing_is_kept_for_gradients() -> None:
    codes, scales = quantize(nn.Parameter(drawn()), Scheme(8, 32))
    assert not scales.requires_grad
    assert not dequantize(codes, scales).requires_grad


def test_schemes_that_cannot_be_are_refused() -> None:
    for bits in (1, 9):
        with pytest.raises(ValueError, match=f"bits={bits}: choose 2 to 8"):
            Scheme(bits)
    for group in (0, "column"):
        with pytest.raises(ValueError, match="choose tensor, row, or"):
            Scheme(8, group)
    with pytest.raises(ValueError, match="rows of 10 do not split"):
        quantize(torch.ones(2, 10), Scheme(8, 4))


def test_two_codes_share_a_byte() -> None:
    codes = torch.arange(-8, 8, dtype=torch.int8).view(2, 8)
    packed = pack(codes)
    assert packed.dtype == torch.uint8
    assert packed.shape == (2, 4)
    pairs = (codes + 8).numpy().astype(np.uint8).reshape(2, 4, 2)
    bits = np.unpackbits(pairs[..., ::-1, None], axis=3)[..., 4:]  # high first
    wanted = np.packbits(bits.reshape(2, 4, 8), axis=2)[..., 0]
    assert np.array_equal(packed.numpy(), wanted)
    assert torch.equal(unpack(packed), codes)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(-8, 7), min_size=2, max_size=20))
def test_what_is_packed_comes_back(numbers: list[int]) -> None:
    numbers = numbers[: len(numbers) // 2 * 2]
    codes = torch.tensor([numbers], dtype=torch.int8)
    assert unpack(pack(codes)).tolist() == [numbers]


def test_a_code_without_a_neighbor_is_refused() -> None:
    with pytest.raises(ValueError, match="rows of 3 codes do not make pairs"):
        pack(torch.zeros(2, 3, dtype=torch.int8))


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_layers_do_what_the_weights_of_the_grid_do(scheme: Scheme) -> None:
    w, x = drawn(), torch.randn(2, 3, 64)
    matrix = QuantizedMatrix(w, scheme)
    grid = dequantize(*quantize(w, scheme))
    assert torch.equal(matrix.rows(), grid)
    bias = nn.Parameter(torch.randn(24))
    layer = QuantizedLinear(matrix, bias)
    assert torch.equal(layer(x), F.linear(x, grid, bias))
    assert torch.equal(QuantizedLinear(matrix)(x), F.linear(x, grid))
    table = QuantizedEmbedding(matrix)
    ids = torch.tensor([[0, 23, 7], [5, 5, 1]])
    assert torch.equal(table(ids), F.embedding(ids, grid))
    assert torch.equal(table.weight, layer.weight)
    codes = 64 if scheme.bits > 4 else 32
    assert matrix.codes.nbytes == 24 * codes


def test_the_kernel_agrees_where_it_serves() -> None:
    matrix, x = QuantizedMatrix(drawn(), Scheme()), torch.randn(2, 5, 64)
    wanted = F.linear(x, matrix.rows())
    torch.testing.assert_close(fused_linear(x, matrix), wanted)
    half = fused_linear(x.bfloat16(), matrix)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), wanted, atol=0.05, rtol=0.02)
    bias = nn.Parameter(torch.randn(24))
    layer = QuantizedLinear(matrix, bias, fused=torch.float32)
    torch.testing.assert_close(layer(x), wanted + bias)
    layer = QuantizedLinear(matrix, fused=torch.bfloat16)
    assert layer(x).dtype == torch.float32
    torch.testing.assert_close(layer(x), wanted, atol=0.05, rtol=0.02)
    for scheme in (Scheme(8, "tensor"), Scheme(8, 32), Scheme(4, "row")):
        other = QuantizedMatrix(drawn(), scheme)
        layer = QuantizedLinear(other, fused=torch.bfloat16)
        assert layer.fused is None
        assert torch.equal(layer(x), F.linear(x, other.rows()))


def test_whole_numbers_all_the_way() -> None:
    x, w = torch.randn(2, 3, 64), drawn()
    codes, scales = quantize(w, Scheme())
    x_codes, x_scales = quantize(x.flatten(0, 1), Scheme())
    wanted = dequantize(x_codes, x_scales) @ dequantize(codes, scales).t()
    got = integer_linear(x, codes, scales)
    assert got.shape == (2, 3, 24)
    torch.testing.assert_close(got.flatten(0, 1), wanted)
    assert (
        F.cosine_similarity(got.flatten(), F.linear(x, w).flatten(), 0) > 0.999
    )


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("scheme", [Scheme(), Scheme(4, 16)], ids=str)
def test_a_model_computes_with_the_weights_of_the_grid(
    scheme: Scheme, tied: bool
) -> None:
    model = small_model(tied)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    small = quantize_model(model, scheme)
    with torch.no_grad():
        plain = GPT(model.config).eval()
        plain.load_state_dict(before)
        for name, p in plain.named_parameters():
            if p.ndim == 2 and not name.startswith("position"):
                p.copy_(dequantize(*quantize(p, scheme)))
        ids = torch.randint(50, (2, 9))
        assert torch.equal(small(ids), plain(ids))
    after = model.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before)
    assert not any(p.requires_grad for p in small.parameters())
    assert (small.head.matrix is small.token.matrix) == tied


@pytest.mark.parametrize("fused", [None, torch.bfloat16])
def test_the_short_way_takes_quantized_layers_as_they_are(
    fused: torch.dtype | None,
) -> None:
    torch.manual_seed(0)
    model = GPT(gpt2_config(65, 32, 2, 2, 64)).eval()
    small = quantize_model(model, Scheme(), fused)
    ids, greedy = torch.tensor([[3, 1, 4]]), SamplingConfig(temperature=0)
    usual = list(generate(small, ids, 20, greedy))
    short = list(generate(small, ids, 20, greedy, step=FastStep(small)))
    assert [x.tolist() for x in usual] == [x.tolist() for x in short]


def test_a_llama_is_quantized_in_all_its_layers() -> None:
    model = GPT(llama_config(40, 16, 1, 4, 32, kv_heads=2, hidden=64))
    small = quantize_model(model, Scheme(8, 16))
    assert not any(isinstance(m, nn.Linear) for m in small.modules())
    layers = [m for m in small.modules() if isinstance(m, QuantizedLinear)]
    assert len(layers) == 2 + 3 + 1
    assert small(torch.tensor([[1, 2, 3]])).shape == (1, 3, 40)


def test_a_model_takes_the_bytes_that_its_codes_take() -> None:
    model = small_model()
    weights = 50 * 32 + 2 * (96 + 32 + 128 + 128) * 32
    floats = sum(p.numel() for p in model.parameters()) - weights
    assert model_bytes(model) == 4 * (weights + floats)
    for scheme, bits in (
        (Scheme(8, 32), 8 + 16 / 32),
        (Scheme(4, 32), 4 + 16 / 32),
        (Scheme(4, 16), 4 + 16 / 16),
    ):
        small = quantize_model(model, scheme)
        assert model_bytes(small) == weights * bits / 8 + 4 * floats


def test_a_tied_matrix_stays_one_when_the_model_moves() -> None:
    small = quantize_model(small_model(), Scheme())
    size = model_bytes(small)
    small.to("cpu").float()
    assert small.head.matrix is small.token.matrix
    assert small.head.matrix.codes.dtype == torch.int8
    assert model_bytes(small) >= size
    assert small(torch.tensor([[1, 2]])).isfinite().all()


def written(model: GPT) -> list[int]:
    greedy = SamplingConfig(temperature=0)
    new = generate(model, torch.tensor([[3, 1, 4]]), 15, greedy)
    return [int(step[0]) for step in new]


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("scheme", [Scheme(), Scheme(4, 16)], ids=str)
def test_a_model_comes_back_and_writes_the_same(
    tmp_path: Path, scheme: Scheme, tied: bool
) -> None:
    small = quantize_model(small_model(tied), scheme)
    save_quantized(tmp_path, small)
    again = load_quantized(tmp_path)
    assert written(again) == written(small)
    assert (again.head.matrix is again.token.matrix) == tied
    size = (tmp_path / WEIGHTS).stat().st_size
    assert model_bytes(small) < size < model_bytes(small) + 6000
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
        [WEIGHTS, CONFIG, SEAL]
    )


def test_the_library_reads_the_file(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    small = quantize_model(small_model(), Scheme(4, 16))
    save_quantized(tmp_path, small)
    tensors = load_file(tmp_path / WEIGHTS)
    assert "head.matrix.codes" not in tensors  # once, under the first name
    codes = tensors["token.matrix.codes"]
    assert torch.equal(codes, small.token.matrix.codes)
    save_quantized(tmp_path, quantize_model(small_model(), Scheme(8)))
    codes = load_file(tmp_path / WEIGHTS)["token.matrix.codes"]
    assert codes.dtype == torch.int8


def test_what_was_changed_is_refused(tmp_path: Path) -> None:
    save_quantized(tmp_path, quantize_model(small_model(), Scheme()))
    path = tmp_path / WEIGHTS
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[-100] ^= 1
    for bad in (bytes(flipped), whole[:-1], whole + b"x"):
        path.write_bytes(bad)
        with pytest.raises(FileError, match=WEIGHTS):
            load_quantized(tmp_path)
    path.write_bytes(whole)
    config = tmp_path / CONFIG
    text = config.read_text()
    config.write_text(text.replace('"bits": 8', '"bits": 7'))
    with pytest.raises(FileError, match=CONFIG):
        load_quantized(tmp_path)
    config.unlink()
    with pytest.raises(FileError, match=CONFIG):
        load_quantized(tmp_path)


def test_a_sealed_file_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    from scratchlm.text.files import entry, write_seal

    save_quantized(tmp_path, quantize_model(small_model(), Scheme()))
    config = tmp_path / CONFIG
    facts = json.loads(config.read_text())
    for change, why in (
        ({"scheme": {"bits": 4, "group": "row"}}, "does not fit"),
        ({"scheme": {"bits": 99}}, "bits=99"),
        ({"scheme": {"color": 8}}, "color"),
        ({"model": {}}, "missing"),
    ):
        config.write_text(json.dumps({**facts, **change}))
        names = (WEIGHTS, CONFIG)
        write_seal(tmp_path, {n: entry(tmp_path / n) for n in names})
        with pytest.raises(CheckpointError, match=why):
            load_quantized(tmp_path)


def test_configurations_keep_whether_they_are_tied() -> None:
    config = GPTConfig(20, 8, 1, 2, 8)
    small = quantize_model(GPT(config), Scheme())
    assert small.config == replace(config, tied=False)
