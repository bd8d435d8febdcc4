"""What `doctor` finds, and what it advises."""

import platform
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch

from scratchlm.cli import doctor
from scratchlm.cli.app import main


def test_it_says_what_is_there(
    monkeypatch: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "bfloat16_speed", lambda: 2.5)
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert f"python    {platform.python_version()} in" in text
    for name in ("torch", "devices", "cores", "memory", "disk", "output"):
        assert f"\n{name} " in text
    assert "bfloat16  2.5 times as fast" in text
    assert "mirror    none" in text


def test_a_card_is_held_against_the_processor(
    monkeypatch: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "devices", lambda: ["cpu", "cpu:0"])
    found = doctor.findings(Path("runs"), 1.0)
    assert found["cpu:0"].startswith("as on the processor: ")
    gaps = {"loss": 0.0, "head.weight": 0.5}
    monkeypatch.setattr(doctor, "disagreement", lambda *_: gaps)
    assert doctor.agreement("cpu").startswith("WRONG: head.weight differs")
    monkeypatch.setattr(doctor, "bfloat16_speed", lambda: 2.5)
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert "cpu:0 gives wrong numbers" in text
    assert "nothing is missing" not in text


def test_a_container_s_limit_is_free_at_most(monkeypatch: Any) -> None:
    monkeypatch.setattr(doctor, "machine_memory", lambda _: 10**9)
    assert doctor.free_memory() <= 10**9
    advised = " ".join(doctor.advice(Path("runs"), 1.5))
    assert "less than 2 GB" in advised


def test_bfloat16_is_measured(monkeypatch: Any) -> None:
    rates = {torch.bfloat16: 6e9, torch.float32: 3e9}
    monkeypatch.setattr(doctor, "matmul_rate", lambda *x: rates[x[3]])
    assert doctor.bfloat16_speed() == 2


def test_it_says_what_to_do(monkeypatch: Any, tmp_path: Path) -> None:
    memory = SimpleNamespace(available=1e9, total=4e9)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    monkeypatch.setenv("SCRATCHLM_MIRROR", str(tmp_path / "gone"))
    narrow = SimpleNamespace(encoding="cp1252")
    monkeypatch.setattr(doctor.sys, "stdout", narrow)
    Path(tmp_path, "file").write_text("")
    found = doctor.advice(tmp_path / "file" / "runs", 0.5)
    assert f"{tmp_path / 'file'} is a file, so" in found.pop(0)
    for word in ("gone, which is no folder", "float32", "2 GB", "PYTHONUTF8"):
        assert any(word in line for line in found)
    assert len(found) == 4


def test_it_can_be_content(monkeypatch: Any, tmp_path: Path) -> None:
    memory = SimpleNamespace(available=9e9, total=9e9)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    monkeypatch.setenv("SCRATCHLM_MIRROR", str(tmp_path))
    monkeypatch.setattr(doctor.sys, "stdout", SimpleNamespace(encoding="UTF-8"))
    assert doctor.advice(Path("runs"), 1.5) == []
    monkeypatch.setattr(doctor.os, "access", lambda path, how: False)
    [only] = doctor.advice(tmp_path / "runs" / "a", 1.5)
    assert only == f"you may not write into {tmp_path}: name another --out"
