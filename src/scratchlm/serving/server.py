"""A model as a service: requests come in, streams of text go out.

The protocol is OpenAI's, which most programs speak: completions, chat, and
server-sent events. One thread steps the engine of `generation.batch`; an
event loop reads requests, cuts tokens into whole characters, holds stop
strings back, and sends. FastAPI, pydantic, uvicorn and prometheus_client do
everything that is not about models.

Left out: several models, several processes, tools, images, chat's scores of
tokens, and TLS, which a proxy in front does better.
"""

import asyncio
import base64
import codecs
import hashlib
import hmac
import itertools
import logging
import math
import random
import re
import socket
import threading
import time
import unicodedata
from collections.abc import (
    AsyncIterator,
    Callable,
    Coroutine,
    Iterator,
    Sequence,
)
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import fastapi
import torch
import uvicorn
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.middleware.trustedhost import TrustedHostMiddleware
from fastapi.responses import (
    HTMLResponse,
    JSONResponse,
    Response,
    StreamingResponse,
)
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from scratchlm.generation.batch import Engine, Request, Written
from scratchlm.generation.sampling import SamplingConfig
from scratchlm.model.gpt import GPT
from scratchlm.model.heads import attention_maps
from scratchlm.serving.protocol import (
    CHAT,
    COMPLETION,
    Asked,
    AttentionRequest,
    ChatRequest,
    CompletionRequest,
    Piece,
    Refused,
    Score,
    Style,
    as_error,
    check_turns,
    event,
    joined,
    likeliest,
    prompt_scores,
    raw_bytes,
    special_tokens,
    token_name,
)
from scratchlm.text.prepare import AnyTokenizer
from scratchlm.text.tokenizer import END, Tokenizer
from scratchlm.tuning.dialogue import OURS, Layout, encode_dialogue, layout_of
from scratchlm.tuning.instruct import Turn

log = logging.getLogger(__name__)


# --- text that may be sent ---------------------------------------------------


def first_stop(text: str, stops: Sequence[str]) -> int | None:
    """Where the first stop string to be complete begins; None without one.

    Of two that end at the same place the longer one counts. That is what
    checking the text after every character would find.

    >>> first_stop("tea at ten.", ["ten", "at"])
    4
    """
    found = [(text.find(stop), stop) for stop in stops]
    ends = [(at + len(stop), at) for at, stop in found if at >= 0]
    return min(ends)[1] if ends else None


def unfinished(text: str, stops: Sequence[str]) -> int:
    """How many characters at the end may begin a stop string.

    >>> unfinished("The end. Th", ["The", "\\n"])
    2
    """
    most = min(len(text), max(map(len, stops), default=1) - 1)
    for size in range(most, 0, -1):
        if any(stop.startswith(text[-size:]) for stop in stops):
            return size
    return 0


class TextStream:
    """Bytes of tokens in, text out: whole characters, nothing of a stop."""

    def __init__(self, stops: Sequence[str] = ()) -> None:
        """Nothing is held yet."""
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.stops = stops
        self.seen = 0  # characters, sent or not
        self.held = ""  # may begin a stop string
        self.stopped = False

    def push(self, data: bytes, final: bool = False) -> str:
        """What can be sent once a token is there; at the end, everything."""
        new = self.decoder.decode(data, final)
        self.seen += len(new)
        self.held += new
        at = first_stop(self.held, self.stops)
        if at is not None:
            self.stopped = True
            ready, self.held = self.held[:at], ""
            return ready
        keep = 0 if final else unfinished(self.held, self.stops)
        at = len(self.held) - keep
        ready, self.held = self.held[:at], self.held[at:]
        return ready

    @property
    def end(self) -> int:
        """Where the text ends so far, a character in the making included."""
        return self.seen + bool(self.decoder.getstate()[0])


# --- a text on its way -------------------------------------------------------


class Choice:
    """One text of an answer: its prompt, what is sent, what is held back."""

    def __init__(
        self,
        number: int,
        prompt: list[int],
        request: Request,
        tokenizer: AnyTokenizer,
        stops: Sequence[str] = (),
        top: int | None = None,
        lead: str = "",
    ) -> None:
        """With `top`, each token's score and those of `top` others are given.

        Text that begins with `lead` loses it.
        """
        self.number, self.prompt, self.request = number, prompt, request
        self.tokenizer, self.top, self.lead = tokenizer, top, lead
        self.ends = set(special_tokens(tokenizer).values())
        self.text = TextStream(stops)
        self.start = 0  # where it begins, after an echo
        self.sent = 0  # characters
        self.scores: list[Score] = []  # whose text is not sent yet
        self.tokens = 0

    def take(self, letter: Sequence[Written]) -> Piece:
        """What can be sent, now that these tokens are there.

        Those after a stop string do not count. Raises Refused for a text
        whose scores were not numbers.
        """
        text, finish = "", None
        for new in letter:
            if new.finish == "failed":
                raise Refused(500, "the model gives this text no numbers")
            self.tokens += 1
            begins, ended = self.text.seen, new.token in self.ends
            data = b"" if ended else raw_bytes(self.tokenizer, new.token)
            text += self.text.push(data, ended or new.finish is not None)
            if self.top is not None and not ended:
                self.scores.append(self.score(new, begins))
            finish = "stop" if ended or self.text.stopped else new.finish
            if finish is not None:
                break
        self.sent += len(text)
        if text:
            text, self.lead = text.removeprefix(self.lead), ""
        return Piece(self.number, text, self.released(), finish)

    def score(self, new: Written, begins: int) -> Score:
        """A token's score, and what else was likely in its place."""
        others = likeliest(self.tokenizer, new.logprobs, self.top or 0)
        name = token_name(self.tokenizer, new.token)
        ends = self.start + self.text.end
        return Score(name, new.logprob, others, self.start + begins, ends)

    def released(self) -> tuple[Score, ...]:
        """The scores of tokens whose text has been sent to its end."""
        if not self.scores:
            return ()
        end = self.start + self.sent
        ready = [score for score in self.scores if score.end <= end]
        self.scores = self.scores[len(ready) :]  # ends never decrease
        return tuple(ready)


# --- the thread of the engine ------------------------------------------------


async def aside(function: Callable[..., Any], *arguments: Any) -> Any:
    """Compute beside the engine, on one core: the threads are the engine's."""

    def compute() -> Any:
        torch.set_num_threads(1)
        return function(*arguments)

    return await asyncio.to_thread(compute)


Inbox = asyncio.Queue[list[Written] | Refused]  # tokens, or why there is none
TOGETHER = 1 / 16  # seconds: what is written within them is sent together


class Worker:
    """Steps the engine in a thread of its own; the rest is the loop's.

    `Engine.add` and `cancel` leave notes, so the loop may call them. What
    was written goes back by `call_soon_threadsafe`: the end of a text at
    once, the rest at most sixteen times a second.
    """

    def __init__(self, engine: Engine, threads: int | None = None) -> None:
        """Not yet started; it will compute with so many threads, or all."""
        self.engine = engine
        self.threads = threads or torch.get_num_threads()
        self.inboxes: dict[int, Inbox] = {}
        self.wake = threading.Event()
        self.closing = self.failed = False

    def start(self) -> None:
        """Begin, in the running loop."""
        self.loop, self.closing = asyncio.get_running_loop(), False
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self) -> None:
        """Step while there is work, sleep while there is none."""
        torch.get_num_threads()  # sets this thread's to the latest: before us
        torch.set_num_threads(self.threads)  # in a pool of its own
        new, told = list[Written](), 0.0
        try:
            while not self.closing:
                if not self.engine.busy:
                    self.wake.wait()
                    self.wake.clear()
                    continue
                new += self.engine.step()
                now, over = time.monotonic(), any(w.finish for w in new)
                if over or now - told > TOGETHER:
                    self.loop.call_soon_threadsafe(self.deliver, new)
                    new, told = [], now
        except Exception:
            log.exception("the engine has failed")
            self.loop.call_soon_threadsafe(self.fail)

    def deliver(self, new: Sequence[Written]) -> None:
        """Put tokens where they are awaited; whoever has left gets none."""
        letters: dict[Inbox, list[Written]] = {}
        for written in new:
            if inbox := self.inboxes.get(written.id):
                letters.setdefault(inbox, []).append(written)
        for inbox, letter in letters.items():
            inbox.put_nowait(letter)

    def fail(self) -> None:
        """Tell all who wait that nothing will come."""
        self.failed = True
        why = Refused(500, "the engine has failed; the log says why")
        for inbox in self.inboxes.values():
            inbox.put_nowait(why)

    def add(self, choice: Choice, inbox: Inbox) -> int:
        """Have a text written, token by token into the inbox."""
        id = self.engine.add(choice.prompt, choice.request)
        self.inboxes[id] = inbox
        self.wake.set()
        return id

    def let_go(self, id: int) -> None:
        """Nobody waits for this text any more, finished or not."""
        if self.inboxes.pop(id, None) is not None:
            self.engine.cancel(id)

    def close(self) -> None:
        """End the thread, after the step that it is in."""
        self.closing = True
        self.wake.set()
        self.thread.join()


@dataclass(frozen=True)
class Limits:
    """What one request may cost, and how many there may be."""

    body: int = 1 << 20  # bytes of a request
    new_tokens: int = 1024  # of a text
    texts: int = 16  # written for one request
    waiting: int = 64  # texts being written or waiting to be, in all
    seconds: float = 120.0  # for a request
    looked: int = 512  # tokens of a text whose attention is shown


class Metrics:
    """What is counted, for Prometheus to fetch. It holds no text."""

    def __init__(self, open_texts: Callable[[], int]) -> None:
        """A registry of its own, so that a process may hold two services."""
        self.registry = CollectorRegistry()
        known: dict[str, Any] = {"registry": self.registry}
        self.requests = Counter(
            "scratchlm_requests", "Answers", ["path", "status"], **known
        )
        tokens = Counter(
            "scratchlm_tokens", "Read and written", ["kind"], **known
        )
        self.read, self.written = map(tokens.labels, ("read", "written"))
        self.seconds = Histogram(
            "scratchlm_seconds", "Until a request's first token", **known
        )
        texts = Gauge("scratchlm_texts", "Written, or waiting", **known)
        texts.set_function(open_texts)


class Job:
    """The texts of one request, until they are finished or let go."""

    def __init__(
        self,
        worker: Worker,
        choices: Sequence[Choice],
        seconds: float,
        metrics: Metrics,
    ) -> None:
        """Hand the texts to the engine: all of them, or none."""
        self.worker, self.metrics = worker, metrics
        loop = asyncio.get_running_loop()
        self.begun, self.waited = loop.time(), False
        metrics.read.inc(sum(len(choice.prompt) for choice in choices))
        self.inbox: Inbox = asyncio.Queue()
        self.open: dict[int, Choice] = {}
        self.alarm = loop.call_later(seconds, self.expire)
        try:
            for choice in choices:
                self.open[worker.add(choice, self.inbox)] = choice
        except ValueError as error:
            self.close()
            raise Refused(400, str(error)) from error

    async def new_tokens(self) -> list[Written]:
        """Tokens that have come, at least one; Refused if none will come."""
        found = [await self.inbox.get()]
        while not self.inbox.empty():
            found.append(self.inbox.get_nowait())
        new = list[Written]()
        for letter in found:
            if isinstance(letter, Refused):
                raise letter
            new += letter
        self.metrics.written.inc(len(new))
        if not self.waited:
            now = asyncio.get_running_loop().time()
            self.metrics.seconds.observe(now - self.begun)
            self.waited = True
        return new

    async def pieces(self) -> AsyncIterator[Piece]:
        """What can be sent, as it comes."""
        while self.open:
            letters: dict[int, list[Written]] = {}
            for new in await self.new_tokens():
                letters.setdefault(new.id, []).append(new)
            for id, letter in letters.items():
                if id not in self.open:
                    continue  # written after a stop string
                piece = self.open[id].take(letter)
                if piece.finish is not None:
                    self.worker.let_go(id)
                    del self.open[id]
                yield piece

    def expire(self) -> None:
        """Time is up: the texts give their places back, read or not."""
        late = Refused(504, "time is up; ask for fewer tokens")
        self.inbox.put_nowait(late)
        for id in self.open:
            self.worker.let_go(id)

    def close(self) -> None:
        """Let go of whatever is not finished."""
        self.alarm.cancel()
        while self.open:
            self.worker.let_go(self.open.popitem()[0])


# --- answers -----------------------------------------------------------------


class Answer:
    """What is said in reply to one request, at once or in a stream."""

    def __init__(
        self,
        asked: Asked,
        style: Style,
        id: str,
        choices: Sequence[Choice],
        first: Sequence[Piece] = (),
    ) -> None:
        """`first` comes before what is written: the prompt, if echoed."""
        self.asked, self.style = asked, style
        self.choices, self.first = choices, first
        self.scored = choices[0].top is not None
        self.head = {
            "id": f"{style.prefix}-{id}",
            "object": style.chunk if asked.stream else style.whole,
            "created": int(time.time()),
            "model": asked.model,
        }

    @property
    def usage(self) -> dict[str, int]:
        """Tokens read, a prompt once for all its texts, and written."""
        each = self.choices[:: self.asked.n]
        read = sum(len(choice.prompt) for choice in each)
        written = sum(choice.tokens for choice in self.choices)
        return {
            "prompt_tokens": read,
            "completion_tokens": written,
            "total_tokens": read + written,
        }

    async def pieces(self, job: Job) -> AsyncIterator[Piece]:
        """What comes before the written text, and then that text."""
        for piece in self.first:
            yield piece
        async for piece in job.pieces():
            yield piece

    async def whole(self, job: Job) -> dict[str, Any]:
        """All of it, when all of it is there."""
        pieces = joined([piece async for piece in self.pieces(job)])
        choices = [
            self.style.choice(piece, self.scored) for piece in sorted(pieces)
        ]
        return self.head | {"choices": choices, "usage": self.usage}

    async def events(self, job: Job) -> AsyncIterator[str]:
        """The answer as it comes: text, how each text ended, usage, end."""
        options = self.asked.stream_options
        told = options is not None and options.include_usage
        head = self.head | ({"usage": None} if told else {})

        def chunk(piece: Piece, more: dict[str, Any] | None = None) -> str:
            choice = self.style.delta(piece, self.scored) | (more or {})
            return event(head | {"choices": [choice]})

        try:
            if self.style.opening:
                for choice in self.choices:
                    yield chunk(Piece(choice.number), self.style.opening)
            async for piece in self.pieces(job):
                if piece.text or piece.scores:
                    yield chunk(piece._replace(finish=None))
                if piece.finish:
                    yield chunk(Piece(piece.number, finish=piece.finish))
        except Refused as error:  # too late for a status of its own
            yield event(error.as_json())
            return
        if told:
            yield event(head | {"choices": [], "usage": self.usage})
        yield "data: [DONE]\n\n"


class EventStream(StreamingResponse):
    """Events as an answer; however it ends, the work ends with it."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncIterator[str], job: Job) -> None:
        """The events are sent as they come."""
        super().__init__(events)
        self.job = job

    async def __call__(
        self, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Send until the end, or until the client has gone."""
        with closing(self.job):
            await super().__call__(scope, receive, send)


async def unless_gone(
    request: fastapi.Request, work: Coroutine[Any, Any, Any]
) -> Any:
    """What the work returns; if the client leaves first, it is cancelled.

    After a request's body, nothing comes but the news that the client left.
    """
    gone = asyncio.ensure_future(request.receive())
    tasks = [asyncio.ensure_future(work), gone]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if tasks[0].done():
            return tasks[0].result()
        raise Refused(499, "the client has gone")
    finally:
        for task in tasks:
            task.cancel()


# --- the service -------------------------------------------------------------


class Service:
    """One model, its engine, and the answers to each kind of request."""

    def __init__(
        self,
        model: GPT,
        tokenizer: AnyTokenizer,
        name: str,
        key: str | None = None,
        limits: Limits | None = None,
        engine: Engine | None = None,
        begin: Sequence[int] = (),
        normal: Literal["NFC", "NFD", "NFKC", "NFKD"] | None = None,
        instructed: bool = False,
        threads: int | None = None,
    ) -> None:
        """Without an engine, one for 16 texts of the model's context.

        A prompt is brought to the form `normal` of Unicode, and gets the
        tokens `begin` in front, as others' models were trained; `instructed`
        models are those that were taught to answer. The engine computes with
        `threads`, by default all that torch uses.
        """
        blocks = 16 * (model.config.context // 16 + 2)
        self.model, self.tokenizer, self.name = model.eval(), tokenizer, name
        self.key, self.limits = key, limits or Limits()
        self.begin, self.normal = list(begin), normal
        self.layout = layout_of(tokenizer, instructed)
        self.worker = Worker(engine or Engine(model, blocks), threads)
        self.read_aside = 0  # texts
        tokens = range(tokenizer.vocab_size)
        self.longest = max(len(raw_bytes(tokenizer, token)) for token in tokens)
        self.metrics = Metrics(lambda: self.texts)
        self.begun = time.time_ns()
        self.numbers = itertools.count(1)

    @property
    def texts(self) -> int:
        """How many are being read or written, or are waiting."""
        return len(self.worker.inboxes) + self.read_aside

    async def authorize(self, request: fastapi.Request) -> None:
        """Refuse a request without the key, if there is one.

        The comparison takes as long for a wrong key as for the right one.
        """
        shown = request.headers.get("authorization", "").encode()
        wanted = f"Bearer {self.key}".encode()
        if self.key is None or hmac.compare_digest(shown, wanted):
            return
        raise Refused(
            401,
            "no key, or a wrong one: send the header Authorization: Bearer KEY",
            code="invalid_api_key",
            headers={"WWW-Authenticate": "Bearer"},
        )

    def as_trained(self, text: str) -> str:
        """A text as the model knows it; Refused if it can never fit."""
        if self.normal:
            text = unicodedata.normalize(self.normal, text)
        context = self.model.config.context
        if len(text) > context * self.longest:
            raise Refused(
                400,
                f"{len(text):,} characters; this model reads {context} tokens",
                "prompt",
                "context_length_exceeded",
            )
        return text

    def encode(self, text: str) -> list[int]:
        """The tokens of a prompt; without any, what comes before a text."""
        text = self.as_trained(text)
        try:
            if ids := [*self.begin, *self.tokenizer.encode(text)]:
                return ids
            if isinstance(self.tokenizer, Tokenizer):
                return [self.tokenizer.end_id]
            return self.tokenizer.encode("\n")
        except ValueError as error:
            raise Refused(400, str(error), "prompt") from error

    def check(self, asked: Asked, prompts: Sequence[Sequence[int]]) -> None:
        """Refuse what cannot be read, and stream options without a stream."""
        self.check_prompts(asked.model, prompts)
        if asked.stream_options and not asked.stream:
            raise Refused(400, "this is no stream", "stream_options")

    def check_count(self, asked: Asked, prompts: int) -> None:
        """Refuse too many texts, before the first of them is encoded."""
        texts, most = prompts * asked.n, self.limits.texts
        if not 0 < texts <= most:
            raise Refused(400, f"{texts} texts; ask for 1 to {most}", "n")

    def check_prompts(
        self, name: str, prompts: Sequence[Sequence[int]]
    ) -> None:
        """Refuse an unknown model, and prompts that it cannot read."""
        if name != self.name:
            known = f"there is no model {name!r}, only {self.name!r}"
            raise Refused(404, known, "model", "model_not_found")
        config = self.model.config
        for prompt in prompts:
            if not 0 < len(prompt) <= config.context:
                raise Refused(
                    400,
                    f"a prompt of {len(prompt)} tokens; this model reads from "
                    f"1 to {config.context}",
                    "prompt",
                    "context_length_exceeded",
                )
            if not 0 <= min(prompt) <= max(prompt) < config.vocab_size:
                raise Refused(400, "there is no such token", "prompt")

    def choices(
        self,
        asked: Asked,
        prompts: Sequence[list[int]],
        new_tokens: int,
        end: str,
        **more: Any,
    ) -> list[Choice]:
        """The texts to be written, n for each prompt, each with its seed.

        `end` is the special token that ends them.
        """
        self.check(asked, prompts)
        most = self.limits.new_tokens
        if new_tokens > most:
            said = f"{new_tokens} new tokens; ask for {most} at most"
            raise Refused(400, said, "max_tokens")
        seed = random.getrandbits(48) if asked.seed is None else asked.seed
        wanted = Request(
            max(1, new_tokens),
            SamplingConfig(
                asked.temperature,
                top_p=asked.top_p if asked.top_p < 1 else None,  # all of it
            ),
            stop_id=special_tokens(self.tokenizer).get(end),
        )
        return [
            Choice(
                number,
                prompts[number // asked.n],
                replace(wanted, seed=seed + number),
                self.tokenizer,
                asked.stops,
                **more,
            )
            for number in range(len(prompts) * asked.n)
        ]

    def check_room(self, texts: int) -> None:
        """Refuse more texts than there is room for, and a failed engine."""
        waiting = self.texts
        if self.worker.failed:
            raise Refused(503, "the engine has failed; the log says why")
        if waiting + texts > self.limits.waiting:
            raise Refused(
                429,
                f"{waiting} texts are read or written; try again later",
                code="queue_full",
                headers={"Retry-After": "1"},
            )

    def open(self, choices: Sequence[Choice]) -> Job:
        """Begin the work, if there is room for it."""
        self.check_room(len(choices))
        return Job(self.worker, choices, self.limits.seconds, self.metrics)

    @contextmanager
    def reading(self, texts: int) -> Iterator[None]:
        """Texts that are read beside the engine count like the others."""
        self.check_room(texts)
        self.read_aside += texts
        try:
            yield
        finally:
            self.read_aside -= texts

    async def answer(
        self,
        request: fastapi.Request,
        asked: Asked,
        style: Style,
        choices: Sequence[Choice],
        first: Sequence[Piece] = (),
    ) -> Response:
        """Open the work, and answer with it, at once or in a stream."""
        id = f"{self.begun:x}-{next(self.numbers)}"
        answer = Answer(asked, style, id, choices, first)
        over = bool(first) and first[0].finish is not None
        job = self.open([] if over else choices)
        if asked.stream:
            return EventStream(answer.events(job), job)
        try:
            return JSONResponse(await unless_gone(request, answer.whole(job)))
        finally:
            job.close()

    async def completions(
        self, asked: CompletionRequest, request: fastapi.Request
    ) -> Response:
        """POST /v1/completions: texts are continued."""
        given: Any = asked.prompt
        if isinstance(given, str) or (given and isinstance(given[0], int)):
            given = [given]  # one text, or one text's tokens
        self.check_count(asked, len(given))
        prompts = [
            await asyncio.to_thread(self.encode, p) if isinstance(p, str) else p
            for p in given
        ]
        count, top = asked.max_tokens, asked.logprobs
        choices = self.choices(asked, prompts, count, END, top=top)
        if not count and not asked.echo:
            raise Refused(400, "no token, and no echo", "max_tokens")
        first = []
        if asked.echo:
            with self.reading(len(choices)):
                first = await self.echoes(request, asked, choices)
        return await self.answer(request, asked, COMPLETION, choices, first)

    async def echoes(
        self,
        request: fastapi.Request,
        asked: CompletionRequest,
        choices: Sequence[Choice],
    ) -> list[Piece]:
        """The prompts, each read once, as first pieces of their answers."""
        finish = None if asked.max_tokens else "length"
        begun, first = time.monotonic(), list[Piece]()
        for choice in choices:
            if choice.number % asked.n == 0:
                if await request.is_disconnected():
                    raise Refused(499, "the client has gone")
                if time.monotonic() - begun > self.limits.seconds:
                    raise Refused(504, "time is up; ask for fewer texts")
                text, scores = await aside(self.echo, choice)
            choice.start = len(text)
            first.append(Piece(choice.number, text, scores, finish))
        return first

    def echo(self, choice: Choice) -> tuple[str, tuple[Score, ...]]:
        """A prompt as it was said, with its tokens' scores if asked."""
        words = [token for token in choice.prompt if token not in choice.ends]
        text = self.tokenizer.decode(words)
        if choice.top is None:
            return text, ()
        scores = prompt_scores(
            self.model, self.tokenizer, choice.prompt, choice.top
        )
        return text, tuple(scores)

    async def chat(
        self, asked: ChatRequest, request: fastapi.Request
    ) -> Response:
        """POST /v1/chat/completions: the last request is answered."""
        tokenizer, layout = self.tokenizer, self.layout
        if layout is None or not isinstance(tokenizer, Tokenizer):
            raise Refused(
                400,
                f"{self.name} was never taught to answer; let it go on with a "
                "text, at /v1/completions",
                code="not_instructed",
            )
        self.check_count(asked, 1)
        prompt = await asyncio.to_thread(
            self.encode_turns, asked, tokenizer, layout
        )
        room = self.model.config.context - len(prompt)
        room = max(1, min(room, self.limits.new_tokens))
        count = asked.max_completion_tokens or asked.max_tokens or room
        end = layout.marks(tokenizer)[-1]
        choices = self.choices(asked, [prompt], count, end, lead=" ")
        return await self.answer(request, asked, CHAT, choices)

    def encode_turns(
        self, asked: ChatRequest, tokenizer: Tokenizer, layout: Layout
    ) -> list[int]:
        """The tokens of a dialogue, up to the mark to answer after."""
        before, last = check_turns(asked.messages)
        lead = " " if layout is OURS else ""  # as in the town's texts
        turns = [
            Turn(self.as_trained(said), lead + self.as_trained(answer))
            for said, answer in before
        ]
        try:
            found = encode_dialogue(
                tokenizer, layout, turns, self.as_trained(last)
            )
        except ValueError as error:
            raise Refused(400, str(error), "messages") from error
        return [*self.begin, *found]

    async def attention(self, asked: AttentionRequest) -> dict[str, Any]:
        """POST /v1/attention: where the last token of a text looks.

        OpenAI's protocol has no such thing. The answer names the T tokens,
        and has T weights for each layer, averaged over its heads.
        """
        prompt = await asyncio.to_thread(self.encode, asked.prompt)
        most = self.limits.looked
        self.check_prompts(asked.model, [prompt])
        if len(prompt) > most:
            said = f"a text of {len(prompt)} tokens; ask for {most} at most"
            raise Refused(400, said, "prompt")
        device = next(self.model.parameters()).device
        ids = torch.tensor([prompt], device=device)  # (1, T)
        with self.reading(1):
            maps = await aside(attention_maps, self.model, ids)
        rows = [layer[0, :, -1].mean(dim=0).tolist() for layer in maps]
        names = [token_name(self.tokenizer, id) for id in prompt]
        return {"object": "attention", "tokens": names, "layers": rows}

    async def models(self) -> dict[str, Any]:
        """GET /v1/models: the one there is, and whether it answers."""
        model = {
            "id": self.name,
            "object": "model",
            "created": self.begun // 10**9,
            "owned_by": "scratchlm",
            "instructed": self.layout is not None,
        }
        return {"object": "list", "data": [model]}

    async def health(self) -> Response:
        """GET /health: whether the engine can work."""
        if self.worker.failed:
            return JSONResponse({"status": "failed"}, 503)
        return JSONResponse({"status": "ok"})

    async def show_metrics(self) -> Response:
        """GET /metrics: counts, in the form that Prometheus reads."""
        page = generate_latest(self.metrics.registry)
        return Response(page, headers={"Content-Type": CONTENT_TYPE_LATEST})


# --- around it ---------------------------------------------------------------

SAFE = {
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


class Envelope:
    """Around every request: a limit on its body, a count, safe headers."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        """`app` is what is inside."""
        self.app, self.service = app, service

    async def __call__(
        self, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Pass on what comes and goes, and look at it on the way."""
        size, begun, service = 0, False, self.service

        async def limited() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > service.limits.body:
                most = f"more than {service.limits.body:,} bytes"
                raise Refused(413, most, code="request_too_large")
            return message

        async def counted(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                headers = MutableHeaders(scope=message)
                headers.update(SAFE)
                path = scope["path"] if scope["path"] in PATHS else "other"
                service.metrics.requests.labels(path, message["status"]).inc()
            await send(message)

        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        try:
            await self.app(scope, limited, counted)
        except Exception as error:
            if not begun:  # an error of ours, which goes to the log
                said = await as_error(fastapi.Request(scope), error)
                await said(scope, limited, counted)
            raise


async def read_page() -> Response:
    """GET /: the page on which to talk to the model.

    Under the policy that comes with it, a browser runs only the page's own
    script and style, known by hash, and lets it speak to this server only.
    """
    text = Path(__file__).with_suffix(".html").read_text(encoding="utf-8")
    policy = "default-src 'none'; connect-src 'self'; base-uri 'none'"
    for tag in ("script", "style"):
        for part in re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL):
            digest = base64.b64encode(hashlib.sha256(part.encode()).digest())
            policy += f"; {tag}-src 'sha256-{digest.decode()}'"
    return HTMLResponse(text, headers={"Content-Security-Policy": policy})


LOCAL = ("localhost", "127.0.0.1", "::1", "[::1]")

PATHS = {"/v1/completions", "/v1/chat/completions", "/v1/models"}
PATHS |= {"/v1/attention", "/metrics", "/health", "/"}


def make_app(
    service: Service,
    hosts: Sequence[str] = LOCAL,
    origins: Sequence[str] = (),
) -> fastapi.FastAPI:
    """The service as an application.

    A request must name one of `hosts`; that way no web page can reach a
    server on this machine by a name of its own. Pages of `origins` may ask.
    """

    @asynccontextmanager
    async def working(app: fastapi.FastAPI) -> AsyncIterator[None]:
        service.worker.start()
        yield
        await asyncio.to_thread(service.worker.close)

    app = fastapi.FastAPI(lifespan=working, openapi_url=None)
    key = [fastapi.Depends(service.authorize)]
    add = partial(app.add_api_route, dependencies=key)
    add("/v1/completions", service.completions, methods=["POST"])
    add("/v1/chat/completions", service.chat, methods=["POST"])
    add("/v1/attention", service.attention, methods=["POST"])
    add("/v1/models", service.models)
    add("/metrics", service.show_metrics)
    app.add_api_route("/health", service.health)
    app.add_api_route("/", read_page)
    for kind in (RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, as_error)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=hosts)
    if origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
        )
    app.add_middleware(Envelope, service=service)
    return app


# --- a socket ----------------------------------------------------------------


def listen(host: str, port: int) -> socket.socket:
    """A socket that takes requests; for port 0, at a free port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family)


def make_server(
    app: ASGIApp, logged: str = "warning", seconds: float = 10.0
) -> uvicorn.Server:
    """The server that speaks HTTP; it tells neither its name nor any prompt.

    Told to end, it gives requests `seconds` to finish. That readers hang up
    is no news for the log.
    """
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    config = uvicorn.Config(
        app,
        log_level=logged,
        server_header=False,
        timeout_graceful_shutdown=math.ceil(seconds),
    )
    return uvicorn.Server(config)


@contextmanager
def served(app: ASGIApp, port: int = 0) -> Iterator[str]:
    """Inside, the app answers at this address, on this machine."""
    door, server = listen("127.0.0.1", port), make_server(app)
    thread = threading.Thread(target=server.run, args=([door],), daemon=True)
    thread.start()
    try:
        host, found = door.getsockname()
        yield f"http://{host}:{found}"
    finally:
        server.should_exit = True
        thread.join()
