"""How deep to tune, with how many labels, and who is recognized afterwards."""

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from press.files import ROOT
from scratchlm.evaluation.perplexity import evaluate
from scratchlm.model.gpt import GPT
from scratchlm.text.tokenizer import END, Tokenizer
from scratchlm.text.tokens import open_tokens
from scratchlm.training.checkpoint import load_model
from scratchlm.tuning.classify import (
    Sample,
    choose_grams,
    claims,
    class_logits,
    class_loss,
    count_grams,
    encode_texts,
    first_words,
    fit_softmax,
    labeled_batches,
    last_features,
    plot_chances,
    split_people,
    train_last,
    with_head,
)
from scratchlm.tuning.instruct import TuneConfig, fine_tune

LETTERS, LABELS, JUDGED = 140, 600, 300
SIZES = (60, 200, 600, 2000)
PENALTIES = (1e-3, 1e-2, 1e-1)
RATES = (3e-4, 1e-3)
BLOCKS = 3  # of the book's model
FORMS = (("fitted", 1), ("fitted", 2), ("fitted", BLOCKS), ("zero", BLOCKS))
SEEDS, STEPS, BATCH, UNSEEN = 3, 100, 16, 6400
CLAIM_STEPS, GRAM = 200, 4
CLAIM_RUNS = (("zero", 1e-3), ("fitted", 1e-3), ("fitted", 3e-4))

Rows = list[list[int]]
Encoded = tuple[Rows, Tensor]


def judged(logits: Tensor, labels: Tensor) -> list[float]:
    """The share that is right, and the mean surprise in nats."""
    right = (logits.argmax(dim=1) == labels).float().mean().item()
    return [round(right, 4), round(F.cross_entropy(logits, labels).item(), 4)]


def fitted(
    learn: Tensor, labels: Tensor, choose: Tensor, by: Tensor, classes: int
) -> Tensor:
    """The head whose penalty is best on texts to choose by."""
    heads = [fit_softmax(learn, labels, classes, p) for p in PENALTIES]
    nats = [judged(choose.double() @ head.T, by)[1] for head in heads]
    return heads[int(np.argmin(nats))]


def counted(
    learn: Encoded, choose: Encoded, judge: Sequence[Encoded], longest: int
) -> list[list[float]]:
    """What counts of tokens come to on each of `judge`."""
    columns = choose_grams(learn[0], longest)
    classes = int(learn[1].max()) + 1
    head = fitted(
        count_grams(learn[0], columns),
        learn[1],
        count_grams(choose[0], columns),
        choose[1],
        classes,
    )
    return [
        judged(count_grams(rows, columns).double() @ head.T, labels)
        for rows, labels in judge
    ]


def tuned(
    model: GPT, head: Tensor, learn: Encoded, form: tuple[str, int],
    rate: float, steps: int, seed: int,
) -> GPT:  # fmt: skip
    """A copy of the model whose last blocks have learned."""
    start = torch.zeros_like(head) if form[0] == "zero" else head
    changed = train_last(with_head(model, start), form[1])
    batches = labeled_batches(*learn, min(BATCH, len(learn[0])), seed)
    fine_tune(changed, batches, TuneConfig(steps, rate), loss=class_loss)
    return changed


def story_nats(model: GPT, base: GPT, unseen: np.ndarray) -> float:
    """What stories cost the model with the old head put back."""
    writer = deepcopy(model)
    writer.head = base.head
    nats = evaluate(writer, unseen, base.config.context).nats_per_token
    return round(nats, 4)


def texts(tokenizer: Tokenizer, sizes: Sequence[int]) -> list[Encoded]:
    """Beginnings to learn from, to choose by and to judge by."""
    return [
        encode_texts(tokenizer, first_words(seed, size, LETTERS), closed=True)
        for seed, size in zip((1, 2, 3), sizes, strict=True)
    ]


def ceiling() -> list[float]:
    """How well the grammar itself does on the texts to judge by."""
    samples = first_words(3, JUDGED, LETTERS)
    chances = torch.tensor([plot_chances(sample.text) for sample in samples])
    labels = torch.tensor([sample.label for sample in samples])
    return judged(chances.clamp(min=1e-12).log(), labels)


def depths(base: GPT, some: list[Encoded], unseen: np.ndarray) -> list[Any]:
    """How deep to tune: each form, its rate chosen by the second texts."""
    learn, choose, judge = some
    features = last_features(base, learn[0])
    head = fitted(
        features, learn[1], last_features(base, choose[0]), choose[1], 6
    )
    rows: list[Any] = [{
        "form": ["fitted", 0],
        "judged": [judged(last_features(base, judge[0]).double() @ head.T,
                          judge[1])],
    }]  # fmt: skip
    for form in FORMS:
        tries = {
            rate: tuned(base, head, learn, form, rate, STEPS, 0)
            for rate in RATES
        }
        nats = {
            rate: judged(class_logits(model, choose[0]), choose[1])[1]
            for rate, model in tries.items()
        }
        best = min(nats, key=nats.__getitem__)
        models = [tries[best]] + [
            tuned(base, head, learn, form, best, STEPS, seed)
            for seed in range(1, SEEDS)
        ]
        rows.append({
            "form": list(form),
            "rate": best,
            "judged": [judged(class_logits(m, judge[0]), judge[1])
                       for m in models],
            "stories": [story_nats(m, base, unseen) for m in models],
        })  # fmt: skip
        print(rows[-1], flush=True)
    return rows


def by_labels(base: GPT, some: list[Encoded], rate: float) -> list[Any]:
    """Counts, frozen features and all weights, by the number of labels."""
    (rows, labels), choose, judge = some
    frozen = [last_features(base, part[0]) for part in some]
    found = []
    for size in SIZES:
        learn = rows[:size], labels[:size]
        head = fitted(frozen[0][:size], learn[1], frozen[1], choose[1], 6)
        model = tuned(base, head, learn, ("fitted", BLOCKS), rate, STEPS, 0)
        found.append({
            "labels": size,
            "counts": counted(learn, choose, [judge], 1)[0],
            "frozen": judged(frozen[2].double() @ head.T, judge[1]),
            "all": judged(class_logits(model, judge[0]), judge[1]),
        })  # fmt: skip
        print(found[-1], flush=True)
    return found


def people(tokenizer: Tokenizer, fold: int) -> list[list[Sample]]:
    """Claims to learn from, to choose by, on people met, on those kept."""
    learned, kept = split_people(fold)
    return [claims(1, 400, learned), claims(2, 200, learned),
            claims(3, JUDGED, learned), claims(4, JUDGED, kept)]  # fmt: skip


def recognized(
    base: GPT, tokenizer: Tokenizer, unseen: np.ndarray, fold: int
) -> dict[str, Any]:
    """What is learned of claims, and what of it holds for others."""
    some = [encode_texts(tokenizer, part) for part in people(tokenizer, fold)]
    learn, choose, *judge = some
    frozen = [last_features(base, part[0]) for part in some]
    head = fitted(frozen[0], learn[1], frozen[1], choose[1], 2)
    row: dict[str, Any] = {
        "fold": fold,
        "counts": counted(learn, choose, judge, 1),
        "grams": counted(learn, choose, judge, GRAM),
        "frozen": [judged(x.double() @ head.T, part[1])
                   for x, part in zip(frozen[2:], judge, strict=True)],
        "runs": [],
    }  # fmt: skip
    for start, rate in CLAIM_RUNS:
        model = tuned(base, head, learn, (start, BLOCKS), rate, CLAIM_STEPS, 0)
        logits = [class_logits(model, part[0]) for part in judge]
        row["runs"].append({
            "start": start,
            "rate": rate,
            "judged": [judged(x, part[1])
                       for x, part in zip(logits, judge, strict=True)],
            "yes": [round(x.argmax(dim=1).float().mean().item(), 4)
                    for x in logits],
            "stories": story_nats(model, base, unseen),
        })  # fmt: skip
    print(row, flush=True)
    return row


def record() -> dict[str, Any]:
    """The book's model on plots and on claims."""
    torch.set_num_threads(1)
    run = ROOT / "_build" / "runs" / "toytown"
    base = load_model(run)
    tokenizer = Tokenizer.load(run / "tokenizer.json")
    unseen = open_tokens(run / "validation.tokens").tokens[:UNSEEN]
    some = texts(tokenizer, (max(SIZES), JUDGED, JUDGED))
    first = [(some[0][0][:LABELS], some[0][1][:LABELS]), *some[1:]]
    deep = depths(base, first, unseen)
    rate = next(r["rate"] for r in deep if r["form"] == ["fitted", BLOCKS])
    return {
        "letters": LETTERS,
        "labels": LABELS,
        "steps": STEPS,
        "claim steps": CLAIM_STEPS,
        "ceiling": ceiling(),
        "stories": story_nats(base, base, unseen),
        "depths": deep,
        "sizes": by_labels(base, some, rate),
        "people": [recognized(base, tokenizer, unseen, f) for f in range(3)],
        "bytes": by_bytes(),
    }


def by_bytes() -> list[list[float]]:
    """Counts of bytes on a few texts, which need no run of the book."""
    learn, choose, judge = texts(Tokenizer([], {END: 256}), (60, 20, 20))
    return counted(learn, choose, [judge], 2)


def replay(data: dict[str, Any]) -> None:
    """The texts, the grammar's own chances and counting are as recorded."""
    assert ceiling() == data["ceiling"]
    for got, wanted in zip(by_bytes()[0], data["bytes"][0], strict=True):
        assert abs(got - wanted) < 1e-3
