"""The command line: from nothing to a model that writes, and its score.

    python -m scratchlm COMMAND --help      what it does, an example, what next

Errors that a user can mend end with exit code 2 and one sentence; Ctrl-C
during training saves first.
"""

import argparse
import json
import os
import sys
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from scratchlm.model.gpt import (
    GPT,
    GPTConfig,
    count_parameters,
    flops_per_token,
    gpt2_config,
    llama_config,
)
from scratchlm.text import corpus, toytown
from scratchlm.text.characters import CharTokenizer
from scratchlm.text.files import read_json
from scratchlm.text.tokenizer import Tokenizer
from scratchlm.text.tokens import (
    BatchCursor,
    encode_documents,
    open_tokens,
    write_tokens,
)
from scratchlm.training.checkpoint import has_run, load_model
from scratchlm.training.precision import PRECISIONS, slowdown
from scratchlm.training.trainer import (
    Interrupted,
    LogRecord,
    NonFiniteLoss,
    TrainConfig,
    Trainer,
    entropy_floor,
    seconds_per_step,
    settle,
)

AnyTokenizer = CharTokenizer | Tokenizer
DATA = Path("data")  # where downloads are kept
SNAPSHOTS = (0, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)


class UserError(ValueError):
    """A mistake that the message tells how to mend."""


def mirror() -> Path | None:
    """The folder named by SCRATCHLM_MIRROR, for places without internet."""
    name = os.environ.get("SCRATCHLM_MIRROR")
    return Path(name) if name else None


# --- Text ---------------------------------------------------------------


@dataclass(frozen=True)
class Material:
    """Documents to learn from, documents to be judged by, and facts."""

    train: list[str]
    validation: list[str]
    facts: dict[str, Any] = field(default_factory=dict)


def toytown_material(characters: int, seed: int) -> Material:
    """Stories from Toytown, and the entropy of those for validation."""
    splits = toytown.split_stories(toytown.write_corpus(characters, seed))
    nats = -sum(story.log_prob for story in splits.validation)
    return Material(
        [story.text for story in splits.train],
        [story.text for story in splits.validation],
        {"corpus": "toytown", "characters": characters, "entropy_nats": nats},
    )


def read_text(path: Path) -> str:
    """The text of a UTF-8 file."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text: {error}") from error


def read_documents(path: Path) -> list[str]:
    """The documents of a file of JSON lines, each with a "text"."""
    try:
        lines = read_text(path).splitlines()
        return [json.loads(line)["text"] for line in lines]
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise UserError(
            f'{path} is to have one {{"text": ...}} a line: {error}'
        ) from error


def write_documents(path: Path, documents: Iterable[dict[str, Any]]) -> None:
    """Write JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        for document in documents:
            file.write(json.dumps(document, ensure_ascii=False) + "\n")


def file_material(path: Path, name: str) -> Material:
    """Nine tenths of a file to learn from, the last to be judged by.

    A folder that `corpus prepare` wrote is split already.
    """
    if path.is_dir():
        train = read_documents(path / "train.jsonl")
        validation = read_documents(path / "validation.jsonl")
    elif path.suffix == ".jsonl":
        documents = read_documents(path)
        cut = int(0.9 * len(documents))
        train, validation = documents[:cut], documents[cut:]
    else:
        text = read_text(path)
        cut = int(0.9 * len(text))
        train, validation = [text[:cut]], [text[cut:]]
    if min(len("".join(part)) for part in (train, validation)) < 2:
        raise UserError(f"{path} holds too little text to train on")
    return Material(train, validation, {"corpus": name})


def read_material(options: argparse.Namespace) -> Material:
    """The text that --corpus names."""
    if options.corpus == "toytown":
        return toytown_material(options.characters, options.corpus_seed)
    path = Path(options.corpus)
    if not path.exists():
        path = corpus.get(options.corpus, DATA, mirror=mirror())
    return file_material(path, options.corpus)


def train_tokenizer(
    kind: str, documents: Iterable[str], vocab_size: int
) -> AnyTokenizer:
    """A tokenizer of characters or of byte pairs, from documents."""
    if kind == "characters":
        return CharTokenizer.train("\n\n".join(documents) + "\n\n")
    return Tokenizer.train(documents, vocab_size)


def load_tokenizer(path: Path) -> AnyTokenizer:
    """Either kind of tokenizer, by what its file says."""
    if "merges" in read_json(path):
        return Tokenizer.load(path)
    return CharTokenizer.load(path)


def encode_all(tokenizer: AnyTokenizer, documents: list[str]) -> np.ndarray:
    """All documents as one row of tokens, with a mark between them.

    The mark is the end token, or an empty line where there is none.
    """
    if isinstance(tokenizer, CharTokenizer):
        marked = documents
        if len(documents) > 1:
            marked = [document + "\n\n" for document in documents]
        return np.array(tokenizer.encode("".join(marked)))
    if len(documents) > 1:
        return encode_documents(tokenizer, documents)
    return np.array(tokenizer.encode(documents[0]))


def prepare_run(options: argparse.Namespace) -> dict[str, Any]:
    """Write tokenizer and tokens into the run's folder; return the facts."""
    material = read_material(options)
    folder = Path(options.out)
    folder.mkdir(parents=True, exist_ok=True)
    documents = material.train
    if options.tokenizer == "characters":  # a letter may be in one alone
        documents = documents + material.validation
    tokenizer = train_tokenizer(
        options.tokenizer, documents, options.vocab_size
    )
    tokenizer.save(folder / "tokenizer.json")
    counts = {}
    for name in ("train", "validation"):
        ids = encode_all(tokenizer, getattr(material, name))
        counts[name] = len(ids)
        write_tokens(
            folder / f"{name}.tokens",
            ids,
            tokenizer.vocab_size,
            tokenizer.fingerprint,
        )
    size = sum(len(text.encode()) for text in material.validation)
    return {
        **material.facts,
        "tokenizer": options.tokenizer,
        "train_tokens": counts["train"],
        "validation_tokens": counts["validation"],
        "validation_bytes": size,
        "batch_size": options.batch_size,
        "seed": options.seed,
    }


# --- train --------------------------------------------------------------


def model_config(options: argparse.Namespace, vocab_size: int) -> GPTConfig:
    """The form of the model that the options ask for."""
    make = gpt2_config if options.form == "gpt2" else llama_config
    return make(
        vocab_size=vocab_size,
        context=options.context,
        layers=options.layers,
        heads=options.heads,
        channels=options.channels,
        dropout=options.dropout,
    )


def train_config(options: argparse.Namespace) -> TrainConfig:
    """The settings of the loop that the options ask for."""
    return TrainConfig(
        steps=options.steps,
        learning_rate=options.learning_rate,
        schedule=options.schedule,
        warmup=options.warmup,
        optimizer=options.optimizer,
        weight_decay=options.weight_decay,
        clip=options.clip,
        accumulate=options.accumulate,
        precision=options.precision,
        checkpoint_activations=options.checkpoint_activations,
        evaluate_every=options.evaluate_every,
        checkpoint_every=options.evaluate_every,
        patience=options.patience,
        snapshots=(*(s for s in SNAPSHOTS if s < options.steps), options.steps),
    )


def show_estimate(
    model: GPT, config: TrainConfig, facts: dict[str, Any], seconds: float
) -> None:
    """Say what is about to be done, and how long it will take."""
    shape, count = model.config, count_parameters(model)
    batch = facts["batch_size"] * shape.context * config.accumulate
    tokens = batch * config.steps
    flops = flops_per_token(shape) * tokens
    print(
        f"text     {facts['corpus']}: {facts['train_tokens']:,} tokens to "
        f"learn from, {facts['validation_tokens']:,} to be judged by\n"
        f"model    {count:,} parameters: {shape.layers} layers, "
        f"{shape.heads} heads, {shape.channels} channels, "
        f"context {shape.context}, vocabulary {shape.vocab_size:,}\n"
        f"run      {config.steps:,} steps of {batch:,} tokens: {tokens:,} "
        f"in all, {tokens / facts['train_tokens']:.1f} epochs, "
        f"{flops:.1e} operations\n"
        f"time     about {duration(seconds * config.steps)} "
        f"({seconds:.2f} s a step, just measured)",
        flush=True,
    )
    if (floor := entropy_floor(facts)) is not None:
        print(f"floor    {floor:.4f} nats per token: no model does better")


def duration(seconds: float) -> str:
    """A time for people.

    >>> duration(200), duration(5), duration(8000)
    ('3 min', '5 s', '2.2 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return (
        f"{seconds / 60:.0f} min"
        if seconds < 5400
        else f"{seconds / 3600:.1f} h"
    )


def show_progress(tokenizer: AnyTokenizer, every: int) -> Any:
    """What to print after an evaluation: losses, now and then a text."""
    count = 0

    def show(model: GPT, line: LogRecord) -> None:
        nonlocal count
        tqdm.write(
            f"step {line['step']:6}   train {line['train_loss']:.4f}   "
            f"validation {line['validation_loss']:.4f}   "
            f"{duration(line['seconds'])}"
        )
        count += 1
        if every and count % every == 0:
            pieces = stream(model, tokenizer, "", 40, seed=0)
            tqdm.write("    " + "".join(pieces).replace("\n", "\n    "))

    return show


def open_run(folder: Path) -> tuple[dict[str, Any], Any, BatchCursor, Any]:
    """A run's settings, tokenizer, training cursor and validation tokens."""
    settings = read_json(existing_run(folder) / "config.json")
    tokenizer = load_tokenizer(folder / "tokenizer.json")
    train = open_tokens(folder / "train.tokens", tokenizer.fingerprint)
    validation = open_tokens(
        folder / "validation.tokens", tokenizer.fingerprint
    )
    data = settings["data"]
    cursor = BatchCursor(
        train.tokens,
        settings["model"]["context"],
        data["batch_size"],
        data["seed"],
    )
    return settings, tokenizer, cursor, validation.tokens


def existing_run(folder: Path) -> Path:
    """The folder itself, if a run is in it."""
    if not has_run(folder):
        raise UserError(
            f"{folder} holds no run; train one first: "
            f"python -m scratchlm train --out {folder}"
        )
    return folder


def new_trainer(options: argparse.Namespace) -> Trainer:
    """Text, tokenizer, tokens and model for a run that starts."""
    folder = Path(options.out)
    if has_run(folder):
        raise UserError(
            f"{folder} holds another run; go on with it: "
            f"train --resume --out {folder}, or name another folder"
        )
    config = train_config(options)
    with torch.device("meta"):  # refuse impossible shapes before the work
        GPT(model_config(options, options.vocab_size))
    facts = prepare_run(options)
    tokenizer = load_tokenizer(folder / "tokenizer.json")
    torch.manual_seed(options.seed)
    model = GPT(model_config(options, tokenizer.vocab_size))
    model.to(options.device)
    train = open_tokens(folder / "train.tokens", tokenizer.fingerprint)
    valid = open_tokens(folder / "validation.tokens", tokenizer.fingerprint)
    cursor = BatchCursor(
        train.tokens, options.context, options.batch_size, options.seed
    )
    config = settle(config, model, options.batch_size)
    shape = (options.batch_size * options.context, options.channels)
    device = torch.device(options.device).type
    loss = 1.0
    if config.precision != "float32":
        loss = slowdown(config.precision, device, *shape)
    if loss > 1.5:
        print(
            f"{config.precision} is {loss:.1f} times slower than float32 on "
            "this machine, which only imitates it: use --precision auto"
        )
    seconds = seconds_per_step(model, cursor, config)
    if options.max_minutes is not None:
        limit = max(1, int(60 * options.max_minutes / seconds))
        options.steps = min(options.steps, limit)
        config = train_config(options)
    show_estimate(model, config, facts, seconds)
    return Trainer(
        model,
        cursor,
        valid.tokens,
        config,
        folder,
        show_progress(tokenizer, options.sample_every),
        facts,
        options.tensorboard,
    )


def run_train(options: argparse.Namespace) -> None:
    """The command `train`."""
    folder = Path(options.out)
    if options.resume:
        _, tokenizer, cursor, validation = open_run(folder)
        trainer = Trainer.resume(
            folder,
            cursor,
            validation,
            show_progress(tokenizer, options.sample_every),
            options.tensorboard,
            options.device,
        )
        print(f"resuming {folder} after step {trainer.step}", flush=True)
    else:
        trainer = new_trainer(options)
    best = trainer.fit()
    print(f"done: best validation loss {best:.4f} nats per token")
    if (floor := entropy_floor(trainer.data)) is not None:
        print(f"      the text's own entropy {floor:.4f}")
    print(f'next: python -m scratchlm sample --run {folder} --prompt "Mrs"')


# --- sample and evaluate --------------------------------------------------


def stream(
    model: GPT,
    tokenizer: AnyTokenizer,
    prompt: str,
    count: int,
    seed: int,
    **settings: Any,
) -> Iterator[str]:
    """Pieces of text that continue the prompt, as they are written."""
    from scratchlm.generation.generate import generate
    from scratchlm.generation.sampling import SamplingConfig
    from scratchlm.generation.speed import FastStep

    end = None if isinstance(tokenizer, CharTokenizer) else tokenizer.end_id
    ids = tokenizer.encode(prompt)
    if not ids:  # begin as after the end of a story
        ids = [end] if end is not None else tokenizer.encode("\n")
    device = next(model.parameters()).device
    new = generate(
        model,
        torch.tensor([ids], device=device),
        count,
        sampling=SamplingConfig(**settings),
        generator=torch.Generator(device).manual_seed(seed),
        stop_id=end,
        step=FastStep(model),
    )
    numbers = (int(step[0]) for step in new)
    wanted = (number for number in numbers if number != end)
    if isinstance(tokenizer, CharTokenizer):
        yield from (tokenizer.decode([number]) for number in wanted)
    else:
        yield from tokenizer.decode_stream(wanted)


def run_sample(options: argparse.Namespace) -> None:
    """The command `sample`."""
    folder = existing_run(Path(options.folder))
    model = load_model(folder, options.snapshot).to(options.device)
    tokenizer = load_tokenizer(folder / "tokenizer.json")
    pieces = stream(
        model,
        tokenizer,
        options.prompt,
        options.tokens,
        options.seed,
        temperature=options.temperature,
        top_k=options.top_k,
        top_p=options.top_p,
    )
    print(options.prompt, end="", flush=True)
    for piece in pieces:
        print(piece, end="", flush=True)
    print()


def run_evaluate(options: argparse.Namespace) -> None:
    """The command `evaluate`."""
    from scratchlm.evaluation.perplexity import bits_per_byte, evaluate

    folder = Path(options.folder)
    settings, _, _, validation = open_run(folder)
    model = load_model(folder, options.snapshot).to(options.device)
    context, data = model.config.context, settings["data"]
    result = evaluate(model, validation, context, options.batch_size)
    nats = result.nats_per_token
    total = nats * result.tokens
    bits = bits_per_byte(total, data["validation_bytes"])
    print(f"tokens            {result.tokens:,}")
    print(f"nats per token    {nats:.4f}")
    print(f"perplexity        {np.exp(nats):.3f}")
    print(f"bits per byte     {bits:.4f}")
    if (floor := entropy_floor(data)) is not None:
        print(f"entropy           {floor:.4f} nats per token")
        print(f"distance from it  {nats - floor:.4f}")


# --- corpus and tokenizer -------------------------------------------------


def run_corpus_get(options: argparse.Namespace) -> None:
    """The command `corpus get`."""
    path = corpus.get(
        options.what,
        Path(options.out),
        mirror=mirror(),
        sha256=options.sha256,
    )
    print(f"{path}: {path.stat().st_size:,} bytes")


def run_corpus_toytown(options: argparse.Namespace) -> None:
    """The command `corpus toytown`."""
    stories = toytown.write_corpus(options.characters, options.seed)
    path = Path(options.out)
    lines = [{"text": s.text, "log_prob": s.log_prob} for s in stories]
    write_documents(path, lines)
    nats = toytown.entropy_per_character(stories)
    print(f"{path}: {len(stories):,} stories")
    print(f"entropy: {nats:.4f} nats a character, {nats / np.log(2):.4f} bits")


def run_corpus_prepare(options: argparse.Namespace) -> None:
    """The command `corpus prepare`."""
    done = corpus.prepare(
        Path(options.file),
        Path(options.out),
        options.license,
        keep_pii=options.keep_pii,
    )
    print(f"documents         {done.documents:,}")
    print(f"personal data     {sum(done.redacted.values()):,} {done.redacted}")
    print(f"duplicates        {done.duplicates:,}")
    print(f"near-duplicates   {done.near_duplicates:,}")
    print(f"leaks             {done.leaks:,}")
    print(
        f"kept              {len(done.splits.train):,} to learn from, "
        f"{len(done.splits.validation):,} for validation, "
        f"{len(done.splits.test):,} for the test"
    )


def run_tokenizer_train(options: argparse.Namespace) -> None:
    """The command `tokenizer train`."""
    material = file_material(Path(options.file), options.file)
    tokenizer = train_tokenizer(
        options.kind, material.train + material.validation, options.vocab_size
    )
    Path(options.out).parent.mkdir(parents=True, exist_ok=True)
    tokenizer.save(Path(options.out))
    print(f"{options.out}: {tokenizer.vocab_size:,} tokens")


def run_tokenizer_encode(options: argparse.Namespace) -> None:
    """The command `tokenizer encode`."""
    tokenizer = load_tokenizer(Path(options.tokenizer))
    ids = tokenizer.encode(options.text)
    for number in ids:
        print(f"{number:7} {tokenizer.decode([number])!r}")
    print(f"{len(options.text)} characters, {len(ids)} tokens")


def run_tokenizer_export(options: argparse.Namespace) -> None:
    """The command `tokenizer export`."""
    from scratchlm.text import exchange

    tokenizer = load_tokenizer(Path(options.tokenizer))
    if isinstance(tokenizer, CharTokenizer):
        raise UserError("a tokenizer of characters has no merges to export")
    exchange.export(tokenizer, options.form, Path(options.out))
    print(f"{options.out}: {tokenizer.vocab_size:,} tokens")


# --- The parser, which teaches --------------------------------------------


def command(
    parent: Any,
    name: str,
    run: Any,
    text: str,
    example: str,
    after: str,
    arguments: str = "",
) -> Any:
    """A subcommand whose help says what, how, what next, and where."""
    parser = parent.add_parser(
        name,
        help=text.split(".")[0].lower(),
        usage=f"%(prog)s {arguments}[options]",
        description=textwrap.fill(text, 76),
        epilog=f"example:\n  python -m scratchlm {example}\n\n{after}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser


def group(parent: Any, name: str, text: str) -> Any:
    """A command that has commands of its own."""
    parser = parent.add_parser(name, help=text, description=text)
    return parser.add_subparsers(required=True, metavar="COMMAND")


def positive(text: str) -> int:
    """A whole number of 1 or more, or an error that says so."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is below 1")
    return number


def device(text: str) -> str:
    """A device that is there, or an error that says what is."""
    try:
        torch.empty(0, device=text)
    except (RuntimeError, AssertionError) as error:
        raise argparse.ArgumentTypeError(
            f"there is no device {text!r} here; cpu is always there"
        ) from error
    return text


def add_corpus(commands: Any) -> None:
    """The commands about text."""
    inner = group(commands, "corpus", "get, write or clean text")
    get = command(
        inner,
        "get",
        run_corpus_get,
        "Fetch a text. Its checksum is verified and the file is kept. "
        "Without internet, name a folder that has it in SCRATCHLM_MIRROR.",
        "corpus get shakespeare",
        "next:  python -m scratchlm train --corpus shakespeare "
        "--out runs/shakespeare\nbook:  Gathering text without regret",
        "WHAT ",
    ).add_argument
    get("what", metavar="WHAT", help="shakespeare, an address, or a file")
    get("--out", default=str(DATA), help="folder for it (%(default)s)")
    get("--sha256", help="the checksum it must have")
    write = command(
        inner,
        "toytown",
        run_corpus_toytown,
        "Write stories from Toytown, whose entropy is known. "
        "One JSON object a line: the text, and its log-probability in nats.",
        "corpus toytown --characters 1000000 --out data/toytown.jsonl",
        "next:  python -m scratchlm train --corpus toytown --out "
        "runs/toytown\nbook:  A town whose entropy we know",
    ).add_argument
    write(
        "--characters",
        type=positive,
        default=1_000_000,
        help="how much (%(default)s)",
    )
    write("--seed", type=int, default=2026, help="which stories (%(default)s)")
    write(
        "--out",
        default=str(DATA / "toytown.jsonl"),
        help="the file to write (%(default)s)",
    )
    add_prepare(inner)


def add_prepare(inner: Any) -> None:
    """The command `corpus prepare`."""
    add = command(
        inner,
        "prepare",
        run_corpus_prepare,
        "Clean a text and split it. Documents (lines of JSON with a "
        '"text", or what stands between empty lines) are normalized; '
        "e-mail addresses, telephone numbers and the like are replaced; "
        "duplicates go, near ones too; the rest is split 90:5:5 without "
        "leaks, and a manifest says where it came from.",
        "corpus prepare notes.txt --out data/notes --license CC-BY-4.0",
        "next:  python -m scratchlm train --corpus data/notes --out "
        "runs/notes\nbook:  Gathering text without regret",
        "FILE ",
    ).add_argument
    add("file", metavar="FILE", help="UTF-8 text, JSON lines, or a folder")
    add("--out", required=True, help="folder for the three parts")
    add("--license", help="its license, for the manifest")
    add("--keep-pii", action="store_true", help="do not replace anything")


def add_tokenizer(commands: Any) -> None:
    """The commands about tokens."""
    inner = group(commands, "tokenizer", "train, try or export a tokenizer")
    train = command(
        inner,
        "train",
        run_tokenizer_train,
        "Learn a tokenizer from a text. "
        'The file may be plain text, or JSON lines with a "text" each.',
        "tokenizer train data/tinyshakespeare.txt --out data/tokenizer.json",
        "next:  python -m scratchlm tokenizer encode "
        '--tokenizer data/tokenizer.json "To be"\n'
        "book:  Learning an alphabet of pieces",
        "FILE ",
    ).add_argument
    train("file", metavar="FILE", help="the text to learn from")
    train(
        "--kind",
        choices=("bpe", "characters"),
        default="bpe",
        help="byte pairs or characters (%(default)s)",
    )
    train(
        "--vocab-size",
        type=positive,
        default=1024,
        help="how many tokens, for bpe (%(default)s)",
    )
    train(
        "--out",
        default=str(DATA / "tokenizer.json"),
        help="the file to write (%(default)s)",
    )
    add_tokenizer_uses(inner)


def add_tokenizer_uses(inner: Any) -> None:
    """The commands that use a tokenizer that is there."""
    encode = command(
        inner,
        "encode",
        run_tokenizer_encode,
        "Show the tokens of a text. A line each: its number, and its piece.",
        'tokenizer encode --tokenizer runs/toytown/tokenizer.json "Mrs Pell"',
        "book:  From text to tokens and back",
        "TEXT ",
    ).add_argument
    encode("text", metavar="TEXT", help="what to encode")
    encode("--tokenizer", required=True, help="its file")
    export = command(
        inner,
        "export",
        run_tokenizer_export,
        "Write a tokenizer in the form that other libraries read. "
        "The form tokenizers is the tokenizer.json of Hugging Face; "
        "tiktoken is a file of ranks.",
        "tokenizer export --tokenizer runs/toytown/tokenizer.json "
        "--out town.json",
        "book:  The same tokens as everybody else",
    ).add_argument
    export("--tokenizer", required=True, help="its file")
    export(
        "--form",
        choices=("tokenizers", "tiktoken"),
        default="tokenizers",
        help="which library is to read it (%(default)s)",
    )
    export("--out", required=True, help="the file to write")


def add_train(commands: Any) -> None:
    """The command `train`."""
    parser = command(
        commands,
        "train",
        run_train,
        "Train a model, from nothing. Writes or fetches the text, learns "
        "the tokenizer, says how long it will take, trains, and keeps all "
        "in one folder. Ctrl-C saves; --resume goes on as if nothing had "
        "happened. Without options it trains the small model of the book.",
        "train --corpus toytown --out runs/toytown\n"
        "  python -m scratchlm train --corpus shakespeare --tokenizer "
        "characters \\\n      --out runs/shakespeare",
        "next:  python -m scratchlm sample --run runs/toytown --prompt Mrs\n"
        "book:  The loop",
    )
    add_text_options(parser.add_argument_group("text").add_argument)
    add_model_options(parser.add_argument_group("model").add_argument)
    add_loop_options(parser.add_argument_group("training").add_argument)
    add_run_options(parser.add_argument_group("run").add_argument)


def add_text_options(add: Any) -> None:
    """What to learn from."""
    add(
        "--corpus",
        default="toytown",
        help="toytown, shakespeare, an address, a UTF-8 file, or the folder "
        "that `corpus prepare` wrote (%(default)s)",
    )
    add(
        "--characters",
        type=positive,
        default=5_000_000,
        help="how much of Toytown to write (%(default)s)",
    )
    add("--corpus-seed", type=int, default=2026, help="which (%(default)s)")
    add(
        "--tokenizer",
        choices=("bpe", "characters"),
        default="bpe",
        help="byte pairs or characters (%(default)s)",
    )
    add(
        "--vocab-size",
        type=positive,
        default=1024,
        help="how many tokens, for bpe (%(default)s)",
    )


def add_model_options(add: Any) -> None:
    """What is to learn."""
    add(
        "--form",
        choices=("gpt2", "llama"),
        default="gpt2",
        help="of which family its parts are (%(default)s)",
    )
    for name, default, text in (
        ("layers", 4, "blocks"),
        ("heads", 4, "heads of attention in a block"),
        ("channels", 128, "numbers for a token"),
        ("context", 128, "tokens it looks back on"),
    ):
        add(
            f"--{name}",
            type=positive,
            default=default,
            help=f"{text} (%(default)s)",
        )
    add(
        "--dropout",
        type=float,
        default=0.0,
        help="share of values dropped (%(default)s)",
    )


def add_loop_options(add: Any) -> None:
    """How it is to learn."""
    for name, kind, default, text in (
        ("steps", positive, 800, "updates of the weights"),
        ("batch-size", positive, 32, "windows in a batch"),
        ("accumulate", positive, 1, "batches to a step"),
        ("learning-rate", float, 3e-3, "the highest"),
        ("warmup", int, 50, "steps until it is highest"),
        ("weight-decay", float, 0.1, "pull of weights towards zero"),
        ("clip", float, 1.0, "largest norm of the gradient"),
        ("seed", int, 1, "of weights, batches and dropout"),
    ):
        add(
            f"--{name}",
            type=kind,
            default=default,
            help=f"{text} (%(default)s)",
        )
    for name, choices, text in (
        ("schedule", ("cosine", "stable"), "how the learning rate falls"),
        ("optimizer", ("adamw", "muon"), "muon: for matrices, AdamW the rest"),
        ("precision", ("auto", *PRECISIONS), "of matrix products"),
    ):
        add(
            f"--{name}",
            choices=choices,
            default=choices[0],
            help=f"{text} (%(default)s)",
        )
    add(
        "--checkpoint-activations",
        action="store_true",
        help="less memory for a third more time",
    )
    add(
        "--patience",
        type=positive,
        help="stop after so many evaluations without a new best",
    )


def add_run_options(add: Any) -> None:
    """Where, how long, and what to see of it."""
    add(
        "--out",
        default="runs/toytown",
        help="folder for all that comes of it (%(default)s)",
    )
    add(
        "--resume",
        action="store_true",
        help="go on with the run in --out, with its settings",
    )
    add("--max-minutes", type=float, help="take fewer steps, to end in time")
    add_device(add)
    add(
        "--evaluate-every",
        type=positive,
        default=50,
        help="steps from checkpoint to checkpoint (%(default)s)",
    )
    add(
        "--sample-every",
        type=int,
        default=5,
        help="evaluations from sample to sample, 0: none (%(default)s)",
    )
    add("--tensorboard", action="store_true", help="write its log as well")


def add_device(add: Any) -> None:
    """Where to compute."""
    add(
        "--device",
        type=device,
        default="cpu",
        help="cpu, cuda or mps (%(default)s)",
    )


def add_trained(add: Any) -> None:
    """Which trained model to take."""
    add(
        "--run",
        dest="folder",
        default="runs/toytown",
        help="its folder (%(default)s)",
    )
    add("--snapshot", type=int, help="as it was at this step, not at its best")
    add_device(add)


def add_sample(commands: Any) -> None:
    """The command `sample`."""
    add = command(
        commands,
        "sample",
        run_sample,
        "Let a trained model write. The text appears as it is written, until "
        "the model ends it or --tokens are written.",
        'sample --run runs/toytown --prompt "Mrs Pell" --temperature 0.8',
        "next:  python -m scratchlm evaluate --run runs/toytown\n"
        "book:  Letting it speak; Choosing the next word",
    ).add_argument
    add_trained(add)
    add("--prompt", default="", help="how the text begins")
    add(
        "--tokens",
        type=positive,
        default=200,
        help="how many at most (%(default)s)",
    )
    add(
        "--temperature",
        type=float,
        default=1.0,
        help="0: always the likeliest (%(default)s)",
    )
    add("--top-k", type=positive, help="choose among the k likeliest")
    add("--top-p", type=float, help="among the likeliest that make up p")
    add("--seed", type=int, default=0, help="of the dice (%(default)s)")


def add_evaluate(commands: Any) -> None:
    """The command `evaluate`."""
    add = command(
        commands,
        "evaluate",
        run_evaluate,
        "Score a trained model on its validation text. Perplexity, bits per "
        "byte, and for Toytown the distance from the lowest loss possible.",
        "evaluate --run runs/toytown",
        "next:  python -m scratchlm train --help, and beat it\n"
        "book:  How good is it?",
    ).add_argument
    add_trained(add)
    add(
        "--batch-size",
        type=positive,
        default=32,
        help="windows at a time (%(default)s)",
    )


def make_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    parser = argparse.ArgumentParser(
        prog="python -m scratchlm",
        description="A large language model from scratch.",
        epilog="begin with:\n  python -m scratchlm train --out runs/toytown",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for add in (
        add_corpus,
        add_tokenizer,
        add_train,
        add_sample,
        add_evaluate,
    ):
        add(commands)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    options = make_parser().parse_args(arguments)
    try:
        options.run(options)
    except Interrupted as stopped:
        print(stopped, file=sys.stderr)
        return 130
    except (ValueError, OSError, ImportError, NonFiniteLoss) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
