"""What causal attention with one head must do."""

import math

import torch

from scratchlm.model import attention

from ..expect import close, equal, raises, true


def check_mean_of_the_past() -> None:
    """With nothing to ask, each output is the mean of the past."""
    nothing = torch.zeros(4, 2)
    v = torch.tensor([[1.0], [2.0], [3.0], [4.0]])
    close(
        attention.scaled_dot_product_attention(nothing, nothing, v).flatten(),
        [1, 1.5, 2, 2.5],
        "the running means of 1, 2, 3, 4",
        hint="mask the scores with -inf before the softmax, not after it",
    )
    for count in (3, 2):
        got = attention.scaled_dot_product_attention(
            nothing[:3], nothing[:count], v[:count], causal=False
        )
        mean = float(v[:count].mean())
        close(got.flatten(), [mean] * 3, f"3 queries, {count} keys, no mask")


def check_weights_by_hand() -> None:
    """Scores 0, ln 2 and ln 3 give weights 1/6, 1/3 and 1/2."""
    q = torch.ones(3, 1)
    k = torch.tensor([[0.0], [math.log(2)], [math.log(3)]])
    close(
        attention.attention_weights(q, k),
        [[1, 0, 0], [1 / 3, 2 / 3, 0], [1 / 6, 1 / 3, 1 / 2]],
        "the weights of three queries",
        hint="softmax along the keys, the last dimension",
    )
    q, k, v = torch.ones(2, 3, 4, 8), torch.ones(1, 1, 5, 8), torch.ones(5, 6)
    got = attention.scaled_dot_product_attention(q, k, v)
    equal(tuple(got.shape), (2, 3, 4, 6), "the shape of what is heard")
    equal(got.dtype, torch.float32, "the type of what is heard")
    weights = attention.attention_weights(q, k)
    equal(tuple(weights.shape), (2, 3, 4, 5), "the shape of the weights")
    equal(weights.dtype, torch.float32, "the type of the weights")


def check_scale() -> None:
    """Scores are divided by the square root of the head size."""
    q = torch.ones(1, 4)
    k = torch.tensor([[0.0, 0, 0, 0], [1, 1, 1, 1]])
    close(
        attention.attention_weights(q, k),
        [[0.1192029, 0.8807971]],  # scores 0 and 4 / 2
        "the weights for scores 0 and 4 with a head size of 4",
        hint="4 / sqrt(4) = 2, and 1 / (1 + e^-2) = 0.8808",
    )


def check_mask_of_last_queries() -> None:
    """Two queries for four keys are the last two positions."""
    equal(
        attention.causal_mask(2, 4).int().tolist(),
        [[1, 1, 1, 0], [1, 1, 1, 1]],
        "the mask of 2 queries and 4 keys",
        hint="the last query sees every key",
    )
    raises(
        ValueError,
        lambda: attention.causal_mask(3, 2),
        "3 queries for 2 keys",
        hint="the first query would have nothing to look at",
    )


def check_future_is_unseen() -> None:
    """Changing the future changes the past by exactly 0."""
    x = torch.sin(torch.arange(24.0)).view(6, 4)
    changed = x.clone()
    changed[4:] += 1
    before = attention.scaled_dot_product_attention(x, x, x)[:4]
    y = changed
    after = attention.scaled_dot_product_attention(y, y, y)[:4]
    gap = float((after - before).abs().max())
    equal(gap, 0.0, "the change of positions 0 to 3 when 4 and 5 change")


def check_large_scores() -> None:
    """Scores of a million give weights, not NaN."""
    x = torch.full((3, 1), 1000.0)
    got = attention.scaled_dot_product_attention(x, x, torch.ones(3, 1))
    true(bool(torch.isfinite(got).all()), "all outputs are finite numbers")


def check_single_head() -> None:
    """A head asks with its query, is found by its key, says its value."""
    head = attention.SingleHeadAttention(channels=3, head_size=4)
    with torch.no_grad():
        head.query.weight.copy_(torch.tensor([[0.5, 0, 0]] * 4))
        head.key.weight.copy_(torch.tensor([[0.0, 1, 0]] * 4))
        head.value.weight.copy_(torch.tensor([[0.0, 0, 1]] * 4))
    # channel 0 asks, channel 1 is the label, channel 2 the answer; the score
    # of a label is 4 * 0.5 * label / sqrt(4), which is the label
    rows = [[1, 0, 6], [1, math.log(2), 12], [1, math.log(3), 24]]
    close(
        head(torch.tensor([rows]))[0, :, 0],
        [6, 10, 17],
        "what a head hears of 6, 12, 24 with weights 1/6, 1/3, 1/2",
        hint="query(x), key(x), value(x), in this order",
    )
    got = sum(p.numel() for p in head.parameters())
    equal(got, 3 * 4 * 3, "numbers in a head of size 4 for 3 channels")
    x = torch.sin(torch.arange(45.0)).view(3, 5, 3)
    alone = torch.cat([head(row[None]) for row in x])
    close(head(x), alone, "three texts at once, and one at a time")


BUGS = {
    "the mask lets one future token through": (
        "diagonal=keys - queries)",
        "diagonal=keys - queries + 1)",
    ),
    "few queries are taken for the first positions": (
        "diagonal=keys - queries)",
        "diagonal=0)",
    ),
    "the weights are masked after the softmax": (
        "scores = scores.masked_fill(~seen, -math.inf)",
        "return scores.softmax(dim=-1).masked_fill(~seen, 0.0)",
    ),
    "masked scores are 0 instead of minus infinity": (
        "scores.masked_fill(~seen, -math.inf)",
        "scores.masked_fill(~seen, 0.0)",
    ),
    "the scale is missing": (
        "scores / math.sqrt(q.shape[-1])",
        "scores / 1.0",
    ),
    "the softmax runs over the queries": (
        "scores.softmax(dim=-1)",
        "scores.softmax(dim=-2)",
    ),
    "query and key are exchanged": (
        "self.query(x), self.key(x), self.value(x)",
        "self.key(x), self.query(x), self.value(x)",
    ),
    "what is heard comes in 64 bits": (
        "return attention_weights(q, k, causal) @ v",
        "return (attention_weights(q, k, causal) @ v).double()",
    ),
    "a head hears the batch's first text": (
        "q, k, v = self.query(x), self.key(x), self.value(x)",
        "q, k, v = self.query(x), self.key(x), self.value(x[:1])",
    ),
    "the mask cannot be left out": (
        "    if causal:\n",
        "    if True:\n",
    ),
    "keys have a bias": (
        "self.key = nn.Linear(channels, head_size, bias=False)",
        "self.key = nn.Linear(channels, head_size)",
    ),
}
