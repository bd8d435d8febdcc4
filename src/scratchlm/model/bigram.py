"""The same table, learned: the smallest neural language model.

A table of scores, one row for each token: how much each token is expected
to follow. Softmax makes probabilities of a row, cross-entropy is the loss,
and gradient descent, by a gradient that we derive by hand, brings the rows
to the shares that counting gives at once.

Left out: everything that looks back further than one token.
"""

import torch
from torch import Tensor, nn


class BigramModel(nn.Module):
    """Scores for the next token, looked up by the last one.

    `table` is (V, V): row = last token, column = next token. It begins with
    zeros: every token is as likely as every other.

    >>> BigramModel(5)(torch.tensor([[1, 3, 3]])).shape
    torch.Size([1, 3, 5])
    """

    def __init__(self, vocab_size: int) -> None:
        """A table that knows nothing yet."""
        super().__init__()
        self.table = nn.Parameter(torch.zeros(vocab_size, vocab_size))

    def forward(self, ids: Tensor) -> Tensor:
        """Token ids (B, T) to the logits of their successors (B, T, V)."""
        return self.table[ids]

    def probabilities(self) -> Tensor:
        """The table as shares: (V, V), each row sums to 1."""
        return self.table.detach().softmax(dim=-1)


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean surprise in nats, -log p(target): (N, V) and (N,) to a number.

    With p the softmax of the logits, -log p(target) is the logarithm of the
    sum of all exponentials less the target's logit. The library sums them
    without overflow.

    >>> cross_entropy(torch.zeros(2, 8), torch.tensor([3, 5]))  # ln 8
    tensor(2.0794)
    """
    chosen = logits.gather(-1, targets[:, None])[:, 0]  # (N,)
    return (logits.logsumexp(dim=-1) - chosen).mean()


def logit_gradient(logits: Tensor, targets: Tensor) -> Tensor:
    """How `cross_entropy` changes with each logit: (N, V).

    What is believed less what is true, p - onehot, shared among N.

    >>> logit_gradient(torch.zeros(1, 4), torch.tensor([2]))
    tensor([[ 0.2500,  0.2500, -0.7500,  0.2500]])
    """
    slope = logits.softmax(dim=-1)
    slope[torch.arange(len(targets)), targets] -= 1
    return slope / len(targets)


def table_gradient(table: Tensor, ids: Tensor, targets: Tensor) -> Tensor:
    """How the loss changes with each cell of the table: (V, V).

    A row was used once for every time its token occurred in `ids` (N,), so
    it gets the sum of the gradients there, and zero if it never did.
    """
    slope = logit_gradient(table[ids], targets)  # (N, V)
    return torch.zeros_like(table).index_add_(0, ids, slope)


def train(
    model: nn.Module,
    ids: Tensor,
    steps: int,
    batch_size: int,
    learning_rate: float,
    generator: torch.Generator,
) -> list[float]:
    """Gradient descent on random pairs of neighbors; the loss of each step.

    `ids` (N,) is the text, of two tokens or more. Changes the model's
    parameters; `generator` draws the pairs.
    """
    parameters, losses = list(model.parameters()), []
    for _ in range(steps):
        at = torch.randint(len(ids) - 1, (batch_size,), generator=generator)
        loss = cross_entropy(model(ids[at]), ids[at + 1])
        slopes = torch.autograd.grad(loss, parameters)
        with torch.no_grad():
            for parameter, slope in zip(parameters, slopes, strict=True):
                parameter.sub_(learning_rate * slope)
        losses.append(loss.item())
    return losses


def generate(
    model: BigramModel, first: int, count: int, generator: torch.Generator
) -> list[int]:
    """`count` tokens, each drawn from what may follow the one before it."""
    shares, drawn, last = model.probabilities(), [], first
    for _ in range(count):
        token = torch.multinomial(shares[last], 1, generator=generator)
        last = int(token)
        drawn.append(last)
    return drawn
