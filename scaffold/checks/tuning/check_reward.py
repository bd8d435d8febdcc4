"""What learning from a reward must do."""

import math
from typing import Any

import torch
from torch import Tensor

from scratchlm.model.gpt import GPT, gpt2_config
from scratchlm.text.tokenizer import END, Tokenizer
from scratchlm.training.memory import IGNORED
from scratchlm.tuning import reward
from scratchlm.tuning.instruct import (
    STOP,
    Reply,
    Task,
    TuneConfig,
    encode_request,
    with_marks,
)

from ..expect import close, equal, raises, true
from ..inputs import settled

SEVEN = Task("sum", "What is five and two?", "Seven.")
LENGTHS = (2, 6, 4, 3)


def mixer(step: float = 1.7) -> GPT:
    """A model in which every token depends on all before it."""
    return settled(GPT(gpt2_config(12, 16, 2, 2, 8)).eval(), 0.5, step)


def said_of(lengths: tuple[int, ...]) -> Tensor:
    """True where replies of these lengths have their tokens."""
    return torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]


def four_replies(average: Any = "sequence") -> Any:
    """Replies of different lengths that `mixer` might have drawn."""
    said = said_of(LENGTHS)
    spread = torch.arange(said.numel()).view_as(said)
    ids = (5 * spread + 3) % 12
    targets = torch.where(said, (7 * spread + 1) % 12, IGNORED)
    rewards = torch.tensor([[1.0, 0.0, 0.0, 1.0]])
    with torch.no_grad():
        old = reward.token_log_probs(mixer(), ids, targets)
        first = reward.token_log_probs(mixer(2.3), ids, targets)
    return reward.Rollout(
        ids,
        targets,
        reward.token_weights(said, average, 8),
        rewards.flatten(),
        reward.group_advantages(rewards).flatten(),
        old,
        first,
    )


def check_pay() -> None:
    """The answer is paid, and only the whole of it, and ended."""
    for text, ended, paid in (
        ("Seven.", True, 1.0),
        ("Six.", True, 0.0),
        ("Seven.", False, 0.0),
        ("Seven. Six.", True, 0.0),
    ):
        equal(
            reward.pay_right(SEVEN, Reply(text, ended)),
            paid,
            f"the pay for {text!r}{'' if ended else ', without an end'}",
        )


def check_advantages() -> None:
    """Rewards less the mean of their own group, in its deviations."""
    rewards = torch.tensor([[1.0, 0.0, 0.0, 1.0], [3.0, 0.0, 0.0, 1.0]])
    close(
        reward.group_advantages(rewards, scaled=False),
        [[0.5, -0.5, -0.5, 0.5], [2.0, -1.0, -1.0, 0.0]],
        "advantages in the reward's own unit",
        hint="the mean is that of the group, of each row by itself",
    )
    close(
        reward.group_advantages(rewards)[0],
        [1.0, -1.0, -1.0, 1.0],
        "advantages in standard deviations",
        hint="divide by the root of the mean square of the differences",
    )


def check_equal_pay() -> None:
    """A group that was paid the same has advantages of 0, and no NaN."""
    close(
        reward.group_advantages(torch.ones(2, 3)),
        torch.zeros(2, 3),
        "advantages of six replies that are all right",
        hint="0 / 0 is NaN: keep the deviation above a small number",
    )


def check_refusals() -> None:
    """A reward that is NaN stops the training, before it spoils a weight."""
    raises(
        ValueError,
        lambda: reward.group_advantages(torch.tensor([[1.0, math.nan]])),
        "a NaN among the rewards",
    )


def check_weights() -> None:
    """Three averages: each reply, each token, or a constant."""
    said = said_of(LENGTHS)
    total = sum(LENGTHS)
    cases: list[Any] = [
        ("sequence", [1 / (4 * n) for n in LENGTHS], 1.0),
        ("token", [1 / total] * 4, 1.0),
        ("constant", [1 / 32] * 4, total / 32),
    ]
    for average, first, everything in cases:
        weights = reward.token_weights(said, average, 8)
        close(weights[:, 0], first, f"first weights, average by {average}")
        close(weights.sum(), everything, f"sum of weights by {average}")
        true(not weights[~said].any(), "what was not said counts nothing")


def check_clipping() -> None:
    """No gain, and no gradient, for going on where it is far already."""
    for ratio, advantage, gain, slope in (
        (1.0, 2.0, 2.0, 2.0),
        (1.5, 1.0, 1.2, 0.0),
        (0.5, -1.0, -0.8, 0.0),
        (1.5, -1.0, -1.5, -1.5),
        (0.5, 1.0, 0.5, 0.5),
    ):
        log_ratio = torch.tensor([[math.log(ratio)]], requires_grad=True)
        got = reward.clipped_gain(log_ratio, torch.tensor([advantage]), 0.2)
        case = f"at ratio {ratio} and advantage {advantage}"
        close(got, [[gain]], f"the gain {case}")
        (by,) = torch.autograd.grad(got.sum(), [log_ratio])
        close(
            by,
            [[slope]],
            f"its slope {case}",
            hint="the smaller of the two products, clipped and not",
        )


def check_divergence() -> None:
    """The mean of the estimate over the model's own draws is exact."""
    now = torch.tensor([0.7, 0.2, 0.1]).log()
    reference = torch.tensor([0.3, 0.3, 0.4]).log()
    found = reward.divergence_estimate(now, reference)
    true(bool((found >= 0).all()), "no estimate is negative")
    close(
        (now.exp() * found).sum(),
        (now.exp() * (now - reference)).sum(),
        "the mean of the estimates",
        hint="ratio − 1 − ln ratio, with the reference above and the model "
        "below",
    )


def check_first_step() -> None:
    """Who has drawn the replies has a loss of 0, and a gradient."""
    model = mixer()
    loss = reward.reward_loss(model, four_replies())
    close(loss, 0.0, "the loss, each reply counting the same", tol=1e-5)
    slopes = torch.autograd.grad(loss, list(model.parameters()))
    true(
        any(slope.abs().max() > 1e-3 for slope in slopes),
        "its gradient is not 0",
        hint="the ratio of the model to itself is 1, and has a slope: do not "
        "detach it",
    )


def check_loss() -> None:
    """All of it by hand, for a model that has moved."""
    moved, batch = mixer(1.9), four_replies("token")
    with torch.no_grad():
        now = reward.token_log_probs(moved, batch.ids, batch.targets)
        wanted = 0.0
        for row, length in enumerate(LENGTHS):
            for t in range(length):
                ratio = math.exp(now[row, t] - batch.old[row, t])
                a = batch.advantages[row].item()
                gain = min(ratio * a, min(max(ratio, 0.8), 1.2) * a)
                away = (batch.reference[row, t] - now[row, t]).item()
                gain -= 0.3 * (math.exp(away) - 1 - away)
                wanted -= gain / sum(LENGTHS)
        close(
            reward.reward_loss(moved, batch, clip=0.2, beta=0.3),
            wanted,
            "the loss by token, clipped, with a price of 0.3",
            tol=1e-4,
        )


def check_parts() -> None:
    """The losses of the parts of a batch add up to that of the whole."""
    moved = mixer(1.9)
    for average in ("sequence", "token", "constant"):
        batch = four_replies(average)
        with torch.no_grad():
            whole = reward.reward_loss(moved, batch)
            parts = [
                reward.reward_loss(
                    moved, reward.Rollout(*(x[i] for x in batch))
                )
                for i in ([0], [1, 2, 3])
            ]
        close(
            sum(parts),
            whole,
            f"the sum of two parts, average by {average}",
            tol=1e-5,
            hint="weights are made once, for the whole batch; the loss of a "
            "part is a sum, and no mean",
        )


def check_rollout() -> None:
    """Tokens are kept as drawn, and groups stay together."""
    tokenizer = with_marks(Tokenizer([], {END: 256}))
    model = settled(
        GPT(gpt2_config(tokenizer.vocab_size, 64, 1, 2, 8)).eval(), 0.5
    )
    tasks = [SEVEN, SEVEN._replace(request="What is six and two?")]
    paid: list[float] = []

    def pay(task: Task, reply: Reply) -> float:
        paid.append(float(task == SEVEN))
        return paid[-1]

    config = reward.RewardConfig(replies=3, new_tokens=5)
    chance = torch.Generator().manual_seed(0)
    batch = reward.collect(model, tokenizer, tasks, pay, config, chance)
    equal(batch.rewards.tolist(), paid, "rewards in the order of the replies")
    close(
        batch.advantages,
        [0.0] * 6,
        "advantages where each task has its own pay, the same for all replies",
        hint="replies to one task stand next to each other",
    )
    prompts = [
        encode_request(tokenizer, t.request) for t in tasks for _ in "123"
    ]
    stop = tokenizer.special_tokens[STOP]
    chance = torch.Generator().manual_seed(0)
    drawn = reward.draw_tokens(model, prompts, 5, stop, chance)
    equal(
        [row[row != IGNORED].tolist() for row in batch.targets],
        drawn,
        "the targets of each reply",
        hint="the tokens that were drawn, the end mark among them",
    )
    close(
        batch.old,
        reward.token_log_probs(model, batch.ids, batch.targets),
        "what the model said of its tokens when it drew them",
    )
    true(not batch.old.requires_grad, "that is numbers, without a gradient")


def check_passing() -> None:
    """pass@k is the chance that not all k are wrong, task by task."""
    close(
        reward.pass_at(torch.tensor([0.5, 0.0, 1.0]), 3),
        (7 / 8 + 0 + 1) / 3,
        "pass@3 of tasks with the chances 0.5, 0 and 1",
        hint="first the power of each task, then the mean",
    )


def check_learning_from_pay() -> None:
    """Two tasks, two replies each: as many rewards as steps, each a mean."""
    tokenizer = with_marks(Tokenizer([], {END: 256}))
    config = gpt2_config(tokenizer.vocab_size, 48, 1, 1, 8)
    other = Task("fact", "Who?", "Ada.")
    settings = reward.RewardConfig(
        prompts=2, replies=2, new_tokens=3, updates=2, beta=0.5
    )
    model, before = (
        settled(GPT(config).eval(), 0.5),
        settled(GPT(config).eval(), 0.5),
    )
    paid: list[Task] = []

    def pay(task: Task, reply: Reply) -> float:
        paid.append(task)
        return float(len(paid) % 2)

    earned = reward.learn_from_reward(
        model,
        tokenizer,
        [SEVEN, other],
        pay,
        settings,
        TuneConfig(steps=4, warmup=1),
        torch.Generator().manual_seed(0),
        before,
    )
    close(earned, [0.5] * 4, "mean rewards of four steps")
    equal(len(paid), 8, "replies that were paid, for two steps each")
    asked = [paid.count(SEVEN), paid.count(other)]
    equal(asked, [4, 4], "replies to each of two tasks")
    moved = [
        not torch.equal(a, b)
        for a, b in zip(model.parameters(), before.parameters(), strict=True)
    ]
    true(any(moved), "the model has learned")
    true(not model.training, "and is in evaluation mode")
    for wrong, message in (
        ({"beta": 0.5}, "a price without a reference"),
        ({"beta": 0.0}, "a model with dropout"),
    ):
        drops = GPT(gpt2_config(tokenizer.vocab_size, 48, 1, 1, 8, 0.1))
        asked_for = reward.RewardConfig(**wrong)  # type: ignore[arg-type]
        chosen = drops if wrong["beta"] == 0 else model
        raises(
            ValueError,
            lambda m=chosen, c=asked_for: next(  # type: ignore
                reward.rollouts(
                    m, tokenizer, [SEVEN], pay, c, torch.Generator()
                )
            ),
            message,
        )


def check_reference_of_a_rollout() -> None:
    """What the reference says of the replies is kept beside them."""
    tokenizer = with_marks(Tokenizer([], {END: 256}))
    config = gpt2_config(tokenizer.vocab_size, 48, 1, 1, 8)
    model, first = (
        settled(GPT(config).eval(), 0.5),
        settled(GPT(config).eval(), 0.5, 2.3),
    )
    settings = reward.RewardConfig(prompts=1, replies=2, new_tokens=3)
    batch = next(
        reward.rollouts(
            model,
            tokenizer,
            [SEVEN],
            lambda task, reply: 1.0,
            settings,
            torch.Generator().manual_seed(0),
            first,
        )
    )
    for what, said, by in (
        ("the reference", batch.reference, first),
        ("the model", batch.old, model),
    ):
        wanted = reward.token_log_probs(by, batch.ids, batch.targets)
        close(said, wanted, f"what {what} says of the replies", tol=1e-4)
        true(not said.requires_grad, "it is numbers, without gradients")


def check_chances_of_right_answers() -> None:
    """The probability of the answer, with its end, token by token."""
    tokenizer = with_marks(Tokenizer([], {END: 256}))
    model = settled(
        GPT(gpt2_config(tokenizer.vocab_size, 48, 1, 1, 8)).eval(), 0.5
    )
    task = Task("fact", "Who?", "A.")
    text = encode_request(tokenizer, task.request)
    total = 0.0
    for token in [*tokenizer.encode(" A."), tokenizer.special_tokens[STOP]]:
        with torch.no_grad():
            logs = model(torch.tensor([text]))[0, -1].log_softmax(-1)
        total += float(logs[token])
        text = [*text, token]
    got = reward.right_chances(model, tokenizer, [task, SEVEN])
    equal(tuple(got.shape), (2,), "the shape of two chances")
    close(got[0].log(), total, "ln of the chance of the first", tol=1e-3)
    true(not got.requires_grad, "chances have no gradients")


def check_pay_for_the_form() -> None:
    """A number in words, with its end, is paid: right or wrong."""
    for text, ended, paid in (
        ("Seven.", True, 1.0),
        ("One.", True, 1.0),
        ("Twenty.", True, 1.0),
        ("Nine.", False, 0.0),
        ("Nine", True, 0.0),
        ("Twenty-one.", True, 0.0),
        ("Ada.", True, 0.0),
        ("", True, 0.0),
    ):
        equal(
            reward.pay_form(SEVEN, Reply(text, ended)),
            paid,
            f"the pay for the form of {text!r}, ended={ended}",
        )


def check_logarithms_of_targets() -> None:
    """ln P of each target, by the model's own scores; 0 where none is."""
    model, ids = mixer(), torch.tensor([[3, 1, 4, 1]])
    targets = torch.tensor([[1, IGNORED, 1, 5]])
    with torch.no_grad():
        got = reward.token_log_probs(model, ids, targets)
        logs = model(ids)[0].log_softmax(-1)
    wanted = [[logs[0, 1], 0.0, logs[2, 1], logs[3, 5]]]
    close(got, torch.tensor(wanted), "ln P of three targets", tol=1e-4)


BUGS = {
    "the baseline is that of the whole batch": (
        "rewards.mean(dim=1, keepdim=True)",
        "rewards.mean()",
    ),
    "equal pay divides by zero": (
        "return gained / spread.clamp_min(1e-4) if scaled else gained",
        "return gained / spread if scaled else gained",
    ),
    "NaN is let through": (
        "if not rewards.isfinite().all():",
        "if rewards.isinf().any():",
    ),
    "the deviation is a variance": (
        "spread = gained.square().mean(dim=1, keepdim=True).sqrt()",
        "spread = gained.square().mean(dim=1, keepdim=True)",
    ),
    "an answer without an end is paid": (
        "return float(is_right(task, reply))",
        "return float(is_right(task, Reply(reply.text, True)))",
    ),
    "the ratio is detached": (
        "ratio = log_ratio.exp()",
        "ratio = log_ratio.detach().exp()",
    ),
    "clipped, whichever is larger": (
        "return torch.minimum(ratio * gain, ",
        "return torch.maximum(ratio * gain, ",
    ),
    "clipped on both sides": (
        "return torch.minimum(ratio * gain, ratio.clamp(1 - clip, 1 + clip)"
        " * gain)",
        "return ratio.clamp(1 - clip, 1 + clip) * gain",
    ),
    "the divergence has the wrong sign": (
        "log_ratio = reference - now",
        "log_ratio = now - reference",
    ),
    "the divergence is the plain difference": (
        "return log_ratio.expm1() - log_ratio",
        "return -log_ratio",
    ),
    "padding counts in the mean": (
        '"sequence": rows * lengths,',
        '"sequence": torch.tensor(said.numel()),',
    ),
    "each reply by the longest": (
        '"token": lengths.sum(),',
        '"token": rows * lengths.max(),',
    ),
    "the reward is lowered": (
        "return -(batch.weights * gain).sum()",
        "return (batch.weights * gain).sum()",
    ),
    "a mean for each part": (
        "return -(batch.weights * gain).sum()",
        "return -(batch.weights * gain).sum() / batch.weights.sum()",
    ),
    "straying is rewarded": (
        "gain = gain - beta * divergence_estimate(now, batch.reference)",
        "gain = gain + beta * divergence_estimate(now, batch.reference)",
    ),
    "groups are mixed up": (
        "asked = [task for task in tasks for _ in range(config.replies)]",
        "asked = [task for _ in range(config.replies) for task in tasks]",
    ),
    "the end mark is not learned": (
        "pairs = list(zip(prompts, drawn, strict=True))",
        "pairs = [(p, [*d[:-1], 0]) for p, d in zip(prompts, drawn)]",
    ),
    "the mean before the power": (
        "return (1 - (1 - chances) ** k).mean().item()",
        "return (1 - (1 - chances.mean()) ** k).item()",
    ),
    "each batch is learned from once": (
        "for _ in range(config.updates):",
        "for _ in range(1):",
    ),
    "the reference is the model": (
        "first = token_log_probs(reference, batch.ids, batch.targets)",
        "first = token_log_probs(model, batch.ids, batch.targets)",
    ),
    "all that is paid is added up": (
        "earned.append(batch.rewards.mean().item())",
        "earned.append(batch.rewards.sum().item())",
    ),
    "a right answer need not end": (
        "pairs.append((prompt, whole[len(prompt) :]))",
        "pairs.append((prompt, whole[len(prompt) : -1]))",
    ),
    "a model with dropout is taken": (
        "    if model.config.dropout:\n",
        "    if False:\n",
    ),
}
