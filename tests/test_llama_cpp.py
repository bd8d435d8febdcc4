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
FORMS = [
    ("gpt2", PATTERN, "dbrx"),
    ("gpt2", GPT2_PATTERN, "gpt-2"),
    ("llama, slowed", LLAMA_PATTERN, "llama-bpe"),
    ("qwen2", QWEN_PATTERN, "qwen2"),
    ("qwen3", QWEN_PATTERN, "qwen2"),
]


ASK = """
import json, os, sys
from pathlib import Path
import requests
from records.make_export import served

found = {}
for path, texts in json.load(sys.stdin).items():
    server = served(Path(path), 64)
    address = f"{server.listening_address}/tokenize"
    asked = [{"content": text, "add_special": True} for text in texts]
    said = [requests.post(address, json=x, timeout=60).json() for x in asked]
    found[path] = [reply["tokens"] for reply in said]
print(json.dumps(found), flush=True)
os._exit(0)  # threads of a server may wait for each other at its end
"""


def tokens_of(asked: dict[Path, list[str]]) -> dict[Path, list[list[int]]]:
    """The tokens of each file's texts, with all that llama.cpp adds."""
    done = subprocess.run(
        [sys.executable, "-c", ASK],
        input=json.dumps({str(path): texts for path, texts in asked.items()}),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    found = json.loads(done.stdout.splitlines()[-1])
    return {path: found[str(path)] for path in asked}


def exported(path: Path, name: str, pattern: str, **more: Any) -> Tokenizer:
    """A small random model of a form, whose merges would cross every cut."""
    tokenizer = Tokenizer(ANYHOW.merges, ANYHOW.special_tokens, pattern)
    model = random_model(forms(tokenizer.vocab_size)[name])
    export_gguf(path, model, tokenizer, **more)
    return tokenizer


@pytest.mark.always
def test_it_cuts_as_we_do(tmp_path: Path) -> None:
    """Only the pattern keeps these merges from making other tokens."""
    made: dict[Path, Tokenizer] = {}
    for number, (name, pattern, cut) in enumerate(FORMS):
        path = tmp_path / f"{number}.gguf"
        made[path] = exported(path, name, pattern)
        said = gguf.GGUFReader(path).fields["tokenizer.ggml.pre"].contents()
        assert said == CUTS[pattern] == cut, name
    for path, found in tokens_of(dict.fromkeys(made, AWKWARD)).items():
        ours = [made[path].encode(text) for text in AWKWARD]
        assert found == ours, path
        assert ours != [ANYHOW.encode(text) for text in AWKWARD], path


def test_a_token_in_front_goes_with_an_import(tmp_path: Path) -> None:
    """As Llama 3 has it; and by the name of its pattern alone, none."""
    text = AWKWARD[0]
    wanted: dict[Path, list[int]] = {}
    for begin in ([], [300]):
        path = tmp_path / f"{len(begin)}.gguf"
        tokenizer = exported(path, "llama", LLAMA_PATTERN, begin=begin)
        wanted[path] = [*begin, *tokenizer.encode(text)]
    for path, found in tokens_of({key: [text] for key in wanted}).items():
        assert found == [wanted[path]]
    with pytest.raises(ValueError, match="2 tokens in front of a text"):
        exported(tmp_path / "2.gguf", "llama", LLAMA_PATTERN, begin=[1, 2])
    assert not (tmp_path / "2.gguf").exists()
