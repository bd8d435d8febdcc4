"""Talking with a model, from the command line."""

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from scratchlm.cli import chat
from scratchlm.cli.app import main
from scratchlm.generation.sampling import SamplingConfig
from scratchlm.model.gpt import GPT, gpt2_config
from scratchlm.serving.export import write_run
from scratchlm.text.tokenizer import END, Tokenizer
from scratchlm.text.toytown import join, write_corpus
from scratchlm.tuning.instruct import (
    ASSISTANT,
    STOP,
    with_marks,
)

Capture = pytest.CaptureFixture[str]
TOWN = Tokenizer.train(join(write_corpus(20_000)), 300)
MARKED = with_marks(TOWN)
CHATML = ("<|im_start|>", "<|im_end|>")


def marked(names: tuple[str, ...]) -> Tokenizer:
    """The tokenizer with other special tokens."""
    first = TOWN.vocab_size
    more = {name: first + i for i, name in enumerate(names)}
    return Tokenizer(TOWN.merges, TOWN.special_tokens | more, TOWN.pattern)


def parrot(tokenizer: Tokenizer, says: dict[int, int]) -> GPT:
    """A model without attention: after one token it says a certain other."""
    channels = 64
    config = gpt2_config(tokenizer.vocab_size, 64, 1, 1, channels, tied=False)
    torch.manual_seed(0)
    model = GPT(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" not in name and name != "token.weight":
                parameter.zero_()
        model.token.weight.normal_()
        for before, after in says.items():
            row = model.token.weight[before]
            model.head.weight[after] += row - row.mean()
    return model


def talk(
    run: Path, typed: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> str:
    """What a conversation looks like; the likeliest token each time."""
    monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
    words = ["--run", str(run), "--temperature", "0", "--tokens", "8"]
    assert main(["chat", *words]) == 0
    return capsys.readouterr().out


def test_an_answer_ends_where_it_should(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    mark = MARKED.special_tokens
    one, two = MARKED.encode(" six")[0], MARKED.encode("!")[0]
    says = {mark[ASSISTANT]: one, one: two, two: mark[STOP]}
    write_run(Path("answers"), parrot(MARKED, says), MARKED, {})
    said = talk(Path("answers"), "What?\nAnd?\n\n", monkeypatch, capsys)
    answer = MARKED.decode([one, two]).strip()
    assert said == (
        f"Ask something; an empty line ends this.\n> {answer}\n> {answer}\n> "
    )


def test_without_an_end_it_stops_anyway(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    mark, one = MARKED.special_tokens, MARKED.encode("e")[0]
    model = parrot(MARKED, {mark[ASSISTANT]: one, one: one})
    write_run(Path("endless"), model, MARKED, {"begin": [TOWN.end_id]})
    typed = "\n".join(["What is it?"] * 9)  # more than the context holds
    said = talk(Path("endless"), typed, monkeypatch, capsys)
    assert said.count("> eeeeeeee\n") == 9
    assert said.endswith("> \n")  # Ctrl-D, in the middle of a line


def test_what_was_said_is_read_again_where_answers_may_be_long(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    mark, one = MARKED.special_tokens, MARKED.encode("e")[0]
    says = {mark[ASSISTANT]: one, one: mark[STOP]}
    write_run(Path("answers"), parrot(MARKED, says), MARKED, {})
    seen, answer = [], chat.answer

    def recorded(*values: Any) -> Any:
        seen.append(list(values[2]))
        return answer(*values)

    monkeypatch.setattr(chat, "answer", recorded)
    monkeypatch.setattr(sys, "stdin", io.StringIO("Who?\nWhat?\n" * 9))
    words = ["--run", "answers", "--temperature", "0", "--tokens", "64"]
    assert main(["chat", *words]) == 0
    assert seen[1][: len(seen[0])] == seen[0]
    assert 24 < max(map(len, seen)) <= 32


def test_a_byte_that_is_no_letter_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, fails: Callable[[list[str]], str]
) -> None:
    write_run(Path("answers"), parrot(MARKED, {}), MARKED, {})
    monkeypatch.setattr(sys, "stdin", io.StringIO("caf\udce9\n"))
    said = fails(["chat", "--run", "answers"])
    assert "udce9" in said or "surrogates" in said


def test_a_model_that_was_never_taught_goes_on(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    said = talk(run, "Mrs Pell\n\n", monkeypatch, capsys)
    assert f"{run} was never taught to answer" in said
    assert "Type how a text begins" in said


def test_ctrl_c_ends_it(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    class Terminal(io.StringIO):
        def readline(self, *_: Any) -> str:
            raise KeyboardInterrupt

    monkeypatch.setattr(sys, "stdin", Terminal())
    assert main(["chat", "--run", str(run)]) == 130
    assert capsys.readouterr().err == "\nstopped\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--tokens", "0"], "--tokens 0"),
        (["--seed", "-1"], "--seed -1"),
        (["--device", "abacus"], "no such device"),
        (["--temperature", "-1"], "temperature"),
    ],
)
def test_what_cannot_be(
    words: list[str],
    message: str,
    run: Path,
    fails: Callable[[list[str]], str],
) -> None:
    assert message in fails(["chat", "--run", str(run), *words])


def test_the_dice_decide() -> None:
    model = parrot(MARKED, {})
    texts = []
    for seed in (1, 1, 2):
        dice = torch.Generator().manual_seed(seed)
        ids, sampling = MARKED.encode("What"), SamplingConfig(top_k=200)
        stops = [MARKED.special_tokens[END]]
        pieces = chat.answer(model, MARKED, ids, 20, stops, sampling, dice)
        texts.append("".join(pieces))
    assert texts[0] == texts[1] != texts[2]
