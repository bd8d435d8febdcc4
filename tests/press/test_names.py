"""Names from elsewhere: each leads to something that is there."""

import dataclasses
import importlib
import inspect
import re
from pathlib import Path

import pytest

from press.gates.book import Book
from press.roadmap import load
from scratchlm.model.gpt import GPTConfig

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "book" / "appendix" / "names.md").read_text(encoding="utf-8")
GLOSSARY = (ROOT / "book" / "appendix" / "glossary.md").read_text(
    encoding="utf-8"
)
ROW = re.compile(r"- (`.+?) \((.+?)\):\\\n  `(\S+)` \(\{ref\}`(\w+)`")
ROWS = [
    (re.findall(r"`(\w+)`", names), here, page)
    for names, _, here, page in ROW.findall(PAGE)
]
SEE = dict(re.findall(r"```\{index\} see: (\S+); (.+)\n", PAGE))
WANTED = {  # what readers have looked for and not found
    *("TinyTransformerLM", "MiniGPT", "SelfAttentionSingleHead"),
    *("TransformerBlock", "get_batch", "block_size", "n_embd"),
}


def test_the_list_is_read_whole() -> None:
    assert len(ROWS) == PAGE.count("\n- `")
    names = [name for found, _, _ in ROWS for name in found]
    assert len(names) == len(set(names))
    assert set(names) >= WANTED


def is_there(name: str) -> bool:
    """Whether a dotted name is defined, or set in its class's methods."""
    words = name.split(".")
    thing = importlib.import_module(".".join(words[:3]))
    for word in words[3:]:
        if not hasattr(thing, word):
            return f"self.{word} = " in inspect.getsource(thing)
        thing = getattr(thing, word)
    return True


@pytest.mark.parametrize(("names", "here", "page"), ROWS, ids=str)
def test_what_it_is_called_here_is_there(
    names: list[str], here: str, page: str
) -> None:
    owner, _, last = here.rpartition(".")
    fields = {field.name for field in dataclasses.fields(GPTConfig)}
    setting = owner.endswith(".GPTConfig") and last in fields
    assert setting or is_there(here)
    assert page in load().by_id


def entry(symbol: str) -> str:
    """What a listing of the symbol puts into the index."""
    last = symbol.rpartition(".")[2]
    return symbol + (" (class)" if last[0].isupper() else "()")


def test_the_index_knows_every_name_and_what_it_sends_to() -> None:
    listed = {
        entry(".".join(block.argument.split(".")[3:]))
        for page in Book(ROOT).pages.values()
        for block in page.named("listing")
        if block.argument.count(".") > 2  # a definition, no whole module
        and block.argument.startswith("scratchlm.")
    }
    for names, here, _ in ROWS:
        inside = here.split(".")[3:]
        for name in names:
            if f"\n{name}\n" in GLOSSARY:  # whose entries are in the index
                assert name not in SEE
            elif name != inside[0]:
                assert SEE[name] in listed
                assert SEE[name].startswith(inside[0])
    assert set(SEE) <= {name for names, _, _ in ROWS for name in names}
