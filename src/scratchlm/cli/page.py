"""The command `page`: a trained model as one HTML file."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from scratchlm.cli.errors import UserError, users_input
from scratchlm.cli.runs import (
    TOYTOWN,
    RunFolder,
    Snapshot,
    Verify,
    opening,
    run_tokenizer,
)
from scratchlm.serving.browser import model_page
from scratchlm.text.files import write_text
from scratchlm.training.checkpoint import load_model


def page(
    *,
    run: RunFolder = TOYTOWN,
    snapshot: Snapshot = None,
    title: Annotated[
        str, Parameter(help="what stands over the page")
    ] = "A language model in a page",
    out: Annotated[
        Path | None, Parameter(help="the file to write (RUN.html)")
    ] = None,
    verify: Verify = True,
) -> None:
    """Write a trained model as an HTML page that runs it.

    The page needs no server and no network: open it in a browser, type, and
    see what may come next, what a head looks at, and what temperature does.

    Example:
      python -m scratchlm page --run runs/toytown --out model.html

    Book: A page that is the model: in your browser
    """
    run = run if run.stem.strip(".") else run.resolve()  # "." has no name
    out = out or run.with_name(f"{run.name}.html")
    if out.exists():
        raise UserError(f"{out} is there already; name a new file with --out")
    tokenizer = run_tokenizer(run, verify)
    model = load_model(run, snapshot, verify)
    with users_input():
        begins = opening(run) if (run / "validation.tokens").exists() else "The"
        text = model_page(model, tokenizer, title, begins)
    write_text(out, text)
    print(f"{out}: {len(text.encode()):,} bytes; open it in a browser")
