"""Which kind is it? A language model that classifies.

A head of K rows takes the place of the head of V, and reads what the model
has made of a text's last token (Radford et al., 2018). Beside it stands what
it has to beat: counts of tokens with logistic regression, and the untouched
model's own surprise. The texts are from Toytown, whose grammar knows the class
of each and, for the beginning of a story, the best guess that there is.

Left out: several classes for one text, classes of single tokens, and texts
longer than a window.
"""

import math
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from copy import deepcopy
from dataclasses import replace
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scratchlm.evaluation.probes import log_likelihoods
from scratchlm.generation.generate import pad_prompts
from scratchlm.model.gpt import GPT
from scratchlm.model.heads import evaluating
from scratchlm.text.tokenizer import Tokenizer
from scratchlm.text.toytown import (
    START,
    TOWN,
    Facts,
    Part,
    Rule,
    Word,
    advance,
    parse,
    templates,
    weight_sums,
    write_stories,
)

# --- Texts and their classes -------------------------------------------------


class Sample(NamedTuple):
    """A text and its class; and whom it is about, to split by."""

    text: str
    label: int
    group: str = ""


PLOTS = tuple(
    part.name
    for line in templates("plot")
    for part in line
    if isinstance(part, Rule)
)


def plot_chances(beginning: str) -> list[float]:
    """The chance of each plot after this beginning, by the grammar itself.

    Every path by which the town could have come here counts with its
    probability; no classifier can know more. ValueError if there is none.
    """
    k = len(PLOTS)
    found = np.zeros(k)
    prior = np.arange(k, 0, -1) / sum(range(k + 1))  # before it is chosen
    open_paths: list[tuple[int, tuple[Part, ...], Facts, np.ndarray]] = [
        (0, parse("<story>"), START, prior)
    ]
    while open_paths:
        start, todo, facts, chances = open_paths.pop()
        written, choice = advance(todo, facts)
        if written.startswith(beginning[start:]):
            found += chances
        elif choice and beginning.startswith(written, start):
            sums = weight_sums(len(choice.options))
            for i in range(len(sums)):
                share = chances * (len(sums) - i) / sums[-1]
                if choice.name == "plot":
                    share = chances * (np.arange(k) == i)
                path = (start + len(written), *choice.take(i), share)
                open_paths.append(path)
    if not found.any():
        raise ValueError(f"no story of the town begins {beginning[:40]!r}")
    return [float(share) for share in found / found.sum()]


def first_words(seed: int, count: int, letters: int) -> list[Sample]:
    """The first words of `count` stories, each with its plot as the class.

    As many whole words as fit into `letters`. The book's model has learned
    from stories with the seed 2026; those of other seeds are new to it.
    """
    samples = []
    for story in islice(write_stories(seed), count):
        text = story.text[: letters + 1].rpartition(" ")[0]
        label = int(np.argmax(plot_chances(story.text)))
        samples.append(Sample(text, label))
    return samples


def split_people(fold: int) -> tuple[list[Word], list[Word]]:
    """People to learn from, and every third person, who is kept back.

    `fold` says which third: 0, 1 or 2. Couples are left out: their verbs
    and trades are plural, which would give them away.
    """
    if fold not in (0, 1, 2):
        raise ValueError(f"fold {fold} is none of 0, 1 and 2")
    people = [word for word in TOWN.words["people"] if word.count == 1]
    kept = people[fold::3]
    return [person for person in people if person not in kept], kept


def claims(seed: int, count: int, people: Sequence[Word]) -> list[Sample]:
    """True (1) and false (0) beginnings of stories, in fours.

    Two scenes and two people: each has their own trade, and then the
    other's. In every four, then, each word occurs as often in a true text
    as in a false one, and no count of words can tell them apart.
    """
    if count % 4 or len(people) < 2:
        raise ValueError(f"{count} claims on {len(people)}: take fours, of 2")
    draw = random.Random(seed)
    scenes = (
        story.text.partition(". ")[0]
        for story in write_stories(seed)
        if not story.text.startswith("The clock")  # a scene of two sentences
    )
    samples: list[Sample] = []
    while len(samples) < count:
        first = int(draw.random() * len(people))  # `random` never changes
        step = 1 + int(draw.random() * (len(people) - 1))
        pair = people[first], people[(first + step) % len(people)]
        for person in pair:
            scene, name = next(scenes), person.forms[""]
            for other in pair:
                text = f"{scene}. {name}, the {other.forms['trade']},"
                samples.append(Sample(text, int(other is person), name))
    return samples


def encode_texts(
    tokenizer: Tokenizer, samples: Sequence[Sample], closed: bool = False
) -> tuple[list[list[int]], Tensor]:
    """Each text's tokens after the end token, and the classes (N,).

    With `closed` an end token follows, too: a place that has read the whole
    text and belongs to no word of it.
    """
    end = [tokenizer.end_id]
    rows = [
        end + tokenizer.encode_ordinary(sample.text) + end * closed
        for sample in samples
    ]
    return rows, torch.tensor([sample.label for sample in samples])


# --- What there is to beat: counting -----------------------------------------

Gram = tuple[int, ...]


def grams(ids: Sequence[int], longest: int) -> Counter[Gram]:
    """How often each run of one to `longest` tokens occurs in a text.

    >>> sorted(grams([5, 6, 5, 6], longest=2).items())
    [((5,), 2), ((5, 6), 2), ((6,), 2), ((6, 5), 1)]
    """
    return Counter(
        tuple(ids[i : i + n])
        for n in range(1, longest + 1)
        for i in range(len(ids) - n + 1)
    )


def choose_grams(
    rows: Sequence[Sequence[int]], longest: int = 1, least: int = 2
) -> dict[Gram, int]:
    """A column for each run of tokens that occurs in `least` texts or more.

    Choose by the training texts alone.
    """
    texts = Counter(gram for row in rows for gram in grams(row, longest))
    kept = sorted(gram for gram, times in texts.items() if times >= least)
    return {gram: column for column, gram in enumerate(kept)}


def count_grams(
    rows: Sequence[Sequence[int]], columns: dict[Gram, int]
) -> Tensor:
    """The counts of each text, and a 1 at the end: (N, columns + 1)."""
    longest = max(map(len, columns), default=1)
    counts = torch.zeros(len(rows), len(columns) + 1)
    counts[:, -1] = 1  # for what all texts have in common
    for row, ids in enumerate(rows):
        for gram, times in grams(ids, longest).items():
            if gram in columns:
                counts[row, columns[gram]] = times
    return counts


def balanced_weights(labels: Tensor, classes: int) -> Tensor:
    """A weight for each class (K,), with which all classes count the same.

    >>> balanced_weights(torch.tensor([0, 0, 0, 1]), classes=2)
    tensor([0.6667, 2.0000])
    """
    counts = labels.bincount(minlength=classes)
    if len(counts) > classes or counts.min() < 1:
        raise ValueError(f"{counts.tolist()} texts are not {classes} classes")
    return len(labels) / (classes * counts)


def fit_softmax(
    features: Tensor,
    labels: Tensor,
    classes: int,
    penalty: float = 1e-3,
    weights: Tensor | None = None,
) -> Tensor:
    """The head (K, F) with the least loss on features (N, F), in float64.

    The loss is the mean surprise, weighted by class if there are `weights`,
    plus `penalty` times the sum of all squares. It has one minimum, so no
    seed and no learning rate play a part.
    """
    x = features.double()
    head = torch.zeros(classes, x.shape[1], dtype=x.dtype, requires_grad=True)
    each = torch.ones(classes) if weights is None else weights
    optimizer = torch.optim.LBFGS(
        [head],
        max_iter=500,
        tolerance_grad=1e-7,
        tolerance_change=1e-12,
        line_search_fn="strong_wolfe",
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        surprise = F.cross_entropy(x @ head.T, labels, weight=each.to(x))
        total = surprise + penalty * head.square().sum()
        total.backward()
        return total

    optimizer.step(loss)  # type: ignore[arg-type]
    return head.detach()


# --- A head of K -------------------------------------------------------------


def with_head(model: GPT, head: Tensor) -> GPT:
    """A copy of the model that scores classes instead of tokens.

    `head` (K, C) is what to begin with: the one that was fitted to frozen
    features, or zeros, for which all classes are equally likely. Everything
    below it is as it was.
    """
    k, c = head.shape
    if k < 2 or c != model.config.channels:
        raise ValueError(
            f"a head of {k} classes and {c} channels: take 2 classes or "
            f"more, and {model.config.channels} channels"
        )
    copy = deepcopy(model)
    copy.config = replace(model.config, tied=False)
    copy.head = nn.Linear(c, k, bias=False)
    copy.head.weight.data.copy_(head)
    return copy.to(model.token.weight.device)


def train_last(model: GPT, blocks: int) -> GPT:
    """Let the head learn, and `blocks` blocks below it; freeze the rest.

    With 0 the head alone learns; with as many as there are, everything,
    the embeddings included.
    """
    layers = model.config.layers
    if not 0 <= blocks <= layers:
        raise ValueError(f"{blocks} blocks of {layers} cannot learn")
    model.requires_grad_(blocks == layers)
    learning: list[nn.Module] = [model.head]
    if blocks:
        learning += [model.norm, *model.blocks[layers - blocks :]]
    for part in learning:
        part.requires_grad_(True)
    return model


def pick_last(x: Tensor, lengths: Tensor) -> Tensor:
    """What each row (T, …) has at its last token: (B, T, C) → (B, C).

    Rows are padded at the end; `lengths` (B,) says where the last token is.

    >>> pick_last(torch.tensor([[[1], [2], [3]], [[4], [5], [6]]]),
    ...           torch.tensor([3, 1]))
    tensor([[3],
            [4]])
    """
    rows = torch.arange(len(lengths), device=x.device)
    return x[rows, lengths.to(x.device) - 1]


def check_rows(rows: Iterable[Sequence[int]], context: int) -> None:
    """Raise ValueError for a text with no token, or longer than the window."""
    for number, row in enumerate(rows):
        if not 1 <= len(row) <= context:
            raise ValueError(
                f"text {number} has {len(row)} tokens, and the window is "
                f"{context}: cut it to what decides its class"
            )


def last_features(
    model: GPT, rows: Sequence[Sequence[int]], batch_size: int = 64
) -> Tensor:
    """What the head reads of each text, its last token's features: (N, C).

    No gradients: for a head that learns alone, features are computed once.
    Dropout is off meanwhile.
    """
    check_rows(rows, model.config.context)
    found = []
    with torch.no_grad(), evaluating(model):
        for start in range(0, len(rows), batch_size):
            ids, lengths = pad_prompts(rows[start : start + batch_size])
            ids = ids.to(model.token.weight.device)
            found.append(pick_last(model.features(ids), lengths).cpu())
    return torch.cat(found)


def class_logits(model: GPT, rows: Sequence[Sequence[int]]) -> Tensor:
    """The scores of all classes for each text: (N, K)."""
    with torch.no_grad():
        head = model.head.weight.cpu()
        return last_features(model, rows) @ head.T


class LabeledBatch(NamedTuple):
    """Texts padded at the end, where they end, and their classes."""

    ids: Tensor  # (B, T)
    lengths: Tensor  # (B,)
    labels: Tensor  # (B,)


def labeled_batches(
    rows: Sequence[Sequence[int]], labels: Tensor, size: int, seed: int
) -> Iterator[LabeledBatch]:
    """Endless batches of `size` texts, shuffled anew each epoch.

    What is left over at the end of an epoch is dropped.
    """
    if not 0 < size <= len(rows):
        raise ValueError(f"{size} of {len(rows)} texts make no batch")
    draw = np.random.default_rng(seed)
    while True:
        order = draw.permutation(len(rows))
        for start in range(0, len(rows) - size + 1, size):
            some = order[start : start + size].tolist()
            ids, lengths = pad_prompts([rows[i] for i in some])
            yield LabeledBatch(ids, lengths, labels[some])


def class_loss(
    model: GPT, batch: LabeledBatch, weights: Tensor | None = None
) -> Tensor:
    """Mean surprise at the classes of a batch, in nats."""
    features = pick_last(model.features(batch.ids), batch.lengths)
    return F.cross_entropy(model.head(features), batch.labels, weights)


# --- Without a head: surprise ------------------------------------------------


def surprises(
    model: GPT, rows: Sequence[Sequence[int]], tails: Sequence[int]
) -> Tensor:
    """Nats that each text's last tokens cost, `tails` of them: (N,).

    For a model that predicts tokens, as it was trained.
    """
    pairs = [
        (list(row[:-tail]), list(row[-tail:]))
        for row, tail in zip(rows, tails, strict=True)
    ]
    found = log_likelihoods(model, pairs)
    return torch.stack([-logs.sum() for logs in found])


# --- Judging -----------------------------------------------------------------


def confusion(labels: Tensor, guesses: Tensor, classes: int) -> Tensor:
    """How often which class (row) was taken for which (column): (K, K).

    >>> confusion(torch.tensor([0, 0, 1]), torch.tensor([0, 1, 1]), 2)
    tensor([[1, 1],
            [0, 1]])
    """
    both = labels * classes + guesses
    return both.bincount(minlength=classes**2).view(classes, classes)


def recalls(table: Tensor) -> list[float]:
    """The share of each class that was found: the diagonal over row sums."""
    return (table.diagonal() / table.sum(dim=1)).tolist()


def reliability(
    chances: Tensor, happened: Tensor, bins: int = 5
) -> list[tuple[float, float, int]]:
    """What was said and what came, in `bins` groups from unlikely to sure.

    chances and happened (N,); each group gives its mean chance, the share
    of its texts for which it happened, and their number. Empty groups are
    left out.
    """
    place = (chances * bins).long().clamp(max=bins - 1)
    rows = []
    for i in range(bins):
        here = place == i
        if here.any():
            said = chances[here].mean().item()
            rows.append(
                (said, happened[here].float().mean().item(), int(here.sum()))
            )
    return rows


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """What to divide logits (N, K) by so that they are the least surprised.

    Guo et al. (2017). Use texts from which the model has not learned. The
    order of the classes stays, and so does every choice of the likeliest.
    """
    scores = logits.double()

    def nats(log_t: float) -> float:
        return F.cross_entropy(scores / math.exp(log_t), labels).item()

    low, high = math.log(0.02), math.log(50.0)
    while high - low > 1e-4:  # one valley: thirds until it is narrow
        third = (high - low) / 3
        if nats(low + third) < nats(high - third):
            high -= third
        else:
            low += third
    return math.exp((low + high) / 2)


def choose_threshold(
    chances: Tensor, happened: Tensor, miss: float, alarm: float
) -> float:
    """The chance from which to say yes, at the least cost on these texts.

    chances (N,) and happened (N,) are of texts to choose by; `miss` and
    `alarm` are the costs of a miss and of a false alarm. It lies halfway
    between two chances that have occurred, or beyond them all.
    """
    seen = chances.double().unique()
    middle = (seen[1:] + seen[:-1]) / 2
    ends = torch.tensor([-math.inf, math.inf], dtype=seen.dtype)
    tried = torch.cat([ends[:1], middle, ends[1:]])
    says = chances >= tried[:, None]  # (M, N)
    missed = (~says & happened.bool()).sum(dim=1)
    alarms = (says & ~happened.bool()).sum(dim=1)
    return tried[(miss * missed + alarm * alarms).argmin()].item()
