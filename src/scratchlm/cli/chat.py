"""The command `chat`: talk with a model that was taught to answer."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile
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
from scratchlm.cli.sample import LIKELY, as_trained, prompts, stream
from scratchlm.cli.settings import options
from scratchlm.generation.generate import generate
from scratchlm.generation.sampling import SamplingConfig
from scratchlm.generation.speed import FastStep
from scratchlm.model.gpt import GPT
from scratchlm.text.tokenizer import Tokenizer
from scratchlm.training.checkpoint import load_model
from scratchlm.tuning.dialogue import Layout, encode_dialogue, layout_of
from scratchlm.tuning.instruct import Turn


def answer(
    model: GPT,
    tokenizer: Tokenizer,
    ids: Sequence[int],
    count: int,
    stops: Sequence[int],
    sampling: SamplingConfig,
    generator: torch.Generator,
) -> Iterator[str]:
    """Pieces of an answer, as they are written, up to one of `stops`."""
    prompt = torch.tensor([list(ids)], device=generator.device)
    new = generate(
        model, prompt, count, sampling, generator, step=FastStep(model)
    )
    numbers = (int(step[0]) for step in new)
    said = takewhile(lambda number: number not in stops, numbers)
    yield from tokenizer.decode_stream(said)


def show_answer(pieces: Iterator[str]) -> str:
    """Print an answer as it comes, without the space in front; return it."""
    said = ""
    for piece in pieces:
        print(piece if said.strip() else piece.lstrip(), end="", flush=True)
        said += piece
    print()
    return said


def talk(
    model: GPT,
    tokenizer: Tokenizer,
    layout: Layout,
    data: Mapping[str, Any],
    count: int,
    sampling: SamplingConfig,
    generator: torch.Generator,
) -> None:
    """Answer line after line, until there is none.

    When the context is full, the oldest turns are forgotten. An answer that
    may be long gets half of the context, and pushes out what it must.
    """
    last = layout.marks(tokenizer)[-1]
    stops = (tokenizer.special_tokens[last], tokenizer.end_id)
    context = model.config.context
    room = max(context - count, context // 2)
    begin, turns = list(data.get("begin", ())), list[Turn]()
    for text in prompts("Ask something; an empty line ends this."):
        request = as_trained(text, data)
        while True:
            with users_input():  # bytes that are no text
                said = encode_dialogue(tokenizer, layout, turns, request)
            ids = begin + said
            if not turns or len(ids) <= room:
                break
            del turns[0]
        found = show_answer(
            answer(model, tokenizer, ids, count, stops, sampling, generator)
        )
        turns.append(Turn(request, found))


def chat(
    *,
    run: RunFolder = TOYTOWN,
    tokens: Annotated[
        int, Parameter(help="how many an answer has at most (200)")
    ] = 200,
    seed: Annotated[int, Parameter(help="of the random numbers (0)")] = 0,
    sampling: Annotated[SamplingConfig, options("Model")] = LIKELY,
    snapshot: Snapshot = None,
    device: Device = "cpu",
    verify: Verify = True,
) -> None:
    """Talk with a model that was taught to answer.

    Each answer appears as it is written, and the model reads everything that
    was said, as far back as its context reaches. A model that was never
    taught to answer continues your text instead. An empty line, Ctrl-D or
    Ctrl-C ends the chat.

    Example:
      python -m scratchlm chat --run runs/answers --temperature 0

    Book: One model, other programs: export and import
    """
    if tokens < 1:
        raise UserError(f"--tokens {tokens}: ask for 1 or more")
    if not 0 <= seed < 2**63:
        raise UserError(f"--seed {seed}: choose 0 or more, and below 2^63")
    device = check_device(device)
    tokenizer = run_tokenizer(run, verify)
    data = read_settings(run)["data"]
    model = load_model(run, snapshot, verify).to(device)
    layout = layout_of(tokenizer, data.get("instructed", False))
    if layout is not None and isinstance(tokenizer, Tokenizer):
        dice = torch.Generator(device).manual_seed(seed)
        return talk(model, tokenizer, layout, data, tokens, sampling, dice)
    print(
        f"{run} was never taught to answer, so it goes on with what you type."
    )
    for text in prompts():
        text, begin = as_trained(text, data), data.get("begin", ())
        pieces = stream(model, tokenizer, text, tokens, seed, sampling, begin)
        show_answer(pieces)
