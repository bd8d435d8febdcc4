"""The commands about tokens: train, try and export a tokenizer."""

from itertools import chain
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from scratchlm.cli.corpus import DATA
from scratchlm.cli.errors import UserError, users_input
from scratchlm.text import exchange
from scratchlm.text.characters import CharTokenizer
from scratchlm.text.prepare import (
    file_material,
    load_tokenizer,
    train_tokenizer,
)
from scratchlm.training.checkpoint import has_run


def train(
    file: Annotated[Path, Parameter(help="the text to learn from")],
    /,
    *,
    kind: Annotated[
        Literal["bpe", "characters"],
        Parameter(help="byte pairs or characters (bpe)"),
    ] = "bpe",
    vocab_size: Annotated[
        int | None, Parameter(help="how many tokens, for bpe (1024)")
    ] = None,
    out: Annotated[
        Path, Parameter(help="the file to write (data/tokenizer.json)")
    ] = DATA / "tokenizer.json",
) -> None:
    """Learn a tokenizer from a text.

    The file may be plain text, or JSON lines with a "text" each.

    Example:
      python -m scratchlm tokenizer train data/tinyshakespeare.txt

    Next: python -m scratchlm train --corpus data/tinyshakespeare.txt \\
              --tokenizer data/tokenizer.json
    Book: Learning an alphabet of pieces: byte pairs
    """
    if not file.exists():
        raise UserError(f"{file}: there is no such file; is the path right?")
    keep_apart(file, out)
    if kind == "characters" and vocab_size is not None:
        print("unused   --vocab-size: the text decides how many characters")
    with users_input():
        material = file_material(file, str(file))
        texts = chain(material.train, material.validation)
        size = 1024 if vocab_size is None else vocab_size
        tokenizer = train_tokenizer(kind, texts, size)
    out.parent.mkdir(parents=True, exist_ok=True)
    tokenizer.save(out)
    print(f"{out}: {tokenizer.vocab_size:,} tokens")


def keep_apart(given: Path, out: Path) -> None:
    """Refuse to overwrite what is read, or to write into a run."""
    if out.resolve() == given.resolve():
        raise UserError(f"--out {out}: it would be written over what is read")
    if has_run(out.parent):
        raise UserError(f"--out {out}: that folder is a run, and is sealed")


def encode(
    text: Annotated[str, Parameter(help="what to encode")],
    /,
    *,
    tokenizer: Annotated[Path, Parameter(help="the tokenizer's file")],
) -> None:
    """Show the tokens of a text.

    Each token has a line: its number and its piece.

    Example:
      python -m scratchlm tokenizer encode "Mrs Pell" \\
          --tokenizer runs/toytown/tokenizer.json

    Book: From text to tokens and back
    """
    loaded = load_tokenizer(tokenizer)
    with users_input():
        ids = loaded.encode(text)
    for number in ids:
        print(f"{number:7} {loaded.decode([number])!r}")
    print(f"{len(text)} characters, {len(ids)} tokens")


def export(
    *,
    tokenizer: Annotated[Path, Parameter(help="the tokenizer's file")],
    format: Annotated[
        Literal["tokenizers", "tiktoken"],
        Parameter(help="which library is to read it (tokenizers)"),
    ] = "tokenizers",
    out: Annotated[Path, Parameter(help="the file to write")],
) -> None:
    """Write a tokenizer in the form that other libraries read.

    The format tokenizers is the tokenizer.json of Hugging Face; tiktoken is
    a file of ranks.

    Example:
      python -m scratchlm tokenizer export --out town.json \\
          --tokenizer runs/toytown/tokenizer.json

    Book: The same tokens as everybody else: exchange
    """
    loaded = load_tokenizer(tokenizer)
    keep_apart(tokenizer, out)
    if isinstance(loaded, CharTokenizer):
        raise UserError("a tokenizer of characters has no merges to export")
    exchange.export(loaded, format, out)
    print(f"{out}: {loaded.vocab_size:,} tokens")
