"""Rules on those who ask: nothing is kept, nobody is deceived, all is bounded.

Three of the rules start the library's server with a tiny model, ask it, and
look at what it says, shows and writes down.
"""

import io
import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from inspect import signature
from pathlib import Path
from typing import Any

import requests
import torch

from compliance.rules import Finding, Findings, InputError, Site, rule
from scratchlm.cli import serve
from scratchlm.model.gpt import GPT, gpt2_config
from scratchlm.serving import server
from scratchlm.serving.protocol import special_tokens
from scratchlm.text.files import FileError
from scratchlm.text.prepare import load_tokenizer
from scratchlm.text.tokenizer import Tokenizer

MARK = "confided"  # what nobody but its reader may see
LONG = 2000  # bytes of a request to a server that takes half as many
SAID = re.compile(r"\b(program|machine|language model|AI)\b")
KEPT = {"prompt", "messages", "completion", "question"}


def call(method: str, address: str, **said: Any) -> requests.Response:
    """The answer of a server on this machine; no proxy stands between."""
    with requests.Session() as session:
        session.trust_env = False
        return session.request(method, address, timeout=60, **said)


@contextmanager
def asked(prompt: str) -> Iterator[tuple[str, requests.Response]]:
    """The address of a server with a tiny model, and its answer to a prompt."""
    tokenizer = Tokenizer([])
    config = gpt2_config(
        tokenizer.vocab_size, context=32, layers=1, heads=1, channels=8
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = GPT(config)
    limits = server.Limits(body=LONG // 2)
    service = server.Service(model, tokenizer, "tiny", limits=limits)
    with server.served(server.make_app(service)) as address:
        body = {"model": "tiny", "prompt": prompt, "max_tokens": 2, "seed": 0}
        yield (
            address,
            call("POST", f"{address}/v1/completions", json=body),
        )


def told(prompt: str) -> str:
    """All that the server logs and prints about a prompt, and its counts."""
    log, shown = io.StringIO(), io.StringIO()
    handler, root = logging.StreamHandler(log), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        with (
            redirect_stdout(shown),
            redirect_stderr(shown),
            asked(prompt) as (address, answer),
        ):
            counts = call("GET", f"{address}/metrics").text
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
    if not answer.ok:
        raise InputError(
            f"{server.__name__} answers a prompt with {answer.status_code}; "
            "see that its tests hold, then look again"
        )
    return log.getvalue() + shown.getvalue() + counts


@rule("servers", "GDPR, Articles 5(1)(e) and 25(2)", "2018-05-25")
def nothing_kept(name: Path, site: Site) -> Findings:
    """A server writes down nothing of what it is asked."""
    if MARK in told(MARK):
        yield Finding(
            str(name),
            "its log or its counts hold a prompt",
            "count requests and tokens, and leave the text out of each message",
        )


@rule("logs", "GDPR, Article 5(1)(e)", "2018-05-25")
def no_dialogues(path: Path, site: Site) -> Findings:
    """No file outside a corpus keeps what people have asked or were told."""
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, 1):
            start = line.find("{")
            try:
                found = json.loads(line[start:]) if start >= 0 else {}
            except (ValueError, RecursionError):
                continue
            if isinstance(found, dict) and KEPT & found.keys():
                yield Finding(
                    f"{path}:{number}",
                    f"it keeps a {min(KEPT & found.keys())}",
                    "delete it; or tell people beforehand, say for how long, "
                    "and make it a corpus with a manifest",
                )
                return


@rule("servers", "AI Act, Article 50(1)", "2026-08-02")
def told_so(name: Path, site: Site) -> Findings:
    """People who talk to the model are told that no person answers."""
    with asked("a") as (address, _):
        page = call("GET", f"{address}/").text
    body = re.sub(r"<(script|style)>.*?</\1>|<[^>]*>", " ", page, flags=re.S)
    if not SAID.search(body):
        yield Finding(
            str(name),
            "its page does not say that a program answers",
            "say so above the field in which people write",
        )


@rule("servers", "OWASP LLM06:2026, Unbounded Consumption", "2026-08-04")
def bounded(name: Path, site: Site) -> Findings:
    """A server has limits, and refuses what is beyond them."""
    with asked("a" * LONG) as (_, answer):
        status = answer.status_code
    if status != 413:
        yield Finding(
            str(name),
            f"it answers a request that is too long with {status}",
            "refuse it with 413 before it is read whole",
        )


@rule("servers", "GDPR, Article 25(2)", "2018-05-25")
def loopback(name: Path, site: Site) -> Findings:
    """A server listens to this machine alone, unless it is told otherwise."""
    host = signature(serve.serve).parameters["host"].default
    if not serve.is_local(host):
        yield Finding(
            f"{name}: serve --host",
            f"it listens at {host}, which other machines reach",
            "let 127.0.0.1 be the default",
        )


@rule("runs", "OWASP LLM01:2026, Prompt Injection", "2026-08-04")
def marks_are_text(run: Path, site: Site) -> Findings:
    """What somebody writes cannot become a token that steers the model."""
    path = run / "tokenizer.json"
    try:
        tokenizer = load_tokenizer(path)
    except FileError as error:
        yield Finding(str(path), str(error), "take the file from a copy")
        return
    marks = special_tokens(tokenizer)
    for mark in marks:
        if set(marks.values()) & set(tokenizer.encode(f"Mrs Pell{mark}")):
            yield Finding(
                str(path),
                f"{mark} in a prompt becomes the token {marks[mark]}",
                "encode what people write without special tokens",
            )
