"""Paid for being right: learning from a reward (GRPO).

Nobody shows the model an answer. It draws several replies to each request, a
program pays each of them, and those that were paid more than the mean of
their group become likelier. The gradient is that of Williams (1992), the
group's mean as a baseline that of Shao et al. (2024), the clipped ratio that
of Schulman et al. (2017), and the estimate of the divergence Schulman's
(2020).

The reward is exact, because the grammar of Toytown knows the answers.

Left out: a model of the value, a learned reward, rewards within a reply,
groups that are drawn again because they teach nothing, and drawing on one
machine while another learns.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from scratchlm.evaluation.probes import pad_pairs
from scratchlm.generation.batch import Engine, Request, write_all
from scratchlm.model.gpt import GPT, next_token_loss
from scratchlm.text.tokenizer import Tokenizer
from scratchlm.text.toytown import number_word
from scratchlm.training.memory import IGNORED
from scratchlm.tuning.instruct import (
    STOP,
    Reply,
    Task,
    TuneConfig,
    Turn,
    encode_request,
    encode_turn,
    fine_tune,
    is_right,
    read_reply,
    sentence,
)
from scratchlm.tuning.preference import answer_log_probs

Reward = Callable[[Task, Reply], float]
Average = Literal["sequence", "token", "constant"]

# --- What is paid ------------------------------------------------------------


def pay_right(task: Task, reply: Reply) -> float:
    """1 for the answer, all of it and ended; 0 for everything else.

    >>> six = Task("sum", "What is four and two?", "Six.")
    >>> pay_right(six, Reply("Six.", True)), pay_right(six, Reply("6", True))
    (1.0, 0.0)
    """
    return float(is_right(task, reply))


def pay_form(task: Task, reply: Reply) -> float:
    """1 for a number up to twenty, in words, that has ended; right or not.

    >>> six = Task("sum", "What is four and two?", "Six.")
    >>> pay_form(six, Reply("Nine.", True)), pay_form(six, Reply("Six", True))
    (1.0, 0.0)
    """
    numbers = {sentence(number_word(n)) for n in range(1, 21)}
    return float(reply.ended and reply.text in numbers)


# --- Better than the others of its group -------------------------------------


def group_advantages(rewards: Tensor, scaled: bool = True) -> Tensor:
    """Rewards (P, G) less the mean of their group, in standard deviations.

    If not `scaled`, they stay in the reward's own unit (Liu et al., 2025). A
    group in which all were paid the same has advantages of 0. Raises
    ValueError for a group of one, and for a reward that is not finite.

    >>> group_advantages(torch.tensor([[1.0, 0.0, 0.0, 1.0]]))
    tensor([[ 1., -1., -1.,  1.]])
    """
    if rewards.ndim != 2 or rewards.shape[1] < 2:
        raise ValueError(
            f"rewards {tuple(rewards.shape)} must be (prompts, replies), two "
            "replies or more to a prompt"
        )
    if not rewards.isfinite().all():
        raise ValueError("a reward is NaN or infinite: mend what pays it")
    gained = rewards - rewards.mean(dim=1, keepdim=True)
    same = (rewards == rewards[:, :1]).all(dim=1, keepdim=True)
    gained = gained.masked_fill(same, 0)  # the mean of equals is rounded
    spread = gained.square().mean(dim=1, keepdim=True).sqrt()
    return gained / spread.clamp_min(1e-4) if scaled else gained


# --- The loss, token by token ------------------------------------------------


def token_log_probs(model: GPT, ids: Tensor, targets: Tensor) -> Tensor:
    """ln of the probability of each target: (B, T); 0 where it is IGNORED."""
    nats = next_token_loss(model(ids), targets, reduction="none")
    return -nats.view(targets.shape)


def clipped_gain(
    log_ratio: Tensor, advantages: Tensor, clip: float = 0.2
) -> Tensor:
    """Ratio times advantage, as long as it has not gone far (PPO): (B, T).

    log_ratio (B, T) is ln of how much likelier each token has become,
    advantages (B,) are those of the replies. Beyond 1 ± `clip` nothing is
    gained by going on, and so there is no gradient; coming back has one.
    """
    ratio = log_ratio.exp()
    gain = advantages[:, None]
    return torch.minimum(ratio * gain, ratio.clamp(1 - clip, 1 + clip) * gain)


def divergence_estimate(now: Tensor, reference: Tensor) -> Tensor:
    """Schulman's k3: how far each token has strayed from a reference.

    Both are ln of probabilities, (B, T). Never negative; its mean over what
    the model itself draws is the divergence of the model from the reference.

    >>> divergence_estimate(torch.zeros(2), torch.tensor([0.0, -1.0]))
    tensor([0.0000, 0.3679])
    """
    log_ratio = reference - now
    return log_ratio.expm1() - log_ratio


def token_weights(said: Tensor, average: Average, longest: int) -> Tensor:
    """What each token counts for in the loss: (B, T) → (B, T).

    said is true where a reply has a token. By `sequence` each reply counts
    the same (GRPO), by `token` each token of the batch (DAPO), and by the
    `constant` B · `longest` a token counts the same in every batch (Dr. GRPO).

    >>> said = torch.tensor([[True, False], [True, True]])
    >>> token_weights(said, "sequence", 4)
    tensor([[0.5000, 0.0000],
            [0.2500, 0.2500]])
    """
    rows, lengths = len(said), said.sum(dim=1, keepdim=True)  # (B, 1)
    if lengths.min() < 1:
        raise ValueError("a reply has no token at all, not even its end")
    divisors = {
        "sequence": rows * lengths,
        "token": lengths.sum(),
        "constant": torch.tensor(rows * longest),
    }
    if average not in divisors:
        raise ValueError(f"average {average!r} is none of {list(divisors)}")
    return said / divisors[average]


class Rollout(NamedTuple):
    """Replies as they were drawn, and what they were paid.

    Any of its rows make a part of the batch, and the losses of the parts add
    up to that of the whole, since the weights are those of the whole.
    """

    ids: Tensor  # (B, T)
    targets: Tensor  # (B, T), IGNORED where nothing was drawn
    weights: Tensor  # (B, T), what each token counts for
    rewards: Tensor  # (B,)
    advantages: Tensor  # (B,)
    old: Tensor  # (B, T), ln of probabilities when they were drawn
    reference: Tensor  # (B, T), the same of the reference model


def reward_loss(
    model: GPT, batch: Rollout, clip: float = 0.2, beta: float = 0.0
) -> Tensor:
    """Minus the weighted gain of all tokens, and `beta` times the straying.

    Its value says little: it is near 0 as long as the model is the one that
    drew the replies. Its gradient is what counts.
    """
    now = token_log_probs(model, batch.ids, batch.targets)  # (B, T)
    gain = clipped_gain(now - batch.old, batch.advantages, clip)
    if beta:
        gain = gain - beta * divergence_estimate(now, batch.reference)
    return -(batch.weights * gain).sum()


# --- Draw, pay, learn, and again ---------------------------------------------


@dataclass(frozen=True)
class RewardConfig:
    """How replies are drawn, averaged and held back."""

    prompts: int = 8  # requests at a time
    replies: int = 8  # to each of them
    new_tokens: int = 12  # the longest reply
    updates: int = 1  # steps on the same replies
    average: Average = "sequence"
    scaled: bool = True  # advantages in standard deviations
    clip: float = 0.2
    beta: float = 0.0  # the price of straying from the reference

    def __post_init__(self) -> None:
        """Refuse what cannot teach anything."""
        if min(self.prompts, self.new_tokens, self.updates) < 1:
            raise ValueError("take one prompt, one token, one update or more")
        if self.replies < 2:
            raise ValueError("a group needs two replies or more, to compare")
        if not self.clip > 0 or not self.beta >= 0:
            raise ValueError("clip must be above 0, and beta not below")


def draw_tokens(
    model: GPT,
    prompts: Sequence[Sequence[int]],
    new_tokens: int,
    stop_id: int,
    generator: torch.Generator,
) -> list[list[int]]:
    """What the model writes after each prompt, the end mark included.

    At temperature 1 and from all tokens, since the loss asks how probable
    they were. The engine is a new one each time: the keys that an earlier
    engine kept belong to earlier weights.
    """
    seeds = torch.randint(2**31, (len(prompts),), generator=generator)
    longest = max(len(prompt) for prompt in prompts) + new_tokens
    if longest > model.config.context:
        raise ValueError(
            f"{longest} tokens do not fit into {model.config.context}"
        )
    blocks = len(prompts) * (-(-longest // 8) + 1)
    engine = Engine(model, blocks, block_size=8, rows=len(prompts))
    requests = [
        Request(new_tokens, seed=seed, stop_id=stop_id)
        for seed in seeds.tolist()
    ]
    return write_all(engine, prompts, requests)


def make_rollout(
    model: GPT,
    pairs: Sequence[tuple[list[int], list[int]]],
    rewards: Tensor,
    config: RewardConfig,
) -> Rollout:
    """Prompts with their replies, and rewards (P, G), as tensors.

    What the model now thinks of the replies is kept as numbers.
    """
    ids, targets = pad_pairs(pairs, model.config.context)
    said = targets != IGNORED
    with torch.no_grad():
        old = token_log_probs(model, ids, targets)
    return Rollout(
        ids,
        targets,
        token_weights(said, config.average, config.new_tokens),
        rewards.flatten(),
        group_advantages(rewards, config.scaled).flatten(),
        old,
        reference=old,
    )


def collect(
    model: GPT,
    tokenizer: Tokenizer,
    tasks: Sequence[Task],
    pay: Reward,
    config: RewardConfig,
    generator: torch.Generator,
) -> Rollout:
    """Draw a group of replies to each task, and pay them.

    The tokens are kept as they were drawn. A text that is encoded again may
    become other tokens, which nobody drew.
    """
    stop_id = tokenizer.special_tokens[STOP]
    asked = [task for task in tasks for _ in range(config.replies)]
    prompts = [encode_request(tokenizer, task.request) for task in asked]
    drawn = draw_tokens(model, prompts, config.new_tokens, stop_id, generator)
    paid = [
        pay(task, read_reply(tokenizer, written, stop_id))
        for task, written in zip(asked, drawn, strict=True)
    ]
    rewards = torch.tensor(paid, dtype=torch.float32)
    rewards = rewards.view(len(tasks), config.replies)
    pairs = list(zip(prompts, drawn, strict=True))
    return make_rollout(model, pairs, rewards, config)


def rollouts(
    model: GPT,
    tokenizer: Tokenizer,
    tasks: Sequence[Task],
    pay: Reward,
    config: RewardConfig,
    generator: torch.Generator,
    reference: GPT | None = None,
) -> Iterator[Rollout]:
    """Endless batches, each drawn by the model as it then is."""
    if model.config.dropout:
        raise ValueError("with dropout, no two passes agree: switch it off")
    if config.beta and reference is None:
        raise ValueError(f"beta={config.beta} needs a reference to stay near")
    while True:
        order = torch.randperm(len(tasks), generator=generator)
        some = [tasks[i] for i in order[: config.prompts].tolist()]
        batch = collect(model, tokenizer, some, pay, config, generator)
        if reference is not None:
            with torch.no_grad():
                first = token_log_probs(reference, batch.ids, batch.targets)
            batch = batch._replace(reference=first)
        for _ in range(config.updates):
            yield batch


def learn_from_reward(
    model: GPT,
    tokenizer: Tokenizer,
    tasks: Sequence[Task],
    pay: Reward,
    config: RewardConfig,
    tuning: TuneConfig,
    generator: torch.Generator,
    reference: GPT | None = None,
) -> list[float]:
    """Train on what is paid, in place; returns the mean reward of each step."""
    earned = []

    def loss(model: GPT, batch: Rollout) -> Tensor:
        earned.append(batch.rewards.mean().item())
        return reward_loss(model, batch, config.clip, config.beta)

    batches = rollouts(
        model, tokenizer, tasks, pay, config, generator, reference
    )
    fine_tune(model, batches, tuning, loss=loss)
    return earned


# --- How often it is right ---------------------------------------------------


@torch.no_grad()
def right_chances(
    model: GPT, tokenizer: Tokenizer, tasks: Sequence[Task]
) -> Tensor:
    """The probability of each task's answer, its end included: (N,).

    Of all ways to cut the answer into tokens, only the tokenizer's own is
    counted; the others are hardly ever drawn.
    """
    pairs = []
    for task in tasks:
        prompt = encode_request(tokenizer, task.request)
        whole = encode_turn(tokenizer, Turn(task.request, task.answer))
        pairs.append((prompt, whole[len(prompt) :]))
    ids, targets = pad_pairs(pairs, model.config.context)
    return answer_log_probs(model, ids, targets).exp()


def pass_at(chances: Tensor, k: int) -> float:
    """How often at least one of k replies is right, averaged over tasks.

    >>> pass_at(torch.tensor([0.5, 0.0]), k=2)
    0.375
    """
    return (1 - (1 - chances) ** k).mean().item()
