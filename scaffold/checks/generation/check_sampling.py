"""What choosing the next token must do."""

import torch
from torch import Tensor

from scratchlm.generation import sampling

from ..expect import close, equal, raises, true

# Probabilities 1/10, 1/2, 1/4, 3/20: the likeliest does not come first.
P = torch.tensor([0.10, 0.50, 0.25, 0.15])


def chances(**settings: float) -> Tensor:
    """The distribution that these settings make of P."""
    config = sampling.SamplingConfig(**settings)  # type: ignore[arg-type]
    return sampling.probabilities(P.log(), config)


def check_as_learned() -> None:
    """The defaults change nothing."""
    close(chances(), P, "0.1, 0.5, 0.25, 0.15")


def check_temperature() -> None:
    """Temperature 1/2 squares the probabilities, 2 takes their root."""
    for temperature, powers in ((0.5, P.square()), (2.0, P.sqrt())):
        close(
            chances(temperature=temperature),
            powers / powers.sum(),
            f"P at temperature {temperature}",
            hint="divide the logits by the temperature, then softmax",
        )
    close(chances(temperature=0), [0, 1, 0, 0], "P at temperature 0")


def check_top_k() -> None:
    """Two tokens of four share all of the probability."""
    hint = "keep exactly k; rule out with minus infinity, not with 0"
    close(chances(top_k=2), [0, 2 / 3, 1 / 3, 0], "top-k 2", hint=hint)
    close(chances(top_k=1), [0, 1, 0, 0], "top-k 1", hint=hint)
    close(chances(top_k=9), P, "top-k 9 of 4 tokens", hint=hint)
    left = sampling.keep_top_k(torch.zeros(5), 2)
    equal(int((left == 0).sum()), 2, "tokens left of five equal ones", hint)


def check_top_p() -> None:
    """The nucleus takes in the token that crosses p."""
    for p, wanted in (
        (1e-6, [0, 1, 0, 0]),
        (0.7, [0, 2 / 3, 1 / 3, 0]),
        (0.8, [0, 5 / 9, 2.5 / 9, 1.5 / 9]),
        (1.0, P),
    ):
        close(
            chances(top_p=p),
            wanted,
            f"top-p {p}",
            hint="sort descending; a token stays if those before it make up "
            "less than p; then back to the old order",
        )


def check_min_p() -> None:
    """What is less than p times as likely as the best is out."""
    for p, wanted in (
        (0.45, [0, 2 / 3, 1 / 3, 0]),
        (0.25, [0, 5 / 9, 2.5 / 9, 1.5 / 9]),
        (0.55, [0, 1, 0, 0]),
    ):
        close(
            chances(min_p=p),
            wanted,
            f"min-p {p}",
            hint="the floor is p times the largest probability",
        )


def check_order() -> None:
    """Temperature comes first, then the filters see what it made."""
    close(
        chances(temperature=0.5, top_p=0.7),  # 0.5² is 72 % of the squares
        [0, 1, 0, 0],
        "temperature 1/2 and top-p 0.7",
        hint="temperature, then top-k, top-p and min-p",
    )
    close(
        chances(top_k=3, top_p=0.8),  # 0.75 / 0.9 is more than 0.8
        [0, 2 / 3, 1 / 3, 0],
        "top-k 3, then top-p 0.8 of what is left",
        hint="top-p after top-k, on probabilities that sum to 1 again",
    )


def check_penalty() -> None:
    """A penalty lowers positive and negative scores, once for a token."""
    logits = torch.tensor([[2.0, -2.0, 2.0]])
    got = sampling.penalize(logits, torch.tensor([[0, 1, 0]]), 2.0)
    close(
        got,
        [[1.0, -4.0, 2.0]],
        "scores 2, -2, 2 when tokens 0, 1 and again 0 were seen",
        hint="divide what is positive, multiply what is negative",
    )
    close(logits, [[2.0, -2.0, 2.0]], "the argument itself, unchanged")


def check_draws() -> None:
    """Ten thousand draws have the frequencies of the distribution."""
    logits = torch.stack([P.log(), P.flip(0).log()])
    config = sampling.SamplingConfig(top_p=0.8)
    generator = torch.Generator().manual_seed(0)
    drawn = torch.stack(
        [
            sampling.sample(part, config, generator)
            for part in logits.expand(100, 100, 2, 4).flatten(0, 1).split(100)
        ]
    )
    equal(tuple(drawn.shape), (100, 100, 2), "shape of 100 × (100, 2) draws")
    for row, token in ((0, 1), (1, 2)):
        share = float((drawn[..., row] == token).float().mean())
        true(
            abs(share - 5 / 9) < 0.02,
            f"row {row} draws its likeliest token 5 times in 9, "
            f"got {share:.3f}",
            hint="draw with torch.multinomial, a row at a time",
        )


def check_the_generator_decides() -> None:
    """The same generator draws the same, whatever else draws numbers."""
    config, drawn = sampling.SamplingConfig(), []
    for seed in (1, 2):
        torch.manual_seed(seed)
        generator = torch.Generator().manual_seed(7)
        rows = P.log().expand(50, 4)
        drawn.append(sampling.sample(rows, config, generator))
    equal(
        drawn[1],
        drawn[0],
        "50 draws, with torch seeded otherwise",
        hint="hand the generator on to what draws",
    )


def check_refusals() -> None:
    """Settings that make no distribution are refused."""
    for settings in (
        {"temperature": -1.0},
        {"top_k": 0},
        {"top_p": 0.0},
        {"min_p": 1.5},
    ):
        raises(
            ValueError,
            lambda s=settings: sampling.SamplingConfig(**s),  # type: ignore
            f"SamplingConfig with {settings}",
        )


def check_rows_are_apart() -> None:
    """Each row of a batch gets what it gets alone, as float32."""
    rows = torch.stack([P.log(), P.flip(0).log() + 3, 9 * P])
    seen = torch.tensor([[0, 0], [1, 2], [3, 3]])
    for settings in (
        {},
        {"temperature": 0.0},
        {"temperature": 0.5},
        {"top_k": 2},
        {"top_p": 0.7},
        {"min_p": 0.45},
        {"repetition_penalty": 2.0},
    ):
        config = sampling.SamplingConfig(**settings)  # type: ignore[arg-type]
        alone = [
            sampling.probabilities(row, config, ids)
            for row, ids in zip(rows, seen, strict=True)
        ]
        for shape in ((3, 4), (3, 1, 4)):
            got = sampling.probabilities(
                rows.view(shape), config, seen.view(*shape[:-1], 2)
            )
            what = f"three rows at once and one at a time, {settings}"
            close(got, torch.stack(alone).view(shape), what)
            equal(got.dtype, torch.float32, "the type of probabilities")


def check_scores_come_back() -> None:
    """A filter gives scores of the same type and shape, in a new tensor."""
    logits = torch.stack([P.log(), P.flip(0).log() - 2])
    before = logits.clone()
    for name, setting in (
        ("keep_top_k", 1),
        ("keep_top_p", 0.4),
        ("keep_min_p", 0.8),
    ):
        got = getattr(sampling, name)(logits, setting)
        left = [[0, 1, 0, 0], [0, 0, 1, 0]]
        close(got.softmax(dim=-1), left, f"what {name} leaves")
        best = logits.amax(dim=-1)
        close(got.amax(dim=-1), best, f"scores of what {name} leaves")
        equal(got.dtype, logits.dtype, f"the type that {name} gives back")
        equal(logits, before, f"the argument of {name}, unchanged")
    got = sampling.penalize(logits, torch.tensor([[0], [1]]), 1.5)
    equal(got.dtype, logits.dtype, "the type that penalize gives back")


def check_penalty_is_asked_for() -> None:
    """A penalty of 2 makes of the scores 4, 2, 1 of seen tokens 2, 1, 1."""
    logits = torch.tensor([4.0, 2.0, 1.0])
    config = sampling.SamplingConfig(repetition_penalty=2.0)
    close(
        sampling.probabilities(logits, config, torch.tensor([0, 1])),
        torch.tensor([2.0, 1.0, 1.0]).softmax(dim=0),
        "probabilities when tokens 0 and 1 were seen",
        hint="the penalty comes first",
    )
    raises(
        ValueError,
        lambda: sampling.probabilities(logits, config),
        "a penalty without the text",
    )
    for penalty, token in ((1.0, 0), (3.0, 1)):
        config = sampling.SamplingConfig(
            temperature=0, repetition_penalty=penalty
        )
        got = sampling.sample(logits, config, seen=torch.tensor([0]))
        equal(int(got), token, f"the likeliest token, penalty {penalty}")
        equal(tuple(got.shape), (), "the shape of one choice")


def check_tokens_that_are_ruled_out_stay_out() -> None:
    """A score of minus infinity is no number to divide, and stays."""
    logits = torch.tensor([2.0, -torch.inf, 1.0])
    config = sampling.SamplingConfig(temperature=0.5, repetition_penalty=1.5)
    got = sampling.probabilities(logits, config, torch.tensor([0, 1]))
    wanted = torch.tensor([8 / 3, -torch.inf, 2.0]).softmax(dim=0)
    close(got, wanted, "probabilities, with a token that has none")
    halves = sampling.probabilities(
        logits.bfloat16(), config, torch.tensor([1])
    )
    equal(halves.dtype, torch.float32, "the type, for scores in bfloat16")


def check_refusals_at_the_edge() -> None:
    """No penalty of 0 or below, no infinite temperature, nothing NaN."""
    for settings in (
        {"repetition_penalty": 0.0},
        {"repetition_penalty": -1.0},
        {"temperature": float("inf")},
        {"temperature": float("nan")},
        {"top_p": 1.1},
        {"min_p": 0.0},
    ):
        raises(
            ValueError,
            lambda s=settings: sampling.SamplingConfig(**s),  # type: ignore
            f"SamplingConfig with {settings}",
        )


BUGS = {
    "temperature multiplies": (
        "(logits - top) / max(config.temperature, TINY)",
        "(logits - top) * max(config.temperature, TINY)",
    ),
    "top-k keeps one too many": (
        "logits.topk(min(k, logits.shape[-1]))",
        "logits.topk(min(k + 1, logits.shape[-1]))",
    ),
    "top-p drops the token that crosses p": (
        "before = shares.cumsum(dim=-1) - shares",
        "before = shares.cumsum(dim=-1)",
    ),
    "top-p does not go back to the old order": (
        "return torch.empty_like(logits).scatter(-1, ids, scores)",
        "return scores",
    ),
    "what is ruled out gets the score 0": (
        "scores.masked_fill(before >= max(p, TINY), -math.inf)",
        "scores.masked_fill(before >= max(p, TINY), 0.0)",
    ),
    "min-p is a floor for all distributions": (
        "floor = logits.amax(dim=-1, keepdim=True) + math.log(p)",
        "floor = logits.logsumexp(dim=-1, keepdim=True) + math.log(p)",
    ),
    "the penalty raises negative scores": (
        "scores / penalty, scores * penalty)",
        "scores / penalty, scores / penalty)",
    ),
    "the likeliest token is always taken": (
        "drawn = torch.multinomial(rows, 1, generator=generator)",
        "drawn = rows.argmax(dim=-1)",
    ),
    "min-p is taken from the whole batch": (
        "floor = logits.amax(dim=-1, keepdim=True) + math.log(p)",
        "floor = logits.amax() + math.log(p)",
    ),
    "top-k gives scores in 64 bits": (
        "return torch.full_like(logits, -math.inf).scatter(-1, ids, scores)",
        "return torch.full_like(logits, -math.inf).scatter(-1, ids, "
        "scores).double()",
    ),
    "top-p gives scores in 64 bits": (
        "return torch.empty_like(logits).scatter(-1, ids, scores)",
        "return torch.empty_like(logits).scatter(-1, ids, scores).double()",
    ),
    "probabilities come in 64 bits": (
        "return adjust(logits, config, seen).softmax(dim=-1)",
        "return adjust(logits, config, seen).softmax(dim=-1).double()",
    ),
    "the penalty is not asked for": (
        "    if config.repetition_penalty != 1:\n",
        "    if False:\n",
    ),
    "the likeliest token knows no penalty": (
        "config.temperature == 0 and config.repetition_penalty == 1",
        "config.temperature == 0",
    ),
    "any penalty is taken": (
        "0 < self.repetition_penalty < math.inf",
        "True",
    ),
    "top-k keeps all ties": (
        "return torch.full_like(logits, -math.inf).scatter(-1, ids, scores)",
        "return logits.masked_fill(logits < scores[..., -1:], -math.inf)",
    ),
    "the generator is not used": (
        "torch.multinomial(rows, 1, generator=generator)",
        "torch.multinomial(rows, 1)",
    ),
}
