"""The command `quantize`: a trained model in fewer bytes."""

import shutil
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from scratchlm.cli.compare import table
from scratchlm.cli.errors import UserError, users_input
from scratchlm.cli.runs import (
    TOYTOWN,
    RunFolder,
    Snapshot,
    Verify,
    open_run,
)
from scratchlm.evaluation.perplexity import bits_per_byte, evaluate
from scratchlm.model.gpt import GPT
from scratchlm.serving.quantize import (
    Scheme,
    model_bytes,
    quantize_model,
    save_quantized,
)
from scratchlm.training.checkpoint import has_run, load_model


def quantize(
    *,
    run: RunFolder = TOYTOWN,
    snapshot: Snapshot = None,
    bits: Annotated[int, Parameter(help="of a weight, 2 to 8 (8)")] = 8,
    group: Annotated[
        str,
        Parameter(help="weights with one scale: tensor, row, or how many (32)"),
    ] = "32",
    out: Annotated[
        Path | None, Parameter(help="the folder to write (RUN-int8)")
    ] = None,
    verify: Verify = True,
) -> None:
    """Write a trained model in fewer bytes.

    Matrices become whole numbers of a few bits, with a scale for each group
    of neighbors in a row. Prints bytes and validation loss, before and
    after.

    Example:
      python -m scratchlm quantize --run runs/toytown --bits 4 --group 32

    Book: A weight in half a byte: quantization
    """
    run = run if run.stem.strip(".") else run.resolve()  # "." has no name
    out = out or run.with_name(f"{run.name}-int{bits}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} is there already; name a new folder with --out")
    if has_run(run) and not (run / "validation.tokens").exists():
        raise UserError(
            f"{run} holds no validation text, by which fewer bits are judged; "
            "use quantize_model and save_quantized in Python"
        )
    opened = open_run(run, verify)
    model = load_model(run, snapshot, verify)
    with users_input():
        scheme = Scheme(bits, int(group) if group.isdigit() else group)
        small = quantize_model(model, scheme)
    size = int(opened.settings["data"]["validation_bytes"])

    def row(name: str, model: GPT) -> tuple[str, ...]:
        result = evaluate(model, opened.validation, model.config.context)
        per_byte = bits_per_byte(result.nats, size)
        nats = result.nats_per_token
        return name, f"{model_bytes(model):,}", f"{nats:.4f}", f"{per_byte:.4f}"

    head = ("", "bytes", "nats per token", "bits per byte")
    print(table([head, row("before", model), row("after", small)]))
    out.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(run / "tokenizer.json", out / "tokenizer.json")
    save_quantized(out, small, others=["tokenizer.json"])
    print(f"{out}: written")
