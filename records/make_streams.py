"""Many texts at once: by the engine alone, and through the server.

A model of the speed chapter's form writes texts of a hundred tokens, 1 to 16
of them at the same time. A process has the engine write them; then it asks for
as many streams a server that is a process of its own, as `serve` is, and reads
them. Sixteen texts are also written four times as long. At last the server's
other thread computes once, too, with as many threads as the engine, and the
streams are read again.
"""

import http.client
import json
import multiprocessing
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import torch

from scratchlm.generation.batch import Engine, Request, write_all
from scratchlm.generation.sampling import SamplingConfig
from scratchlm.generation.speed import fast_model
from scratchlm.model.gpt import GPT
from scratchlm.serving.server import Service, make_app, served
from scratchlm.text.tokenizer import END, Tokenizer

CONTEXT, TOKENS, LONG, TURNS, THREADS = 512, 100, 400, 15, 2
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


def written(model: GPT, texts: int, tokens: int = TOKENS) -> list[list[int]]:
    """So many texts of so many tokens, by the engine alone."""
    asked = [Request(tokens, SamplingConfig(), i, 256) for i in range(texts)]
    return write_all(Engine(model, CONTEXT), [PROMPT] * texts, asked)


def read(host: str, tokens: int, seed: int) -> None:
    """One stream, to its end: bytes as they come, for little of the core."""
    asked = {"model": "town", "prompt": PROMPT, "max_tokens": tokens}
    body = json.dumps({**asked, "seed": seed, "stream": True})
    line = http.client.HTTPConnection(host, timeout=LIMIT)
    headers = {"Content-Type": "application/json", "Connection": "close"}
    line.request("POST", "/v1/completions", body, headers)
    assert line.sock is not None
    found = b""
    while part := line.sock.recv(1 << 16):
        found += part
    line.close()
    assert found.startswith(b"HTTP/1.1 200")
    assert found.endswith(b"[DONE]\n\n\r\n0\r\n\r\n")


def read_all(host: str, pipe: Connection) -> None:
    """In a process of its own: so many texts at once, alone and as streams.

    Sends the seconds of both.
    """
    torch.set_num_threads(THREADS)
    model, _ = build()
    with ThreadPoolExecutor(max(TEXTS)) as pool:
        for texts, tokens in iter(pipe.recv, None):
            begun = time.perf_counter()
            written(model, texts, tokens)
            alone = time.perf_counter()
            list(pool.map(partial(read, host, tokens), range(texts)))
            through = time.perf_counter()
            pipe.send((round(alone - begun, 4), round(through - alone, 4)))


def record() -> dict[str, Any]:
    """Seconds alone and through the server, turn by turn."""
    torch.set_num_threads(1)  # here; the engine's thread has them all
    model, tokenizer = build()
    first = [tokens[:8] for tokens in written(model, 2)]
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()

    def turns(texts: int, tokens: int = TOKENS) -> list[tuple[float, float]]:
        found = []
        for _ in range(TURNS + 1):  # the first warms up
            ours.send((texts, tokens))
            found.append(ours.recv())
        print(texts, tokens, found[1:], flush=True)
        return found[1:]

    service = Service(model, tokenizer, "town", threads=THREADS)
    with served(make_app(service)) as address:
        host = address.removeprefix("http://")
        child = context.Process(
            target=read_all, args=(host, theirs), daemon=True
        )
        child.start()
        rows = [{"texts": n, "seconds": turns(n)} for n in TEXTS]
        long = turns(max(TEXTS), LONG)
        torch.set_num_threads(THREADS)
        written(model, max(TEXTS))  # a pool of threads for this one, too
        crowded = [through for _, through in turns(max(TEXTS))]
        ours.send(None)
        child.join()
    return {
        "tokens": TOKENS,
        "first": first,
        "rows": rows,
        "long": {"tokens": LONG, "seconds": long},
        "crowded": crowded,
    }


def replay(data: dict[str, Any]) -> None:
    """The engine writes the same tokens."""
    model, _ = build()
    again = [tokens[:8] for tokens in written(model, 2)]
    assert again == data["first"], (again, data["first"])
