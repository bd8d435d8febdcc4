"""Solutions to the exercises on learning from a reward."""

from math import comb

from torch import Tensor

from scratchlm.tuning.instruct import Reply, Task
from scratchlm.tuning.reward import Rollout


def learnable(chance: float, replies: int) -> float:
    """How often a group has both a right reply and a wrong one.

    >>> learnable(0.5, 8)
    0.9921875
    """
    wrong: float = (1 - chance) ** replies
    return 1 - chance**replies - wrong


def pass_at_k(drawn: int, right: int, k: int) -> float:
    """pass@k from counts: Chen et al. (2021), without bias.

    The share of all choices of k among the replies drawn that hold a right
    one.

    >>> pass_at_k(drawn=4, right=1, k=2)
    0.5
    """
    if not 0 <= right <= drawn or not 1 <= k <= drawn:
        raise ValueError(f"{right} right of {drawn} drawn, {k} to choose")
    return 1 - comb(drawn - right, k) / comb(drawn, k)


def pay_mention(task: Task, reply: Reply) -> float:
    """1 if the answer occurs in the reply, as many a parser has it.

    >>> six = Task("sum", "What is four and two?", "Six.")
    >>> pay_mention(six, Reply("One. Two. Three. Four. Five. Six.", False))
    1.0
    """
    return float(task.answer in reply.text)


def leave_one_out(rewards: Tensor) -> Tensor:
    """Rewards (P, G) less the mean of the *other* replies to the prompt.

    >>> leave_one_out(Tensor([[1.0, 0.0, 0.0, 1.0]]))
    tensor([[ 0.6667, -0.6667, -0.6667,  0.6667]])
    """
    size = rewards.shape[1]
    others = (rewards.sum(dim=1, keepdim=True) - rewards) / (size - 1)
    return rewards - others


def worth_learning(batch: Rollout) -> Rollout:
    """The replies of a rollout whose advantage is not 0.

    The weights stay those of the whole batch: leave them so, or the average
    becomes that of fewer replies.
    """
    rows = batch.advantages != 0
    return Rollout(*(x[rows] for x in batch))


def divergence_slope(now: Tensor, reference: Tensor) -> Tensor:
    """The factor of the slope of ln π in that of the estimate: (B, T).

    now and reference are ln of probabilities. The slope of the divergence
    itself would be the difference of the two, now − reference.
    """
    return 1 - (reference - now).exp()
