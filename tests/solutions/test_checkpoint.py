"""The solutions about checkpoints."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from solutions.training.checkpoint import (
    average_weights,
    best_interval,
    keep_copy,
)


def test_average_weights(tmp_path: Path) -> None:
    paths = []
    for number, value in enumerate([1.0, 2.0, 6.0]):
        paths.append(tmp_path / f"{number}.safetensors")
        save_file({"w": torch.full((2, 2), value)}, paths[-1])
    means = average_weights(paths)
    assert torch.equal(means["w"], torch.full((2, 2), 3.0))


def test_keep_copy(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    for step in (10, 20, 30):
        (folder / "state.json").write_text(str(step))
        keep_copy(folder, step, count=2)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["checkpoint", "checkpoint-000020", "checkpoint-000030"]
    copied = tmp_path / "checkpoint-000020" / "state.json"
    assert copied.read_text() == "20"
    keep_copy(folder, 30, count=2)  # once more, after a crash
    assert sorted(path.name for path in tmp_path.iterdir()) == names


def test_what_a_crash_has_left_is_cleared_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (folder / "new").write_text("20")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", lambda *_: 1 / 0)  # and here it dies
        (folder / "old").write_text("10")
        with pytest.raises(ZeroDivisionError):
            keep_copy(folder, 10, count=2)
    (folder / "old").unlink()
    keep_copy(folder, 20, count=2)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["checkpoint", "checkpoint-000020"]
    kept = [path.name for path in (tmp_path / names[1]).iterdir()]
    assert kept == ["new"]


def test_best_interval() -> None:
    """Whatever else one tries costs more: saving, and half of it lost."""

    def cost(interval: float) -> float:
        return 9 / interval + interval / 2 / 20_000

    best = best_interval(9, 20_000)
    assert cost(best) == pytest.approx(0.03)
    assert cost(best) < min(cost(0.9 * best), cost(1.1 * best))
