"""Many texts at once: by the engine alone, and through the server.

A model of the speed chapter's form writes texts of a hundred tokens, 1 to 16
of them at the same time. The engine writes them in this process; then as many
readers ask for them as streams, from a process of their own.
"""

import multiprocessing
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any

import requests
import torch

from scratchlm.generation.batch import Engine, Request, write_all
from scratchlm.generation.sampling import SamplingConfig
from scratchlm.generation.speed import fast_model
from scratchlm.model.gpt import GPT
from scratchlm.serving.server import Service, make_app, served
from scratchlm.text.tokenizer import END, Tokenizer

CONTEXT, TOKENS, TURNS = 512, 100, 5
TEXTS = (1, 2, 4, 8, 16)
PROMPT = list(b"Mrs Pell counts")
LIMIT = 600  # seconds, for one text


def build() -> tuple[GPT, Tokenizer]:
    """An untrained model that never writes the end, and letters as tokens."""
    torch.manual_seed(0)
    model = GPT(replace(fast_model(CONTEXT), vocab_size=257)).eval()
    with torch.no_grad():
        model.head.weight[256] = 0
    return model, Tokenizer([], {END: 256})


def written(model: GPT, texts: int) -> list[list[int]]:
    """The tokens of so many texts, by the engine alone."""
    asked = [Request(TOKENS, SamplingConfig(), i, 256) for i in range(texts)]
    return write_all(Engine(model, CONTEXT), [PROMPT] * texts, asked)


def read(address: str, seed: int) -> None:
    """One stream, to its end."""
    asked = {"model": "town", "prompt": PROMPT, "max_tokens": TOKENS}
    body = {**asked, "seed": seed, "stream": True}
    place = f"{address}/v1/completions"
    answer = requests.post(place, json=body, timeout=LIMIT)
    answer.raise_for_status()
    assert answer.content.endswith(b"[DONE]\n\n")


def read_all(address: str, pipe: Connection) -> None:
    """In a process of its own: so many streams at once, and their seconds."""
    with ThreadPoolExecutor(max(TEXTS)) as pool:
        for texts in iter(pipe.recv, 0):
            start = time.perf_counter()
            list(pool.map(read, [address] * texts, range(texts)))
            pipe.send(time.perf_counter() - start)


def record() -> dict[str, Any]:
    """Seconds alone and through the server, turn by turn."""
    model, tokenizer = build()
    first = [tokens[:8] for tokens in written(model, 2)]
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    rows = []
    with served(make_app(Service(model, tokenizer, "town"))) as address:
        child = context.Process(
            target=read_all, args=(address, theirs), daemon=True
        )
        child.start()
        for texts in TEXTS:
            turns = []
            for _ in range(TURNS + 1):  # the first warms up
                start = time.perf_counter()
                written(model, texts)
                alone = time.perf_counter() - start
                ours.send(texts)
                turns.append((round(alone, 4), round(ours.recv(), 4)))
            rows.append({"texts": texts, "seconds": turns[1:]})
            print(rows[-1], flush=True)
        ours.send(0)
        child.join()
    return {"tokens": TOKENS, "first": first, "rows": rows}


def replay(data: dict[str, Any]) -> None:
    """The engine writes the same tokens."""
    model, _ = build()
    again = [tokens[:8] for tokens in written(model, 2)]
    assert again == data["first"], (again, data["first"])
