"""The command `chat`: talk with a model that was taught to answer."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby, takewhile
from typing import Annotated, Any, NamedTuple

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
from scratchlm.text.prepare import AnyTokenizer
from scratchlm.text.tokenizer import Tokenizer, split_special
from scratchlm.training.checkpoint import load_model
from scratchlm.tuning.instruct import ASSISTANT, STOP, USER, Turn

Piece = tuple[bool, str]  # a mark, or a text in which nothing is special


class Layout(NamedTuple):
    """What stands before a request, between it and the answer, and behind."""

    before: str
    between: str
    behind: str

    def marks(self, tokenizer: Tokenizer) -> list[str]:
        """The special tokens in it."""
        names = tokenizer.special_tokens
        return [p for part in self for p in split_special(part, names)[1::2]]


OURS = Layout(USER, ASSISTANT, STOP)
PUBLISHED = (
    Layout(
        "<|im_start|>user\n",
        "<|im_end|>\n<|im_start|>assistant\n",
        "<|im_end|>\n",
    ),
    Layout(
        "<|start_header_id|>user<|end_header_id|>\n\n",
        "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
        "<|eot_id|>",
    ),
)


def layout_of(
    tokenizer: AnyTokenizer, data: Mapping[str, Any]
) -> Layout | None:
    """How dialogues of this model look; None if it has had none.

    A template that came with it is a program, and is not run: of models of
    others we know two layouts, by their marks.
    """
    if not isinstance(tokenizer, Tokenizer):
        return None
    if len(OURS.marks(tokenizer)) == 3:
        return OURS
    known = PUBLISHED if data.get("instructed") else ()
    return next((x for x in known if len(x.marks(tokenizer)) > 3), None)


def encode_pieces(tokenizer: Tokenizer, pieces: Sequence[Piece]) -> list[int]:
    """Marks as their numbers, and texts that stand side by side as one."""
    ids: list[int] = []
    for is_mark, group in groupby(pieces, key=lambda piece: piece[0]):
        names = [text for _, text in group]
        if is_mark:
            ids += [tokenizer.special_tokens[name] for name in names]
        else:
            ids += tokenizer.encode_ordinary("".join(names))
    return ids


def encode_dialogue(
    tokenizer: Tokenizer, layout: Layout, turns: Sequence[Turn], request: str
) -> list[int]:
    """The prompt: what was said, the request, and the mark to answer after.

    What was typed is never special, even if it spells a mark.
    """

    def part(text: str) -> list[Piece]:
        halves = split_special(text, tokenizer.special_tokens)
        return [(i % 2 == 1, half) for i, half in enumerate(halves) if half]

    before, between, behind = map(part, layout)
    pieces: list[Piece] = []
    for turn in turns:
        pieces += [*before, (False, turn.request), *between]
        pieces += [(False, turn.answer), *behind]
    pieces += [*before, (False, request), *between]
    return encode_pieces(tokenizer, pieces)


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
    may be long is left half of the context, and pushes out what it must.
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

    Each answer appears as it is written, and the model reads all that was
    said, as far as its context reaches. A model that was never taught to
    answer goes on with your text instead. An empty line, Ctrl-D or Ctrl-C
    ends it.

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
    layout = layout_of(tokenizer, data)
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
