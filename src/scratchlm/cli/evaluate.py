"""The command `evaluate`: score a trained model on its validation text."""

from pathlib import Path
from typing import Annotated

import numpy as np
from cyclopts import Parameter

from scratchlm.cli.errors import UserError, users_input
from scratchlm.cli.runs import (
    TOYTOWN,
    Device,
    RunFolder,
    Snapshot,
    Verify,
    check_device,
    kind_of,
    open_run,
    read_settings,
    run_tokenizer,
)
from scratchlm.evaluation.perplexity import bits_per_byte, perplexity
from scratchlm.evaluation.perplexity import evaluate as score
from scratchlm.text.corpus import has_json_lines
from scratchlm.text.prepare import (
    AnyTokenizer,
    MaterialError,
    encode_texts,
    read_texts,
)
from scratchlm.training.checkpoint import blaming, load_model
from scratchlm.training.precision import Precision, supported
from scratchlm.training.trainer import entropy_floor


def evaluate(
    *,
    run: RunFolder = TOYTOWN,
    snapshot: Snapshot = None,
    text: Annotated[
        Path | None,
        Parameter(help="score this file instead, such as test.jsonl"),
    ] = None,
    stride: Annotated[
        int | None,
        Parameter(help="tokens from window to window (the context)"),
    ] = None,
    batch_size: Annotated[int, Parameter(help="windows at a time (32)")] = 32,
    device: Device = "cpu",
    verify: Verify = True,
) -> None:
    """Score a trained model on its validation text, or on another.

    Prints perplexity, bits per byte, and for Toytown the distance from the
    lowest possible loss. With a stride below the context, windows overlap,
    and every token is judged with more of the text before it.

    Example:
      python -m scratchlm evaluate --run runs/toytown
      python -m scratchlm evaluate --run runs/toytown --stride 64
      python -m scratchlm evaluate --run runs/notes --text data/notes/test.jsonl

    Next: python -m scratchlm compare runs/toytown runs/other
    Book: How good is it? Loss and perplexity
    """
    if batch_size < 1:
        raise UserError(f"--batch-size {batch_size}: choose 1 or more")
    device = check_device(device)
    settings = read_settings(run)
    model = load_model(run, snapshot, verify).to(device)
    context = model.config.context
    if stride is not None and not 1 <= stride <= context:
        raise UserError(
            f"--stride {stride}: choose 1 to {context}, the context, or "
            "tokens are left out"
        )
    floor = None
    if text is not None:  # an imported run has no other
        with users_input():
            tokens, size = read_tokens(text, run_tokenizer(run, verify))
    else:
        opened, data = open_run(run, verify), settings["data"]
        with blaming(run / "config.json"):
            tokens, size = opened.validation, int(data["validation_bytes"])
            floor = entropy_floor(data)
    trained_in = settings["training"].get("precision")
    precision: Precision = "float32"
    if trained_in in supported(kind_of(device)):
        precision = trained_in
    result = score(model, tokens, context, batch_size, stride, precision)
    nats = result.nats_per_token
    print(f"tokens            {result.tokens:,}")
    same = trained_in in (None, precision)
    note = "" if same else f", not {trained_in} as trained"
    print(f"precision         {precision}{note}")
    print(f"nats per token    {nats:.4f}")
    print(f"perplexity        {perplexity(nats):.3f}")
    bits = bits_per_byte(result.nats, size)
    print(f"bits per byte     {bits:.4f}")
    if floor is not None:
        print(f"entropy           {floor:.4f} nats per token")
        print(f"distance from it  {nats - floor:.4f}")


def read_tokens(path: Path, tokenizer: AnyTokenizer) -> tuple[np.ndarray, int]:
    """A text's tokens, as a run's own text is encoded, and its bytes."""
    separate = has_json_lines(path)
    parts, size = [np.zeros(0, np.uint32)], 0
    for batch, ids in encode_texts(tokenizer, read_texts(path), separate, 1):
        parts.append(ids)
        size += batch.bytes
    tokens = np.concatenate(parts).astype(np.int64)
    if len(tokens) < 2 or not size:
        raise MaterialError(f"{path} holds too little text to score")
    return tokens, size
