"""What probes with one right answer must be, and how to ask them."""

import random
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from scratchlm.evaluation import probes
from scratchlm.text.tokenizer import Tokenizer
from scratchlm.text.toytown import (
    Slot,
    Word,
    begins_story,
    parse,
    write_stories,
)

from ..expect import close, equal, raises, true

LETTERS = Tokenizer([], {"<|endoftext|>": 256})  # a token for each byte


class Adder(nn.Module):
    """What comes next depends on the sum of all tokens so far."""

    def __init__(self, context: int = 16) -> None:
        super().__init__()
        self.config = SimpleNamespace(context=context)
        self.token = nn.Embedding(8, 1)

    def forward(self, ids: Tensor) -> Tensor:
        sums = ids.cumsum(dim=1)[..., None]  # (B, T, 1)
        return torch.sin(sums * torch.arange(1.0, 9.0))


def alone(prompt: list[int], candidate: list[int]) -> list[float]:
    """ln P of each token of the candidate, one after the other."""
    found = []
    for i, token in enumerate(candidate):
        ids = torch.tensor([[*prompt, *candidate[:i]]])
        found.append(float(Adder()(ids)[0, -1].log_softmax(0)[token]))
    return found


def check_one_right_answer() -> None:
    """The town could go on with the answer, and with no other candidate."""
    for probe in probes.probes(seed=4, n=2):
        could = [begins_story(probe.prompt + c) for c in probe.candidates]
        equal(
            [i for i, possible in enumerate(could) if possible],
            [probe.answer],
            f"what can follow {probe.prompt[-30:]!r}, of {probe.candidates}",
            hint="the answer's place, after the candidates were mixed",
        )


def check_whole_words() -> None:
    """No candidate is the beginning of another."""
    for probe in probes.probes(seed=4, n=25):
        for one in probe.candidates:
            for other in probe.candidates:
                true(
                    one == other or not other.startswith(one),
                    f"{one!r} is not the beginning of {other!r}",
                    hint="let a candidate run on to the end of a word, or "
                    "it gets the other's chances too",
                )


def check_places() -> None:
    """The answer stands at any place among the candidates."""
    made = probes.probes(seed=4, n=25)
    places = {p.answer for p in made if p.kind == "questions"}
    equal(places, {0, 1, 2, 3}, "the places of 25 answers", "mix them")


def check_tempting() -> None:
    """Wrong sums are the neighbors of the right one, below it or above."""
    _, gaps = probes.tell_with_gaps(random.Random(0))
    (slot,) = parse("{n-m}")
    facts = {"n": Word({}, 9), "m": Word({}, 3)}
    assert isinstance(slot, Slot)
    gap, draw = gaps[0]._replace(slot=slot, facts=facts), random.Random(1)
    numbers = ["three", "four", "five", "six", "seven", "eight", "nine"]
    smaller = set()  # how many of the wrong ones are below six
    for _ in range(40):
        wrong = probes.distractors("sums", gap, draw)
        places = sorted(numbers.index(w) for w in {*wrong, "six"} & {*numbers})
        equal(
            [place - places[0] for place in places],
            [0, 1, 2, 3],
            f"{wrong} and six, as four numbers in a row",
            hint="sort by the distance from a place near the right number",
        )
        smaller.add(places.index(3))
    equal(
        smaller,
        {0, 1, 2, 3},
        "how many of three wrong sums are below the right one",
        hint="draw it, or the answer's rank gives it away",
    )


def check_pairs() -> None:
    """A space at the prompt's end goes to the candidate."""
    wanted = ([256, *b"It is"], [*b" Monday"])
    got = probes.encode_pair(LETTERS, "It is ", "Monday")
    equal(got, wanted, "'It is ' and 'Monday', a token for each byte")
    joined = Tokenizer([(116, 115)], {"<|endoftext|>": 257})  # "ts"
    raises(
        ValueError,
        lambda: probes.encode_pair(joined, "count", "s"),
        "a token that would hold the end of one and the start of the other",
        hint="encode the whole text, and compare its beginning",
    )


def check_batches() -> None:
    """Many at once score as each alone, in the order that was asked."""
    pairs = [([5, 1], [2, 7, 1]), ([3], [4]), ([1, 2, 3, 4], [5, 6])]
    model: Any = Adder()
    got = probes.log_likelihoods(model, pairs, batch_size=3)
    for found, (prompt, candidate) in zip(got, pairs, strict=True):
        close(
            found,
            alone(prompt, candidate),
            f"ln P of {candidate} after {prompt}, beside others",
            hint="pad behind the end; only the candidate's tokens count; "
            "give the results back in the order of the pairs",
        )


def check_long_prompts() -> None:
    """Of a text longer than the window, the end is kept."""
    inputs, targets = probes.pad_pairs([([1, 2, 3, 4], [5, 6])], context=3)
    equal(inputs.tolist(), [[3, 4, 5]], "what a window of 3 reads")
    equal(targets.tolist(), [[-100, 5, 6]], "what it is to predict")


def check_rules() -> None:
    """Sum, mean by token and mean by character choose differently."""
    candidates = (" Up.", " By the sea.", " Mill")
    probe = probes.Probe("questions", "Where?", candidates, 1)
    answer = probes.Answer(probe, (-2.0, -5.4, -2.4), (1, 4, 2))
    for rule, choice in (("sum", 0), ("token", 2), ("character", 1)):
        equal(
            answer.choice(rule),  # type: ignore[arg-type]
            choice,
            f"the choice by {rule}, of ln P -2, -5.4 and -2.4, tokens 1, 4 "
            "and 2, characters 4, 12 and 5",
            hint="divide, then take the highest",
        )
    score = probes.tally([answer], "character")["questions"]
    close(score.chance, 1 / 3, "chance among three")
    equal((score.right, score.asked), (1, 1), "right of asked")


def check_wilson() -> None:
    """15 of 148, and 0 of 20, as published (Newcombe, 1998)."""
    for right, asked, wanted in (
        (15, 148, [0.0624, 0.1605]),
        (0, 20, [0.0, 0.1611]),
    ):
        close(
            probes.wilson(right, asked),
            wanted,
            f"the interval of {right} of {asked}",
            tol=1e-4,
            hint="the middle moves towards a half: (k + z²/2) / (n + z²)",
        )
    for right, asked in ((-1, 5), (6, 5), (0, 0), (1, 0)):
        raises(
            ValueError,
            lambda r=right, a=asked: probes.wilson(r, a),  # type: ignore
            f"{right} right of {asked}",
        )


def check_mcnemar() -> None:
    """Only probes on which two models differ count, from both sides."""
    first = [True, True, True, True, True, True, False]
    second = [False, False, False, False, False, True, False]
    close(
        probes.mcnemar(first, second),
        2 / 32,
        "five differ, all to one side",
        hint="five coins all fall alike: 2 of 32 ways",
    )
    close(probes.mcnemar(second, first), 2 / 32, "the same, turned around")
    close(probes.mcnemar(first, first), 1.0, "two models that never differ")


def check_contamination() -> None:
    """A probe's own story gives it away, another one does not."""
    story = next(write_stories(9)).text
    probe = probes.Probe("sums", story, ("",), 0)
    other = next(write_stories(8)).text
    for train, share in (([other, story], 1.0), ([], 0.0)):
        got = probes.contamination(train, [probe])
        close(got, [share], f"the known share, of {len(train)} texts")


BUGS = {
    "candidates end with the word that fills the gap": (
        'after = tail[0] if tail else ""',
        'after = ""',
    ),
    "the answer always comes first": (
        "mixed = sorted([right, *wrong], key=lambda _: draw.random())",
        "mixed = [right, *wrong]",
    ),
    "the answer's place is that before mixing": (
        "mixed.index(right)",
        "0",
    ),
    "wrong sums are far from the right one": (
        "far = abs(word.count - middle)",
        "far = -abs(word.count - middle)",
    ),
    "as many wrong sums below the right one, each time": (
        "draw.choice((-1.5, -0.5, 0.5, 1.5))",
        "0.5",
    ),
    "prompt and candidate are encoded apart": (
        "whole = tokenizer.encode(prompt + candidate)",
        "whole = known + tokenizer.encode(candidate)",
    ),
    "the prompt's tokens count": (
        "target[: -len(candidate)] = IGNORED",
        "target[:0] = IGNORED",
    ),
    "a long text loses its end": (
        "[-context - 1 :]",
        "[: context + 1]",
    ),
    "results come in the order of their lengths": (
        "return [found[i] for i in range(len(pairs))]",
        "return [found[i] for i in order]",
    ),
    "the rule is not applied": (
        "[x / size for x, size in zip(self.log_probs, sizes, strict=True)]",
        "list(self.log_probs)",
    ),
    "the interval is centered on the share": (
        "middle = (right + z * z / 2) / grown",
        "middle = share",
    ),
    "the test looks at one side": (
        "min(1.0, 2 * tail)",
        "tail",
    ),
    "probes that both got wrong count as lost": (
        "pairs.count((False, True))",
        "pairs.count((False, False))",
    ),
}
