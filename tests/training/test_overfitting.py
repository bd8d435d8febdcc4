"""Dropout keeps the mean, patience is the trainer's, reciting is exact."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from scratchlm.generation.cache import KVCache
from scratchlm.model.gpt import GPT, GPTConfig, gpt2_config, llama_config
from scratchlm.text.tokens import BatchCursor
from scratchlm.training import trainer as trainer_module
from scratchlm.training.checkpoint import load_model
from scratchlm.training.overfitting import (
    Curves,
    drop,
    recited,
    stop_early,
    watch,
)
from scratchlm.training.trainer import (
    TrainConfig,
    Trainer,
    read_log,
    validation_loss,
)

TOKENS = np.arange(300) * 7 % 11


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def small(dropout: float = 0.0) -> GPT:
    torch.manual_seed(3)
    return GPT(gpt2_config(11, 8, 1, 2, 16, dropout))


# --- dropout -----------------------------------------------------------------


@settings(deadline=None, max_examples=15)
@given(share=st.floats(0, 0.95), seed=st.integers(0, 99))
def test_what_is_left_is_scaled_and_the_rest_is_zero(
    share: float, seed: int
) -> None:
    x = torch.linspace(1, 2, 60).view(3, 4, 5)
    y = drop(x, share, seeded(seed))
    assert y.shape == x.shape
    kept = y != 0
    torch.testing.assert_close(y[kept], (x / (1 - share))[kept])


@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
def test_the_mean_and_the_share_are_kept(share: float) -> None:
    y = drop(torch.ones(200_000), share, seeded(0))
    error = (share / (1 - share) / 200_000) ** 0.5  # of the mean
    assert abs(y.mean().item() - 1) < 4 * error
    assert abs((y == 0).float().mean().item() - share) < 0.005


def test_the_librarys_dropout_has_the_same_numbers_and_shares() -> None:
    torch.manual_seed(0)
    theirs, ours = (
        F.dropout(torch.ones(200_000), 0.3),
        drop(torch.ones(200_000), 0.3),
    )
    torch.testing.assert_close(theirs.unique(), ours.unique())
    assert abs((theirs == 0).float().mean() - (ours == 0).float().mean()) < 0.01


def test_no_share_changes_nothing_and_a_seed_decides() -> None:
    x = torch.randn(50, generator=seeded(1))
    assert torch.equal(drop(x, 0.0), x)
    assert torch.equal(drop(x, 0.4, seeded(2)), drop(x, 0.4, seeded(2)))
    assert not torch.equal(drop(x, 0.4, seeded(2)), drop(x, 0.4, seeded(3)))


def test_the_gradient_flows_through_what_was_kept() -> None:
    x = torch.ones(20, requires_grad=True)
    y = drop(x, 0.5, seeded(0))
    y.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, y.detach())  # 0 or 2


@pytest.mark.parametrize("share", [1.0, 1.5, -0.1, float("nan")])
def test_what_is_no_share_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="share="):
        drop(torch.ones(2), share)


@pytest.mark.parametrize("reference", [False, True])
def test_the_model_drops_in_training_only(reference: bool) -> None:
    config = GPTConfig(11, 8, 2, 2, 16, dropout=0.3, fused=not reference)
    torch.manual_seed(0)
    model, ids = GPT(config), torch.arange(8)[None]
    a, b = model(ids), model(ids)
    assert not torch.equal(a, b)
    model.eval()
    plain = GPT(GPTConfig(11, 8, 2, 2, 16, fused=not reference)).eval()
    plain.load_state_dict(model.state_dict())
    assert torch.equal(model(ids), plain(ids))


@pytest.mark.parametrize("make", [gpt2_config, llama_config])
@torch.no_grad()
def test_with_a_cache_a_model_with_dropout_says_the_same(make: Any) -> None:
    torch.manual_seed(0)
    model = GPT(make(11, 8, 2, 2, 16, dropout=0.4)).eval()
    ids = torch.tensor([[3, 1, 4, 1, 5, 9]])
    cache = KVCache(model.config, 1, 8)
    parts = [model(part, cache) for part in ids.split([3, 1, 2], dim=1)]
    torch.testing.assert_close(torch.cat(parts, dim=1), model(ids))


def test_a_run_with_dropout_resumes_to_the_last_bit(tmp_path: Path) -> None:
    """The mask of step 7 does not care that step 6 was in another life."""

    def make(name: str) -> Trainer:
        config = TrainConfig(steps=9, warmup=2, checkpoint_every=4)
        cursor = BatchCursor(TOKENS, 8, 4, seed=1)
        return Trainer(small(0.3), cursor, TOKENS[:40], config, tmp_path / name)

    whole = make("whole")
    whole.fit()
    broken = make("broken")

    def crash(after: Any = broken.train_step) -> Any:
        if broken.step == 6:
            raise RuntimeError("the lights go out")
        return after()

    broken.train_step = crash  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="lights"):
        broken.fit()
    torch.rand(13)  # chance is somewhere else now
    cursor = BatchCursor(TOKENS, 8, 4, seed=1)
    again = Trainer.resume(tmp_path / "broken", cursor, TOKENS[:40])
    assert again.step == 4
    again.fit()
    for a, b in zip(
        whole.model.parameters(), again.model.parameters(), strict=True
    ):
        assert torch.equal(a, b)


# --- patience ----------------------------------------------------------------


def test_patience_by_hand() -> None:
    assert stop_early([3.0, 2.0, 2.5, 1.9, 2.4, 2.2, 1.0], 2) == (3, 5)
    assert stop_early([1.0], 1) == (0, 0)
    assert stop_early([1.0, 1.0, 0.5], 1) == (0, 1)  # equal is not better
    assert stop_early([3.0, 2.0, 1.0], 1) == (2, 2)


@settings(deadline=None, max_examples=12)
@given(
    losses=st.lists(
        st.sampled_from([1.0, 2.0, 3.0, 4.0]), min_size=1, max_size=7
    ),
    patience=st.integers(1, 3),
)
def test_the_trainer_stops_where_the_rule_does(
    losses: list[float], patience: int, tmp_path_factory: Any
) -> None:
    rest = iter(losses)
    config = TrainConfig(
        steps=len(losses), warmup=0, evaluate_every=1, patience=patience
    )
    cursor = BatchCursor(TOKENS, 8, 2, seed=1)
    folder = tmp_path_factory.mktemp("run") / "run"
    trainer = Trainer(small(), cursor, TOKENS[:40], config, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            trainer_module, "validation_loss", lambda *a, **k: next(rest)
        )
        best = trainer.fit()
    wanted, end = stop_early(losses, patience)
    assert best == losses[wanted]
    assert trainer.step == end + 1


# --- curves and reciting -----------------------------------------------------


def test_curves_know_their_best_and_their_gap() -> None:
    curves = Curves((1, 2, 3), (3.0, 2.0, 1.0), (3.0, 2.5, 2.75))
    assert curves.best == 1
    assert curves.gap == 1.75


def test_both_losses_are_measured_as_the_model_is_then(tmp_path: Path) -> None:
    config = TrainConfig(steps=6, warmup=0, evaluate_every=3, snapshots=(3,))
    model, other = small(0.2), TOKENS[::-1][:50]
    curves = watch(model, TOKENS, other, config, tmp_path / "run", 4)
    assert curves.steps == (3, 6)
    then = load_model(tmp_path / "run", snapshot=3)
    for got, text in ((curves.seen, TOKENS), (curves.unseen, other)):
        assert got[0] == pytest.approx(validation_loss(then, text, 8))
        assert got[1] == pytest.approx(validation_loss(model, text, 8))
    log = read_log(tmp_path / "run")
    assert [line["validation_loss"] for line in log[2::3]] == [*curves.unseen]


class Next(nn.Module):
    """Knows that each number is followed by the next, but not after 9."""

    def forward(self, ids: Tensor) -> Tensor:
        after = torch.where(ids == 9, 0, ids + 1)
        return F.one_hot(after, 20).float()


def test_what_is_recited_is_counted_by_whole_pieces() -> None:
    right = np.array([1, 2, 3, 4, 4, 5, 6, 7])
    assert recited(Next(), right, 2, 2) == 1.0
    wrong = np.array([1, 2, 3, 4, 4, 5, 6, 0])
    assert recited(Next(), wrong, 2, 2) == 0.5
    at_the_seam = np.array([7, 8, 9, 10, 1, 2, 3, 4, 99])  # 99 is left over
    assert recited(Next(), at_the_seam, 2, 2) == 0.5
    assert recited(Next(), at_the_seam, 3, 1) == 0.5


class AsGiven(nn.Module):
    """Says each token again; writes down how many rows it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[int] = []

    def forward(self, ids: Tensor) -> Tensor:
        self.rows.append(len(ids))
        if ids.max() > 3:
            raise ValueError("unknown token")
        return F.one_hot(ids, 4).float()


def test_a_long_text_is_read_in_batches() -> None:
    model, text = AsGiven().train(), np.repeat([0, 1, 2, 3], 1000)
    text[-5:] = 2
    assert recited(model, text, 2, 2) == pytest.approx(1 - 1 / 1000)
    assert sum(model.rows) == 1000
    assert max(model.rows) < 500


def test_a_failure_leaves_dropout_on() -> None:
    model = AsGiven().train()
    with pytest.raises(ValueError, match="unknown"):
        recited(model, np.array([1, 2, 3, 4]), 2, 2)
    assert model.training


def test_one_pass_tells_what_writing_would_show() -> None:
    """Against the loop that writes: each token after those it wrote."""
    model, rows = small(0.5).train(), TOKENS[:96].astype(np.int64)
    with torch.no_grad():
        model.eval()
        for begin in range(0, 96, 24):  # every third row is the model's own
            for place in range(begin + 4, begin + 8):
                read = torch.from_numpy(rows[begin:place])[None]
                rows[place] = int(model(read)[0, -1].argmax())
        good = 0
        for row in torch.from_numpy(rows).view(-1, 8):
            ids = row[:4]
            for _ in range(4):
                new = model(ids[None])[0, -1].argmax()
                ids = torch.cat([ids, new[None]])
            good += int(torch.equal(ids, row))
        model.train()
    assert 4 <= good < 12
    assert recited(model, rows, 4, 4) == pytest.approx(good / 12)
    assert model.training  # and dropout was off meanwhile
