"""What packing, its mask and its positions must do."""

from functools import partial

import torch
from torch.nn import functional as F

from scratchlm.model.gpt import GPT, gpt2_config, llama_config
from scratchlm.training import packing
from scratchlm.training.memory import IGNORED
from scratchlm.training.packing import Part

from ..expect import close, equal, raises, true
from ..inputs import settled


def mixer(rotary: bool = False, keys: int | None = None) -> GPT:
    """A model in which every token depends on all before it."""
    heads = 2 * (keys or 1)
    make = partial(llama_config, kv_heads=keys) if rotary else gpt2_config
    return settled(GPT(make(12, 16, 2, heads, 16)).eval())


def documents() -> list[Part]:
    """Three of 4, 3 and 5 tokens; two, one and three are to be said."""
    return [
        ([1, 2, 3, 4], [IGNORED, IGNORED, 4, 5]),
        ([6, 7, 8], [IGNORED, IGNORED, 9]),
        ([9, 8, 7, 6, 5], [IGNORED, IGNORED, 6, 5, 4]),
    ]


def check_next() -> None:
    """A document is read but for its last token, which has no successor."""
    equal(
        packing.predict_next([7, 3, 5]),
        ([7, 3], [3, 5]),
        "what is read and what is to be said of 7, 3, 5",
        hint="the token behind the last one belongs to another document",
    )
    equal(packing.predict_next([7, 3]), ([7], [3]), "two tokens")
    raises(ValueError, partial(packing.predict_next, [7]), "a single token")
    raises(ValueError, partial(packing.predict_next, []), "no token")


def check_first_fit() -> None:
    """Each thing goes into the first row with room, in their order."""
    equal(
        packing.first_fit([5, 4, 3, 2], 8),
        [[0, 2], [1, 3]],
        "rows with room for 8 of things of 5, 4, 3 and 2",
    )
    for bad in (9, 0):
        what = f"a thing of {bad} in rows of 8"
        raises(ValueError, partial(packing.first_fit, [bad], 8), what)


def check_best_fit() -> None:
    """The largest first, each where it leaves the least room."""
    sizes = [2, 7, 3, 6, 2]
    rows = packing.best_fit(sizes, 10)
    equal(sorted(i for row in rows for i in row), list(range(5)), "all things")
    equal(
        sorted(sum(sizes[i] for i in row) for row in rows),
        [10, 10],
        "what rows with room for 10 hold of 2, 7, 3, 6 and 2",
        hint="begin with the largest thing; of the rows with room for it, "
        "take the fullest",
    )
    sizes = [8, 6, 5, 1]
    rows = packing.best_fit(sizes, 12)
    equal(
        sorted(sum(sizes[i] for i in row) for row in rows),
        [8, 12],
        "what rows with room for 12 hold of 8, 6, 5 and 1",
        hint="of the rows with room for it, take the fullest, not the first",
    )


def check_cut() -> None:
    """Cut rows are full, and what was cut goes on in the next one."""
    rows = packing.cut_anywhere([([1, 2, 3], [2, 3, 4]), ([7, 8], [8, 9])], 2)
    read = [[token for ids, _ in row for token in ids] for row in rows]
    said = [[token for _, said in row for token in said] for row in rows]
    equal(read, [[1, 2], [3, 7], [8]], "what rows of two hold")
    equal(said, [[2, 3], [4, 8], [9]], "their targets")
    equal(len(rows[1]), 2, "the parts of the row in the middle")


def check_layout() -> None:
    """Documents, one behind the other, each with its number; padding."""
    batch = packing.lay_out([documents()[:2]], 9)
    equal(batch.ids[0, :7].tolist(), [1, 2, 3, 4, 6, 7, 8], "the ids of a row")
    equal(
        batch.document[0].tolist(),
        [0, 0, 0, 0, 1, 1, 1, -1, -1],
        "the numbers of the documents in a row, and −1 for padding",
    )
    equal(
        batch.targets[0].tolist(),
        [IGNORED, IGNORED, 4, 5, IGNORED, IGNORED, 9, IGNORED, IGNORED],
        "the targets of a row",
        hint="padding is not to be said",
    )
    raises(ValueError, partial(packing.lay_out, [documents()], 9), "12 in 9")


def check_mask() -> None:
    """Back, and in the same document."""
    close(
        packing.document_mask(torch.tensor([[0, 0, 1, 1]])).float(),
        [[[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 1]]],
        "the mask of two documents of two tokens",
        hint="rows are queries, columns keys: a query sees earlier keys",
    )


def check_positions() -> None:
    """Positions begin at 0 in each document."""
    equal(
        packing.restart(torch.tensor([[0, 0, 0, 1, 1], [4, 4, 4, 4, 4]])),
        torch.tensor([[0, 1, 2, 0, 1], [0, 1, 2, 3, 4]]),
        "the positions of two rows",
    )


def check_neighbors() -> None:
    """A document in a full row reads as it does alone."""
    for model in (mixer(), mixer(rotary=True)):
        batch = packing.lay_out([documents()], 16)
        with torch.no_grad():
            packed = packing.packed_features(model, batch)[0]
            for number, (ids, _) in enumerate(documents()):
                close(
                    packed[batch.document[0] == number],
                    model.features(torch.tensor([ids]))[0],
                    f"the features of document {number} of a row",
                    tol=1e-4,
                    hint="a token looks back in its own document only, and "
                    "learned positions begin at 0 in each",
                )


def check_loss() -> None:
    """Every target counts the same, however full the rows are."""
    parts = documents()
    for model in (mixer(), mixer(rotary=True, keys=2)):
        nats = []
        with torch.no_grad():
            for ids, said in parts:
                logits = model(torch.tensor([ids]))[0]
                targets = torch.tensor(said)
                nats.append(F.cross_entropy(logits, targets, reduction="sum"))
            for rows in ([parts], [parts[:1], parts[1:]]):
                close(
                    packing.packed_loss(model, packing.lay_out(rows, 16)),
                    sum(nats) / 6,
                    f"the loss of six targets in {len(rows)} rows",
                    tol=1e-4,
                    hint="add up the nats of the whole batch, divide by its "
                    "targets, once",
                )


def check_batches() -> None:
    """Each epoch has every document once, in other company."""
    parts: list[Part] = [([i, i], [i, IGNORED]) for i in range(10)]
    batches = packing.packed_batches(parts, 4, 5, seed=1)
    epochs = [next(batches).ids[:, ::2].tolist() for _ in range(2)]
    for rows in epochs:
        every = sorted(i for row in rows for i in row)
        equal(every, list(range(10)), "the documents of an epoch")
    company = [{frozenset(row) for row in rows} for rows in epochs]
    true(
        company[0] != company[1],
        "documents share rows with others in the next epoch",
        hint="shuffle the documents before you pack them",
    )


BUGS = {
    "the last token is to say what the next document begins with": (
        "return tokens[:-1], tokens[1:]",
        "return tokens, tokens[1:] + tokens[:1]",
    ),
    "targets are not one ahead": (
        "return tokens[:-1], tokens[1:]",
        "return tokens[:-1], tokens[:-1]",
    ),
    "rows are filled beyond their room": (
        "if left >= size),",
        "if left > 0),",
    ),
    "what does not fit is let through": (
        "if not 0 < size <= room:",
        "if False:",
    ),
    "small things go first": (
        "key=lambda i: -sizes[i]",
        "key=lambda i: sizes[i]",
    ),
    "the emptiest row is taken": (
        "left, row = free.pop(at)",
        "left, row = free.pop(-1)",
    ),
    "the rest of a cut document is lost": (
        "            start = stop\n    return rows",
        "            start = len(ids)\n    return rows",
    ),
    "padding is scored": (
        "targets = torch.full(shape, IGNORED)",
        "targets = torch.zeros(shape, dtype=torch.long)",
    ),
    "all documents of a row have the same number": (
        "document[i, start:stop] = number",
        "document[i, start:stop] = 0",
    ),
    "documents have the same company in every epoch": (
        "for i in draw.permutation(len(parts))]",
        "for i in range(len(parts))]",
    ),
    "neighbors in a row are seen": (
        "return same & causal_mask(t, t, document.device)",
        "return causal_mask(t, t, document.device).expand_as(same)",
    ),
    "the mask is transposed": (
        "return same & causal_mask(t, t, document.device)",
        "return same & causal_mask(t, t, document.device).T",
    ),
    "the mask forgets which way time runs": (
        "return same & causal_mask(t, t, document.device)",
        "return same",
    ),
    "positions go on from the neighbor's": (
        "model.position.weight[restart(batch.document)]",
        "model.position.weight[: batch.ids.shape[1]]",
    ),
    "positions begin anew one token early": (
        "(1, 0), value=True)",
        "(0, 1), value=True)",
    ),
    "the loss is divided by all places": (
        "return F.cross_entropy(logits.float(), batch.targets[said])",
        "nats = F.cross_entropy(\n"
        '        logits.float(), batch.targets[said], reduction="sum"\n'
        "    )\n"
        "    return nats / said.numel()",
    ),
    "the loss is a mean of the rows' means": (
        "return F.cross_entropy(logits.float(), batch.targets[said])",
        "nats = torch.zeros(said.shape)\n"
        "    nats[said] = F.cross_entropy(\n"
        '        logits.float(), batch.targets[said], reduction="none"\n'
        "    )\n"
        "    return (nats.sum(1) / said.sum(1)).mean()",
    ),
}
