"""Tests of classifying: texts, counts, a head of K, and how it is judged."""

import math
from copy import deepcopy
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from scratchlm.model.gpt import GPT, GPTConfig, gpt2_config, llama_config
from scratchlm.model.published import to_published
from scratchlm.text.tokenizer import END, Tokenizer
from scratchlm.text.toytown import (
    TOWN,
    begins_story,
    derivations,
    write_stories,
)
from scratchlm.tuning import classify
from scratchlm.tuning.classify import (
    PLOTS,
    LabeledBatch,
    balanced_weights,
    choose_grams,
    choose_threshold,
    claims,
    class_logits,
    class_loss,
    confusion,
    count_grams,
    encode_texts,
    first_words,
    fit_softmax,
    fit_temperature,
    grams,
    labeled_batches,
    last_features,
    pick_last,
    plot_chances,
    recalls,
    reliability,
    split_people,
    surprises,
    train_last,
    with_head,
)
from scratchlm.tuning.instruct import TuneConfig, fine_tune

Rows = list[list[int]]


def small(form: str = "gpt2") -> GPT:
    """A random model, small enough to be compared many times."""
    torch.manual_seed(0)
    config: GPTConfig = (
        gpt2_config(40, 16, 2, 2, 16)
        if form == "gpt2"
        else llama_config(40, 16, 2, 2, 16)
    )
    model = GPT(config)
    for parameter in model.parameters():
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def some_rows(count: int = 9, longest: int = 12) -> Rows:
    """Random texts of different lengths, none of them with a 0."""
    draw = torch.Generator().manual_seed(1)
    sizes = torch.randint(1, longest + 1, (count,), generator=draw)
    return [
        torch.randint(1, 40, (int(size),), generator=draw).tolist()
        for size in sizes
    ]


def some_head(classes: int) -> Tensor:
    """A random head for the small model."""
    draw = torch.Generator().manual_seed(7)
    return torch.randn(classes, 16, generator=draw)


# --- texts and their classes ---


def test_plots_are_those_of_the_grammar() -> None:
    assert [f"<{name}>" for name in PLOTS] == TOWN.rules["plot"]


def test_a_whole_story_has_one_plot() -> None:
    for story in islice(write_stories(5), 12):
        (steps,) = derivations(story.text)
        option = next(step.option for step in steps if step.name == "plot")
        assert plot_chances(story.text) == [
            float(i == option) for i in range(6)
        ]


@pytest.mark.parametrize("text", ["", "It was M", "On Monday rain fell on"])
def test_a_scene_says_nothing_of_the_plot(text: str) -> None:
    assert plot_chances(text) == pytest.approx(
        [k / 21 for k in range(6, 0, -1)]
    )


def test_what_no_story_begins_with_is_refused() -> None:
    with pytest.raises(ValueError, match="begins 'The moon'"):
        plot_chances("The moon")


def test_chances_are_those_of_counting_stories() -> None:
    """The mean of what was said is the mean of what came, but for luck."""
    samples = first_words(seed=3, count=150, letters=150)
    found = np.array([plot_chances(sample.text) for sample in samples])
    happened = np.eye(6)[[sample.label for sample in samples]]
    gap = np.abs((found - happened).mean(axis=0))
    luck = np.sqrt((found * (1 - found)).sum(axis=0)) / len(samples)
    assert (gap < 3.5 * luck + 1e-9).all()


def test_beginnings_end_with_a_word() -> None:
    samples = first_words(seed=1, count=5, letters=100)
    for sample, story in zip(samples, write_stories(1), strict=False):
        assert len(sample.text) <= 100
        assert story.text.startswith(sample.text + " ")
    assert samples == first_words(seed=1, count=7, letters=100)[:5]


def test_people_are_split_in_three_ways() -> None:
    names = []
    for fold in range(3):
        learned, kept = split_people(fold)
        assert not {p.forms[""] for p in learned} & {p.forms[""] for p in kept}
        assert len(learned) + len(kept) == 13
        names += [person.forms[""] for person in kept]
    assert len(set(names)) == len(names) == 13
    with pytest.raises(ValueError, match="fold 3"):
        split_people(3)


def test_the_town_itself_says_what_is_true() -> None:
    learned, _ = split_people(2)
    samples = claims(seed=4, count=24, people=learned)
    for sample in samples:
        assert begins_story(sample.text) == bool(sample.label)
        assert f". {sample.group}, the " in sample.text
    assert {s.group for s in samples} <= {p.forms[""] for p in learned}


def test_words_stand_in_true_and_false_claims_alike() -> None:
    samples = claims(seed=4, count=40, people=split_people(0)[0])
    words = [
        sorted(w for s in samples if s.label == label for w in s.text.split())
        for label in (0, 1)
    ]
    assert words[0] == words[1]


@pytest.mark.parametrize(("count", "people"), [(6, 3), (8, 1)])
def test_claims_come_in_fours_of_two(count: int, people: int) -> None:
    with pytest.raises(ValueError, match="take fours"):
        claims(1, count, split_people(0)[0][:people])


def test_texts_begin_behind_an_end() -> None:
    tokenizer = Tokenizer([], {END: 256})
    samples = [classify.Sample("ab", 1), classify.Sample("c", 0)]
    rows, labels = encode_texts(tokenizer, samples)
    assert rows == [[256, 97, 98], [256, 99]]
    closed, _ = encode_texts(tokenizer, samples, closed=True)
    assert closed == [[*row, 256] for row in rows]
    assert labels.tolist() == [1, 0]


# --- counting ---


def test_grams_and_columns() -> None:
    rows = [[1, 2, 3], [2, 3], [2, 2]]
    columns = choose_grams(rows, longest=2, least=2)
    assert columns == {(2,): 0, (2, 3): 1, (3,): 2}
    assert count_grams([*rows, [7]], columns).tolist() == [
        [1, 1, 1, 1],
        [1, 1, 1, 1],
        [2, 0, 0, 1],
        [0, 0, 0, 1],
    ]
    assert count_grams([[7]], {}).tolist() == [[1]]
    assert grams([4, 4, 4], 3)[4, 4, 4] == 1


def test_weights_are_those_of_the_formula() -> None:
    labels = torch.tensor([0] * 6 + [1] * 3 + [2])
    weights = balanced_weights(labels, 3)
    torch.testing.assert_close(
        weights * labels.bincount(), torch.full((3,), 10 / 3)
    )
    for classes in (2, 4):
        with pytest.raises(ValueError, match="are not"):
            balanced_weights(labels, classes)


def problem(classes: int) -> tuple[Tensor, Tensor]:
    """Features and labels that no head can separate."""
    draw = torch.Generator().manual_seed(2)
    features = torch.randn(60, 5, generator=draw)
    noise = torch.randn(60, classes, generator=draw)
    labels = (features[:, :classes] + noise).argmax(dim=1)
    return features, labels


def newton(x: np.ndarray, y: np.ndarray, penalty: float, each: np.ndarray
           ) -> np.ndarray:  # fmt: skip
    """Logistic regression of two classes by Newton's method, w (F,)."""
    w = np.zeros(x.shape[1])
    share = each / each.sum()
    for _ in range(50):
        p = 1 / (1 + np.exp(-x @ w))
        slope = x.T @ (share * (p - y)) + penalty * w
        curve = (x * (share * p * (1 - p))[:, None]).T @ x
        w -= np.linalg.solve(curve + penalty * np.eye(len(w)), slope)
    return w


@pytest.mark.parametrize("balanced", [False, True])
def test_two_classes_are_logistic_regression(balanced: bool) -> None:
    """With heads w and −w the squares are 2 w², so w is half of Newton's."""
    features, labels = problem(2)
    weights = balanced_weights(labels, 2) if balanced else None
    head = fit_softmax(features, labels, 2, 0.01, weights)
    each = np.ones(60) if weights is None else weights[labels].numpy()
    wanted = newton(features.double().numpy(), labels.numpy(), 0.01, each)
    np.testing.assert_allclose(head[1] - head[0], wanted, atol=1e-5)
    np.testing.assert_allclose(head[1], -head[0], atol=1e-6)


def test_the_head_is_at_the_minimum() -> None:
    features, labels = problem(4)
    head = fit_softmax(features, labels, 4, 0.02)
    x = features.double()
    off = (x @ head.T).softmax(dim=1) - torch.eye(4, dtype=x.dtype)[labels]
    slope = off.T @ x / len(x) + 2 * 0.02 * head
    assert slope.abs().max() < 1e-6


def test_without_features_it_says_how_often_classes_are() -> None:
    labels = torch.tensor([0] * 6 + [1] * 3 + [2])
    head = fit_softmax(torch.ones(10, 1), labels, 3, penalty=0.0)
    torch.testing.assert_close(
        head.softmax(dim=0)[:, 0],
        torch.tensor([0.6, 0.3, 0.1]).double(),
        atol=1e-5,
        rtol=0,
    )


def test_counts_learn_nothing_of_what_is_true() -> None:
    tokenizer = Tokenizer([], {END: 256})
    samples = claims(seed=4, count=40, people=split_people(0)[0])
    rows, labels = encode_texts(tokenizer, samples)
    for longest, learns in ((1, False), (2, False), (8, True)):
        counts = count_grams(rows, choose_grams(rows, longest))
        head = fit_softmax(counts, labels, 2)
        assert bool(head.abs().max() > 1e-9) == learns


# --- a head of K ---


def test_a_new_head_is_undecided_and_the_old_model_stays() -> None:
    model, rows = small(), some_rows()
    before = deepcopy(model.state_dict())
    labels = torch.arange(9) % 3
    changed = with_head(model, torch.zeros(3, 16))
    batch = next(labeled_batches(rows, labels, 9, seed=0))
    assert class_loss(changed, batch).item() == pytest.approx(math.log(3))
    fine_tune(changed, labeled_batches(rows, labels, 9, 0), TuneConfig(3),
              loss=class_loss)  # fmt: skip
    assert changed.head.weight.shape == (3, 16)
    assert changed.token.weight.shape == (40, 16)
    after = model.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)
    for shape in ((1, 16), (2, 15)):
        with pytest.raises(ValueError, match="2 classes or more"):
            with_head(model, torch.zeros(shape))


@pytest.mark.parametrize("form", ["gpt2", "llama"])
def test_the_library_gives_the_same_logits(form: str) -> None:
    """`…ForSequenceClassification` with our weights; it pads with 0."""
    model, rows = with_head(small(form), some_head(3)), some_rows()
    shape: dict[str, Any] = {"pad_token_id": 0, "num_labels": 3}
    shape["vocab_size"] = 40
    theirs: transformers.PreTrainedModel
    if form == "gpt2":
        theirs = transformers.GPT2ForSequenceClassification(
            transformers.GPT2Config(
                n_positions=16, n_embd=16, n_layer=2, n_head=2,
                bos_token_id=0, eos_token_id=0, **shape
            )
        )  # fmt: skip
    else:
        theirs = transformers.LlamaForSequenceClassification(
            transformers.LlamaConfig(
                max_position_embeddings=16, hidden_size=16,
                num_hidden_layers=2, num_attention_heads=2,
                intermediate_size=model.config.inner, rms_norm_eps=1e-5,
                bos_token_id=0, eos_token_id=0, **shape
            )
        )  # fmt: skip
    weights = to_published(model.state_dict(), model.config)
    weights["score.weight"] = weights.pop("lm_head.weight")
    theirs.load_state_dict(weights)
    ids, lengths = classify.pad_prompts(rows)
    mask = torch.arange(ids.shape[1]) < lengths[:, None]
    with torch.no_grad():
        wanted = theirs.eval()(ids, attention_mask=mask.long()).logits
    assert wanted.std() > 0.3
    torch.testing.assert_close(
        class_logits(model, rows), wanted, atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("blocks", [0, 1, 2])
def test_only_the_last_blocks_learn(blocks: int) -> None:
    model = train_last(with_head(small(), torch.zeros(2, 16)), blocks)
    before = deepcopy(model.state_dict())
    rows, labels = some_rows(), torch.arange(9) % 2
    fine_tune(model, labeled_batches(rows, labels, 4, 0), TuneConfig(4),
              loss=class_loss)  # fmt: skip
    moved = {n for n, w in model.state_dict().items()
             if not torch.equal(w, before[n])}  # fmt: skip
    everything = {name for name, _ in model.named_parameters()}
    wanted = {"head.weight"}
    if blocks:
        wanted |= {n for n in everything if n.startswith(("norm", "blocks.1"))}
    assert moved == (everything if blocks == 2 else wanted)
    again = train_last(model, 2)
    assert all(p.requires_grad for p in again.parameters())
    with pytest.raises(ValueError, match="3 blocks of 2"):
        train_last(model, 3)


def test_a_head_that_learns_alone_comes_to_the_fitted_one() -> None:
    model = train_last(with_head(small(), torch.zeros(2, 16)), 0)
    rows = some_rows(40)
    labels = torch.tensor([row[-1] % 2 for row in rows])
    fine_tune(
        model,
        labeled_batches(rows, labels, 40, 0),
        TuneConfig(400, 0.03),
        loss=class_loss,
    )
    features = last_features(model, rows)
    best = fit_softmax(features, labels, 2, penalty=0.0)
    nats = [
        torch.nn.functional.cross_entropy(logits, labels).item()
        for logits in (class_logits(model, rows), features.double() @ best.T)
    ]
    assert nats[1] <= nats[0] < nats[1] + 0.02


@settings(max_examples=20, deadline=None)
@given(
    st.lists(
        st.lists(st.integers(0, 39), min_size=1, max_size=16),
        min_size=1,
        max_size=5,
    )
)
def test_company_changes_no_features(rows: Rows) -> None:
    model = small()
    together = last_features(model, rows)
    alone = torch.cat([last_features(model, [row]) for row in rows])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)
    few = last_features(model, rows, batch_size=2)
    torch.testing.assert_close(together, few, atol=1e-4, rtol=1e-4)


def test_the_last_token_has_read_all_the_others() -> None:
    """Changing any token changes the features; filling up does not."""
    model, row = small(), some_rows(1, 12)[0] + [3, 4, 5]
    ids, lengths = torch.tensor([row]), torch.tensor([len(row)])
    with torch.no_grad():
        here = pick_last(model.features(ids), lengths)
        for place in range(len(row)):
            other = ids.clone()
            other[0, place] = (other[0, place] + 1) % 40
            moved = pick_last(model.features(other), lengths)
            assert (moved - here).abs().max() > 1e-4
        filled = torch.cat([ids, torch.tensor([[9]])], dim=1)
        same = pick_last(model.features(filled), lengths)
    torch.testing.assert_close(same, here, atol=1e-5, rtol=0)


def test_features_are_without_dropout_and_gradients() -> None:
    model = GPT(replace(small().config, dropout=0.5)).train()
    rows = some_rows(3)
    one, two = last_features(model, rows), last_features(model, rows)
    assert torch.equal(one, two)
    assert model.training
    assert not one.requires_grad


@pytest.mark.parametrize("row", [[], [1] * 17])
def test_texts_that_do_not_fit_are_refused(row: list[int]) -> None:
    for judge in (last_features, class_logits):
        with pytest.raises(ValueError, match="text 1 has"):
            judge(small(), [[1], row])


def test_batches_go_through_all_texts() -> None:
    rows = [[i] * (1 + i % 3) for i in range(1, 8)]
    labels = torch.arange(1, 8)
    batches = list(islice(labeled_batches(rows, labels, 3, seed=0), 4))
    for two in (batches[:2], batches[2:]):
        assert len({x for batch in two for x in batch.labels.tolist()}) == 6
    for batch in batches:
        assert batch.ids[:, 0].tolist() == batch.labels.tolist()
        ends = batch.ids[torch.arange(3), batch.lengths - 1]
        assert ends.tolist() == batch.labels.tolist()
        assert ((batch.ids != 0).sum(dim=1) == batch.lengths).all()
    for size in (0, 8):
        with pytest.raises(ValueError, match="make no batch"):
            next(labeled_batches(rows, labels, size, seed=0))


def test_a_loss_can_be_weighted() -> None:
    model = with_head(small(), some_head(2))
    rows, labels = some_rows(4), torch.tensor([0, 0, 0, 1])
    batch = LabeledBatch(*classify.pad_prompts(rows), labels)
    nats = -class_logits(model, rows).log_softmax(1)[range(4), labels]
    weights = balanced_weights(labels, 2)
    assert class_loss(model, batch).item() == pytest.approx(nats.mean().item())
    wanted = (nats[:3].mean() + nats[3]) / 2
    got = class_loss(model, batch, weights)
    assert got.item() == pytest.approx(wanted.item(), rel=1e-5)


def test_surprise_is_the_sum_over_the_last_tokens() -> None:
    model = small()
    rows = [[*row, 1, 2, 3] for row in some_rows(4)]
    wanted = []
    for row in rows:
        with torch.no_grad():
            logs = model(torch.tensor([row]))[0].log_softmax(dim=-1)
        wanted.append(-sum(logs[t - 1, row[t]].item()
                           for t in range(len(row) - 2, len(row))))  # fmt: skip
    torch.testing.assert_close(
        surprises(model, rows, [2] * 4), torch.tensor(wanted), atol=1e-4, rtol=0
    )


# --- judging ---


def test_confusion_is_a_table_of_counts() -> None:
    draw = torch.Generator().manual_seed(3)
    labels, guesses = torch.randint(3, (2, 50), generator=draw)
    table = confusion(labels, guesses, 4)
    for a in range(4):
        for b in range(4):
            both = (labels == a) & (guesses == b)
            assert table[a, b] == both.sum()
    assert recalls(table)[:3] == pytest.approx(
        [((labels == a) & (guesses == a)).sum().item()
         / (labels == a).sum().item() for a in range(3)]
    )  # fmt: skip


def test_honest_chances_lie_on_the_diagonal() -> None:
    draw = torch.Generator().manual_seed(4)
    chances = torch.rand(20_000, generator=draw)
    happened = torch.rand(20_000, generator=draw) < chances
    rows = reliability(chances, happened, bins=4)
    assert sum(number for *_, number in rows) == 20_000
    for said, came, _ in rows:
        assert abs(said - came) < 0.03
    sure = reliability(torch.tensor([1.0, 0.1]), torch.tensor([True, False]))
    assert [number for *_, number in sure] == [1, 1]


def test_a_temperature_undoes_what_was_scaled() -> None:
    draw = torch.Generator().manual_seed(5)
    logits = torch.randn(4000, 3, generator=draw)
    labels = torch.multinomial(logits.softmax(1), 1, generator=draw)[:, 0]
    once = fit_temperature(logits, labels)
    assert once == pytest.approx(1, abs=0.1)
    for factor in (0.2, 3.0):
        scaled = fit_temperature(factor * logits, labels)
        assert scaled == pytest.approx(factor * once, rel=1e-3)


@pytest.mark.parametrize(("miss", "alarm"), [(1, 1), (9, 1), (1, 4)])
def test_a_threshold_has_the_least_cost(miss: float, alarm: float) -> None:
    draw = torch.Generator().manual_seed(6)
    chances = torch.rand(4000, generator=draw)
    happened = torch.rand(4000, generator=draw) < chances

    def cost(threshold: float) -> float:
        says = chances >= threshold
        missed = (~says & happened).sum().item()
        return miss * missed + alarm * (says & ~happened).sum().item()

    found = choose_threshold(chances, happened, miss, alarm)
    for other in np.linspace(0, 1.01, 50):
        assert cost(found) <= cost(other)
    # Where chances are honest it is known beforehand.
    assert found == pytest.approx(alarm / (alarm + miss), abs=0.06)


@pytest.mark.parametrize(
    ("happened", "wanted"),
    [([0, 0], math.inf), ([1, 1], -math.inf), ([0, 1], 0.55)],
)
def test_a_threshold_may_be_beyond_all(
    happened: list[int], wanted: float
) -> None:
    chances = torch.tensor([0.2, 0.9])
    found = choose_threshold(chances, torch.tensor(happened), 1, 1)
    assert found == pytest.approx(wanted)
