"""A service over a real socket, asked by the official client and by hand."""

import asyncio
import copy
import http.client
import json
import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import openai
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types import Completion
from torch import nn

from scratchlm.generation.batch import Engine, Request, Written, write_all
from scratchlm.generation.sampling import SamplingConfig
from scratchlm.generation.speed import fast_model
from scratchlm.model.gpt import GPT, gpt2_config
from scratchlm.model.heads import attention_maps
from scratchlm.serving import server
from scratchlm.serving.protocol import joined
from scratchlm.serving.server import (
    Choice,
    Job,
    Limits,
    Service,
    TextStream,
    first_stop,
    listen,
    make_app,
    served,
    unfinished,
)
from scratchlm.text.characters import CharTokenizer
from scratchlm.text.tokenizer import END, Tokenizer
from scratchlm.tuning.instruct import STOP, encode_request, with_marks

BYTES = with_marks(Tokenizer([], {END: 256}))  # 260 tokens
MARK = BYTES.special_tokens[STOP]
GREEDY = SamplingConfig(temperature=0)
PATIENCE = 60  # seconds, on a busy machine
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


def small_model() -> GPT:
    """A model that writes bytes by chance, but always the same ones."""
    torch.manual_seed(1)
    model = GPT(gpt2_config(260, 64, layers=1, heads=2, channels=16)).eval()
    for parameter in model.parameters():
        if parameter.ndim == 2:
            nn.init.normal_(parameter, std=0.3)
    return model


MODEL = small_model()


class Script:
    """An engine that writes what it is told, to everybody, token by token."""

    def __init__(self, tokens: bytes | list[int], gate: bool = False) -> None:
        self.tokens, self.rows = list(tokens), dict[int, list[Any]]()
        self.cancelled, self.asked = list[int](), list[Request]()
        self.gate = threading.Event()
        if not gate:
            self.gate.set()

    @property
    def busy(self) -> bool:
        return bool(self.rows)

    def add(self, tokens: list[int], request: Request) -> int:
        self.asked.append(request)
        number = len(self.asked)
        self.rows[number] = [0, request]
        return number

    def cancel(self, number: int) -> None:
        self.cancelled.append(number)

    def step(self) -> list[Written]:
        if self.tokens == [-1]:
            raise RuntimeError("planted")
        if not self.gate.wait(0.01):
            return []
        for number in self.cancelled:
            self.rows.pop(number, None)
        written = []
        for number, row in list(self.rows.items()):
            token = self.tokens[row[0] % len(self.tokens)]
            row[0] += 1
            finish = "length" if row[0] == row[1].new_tokens else None
            if finish:
                del self.rows[number]
            logprobs = torch.zeros(260).log_softmax(0)
            written.append(Written(number, token, logprobs, finish))
        return written


class Town:
    """A service at its address, with two ways to ask it."""

    def __init__(self, service: Service, address: str, key: str) -> None:
        self.service, self.address = service, address
        self.host = address.removeprefix("http://")
        self.client = openai.OpenAI(
            base_url=f"{address}/v1",
            api_key=key,
            max_retries=0,
            timeout=PATIENCE,
            _strict_response_validation=True,
        )
        self.key = key

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | str | None = None,
        **headers: str,
    ) -> tuple[int, dict[str, str], str]:
        """Status, headers and body of an answer, as they are sent."""
        line = http.client.HTTPConnection(self.host, timeout=PATIENCE)
        sent = {"Content-Type": "application/json"}
        sent["Authorization"] = f"Bearer {self.key}"
        sent |= {name.replace("_", "-"): v for name, v in headers.items()}
        line.request(method, path, body, sent)
        got = line.getresponse()
        said = got.read().decode()
        line.close()
        return got.status, {k.lower(): v for k, v in got.getheaders()}, said

    def post(self, path: str = "/v1/completions", **asked: Any) -> Any:
        """Ask for something; the status, and the JSON of the answer."""
        body = json.dumps({"model": "town"} | asked)
        status, _, said = self.ask("POST", path, body)
        return status, json.loads(said)


@contextmanager
def town(
    engine: Any = None,
    tokenizer: Any = BYTES,
    key: str | None = "sesame",
    origins: tuple[str, ...] = (),
    **limits: Any,
) -> Iterator[Town]:
    """A town's model, served meanwhile."""
    service = Service(MODEL, tokenizer, "town", key, Limits(**limits), engine)
    with served(make_app(service, origins=origins)) as address:
        yield Town(service, address, key or "any")


@pytest.fixture(scope="module")
def real() -> Iterator[Town]:
    """The small model behind its engine."""
    with town() as found:
        yield found


def eventually(true: Callable[[], bool]) -> None:
    """Wait until something is so, but not for ever."""
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, "it never came to be"
        time.sleep(0.01)


# --- text that may be sent ---------------------------------------------------


def test_stops() -> None:
    assert first_stop("a bird in a tree", ["in", "bird"]) == 2
    assert first_stop("abcd", ["abcd", "bc"]) == 1  # complete first
    assert first_stop("abc", ["c", "bc"]) == 1  # the longer one
    assert first_stop("abc", []) is None
    assert unfinished("abab", ["abac"]) == 2
    assert unfinished("ab", ["x"]) == 0
    assert unfinished("anything", []) == 0


def by_hand(data: bytes, stops: list[str]) -> str:
    """The text of bytes up to a stop, looked for after each character."""
    text = ""
    for character in data.decode("utf-8", "replace"):
        text += character
        found = [stop for stop in stops if text.endswith(stop)]
        if found:
            return text.removesuffix(max(found, key=len))
    return text


@settings(max_examples=60, deadline=None)
@given(
    st.text("abé😀", max_size=12),
    st.lists(st.text("abé😀", min_size=1, max_size=3), max_size=3),
    st.lists(st.integers(1, 3), min_size=1),
    st.binary(max_size=2),
)
def test_wherever_tokens_are_cut_the_text_is_the_same(
    text: str, stops: list[str], sizes: list[int], rest: bytes
) -> None:
    data = text.encode() + rest
    stream, sent, at = TextStream(stops), "", 0
    while not stream.stopped:
        size = sizes[at % len(sizes)]
        part, left = data[at : at + size], data[at + size :]
        ready = stream.push(part, final=not left)
        sent, at = sent + ready, at + size
        if not left:
            break
    assert sent == by_hand(data, stops)
    assert "\ufffd" not in sent or rest


def take(choice: Choice, data: bytes, last: str | None) -> list[Any]:
    """What is sent for each of some bytes; `last` is how they end."""
    logprobs = torch.zeros(260).log_softmax(0)
    ends = [None] * (len(data) - 1) + [last]
    return [
        choice.take([Written(0, token, logprobs, end)])
        for token, end in zip(data, ends)
    ]


def test_scores_go_with_their_text() -> None:
    choice = Choice(0, [1], Request(), BYTES, ["yes"], top=1)
    pieces = take(choice, "é yé".encode(), "length")
    assert [piece.text for piece in pieces] == ["", "é", " ", "", "", "yé"]
    assert [len(piece.scores) for piece in pieces] == [0, 2, 1, 0, 0, 3]
    spans = [(s.start, s.end) for piece in pieces for s in piece.scores]
    assert spans == [(0, 1), (0, 1), (1, 2), (2, 3), (3, 4), (3, 4)]


def test_nothing_of_a_stop_is_sent_in_scores_either() -> None:
    choice = Choice(0, [1], Request(), BYTES, ["é!"], top=1)
    pieces = take(choice, "aé!".encode(), None)
    assert [piece.text for piece in pieces] == ["a", "", "", ""]
    assert [s.token for piece in pieces for s in piece.scores] == ["a"]
    assert pieces[-1].finish == "stop"


@settings(max_examples=60, deadline=None)
@given(
    st.text("abé", min_size=1, max_size=12),
    st.lists(st.text("abé", min_size=1, max_size=3), max_size=2),
    st.sampled_from([None, 1]),
)
def test_tokens_that_come_together_say_what_they_say_alone(
    text: str, stops: list[str], top: int | None
) -> None:
    logprobs, data = torch.zeros(260).log_softmax(0), text.encode()
    ends = [None] * (len(data) - 1) + ["length"]
    letter = [Written(0, t, logprobs, end) for t, end in zip(data, ends)]
    one, two = (Choice(3, [1], Request(), BYTES, stops, top=top) for _ in "ab")
    pieces = []
    for written in letter:
        pieces.append(one.take([written]))
        if pieces[-1].finish:
            break
    assert [two.take(letter)] == joined(pieces)
    assert one.tokens == two.tokens


# --- the official client -----------------------------------------------------


def wanted(prompt: str, count: int) -> list[int]:
    """What the engine itself writes."""
    request = Request(count, GREEDY)
    return write_all(Engine(MODEL), [BYTES.encode(prompt)], [request])[0]


def test_a_completion(real: Town) -> None:
    answer = real.client.completions.create(
        model="town", prompt="Mrs Pell", max_tokens=12, temperature=0
    )
    tokens = wanted("Mrs Pell", 12)
    assert answer.choices[0].text == BYTES.decode(tokens)
    assert answer.choices[0].finish_reason == "length"
    assert answer.object == "text_completion"
    assert answer.usage is not None
    assert answer.usage.model_dump(exclude_none=True) == {
        "prompt_tokens": 8,
        "completion_tokens": 12,
        "total_tokens": 20,
    }


def parts_of(found: Town, **asked: Any) -> list[Completion]:
    """The parts of a streamed completion, each held against its type.

    OpenAI's own server says null for an end that has not come, and the type
    of its client does not know that; so this one place is filled in.
    """
    body = json.dumps({"model": "town", "stream": True} | asked)
    status, _, said = found.ask("POST", "/v1/completions", body)
    assert status == 200
    *events, done, end = said.split("\n\n")
    assert (done, end) == ("data: [DONE]", "")
    parts = [json.loads(line.removeprefix("data: ")) for line in events]
    for part in parts:
        typed = copy.deepcopy(part)
        for choice in typed["choices"]:
            choice["finish_reason"] = choice["finish_reason"] or "length"
        Completion.model_validate(typed, strict=True, extra="forbid")
    return [Completion.model_construct(**part) for part in parts]


def test_a_stream_is_the_same_text_in_parts(real: Town) -> None:
    asked: Any = {"prompt": "é", "seed": 5, "max_tokens": 30}
    whole = real.client.completions.create(model="town", **asked)
    told = {"stream_options": {"include_usage": True}}
    parts: list[Any] = parts_of(real, **asked, **told)
    assert len({part.id for part in parts}) == 1
    assert parts[0].id != whole.id
    *texts, last, usage = parts
    said = "".join(part.choices[0].text for part in texts)
    assert said == whole.choices[0].text
    endings = [part.choices[0].finish_reason for part in [*texts, last]]
    assert endings == [None] * len(texts) + ["length"]
    assert last.choices[0].text == ""
    assert usage.choices == []
    assert usage.usage == whole.usage
    assert all(part.usage is None for part in parts[:-1])


def test_the_client_reads_the_stream(real: Town) -> None:
    asked: Any = {"model": "town", "prompt": "a", "seed": 1}
    whole = real.client.completions.create(**asked)
    easy = real.client.with_options()
    easy._strict_response_validation = False
    parts = list(easy.completions.create(**asked, stream=True))
    said = "".join(part.choices[0].text for part in parts)
    assert said == whole.choices[0].text


def test_many_texts_of_one_request(real: Town) -> None:
    answer = real.client.completions.create(
        model="town", prompt=["a", "b"], n=2, max_tokens=5, seed=3
    )
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == 2
    again = real.client.completions.create(
        model="town", prompt=[[98]], max_tokens=5, seed=5
    )
    assert again.choices[0].text == answer.choices[2].text
    parts: list[Any] = parts_of(real, prompt=[97], n=3, max_tokens=5, seed=3)
    texts = ["", "", ""]
    for part in parts:
        for choice in part.choices:
            texts[choice.index] += choice.text
    assert texts[:2] == [choice.text for choice in answer.choices[:2]]


def test_scores(real: Town) -> None:
    asked: Any = {"model": "town", "prompt": "ab", "max_tokens": 6}
    asked |= {"temperature": 0, "logprobs": 3}
    answer = real.client.completions.create(**asked)
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    tokens = wanted("ab", 6)
    text = torch.tensor([[97, 98, *tokens]])
    rows = MODEL(text)[0].log_softmax(-1)
    for i, token in enumerate(tokens):
        expected = rows[i + 1, token].item()
        assert logprobs.token_logprobs is not None
        assert logprobs.token_logprobs[i] == pytest.approx(expected, abs=1e-4)
        assert logprobs.top_logprobs is not None
        assert max(logprobs.top_logprobs[i].values()) == pytest.approx(
            expected, abs=1e-4
        )
    parts: list[Any] = parts_of(real, **asked)
    streamed = [
        name for part in parts for name in part.choices[0].logprobs.tokens
    ]
    assert streamed == logprobs.tokens


def test_echo_scores_a_text_of_somebody_else(real: Town) -> None:
    """As programs ask that evaluate models; the first score is null."""
    asked: dict[str, Any] = {"prompt": "abc", "echo": True, "logprobs": 1}
    asked |= {"max_tokens": 0, "seed": 3}
    status, answer = real.post(**asked)
    assert status == 200
    choice = answer["choices"][0]
    assert (choice["text"], choice["finish_reason"]) == ("abc", "length")
    assert choice["logprobs"]["token_logprobs"][0] is None
    assert choice["logprobs"]["text_offset"] == [0, 1, 2]
    assert answer["usage"]["completion_tokens"] == 0
    plain = real.client.completions.create(
        model="town", prompt="abc", echo=True, max_tokens=4, temperature=0
    )
    assert plain.choices[0].text == "abc" + BYTES.decode(wanted("abc", 4))
    _, more = real.post(**(asked | {"max_tokens": 2}))
    assert more["choices"][0]["logprobs"]["text_offset"][3] == 3


def test_special_tokens_take_no_place_in_an_echo() -> None:
    """A token in front of each prompt, and one among its tokens."""
    engine: Any = Script(b"xy")
    service = Service(MODEL, BYTES, "town", engine=engine, begin=[256])
    with served(make_app(service)) as address:
        found = Town(service, address, "any")
        asked: dict[str, Any] = {"echo": True, "logprobs": 0, "max_tokens": 2}
        for prompt, text, places in (
            ("ab", "abxy", [0, 0, 1, 2, 3]),
            ([97, 256, 98], "abxy", [0, 1, 1, 2, 3]),
            ("", "xy", [0, 0, 1]),
        ):
            _, answer = found.post(prompt=prompt, **asked)
            choice = answer["choices"][0]
            assert choice["text"] == text
            assert choice["logprobs"]["text_offset"] == places


def test_a_prompt_is_scored_once_for_all_its_texts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked, real_scores = list[list[int]](), server.prompt_scores

    def counted(*given: Any) -> Any:
        asked.append(given[2])
        return real_scores(*given)

    monkeypatch.setattr(server, "prompt_scores", counted)
    with town(Script(b"x")) as found:
        status, answer = found.post(
            prompt=["ab", "c"], n=3, echo=True, logprobs=0, max_tokens=1
        )
    assert status == 200
    assert asked == [[97, 98], [99]]
    texts = [choice["text"] for choice in answer["choices"]]
    assert texts == 3 * ["abx"] + 3 * ["cx"]


def test_reading_a_prompt_takes_a_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And no more than a request may last, nor for somebody who has gone."""
    gate, real_echo = threading.Event(), Service.echo

    def slow(self: Service, choice: Choice) -> Any:
        gate.wait(PATIENCE)
        return real_echo(self, choice)

    monkeypatch.setattr(Service, "echo", slow)
    asked: dict[str, Any] = {"echo": True, "logprobs": 0, "max_tokens": 0}
    with town(Script(b"x"), waiting=2, seconds=0.05) as found:
        both = {"prompt": ["a", "b"], **asked}
        first = threading.Thread(target=found.post, kwargs=both)
        first.start()
        eventually(lambda: found.service.texts == 2)
        _, _, counts = found.ask("GET", "/metrics")
        assert "scratchlm_texts 2.0" in counts
        status, answer = found.post(prompt="c", **asked)
        assert (status, answer["error"]["code"]) == (429, "queue_full")
        assert found.post("/v1/attention", prompt="c")[0] == 429
        time.sleep(0.1)
        gate.set()
        first.join()
        eventually(lambda: found.service.texts == 0)
        gate.clear()
        threading.Timer(0.1, gate.set).start()
        assert found.post(**both)[0] == 504


def test_nothing_to_begin_with(real: Town) -> None:
    assert real.service.encode("") == [256]
    letters = Service(MODEL, CharTokenizer("ab\n"), "town")
    assert letters.encode("") == [0]
    with pytest.raises(server.Refused, match="not among"):
        letters.encode("z")


def test_a_prompt_as_an_imported_model_knows_it() -> None:
    """In one form of Unicode, and behind the token before each text."""
    theirs = Service(MODEL, BYTES, "town", begin=[256], normal="NFC")
    assert theirs.encode("e\u0301") == [256, *BYTES.encode("\xe9")]
    assert theirs.encode("") == [256]


def test_who_names_no_length_of_an_answer_gets_what_is_allowed() -> None:
    asked = {"messages": [{"role": "user", "content": "a"}]}
    with town(Script(b"ab"), new_tokens=4) as found:
        status, answer = found.post("/v1/chat/completions", **asked)
        assert status == 200
        assert answer["usage"]["completion_tokens"] == 4


def test_half_a_character_in_a_dialogue_is_refused(real: Town) -> None:
    asked = {"messages": [{"role": "user", "content": "\ud800"}]}
    status, answer = real.post("/v1/chat/completions", **asked)
    assert (status, answer["error"]["param"]) == (400, "messages")


@pytest.mark.always
def test_a_dialogue(real: Town) -> None:
    prompt = encode_request(BYTES, "Who?")
    request = Request(20, GREEDY, stop_id=MARK)
    tokens = write_all(Engine(MODEL), [prompt], [request])[0]
    said = BYTES.decode([t for t in tokens if t < 256]).removeprefix(" ")
    asked: Any = {
        "model": "town",
        "messages": [{"role": "user", "content": "Who?"}],
        "max_completion_tokens": 20,
        "temperature": 0,
    }
    answer = real.client.chat.completions.create(**asked)
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].message.content == said
    parts = list(real.client.chat.completions.create(**asked, stream=True))
    assert parts[0].choices[0].delta.role == "assistant"
    deltas = [part.choices[0].delta for part in parts]
    assert "".join(delta.content or "" for delta in deltas) == said
    assert parts[-1].choices[0].finish_reason == "length"
    assert deltas[-1].content is None
    room = real.client.chat.completions.create(
        model="town", messages=asked["messages"]
    )
    assert room.usage is not None
    assert room.usage.total_tokens <= 64


def test_the_models(real: Town) -> None:
    found = real.client.models.list().data
    assert [model.id for model in found] == ["town"]


# --- on the wire -------------------------------------------------------------


def test_events_as_they_are_sent() -> None:
    """Byte by byte: a character of four tokens, and a stop cut in three."""
    with town(Script("😀ok<end>".encode())) as found:
        asked = {"model": "town", "prompt": "a", "stop": "<end>"}
        body = json.dumps(asked | {"stream": True, "max_tokens": 40})
        status, headers, said = found.ask("POST", "/v1/completions", body)
        assert status == 200
        assert headers["content-type"].startswith("text/event-stream")
        events = said.split("\n\n")
        assert events[-2:] == ["data: [DONE]", ""]
        parts = [json.loads(line[6:]) for line in events[:-2]]
        texts = "".join(part["choices"][0]["text"] for part in parts)
        assert texts == "😀ok"
        assert parts[-1]["choices"][0]["finish_reason"] == "stop"
        assert "<" not in said
        status, answer = found.post(prompt="a", stop=["<end>"], max_tokens=40)
        assert answer["choices"][0]["text"] == "😀ok"
        eventually(lambda: not found.service.worker.engine.busy)


def test_special_tokens_end_a_text_and_are_never_said() -> None:
    with town(Script([104, 105, MARK])) as found:
        _, answer = found.post(prompt="a", max_tokens=40)
        assert answer["choices"][0]["text"] == "hi"
        assert answer["choices"][0]["finish_reason"] == "stop"
        _, chat = found.post(
            "/v1/chat/completions", messages=[{"role": "user", "content": "a"}]
        )
        assert chat["choices"][0]["message"]["content"] == "hi"


REFUSED: dict[str, tuple[dict[str, Any], int, str]] = {
    "unknown": ({"best_of": 2}, 400, "best_of"),
    "range": ({"temperature": 3}, 400, "temperature"),
    "model": ({"model": "city"}, 404, "model"),
    "long": ({"prompt": "a" * 65}, 400, "prompt"),
    "empty": ({"prompt": []}, 400, "n"),
    "no token": ({"prompt": [260]}, 400, "prompt"),
    "no text": ({"prompt": [[]]}, 400, "prompt"),
    "many": ({"n": 17}, 400, "n"),
    "much": ({"max_tokens": 2000}, 400, "max_tokens"),
    "none": ({"max_tokens": 0}, 400, "max_tokens"),
    "no stream": ({"stream_options": {}}, 400, "stream_options"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name: str, real: Town) -> None:
    asked, status, param = REFUSED[name]
    got, answer = real.post(**({"prompt": "a"} | asked))
    assert (got, answer["error"]["param"]) == (status, param)
    assert set(answer["error"]) == {"message", "type", "param", "code"}


def test_where_the_last_token_looks(real: Town) -> None:
    """The same numbers as from the model itself, and the same limits."""
    status, found = real.post("/v1/attention", prompt="Mrs é")
    assert status == 200
    assert found["object"] == "attention"
    names = [*"Mrs ", "bytes:\\xc3", "bytes:\\xa9"]
    assert found["tokens"] == names
    ids = torch.tensor([BYTES.encode("Mrs é")])
    (layer,) = attention_maps(MODEL, ids)
    wanted = layer[0, :, -1].mean(dim=0).tolist()
    assert found["layers"] == [pytest.approx(wanted)]
    assert sum(wanted) == pytest.approx(1)
    for asked, code, param in (
        ({"model": "city", "prompt": "a"}, 404, "model"),
        ({"prompt": "a" * 65}, 400, "prompt"),
        ({"prompt": "a", "n": 2}, 400, "n"),
    ):
        status, answer = real.post("/v1/attention", **asked)
        assert (status, answer["error"]["param"]) == (code, param)
    body = json.dumps({"model": "town", "prompt": "a"})
    wrong = real.ask("POST", "/v1/attention", body, Authorization="Bearer x")
    assert wrong[0] == 401


def test_a_long_look_is_refused() -> None:
    with town(Script(b"a"), looked=4) as found:
        for prompt, wanted in (("abcd", 200), ("abcde", 400)):
            status, answer = found.post("/v1/attention", prompt=prompt)
            assert status == wanted
        assert answer["error"]["param"] == "prompt"


def test_other_errors_have_the_same_form(real: Town) -> None:
    for status, found in {
        404: real.ask("GET", "/v2"),
        405: real.ask("GET", "/v1/completions"),
        400: real.ask("POST", "/v1/completions", "{"),
    }.items():
        assert found[0] == status
        assert json.loads(found[2])["error"]["type"] == "invalid_request_error"
        assert status != 405 or found[1]["allow"] == "POST"
    simple = real.ask(
        "POST", "/v1/completions", "{}", Content_Type="text/plain"
    )
    assert simple[0] == 400  # a form of some other site's page
    assert "Content-Type: application/json" in simple[2]


def test_a_body_that_is_too_large(real: Town) -> None:
    status, _, said = real.ask("POST", "/v1/completions", b" " * (1 << 21))
    assert status == 413
    assert json.loads(said)["error"]["code"] == "request_too_large"


def test_what_can_never_fit_is_not_encoded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Tokenizer, "encode", None)
    monkeypatch.setattr(Tokenizer, "encode_ordinary", None)
    long = "a" * 100_000
    turn = {"role": "user", "content": long}
    with town(Script(b"x")) as found:
        for path, asked in (
            ("/v1/completions", {"prompt": long}),
            ("/v1/chat/completions", {"messages": [turn]}),
            ("/v1/attention", {"prompt": long}),
        ):
            status, answer = found.post(path, **asked)
            assert status == 400
            assert answer["error"]["code"] == "context_length_exceeded"
        status, answer = found.post(prompt=17 * ["a"])
        assert (status, answer["error"]["param"]) == (400, "n")


def test_the_key(real: Town) -> None:
    for path in ("/v1/models", "/metrics"):
        status, headers, said = real.ask("GET", path, Authorization="Bearer no")
        assert (status, headers["www-authenticate"]) == (401, "Bearer")
        assert "sesame" not in said
    assert real.ask("GET", "/health", Authorization="")[0] == 200
    other = "wrong"
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(
            base_url=f"{real.address}/v1", api_key=other, max_retries=0
        ).models.list()
    with town(Script(b"a"), key=None) as found:
        assert found.ask("GET", "/v1/models", Authorization="")[0] == 200


def test_another_name_for_this_machine_is_refused(real: Town) -> None:
    assert real.ask("GET", "/health", Host="evil.example")[0] == 400


def test_other_sites_may_ask_only_if_told(real: Town) -> None:
    origin = "https://notes.example"
    headers = {"Origin": origin, "Access_Control_Request_Method": "POST"}
    assert real.ask("OPTIONS", "/v1/completions", **headers)[0] == 405
    with town(Script(b"a"), origins=(origin,)) as found:
        _, got, _ = found.ask("OPTIONS", "/v1/completions", **headers)
        assert got["access-control-allow-origin"] == origin


def test_headers_of_safety_and_no_name(real: Town) -> None:
    _, headers, _ = real.ask("GET", "/health")
    for name, value in server.SAFE.items():
        assert headers[name] == value
    assert "server" not in headers


def test_metrics_count_and_hold_no_text() -> None:
    with town(Script(b"secret ")) as found:
        found.post(prompt="classified", max_tokens=7)
        found.ask("GET", "/nowhere/at/all")
        _, _, said = found.ask("GET", "/metrics")
    assert 'scratchlm_tokens_total{kind="read"} 10.0' in said
    assert 'scratchlm_tokens_total{kind="written"} 7.0' in said
    assert "scratchlm_seconds_count 1.0" in said
    counted = 'scratchlm_requests_total{path="other",status="404"} 1.0'
    assert counted in said
    assert "scratchlm_texts 0.0" in said
    assert "secret" not in said
    assert "classified" not in said


def test_the_log_holds_no_prompt(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    told = partial(server.make_server, logged="trace")  # all there is
    monkeypatch.setattr(server, "make_server", told)
    with town(Script(b"secret")) as found:
        found.post(prompt="classified")
        found.post(prompt="classified", best_of=2)
    said = "".join(capfd.readouterr())
    assert "POST /v1/completions" in said
    assert "classified" not in said
    assert "secret" not in said


# --- who goes away -----------------------------------------------------------


@pytest.mark.parametrize("stream", [True, False])
def test_whoever_hangs_up_ends_the_work(stream: bool) -> None:
    engine = Script(b"a", gate=not stream)
    with town(engine, new_tokens=1 << 20) as found:
        line = http.client.HTTPConnection(found.host, timeout=PATIENCE)
        asked = {"model": "town", "prompt": "a", "max_tokens": 1 << 20}
        headers = {"Content-Type": "application/json"}
        headers["Authorization"] = "Bearer sesame"
        body = json.dumps(asked | {"stream": stream})
        line.request("POST", "/v1/completions", body, headers)
        if stream:
            answer = line.getresponse()
            answer.read(100)
            answer.close()
        else:
            eventually(lambda: bool(found.service.worker.inboxes))
        line.close()
        eventually(lambda: engine.cancelled == [1])
        eventually(lambda: not found.service.worker.inboxes)


def test_the_queue_has_an_end() -> None:
    engine = Script(b"a", gate=True)
    with town(engine, waiting=2) as found:
        first = threading.Thread(target=found.post, kwargs={"prompt": "a"})
        first.start()
        eventually(lambda: len(found.service.worker.inboxes) == 1)
        body = json.dumps({"model": "town", "prompt": ["a", "b"]})
        status, headers, said = found.ask("POST", "/v1/completions", body)
        assert (status, headers["retry-after"]) == (429, "1")
        assert json.loads(said)["error"]["code"] == "queue_full"
        engine.gate.set()
        first.join()
        assert found.post(prompt=["a", "b"])[0] == 200


class Slow(Script):
    """Steps that last longer than anybody would wait for company."""

    def step(self) -> list[Written]:
        time.sleep(1.5 * server.TOGETHER)
        return super().step()


def test_what_is_written_soon_is_sent_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In ten seconds a script writes all; a slow one, a token in each."""
    count = 8
    for engine, together, least, most in (
        (Script(b"ab"), 10.0, 1, 2),
        (Slow(b"ab"), server.TOGETHER, count, count),
    ):
        monkeypatch.setattr(server, "TOGETHER", together)
        with town(engine) as found:
            easy = found.client.with_options()
            easy._strict_response_validation = False
            parts = easy.completions.create(
                model="town", prompt="x", max_tokens=count, stream=True
            )
            texts = [p.choices[0].text for p in parts if p.choices[0].text]
        assert "".join(texts) == "ab" * (count // 2)
        assert least <= len(texts) <= most


class Paced(Script):
    """Steps that take a while, but less than anybody would wait."""

    def step(self) -> list[Written]:
        time.sleep(0.005)
        return super().step()


def test_the_end_of_a_text_waits_for_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One text is over while another goes on for long."""
    monkeypatch.setattr(server, "TOGETHER", 1e9)
    with town(Paced(b"a")) as found:
        long = {"prompt": "x", "max_tokens": 400}
        other = threading.Thread(target=found.post, kwargs=long)
        other.start()
        eventually(lambda: len(found.service.worker.inboxes) == 1)
        assert found.post(prompt="y", max_tokens=2)[0] == 200
        assert other.is_alive()
        other.join()


def test_a_text_without_numbers_is_an_error_of_its_own() -> None:
    model = copy.deepcopy(MODEL)
    with torch.no_grad():
        model.token.weight[ord("!")] = torch.nan
    model.head.weight = nn.Parameter(MODEL.head.weight.clone())
    service = Service(model, BYTES, "town")
    with served(make_app(service)) as address:
        found = Town(service, address, "any")
        status, answer = found.post(prompt=["a", "b!"])
        assert (status, answer["error"]["type"]) == (500, "server_error")
        assert "no numbers" in answer["error"]["message"]
        # one token: a longer text may come upon "!" by chance
        assert found.post(prompt="a", max_tokens=1)[0] == 200
        assert found.ask("GET", "/health")[0] == 200


def test_time_is_up() -> None:
    with town(Script(b"a", gate=True), seconds=0.05) as found:
        status, answer = found.post(prompt="a")
        assert (status, answer["error"]["type"]) == (504, "server_error")
        stream = found.client.completions.create(
            model="town", prompt="a", stream=True
        )
        with pytest.raises(openai.APIError, match="time is up"):
            list(stream)
        eventually(lambda: not found.service.worker.inboxes)


def test_an_engine_that_fails_is_not_waited_for(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with town(Script([-1])) as found:
        status, answer = found.post(prompt="a")
        assert status == 500
        assert "planted" not in json.dumps(answer)
        assert found.post(prompt="a")[0] == 503
        assert found.ask("GET", "/health")[0] == 503
    assert "planted" in caplog.text


def test_a_reader_who_does_not_read_holds_no_place() -> None:
    """Nobody looks into the inbox, and still the time is up."""
    engine: Any = Script(b"a", gate=True)
    service = Service(MODEL, BYTES, "town", engine=engine)

    async def wait() -> None:
        choice = Choice(0, [97], Request(9), BYTES)
        job = Job(service.worker, [choice], 0.05, service.metrics)
        assert len(service.worker.inboxes) == 1
        await asyncio.sleep(0.2)
        assert not service.worker.inboxes
        with pytest.raises(server.Refused, match="time is up"):
            await anext(job.pieces())
        job.close()

    asyncio.run(wait())
    assert engine.cancelled == [1]


def test_what_comes_behind_a_stop_string_is_dropped() -> None:
    """One text has stopped and another goes on; the engine was ahead."""
    engine: Any = Script(b"a", gate=True)
    service = Service(MODEL, BYTES, "town", engine=engine)
    logprobs = torch.zeros(260).log_softmax(0)

    async def read() -> list[server.Piece]:
        choices = [
            Choice(number, [97], Request(9), BYTES, stops)
            for number, stops in enumerate((["x"], []))
        ]
        job = Job(service.worker, choices, PATIENCE, service.metrics)
        pieces, found = job.pieces(), list[server.Piece]()
        for id, text, sent in ((1, b"bx", 1), (1, b"c", 0), (2, b"d", 1)):
            new = [Written(id, token, logprobs, None) for token in text]
            job.inbox.put_nowait(new)
            found += [await anext(pieces) for _ in range(sent)]
        job.close()
        return found

    first, second = asyncio.run(read())
    assert (first.number, first.text, first.finish) == (0, "b", "stop")
    assert (second.number, second.text, second.finish) == (1, "d", None)
    assert engine.cancelled == [1, 2]


class Counting(Script):
    """An engine that notes with how many threads it would compute."""

    def step(self) -> list[Written]:
        self.threads = torch.get_num_threads()
        return super().step()


def test_the_engine_alone_has_a_pool_of_threads() -> None:
    """Two pools on the same cores would wait for each other."""
    engine: Any = Counting(b"a")
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        service = Service(MODEL, BYTES, "town", engine=engine, threads=3)
        with served(make_app(service)) as address:
            Town(service, address, "any").post(prompt="a")
            assert engine.threads == 3
            assert asyncio.run(server.aside(torch.get_num_threads)) == 1
            Town(service, address, "any").post(prompt="a")
            assert engine.threads == 3
        assert Service(MODEL, BYTES, "town", engine=engine).worker.threads == 2
    finally:
        torch.set_num_threads(before)


def test_an_app_may_be_served_again() -> None:
    service = Service(MODEL, BYTES, "town", limits=Limits(seconds=20))
    app = make_app(service)
    for _ in range(2):
        with served(app) as address:
            found = Town(service, address, "any")
            assert found.post(prompt="a", max_tokens=2)[0] == 200


def test_what_the_engine_refuses_is_refused() -> None:
    engine = Engine(MODEL, blocks=2, block_size=4)
    with town(engine) as found:
        status, answer = found.post(prompt=["a", "a" * 20], max_tokens=4)
        assert status == 400
        assert "blocks" in answer["error"]["message"]
        assert not found.service.worker.inboxes


def test_a_model_that_was_never_taught_to_answer() -> None:
    with town(Script(b"a"), Tokenizer([], {END: 256})) as found:
        status, answer = found.post(
            "/v1/chat/completions", messages=[{"role": "user", "content": "a"}]
        )
        assert (status, answer["error"]["code"]) == (400, "not_instructed")


def test_a_dialogue_in_the_layout_of_another_model() -> None:
    """What was typed is never a mark; the answer ends at their mark."""
    marks = {"<|im_start|>": 257, "<|im_end|>": 258}
    theirs = Tokenizer([], {END: 256, **marks})
    model = GPT(gpt2_config(259, 64, layers=1, heads=2, channels=16)).eval()
    engine: Any = Script([*b"ok", 258, *b"!"])
    service = Service(
        model, theirs, "town", engine=engine, begin=[256], instructed=True
    )
    asked = {"messages": [{"role": "user", "content": "a<|im_end|>"}]}
    with served(make_app(service)) as address:
        found = Town(service, address, "any")
        assert found.client.models.list().data[0].model_dump()["instructed"]
        status, answer = found.post("/v1/chat/completions", **asked)
    assert status == 200
    assert answer["choices"][0]["message"]["content"] == "ok"
    assert answer["choices"][0]["finish_reason"] == "stop"
    wanted = [256, 257, *b"user\na<|im_end|>", 258, *b"\n"]
    wanted += [257, *b"assistant\n"]
    assert answer["usage"]["prompt_tokens"] == len(wanted)
    assert engine.asked[0].stop_id == 258
    plain = Service(model, theirs, "town", engine=engine)
    assert plain.layout is None


def test_a_mistake_of_ours_is_not_explained(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def broken(self: Service, text: str) -> list[int]:
        raise RuntimeError("planted")

    monkeypatch.setattr(Service, "encode", broken)
    with town(Script(b"a")) as found:
        status, answer = found.post(prompt="a")
        assert (status, answer["error"]["type"]) == (500, "server_error")
        assert "planted" not in json.dumps(answer)
        body = json.dumps({"model": "town", "prompt": "a"})
        _, headers, _ = found.ask("POST", "/v1/completions", body)
        assert server.SAFE.items() <= headers.items()
        _, _, counts = found.ask("GET", "/metrics")
        assert 'path="/v1/completions",status="500"} 2.0' in counts
    assert "planted" in capfd.readouterr().err


# --- the page and the socket -------------------------------------------------


def test_the_page_and_its_policy(real: Town) -> None:
    status, headers, said = real.ask("GET", "/", Authorization="")
    assert status == 200
    policy = headers["content-security-policy"]
    assert policy.count("'sha256-") == 2
    assert "unsafe" not in policy
    assert "//" not in said.split("<script>")[0].replace("<!-- //", "")


def test_a_port_of_its_own() -> None:
    with listen("::1", 0) as door, listen("127.0.0.1", 0) as other:
        assert door.getsockname()[1] != other.getsockname()[1]
        with pytest.raises(OSError, match="in use"):
            listen("127.0.0.1", other.getsockname()[1])


def test_work_in_flight_is_finished_at_the_end() -> None:
    engine = Script(b"a", gate=True)
    answers: list[Any] = []
    with town(engine) as found:
        asking = threading.Thread(
            target=lambda: answers.append(found.post(prompt="a"))
        )
        asking.start()
        eventually(lambda: bool(found.service.worker.inboxes))
        threading.Timer(0.2, engine.gate.set).start()
    asking.join()
    assert answers[0][0] == 200


# --- as fast as without a server ---------------------------------------------


def fast_letters() -> tuple[GPT, Tokenizer]:
    """A model of the book's form that never writes the end."""
    torch.manual_seed(0)
    model = GPT(replace(fast_model(512), vocab_size=257)).eval()
    with torch.no_grad():
        model.head.weight[256] = 0
    return model, Tokenizer([], {END: 256})


def read_streams(pipe: Any) -> None:
    """In a process of its own: all texts at once, alone and as streams.

    Says with how many threads torch computes, is told the address and what
    to ask for, and answers with the ratio of the seconds.
    """

    def read(body: str) -> None:
        line = http.client.HTTPConnection(host, timeout=600)
        headers = {"Content-Type": "application/json", "Connection": "close"}
        line.request("POST", "/v1/completions", body, headers)
        found = b""
        while part := line.sock.recv(1 << 16):  # the cores are the engine's
            found += part
        line.close()
        assert found.startswith(b"HTTP/1.1 200")
        assert found.endswith(b"[DONE]\n\n\r\n0\r\n\r\n")

    model, tokenizer = fast_letters()
    pipe.send(torch.get_num_threads())
    host, prompt, count = pipe.recv()
    asked = {"model": "town", "prompt": prompt, "max_tokens": count}
    bodies = [
        json.dumps(asked | {"seed": i, "stream": True}) for i in range(16)
    ]
    requests = [
        Request(count, SamplingConfig(), i, tokenizer.end_id) for i in range(16)
    ]
    for _ in iter(pipe.recv, None):
        begun = time.perf_counter()
        write_all(Engine(model, 512), [prompt] * 16, requests)
        alone = time.perf_counter()
        readers = [threading.Thread(target=read, args=(b,)) for b in bodies]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
        pipe.send((alone - begun) / (time.perf_counter() - alone))


@pytest.mark.judge
def test_sixteen_streams_are_as_fast_as_the_engine_alone() -> None:
    """To nine tenths, on a model of the book's form; the best of five turns.

    Nothing has computed here with more than one thread (`conftest`), so the
    engine's pool of threads is the only one, as it is in `serve`.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    child = context.Process(target=read_streams, args=(theirs,), daemon=True)
    child.start()
    service = Service(*fast_letters(), "town", threads=ours.recv())
    ratios = []
    with served(make_app(service)) as address:
        host = address.removeprefix("http://")
        ours.send((host, list(b"Mrs Pell counts"), 400))
        for turn in range(6):
            ours.send(True)
            ratios.append(ours.recv())
            print(f"turn {turn}: {ratios[-1]:.3f} of the engine's own rate")
        ours.send(None)
        child.join()
    assert max(ratios[1:]) > 0.9
