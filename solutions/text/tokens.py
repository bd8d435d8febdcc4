"""Solutions of the exercises on token files and batches."""

import numpy as np
import torch
from torch import Tensor

from scratchlm.text.tokens import BatchCursor


def random_windows(
    tokens: np.ndarray, context: int, batch_size: int, seed: int, step: int
) -> tuple[Tensor, Tensor]:
    """The batch of a step, windows drawn with replacement.

    Depends on seed and step alone, so there is no state to save.
    """
    random = np.random.default_rng([seed, step])
    starts = random.integers(len(tokens) - context, size=batch_size)
    rows = [tokens[s : s + context + 1] for s in starts]
    batch = torch.from_numpy(np.stack(rows).astype(np.int64))
    return batch[:, :-1], batch[:, 1:]


def share_seen(windows: int, drawn: int) -> float:
    """Expected share of windows seen, when `drawn` are drawn at random.

    >>> round(share_seen(1000, 1000), 3)
    0.632
    """
    return 1 - (1 - 1 / windows) ** drawn


class SplitCursor(BatchCursor):
    """The windows of one of several processes; together they see all.

    Process r of n takes windows r, r + n, … of the order that all of them
    compute alike. What does not divide evenly is left out.
    """

    def __init__(
        self,
        tokens: np.ndarray,
        context: int,
        batch_size: int,
        seed: int,
        rank: int,
        processes: int,
    ) -> None:
        """Stand before the first batch of process `rank`."""
        self.rank, self.processes = rank, processes
        super().__init__(tokens, context, batch_size, seed)

    def start_epoch(self, epoch: int, used: int = 0) -> None:
        """Shuffle as everybody does, then keep one's own share."""
        super().start_epoch(epoch)
        whole = len(self.starts) // self.processes * self.processes
        self.starts = self.starts[:whole][self.rank :: self.processes]
        self.used = used


def document_targets(x: Tensor, y: Tensor, end: int) -> Tensor:
    """Targets (B, T) in which the first token of a document is not asked.

    After the end token anything may follow; −100 leaves it out of the loss.
    """
    return torch.where(x == end, torch.tensor(-100), y)
