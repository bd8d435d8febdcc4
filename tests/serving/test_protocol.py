"""The words of the protocol: strict in what comes, exact in what goes."""

import json
from typing import Any

import pytest
import torch
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from scratchlm.model.gpt import GPT, gpt2_config
from scratchlm.serving.protocol import (
    ChatMessage,
    ChatRequest,
    CompletionRequest,
    Piece,
    Refused,
    Score,
    chat_choice,
    chat_delta,
    check_turns,
    completion_choice,
    event,
    explain_invalid,
    joined,
    prompt_scores,
    raw_bytes,
    special_tokens,
    token_name,
)
from scratchlm.text.characters import CharTokenizer
from scratchlm.text.tokenizer import END, Tokenizer

BYTES = Tokenizer([], {END: 256})
ASKED: dict[str, Any] = {"model": "town", "prompt": "a"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -0.1),
        ("temperature", 2.5),
        ("temperature", float("nan")),
        ("temperature", "1"),
        ("top_p", 0),
        ("n", 0),
        ("n", 1.5),
        ("seed", -1),
        ("stop", ""),
        ("stop", ["a"] * 5),
        ("stream", "yes"),
        ("max_tokens", -1),
        ("logprobs", 6),
        ("prompt", 7),
        ("prompt", [["a"]]),
        ("best_of", 2),
        ("stream_options", {"include": True}),
    ],
)
def test_what_is_wrong_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(ValidationError) as failure:
        CompletionRequest(**(ASKED | {name: value}))
    refused = explain_invalid(
        RequestValidationError(
            [
                error | {"loc": ("body", *error["loc"])}
                for error in failure.value.errors()
            ]
        )
    )
    assert refused.param == name
    assert refused.status_code == 400


def test_null_is_the_default() -> None:
    asked = CompletionRequest(**ASKED, temperature=None, stop=None, n=None)
    assert (asked.temperature, asked.stops, asked.n) == (1.0, [], 1)
    assert CompletionRequest(**ASKED, stop="x", temperature=1).stops == ["x"]
    with pytest.raises(ValidationError):
        CompletionRequest.model_validate([1])


@pytest.mark.parametrize(
    "prompt", ["a", ["a", "b"], [1, 2], [[1], [2, 3]], [True]]
)
def test_prompts(prompt: Any) -> None:
    if prompt == [True]:
        with pytest.raises(ValidationError):
            CompletionRequest(model="town", prompt=prompt)
    else:
        assert CompletionRequest(model="town", prompt=prompt).prompt == prompt


def turns(*roles: str) -> list[ChatMessage]:
    return [
        ChatMessage.model_validate({"role": role, "content": f"text {i}"})
        for i, role in enumerate(roles)
    ]


def test_a_dialogue_of_two_voices() -> None:
    before, last = check_turns(turns("user", "assistant", "user"))
    assert [tuple(turn) for turn in before] == [("text 0", "text 1")]
    assert last == "text 2"
    assert check_turns(turns("user")) == ([], "text 0")


@pytest.mark.parametrize(
    ("roles", "words"),
    [
        (["system", "user"], "message 0 is from the system"),
        (["user", "user"], "message 1 is from the user"),
        (["user", "assistant"], "last message"),
    ],
)
def test_other_dialogues_are_refused(roles: list[str], words: str) -> None:
    with pytest.raises(Refused) as failure:
        check_turns(turns(*roles))
    assert words in failure.value.detail
    assert failure.value.as_json()["error"]["param"] == "messages"


def test_a_dialogue_needs_a_message() -> None:
    with pytest.raises(ValidationError):
        ChatRequest(model="town", messages=[])


def test_tokens_by_name() -> None:
    letters = CharTokenizer("aé")
    assert raw_bytes(letters, 1) == "é".encode()
    assert token_name(BYTES, 0xC3) == "bytes:\\xc3"
    assert token_name(BYTES, 256) == END
    assert special_tokens(letters) == {}
    assert special_tokens(BYTES) == {END: 256}


def test_a_prompt_is_scored_by_what_stands_before() -> None:
    torch.manual_seed(0)
    model = GPT(gpt2_config(257, 16, layers=1, heads=2, channels=16)).eval()
    prompt = list("né!".encode())
    scores = prompt_scores(model, BYTES, prompt, top=2)
    wanted = model(torch.tensor([prompt]))[0].log_softmax(-1)
    assert scores[0] == Score("n", None, {}, 0, 1)
    assert [(s.start, s.end) for s in scores] == [
        (0, 1),
        (1, 1),
        (1, 2),
        (2, 3),
    ]
    for i, score in enumerate(scores[1:]):
        assert score.logprob == pytest.approx(wanted[i, prompt[i + 1]].item())
        best = wanted[i].topk(2)
        names = [token_name(BYTES, t) for t in best.indices.tolist()]
        assert list(score.top) == names


def test_forms() -> None:
    score = Score("x", -0.5, {"x": -0.5}, 0, 1)
    pieces = [Piece(1, "x", (score,)), Piece(0, "y"), Piece(1, "z", (), "stop")]
    second, first = joined(pieces)
    assert (first.text, second.text, second.finish) == ("y", "xz", "stop")
    assert completion_choice(second, True) == {
        "index": 1,
        "text": "xz",
        "logprobs": {
            "tokens": ["x"],
            "token_logprobs": [-0.5],
            "top_logprobs": [{"x": -0.5}],
            "text_offset": [0],
        },
        "finish_reason": "stop",
    }
    assert completion_choice(first, False)["logprobs"] is None
    assert chat_choice(second, False)["message"]["content"] == "xz"
    assert chat_delta(first, False)["delta"] == {"content": "y"}
    assert chat_delta(Piece(0, finish="stop"), False)["delta"] == {}


def test_an_event_is_one_line() -> None:
    sent = event({"text": "a\n\nb\r\u2028é"})
    assert sent.startswith("data: ")
    assert sent.endswith("\n\n")
    assert "\n" not in sent[:-2]
    assert "\r" not in sent
    assert json.loads(sent[6:]) == {"text": "a\n\nb\r\u2028é"}
