"""Solutions on export: headers by hand, shards, biases of zero."""

from pathlib import Path

import gguf
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from scratchlm.model.gpt import GPT, gpt2_config
from scratchlm.serving.export import describe, export_gguf, read_weights
from scratchlm.text.tokenizer import Tokenizer
from scratchlm.text.toytown import join, write_corpus
from solutions.serving.export import (
    gguf_facts,
    save_shards,
    split,
    tensor_header,
    with_biases,
)


def test_biases_of_zero_change_nothing() -> None:
    torch.manual_seed(0)
    bare = GPT(gpt2_config(40, 8, 2, 2, 16, bias=False)).eval()
    with pytest.raises(ValueError, match="bias=False"):
        describe(bare.config)
    other, ids = with_biases(bare), torch.tensor([[1, 2, 3]])
    assert torch.equal(other(ids), bare(ids))
    assert describe(other.config)["model_type"] == "gpt2"
    assert not other.training


def test_a_header_is_read_as_the_library_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    tensors = {"a": torch.ones(2, 3), "b": torch.ones(4, dtype=torch.bfloat16)}
    save_file(tensors, path, {"format": "pt"})
    found = tensor_header(path)
    with safe_open(path, "pt") as file:
        for name in file.keys():  # noqa: SIM118 (it is no dictionary)
            part = file.get_slice(name)
            assert found.pop(name) == (part.get_dtype(), part.get_shape())
    assert not found
    path.write_bytes(b"\xff" * 16)
    with pytest.raises(ValueError, match="its header has"):
        tensor_header(path)


def test_shards_come_together_again(tmp_path: Path) -> None:
    weights = {name: torch.randn(10) for name in "abcde"}  # 40 bytes each
    weights["large"] = torch.randn(100)
    save_shards(tmp_path, weights, limit=100)
    found = read_weights(tmp_path)
    assert found.keys() == weights.keys()
    assert all(torch.equal(t, weights[name]) for name, t in found.items())
    assert len(list(tmp_path.glob("model-*-of-00004.safetensors"))) == 4
    parts = [list(part) for part in split(weights, 100)]
    assert parts == [["a", "b"], ["c", "d"], ["e"], ["large"]]


def test_a_gguf_file_by_hand(tmp_path: Path) -> None:
    tokenizer = Tokenizer.train(join(write_corpus(20_000)), 300)
    path = tmp_path / "m.gguf"
    export_gguf(path, GPT(gpt2_config(300, 8, 1, 2, 16)), tokenizer)
    version, tensors, facts = gguf_facts(path)
    reader = gguf.GGUFReader(path)
    assert (version, tensors) == (3, len(reader.tensors))
    theirs = {name: f.contents() for name, f in reader.fields.items()}
    known = {n: v for n, v in theirs.items() if not n.startswith("GGUF.")}
    assert facts.keys() == known.keys()
    for name, value in facts.items():
        assert value == known[name], name
    path.write_bytes(b"GGML")
    with pytest.raises(ValueError, match="is no GGUF file"):
        gguf_facts(path)
