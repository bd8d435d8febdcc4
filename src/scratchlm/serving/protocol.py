"""The words of the protocol: what may be asked, and the forms of answers.

OpenAI's, as far as a model of text needs it: completions and chat, whole or
as server-sent events, with scores of tokens. Nothing here knows an engine or
a socket.
"""

import codecs
import json
from collections.abc import (
    Callable,
    Iterable,
    Sequence,
)
from typing import Annotated, Any, Literal, NamedTuple

import fastapi
import torch
from fastapi.exceptions import RequestValidationError
from fastapi.responses import (
    JSONResponse,
    Response,
)
from pydantic import BaseModel, ConfigDict, Field, model_validator
from starlette.exceptions import HTTPException
from torch import Tensor

from scratchlm.model.gpt import GPT
from scratchlm.text.prepare import AnyTokenizer
from scratchlm.text.tokenizer import Tokenizer
from scratchlm.tuning.instruct import Turn

# --- what may be asked -------------------------------------------------------

Stop = Annotated[str, Field(min_length=1, max_length=100)]


class Strict(BaseModel):
    """JSON of exactly these names and types; null counts as not given."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def without_null(cls, found: Any) -> Any:
        """Leave out what is null, so that the default stands."""
        if not isinstance(found, dict):
            return found
        return {k: v for k, v in found.items() if v is not None}


class StreamOptions(Strict):
    """What a stream says besides text."""

    include_usage: bool = False


class Asked(Strict):
    """What both kinds of requests have in common."""

    model: str
    temperature: float = Field(1.0, ge=0, le=2)
    top_p: float = Field(1.0, gt=0, le=1)
    n: int = Field(1, ge=1)
    seed: int | None = Field(None, ge=0, lt=2**48)
    stop: Stop | Annotated[list[Stop], Field(max_length=4)] = []
    stream: bool = False
    stream_options: StreamOptions | None = None

    @property
    def stops(self) -> list[str]:
        """The stop strings, as a list."""
        return [self.stop] if isinstance(self.stop, str) else self.stop


class CompletionRequest(Asked):
    """Texts, or tokens, to continue."""

    prompt: str | list[str] | list[int] | list[list[int]]
    max_tokens: int = Field(16, ge=0)
    echo: bool = False
    logprobs: int | None = Field(None, ge=0, le=5)


class AttentionRequest(Strict):
    """A text whose last token is looked into."""

    model: str
    prompt: str


class ChatMessage(Strict):
    """Who speaks, and what is said."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str


class ChatRequest(Asked):
    """A dialogue, to be answered."""

    messages: list[ChatMessage] = Field(min_length=1)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)


# --- what is said of mistakes ------------------------------------------------


class Refused(HTTPException):
    """An answer that is an error, in the form of OpenAI's errors."""

    def __init__(
        self,
        status: int,
        message: str,
        param: str | None = None,
        code: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        """From 500 on the error is ours; below that, it is the caller's."""
        super().__init__(status, message, headers)
        self.param, self.code = param, code

    def as_json(self) -> dict[str, Any]:
        """The body: one object, named error."""
        ours = self.status_code >= 500
        return {
            "error": {
                "message": self.detail,
                "type": "server_error" if ours else "invalid_request_error",
                "param": self.param,
                "code": self.code,
            }
        }


def explain_invalid(error: RequestValidationError) -> Refused:
    """The first thing that is wrong with a request, by its name."""
    first = error.errors()[0]
    place = first["loc"][1:2]  # after "body"
    param = place[0] if place and isinstance(place[0], str) else None
    said = "the body is no JSON" if "json" in first["type"] else first["msg"]
    if first["type"] == "model_attributes_type" and not place:
        said = "send an object, with Content-Type: application/json"
    return Refused(400, f"{param}: {said}" if param else said, param)


async def as_error(request: fastapi.Request, error: Exception) -> Response:
    """Any error in the form of OpenAI's; our own are not explained."""
    if isinstance(error, Refused):
        said = error
    elif isinstance(error, RequestValidationError):
        said = explain_invalid(error)
    elif isinstance(error, HTTPException):
        headers = dict(error.headers or {})
        said = Refused(error.status_code, error.detail, headers=headers)
    else:
        said = Refused(500, "an error of the server; its log says which")
    return JSONResponse(said.as_json(), said.status_code, said.headers)


def check_turns(messages: Sequence[ChatMessage]) -> tuple[list[Turn], str]:
    """The turns of a dialogue that are over, and the last request.

    Raises Refused for any order but user, assistant, user, and so on.
    """
    texts = [message.content for message in messages]
    for i, message in enumerate(messages):
        wanted = "assistant" if i % 2 else "user"
        if message.role != wanted:
            raise Refused(
                400,
                f"message {i} is from the {message.role}, and {wanted} was "
                "expected: this model knows dialogues of user and assistant "
                "in turn, and no other voice",
                param="messages",
            )
    if len(messages) % 2 == 0:
        raise Refused(400, "the last message is not the user's", "messages")
    before = [Turn(a, b) for a, b in zip(texts[:-1:2], texts[1::2])]
    return before, texts[-1]


# --- scores of tokens --------------------------------------------------------


class Score(NamedTuple):
    """A token, how likely it was, what else was likely, and its place."""

    token: str
    logprob: float | None  # None: nothing came before it
    top: dict[str, float]
    start: int
    end: int


def special_tokens(tokenizer: AnyTokenizer) -> dict[str, int]:
    """The tokens that stand for no text, by their names."""
    if isinstance(tokenizer, Tokenizer):
        return tokenizer.special_tokens
    return {}


def raw_bytes(tokenizer: AnyTokenizer, token: int) -> bytes:
    """The bytes of a token, which may be only part of a character."""
    if isinstance(tokenizer, Tokenizer):
        return tokenizer.decode_bytes([token])
    return tokenizer.decode([token]).encode()


def token_name(tokenizer: AnyTokenizer, token: int) -> str:
    r"""The text of a token, or its bytes if they are not characters.

    >>> token_name(Tokenizer([]), 97), token_name(Tokenizer([]), 0xC3)
    ('a', 'bytes:\\xc3')
    """
    data = raw_bytes(tokenizer, token)
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)


def likeliest(
    tokenizer: AnyTokenizer, logprobs: Tensor, count: int
) -> dict[str, float]:
    """The `count` likeliest tokens of (V,), and their log-probabilities."""
    values, ids = logprobs.topk(min(count, len(logprobs)))
    names = [token_name(tokenizer, token) for token in ids.tolist()]
    return dict(zip(names, values.tolist()))


@torch.no_grad()
def prompt_scores(
    model: GPT, tokenizer: AnyTokenizer, prompt: Sequence[int], top: int
) -> list[Score]:
    """What a model thinks of a text that it did not write.

    The first token has no score, since nothing comes before it. Special
    tokens take no room in the text.
    """
    ids = torch.tensor([list(prompt)], device=next(model.parameters()).device)
    rows = model(ids)[0].float().log_softmax(dim=-1).cpu()  # (T, V)
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    special = set(special_tokens(tokenizer).values())
    scores, end = list[Score](), 0
    for i, token in enumerate(prompt):
        start, before = end, rows[i - 1]
        if token not in special:
            end += len(decoder.decode(raw_bytes(tokenizer, token)))
        score = Score(
            token_name(tokenizer, token),
            float(before[token]) if i else None,
            likeliest(tokenizer, before, top) if i else {},
            start,
            end,
        )
        scores.append(score)
    return scores


# --- the forms of answers ----------------------------------------------------


class Piece(NamedTuple):
    """What is new in one choice: text, scores, and how it ended, if it did."""

    number: int
    text: str = ""
    scores: tuple[Score, ...] = ()
    finish: str | None = None


def joined(pieces: Iterable[Piece]) -> list[Piece]:
    """One piece for each number, in the order in which numbers first occur.

    >>> joined([Piece(0, "a"), Piece(1, "x"), Piece(0, "b", (), "stop")])[0]
    Piece(number=0, text='ab', scores=(), finish='stop')
    """
    found: dict[int, list[Piece]] = {}
    for piece in pieces:
        found.setdefault(piece.number, []).append(piece)
    return [
        Piece(
            number,
            "".join(piece.text for piece in parts),
            tuple(score for piece in parts for score in piece.scores),
            parts[-1].finish,
        )
        for number, parts in found.items()
    ]


def score_table(scores: Sequence[Score]) -> dict[str, list[Any]]:
    """Scores as OpenAI's completions have them: four lists side by side."""
    return {
        "tokens": [score.token for score in scores],
        "token_logprobs": [score.logprob for score in scores],
        "top_logprobs": [score.top for score in scores],
        "text_offset": [score.start for score in scores],
    }


def completion_choice(piece: Piece, scored: bool) -> dict[str, Any]:
    """A choice of a completion, whole or in a stream."""
    return {
        "index": piece.number,
        "text": piece.text,
        "logprobs": score_table(piece.scores) if scored else None,
        "finish_reason": piece.finish,
    }


def chat_choice(piece: Piece, scored: bool) -> dict[str, Any]:
    """A choice of a whole answer in a dialogue."""
    message = {"role": "assistant", "content": piece.text, "refusal": None}
    return {
        "index": piece.number,
        "message": message,
        "logprobs": None,
        "finish_reason": piece.finish,
    }


def chat_delta(piece: Piece, scored: bool) -> dict[str, Any]:
    """What is new in an answer of a dialogue."""
    return {
        "index": piece.number,
        "delta": {"content": piece.text} if piece.text else {},
        "logprobs": None,
        "finish_reason": piece.finish,
    }


class Style(NamedTuple):
    """How an endpoint names what it says, and how it forms it."""

    prefix: str  # of an answer's id
    whole: str  # what an answer is called
    chunk: str  # and a part of one
    choice: Callable[[Piece, bool], dict[str, Any]]
    delta: Callable[[Piece, bool], dict[str, Any]]
    opening: dict[str, Any]  # what the first part of a choice adds


TEXT = "text_completion"
COMPLETION = Style("cmpl", TEXT, TEXT, completion_choice, completion_choice, {})
CHAT = Style(
    "chatcmpl",
    "chat.completion",
    "chat.completion.chunk",
    chat_choice,
    chat_delta,
    {"delta": {"role": "assistant", "content": ""}},
)


ENCODER = json.JSONEncoder(ensure_ascii=False)  # one for all


def event(data: dict[str, Any]) -> str:
    r"""A server-sent event: one line of JSON, and an empty line.

    >>> event({"text": "two\nlines"})
    'data: {"text": "two\\nlines"}\n\n'
    """
    return f"data: {ENCODER.encode(data)}\n\n"
