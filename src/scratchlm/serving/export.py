"""To other programs and back: files that everybody reads.

`export_folder` writes a trained `GPT` as the folder that `transformers`
opens: weights in safetensors, and JSON that says their form, their tokens and
how to sample. `export_gguf` writes the one file that llama.cpp runs.
`import_folder` reads the folder of a published model, and `write_run` makes it
a run, which can write, chat, be judged and be exported. No file that is read
here is a program, and no existing folder is overwritten.

Left out: shards on the way out, matrices of fewer than 8 bits, tokenizers
other than byte pairs, and others' chat templates.
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields, replace
from itertools import takewhile
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from scratchlm.model.embeddings import (
    halves_from_pairs,
    slow_down,
    wave_frequencies,
)
from scratchlm.model.gpt import GPT, GPTConfig
from scratchlm.model.published import (
    FAMILIES,
    from_published,
    places,
    read_form,
    to_published,
)
from scratchlm.text.bpe import GPT2_PATTERN, PATTERN, spell
from scratchlm.text.exchange import (
    check_whole_words,
    from_tokenizers,
    to_letters,
    to_tokenizers,
)
from scratchlm.text.files import (
    PARTIAL,
    SEAL,
    FileError,
    entry,
    explaining,
    make_folder,
    read_json,
    replacing,
    stays_inside,
    sync_folder,
    verify,
    write_json,
    write_seal,
    write_text,
)
from scratchlm.text.tokenizer import END, Tokenizer
from scratchlm.training.checkpoint import ERRORS, read_tensors, save_weights
from scratchlm.tuning.instruct import ASSISTANT, MARKS, STOP, USER

WEIGHTS, CONFIG, TOKENS = "model.safetensors", "config.json", "tokenizer.json"
INDEX = WEIGHTS + ".index.json"


class ModelFileError(FileError):
    """A model's files cannot be read or written; the message says why."""


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let errors about what a file holds name the file."""
    try:
        yield
    except FileError:
        raise
    except ERRORS as error:
        lost = f"has no {error}" if isinstance(error, KeyError) else error
        raise ModelFileError(f"{path}: {lost}") from error


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder to fill, which gets its name once everything is in it.

    After an error nothing is left. What is already there is never overwritten.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ModelFileError(f"{folder} is there already: name a new folder")
    half = folder.with_name(folder.name + PARTIAL)
    shutil.rmtree(half, ignore_errors=True)  # left by a crash
    try:
        with explaining(folder):
            make_folder(half)
            yield half
            if folder.exists():
                folder.rmdir()
            os.replace(half, folder)
            sync_folder(folder.parent)
    finally:
        shutil.rmtree(half, ignore_errors=True)


# --- the form ----------------------------------------------------------------


def settled(config: GPTConfig) -> GPTConfig:
    """The form with its open choices made, and without what is not used.

    Forms that settle alike compute alike.
    """
    unused = {"dropout", "fused"}  # when it writes
    if config.position != "rotary":
        unused |= {"rope_base", "rope_factor"}
    if config.position != "rotary" or config.rope_factor == 1:
        unused.add("rope_original")
    usual: dict[str, Any] = {f.name: f.default for f in fields(config)}
    biased = config.bias if config.qkv_bias is None else config.qkv_bias
    return replace(
        config,
        kv_heads=config.key_heads,
        head_size=config.channels_per_head,
        hidden=config.inner,
        qkv_bias=biased,
        **{name: usual[name] for name in unused},
    )


def describe(config: GPTConfig) -> dict[str, Any]:
    """The config.json of a form; ValueError if no family has this form.

    The file of each family is written and read again. What it cannot hold
    is what came back different.
    """
    wanted = asdict(settled(config))
    least = list(wanted)
    learned = config.position == "learned"
    for family in ["gpt2"] if learned else FAMILIES:
        file = gpt2_file(config) if learned else llama_file(config, family)
        found = asdict(settled(read_form(file)))
        lost = [
            f"{name}={value!r}"
            for name, value in wanted.items()
            if found[name] != value
        ]
        if not lost:
            return file
        least = min(least, lost, key=len)
    raise ValueError(
        f"no published form has {', '.join(least)}: other programs would "
        "compute something else"
    )


def gpt2_file(config: GPTConfig) -> dict[str, Any]:
    """What the config.json of a GPT-2 says of this form."""
    c = config
    dropped = ("embd_pdrop", "attn_pdrop", "resid_pdrop")
    return {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "activation_function": "gelu_new",
        "vocab_size": c.vocab_size,
        "n_positions": c.context,
        "n_layer": c.layers,
        "n_head": c.heads,
        "n_embd": c.channels,
        "n_inner": c.inner,
        "layer_norm_epsilon": c.norm_eps,
        "tie_word_embeddings": c.tied,
        **dict.fromkeys(dropped, c.dropout),
    }


CLASSES = {"llama": "Llama", "qwen2": "Qwen2", "qwen3": "Qwen3"}
CLASSES |= {"olmo2": "Olmo2"}


def llama_file(config: GPTConfig, family: str) -> dict[str, Any]:
    """What the config.json of a Llama or its children says of this form."""
    c = config
    slowed = {
        "rope_type": "llama3",
        "factor": c.rope_factor,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": c.rope_original,
    }
    return {
        "model_type": family,
        "architectures": [f"{CLASSES[family]}ForCausalLM"],
        "hidden_act": "silu",
        "vocab_size": c.vocab_size,
        "max_position_embeddings": c.context,
        "num_hidden_layers": c.layers,
        "num_attention_heads": c.heads,
        "num_key_value_heads": c.key_heads,
        "head_dim": c.channels_per_head,
        "hidden_size": c.channels,
        "intermediate_size": c.inner,
        "rms_norm_eps": c.norm_eps,
        "rope_theta": c.rope_base,
        "rope_scaling": None if c.rope_factor == 1 else slowed,
        "tie_word_embeddings": c.tied,
    }


# --- a folder for others -----------------------------------------------------

# A user's "<|" is broken, so that no request can hold a mark.
TEMPLATE = (
    "{% for m in messages %}{% if m['role'] == 'user' %}"
    f"{USER}{{{{ m['content'] | replace('<|', '< |') }}}}{ASSISTANT}"
    "{% elif m['role'] == 'assistant' %}"
    f" {{{{ m['content'] | replace('<|', '< |') }}}}{STOP}"
    "{% else %}{{ raise_exception('only user and assistant speak') }}"
    "{% endif %}{% endfor %}"
)


def is_instructed(tokenizer: Tokenizer) -> bool:
    """Whether a tokenizer has the marks of a dialogue."""
    return set(MARKS) <= tokenizer.special_tokens.keys()


def tokenizer_facts(tokenizer: Tokenizer, context: int) -> dict[str, Any]:
    """What tokenizer_config.json says: which tokens end, and who speaks how.

    No token is put in front of a text, since ours was trained without.
    """
    facts = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": context,
        "bos_token": END,
        "eos_token": END,
        "add_bos_token": False,
        "add_eos_token": False,
        "clean_up_tokenization_spaces": False,
    }
    if is_instructed(tokenizer):
        facts |= {"chat_template": TEMPLATE, "eos_token": STOP}
    return facts


def export_folder(
    folder: Path,
    model: GPT,
    tokenizer: Tokenizer,
    dtype: torch.dtype = torch.float32,
    others: Mapping[str, str] | None = None,
) -> None:
    """Write a model as a new folder that `transformers` opens, and seal it.

    `others` are texts by the name of their file: a model card, a license.
    """
    context, special = model.config.context, tokenizer.special_tokens
    ends = {"bos_token_id": tokenizer.end_id, "eos_token_id": tokenizer.end_id}
    config = describe(model.config) | ends
    config["dtype"] = str(dtype).removeprefix("torch.")
    stops = [special[name] for name in (STOP, END) if name in special]
    theirs = to_published(model.state_dict(), model.config)
    tensors = {name: t.to(dtype).cpu() for name, t in theirs.items()}
    tokens = to_tokenizers(tokenizer)
    facts = tokenizer_facts(tokenizer, context)
    with new_folder(folder) as half:
        with replacing(half / WEIGHTS) as partial:
            partial.write_bytes(save(tensors, {"format": "pt"}))
        write_json(half / CONFIG, config)
        write_text(half / TOKENS, tokens)
        write_json(half / "tokenizer_config.json", facts)
        sampled = {**ends, "eos_token_id": stops, "do_sample": True}
        write_json(half / "generation_config.json", sampled)
        for name, text in (others or {}).items():
            write_text(half / name, text)
        write_seal(half, {path.name: entry(path) for path in half.iterdir()})


CARD = """\
---
license: {license}
library_name: transformers
pipeline_tag: text-generation
---

# {name}

A language model of {parameters:,} parameters in the form of {family}, with a
vocabulary of {vocab_size:,} tokens and a context of {context:,}.

- Trained on: {corpus}
- Loss on text that it was not trained on: {loss}
- Weights written as: {dtype}

It says what its text made likely, true or not. Nobody has tested it for any
use but learning how such a model is made.
"""
NO_LICENSE = """\
No license has been chosen for this model. Until its maker chooses one, nobody
else has the right to copy, change or publish it.
"""


def model_card(
    model: GPT, name: str, facts: Mapping[str, Any], license: str = "other"
) -> str:
    """README.md of an exported model: what it is, and what it is not."""
    config = model.config
    return CARD.format(
        name=name,
        license=license,
        family=describe(config)["model_type"],
        parameters=sum(p.numel() for p in model.parameters()),
        vocab_size=config.vocab_size,
        context=config.context,
        corpus=facts.get("corpus", "not known"),
        loss=facts.get("loss", "not measured"),
        dtype=facts.get("dtype", "float32"),
    )


# --- a folder of others ------------------------------------------------------


def read_weights(folder: Path) -> dict[str, Tensor]:
    """A folder's tensors: from one file, or from the shards of an index."""
    if (folder / WEIGHTS).exists():
        return read_tensors(folder / WEIGHTS)
    index = folder / INDEX
    if not index.exists():
        raise ModelFileError(
            f"{folder} has neither {WEIGHTS} nor its index; a file of another "
            "kind, as pytorch_model.bin, may hold a program and is not read"
        )
    with naming(index):
        shards = dict(read_json(index)["weight_map"])
        if not all(map(stays_inside, shards.values())):
            raise ValueError("it names a file outside of its folder")
    weights: dict[str, Tensor] = {}
    for shard in sorted(set(shards.values())):
        found = read_tensors(folder / shard)
        wanted = {name for name, place in shards.items() if place == shard}
        if found.keys() != wanted:
            odd = min(found.keys() ^ wanted)
            raise ModelFileError(f"{folder / shard} and {INDEX}: not one {odd}")
        weights |= found
    return weights


def called_end(tokenizer: Tokenizer, number: int) -> Tokenizer:
    """The same tokenizer; its special token of that number is called END."""
    if END in tokenizer.special_tokens:
        return tokenizer
    special = {
        END if known == number else name: known
        for name, known in tokenizer.special_tokens.items()
    }
    if END not in special:
        raise ValueError("none of its special tokens ends a text")
    return Tokenizer(tokenizer.merges, special, tokenizer.pattern)


def before_text(data: Mapping[str, Any]) -> list[str]:
    """Special tokens that a tokenizer.json puts in front of every text."""
    post = data.get("post_processor") or {}
    for step in post.get("processors", [post]):
        if step.get("type") == "TemplateProcessing":
            parts = takewhile(lambda p: "SpecialToken" in p, step["single"])
            return [part["SpecialToken"]["id"] for part in parts]
    return []


SINGLE_DIGITS = (  # GPT-2's pattern, with each digit a word of its own
    r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+"
    r"|\s+(?![^\s\p{N}])|\s+"
)


def in_one_pattern(data: Mapping[str, Any]) -> dict[str, Any]:
    """Rewrite a tokenizer.json that cuts off digits first, as SmolLM2's does.

    Other files stay as they are. The words are the same; a test checks that.
    """
    steps = (data.get("pre_tokenizer") or {}).get("pretokenizers", [])
    kinds = [step.get("type") for step in steps]
    if kinds != ["Digits", "ByteLevel"] or not steps[0]["individual_digits"]:
        return dict(data)
    split = {
        "type": "Split",
        "pattern": {"Regex": SINGLE_DIGITS},
        "behavior": "Isolated",
        "invert": False,
    }
    steps = [split, {**steps[1], "use_regex": False}]
    return {**data, "pre_tokenizer": {"pretokenizers": steps}}


def read_tokens(
    folder: Path, ends: Sequence[int]
) -> tuple[Tokenizer, list[int], dict[str, Any]]:
    """A folder's tokenizer, the publisher's token numbers, and two habits.

    `ends` are the publisher's numbers of tokens that end a text. The habits:
    tokens in front of every text, and whether texts are brought to NFC first.
    """
    path = folder / TOKENS
    data = read_json(path)
    with naming(path):
        normal = (data.get("normalizer") or {}).get("type")
        if normal == "NFC":  # most texts are; the others have to be made so
            data["normalizer"] = None
        plain = json.dumps(in_one_pattern(data))
        tokenizer, numbers = from_tokenizers(plain)
        begin = [tokenizer.special_tokens[name] for name in before_text(data)]
        last = [numbers.index(end) for end in ends if end in numbers]
        tokenizer = called_end(tokenizer, last[0] if last else -1)
    return tokenizer, numbers, {"begin": begin, "normal": normal}


def has_template(folder: Path) -> bool:
    """Whether a model came with a chat template, which we do not run."""
    facts = folder / "tokenizer_config.json"
    if (folder / "chat_template.jinja").exists():
        return True
    return facts.exists() and bool(read_json(facts).get("chat_template"))


def in_our_order(rows: Tensor, numbers: Sequence[int], size: int) -> Tensor:
    """Rows (size, C) of an embedding by the numbers of our tokens: (V, C).

    >>> in_our_order(torch.tensor([[1.0], [2.0], [9.0]]), [1, 0], size=3)
    tensor([[2.],
            [1.]])
    """
    if len(rows) != size:
        raise ValueError(f"vocab_size={size}, but there are {len(rows)} rows")
    for number in (min(numbers), max(numbers)):
        if not 0 <= number < size:
            raise ValueError(f"token {number} has no row among {size}")
    return rows[list(numbers)]


def import_folder(folder: Path) -> tuple[GPT, Tokenizer, dict[str, Any]]:
    """The model in a published folder, its tokenizer, and facts about it.

    Tokens get our numbers, in which bytes come first, so the rows of the
    embedding are put into that order; rows that belong to no token go.
    Sealed folders are verified. Everything is computed in float32.
    """
    folder = Path(folder)
    if (folder / SEAL).exists():
        verify(folder)
    config = read_json(folder / CONFIG)
    with naming(folder / CONFIG):
        if "auto_map" in config:
            raise ValueError("it asks for a program of its own (auto_map)")
        form = read_form(config)
    end = config.get("eos_token_id")
    ends = end if isinstance(end, list) else [end]
    tokenizer, numbers, habits = read_tokens(folder, ends)
    with naming(folder):
        ours = from_published(read_weights(folder), form)
        for name in ("token.weight", "head.weight"):
            ours[name] = in_our_order(ours[name], numbers, form.vocab_size)
        model = GPT(replace(form, vocab_size=len(numbers)))
        model.load_state_dict(ours)
    facts = {
        "corpus": f"not known ({config['model_type']}, imported)",
        "instructed": has_template(folder),
    }
    return model.eval(), tokenizer, {**facts, **habits}


def write_run(
    run: Path,
    model: GPT,
    tokenizer: Tokenizer,
    facts: Mapping[str, Any],
    others: Mapping[str, str] | None = None,
) -> None:
    """Make a run of a model from elsewhere, so that commands can open it.

    It has weights and a tokenizer, and no text to be trained on further.
    """
    place = "best/step-000000.safetensors"
    data = {"tokenizer": "bpe", "fingerprint": tokenizer.fingerprint, **facts}
    form = asdict(model.config)
    with new_folder(run) as half:
        tokenizer.save(half / TOKENS)
        settings = {"model": form, "training": {}, "data": data}
        write_json(half / CONFIG, settings)
        save_weights(half / place, model)
        for name, text in (others or {}).items():
            write_text(half / name, text)
        names = (TOKENS, CONFIG, place, *(others or {}))
        write_seal(half, {name: entry(half / name) for name in names})


# --- one file for llama.cpp --------------------------------------------------

# Ways to cut text into words, each with the name that llama.cpp gives it.
CUTS = {PATTERN: "dbrx", GPT2_PATTERN: "gpt-2", SINGLE_DIGITS: "smollm"}
LLAMA_PATTERN = (  # as Llama 3 spells it in its tokenizer.json
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN_PATTERN = LLAMA_PATTERN.replace("{1,3}", "")  # each digit a word
CUTS |= {LLAMA_PATTERN: "llama-bpe", QWEN_PATTERN: "qwen2"}
KINDS = {
    "float32": gguf.GGMLQuantizationType.F32,
    "float16": gguf.GGMLQuantizationType.F16,
    "q8_0": gguf.GGMLQuantizationType.Q8_0,
}
FILE_TYPES = {
    "float32": gguf.LlamaFileType.ALL_F32,
    "float16": gguf.LlamaFileType.MOSTLY_F16,
    "q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
}


def pairs_from_halves(rows: Tensor, head_size: int) -> Tensor:
    """Rows of queries or keys (H · D, C) in the order of llama.cpp's Llama.

    It turns channels 2i and 2i + 1 of a head together, our `Rotary` i and
    i + D/2. Scores stay as they are if both queries and keys are reordered.
    """
    order = halves_from_pairs(head_size).argsort()
    heads = rows.unflatten(0, (-1, head_size))  # (H, D, C)
    return heads[:, order].flatten(0, 1)


def gguf_tensors(model: GPT) -> dict[str, Tensor]:
    """A model's tensors under llama.cpp's names, each matrix (out, in)."""
    c = model.config
    family = describe(c)["model_type"]
    kind = {name: arch for arch, name in gguf.MODEL_ARCH_NAMES.items()}[family]
    names = gguf.get_tensor_name_map(kind, c.layers)
    turned = {name for p in places(c) if p.turned for name in p.theirs}
    found = {}
    for name, tensor in to_published(model.state_dict(), c).items():
        tensor = tensor.t() if name in turned else tensor
        if family == "llama" and ("q_proj" in name or "k_proj" in name):
            tensor = pairs_from_halves(tensor, c.channels_per_head)
        found[str(names.get_name(name, (".weight", ".bias")))] = tensor
    if c.rope_factor != 1:
        waves = wave_frequencies(c.channels_per_head, c.rope_base)
        slowed = slow_down(waves, c.rope_factor, c.rope_original)
        found["rope_freqs.weight"] = waves / slowed
    return found


def gguf_values(
    name: str, tensor: Tensor, dtype: str
) -> tuple[np.ndarray, gguf.GGMLQuantizationType]:
    """A tensor's numbers as a GGUF file keeps them, and their kind.

    Vectors and positions stay float32, as llama.cpp wants them. Rows that do
    not split into groups of 32 are float16 when the others are q8_0.
    """
    values = tensor.detach().float().cpu().contiguous().numpy()
    if tensor.ndim == 1 or name.startswith("position"):
        dtype = "float32"
    elif dtype == "q8_0" and tensor.shape[1] % 32:
        dtype = "float16"
    return gguf.quantize(values, KINDS[dtype]), KINDS[dtype]


def add_form(writer: gguf.GGUFWriter, config: GPTConfig) -> None:
    """The form of a model, as key and value pairs of a GGUF file."""
    c = config
    writer.add_context_length(c.context)
    writer.add_embedding_length(c.channels)
    writer.add_block_count(c.layers)
    writer.add_feed_forward_length(c.inner)
    writer.add_head_count(c.heads)
    writer.add_head_count_kv(c.key_heads)
    writer.add_vocab_size(c.vocab_size)
    if c.norm == "layernorm":
        writer.add_layer_norm_eps(c.norm_eps)
    else:
        writer.add_layer_norm_rms_eps(c.norm_eps)
    if c.position == "rotary":
        writer.add_rope_dimension_count(c.channels_per_head)
        writer.add_key_length(c.channels_per_head)
        writer.add_value_length(c.channels_per_head)
        writer.add_rope_freq_base(c.rope_base)


def cut_of(tokenizer: Tokenizer) -> str:
    """llama.cpp's name for the pattern by which a tokenizer cuts text.

    Raises ValueError for a pattern without a name, and for words that, under
    Llama's name, llama.cpp takes whole while our tokenizer goes by merges.
    """
    if tokenizer.pattern not in CUTS:
        raise ValueError(
            "llama.cpp has no name for the pattern by which this tokenizer "
            "cuts text into words, so its tokens would be different ones"
        )
    name = CUTS[tokenizer.pattern]
    if name == "llama-bpe":
        check_whole_words(tokenizer, map(to_letters, spell(tokenizer.merges)))
    return name


def add_tokens(
    writer: gguf.GGUFWriter, tokenizer: Tokenizer, begin: Sequence[int] = ()
) -> None:
    """The tokenizer, as key and value pairs of a GGUF file.

    `begin` is the token in front of each text, if there is one. Raises
    ValueError for what llama.cpp cannot be told.
    """
    if len(begin) > 1:
        raise ValueError(f"{len(begin)} tokens in front of a text: it takes 1")
    spelled = [to_letters(token) for token in spell(tokenizer.merges)]
    special = sorted(tokenizer.special_tokens.items(), key=lambda x: x[1])
    first, size = len(spelled), tokenizer.vocab_size
    if [number for _, number in special] != list(range(first, size)):
        raise ValueError("numbers without a token lie between the special ones")
    types = [gguf.TokenType.NORMAL] * len(spelled)
    types += [gguf.TokenType.CONTROL] * len(special)
    pairs = [f"{spelled[a]} {spelled[b]}" for a, b in tokenizer.merges]
    writer.add_tokenizer_model("gpt2")  # byte pairs
    writer.add_tokenizer_pre(cut_of(tokenizer))
    writer.add_token_list([*spelled, *(name for name, _ in special)])
    writer.add_token_types(types)
    writer.add_token_merges(pairs)
    writer.add_bos_token_id(begin[0] if begin else tokenizer.end_id)
    writer.add_add_bos_token(bool(begin))
    end = tokenizer.end_id
    if is_instructed(tokenizer):
        end = tokenizer.special_tokens[STOP]
        writer.add_chat_template(TEMPLATE)
    writer.add_eos_token_id(end)


def export_gguf(
    path: Path,
    model: GPT,
    tokenizer: Tokenizer,
    dtype: str = "float32",
    name: str = "model",
    begin: Sequence[int] = (),
) -> None:
    """Write a model as one GGUF file: the whole file, or nothing.

    `dtype` is float32, float16 or q8_0, `begin` as in `add_tokens`.
    """
    family = describe(model.config)["model_type"]
    with replacing(path) as partial:
        writer = gguf.GGUFWriter(partial, family)
        writer.add_name(name)
        writer.add_file_type(FILE_TYPES[dtype])
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        add_form(writer, model.config)
        add_tokens(writer, tokenizer, begin)
        for tensor_name, tensor in gguf_tensors(model).items():
            values, kind = gguf_values(tensor_name, tensor, dtype)
            writer.add_tensor(tensor_name, values, raw_dtype=kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
