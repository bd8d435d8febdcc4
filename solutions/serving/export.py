"""Solutions to the exercises on export: headers, shards, biases of zero."""

import copy
import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import replace
from io import BufferedReader
from pathlib import Path
from typing import Any

from torch import Tensor

from scratchlm.model.gpt import GPT
from scratchlm.serving.export import INDEX
from scratchlm.text.files import write_json
from scratchlm.training.checkpoint import write_tensors

LARGEST = 100 << 20  # bytes of a header that anybody needs
NUMBERS = {  # GGUF's types of single numbers, as `struct` has them
    0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?",
    10: "Q", 11: "q", 12: "d",
}  # fmt: skip
TEXT, ARRAY = 8, 9


def with_biases(model: GPT) -> GPT:
    """A copy of a model without biases that has some, all of them zero."""
    config = replace(model.config, bias=True, qkv_bias=None)
    other = GPT(config)  # biases begin as zeros
    other.load_state_dict(copy.deepcopy(model.state_dict()), strict=False)
    return other.train(model.training)


def tensor_header(path: Path) -> dict[str, tuple[str, list[int]]]:
    """Types and shapes of a safetensors file's tensors, by name.

    Raises ValueError for a header that is larger than the file, or than
    anybody needs: its size is what a stranger wrote.
    """
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if size > min(path.stat().st_size - 8, LARGEST):
            raise ValueError(f"{path} says that its header has {size} bytes")
        header = json.loads(file.read(size))
    header.pop("__metadata__", None)
    return {name: (t["dtype"], t["shape"]) for name, t in header.items()}


def split(
    weights: Mapping[str, Tensor], limit: int
) -> Iterator[dict[str, Tensor]]:
    """Tensors in their order, in parts of at most `limit` bytes.

    A tensor that is larger has a part to itself.
    """
    part: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        held = sum(t.nbytes for t in part.values())
        if part and held + tensor.nbytes > limit:
            yield part
            part = {}
        part[name] = tensor
    yield part


def save_shards(
    folder: Path, weights: Mapping[str, Tensor], limit: int
) -> None:
    """Write tensors as files of at most `limit` bytes, and their index."""
    parts = list(split(weights, limit))
    places: dict[str, str] = {}
    for i, part in enumerate(parts, 1):
        name = f"model-{i:05d}-of-{len(parts):05d}.safetensors"
        write_tensors(folder / name, part)
        places |= dict.fromkeys(part, name)
    size = sum(tensor.nbytes for tensor in weights.values())
    facts = {"metadata": {"total_size": size}, "weight_map": places}
    write_json(folder / INDEX, facts)  # last: what it names is there


def read_number(file: BufferedReader, kind: str) -> Any:
    """One number of a type of `struct`, little-endian."""
    (number,) = struct.unpack(f"<{kind}", file.read(struct.calcsize(kind)))
    return number


def read_value(file: BufferedReader, kind: int) -> Any:
    """One value of a GGUF file: a number, a text, or a list of values."""
    if kind == TEXT:
        return file.read(read_number(file, "Q")).decode()
    if kind == ARRAY:
        inner, count = read_number(file, "I"), read_number(file, "Q")
        return [read_value(file, inner) for _ in range(count)]
    return read_number(file, NUMBERS[kind])


def gguf_facts(path: Path) -> tuple[int, int, dict[str, Any]]:
    """Version, number of tensors, and the facts of a GGUF file."""
    with open(path, "rb") as file:
        if file.read(4) != b"GGUF":
            raise ValueError(f"{path} is no GGUF file")
        version = read_number(file, "I")
        tensors, count = read_number(file, "Q"), read_number(file, "Q")
        facts = {}
        for _ in range(count):
            key = read_value(file, TEXT)
            facts[key] = read_value(file, read_number(file, "I"))
    return version, tensors, facts
