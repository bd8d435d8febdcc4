"""Solutions on classifying: by hand, by the mean, with both losses, moved."""

import pytest
import torch

from scratchlm.model.gpt import GPT, gpt2_config, next_token_loss
from scratchlm.tuning.classify import (
    LabeledBatch,
    class_loss,
    confusion,
    last_features,
    plot_chances,
    with_head,
)
from solutions.tuning.classify import (
    both_losses,
    first_word_chances,
    mean_features,
    moved_to,
    paired,
    precisions,
)


def small() -> GPT:
    """A random model with a random head of three."""
    torch.manual_seed(0)
    model = GPT(gpt2_config(20, 8, 2, 2, 16)).eval()
    return with_head(model, torch.randn(3, 16))


BATCH = LabeledBatch(
    torch.tensor([[3, 1, 4, 1], [5, 9, 0, 0]]),
    torch.tensor([4, 2]),
    torch.tensor([2, 0]),
)


def test_by_hand_is_what_the_grammar_says() -> None:
    text = "It was Monday, and rain fell on the river. Mrs Pell "
    assert first_word_chances() == pytest.approx(plot_chances(text))


def test_the_mean_is_over_real_tokens() -> None:
    model = small()
    with torch.no_grad():
        found = mean_features(model.features(BATCH.ids), BATCH.lengths)
        alone = model.features(torch.tensor([[5, 9]]))[0].mean(dim=0)
    torch.testing.assert_close(found[1], alone, atol=1e-5, rtol=1e-5)
    last = last_features(model, [[5, 9]])[0]
    assert (found[1] - last).abs().max() > 1e-3


def test_both_losses_count_real_tokens_only() -> None:
    model = small()
    classes = class_loss(model, BATCH)
    alone = both_losses(model, BATCH, model.token.weight, 0.0)
    torch.testing.assert_close(alone, classes)
    writer = model.features(BATCH.ids) @ model.token.weight.T
    first = next_token_loss(writer[:1, :3], BATCH.ids[:1, 1:], "sum")
    second = next_token_loss(writer[1:, :1], BATCH.ids[1:, 1:2], "sum")
    wanted = classes + 0.5 * (first + second) / 4
    found = both_losses(model, BATCH, model.token.weight)
    torch.testing.assert_close(found, wanted)


def test_precision_reads_the_columns() -> None:
    labels, guesses = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 1, 1])
    found = precisions(confusion(labels, guesses, 2))
    assert found == pytest.approx([1.0, 2 / 3])


def test_a_moved_world_is_that_of_bayes() -> None:
    """Two worlds with the same texts in each class, and other shares."""
    told = torch.rand(3, 7, dtype=torch.float64)
    told = told / told.sum(dim=1, keepdim=True)  # P(text | class)
    old = torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64)
    new = torch.tensor([0.1, 0.3, 0.6], dtype=torch.float64)
    here, there = ((w[:, None] * told).T for w in (old, new))
    wanted = there / there.sum(dim=1, keepdim=True)
    got = moved_to(here.log(), old, new).softmax(dim=1)
    torch.testing.assert_close(got, wanted)


def test_of_two_texts_the_cheaper_one_is_true() -> None:
    assert paired(torch.tensor([[1.0, 2.0], [0.0, 5.0]])) == 1.0
    assert paired(torch.tensor([[2.0, 2.0]])) == 0.0
