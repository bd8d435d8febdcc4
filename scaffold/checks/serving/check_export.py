"""What files for other programs must say, and what comes back from them."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import gguf
import torch
from torch import Tensor

from scratchlm.model.gpt import GPT, GPTConfig, gpt2_config, llama_config
from scratchlm.model.published import read_form
from scratchlm.serving import export
from scratchlm.text.bpe import pre_tokenize
from scratchlm.text.files import read_json, write_json
from scratchlm.text.tokenizer import Tokenizer
from scratchlm.training.checkpoint import load_model, write_tensors

from ..expect import close, equal, raises, true
from ..inputs import scattered

TOWN = Tokenizer.train("Mrs Pell sells warm bread and rolls. " * 9, 280)
V = TOWN.vocab_size
GPT2 = gpt2_config(V, 16, 1, 2, 16)
LLAMA = replace(
    llama_config(V, 16, 1, 2, 16, hidden=32), norm_eps=1e-2, rope_base=99.0
)
SLOWED = replace(LLAMA, rope_factor=8.0, rope_original=8)


def model(form: GPTConfig) -> GPT:
    """A small model whose every weight matters."""
    return scattered(GPT(form).eval(), 0.42)


@contextmanager
def place() -> Iterator[Path]:
    """A folder for a moment."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def says(folder: Path) -> Tensor:
    """What the model in a folder says to five tokens."""
    found, _, _ = export.import_folder(folder)
    scores: Tensor = found(torch.tensor([[1, 2, 3, 4, 5]]))
    return scores


def check_forms() -> None:
    """A form is written as it is, or refused by name."""
    untied = replace(GPT2, tied=False)
    for form in (GPT2, untied, LLAMA, SLOWED):
        file = export.describe(form)
        found = export.settled(read_form(file))
        equal(
            found,
            export.settled(form),
            f"the form that {file['model_type']}'s file says",
            hint="every field that changes what is computed is in the file",
        )
    odd = replace(GPT2, mlp="gelu")
    raises(
        ValueError,
        lambda: export.describe(odd),
        "a GPT-2 with the exact GELU, which no published form has",
        hint="read the file again, and compare all fields",
    )
    equal(
        export.settled(replace(GPT2, dropout=0.1, rope_base=5.0)),
        export.settled(GPT2),
        "a form, settled: dropout and unused waves are no part of it",
    )


def check_there_and_back() -> None:
    """What was exported says the same when it is imported."""
    ids = torch.tensor([[1, 2, 3, 4, 5]])
    for form in (GPT2, replace(GPT2, tied=False), LLAMA):
        ours = model(form)
        with place() as folder:
            export.export_folder(folder / "new", ours, TOWN)
            close(says(folder / "new"), ours(ids), "scores after the way back")
            run = folder / "run"
            export.write_run(run, *export.import_folder(folder / "new"))
            close(load_model(run)(ids), ours(ids), "scores of a run made of it")


def check_the_file_says_what_is_tied() -> None:
    """And the card, in which numbers the weights are written."""
    for tied in (False, True):
        for form in (GPT2, LLAMA):
            file = export.describe(replace(form, tied=tied))
            equal(file["tie_word_embeddings"], tied, "tie_word_embeddings")
    for facts, wanted in (({}, "float32"), ({"dtype": "bfloat16"}, "bfloat16")):
        card = export.model_card(model(GPT2), "town", facts)
        true(wanted in card, f"the card says {wanted}")


def check_patterns_have_their_names() -> None:
    """Llama 3 cuts numbers into three digits, Qwen into one."""
    names = {export.LLAMA_PATTERN: "llama-bpe", export.QWEN_PATTERN: "qwen2"}
    for pattern, name in names.items():
        equal(export.CUTS[pattern], name, f"the name of {pattern[-40:]}")
    for pattern, words in (
        (export.LLAMA_PATTERN, ["a", " ", "123", "45"]),
        (export.QWEN_PATTERN, ["a", " ", "1", "2", "3", "4", "5"]),
    ):
        equal(pre_tokenize("a 12345", pattern), words, "the words of a 12345")


def check_other_numbers() -> None:
    """Rows follow their tokens, in whatever order those are numbered."""
    ours, last = model(GPT2), TOWN.vocab_size - 1
    with place() as base:
        folder = base / "new"
        export.export_folder(folder, ours, TOWN)
        (folder / "seal.json").unlink()
        data = json.loads((folder / "tokenizer.json").read_text())
        vocab = data["model"]["vocab"]
        data["model"]["vocab"] = {t: last - i for t, i in vocab.items()}
        for token in data["added_tokens"]:
            token["id"] = last - token["id"]
        (folder / "tokenizer.json").write_text(json.dumps(data))
        weights = export.read_weights(folder)
        name = "transformer.wte.weight"
        weights[name] = weights[name].flip(0)
        write_tensors(folder / "model.safetensors", weights)
        config = read_json(folder / "config.json")
        write_json(folder / "config.json", {**config, "eos_token_id": 0})
        ids = torch.tensor([[1, 2, 3, 4, 5]])
        close(
            says(folder),
            ours(ids),
            "scores of a model whose tokens were numbered backwards",
            hint="the rows of the embedding, in the order of our numbers",
        )


def check_habits() -> None:
    """Nothing is put in front of a text."""
    facts = export.tokenizer_facts(TOWN, 16)
    true(
        facts["add_bos_token"] is False,
        "tokenizer_config.json: no token is put in front of a text",
        hint="the model was trained on texts without one",
    )
    equal(facts["model_max_length"], 16, "the longest text it can read")
    with place() as folder:
        export.export_gguf(folder / "m.gguf", model(GPT2), TOWN)
        reader = gguf.GGUFReader(folder / "m.gguf")
        found = {key: f.contents() for key, f in reader.fields.items()}
        true(
            found["tokenizer.ggml.add_bos_token"] is False,
            "the GGUF file: no token is put in front of a text",
            hint="the model was trained on texts without one",
        )
        true(
            "gpt2.attention.layer_norm_epsilon" in found,
            "the GGUF file of a GPT-2 names the ε of its norms",
        )
        equal(found["tokenizer.ggml.pre"], "dbrx", "the name of the pattern")
        end = found["tokenizer.ggml.eos_token_id"]
        equal(end, TOWN.end_id, "the end token in the GGUF file")


def check_pairs() -> None:
    """Rows of queries and keys become neighbors, head by head."""
    rows = torch.arange(8.0).view(8, 1)
    equal(
        export.pairs_from_halves(rows, 4).flatten().tolist(),
        [0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0],
        "the order of two heads of four channels",
        hint="0 and 2 are a pair of ours, and become neighbors",
    )
    equal(
        export.pairs_from_halves(rows, 8).flatten().tolist(),
        [0.0, 4.0, 1.0, 5.0, 2.0, 6.0, 3.0, 7.0],
        "the order of a head of eight channels",
        hint="the inverse of halves_from_pairs",
    )


def first_block(of: GPT, name: str) -> Tensor:
    """A matrix of a model's first block."""
    found: Tensor = of.state_dict()[f"blocks.0.attention.{name}.weight"]
    return found


def check_tensors_for_llama_cpp() -> None:
    """Each matrix is (out, in); only a Llama's queries and keys move."""
    ours = model(GPT2)
    found = export.gguf_tensors(ours)
    close(
        found["blk.0.attn_output.weight"],
        first_block(ours, "out"),
        "attn_output.weight of a GPT-2",
        hint="GPT-2's files keep matrices turned, GGUF does not",
    )
    ours = model(LLAMA)
    found, rows = export.gguf_tensors(ours), first_block(ours, "qkv")
    wanted = export.pairs_from_halves(rows[:16], 8)
    close(found["blk.0.attn_q.weight"], wanted, "attn_q.weight of a Llama")
    close(found["blk.0.attn_v.weight"], rows[32:], "attn_v.weight of a Llama")
    other = model(replace(LLAMA, qkv_bias=True))
    close(
        export.gguf_tensors(other)["blk.0.attn_q.weight"],
        first_block(other, "qkv")[:16],
        "attn_q.weight of a Qwen2, whose rows stay where they are",
    )
    factors = export.gguf_tensors(model(SLOWED)).get("rope_freqs.weight")
    true(
        factors is not None and factors.max() == 8.0,
        "slowed waves: a tensor says by how much each is slowed",
    )


def check_numbers() -> None:
    """Vectors stay exact; matrices get the numbers that were asked for."""
    wide = torch.linspace(-1, 1, 64).view(1, 64)
    for name, tensor, kind in (
        ("output_norm.weight", wide[0], "F32"),
        ("position_embd.weight", wide, "F32"),
        ("blk.0.ffn_up.weight", wide, "Q8_0"),
        ("blk.0.ffn_up.weight", wide[:, :20], "F16"),
    ):
        values, got = export.gguf_values(name, tensor, "q8_0")
        equal(got.name, kind, f"numbers of {name}, {tuple(tensor.shape)}")
        back = torch.tensor(gguf.dequantize(values, got))
        close(back, tensor, f"{name}, read again", tol=0.01)


def check_whole_or_not_there() -> None:
    """What is there is left alone, and an error leaves nothing."""
    with place() as base:
        (base / "mine.txt").write_text("mine")
        raises(
            ValueError,
            lambda: export.export_folder(base, model(GPT2), TOWN),
            "a folder that holds something",
        )
        equal([p.name for p in base.iterdir()], ["mine.txt"], "what is there")
    with place() as base:
        with suppress(KeyError), export.new_folder(base / "new"):
            raise KeyError
        equal(list(base.iterdir()), [], "what an error leaves behind")


def check_damage() -> None:
    """What was changed, is missing, or asks for a program is refused."""
    with place() as base:
        folder = base / "new"
        export.export_folder(folder, model(GPT2), TOWN)
        path = folder / "model.safetensors"
        whole = path.read_bytes()
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        raises(
            ValueError,
            lambda: export.import_folder(folder),
            "a sealed folder of which one bit was flipped",
            hint="where there is a seal, ask it first",
        )
        path.write_bytes(whole)
        (folder / "seal.json").unlink()
        config = read_json(folder / "config.json")
        strange = {**config, "auto_map": {"AutoModel": "code.Model"}}
        write_json(folder / "config.json", strange)
        raises(
            ValueError,
            lambda: export.import_folder(folder),
            "a model that asks for a program of its own (auto_map)",
        )
        names = dict.fromkeys([*export.read_weights(folder), "more"], "a.st")
        path.rename(folder / "a.st")
        write_json(folder / export.INDEX, {"weight_map": names})
        raises(
            ValueError,
            lambda: export.read_weights(folder),
            "a shard that lacks a tensor of its index",
        )
        write_json(folder / export.INDEX, {"weight_map": {"a": "../a.st"}})
        (base / "a.st").write_bytes((folder / "a.st").read_bytes())
        try:
            export.read_weights(folder)
        except ValueError as error:
            true(
                "outside" in str(error),
                "a shard in a different folder is refused before it is read",
            )


BUGS = {
    "the file says that every head is tied": (
        '"layer_norm_epsilon": c.norm_eps,\n        "tie_word_embeddings": '
        "c.tied",
        '"layer_norm_epsilon": c.norm_eps,\n        "tie_word_embeddings": '
        "True",
    ),
    "epsilon is what it usually is": (
        '"rms_norm_eps": c.norm_eps',
        '"rms_norm_eps": 1e-6',
    ),
    "a form that the file cannot say is written": (
        "if not lost:",
        "if True:",
    ),
    "forms are compared with what only training uses": (
        'unused = {"dropout", "fused"}',
        'unused = {"fused"}',
    ),
    "a token is put in front of each text": (
        '"add_bos_token": False',
        '"add_bos_token": True',
    ),
    "llama.cpp puts a token in front of each text": (
        "writer.add_add_bos_token(bool(begin))",
        "writer.add_add_bos_token(True)",
    ),
    "the pattern has the name of a different one": (
        'CUTS = {PATTERN: "dbrx"',
        'CUTS = {PATTERN: "gpt-2"',
    ),
    "rows keep their numbers": (
        "return rows[list(numbers)]",
        "return rows[: len(numbers)]",
    ),
    "rows are put in order the wrong way round": (
        "order = halves_from_pairs(head_size).argsort()",
        "order = halves_from_pairs(head_size)",
    ),
    "rows of all heads are put in order at once": (
        "heads = rows.unflatten(0, (-1, head_size))",
        "heads, order = rows[None], halves_from_pairs(len(rows)).argsort()",
    ),
    "rows of every family are put in order": (
        'if family == "llama" and (',
        "if (",
    ),
    "matrices stay turned": (
        "tensor = tensor.t() if name in turned else tensor",
        "tensor = tensor",
    ),
    "slowed waves are forgotten": (
        "if c.rope_factor != 1:\n        waves",
        "if False:\n        waves",
    ),
    "vectors are rounded": (
        'if tensor.ndim == 1 or name.startswith("position"):',
        'if name.startswith("position"):',
    ),
    "an error leaves half a folder": (
        "finally:\n        shutil.rmtree(half, ignore_errors=True)",
        "finally:\n        pass",
    ),
    "the seal is not asked": (
        "if (folder / SEAL).exists():\n        verify(folder)",
        "",
    ),
    "a program of its own is passed over": (
        'if "auto_map" in config:',
        "if False:",
    ),
    "shards are not held against their index": (
        "if found.keys() != wanted:",
        "if False:",
    ),
    "a shard may lie anywhere": (
        "if not all(map(stays_inside, shards.values())):",
        "if False:",
    ),
}
