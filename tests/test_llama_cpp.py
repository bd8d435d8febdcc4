"""Files for llama.cpp, of which llama.cpp says how they cut a text."""

from pathlib import Path
from typing import Any

import gguf
import pytest
import requests

from records.make_export import forms, random_model, served
from scratchlm.serving.export import (
    CUTS,
    LLAMA_PATTERN,
    QWEN_PATTERN,
    export_gguf,
)
from scratchlm.text.bpe import GPT2_PATTERN, PATTERN
from scratchlm.text.tokenizer import Tokenizer

AWKWARD = [
    "I'll we'RE they've I'm 'tis it'S y'all's ''s '",
    "1234567 12.5 1,000 3rd ½ Ⅷ ²³ ٣٤٥ x2y 007",
    " a  b   c\t d \t\te",
    "one\n\ntwo \n  three\r\n\r\n four\n \n",
    "end of a line   \n   ",
    "Café cafe\u0301 naïve straße Ünï ÀÉ 😀👍🏽 e\u0301",
    "日本語のテキスト 中文，标点。 한국어 ไทย हिन्दी",
    "a\u00a0b\u3000c\u2028d\u200be\ufeff",
    "(yes)... --- x_y a/b @c #d $5 !?\n!?\r\n <|x|>",
]
ANYHOW = Tokenizer.train(AWKWARD * 3, 600, pattern=r"(?s:.)+")  # crosses cuts


def numbers_of(server: Any, text: str) -> list[int]:
    """The tokens of a text, with all that llama.cpp puts around it."""
    reply = requests.post(
        f"{server.listening_address}/tokenize",
        json={"content": text, "add_special": True},
        timeout=60,
    )
    found: list[int] = reply.json()["tokens"]
    return found


def exported(path: Path, name: str, pattern: str, **more: Any) -> Tokenizer:
    """A small random model of a form, whose merges would cross every cut."""
    tokenizer = Tokenizer(ANYHOW.merges, ANYHOW.special_tokens, pattern)
    model = random_model(forms(tokenizer.vocab_size)[name])
    export_gguf(path, model, tokenizer, **more)
    return tokenizer


@pytest.mark.always
@pytest.mark.parametrize(
    ("name", "pattern", "cut"),
    [
        ("gpt2", PATTERN, "dbrx"),
        ("gpt2", GPT2_PATTERN, "gpt-2"),
        ("llama, slowed", LLAMA_PATTERN, "llama-bpe"),
        ("qwen2", QWEN_PATTERN, "qwen2"),
        ("qwen3", QWEN_PATTERN, "qwen2"),
    ],
)
def test_it_cuts_as_we_do(
    name: str, pattern: str, cut: str, tmp_path: Path
) -> None:
    """Only the pattern keeps these merges from making other tokens."""
    path = tmp_path / "model.gguf"
    tokenizer = exported(path, name, pattern)
    said = gguf.GGUFReader(path).fields["tokenizer.ggml.pre"].contents()
    assert said == CUTS[pattern] == cut
    server = served(path, 64)
    for text in AWKWARD:
        assert numbers_of(server, text) == tokenizer.encode(text), text
    crossed = [ANYHOW.encode(text) for text in AWKWARD]
    assert [tokenizer.encode(text) for text in AWKWARD] != crossed


def test_a_token_in_front_goes_with_an_import(tmp_path: Path) -> None:
    """As Llama 3 has it; and by the name of its pattern alone, none."""
    text = AWKWARD[0]
    for begin in ([], [300]):
        path = tmp_path / f"{len(begin)}.gguf"
        tokenizer = exported(path, "llama", LLAMA_PATTERN, begin=begin)
        found = numbers_of(served(path, 64), text)
        assert found == [*begin, *tokenizer.encode(text)]
    with pytest.raises(ValueError, match="2 tokens in front of a text"):
        exported(tmp_path / "2.gguf", "llama", LLAMA_PATTERN, begin=[1, 2])
    assert not (tmp_path / "2.gguf").exists()
