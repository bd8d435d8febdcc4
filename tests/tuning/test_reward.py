"""Tests of learning from a reward: pay, advantages, three averages, GRPO."""

import math
from collections import Counter
from itertools import islice, product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from scratchlm.evaluation.probes import pad_pairs
from scratchlm.generation.batch import Engine, Request
from scratchlm.model.gpt import GPT, gpt2_config
from scratchlm.text.tokenizer import END, Tokenizer
from scratchlm.text.toytown import join, write_corpus
from scratchlm.training.memory import IGNORED
from scratchlm.tuning.instruct import (
    STOP,
    Reply,
    Task,
    TuneConfig,
    Turn,
    encode_request,
    encode_turn,
    make_tasks,
    read_reply,
    with_marks,
)
from scratchlm.tuning.preference import answer_log_probs, worth
from scratchlm.tuning.reward import (
    Average,
    RewardConfig,
    Rollout,
    clipped_gain,
    collect,
    divergence_estimate,
    draw_tokens,
    group_advantages,
    learn_from_reward,
    make_rollout,
    pass_at,
    pay_form,
    pay_right,
    reward_loss,
    right_chances,
    rollouts,
    token_log_probs,
    token_weights,
)

SEVEN = Task("sum", "What is five and two?", "Seven.")
AVERAGES: tuple[Average, ...] = ("sequence", "token", "constant")


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """A small tokenizer of the town, with the marks of a dialogue."""
    return with_marks(Tokenizer.train(join(write_corpus(20_000)), 400))


def small(size: int = 40, context: int = 32, seed: int = 0) -> GPT:
    """A random model, small enough to be compared many times."""
    torch.manual_seed(seed)
    return GPT(gpt2_config(size, context, 2, 2, 16)).eval()


def draw() -> torch.Generator:
    """A generator that begins at the same place each time."""
    return torch.Generator().manual_seed(0)


def made(
    model: GPT,
    average: Average = "sequence",
    other: GPT | None = None,
    rewards: Tensor | None = None,
) -> Rollout:
    """Eight random replies of different lengths, as if `model` drew them."""
    chance = torch.Generator().manual_seed(1)

    def text(low: int, high: int) -> list[int]:
        length = int(torch.randint(low, high, (1,), generator=chance))
        return torch.randint(40, (length,), generator=chance).tolist()

    pairs = [(text(2, 6), text(1, 9)) for _ in range(8)]
    if rewards is None:
        rewards = torch.tensor([[1.0, 0.0, 0.0, 1.0], [0.0, 1.0, 0.0, 0.5]])
    config = RewardConfig(new_tokens=10, average=average)
    batch = make_rollout(model, pairs, rewards, config)
    if other is None:
        return batch
    with torch.no_grad():
        first = token_log_probs(other, batch.ids, batch.targets)
    return batch._replace(reference=first)


def slopes(model: GPT, loss: Tensor) -> Tensor:
    """The gradient of a loss, as one long vector."""
    return torch.cat(
        [g.flatten() for g in torch.autograd.grad(loss, [*model.parameters()])]
    )


# --- what is paid ---


def test_a_golden_answer_in_the_prompt_s_own_format_is_paid(
    tokenizer: Tokenizer,
) -> None:
    stop_id = tokenizer.special_tokens[STOP]
    for task in make_tasks() + make_tasks(held_out=True):
        prompt = encode_request(tokenizer, task.request)
        whole = encode_turn(tokenizer, Turn(task.request, task.answer))
        assert whole[: len(prompt)] == prompt
        reply = read_reply(tokenizer, whole[len(prompt) :], stop_id)
        assert pay_right(task, reply) == 1
        assert pay_form(task, reply) == (task.kind == "sum")


@pytest.mark.parametrize(
    ("reply", "right", "form"),
    [
        (Reply("Seven.", True), 1, 1),
        (Reply("Six.", True), 0, 1),
        (Reply("Seven.", False), 0, 0),
        (Reply("Seven", True), 0, 0),
        (Reply("seven.", True), 0, 0),
        (Reply("Seven. Six.", True), 0, 0),
        (Reply("", True), 0, 0),
    ],
)
def test_pay(reply: Reply, right: float, form: float) -> None:
    assert pay_right(SEVEN, reply) == right
    assert pay_form(SEVEN, reply) == form


# --- advantages ---


def test_advantages_by_hand() -> None:
    rewards = torch.tensor([[1.0, 0.0, 0.0, 1.0], [3.0, 0.0, 0.0, 1.0]])
    plain = group_advantages(rewards, scaled=False)
    assert plain.tolist() == [[0.5, -0.5, -0.5, 0.5], [2.0, -1.0, -1.0, 0.0]]
    scaled = group_advantages(rewards)
    assert scaled[0].tolist() == [1, -1, -1, 1]
    torch.testing.assert_close(scaled[1], plain[1] / math.sqrt(1.5))


@given(st.floats(-1e6, 1e6), st.integers(2, 9), st.booleans())
def test_a_group_that_was_paid_the_same_teaches_nothing(
    value: float, size: int, scaled: bool
) -> None:
    same = group_advantages(torch.full((2, size), value), scaled)
    assert same.abs().max() == 0


@given(
    st.lists(st.floats(-1, 1, width=32), min_size=2, max_size=8),
    st.floats(-3, 3, width=32),
)
def test_only_the_difference_to_the_others_counts(
    paid: list[float], more: float
) -> None:
    rewards = torch.tensor([paid], dtype=torch.float64)
    plain = group_advantages(rewards, scaled=False)
    torch.testing.assert_close(
        plain, group_advantages(rewards + more, scaled=False)
    )
    assert plain.sum().abs() < 1e-9
    scaled = group_advantages(rewards)
    assert scaled.square().mean() <= 1 + 1e-9


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_reward_that_is_no_number_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="NaN"):
        group_advantages(torch.tensor([[1.0, bad, 0.0]]))


@pytest.mark.parametrize("shape", [(4,), (3, 1)])
def test_a_group_of_one_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="two"):
        group_advantages(torch.zeros(shape))


# --- the pieces of the loss ---


def test_log_probs_token_by_token() -> None:
    model, batch = small(), made(small())
    for row in range(len(batch.ids)):
        for t, target in enumerate(batch.targets[row].tolist()):
            if target == IGNORED:
                assert batch.old[row, t] == 0
                continue
            logits = model(batch.ids[row : row + 1, : t + 1])[0, -1]
            wanted = logits.log_softmax(-1)[target]
            torch.testing.assert_close(batch.old[row, t], wanted)
    sums = answer_log_probs(model, batch.ids, batch.targets)
    torch.testing.assert_close(batch.old.sum(dim=1), sums)


@pytest.mark.parametrize(
    ("ratio", "advantage", "gain", "slope"),
    [  # at clip 0.2: what is gained, and its slope by the logarithm
        (1.0, 1.0, 1.0, 1.0),
        (1.1, 1.0, 1.1, 1.1),
        (1.5, 1.0, 1.2, 0.0),  # far enough up
        (0.5, 1.0, 0.5, 0.5),  # wrong way: come back
        (1.0, -1.0, -1.0, -1.0),
        (0.5, -1.0, -0.8, 0.0),  # far enough down
        (1.5, -1.0, -1.5, -1.5),  # wrong way: come back
        (3.0, 0.0, 0.0, 0.0),
    ],
)
def test_clipping(
    ratio: float, advantage: float, gain: float, slope: float
) -> None:
    log_ratio = torch.tensor([[math.log(ratio)]], requires_grad=True)
    got = clipped_gain(log_ratio, torch.tensor([advantage]))
    assert got.item() == pytest.approx(gain)
    (by,) = torch.autograd.grad(got.sum(), [log_ratio])
    assert by.item() == pytest.approx(slope, abs=1e-6)


def test_the_estimate_has_the_divergence_as_its_mean() -> None:
    torch.manual_seed(0)
    now = torch.randn(3, 9, dtype=torch.float64).log_softmax(-1)
    reference = torch.randn(3, 9, dtype=torch.float64).log_softmax(-1)
    mean = (now.exp() * divergence_estimate(now, reference)).sum(-1)
    exact = (now.exp() * (now - reference)).sum(-1)
    torch.testing.assert_close(mean, exact)
    judge = torch.distributions.kl_divergence(
        torch.distributions.Categorical(logits=now),
        torch.distributions.Categorical(logits=reference),
    )
    torch.testing.assert_close(mean, judge)


@given(st.floats(-20, 0), st.floats(-20, 0))
def test_the_estimate_is_never_negative(now: float, reference: float) -> None:
    pair = torch.tensor([now, reference], dtype=torch.float64)
    assert divergence_estimate(pair[0], pair[1]) >= 0
    assert divergence_estimate(pair[0], pair[0]) == 0


def test_weights_of_the_three_averages() -> None:
    said = torch.zeros(3, 6, dtype=torch.bool)
    for row, length in enumerate((2, 6, 4)):
        said[row, :length] = True
    by_sequence, by_token, constant = (
        token_weights(said, average, 8) for average in AVERAGES
    )
    torch.testing.assert_close(by_sequence.sum(dim=1), torch.full((3,), 1 / 3))
    assert by_sequence[0, 0] == 3 * by_sequence[1, 0]
    torch.testing.assert_close(by_token, said / 12)
    torch.testing.assert_close(constant, said / 24)


def test_weights_refuse_empty_replies_and_unknown_averages() -> None:
    said = torch.tensor([[True], [False]])
    with pytest.raises(ValueError, match="no token"):
        token_weights(said, "token", 4)
    with pytest.raises(ValueError, match="'median' is none of"):
        token_weights(said[:1], "median", 4)  # type: ignore[arg-type]


# --- the loss, against other computations ---


def literal(
    model: GPT,
    batch: Rollout,
    average: Average,
    clip: float,
    beta: float,
    longest: int,
) -> float:
    """The formula of the papers, with loops and numbers, and nothing else."""
    rows = []
    for i in range(len(batch.ids)):
        terms = []
        for t, target in enumerate(batch.targets[i].tolist()):
            if target == IGNORED:
                continue
            logits = model(batch.ids[i : i + 1, : t + 1])[0, -1]
            now = logits.log_softmax(-1)[target].item()
            ratio = math.exp(now - batch.old[i, t].item())
            a = batch.advantages[i].item()
            bounded = min(max(ratio, 1 - clip), 1 + clip)
            gain = min(ratio * a, bounded * a)
            away = batch.reference[i, t].item() - now
            terms.append(gain - beta * (math.exp(away) - away - 1))
        rows.append(terms)
    if average == "sequence":
        return -sum(sum(row) / len(row) for row in rows) / len(rows)
    total = -sum(map(sum, rows))
    if average == "token":
        return total / sum(map(len, rows))
    return total / (len(rows) * longest)


def library(
    now: Tensor, batch: Rollout, loss_type: str, clip: float, beta: float
) -> Tensor:
    """The loss as the documentation of trl's GRPOTrainer writes it."""
    mask = (batch.targets != IGNORED).float()
    g, longest = len(mask), 10
    ratio = torch.exp(now - batch.old)
    a = batch.advantages.unsqueeze(1)
    policy = torch.min(ratio * a, torch.clamp(ratio, 1 - clip, 1 + clip) * a)
    kl = (
        torch.exp(batch.reference)
        / torch.exp(now)
        - torch.log(torch.exp(batch.reference) / torch.exp(now))
        - 1
    )  # fmt: skip
    each = (policy - beta * kl) * mask
    if loss_type == "grpo":
        return -(each.sum(1) / mask.sum(1)).sum() / g
    if loss_type == "dapo":
        return -each.sum() / mask.sum()
    return -each.sum() / (longest * g)


@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize("beta", [0.0, 0.5])
def test_the_loss_is_the_formula_read_literally(
    average: Average, beta: float
) -> None:
    model, moved = small(), small(seed=3)
    batch = made(model, average, other=small(seed=5))
    got = reward_loss(moved, batch, clip=0.1, beta=beta)
    with torch.no_grad():
        wanted = literal(moved, batch, average, 0.1, beta, longest=10)
    assert got.item() == pytest.approx(wanted, abs=1e-5)
    names = dict(zip(AVERAGES, ("grpo", "dapo", "dr_grpo"), strict=True))
    now = token_log_probs(moved, batch.ids, batch.targets)
    judge = library(now, batch, names[average], 0.1, beta)
    torch.testing.assert_close(got, judge)
    torch.testing.assert_close(
        slopes(moved, got), slopes(moved, judge), atol=1e-6, rtol=1e-4
    )


def test_the_loss_of_who_has_drawn_is_zero_and_its_gradient_is_not() -> None:
    model = small()
    loss = reward_loss(model, made(model, "sequence"))
    assert abs(loss.item()) < 1e-6
    assert slopes(model, loss).norm() > 0.01
    by_token = reward_loss(model, made(model, "token"))
    assert abs(by_token.item()) > 0.01


@pytest.mark.parametrize("average", AVERAGES)
def test_equal_pay_has_no_gradient(average: Average) -> None:
    model = small()
    batch = made(model, average, rewards=torch.full((2, 4), 0.1))
    loss = reward_loss(small(seed=3), batch)
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert slopes(model, reward_loss(model, batch)).abs().max() < 1e-6


@pytest.mark.parametrize("average", AVERAGES)
def test_padding_and_parts_change_nothing(average: Average) -> None:
    model, moved = small(), small(seed=3)
    batch = made(model, average, other=small(seed=5))
    whole = reward_loss(moved, batch, beta=0.1)
    parts = [
        Rollout(*(x[rows] for x in batch))
        for rows in (slice(0, 1), slice(1, 6), slice(6, 8))
    ]
    added = torch.stack([reward_loss(moved, p, beta=0.1) for p in parts])
    torch.testing.assert_close(added.sum(), whole)
    gradient = slopes(moved, whole)
    torch.testing.assert_close(
        sum(slopes(moved, reward_loss(moved, p, beta=0.1)) for p in parts),
        gradient,
        atol=1e-6,
        rtol=1e-4,
    )
    pad = torch.nn.functional.pad
    wide = batch._replace(
        ids=pad(batch.ids, (0, 5), value=7),
        targets=pad(batch.targets, (0, 5), value=IGNORED),
        old=pad(batch.old, (0, 5)),
        reference=pad(batch.reference, (0, 5)),
    )
    said = wide.targets != IGNORED
    wide = wide._replace(weights=token_weights(said, average, 10))
    again = reward_loss(moved, wide, beta=0.1)
    torch.testing.assert_close(again, whole)
    torch.testing.assert_close(
        slopes(moved, again), gradient, atol=1e-6, rtol=1e-4
    )


@pytest.mark.parametrize("baseline", [0.0, 0.4])
def test_the_mean_gradient_is_that_of_the_mean_reward(baseline: float) -> None:
    """All replies of two tokens, by their probabilities: no chance at all."""
    model = small(5, 8).double()
    replies = list(product(range(5), repeat=2))
    torch.manual_seed(2)
    rewards = torch.rand(len(replies), dtype=torch.float64)
    ids, targets = pad_pairs([([1, 3], list(reply)) for reply in replies], 8)

    def chances() -> Tensor:
        return token_log_probs(model, ids, targets).double().sum(1).exp()

    wanted = slopes(model, -(chances() * rewards).sum())
    with torch.no_grad():
        old = token_log_probs(model, ids, targets)
        likely = old.double().sum(1).exp()
    assert likely.sum().item() == pytest.approx(1, abs=1e-5)
    said = targets != IGNORED
    batch = Rollout(
        ids,
        targets,
        likely[:, None] * said,  # each reply as often as it is drawn
        rewards,
        rewards - baseline,
        old,
        old,
    )
    got = slopes(model, reward_loss(model, batch))
    torch.testing.assert_close(got, wanted, atol=1e-6, rtol=1e-3)


# --- drawing ---


def test_replies_are_drawn_as_often_as_they_are_probable() -> None:
    model = small(6, 16)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(6)
        wanted = model(torch.tensor([[1, 4]]))[0, -1].softmax(-1)
    counts: Counter[int] = Counter()
    generator = draw()
    for _ in range(3):
        drawn = draw_tokens(model, [[1, 4]] * 500, 1, 5, generator)
        counts.update(written[0] for written in drawn)
    for token, p in enumerate(wanted.tolist()):
        off = math.sqrt(p * (1 - p) / 1500)
        assert abs(counts[token] / 1500 - p) < 4 * off + 1e-9
    assert wanted.max() < 0.9


def test_a_rollout_keeps_what_was_drawn(tokenizer: Tokenizer) -> None:
    model = small(tokenizer.vocab_size, 64)
    asked, tasks = [], make_tasks()[-3:]

    def pay(task: Task, reply: Reply) -> float:
        asked.append((task, reply))
        return float(len(asked) % 3)

    config = RewardConfig(replies=4, new_tokens=6, average="token")
    batch = collect(model, tokenizer, tasks, pay, config, draw())
    assert [task for task, _ in asked] == [t for t in tasks for _ in range(4)]
    assert batch.rewards.tolist() == [(i + 1) % 3 for i in range(12)]
    torch.testing.assert_close(
        batch.advantages,
        group_advantages(batch.rewards.view(3, 4)).flatten(),
    )
    stop_id = tokenizer.special_tokens[STOP]
    prompts = [encode_request(tokenizer, task.request) for task, _ in asked]
    drawn = draw_tokens(model, prompts, 6, stop_id, draw())
    for row, (prompt, written) in enumerate(zip(prompts, drawn, strict=True)):
        said = batch.targets[row]
        assert said[said != IGNORED].tolist() == written
        assert batch.ids[row, : len(prompt)].tolist() == prompt
        assert asked[row][1] == read_reply(tokenizer, written, stop_id)
    lengths = [len(written) for written in drawn]
    assert batch.weights.max().item() == pytest.approx(1 / sum(lengths))
    assert batch.reference is batch.old
    assert not batch.old.requires_grad
    assert torch.equal(
        batch.old, token_log_probs(model, batch.ids, batch.targets)
    )


def test_whole_numbers_are_paid_as_well(tokenizer: Tokenizer) -> None:
    model = small(tokenizer.vocab_size, 64)
    config = RewardConfig(replies=2, new_tokens=4)
    batch = collect(model, tokenizer, [SEVEN], worth, config, draw())
    assert batch.rewards.dtype == torch.float32


def test_a_reference_is_asked_of_each_batch(tokenizer: Tokenizer) -> None:
    model = small(tokenizer.vocab_size, 64)
    other = small(tokenizer.vocab_size, 64, seed=4)
    config = RewardConfig(prompts=2, replies=2, new_tokens=3, beta=0.1)
    tasks = make_tasks()[-2:]
    batch = next(
        rollouts(model, tokenizer, tasks, pay_right, config, draw(), other)
    )
    wanted = token_log_probs(other, batch.ids, batch.targets)
    torch.testing.assert_close(batch.reference, wanted)
    assert not batch.reference.requires_grad
    assert not torch.equal(batch.reference, batch.old)


def test_the_engine_says_the_same_of_its_tokens(tokenizer: Tokenizer) -> None:
    """What was drawn with a cache is scored without one: the same model."""
    model = small(tokenizer.vocab_size, 64)
    prompt = encode_request(tokenizer, SEVEN.request)
    engine = Engine(model)
    engine.add(prompt, Request(8, seed=3))
    written = []
    while engine.busy:
        written += engine.step()
    ids, targets = pad_pairs([(prompt, [new.token for new in written])], 64)
    logs = token_log_probs(model, ids, targets)[targets != IGNORED]
    for new, log in zip(written, logs.tolist(), strict=True):
        assert new.logprob == pytest.approx(log, abs=1e-4)


def test_what_does_not_fit_is_refused(tokenizer: Tokenizer) -> None:
    model = small(tokenizer.vocab_size, 16)
    with pytest.raises(ValueError, match="do not fit into 16"):
        draw_tokens(model, [[1] * 10, [2] * 5], 7, 0, draw())
    assert len(draw_tokens(model, [[1] * 10], 6, 0, draw())[0]) <= 6


def test_batches_come_again_for_each_update(tokenizer: Tokenizer) -> None:
    model, tasks = small(tokenizer.vocab_size, 64), make_tasks()[-4:]
    config = RewardConfig(prompts=3, replies=2, new_tokens=2, updates=2)
    source = rollouts(model, tokenizer, tasks, pay_right, config, draw())
    one, two, three = islice(source, 3)
    assert one is two
    assert len(one.ids) == len(three.ids) == 6
    assert not torch.equal(one.ids, three.ids)


def test_what_cannot_be_right_is_refused(tokenizer: Tokenizer) -> None:
    model = small(tokenizer.vocab_size, 64)
    priced = RewardConfig(beta=0.1)
    with pytest.raises(ValueError, match="needs a reference"):
        next(rollouts(model, tokenizer, [SEVEN], pay_right, priced, draw()))
    torch.manual_seed(0)
    loose = GPT(gpt2_config(tokenizer.vocab_size, 64, 1, 1, 8, dropout=0.1))
    with pytest.raises(ValueError, match="dropout"):
        next(
            rollouts(
                loose, tokenizer, [SEVEN], pay_right, RewardConfig(), draw()
            )
        )


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"prompts": 0}, "or more"),
        ({"new_tokens": 0}, "or more"),
        ({"updates": 0}, "or more"),
        ({"replies": 1}, "to compare"),
        ({"clip": 0.0}, "clip must"),
        ({"clip": math.nan}, "clip must"),
        ({"beta": -1.0}, "beta not"),
    ],
)
def test_settings_out_of_range_are_refused(
    settings: dict[str, float], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        RewardConfig(**settings)  # type: ignore[arg-type]


# --- learning ---


def letters(task: Task, reply: Reply) -> float:
    """Paid by the share of small letters."""
    return sum(c.islower() for c in reply.text) / max(1, len(reply.text))


@pytest.mark.always
@pytest.mark.parametrize("average", AVERAGES)
def test_a_model_does_more_of_what_is_paid(average: Average) -> None:
    tokenizer = with_marks(Tokenizer([], {END: 256}))
    model = small(tokenizer.vocab_size, 64)
    config = RewardConfig(
        prompts=2,
        replies=16,
        new_tokens=4,
        updates=2,
        average=average,
        scaled=average != "constant",
    )
    tuning = TuneConfig(24, 3e-2)
    earned = learn_from_reward(
        model, tokenizer, [SEVEN, SEVEN], letters, config, tuning, draw()
    )
    assert len(earned) == 24
    assert earned[0] == earned[1]  # two steps on the same replies
    assert earned[0] < 0.25
    assert earned[-1] > 0.6


def test_a_price_keeps_it_near_the_reference() -> None:
    tokenizer = with_marks(Tokenizer([], {END: 256}))
    ends = {}
    for beta in (0.0, 3.0):
        model = small(tokenizer.vocab_size, 64)
        reference = small(tokenizer.vocab_size, 64)
        config = RewardConfig(
            prompts=2, replies=16, new_tokens=4, updates=2, beta=beta
        )
        earned = learn_from_reward(
            model,
            tokenizer,
            [SEVEN, SEVEN],
            letters,
            config,
            TuneConfig(24, 3e-2),
            draw(),
            reference,
        )
        ends[beta] = earned[-1]
    assert ends[3.0] < ends[0.0] - 0.1


# --- how often it is right ---


def test_chances_are_those_of_the_answer(tokenizer: Tokenizer) -> None:
    model, tasks = small(tokenizer.vocab_size, 64), make_tasks()[-3:]
    chances = right_chances(model, tokenizer, tasks)
    for task, chance in zip(tasks, chances.tolist(), strict=True):
        text = encode_request(tokenizer, task.request)
        whole = encode_turn(tokenizer, Turn(task.request, task.answer))
        total = 0.0
        for token in whole[len(text) :]:
            logits = model(torch.tensor([text]))[0, -1]
            total += logits.log_softmax(-1)[token].item()
            text.append(token)
        assert math.log(chance) == pytest.approx(total, abs=1e-3)


def test_pass_at_k_by_hand() -> None:
    chances = torch.tensor([0.5, 0.0, 1.0])
    assert pass_at(chances, 1) == pytest.approx(0.5)
    assert pass_at(chances, 3) == pytest.approx((7 / 8 + 0 + 1) / 3)
