"""What does it know? Probes with one right answer, and an honest count.

A probe is a story of the town up to a gap where the town's rules leave no
choice, and two to four candidates for the gap, of which one is right. `ask`
has a model compare the candidates by their log-likelihood, all in batches;
`tally` and `table` count, with Wilson's (1927) intervals; `mcnemar` (1947)
compares two models on the same probes; `contamination` finds probes that
occur in a training text.

Candidates that differ in one word follow Marvin and Linzen (2018) and BLiMP
(Warstadt et al., 2020), the scores EleutherAI's evaluation harness. Left out:
answers in free text, examples before the question, models as judges.
"""

import math
import random
import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from scratchlm.model.gpt import GPT, next_token_loss
from scratchlm.model.heads import evaluating
from scratchlm.text.corpus import find_leaks
from scratchlm.text.tokenizer import Tokenizer
from scratchlm.text.toytown import (
    START,
    TOWN,
    Facts,
    Part,
    Slot,
    Word,
    advance,
    calculate,
    conjugate,
    inflect,
    number_word,
    parse,
    weight_sums,
)
from scratchlm.training.memory import IGNORED

Kind = Literal["cloze", "agreement", "reference", "sums", "questions"]
KINDS: tuple[Kind, ...] = (
    "cloze", "agreement", "reference", "sums", "questions"
)  # fmt: skip
WRONG = 3  # candidates beside the right one, at most
TAG = re.compile(r", (?:the|who (?:keep|keeps|kept)) ")
NEXT = re.compile(r"\W?\w*")  # a sign, or a space and the word after it
Rule = Literal["sum", "token", "character"]
Pair = tuple[list[int], list[int]]  # tokens of a prompt and of a candidate


@dataclass(frozen=True)
class Probe:
    """A text up to a gap, what may fill it, and which of these is right.

    >>> probe = Probe("agreement", "The keys", (" was", " were"), 1)
    >>> probe.text, probe.chance
    ('The keys were', 0.5)
    """

    kind: Kind
    prompt: str
    candidates: tuple[str, ...]
    answer: int

    @property
    def text(self) -> str:
        """The prompt with its right candidate."""
        return self.prompt + self.candidates[self.answer]

    @property
    def chance(self) -> float:
        """How often blind choice is right."""
        return 1 / len(self.candidates)


# --- Stories with gaps -------------------------------------------------------


class Gap(NamedTuple):
    """A slot of a story: where its text stands, and what was said before."""

    slot: Slot
    start: int
    end: int
    facts: Facts

    @property
    def is_verb(self) -> bool:
        """Whether a verb stands here, and not a name, a thing or a number."""
        return self.slot.verb != "" and self.slot.verb not in TOWN.roles


def tell_with_gaps(generator: random.Random) -> tuple[str, list[Gap]]:
    """Tell a story as `tell` does, and note where each slot was filled.

    The same numbers are drawn in the same order, so it is the same story.
    """
    text, gaps = "", list[Gap]()
    todo: tuple[Part, ...] = parse("<story>")
    facts = START
    while todo:
        part, todo = todo[0], todo[1:]
        written, choice = advance((part,), facts)
        if choice is not None:
            sums = weight_sums(len(choice.options))
            option = bisect_right(sums, generator.random() * sums[-1])
            chosen, facts = choice.take(option)
            todo = chosen + todo
        elif isinstance(part, Slot):
            end = len(text) + len(written)
            gaps.append(Gap(part, len(text), end, facts))
        text += written
    return text, gaps


def fill(gap: Gap, word: Word) -> str:
    """What would stand in the gap if this word were its subject."""
    slot = gap.slot._replace(sign="", second="")
    return inflect(slot, {**gap.facts, slot.subject: word})


def kind_of(story: str, gaps: Sequence[Gap], place: int) -> Kind | None:
    """What a gap asks for; None if the text before it does not decide."""
    gap = gaps[place]
    slot, earlier = gap.slot, gaps[:place]
    if gap.is_verb:
        tense = gap.facts["tense"].forms[""]
        forms = {conjugate(slot.verb, count, tense) for count in (1, 2)}
        fixed = slot.subject in START or len(forms) == 1
        return None if fixed else "agreement"
    said = [g.slot[:3] for g in earlier if not g.is_verb]
    if slot.sign and slot[:3] not in said:  # subject, sign and second
        return "sums"
    if place == len(gaps) - 1:  # the answer with which a story ends
        return "questions"
    if slot.form in ("her", "him"):  # after "she" a verb gives it away
        return "reference"
    if slot.form in ("trade", "place"):
        owner = gap.facts[slot.subject]
        told = story[: gap.start].rpartition(owner.forms[""])[2]
        shown = slot.form == "trade" and owner.count > 1  # by the plural
        return "cloze" if TAG.fullmatch(told) and not shown else None
    return None


# --- Candidates --------------------------------------------------------------


def results(slot: Slot) -> list[int]:
    """All that a sum of two roles can come to.

    >>> results(parse("{n-m}")[0])
    [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
    """
    ones, others = TOWN.fillings(slot.subject), TOWN.fillings(slot.second)
    pairs = [{slot.subject: a, slot.second: b} for a in ones for b in others]
    return sorted({calculate(slot, pair).count for pair in pairs})


def alternatives(gap: Gap) -> list[Word]:
    """The words that could ever be the subject of a gap."""
    if gap.is_verb:
        return [Word({}, 1), Word({}, 2)]
    if gap.slot.sign:
        return [Word({"": number_word(n)}, n) for n in results(gap.slot)]
    return TOWN.fillings(gap.slot.subject)


def distractors(kind: Kind, gap: Gap, draw: random.Random) -> list[str]:
    """Wrong texts for a gap, the most tempting ones, each once.

    For sums, neighbors of the right one, as likely below it as above; for
    everything else, what the story has named already. If that is not enough,
    chance decides. Next to one person's trade, none in the plural.
    """
    named = {word.forms.get("") for word in gap.facts.values()}
    right = calculate(gap.slot, gap.facts)
    middle = right.count + draw.choice((-1.5, -0.5, 0.5, 1.5))

    def remoteness(word: Word) -> tuple[bool, float, float]:
        other = kind == "cloze" and word.count != right.count
        far = abs(word.count - middle)
        new = word.forms.get("") not in named
        return other, far if kind == "sums" else new, draw.random()

    ranked = sorted(alternatives(gap), key=remoteness)
    texts = dict.fromkeys(fill(gap, word) for word in ranked)
    texts.pop(fill(gap, right))
    return list(texts)[:WRONG]


def make_probe(kind: Kind, story: str, gap: Gap, draw: random.Random) -> Probe:
    """A probe from a gap; each candidate runs on to the end of a word.

    Without the end, "sell" would be counted with all that "sells" gets.
    A space belongs to the word after it, and so to the candidates. For a
    question, a candidate is the whole answer up to there.
    """
    cut = gap.start if kind != "questions" else story.rindex("?") + 1
    cut = len(story[:cut].rstrip(" "))
    tail = NEXT.match(story, gap.end)
    after = tail[0] if tail else ""
    right = story[cut : gap.end] + after
    wrong = [
        story[cut : gap.start] + text + after
        for text in distractors(kind, gap, draw)
    ]
    mixed = sorted([right, *wrong], key=lambda _: draw.random())
    return Probe(kind, story[:cut], tuple(mixed), mixed.index(right))


def probes(seed: int, n: int = 100) -> list[Probe]:
    """n probes of each kind, from stories that begin with this seed.

    A story gives at most one of each kind, so that those of a kind are
    independent. A larger n adds to the same ones. The book's corpora have
    seed 2026; with any other seed the stories are held out from training.
    """
    if seed < 0 or n < 1:
        raise ValueError(f"seed {seed}, {n} probes: take 0 and 1 or more")
    source = random.Random(seed)
    draws = {kind: random.Random(f"{kind} {seed}") for kind in KINDS}
    found: dict[Kind, list[Probe]] = {kind: [] for kind in KINDS}
    while min(map(len, found.values())) < n:
        story, gaps = tell_with_gaps(source)
        for kind, group in found.items():
            fit = [
                gap
                for i, gap in enumerate(gaps)
                if kind_of(story, gaps, i) == kind
            ]
            if fit and len(group) < n:
                gap = fit[int(draws[kind].random() * len(fit))]
                group.append(make_probe(kind, story, gap, draws[kind]))
    return [probe for group in found.values() for probe in group]


# --- Asking ------------------------------------------------------------------


def encode_pair(tokenizer: Tokenizer, prompt: str, candidate: str) -> Pair:
    """The tokens of both, cut from those of the whole text.

    Spaces at the prompt's end move to the candidate, as they do in running
    text. An end token comes first, as before every story. Raises ValueError
    where one token holds a bit of each.
    """
    bare = prompt.rstrip(" ")
    known = tokenizer.encode(bare)
    whole = tokenizer.encode(prompt + candidate)
    if whole[: len(known)] != known:
        raise ValueError(
            f"{bare[-20:]!r} and {candidate!r} share a token: move the "
            "border to the end of a word"
        )
    return [tokenizer.end_id, *known], whole[len(known) :]


def pad_pairs(pairs: Sequence[Pair], context: int) -> tuple[Tensor, Tensor]:
    """Inputs and targets (B, T); only a candidate's tokens are targets.

    Short rows are filled up at their end, where the causal mask keeps
    everything that counts from seeing it. Of a text longer than the window,
    the end is kept. Raises ValueError for a candidate without a token, or
    with more than fit in a window.

    >>> pad_pairs([([5, 6], [7, 8]), ([5], [9])], context=8)
    (tensor([[5, 6, 7],
            [5, 0, 0]]), tensor([[-100,    7,    8],
            [   9, -100, -100]]))
    """
    inputs, targets = [], []
    for prompt, candidate in pairs:
        if not prompt or not 1 <= len(candidate) <= context:
            raise ValueError(
                f"{len(prompt)} tokens and {len(candidate)} to be scored, "
                f"in a window of {context}: give one of each, or more"
            )
        row = torch.tensor([*prompt, *candidate][-context - 1 :])
        target = row[1:].clone()
        target[: -len(candidate)] = IGNORED
        inputs.append(row[:-1])
        targets.append(target)
    return (
        pad_sequence(inputs, batch_first=True),
        pad_sequence(targets, batch_first=True, padding_value=IGNORED),
    )


def log_likelihoods(
    model: GPT, pairs: Sequence[Pair], batch_size: int = 32
) -> list[Tensor]:
    """ln P of each token of each candidate, given all that is before it.

    A tensor for each pair, in their order. Rows of similar length share a
    batch. Dropout is off meanwhile.
    """
    context, device = model.config.context, model.token.weight.device
    sizes = [len(prompt) + len(candidate) for prompt, candidate in pairs]
    order = sorted(range(len(pairs)), key=sizes.__getitem__)
    found: dict[int, Tensor] = {}
    with torch.inference_mode(), evaluating(model):
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            ids, targets = pad_pairs([pairs[i] for i in batch], context)
            ids, targets = ids.to(device), targets.to(device)
            losses = next_token_loss(model(ids), targets, "none")
            rows = losses.view(targets.shape)  # (B, T), in nats
            for i, row, target in zip(batch, rows, targets, strict=True):
                found[i] = -row[target != IGNORED].cpu()
    return [found[i] for i in range(len(pairs))]


@dataclass(frozen=True)
class Answer:
    """What a model makes of a probe: ln P and length of each candidate."""

    probe: Probe
    log_probs: tuple[float, ...]
    tokens: tuple[int, ...]

    def scores(self, rule: Rule = "sum") -> list[float]:
        """The log-likelihoods, or their means by token or by character."""
        sizes: Sequence[int] = [1] * len(self.tokens)
        if rule == "token":
            sizes = self.tokens
        elif rule == "character":
            sizes = [len(text) for text in self.probe.candidates]
        return [x / size for x, size in zip(self.log_probs, sizes, strict=True)]

    def choice(self, rule: Rule = "sum") -> int:
        """The candidate with the highest score; of equal ones the first."""
        scores = self.scores(rule)
        return scores.index(max(scores))

    def is_right(self, rule: Rule = "sum") -> bool:
        """Whether the choice is the answer."""
        return self.choice(rule) == self.probe.answer


def ask(
    model: GPT,
    tokenizer: Tokenizer,
    probes: Sequence[Probe],
    batch_size: int = 32,
) -> list[Answer]:
    """Have a model score every candidate of every probe."""
    pairs = [
        encode_pair(tokenizer, probe.prompt, candidate)
        for probe in probes
        for candidate in probe.candidates
    ]
    scored = iter(log_likelihoods(model, pairs, batch_size))
    answers = []
    for probe in probes:
        own = [next(scored) for _ in probe.candidates]
        sums = tuple(float(nats.double().sum()) for nats in own)
        answers.append(Answer(probe, sums, tuple(map(len, own))))
    return answers


# --- Counting ----------------------------------------------------------------


def wilson(right: int, asked: int, level: float = 0.95) -> tuple[float, float]:
    """Between which shares the true one lies, at this level.

    Those that would not make `right` of `asked` too improbable, by the
    normal distribution (Wilson, 1927). Never beyond 0 or 1, and never
    without a width.

    >>> [round(x, 3) for x in wilson(0, 10)]
    [0.0, 0.278]
    """
    if not 0 <= right <= asked or asked < 1:
        raise ValueError(f"{right} right of {asked} is no share")
    z = NormalDist().inv_cdf((1 + level) / 2)  # 1.96 for 95 percent
    share, grown = right / asked, asked + z * z
    middle = (right + z * z / 2) / grown
    half = z * math.sqrt(share * (1 - share) * asked + z * z / 4) / grown
    return max(0.0, middle - half), min(1.0, middle + half)


def mcnemar(first: Sequence[bool], second: Sequence[bool]) -> float:
    """How often luck alone sets two models at least this far apart.

    Probes that both got right, or both wrong, say nothing. Of the others
    each is a fair coin if the models are equally good (McNemar, 1947; here
    exact, by the binomial distribution, and two-sided).

    >>> mcnemar([True] * 5, [False] * 5)
    0.0625
    """
    pairs = list(zip(first, second, strict=True))
    won, lost = pairs.count((True, False)), pairs.count((False, True))
    n, few = won + lost, min(won, lost)
    tail = sum(math.comb(n, i) for i in range(few + 1)) / 2**n
    return min(1.0, 2 * tail)


@dataclass(frozen=True)
class Score:
    """How many of how many were right, and the share that chance gives."""

    right: int
    asked: int
    chance: float

    @property
    def share(self) -> float:
        """The part that was right."""
        return self.right / self.asked

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 percent interval for the true share."""
        return wilson(self.right, self.asked)


def tally(answers: Iterable[Answer], rule: Rule = "sum") -> dict[Kind, Score]:
    """The score of each kind, in the order in which the kinds come."""
    groups: dict[Kind, list[Answer]] = {}
    for answer in answers:
        groups.setdefault(answer.probe.kind, []).append(answer)
    return {
        kind: Score(
            sum(answer.is_right(rule) for answer in group),
            len(group),
            sum(answer.probe.chance for answer in group) / len(group),
        )
        for kind, group in groups.items()
    }


def table(answers: Iterable[Answer], rule: Rule = "sum") -> str:
    """The scores as lines of text, with intervals and chance in percent."""
    lines = [f"{'':10}  right  percent   interval  chance"]
    for kind, score in tally(answers, rule).items():
        low, high = score.interval
        lines.append(
            f"{kind:10}{score.right:4}/{score.asked:<4}"
            f"{100 * score.share:6.0f}{100 * low:8.0f} to {100 * high:<3.0f}"
            f"{100 * score.chance:6.0f}"
        )
    return "\n".join(lines)


def contamination(
    train: Iterable[str], probes: Sequence[Probe], size: int = 13
) -> list[float]:
    """Of each probe, the share of its runs of words that training has seen.

    A run has `size` words. The probe counts with its right candidate. See
    `find_leaks`, which does the work.
    """
    shares = [0.0] * len(probes)
    texts = [probe.text for probe in probes]
    for leak in find_leaks(train, texts, size, share=0.0):
        shares[leak.index] = leak.share
    return shares
