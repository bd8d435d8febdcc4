"""Files for llama.cpp, of which llama.cpp says how they cut a text."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import gguf
import pytest

from press.files import ROOT
from records.make_export import forms, random_model
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


ASK = """
import json, os, sys
from pathlib import Path
import requests
from records.make_export import served

server, found = served(Path(sys.argv[1]), 64), []
for text in json.loads(sys.argv[2]):
    asked = {"content": text, "add_special": True}
    address = f"{server.listening_address}/tokenize"
    found.append(requests.post(address, json=asked, timeout=60).json())
print(json.dumps([reply["tokens"] for reply in found]), flush=True)
os._exit(0)  # threads of the server may wait for each other at its end
"""


def tokens_of(path: Path, texts: list[str]) -> list[list[int]]:
    """The tokens of texts, with all that llama.cpp puts around them."""
    done = subprocess.run(
        [sys.executable, "-c", ASK, str(path), json.dumps(texts)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    found: list[list[int]] = json.loads(done.stdout.splitlines()[-1])
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
    for text, found in zip(AWKWARD, tokens_of(path, AWKWARD), strict=True):
        assert found == tokenizer.encode(text), text
    crossed = [ANYHOW.encode(text) for text in AWKWARD]
    assert [tokenizer.encode(text) for text in AWKWARD] != crossed


def test_a_token_in_front_goes_with_an_import(tmp_path: Path) -> None:
    """As Llama 3 has it; and by the name of its pattern alone, none."""
    text = AWKWARD[0]
    for begin in ([], [300]):
        path = tmp_path / f"{len(begin)}.gguf"
        tokenizer = exported(path, "llama", LLAMA_PATTERN, begin=begin)
        (found,) = tokens_of(path, [text])
        assert found == [*begin, *tokenizer.encode(text)]
    with pytest.raises(ValueError, match="2 tokens in front of a text"):
        exported(tmp_path / "2.gguf", "llama", LLAMA_PATTERN, begin=[1, 2])
    assert not (tmp_path / "2.gguf").exists()
