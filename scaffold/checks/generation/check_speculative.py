"""What guessing ahead must do, and must not change."""

import math

import torch
from torch import Tensor

from scratchlm.generation import speculative
from scratchlm.generation.generate import generate
from scratchlm.generation.sampling import SamplingConfig
from scratchlm.model.gpt import GPT, gpt2_config
from scratchlm.model.ngram import NGram

from ..expect import close, equal, true
from ..inputs import settled

P = torch.tensor([0.5, 0.3, 0.2, 0.0])  # what the model believes
Q = torch.tensor([0.1, 0.2, 0.3, 0.4])  # what the draft believes
GREEDY = SamplingConfig(temperature=0)


def sharp(channels: int, context: int) -> GPT:
    """A model of 11 tokens whose scores differ much, the same everywhere."""
    config = gpt2_config(11, context, 2, 2, channels)
    return settled(GPT(config).eval(), 0.5)


def frequencies(p: Tensor, q: Tensor, runs: int) -> Tensor:
    """How often each token comes first, with one guess at a time."""
    generator, size = torch.Generator().manual_seed(0), len(p)
    counts = torch.zeros(size)
    for _ in range(runs):
        guess = int(torch.multinomial(q, 1, generator=generator))
        both = p.expand(2, size)
        new = speculative.verify([guess], both, q[None], generator)
        counts[new[0]] += 1
    return counts / runs


def check_residual() -> None:
    """What p has beyond q, and nothing else, sums to 1."""
    close(
        speculative.residual(P, Q),
        [0.8, 0.2, 0.0, 0.0],
        "residual of (0.5, 0.3, 0.2, 0) and (0.1, 0.2, 0.3, 0.4)",
        hint="p - q where it is above 0, divided by its sum",
    )


def check_distribution() -> None:
    """Whatever the draft believes, tokens come as often as p says."""
    close(
        frequencies(P, Q, 2500),
        P,
        "how often each token comes first, in 2,500 rounds with a bad draft",
        tol=0.03,
        hint="keep with probability min(1, p / q), else draw from the residual",
    )


def check_first_refusal() -> None:
    """Behind the first guess that is refused nothing is kept."""
    p = torch.tensor([[0.0, 1.0], [1.0, 0.0], [1.0, 0.0]])
    q = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    equal(
        speculative.verify([0, 0], p, q),
        [1],
        "guesses 0, 0, where the model is sure of 1 and then of 0",
        hint="the second guess follows a token that is not in the text",
    )


def check_all_kept() -> None:
    """If all guesses are kept, the model adds a token of its own."""
    p = torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    equal(
        speculative.verify([1, 0], p, p[:2]),
        [1, 0, 2],
        "guesses 1, 0, both right, where 2 follows",
        hint="p has a row more than q: draw from it",
    )
    equal(
        speculative.verify([], p[2:], p[:0]),
        [2],
        "no guess at all",
    )


def check_lookup() -> None:
    """The longest end that stood before, at its latest place."""
    for ids, wanted in (
        ([5, 6, 7, 8, 9, 6, 7], [8, 9, 6, 7]),
        ([1, 2, 1, 3, 1], [3, 1]),
        ([1, 2, 7, 3, 2, 8, 1, 2], [7, 3, 2, 8, 1, 2]),
        ([1, 2, 3], []),
    ):
        equal(
            speculative.continuation(ids, longest=3),
            wanted,
            f"what followed the end of {ids} before",
            hint="try 3 tokens first, then 2, then 1; search backwards",
        )


def check_settings() -> None:
    """A draft returns the distribution that its guess was drawn from."""
    ids = torch.tensor([0, 1, 0, 1, 0, 1, 0, 2, 0, 3] * 4)
    draft = speculative.NGramDraft(NGram(2, 4, 0.01).fit(ids.numpy()))
    config = SamplingConfig(temperature=0.5)
    generator, counts = torch.Generator().manual_seed(0), torch.zeros(4)
    for _ in range(400):
        guesses, q = draft.propose([0], 1, config, generator)
        counts[guesses[0]] += 1
    close(
        q[0],
        counts / 400,
        "q for the first guess, and how often it is drawn, at temperature 1/2",
        tol=0.08,
        hint="temperature and cuts come before both: the draw and q",
    )


def check_draws_and_short_texts() -> None:
    """Equal generators guess alike; counts need their whole context."""
    ids = torch.tensor([0, 1, 0, 2, 0, 3, 1, 2, 3, 1, 0, 2, 2, 1, 3] * 4)
    draft = speculative.NGramDraft(NGram(3, 4, 1.0).fit(ids.numpy()))
    config = SamplingConfig()
    equal(draft.propose([0], 3, config)[0], [], "guesses after one token")
    equal(
        tuple(draft.propose([0], 3, config)[1].shape),
        (0, 4),
        "the shape of q where nothing is guessed",
    )
    one, two = (
        draft.propose([0, 1], 40, config, torch.Generator().manual_seed(3))[0]
        for _ in range(2)
    )
    equal(one, two, "40 guesses of two equal generators")
    equal(len(one), 40, "guesses where 40 are asked for")


def check_stop() -> None:
    """Nothing follows the stop token, and a text without it goes on."""
    model = sharp(16, 12)
    draft = speculative.ModelDraft(model)
    whole = [
        token
        for new in speculative.speculate(model, draft, [3, 1, 4], 20, 4, GREEDY)
        for token in new
    ]
    for stop in sorted(set(range(11)) & {*whole[2:9], *range(3)}):
        rounds = speculative.speculate(
            model, draft, [3, 1, 4], 20, 4, GREEDY, stop_id=stop
        )
        end = whole.index(stop) + 1 if stop in whole else len(whole)
        equal(
            [token for new in rounds for token in new],
            whole[:end],
            f"the text up to the first {stop}",
            hint="cut what a read brings behind the stop token, and end",
        )


def check_reader() -> None:
    """A text that parts from the one before gets its own scores."""
    model = sharp(16, 12)
    reader = speculative.Reader(model)
    for ids in ([3, 1, 4, 1, 5, 9], [3, 1, 4, 7, 7, 9, 2], [3, 1], [8, 1, 4]):
        with torch.no_grad():
            got = reader.logits(ids, last=2)
            wanted = model(torch.tensor([ids]))[0, -2:]
        close(
            got,
            wanted,
            f"scores after the last two of {ids}",
            tol=1e-4,
            hint="rewind the cache to where this text and the last one part",
        )


def check_same_text() -> None:
    """At temperature 0: the very tokens of `generate`, past the context."""
    model, prompt = sharp(16, 12), [3, 1, 4]
    steps = generate(model, torch.tensor([prompt]), 30, GREEDY)
    wanted = [int(step) for step in steps]
    for name, draft in (
        ("the model itself", speculative.ModelDraft(model)),
        ("a smaller one", speculative.ModelDraft(sharp(8, 12))),
        ("the text before", speculative.LookupDraft(11)),
    ):
        rounds = list(
            speculative.speculate(model, draft, prompt, 30, 4, GREEDY)
        )
        equal(
            [token for new in rounds for token in new],
            wanted,
            f"30 tokens, guessed by {name}",
            hint="no round may guess across a move of the window",
        )


def check_rounds() -> None:
    """With the model as its own draft, each read brings five tokens."""
    model = sharp(16, 24)
    draft = speculative.ModelDraft(model)
    rounds = speculative.speculate(model, draft, [3, 1, 4], 20, 4, GREEDY)
    lengths = [len(new) for new in rounds]
    equal(lengths, [5, 5, 5, 5], "tokens of each read, with 4 right guesses")


def check_formulas() -> None:
    """Expected tokens, and what they gain."""
    close(
        speculative.expected_tokens(0.5, 3),
        1.875,
        "expected tokens of a read, for 3 guesses kept half the time",
        hint="1 + α + α² + α³: the model's own token counts, too",
    )
    close(
        speculative.speedup(0.5, 3, 0.25),
        1.875 / 1.75,
        "speed-up, where a guess costs a quarter of a read",
    )
    true(
        math.isclose(float(speculative.overlap(P, Q)), 0.5, abs_tol=1e-6),
        "p and q overlap in half of their probability",
        hint="the sum of the smaller of the two, token by token",
    )


BUGS = {
    "a refused guess is drawn anew from p": (
        "beyond = (p - q).clamp_min(0)",
        "beyond = p.clone()",
    ),
    "the residual takes what q has beyond p, too": (
        "beyond = (p - q).clamp_min(0)",
        "beyond = (p - q).abs()",
    ),
    "the ratio is upside down": (
        "u * q[at] < p[at]",
        "u * p[at] < q[at]",
    ),
    "guesses behind a refused one are kept": (
        "int((u * q[at] < p[at]).cumprod(0).sum())",
        "int((u * q[at] < p[at]).sum())",
    ),
    "the model adds nothing where all guesses are kept": (
        "return [*guesses[:kept], draw_token(last, generator)]",
        "own = [] if 0 < kept == count else [draw_token(last, generator)]\n"
        "    return [*guesses[:kept], *own]",
    ),
    "the earliest place is taken": (
        "for start in range(len(ids) - size - 1, -1, -1):",
        "for start in range(len(ids) - size):",
    ),
    "the shortest end is looked up first": (
        "for size in range(min(longest, len(ids) - 1), 0, -1):",
        "for size in range(1, min(longest, len(ids) - 1) + 1):",
    ),
    "q is what the counts say before the temperature": (
        "rows.append(probabilities(share.log()[None], sampling))\n"
        "            text.append(draw_token(rows[-1][0], generator))",
        "rows.append(share.float()[None])\n"
        "            drawn = probabilities(share.log(), sampling)\n"
        "            text.append(draw_token(drawn, generator))",
    ),
    "the cache keeps what was refused": (
        "known = min(common_length(self.known, ids), len(ids) - last)",
        "known = min(len(self.known), len(ids) - last)",
    ),
    "a round guesses across a move of the window": (
        "room = min(start + context, end - 1) - len(text)",
        "room = end - 1 - len(text)",
    ),
    "the expected tokens leave out the model's own": (
        "for i in range(guesses + 1))",
        "for i in range(1, guesses + 1))",
    ),
}
