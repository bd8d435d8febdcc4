"""What two other programs make of our files: `transformers` and llama.cpp.

The same weights and the same tokens, asked of each: how far apart are the
logits, or the log-probabilities of the next token, and what does the model
write? llama.cpp comes with the package `xllamacpp`. It says the likelihood of
the likeliest tokens only, so the loss on a text is asked for place by place.
"""

import json
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from itertools import takewhile
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import transformers
import xllamacpp
from safetensors.torch import load_file, save_file
from torch import Tensor

from press.files import ROOT
from scratchlm.generation.generate import generate
from scratchlm.generation.sampling import SamplingConfig
from scratchlm.model.gpt import (
    GPT,
    GPTConfig,
    gpt2_config,
    llama_config,
    next_token_loss,
)
from scratchlm.serving import export
from scratchlm.serving.export import export_folder, export_gguf
from scratchlm.text.tokenizer import Tokenizer
from scratchlm.text.tokens import open_tokens
from scratchlm.text.toytown import join, write_corpus
from scratchlm.training.checkpoint import load_model

LENGTH, WRITTEN = 48, 60
BEGINNING = "Mrs Pell"
KINDS = ("float32", "float16", "q8_0")


def forms(vocab_size: int) -> dict[str, GPTConfig]:
    """A small form of each family."""
    sizes: dict[str, Any] = {"kv_heads": 2, "hidden": 96}
    llama = llama_config(vocab_size, 64, 2, 4, 64, **sizes)
    fields = vars(llama)
    slowed = {"rope_base": 500.0, "rope_factor": 8.0, "rope_original": 16}
    return {
        "gpt2": gpt2_config(vocab_size, 64, 2, 4, 64),
        "llama": llama,
        "llama, slowed": GPTConfig(**{**fields, **slowed}),
        "qwen2": GPTConfig(**{**fields, "qkv_bias": True}),
        "qwen3": GPTConfig(**{**fields, "qk_norm": "rmsnorm"}),
        "olmo2": GPTConfig(
            **{**fields, "qk_norm": "rmsnorm_all", "norm_order": "branch"}
        ),
    }


def random_model(form: GPTConfig) -> GPT:
    """A model whose every weight matters."""
    model = GPT(form).eval()
    generator = torch.Generator().manual_seed(7)
    for _, weight in sorted(model.named_parameters()):
        noise = torch.randn(weight.shape, generator=generator)
        if weight.ndim == 2:
            weight.data.copy_(noise * weight.shape[1] ** -0.5)
        else:
            weight.data.add_(0.3 * noise)
    return model


def served(path: Path, context: int) -> xllamacpp.Server:
    """llama.cpp with a model, on one thread, with keys of 32 bits."""
    p = xllamacpp.CommonParams()
    p.model.path = str(path)
    p.n_ctx, p.n_parallel = context, 1
    p.cpuparams.n_threads = p.cpuparams_batch.n_threads = 1
    p.cache_type_k = p.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    plain = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    p.flash_attn_type = plain  # the other has 16 bits inside
    p.warmup = p.fit_params = p.cache_prompt = False
    p.n_gpu_layers, p.verbosity = 0, -1
    return xllamacpp.Server(p)


def said(
    server: xllamacpp.Server, prompt: str | Sequence[int], count: int, top: int
) -> list[dict[str, Any]]:
    """The tokens that llama.cpp writes, the likeliest each time.

    It tells nothing of a token that ends a text, nor of one that is a part
    of a character. So the likeliest of the others is asked for; the
    probabilities are those that the model gives, all the same.
    """
    asked = {
        "prompt": prompt if isinstance(prompt, str) else list(prompt),
        "max_tokens": count,
        "temperature": 0,
        "logprobs": top,
        "ignore_eos": True,
        "logit_bias": [[byte, False] for byte in range(128, 256)],
    }
    found = server.handle_completions(asked)
    if isinstance(found, str | bytes):
        found = json.loads(found)
    if not isinstance(found, dict) or "choices" not in found:
        raise ValueError(f"llama.cpp refuses: {found}")
    content: list[dict[str, Any]] = found["choices"][0]["logprobs"]["content"]
    return content


def likely(
    server: xllamacpp.Server, prompt: str | Sequence[int], top: int = 20
) -> dict[int, float]:
    """The likeliest next tokens, and the logarithm of each probability."""
    (first,) = said(server, prompt, 1, top)
    return {t["id"]: t["logprob"] for t in first["top_logprobs"]}


def written(
    server: xllamacpp.Server, prompt: Sequence[int], count: int
) -> list[int]:
    """The numbers of the tokens that llama.cpp writes."""
    return [int(token["id"]) for token in said(server, prompt, count, 1)]


@torch.no_grad()
def far(model: GPT, server: xllamacpp.Server, texts: Tensor) -> float:
    """The largest difference of a log-probability, of the 20 likeliest."""
    worst = 0.0
    for row in texts:
        ours = model(row[None])[0, -1].log_softmax(-1)
        for number, value in likely(server, row.tolist()).items():
            worst = max(worst, abs(value - ours[number].item()))
    return worst


@torch.no_grad()
def losses(
    model: GPT, server: xllamacpp.Server, ids: Tensor
) -> tuple[float, float]:
    """Nats per token of a text, by our model and by llama.cpp.

    Each token is asked for after the tokens before it.
    """
    first, last = 8, len(ids)
    scores = model(ids[None])[0].log_softmax(-1)
    places = torch.arange(first - 1, last - 1)
    ours = -scores[places, ids[first:]].mean().item()
    theirs, everything = 0.0, model.config.vocab_size
    for t in range(first, last):
        found = likely(server, ids[:t].tolist(), everything)
        theirs -= found[int(ids[t])]
    return ours, theirs / (last - first)


@torch.no_grad()
def compare(name: str, model: GPT, tokenizer: Tokenizer) -> dict[str, Any]:
    """How far a small model is from what the two programs make of it."""
    generator = torch.Generator().manual_seed(11)
    texts = torch.randint(256, (4, LENGTH), generator=generator)
    with tempfile.TemporaryDirectory() as place:
        folder, path = Path(place) / "hf", Path(place) / "model.gguf"
        export_folder(folder, model, tokenizer)
        theirs = transformers.AutoModelForCausalLM.from_pretrained(folder)
        gap = (theirs.eval()(texts).logits - model(texts)).abs().max()
        export_gguf(path, model, tokenizer)
        server = served(path, model.config.context)
        return {
            "name": name,
            "transformers": float(gap),
            "llama.cpp": far(model, server, texts),
        }


def small_forms() -> list[dict[str, Any]]:
    """Each family once, with random weights."""
    tokenizer = Tokenizer.train(join(write_corpus(30_000)), 400)
    return [
        compare(name, random_model(form), tokenizer)
        for name, form in forms(tokenizer.vocab_size).items()
    ]


def book_model(run: Path) -> list[dict[str, Any]]:
    """The book's model in llama.cpp, in each kind of numbers."""
    model = load_model(run)
    tokenizer = Tokenizer.load(run / "tokenizer.json")
    tokens = open_tokens(run / "validation.tokens").tokens
    ids = torch.tensor(tokens[:72].astype("int64"))
    start = tokenizer.encode(BEGINNING)
    greedy = SamplingConfig(temperature=0)
    new = generate(model, torch.tensor([start]), WRITTEN, greedy)
    numbers, rows = (int(token) for token in new), []
    ours = list(takewhile(lambda number: number != tokenizer.end_id, numbers))
    for kind in KINDS:
        with tempfile.TemporaryDirectory() as place:
            path = Path(place) / "model.gguf"
            export_gguf(path, model, tokenizer, kind)
            server = served(path, model.config.context)
            mine, theirs = losses(model, server, ids)
            same = likely(server, BEGINNING) == likely(server, start)
            rows.append(
                {
                    "numbers": kind,
                    "bytes": path.stat().st_size,
                    "ours": mine,
                    "theirs": theirs,
                    "tokens": len(ours),
                    "same_text": written(server, start, len(ours)) == ours,
                    "same_prompt": same,
                }
            )
    return rows


@torch.no_grad()
def lost_head(run: Path) -> dict[str, Any]:
    """`transformers` on a folder with the head, and on one without it."""
    model = load_model(run)
    tokens = open_tokens(run / "validation.tokens").tokens
    ids = torch.tensor(tokens[: model.config.context].astype("int64"))[None]
    tokenizer = Tokenizer.load(run / "tokenizer.json")
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "hf"
        export_folder(folder, model, tokenizer)
        for name in ("kept", "lost"):
            if name == "lost":
                file = folder / "model.safetensors"
                weights = load_file(file)
                del weights["lm_head.weight"]
                save_file(weights, file, {"format": "pt"})
            torch.manual_seed(0)
            loaded: Any = transformers.AutoModelForCausalLM.from_pretrained(
                folder, output_loading_info=True
            )
            theirs, report = loaded
            scores = theirs.eval()(ids).logits
            found[name] = {
                "nats": next_token_loss(scores[:, :-1], ids[:, 1:]).item(),
                "missing": sorted(report["missing_keys"]),
            }
    return found


def pairing(run: Path) -> dict[str, float]:
    """What the model loses in llama.cpp if its rows are left as they are."""
    model = load_model(run)
    tokenizer = Tokenizer.load(run / "tokenizer.json")
    tokens = open_tokens(run / "validation.tokens").tokens
    ids = torch.tensor(tokens[:64].astype("int64"))
    found: dict[str, float] = {}
    kept = {"wrong": lambda rows, head_size: rows}
    for name in ("right", "wrong"):
        order = kept.get(name, export.pairs_from_halves)
        with (
            patch.object(export, "pairs_from_halves", order),
            tempfile.TemporaryDirectory() as place,
        ):
            path = Path(place) / "model.gguf"
            export_gguf(path, model, tokenizer)
            server = served(path, model.config.context)
            found["ours"], found[name] = losses(model, server, ids)
    return found


def record() -> dict[str, Any]:
    """Small random models of all families, and the book's own."""
    torch.set_num_threads(1)
    run = ROOT / "_build" / "runs" / "toytown"
    return {
        "transformers": transformers.__version__,
        "xllamacpp": version("xllamacpp"),
        "forms": small_forms(),
        "book": book_model(run),
        "head": lost_head(run),
        "pairing": pairing(run),
    }


def replay(data: dict[str, Any]) -> None:
    """Each form still agrees with the programs that are installed here."""
    again = small_forms()
    assert [r["name"] for r in data["forms"]] == [r["name"] for r in again]
    for row in [*again, *data["forms"]]:
        assert row["transformers"] < 1e-4, row
        assert row["llama.cpp"] < 2e-3, row
