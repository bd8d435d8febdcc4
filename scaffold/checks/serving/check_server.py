"""What a server must send, must hold back, and must refuse."""

import asyncio
import json
import threading
import time
from typing import Any

import torch

from scratchlm.generation.batch import Request, Written
from scratchlm.model.gpt import GPT, gpt2_config
from scratchlm.serving import server
from scratchlm.text.tokenizer import END, Tokenizer
from scratchlm.tuning.instruct import STOP, with_marks

from ..expect import equal, true
from ..inputs import scattered

BYTES = with_marks(Tokenizer([], {END: 256}))  # 260 tokens
EVEN = torch.zeros(260).log_softmax(0)
LIMIT = 10  # seconds that a request may take here


class Script:
    """An engine that writes the same tokens to everybody, one a step."""

    def __init__(self, tokens: list[int]) -> None:
        """Around and around, until a text is long enough."""
        self.tokens, self.rows = tokens, dict[int, list[Any]]()
        self.asked, self.cancelled = list[Request](), list[int]()
        self.may_write = threading.Event()

    @property
    def busy(self) -> bool:
        """Whether anybody waits for text."""
        return bool(self.rows)

    def add(self, tokens: list[int], request: Request) -> int:
        """Note a request; its number."""
        self.asked.append(request)
        self.rows[len(self.asked)] = [0, request]
        return len(self.asked)

    def cancel(self, number: int) -> None:
        """Note who has left."""
        self.cancelled.append(number)

    def step(self) -> list[Written]:
        """One token for each."""
        if not self.may_write.wait(0.01):
            return []
        time.sleep(0.001)  # an engine needs some time
        for number in self.cancelled:
            self.rows.pop(number, None)
        written = []
        for number, row in list(self.rows.items()):
            token = self.tokens[row[0] % len(self.tokens)]
            row[0] += 1
            finish = "length" if row[0] == row[1].new_tokens else None
            if finish:
                del self.rows[number]
            written.append(Written(number, token, EVEN, finish))
        return written


def make_service(text: str = "town ", **limits: Any) -> Any:
    """A service whose engine writes this text, and asks for a key."""
    model = scattered(
        GPT(gpt2_config(260, 16, layers=1, heads=2, channels=8)), 0.1
    )
    tokens = [*text.encode(), BYTES.special_tokens[STOP]]
    engine: Any = Script(tokens)
    return server.Service(
        model, BYTES, "town", "sesame", server.Limits(**limits), engine
    )


class Caller:
    """What an app gets from the network, and what it sends."""

    def __init__(self, service: Any, path: str, asked: Any, **other: str):
        """One request, as the server's library hands it on."""
        body = asked if isinstance(asked, bytes) else json.dumps(asked).encode()
        self.service, self.body, self.leaving = service, body, asyncio.Event()
        headers = {"host": "localhost", "content-type": "application/json"}
        headers |= {"authorization": "Bearer sesame"} | other
        self.scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": b"",
            "headers": [(k.encode(), v.encode()) for k, v in headers.items()],
        }
        self.leaves = False  # at the first word
        self.status, self.said = 0, b""
        self.headers: dict[str, str] = {}

    async def receive(self) -> dict[str, Any]:
        """The body, and then nothing until the caller leaves."""
        if self.body:
            body, self.body = self.body, b""
            return {"type": "http.request", "body": body, "more_body": False}
        await self.leaving.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        """Keep what is said."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {
                k.decode(): v.decode() for k, v in message["headers"]
            }
        self.said += message.get("body", b"")
        if self.leaves and self.said:
            self.leaving.set()

    async def call(self) -> None:
        """Ask, hear the answer, and close the service."""
        app, worker = server.make_app(self.service), self.service.worker
        worker.start()
        try:
            async with asyncio.timeout(LIMIT):
                await app(self.scope, self.receive, self.send)
        finally:
            worker.close()


def ask(
    service: Any,
    asked: Any,
    path: str = "/v1/completions",
    leaves: bool = False,
    writing: bool = True,
    **headers: str,
) -> Caller:
    """What comes of a request, without a socket."""
    caller = Caller(service, path, asked, **headers)
    caller.leaves = leaves
    if writing:
        service.worker.engine.may_write.set()
    asyncio.run(caller.call())
    return caller


def events(caller: Caller) -> list[dict[str, Any]]:
    """The parts of a stream; the last line must say that it is over."""
    lines = caller.said.decode().split("\n\n")
    equal(
        lines[-2:],
        ["data: [DONE]", ""],
        "the end of a stream",
        hint="a client waits until data: [DONE]",
    )
    return [json.loads(line[len("data: ") :]) for line in lines[:-2]]


def pushed(text: str, stops: list[str], size: int) -> str:
    """What is sent of a text that comes in pieces of so many bytes."""
    stream, data, sent = server.TextStream(stops), text.encode(), ""
    for at in range(0, len(data), size):
        sent += stream.push(data[at : at + size], at + size >= len(data))
        if stream.stopped:
            break
    return sent


def check_characters() -> None:
    """A character of three bytes is sent when its last byte is there."""
    stream = server.TextStream()
    equal(
        [stream.push(bytes([byte])) for byte in "a€".encode()],
        ["a", "", "", "€"],
        "what is sent for the bytes of a and of the euro sign",
        hint="keep one decoder for the whole text; it remembers half of a "
        "character",
    )


def check_stop_strings() -> None:
    """However a text is cut, nothing of a stop string is sent."""
    for size in (1, 2, 3, 5, 50):
        equal(
            pushed("tea and to the end", [" to the"], size),
            "tea and",
            f"a text up to its stop string, {size} bytes at a time",
            hint="hold back what may be the beginning of a stop string",
        )
        equal(
            pushed("tea and to", [" to the"], size),
            "tea and to",
            f"a text that ends in half a stop string, {size} bytes at a time",
            hint="at the end, what was held back is no stop string",
        )
        equal(
            pushed("abcd", ["abcd", "bc"], size),
            "a",
            f"of abcd and bc the one that is complete first, {size} at a time",
            hint="compare where they end",
        )


def check_scores() -> None:
    """The score of a token goes out with its text, or not at all."""
    choice = server.Choice(0, [1], Request(), BYTES, ["!!"], top=1)
    pieces = [choice.take([Written(0, byte, EVEN, None)]) for byte in b"a!b!!"]
    equal(
        [[score.token for score in piece.scores] for piece in pieces],
        [["a"], [], ["!", "b"], [], []],
        "the scores that go out with each token of a!b!!, where !! stops",
        hint="what is held back as text is held back as a score",
    )


def check_a_stream() -> None:
    """Parts with one id, an end of its own, and the usage last."""
    caller = ask(
        make_service("ab"),
        {
            "model": "town",
            "prompt": "x",
            "max_tokens": 2,
            "stream": True,
            "stream_options": {"include_usage": True},
        },
    )
    equal(caller.status, 200, "the status of a stream")
    parts = events(caller)
    equal(len({part["id"] for part in parts}), 1, "different ids in a stream")
    *texts, last, usage = parts
    said = "".join(part["choices"][0]["text"] for part in texts)
    equal(said, "ab", "the text of all parts")
    ends = {part["choices"][0]["finish_reason"] for part in texts}
    ends = ends - {None} or {None}  # the same, however many parts there are
    equal(ends, {None}, "how it ended, said together with text")
    choice = last["choices"][0]
    equal(
        (choice["text"], choice["finish_reason"]),
        ("", "length"),
        "the last part",
    )
    equal(usage["choices"], [], "the choices beside the usage")
    equal(usage["usage"]["completion_tokens"], 2, "tokens written")


def check_a_dialogue() -> None:
    """The first part says who speaks; the space in front is not sent."""
    caller = ask(
        make_service(" Six."),
        {
            "model": "town",
            "messages": [{"role": "user", "content": "Why?"}],
            "stream": True,
        },
        "/v1/chat/completions",
    )
    deltas = [part["choices"][0]["delta"] for part in events(caller)]
    equal(deltas[0].get("role"), "assistant", "who speaks in the first part")
    said = "".join(delta.get("content", "") for delta in deltas)
    equal(
        said,
        "Six.",
        "the answer",
        hint="in the template an answer has a space in front",
    )


def check_chance() -> None:
    """Texts of one request have seeds of their own."""
    service = make_service()
    ask(service, {"model": "town", "prompt": "x", "n": 3, "seed": 7})
    seeds = [request.seed for request in service.worker.engine.asked]
    equal(len(set(seeds)), 3, "different seeds for n = 3")
    equal(seeds[0], 7, "the first seed")


def check_who_leaves() -> None:
    """A reader who hangs up is not written for any more."""
    service = make_service("town " * 300)
    asked = {"model": "town", "prompt": "x", "max_tokens": 1000}
    ask(service, asked | {"stream": True}, leaves=True)
    equal(
        service.worker.engine.cancelled,
        [1],
        "texts that the engine was told to drop, when their reader left",
        hint="close the job however the answer ends",
    )
    true(not service.worker.inboxes, "nobody is waited for")


def refused(what: str, status: int, caller: Caller, hint: str = "") -> None:
    """Expect an error, in the form that clients read."""
    equal(caller.status, status, f"the status for {what}", hint)
    true(b'"error"' in caller.said, f"an error object for {what}")


def check_the_door() -> None:
    """Who is not let in, and what is too much."""
    asked: dict[str, Any] = {"model": "town", "prompt": "x"}
    refused(
        "a wrong key",
        401,
        ask(make_service(), asked, authorization="Bearer sesam"),
    )
    refused("an unknown name", 400, ask(make_service(), asked | {"best": 1}))
    refused(
        "a body of 200 bytes where 100 are allowed",
        413,
        ask(make_service(body=100), asked | {"prompt": "x" * 200}),
        hint="count the bytes as they come",
    )
    caller = ask(make_service(waiting=2), asked | {"n": 3})
    refused("a third text where two may wait", 429, caller)
    true("retry-after" in caller.headers, "the answer says when to come back")
    equal(
        ask(make_service(), asked, host="evil.example").status,
        400,
        "the status for a name that is not this machine's",
        hint="a page of the web may give a name of its own to 127.0.0.1",
    )
    refused(
        "an engine that is too slow",
        504,
        ask(make_service(seconds=0.05), asked, writing=False),
    )


BUGS = {
    "each token is decoded by itself": (
        "new = self.decoder.decode(data, final)",
        'new = data.decode("utf-8", "replace")',
    ),
    "the first half of a stop string is sent": (
        "keep = 0 if final else unfinished(self.held, self.stops)",
        "keep = 0",
    ),
    "what was held back is forgotten": (
        "keep = 0 if final else unfinished(self.held, self.stops)",
        "keep = unfinished(self.held, self.stops)",
    ),
    "the stop string is sent, too": (
        'ready, self.held = self.held[:at], ""',
        'ready, self.held = self.held, ""',
    ),
    "the stop string that begins first wins": (
        "return min(ends)[1] if ends else None",
        "return min(at for _, at in ends) if ends else None",
    ),
    "scores go out before their text": (
        "for score in self.scores if score.end <= end]",
        "for score in self.scores]",
    ),
    "the end is told together with text": (
        "yield chunk(piece._replace(finish=None))",
        "yield chunk(piece)",
    ),
    "a stream does not say that it is over": (
        'yield "data: [DONE]\\n\\n"',
        'yield ""',
    ),
    "an answer keeps its space": (
        'text, self.lead = text.removeprefix(self.lead), ""',
        "pass",
    ),
    "all texts have one seed": (
        "replace(wanted, seed=seed + number)",
        "replace(wanted, seed=seed)",
    ),
    "whoever leaves is written for": (
        "self.worker.let_go(self.open.popitem()[0])",
        "self.open.popitem()",
    ),
    "any key will do": (
        'wanted = f"Bearer {self.key}"',
        "wanted = shown",
    ),
    "a body may have any size": (
        "if size > service.limits.body:",
        "if False:",
    ),
    "the queue has no end": (
        "if waiting + texts > self.limits.waiting:",
        "if False:",
    ),
    "any name of this machine will do": (
        "allowed_hosts=hosts",
        'allowed_hosts=["*"]',
    ),
}
