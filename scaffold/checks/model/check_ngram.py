"""What a model that counts must do."""

import math

import numpy as np

from scratchlm.model import ngram

from ..expect import close, equal, raises, true


def check_a_table_by_hand() -> None:
    """After a b a b: b follows a with (2 + 1)/(2 + 2), a follows b 2/3."""
    model = ngram.NGram(2, 2, 1.0).fit([0, 1, 0, 1])
    close(model.next_probabilities([0]), [0.25, 0.75], "what follows a")
    close(
        model.next_probabilities([1]),
        [2 / 3, 1 / 3],
        "what follows b",
        hint="the last b has nothing behind it: count contexts of windows",
    )


def check_probabilities_add_up_to_one() -> None:
    """For contexts that were seen and for those that were not."""
    model = ngram.NGram(3, 5, 0.1).fit([0, 1, 2, 3, 4, 0, 1, 3])
    for context in ([0, 1], [4, 4]):
        p = model.next_probabilities(context)
        close(p.sum(), 1.0, f"the sum after {context}")
        true(p.min() > 0, "nothing is impossible")


def check_an_unseen_context_knows_nothing() -> None:
    """Then all V tokens are equally likely: ln V nats."""
    model = ngram.NGram(3, 8, 0.01).fit([0, 1, 2, 0, 1, 2])
    close(model.nats([5, 6, 7]), math.log(8), "the surprise in nats")


def check_the_surprise_is_a_mean_of_logarithms() -> None:
    """Two windows with 3/4 and 2/3: minus the mean of their logarithms."""
    model = ngram.NGram(2, 2, 1.0).fit([0, 1, 0, 1])
    close(
        model.nats([0, 1, 0]),
        -(math.log(3 / 4) + math.log(2 / 3)) / 2,
        "nats per token of a b a",
        hint="natural logarithms, divided by the number of windows",
    )


def check_longer_contexts_are_told_apart() -> None:
    """After 0 1 comes 2, after 3 1 comes 4: a trigram knows, no bigram."""
    ids = [0, 1, 2, 3, 1, 4] * 20
    three = ngram.NGram(3, 5, 0.001).fit(ids)
    equal(int(three.next_probabilities([0, 1]).argmax()), 2, "after 0 1")
    equal(int(three.next_probabilities([3, 1]).argmax()), 4, "after 3 1")
    two = ngram.NGram(2, 5, 0.001).fit(ids)
    p = two.next_probabilities([1])
    close(p[2], p[4], "a bigram's two guesses", tol=1e-4)


def check_smoothing_is_required() -> None:
    """Without it, what was never seen is infinitely surprising."""
    raises(ValueError, lambda: ngram.NGram(2, 5, 0.0), "a smoothing of 0")
    raises(
        ValueError,
        lambda: ngram.NGram(2, 3, 0.1).fit(np.array([0, 1, 3])),
        "a token that is not in the vocabulary",
    )


def check_the_choice_is_fair() -> None:
    """Order and smoothing are those that predict the last tenth best."""
    ids = [0, 1, 2, 3, 1, 4] * 30  # two tokens tell the next, one does not
    model = ngram.choose_ngram(ids, 5, [1, 2, 3])
    equal(model.order, 3, "the order for a text where two tokens tell all")
    equal(model.smoothing, min(ngram.SMOOTHINGS), "its smoothing")
    k = model.smoothing
    close(
        model.nats([0, 1, 3]),
        float(np.log((30 + 5 * k) / k)),
        "the surprise of a 3 after 0 1, which 30 times is a 2",
        tol=1e-3,
        hint="count all of the text with the order that was chosen",
    )
    tail = [0, 1] * 80 + [1, 0, 0, 1, 1, 1, 0, 0, 0, 1] * 2
    model = ngram.choose_ngram(tail, 2, [2])
    true(
        model.smoothing == max(ngram.SMOOTHINGS),
        "a text whose last tenth is new asks for the largest smoothing",
        hint="judge on what was not counted: the last tenth",
    )


def check_the_smallest_models() -> None:
    """One token, no context, and a model that has counted nothing."""
    alone = ngram.NGram(1, 1, 1.0).fit([0, 0])
    close(alone.next_probabilities([]), [1.0], "a vocabulary of one token")
    empty = ngram.NGram(2, 4, 1.0)
    close(
        empty.next_probabilities([3]),
        [1 / 4] * 4,
        "the shares before anything was counted",
        hint="a context that was never seen makes all tokens alike",
    )


BUGS = {
    "the choice is judged on what was counted": (
        "model.nats(rest)",
        "model.nats(row[:cut])",
    ),
    "the model that is chosen lacks the last tenth": (
        "NGram(order, vocab_size, smoothing).fit(row)",
        "NGram(order, vocab_size, smoothing).fit(row[:cut])",
    ),
    "the smoothing is missing below the line": (
        "(total + k * self.vocab_size)",
        "(total + k)",
    ),
    "unseen n-grams get the count of a neighbor": (
        "np.where(keys[places] == wanted, values[places], 0)",
        "values[places]",
    ),
    "bits instead of nats": (
        "-np.log(self.probability",
        "-np.log2(self.probability",
    ),
    "digits in the wrong base": (
        "grams = grams * self.vocab_size + row",
        "grams = grams * (self.vocab_size - 1) + row",
    ),
    "the first tokens of the context are taken": (
        "list(context)[len(context) - self.order + 1 :]",
        "list(context)[: max(self.order - 2, 0)] + "
        "list(context)[: min(1, self.order - 1)]",
    ),
}
