"""What the bigram model that learns must do."""

import math

import torch

from scratchlm.model import bigram

from ..expect import close, equal


def check_it_begins_knowing_nothing() -> None:
    """Before training, the loss is the logarithm of the vocabulary."""
    model = bigram.BigramModel(8)
    ids = torch.tensor([[0, 3, 7, 1]])
    close(
        bigram.cross_entropy(model(ids)[0], torch.tensor([3, 7, 1, 0])),
        math.log(8),
        "the loss of an untrained table of 8 tokens",
        hint="begin with zeros: equal scores for all tokens",
    )


def check_rows_are_last_tokens() -> None:
    """The scores for what follows a token stand in its row."""
    model = bigram.BigramModel(2)
    with torch.no_grad():
        model.table.copy_(torch.tensor([[0.0, 1.0], [2.0, 3.0]]))
    close(
        model(torch.tensor([[1, 0]]))[0],
        [[2, 3], [0, 1]],
        "the logits after token 1 and after token 0",
        hint="index the table by its first dimension",
    )


def check_loss_by_hand() -> None:
    """Logits 0, ln 2 and ln 5 believe in 1/8, 1/4 and 5/8."""
    row = torch.tensor([0.0, math.log(2), math.log(5)])
    close(
        bigram.cross_entropy(row.repeat(2, 1), torch.tensor([0, 1])),
        (math.log(8) + math.log(4)) / 2,
        "the mean surprise at tokens believed in with 1/8 and 1/4",
        hint="logsumexp of the row less the logit of the target, the mean",
    )
    far = torch.tensor([[1000.0, 0.0]])
    close(
        bigram.cross_entropy(far, torch.tensor([0])),
        0.0,
        "the surprise at a token whose logit is 1,000 above the other",
        hint="exp(1000) is infinite; logsumexp is not",
    )


def check_gradient_by_hand() -> None:
    """The gradient is what is believed less what is true."""
    row = torch.tensor([0.0, math.log(2), math.log(5)])
    close(
        bigram.logit_gradient(row.repeat(2, 1), torch.tensor([0, 2])),
        [[-7 / 16, 2 / 16, 5 / 16], [1 / 16, 2 / 16, -3 / 16]],
        "(p - onehot) / 2 for two targets",
        hint="subtract 1 at the target, then divide by how many there are",
    )


def check_a_row_used_twice() -> None:
    """A row that was used twice gets both of its gradients."""
    close(
        bigram.table_gradient(
            torch.zeros(2, 2), torch.tensor([0, 0]), torch.tensor([1, 1])
        ),
        [[0.5, -0.5], [0, 0]],
        "the gradient of a table when 1 followed 0 twice",
        hint="add up with index_add_; plain indexing keeps only the last",
    )


def check_one_step() -> None:
    """A step of length 3 takes three times the gradient away."""
    model = bigram.BigramModel(2)
    ids = torch.tensor([0, 1])  # the only pair there is
    losses = bigram.train(model, ids, 1, 4, 3.0, torch.Generator())
    close(losses, [math.log(2)], "the loss before the first step")
    close(
        model.table,
        [[-1.5, 1.5], [0, 0]],
        "the table after one step",
        hint="downhill is against the gradient: subtract it",
    )


def check_writing() -> None:
    """Each token written is drawn by the token before it."""
    model = bigram.BigramModel(3)
    with torch.no_grad():
        model.table.copy_(100 * torch.eye(3).roll(1, dims=1))
    equal(
        bigram.generate(model, 0, 5, torch.Generator()),
        [1, 2, 0, 1, 2],
        "what follows 0 where 0 leads to 1, 1 to 2 and 2 to 0",
        hint="the token just drawn is the last one now",
    )
    coin = bigram.BigramModel(2)
    with torch.no_grad():
        coin.table.copy_(torch.tensor([[-math.log(3), 0.0]] * 2))
    drawn, again = (
        bigram.generate(coin, 0, 2000, torch.Generator().manual_seed(0))
        for _ in range(2)
    )
    equal(
        drawn,
        again,
        "what two equal generators draw",
        hint="hand the generator on to what draws",
    )
    close(
        sum(drawn) / len(drawn),
        0.75,
        "how often a token is drawn that has a share of 3/4",
        tol=0.05,
        hint="draw by the softmax of the row, not the likeliest each time",
    )


BUGS = {
    "the sign of the gradient is wrong": (
        "targets] -= 1",
        "targets] += 1",
    ),
    "the gradient is summed, not averaged": (
        "return slope / len(targets)",
        "return slope",
    ),
    "a row used twice keeps the last gradient only": (
        "index_add_(0, ids, slope)",
        "index_copy_(0, ids, slope)",
    ),
    "training climbs": (
        "parameter.sub_(",
        "parameter.add_(",
    ),
    "training predicts the token itself": (
        "ids[at + 1])",
        "ids[at])",
    ),
    "writing forgets what it wrote": (
        "last = int(token)\n        drawn.append(last)",
        "drawn.append(int(token))",
    ),
}
