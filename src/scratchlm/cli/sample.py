"""The command `sample`: let a trained model write."""

import sys
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

import torch
from cyclopts import Parameter

from scratchlm.cli.errors import UserError, users_input
from scratchlm.cli.runs import (
    TOYTOWN,
    Device,
    RunFolder,
    Snapshot,
    Verify,
    check_device,
    read_settings,
    run_tokenizer,
)
from scratchlm.cli.settings import describe, options
from scratchlm.generation.generate import generate
from scratchlm.generation.sampling import SamplingConfig
from scratchlm.generation.speed import FastStep
from scratchlm.model.gpt import GPT
from scratchlm.text.characters import CharTokenizer
from scratchlm.text.prepare import AnyTokenizer
from scratchlm.training.checkpoint import load_model

describe(SamplingConfig, vars(SamplingConfig()))
LIKELY = SamplingConfig()  # what the model believes


def as_trained(prompt: str, data: Mapping[str, Any]) -> str:
    """The prompt in the Unicode form of a model's texts, if they have one."""
    form = data.get("normal")
    return unicodedata.normalize(form, prompt) if form else prompt


def first_ids(
    tokenizer: AnyTokenizer, prompt: str, begin: Sequence[int] = ()
) -> list[int]:
    """The prompt's tokens; without one, what comes before a text begins.

    `begin` are tokens that go in front of every text.
    """
    with users_input():  # characters that it has never seen
        ids = [*begin, *tokenizer.encode(prompt)]
        if ids:
            return ids
        if isinstance(tokenizer, CharTokenizer):
            return tokenizer.encode("\n")
    return [tokenizer.end_id]


def stream(
    model: GPT,
    tokenizer: AnyTokenizer,
    prompt: str,
    count: int,
    seed: int = 0,
    sampling: SamplingConfig | None = None,
    begin: Sequence[int] = (),
) -> Iterator[str]:
    """Pieces of text that continue the prompt, as they are written."""
    end = None if isinstance(tokenizer, CharTokenizer) else tokenizer.end_id
    device = next(model.parameters()).device
    new = generate(
        model,
        torch.tensor([first_ids(tokenizer, prompt, begin)], device=device),
        count,
        sampling=sampling,
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


def read_prompt(prompt: str) -> str:
    """The prompt; "-" stands for what comes from standard input."""
    return typed(-1).rstrip("\n") if prompt == "-" else prompt


def typed(lines: int) -> str:
    """What comes from standard input: one line, or all of it for -1."""
    if sys.stdin is None:
        raise UserError("there is no standard input to read a prompt from")
    try:
        return sys.stdin.readline() if lines == 1 else sys.stdin.read()
    except UnicodeDecodeError as error:
        raise UserError(
            f"standard input is not {error.encoding}: {error.reason}; give "
            "the prompt in this encoding, or set PYTHONUTF8=1"
        ) from error


def prompts(
    request: str = "Type how a text begins; an empty line ends this.",
) -> Iterator[str]:
    """What somebody types, line by line, until an empty one or Ctrl-D."""
    print(request, flush=True)
    while True:
        print("> ", end="", flush=True)
        line = typed(1)
        if not line:
            print()  # the end of the input, in the middle of our line
        if not line.strip("\n"):
            return
        yield line.rstrip("\n")


def sample(
    *,
    run: RunFolder = TOYTOWN,
    prompt: Annotated[
        str,
        Parameter(
            help="how the text begins; -: standard input",
            allow_leading_hyphen=True,
        ),
    ] = "",
    tokens: Annotated[int, Parameter(help="how many at most (200)")] = 200,
    seed: Annotated[int, Parameter(help="of the random numbers (0)")] = 0,
    sampling: Annotated[SamplingConfig, options("Model")] = LIKELY,
    snapshot: Snapshot = None,
    device: Device = "cpu",
    verify: Verify = True,
    interactive: Annotated[
        bool, Parameter(negative="", help="continue line after line")
    ] = False,
) -> None:
    """Let a trained model write.

    The text appears as it is written, until the model ends it, or until it
    has as many tokens as you allow.

    Example:
      python -m scratchlm sample --run runs/toytown --temperature 0.8
      echo "Mrs Pell" | python -m scratchlm sample --prompt -

    Next: python -m scratchlm evaluate --run runs/toytown
    Book: Letting it speak: generation; Choosing the next word: sampling
    """
    if tokens < 1:
        raise UserError(f"--tokens {tokens}: ask for 1 or more")
    if not 0 <= seed < 2**63:
        raise UserError(f"--seed {seed}: choose 0 or more, and below 2^63")
    if interactive and prompt:
        raise UserError("--interactive asks for each prompt; leave --prompt")
    device = check_device(device)
    tokenizer = run_tokenizer(run, verify)
    data = read_settings(run)["data"]
    model = load_model(run, snapshot, verify).to(device)

    def show(text: str) -> None:
        text, begin = as_trained(text, data), data.get("begin", ())
        pieces = stream(model, tokenizer, text, tokens, seed, sampling, begin)
        print(text, end="", flush=True)
        for piece in pieces:
            print(piece, end="", flush=True)
        print()

    if not interactive:
        return show(read_prompt(prompt))
    for text in prompts():
        try:
            show(text)
        except UserError as error:  # the next line may be better
            print(f"\nerror: {error}", file=sys.stderr)
