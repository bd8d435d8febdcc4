"""Tests of learning from pairs: who is preferred, and what DPO makes of it."""

import math
from itertools import combinations, islice, permutations

import numpy as np
import pytest
import torch

from scratchlm.model.gpt import GPT, gpt2_config
from scratchlm.text.tokenizer import END, Tokenizer
from scratchlm.text.toytown import TOWN, conjugate, join, write_corpus
from scratchlm.training.memory import IGNORED
from scratchlm.tuning import preference
from scratchlm.tuning.instruct import (
    STOP,
    Reply,
    Task,
    TuneConfig,
    encode_request,
    fine_tune,
    make_tasks,
    with_marks,
)
from scratchlm.tuning.preference import (
    Pair,
    PairBatch,
    answer_log_probs,
    compare,
    dpo_loss,
    draw_replies,
    gains,
    make_pairs,
    pair_batches,
    whole_sentence,
    with_reference,
    worth,
)

PIES = Task("fact", "Who sells pies?", "Mrs Pell.")


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """A small tokenizer of the town, with the marks of a dialogue."""
    return with_marks(Tokenizer.train(join(write_corpus(20_000)), 400))


def small(size: int = 40, context: int = 32) -> GPT:
    """A random model, small enough to be compared many times."""
    torch.manual_seed(0)
    return GPT(gpt2_config(size, context, 2, 2, 16)).eval()


def some_pairs(count: int = 7, size: int = 40) -> list[Pair]:
    """Random pairs whose answers have different lengths."""
    draw = torch.Generator().manual_seed(1)

    def text(low: int, high: int) -> list[int]:
        length = int(torch.randint(low, high, (1,), generator=draw))
        return torch.randint(size, (length,), generator=draw).tolist()

    return [Pair(text(2, 6), text(1, 4), text(3, 9)) for _ in range(count)]


# --- which of two is better ---


def test_whole_sentences_are_those_of_the_grammar() -> None:
    wanted = set()
    for person in TOWN.words["people"]:
        name, trade, place = (person.forms[x] for x in ("", "trade", "place"))
        be, keep, sell = (
            conjugate(verb, person.count, "present")
            for verb in ("be", "keep", "sell")
        )
        goods = [thing.forms["many"] for thing in person.goods]
        listed = f"{', '.join(goods[:-1])} and {goods[-1]}"
        wanted |= {f"{name} {keep} {place}.", f"{name} {be} the {trade}."}
        wanted |= {f"{name} {sell} {thing}." for thing in [*goods, listed]}
    tasks = make_tasks() + make_tasks(held_out=True)
    facts = [task for task in tasks if task.kind == "fact"]
    assert {whole_sentence(task) for task in facts} == wanted
    sums = [task for task in tasks if task.kind == "sum"]
    less = next(t for t in sums if t.request == "What is nine less four?")
    assert whole_sentence(less) == "Nine less four is five."


@pytest.mark.parametrize(
    ("reply", "value"),
    [
        (Reply("Mrs Pell.", True), 2),
        (Reply("Mrs Pell sells pies.", True), 1),
        (Reply("Mr Dunn.", True), 0),
        (Reply("Mrs Pell.", False), 0),
        (Reply("Mrs Pell. Mrs Pell.", True), 0),
    ],
)
def test_right_is_worth_more_and_short_still_more(
    reply: Reply, value: int
) -> None:
    assert worth(PIES, reply) == value


def test_a_judge_makes_pairs_or_ties(tokenizer: Tokenizer) -> None:
    short, longer = (
        Reply("Mrs Pell.", True),
        Reply("Mrs Pell sells pies.", True),
    )
    wrong, endless = Reply("Mr Dunn.", True), Reply("Mr Dunn. The", False)
    for better, worse in combinations([short, longer, wrong], 2):
        pair = compare(tokenizer, PIES, better, worse)
        assert pair == compare(tokenizer, PIES, worse, better)
        assert pair is not None
        assert pair.prompt == encode_request(tokenizer, PIES.request)
        said = [tokenizer.decode(part) for part in pair[1:]]
        assert said == [f" {r.text}{STOP}" for r in (better, worse)]
    pair = compare(tokenizer, PIES, short, endless)
    assert pair is not None
    assert tokenizer.decode(pair.rejected) == " Mr Dunn. The"
    assert compare(tokenizer, PIES, wrong, endless) is None


def test_replies_are_drawn_for_each_task(tokenizer: Tokenizer) -> None:
    model = small(tokenizer.vocab_size)
    tasks = make_tasks()[:3]
    drawn = draw_replies(model, tokenizer, tasks, 4, seed=1, new_tokens=5)
    assert [len(replies) for replies in drawn] == [4, 4, 4]
    assert len({reply.text for reply in drawn[0]}) > 1
    again = draw_replies(model, tokenizer, tasks, 4, seed=1, new_tokens=5)
    assert drawn == again
    assert drawn != draw_replies(model, tokenizer, tasks, 4, 2, 5)


def test_pairs_are_two_and_two(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    short, wrong = Reply("Mrs Pell.", True), Reply("Mr Dunn.", True)
    replies = [[short, wrong, wrong, wrong], [wrong, short, short, short]]
    monkeypatch.setattr(preference, "draw_replies", lambda *_: replies)
    pairs = make_pairs(small(), tokenizer, [PIES, PIES], draws=4, seed=0)
    assert pairs == [compare(tokenizer, PIES, short, wrong)] * 2
    monkeypatch.setattr(preference, "draw_replies", lambda *_: [[short] * 3])
    with pytest.raises(ValueError, match="zip"):
        make_pairs(small(), tokenizer, [PIES], draws=4, seed=0)
    with pytest.raises(ValueError, match="an even number"):
        make_pairs(small(), tokenizer, [PIES], draws=3, seed=0)


def test_a_reference_without_chance_and_of_some_pairs() -> None:
    torch.manual_seed(0)
    loose = GPT(gpt2_config(40, 32, 1, 1, 8, dropout=0.1))
    with pytest.raises(ValueError, match="dropout"):
        with_reference(loose, some_pairs())
    with pytest.raises(ValueError, match="equally good"):
        with_reference(small(), [])


# --- the loss, against other computations ---


def alone(model: GPT, prompt: list[int], answer: list[int]) -> float:
    """ln of an answer's probability, token by token, in float64."""
    total, text = 0.0, list(prompt)
    for token in answer:
        with torch.no_grad():
            logits = model(torch.tensor([text]))[0, -1].double().numpy()
        total += logits[token] - np.log(np.exp(logits).sum())
        text.append(token)
    return float(total)


def test_log_probabilities_are_sums_over_the_answer() -> None:
    model, pairs = small(), some_pairs()
    got = with_reference(model, pairs).reference
    wanted = [[alone(model, p.prompt, p[side]) for p in pairs]
              for side in (1, 2)]  # fmt: skip
    torch.testing.assert_close(
        got, torch.tensor(wanted), atol=1e-4, rtol=1e-5, check_dtype=False
    )


def test_the_loss_is_the_paper_s_equation_7() -> None:
    draw = np.random.default_rng(0)
    policy, reference = draw.normal(-9, 3, (2, 2, 20))  # (2, B) each
    for beta in (0.01, 0.1, 1.0):
        ratios = np.exp(policy - reference)  # π / π_ref of the answers
        score = beta * np.log(ratios[0]) - beta * np.log(ratios[1])
        wanted = np.mean(-np.log(1 / (1 + np.exp(-score))))
        got = dpo_loss(torch.from_numpy(policy - reference), beta)
        assert got.item() == pytest.approx(wanted, rel=1e-12)


def test_it_begins_at_the_logarithm_of_two() -> None:
    model = small()
    data = with_reference(model, some_pairs())
    for beta in (0.1, 5.0):
        loss = dpo_loss(gains(model, data), beta)
        assert loss.item() == pytest.approx(math.log(2), abs=1e-6)
    batch = next(pair_batches(data, 3, seed=1))
    assert dpo_loss(gains(model, batch)).item() == pytest.approx(math.log(2))


def test_only_a_difference_counts() -> None:
    torch.manual_seed(0)
    gained = torch.randn(2, 6, dtype=torch.float64)
    swapped = gained.flip(0)
    torch.testing.assert_close(dpo_loss(gained + 7), dpo_loss(gained))
    # −ln σ(−m) = −ln σ(m) + m: the margin has changed its sign.
    margin = 0.1 * (gained[0] - gained[1]).mean()
    torch.testing.assert_close(dpo_loss(swapped), dpo_loss(gained) + margin)


def gradient(model: GPT, batch: PairBatch) -> torch.Tensor:
    """The gradient of the loss, as one vector."""
    loss = dpo_loss(gains(model, batch))
    found = torch.autograd.grad(loss, list(model.parameters()))
    return torch.cat([part.flatten() for part in found])


def test_equal_answers_teach_nothing() -> None:
    model = small()
    same = [Pair(p.prompt, p.chosen, p.chosen) for p in some_pairs()]
    assert gradient(model, with_reference(model, same)).abs().max() < 1e-7
    assert gradient(model, with_reference(model, some_pairs())).norm() > 1e-3


def test_a_prompt_that_is_counted_cancels() -> None:
    model, other = small(), small()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.sin(torch.arange(parameter.numel()))
                           .view_as(parameter))  # fmt: skip
    pairs = some_pairs()
    whole = [Pair(p.prompt[:1], p.prompt[1:] + p.chosen,
                  p.prompt[1:] + p.rejected) for p in pairs]  # fmt: skip
    answers, texts = (gains(model, with_reference(other, some))
                      for some in (pairs, whole))  # fmt: skip
    assert (answers - texts).abs().max() > 1e-2
    torch.testing.assert_close(
        answers[0] - answers[1], texts[0] - texts[1], atol=1e-4, rtol=1e-4
    )


def expected_slope(scores: torch.Tensor, beta: float) -> torch.Tensor:
    """The slope of the loss of endless pairs of three answers, by scores.

    Bradley and Terry's model has judged them, and REWARDS are true.
    """
    scores = scores.clone().requires_grad_()
    gained = scores.log_softmax(0) - REFERENCE.log()
    loss = torch.zeros((), dtype=torch.float64)
    for a, b in permutations(range(3), 2):
        wins = torch.sigmoid(REWARDS[a] - REWARDS[b])
        loss = loss + wins * dpo_loss(gained[[a, b]].view(2, 1), beta)
    (slope,) = torch.autograd.grad(loss, [scores])
    return slope


REFERENCE = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
REWARDS = torch.tensor([1.0, -0.5, 0.25], dtype=torch.float64)


@pytest.mark.parametrize("beta", [0.1, 0.5, 2.0])
def test_the_optimum_is_the_reference_tilted_by_the_reward(
    beta: float,
) -> None:
    """The loss is convex in the scores: where the slope is 0, it is least."""
    tilted = REFERENCE * torch.exp(REWARDS / beta)
    best = (tilted / tilted.sum()).log()
    assert expected_slope(best, beta).abs().max() < 1e-12
    assert expected_slope(REFERENCE.log(), beta).abs().max() > 1e-3


# --- training ---


def test_batches_go_through_all_pairs() -> None:
    data = with_reference(small(), some_pairs(7))
    batches = list(islice(pair_batches(data, 3, seed=0), 4))
    for two in (batches[:2], batches[2:]):
        seen = [x for batch in two for x in batch.reference[0].tolist()]
        assert len(set(seen)) == 6
        assert set(seen) < set(data.reference[0].tolist())
    for batch in batches:
        assert (
            batch.ids.shape
            == batch.targets.shape
            == (2, 3, *data.ids[0, 0].shape)
        )
        torch.testing.assert_close(
            answer_log_probs(small(), batch.ids, batch.targets),
            batch.reference,
        )
    for size in (0, 8):
        with pytest.raises(ValueError, match="do not make a batch"):
            next(pair_batches(data, size, seed=0))


def test_a_model_comes_to_prefer() -> None:
    model, pairs = small(), some_pairs(12)
    data = with_reference(model, pairs)
    before = data.reference.clone()
    config = TuneConfig(steps=60, learning_rate=3e-3)
    losses = fine_tune(
        model,
        pair_batches(data, 6, seed=0),
        config,
        loss=lambda model, batch: dpo_loss(gains(model, batch), 1.0),
    )
    assert losses[0] == pytest.approx(math.log(2))
    assert losses[-1] < 0.2
    with torch.no_grad():
        gained = gains(model, data)
    assert (gained[0] > gained[1]).all()
    assert torch.equal(data.reference, before)
    assert not data.reference.requires_grad
    assert (data.targets[:, :, 0] == IGNORED).all()


def test_an_answer_that_is_too_long_is_refused() -> None:
    with pytest.raises(ValueError, match="window of 32"):
        with_reference(small(), [Pair([1], [2] * 33, [3])])


def test_a_text_without_an_end_has_none() -> None:
    tokenizer = with_marks(Tokenizer([], {END: 256}))
    pair = compare(tokenizer, PIES, Reply("Mrs Pell.", True), Reply("M", False))
    assert pair is not None
    assert pair.rejected == [ord(" "), ord("M")]
