"""Every check passes on the book's code, and fails on each planted bug."""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from press.roadmap import load
from scaffold.checks import __main__ as runner
from scaffold.checks import progress
from scaffold.checks.expect import CheckFailed, close, equal, raises, true

TOPICS = sorted(topic.id for topic in load().topics)


@pytest.mark.parametrize("topic", TOPICS)
def test_the_reference_passes(topic: str) -> None:
    assert runner.run_topic(topic) == 0


@pytest.mark.parametrize("topic", TOPICS)
def test_every_planted_bug_is_caught(topic: str) -> None:
    caught = runner.catch_bugs(topic)
    assert len(caught) >= 3
    assert [bug for bug, checks in caught.items() if not checks] == []


def test_unknown_topics_are_refused_with_the_list(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert runner.main(["atention"]) == 2
    error = capsys.readouterr().err
    assert "atention" in error
    assert "attention" in error


def test_the_checks_leave_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert runner.main(["tokens", "files"]) == 0
    assert runner.main(["--bugs", "files"]) == 0
    assert list(tmp_path.iterdir()) == []
    assert tempfile.gettempdir() == str(tmp_path)


def test_the_list_names_all_topics(capsys: pytest.CaptureFixture[str]) -> None:
    assert runner.main(["--list"]) == 0
    assert capsys.readouterr().out.split() == TOPICS


def test_one_topic_runs_from_the_command_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert runner.main(["attention"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("attention: ")
    assert "1 topics, all hold" in out
    assert runner.main(["attention", "--bugs"]) == 0
    assert "caught by: " in capsys.readouterr().out


def test_a_bug_whose_text_is_not_there_once_is_refused() -> None:
    from scratchlm.model import attention

    with (
        pytest.raises(ValueError, match="0 times"),
        runner.planted(attention, "no such text", ""),
    ):
        pass


def test_planting_leaves_no_trace() -> None:
    from scratchlm.model import attention

    before = attention.scaled_dot_product_attention
    source = Path(str(attention.__file__)).read_text(encoding="utf-8")
    docstring = source.splitlines()[0]
    with runner.planted(attention, docstring, '"""Another.'):
        assert attention.scaled_dot_product_attention is not before
    assert attention.scaled_dot_product_attention is before


def test_failures_name_what_expected_got_and_why() -> None:
    with pytest.raises(CheckFailed) as failure:
        close([1.0, 2.5], [1.0, 2.0], "the sums", hint="count again")
    message = str(failure.value)
    for words in ("the sums", "[1]", "expected: 2", "got:      2.5", "count"):
        assert words in message


def test_close_takes_infinities_but_not_nan() -> None:
    infinity = float("inf")
    close([infinity, 1.0], [infinity, 1.0], "equal")
    for got in ([float("nan")], [infinity]):
        with pytest.raises(CheckFailed):
            close(got, [1.0], "not equal")
    with pytest.raises(CheckFailed, match="shape"):
        close([1.0, 2.0], [1.0], "longer")
    with pytest.raises(CheckFailed, match="expected: 2"):
        close(1.0, 2.0, "one number")


def test_equal_true_and_raises_fail_where_they_should() -> None:
    equal(torch.arange(3), torch.arange(3), "same")
    for wrong in (torch.arange(2), torch.tensor([0, 1, 3])):
        with pytest.raises(CheckFailed):
            equal(wrong, torch.arange(3), "not the same")
    true(1, "one")
    with pytest.raises(CheckFailed):
        true(0, "zero")
    raises(KeyError, lambda: {}["x"], "a missing key")
    for function in (lambda: 1, lambda: [][0]):
        with pytest.raises(CheckFailed):
            raises(KeyError, function, "another error")


def test_an_error_inside_a_check_is_told_with_its_place() -> None:
    def check_broken() -> None:
        raise RuntimeError("of all things")

    message = runner.run_check(check_broken)
    assert "RuntimeError at test_checks.py:" in message
    assert "of all things" in message


def test_an_empty_body_is_named_as_the_likely_cause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from scratchlm.model import attention

    name = "scaled_dot_product_attention"
    monkeypatch.setattr(attention, name, lambda *a, **k: None)
    from scaffold.checks.model import check_attention

    messages = [
        runner.run_check(check)
        for check in runner.check_functions(check_attention)
    ]
    assert any("is its body written" in message for message in messages)
    assert not any("Error at" in m and "likely" not in m for m in messages)


# --- what a reader may have written ------------------------------------------

BROKEN = {
    "a syntax error": ("def f(:\n", "SyntaxError at check_mine.py:1"),
    "a missing name": ("x = nothing\n", "NameError at check_mine.py:1"),
    "a missing module": ("import nothing_at_all\n", "ModuleNotFoundError at"),
    "a wrong value": ("x = int('a')\n", "ValueError at check_mine.py:1"),
}


@pytest.fixture
def mine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], None]:
    """Make `mine` a topic whose check is the text."""

    def write(text: str) -> None:
        (tmp_path / "check_mine.py").write_text(text, encoding="utf-8")
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.delitem(sys.modules, "check_mine", raising=False)
        known = {"mine": "check_mine"}
        known["attention"] = runner.topics()["attention"]
        monkeypatch.setattr(runner, "topics", lambda: known)

    return write


@pytest.mark.parametrize("kind", BROKEN)
def test_code_that_cannot_be_imported_is_told_with_its_place(
    kind: str,
    mine: Callable[[str], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    text, place = BROKEN[kind]
    mine(text)
    assert runner.main(["mine", "attention"]) == 1
    out = capsys.readouterr().out
    assert "✗ it cannot be imported" in out
    assert place in out
    assert "attention: " in out  # the others are checked all the same
    assert "2 topics, 1 failed" in out
    assert runner.main(["mine", "--bugs"]) == 1
    assert place in capsys.readouterr().out


def test_bugs_are_not_planted_in_other_code(
    mine: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    mine('BUGS = {"a bug": (3 * "x", "")}\n')
    monkeypatch.setattr(runner, "subject", lambda module: module)
    assert runner.main(["mine", "--bugs"]) == 1
    assert "check_mine.py holds 'xxx' 0 times" in capsys.readouterr().out


def test_an_endless_loop_can_be_stopped(
    mine: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    mine("def check_it():\n    raise KeyboardInterrupt\n")
    assert runner.main(["mine"]) == 130
    error = capsys.readouterr().err
    assert error == "\nKeyboardInterrupt at check_mine.py:2, in check_it\n"


@pytest.mark.parametrize("more", ["attention", "--bugs"])
def test_the_list_stands_alone(
    more: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        runner.main(["--list", more])
    assert stop.value.code == 2
    assert "--list stands alone" in capsys.readouterr().err


def test_a_topic_named_twice_is_checked_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert runner.main(["attention", "attention"]) == 0
    assert capsys.readouterr().out.count("attention: ") == 1


# --- correct code of another shape -------------------------------------------


def documents_in_turn(model: Any, batch: Any) -> torch.Tensor:
    """Packed features without a mask: each document through the model."""
    rows = []
    for ids, document in zip(batch.ids, batch.document):
        _, sizes = document.unique_consecutive(return_counts=True)
        parts = ids.split(sizes.tolist())
        rows.append(torch.cat([model.features(p[None])[0] for p in parts]))
    return torch.stack(rows)


def spread_out(sizes: list[int], room: int) -> list[list[int]]:
    """Best fit by a search through all rows, with sums anew each time."""
    rows: list[list[int]] = []
    for i in sorted(range(len(sizes)), key=lambda i: sizes[i], reverse=True):
        if not 0 < sizes[i] <= room:
            raise ValueError(f"{sizes[i]} in {room}")
        held = [sum(sizes[j] for j in row) + sizes[i] for row in rows]
        fitting = [row for row, total in enumerate(held) if total <= room]
        if fitting:
            rows[max(fitting, key=lambda row: held[row])].append(i)
        else:
            rows.append([i])
    return rows


def block_mask(document: torch.Tensor) -> torch.Tensor:
    """The document mask, cell by cell."""
    rows, t = document.shape
    cells = [
        bool(document[b, q] == document[b, k]) and k <= q
        for b in range(rows)
        for q in range(t)
        for k in range(t)
    ]
    return torch.tensor(cells).view(rows, t, t)


def test_packing_may_be_written_in_another_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from scratchlm.training import packing

    monkeypatch.setattr(packing, "packed_features", documents_in_turn)
    monkeypatch.setattr(packing, "best_fit", spread_out)
    monkeypatch.setattr(packing, "document_mask", block_mask)
    assert runner.run_topic("packing") == 0


# --- what has passed ---------------------------------------------------------


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of progress in which nothing has passed."""
    path = tmp_path / "progress.json"
    path.write_text('{"topics": {}}', encoding="utf-8")
    monkeypatch.setattr(runner, "PROGRESS", path)
    return path


def test_the_root_of_this_repository_has_the_progress() -> None:
    root = Path(__file__).parents[1]
    assert runner.PROGRESS.relative_to(root) == Path("progress.json")


def test_what_passed_is_kept_and_what_fails_again_too(
    kept: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert runner.main(["tokens", "attention"]) == 0
    assert progress.read(kept) == {"tokens": True, "attention": True}
    before = kept.read_bytes()
    assert runner.main(["attention"]) == 0
    assert kept.read_bytes() == before  # no date, no order of its own
    monkeypatch.setattr(runner, "run_topic", lambda topic: 2)
    assert runner.main(["attention"]) == 1
    assert progress.read(kept) == {"tokens": True, "attention": False}
    capsys.readouterr()
    assert runner.main(["--status"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "  ✓ tokens" in lines
    assert "  ✗ attention" in lines
    assert "  · bpe" in lines
    assert lines[-1] == f"1 of {len(TOPICS)} topics have passed"
    assert list(kept.parent.iterdir()) == [kept]


def test_where_there_is_no_file_nothing_is_kept(
    kept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept.unlink()
    assert runner.main(["tokens"]) == 0
    assert runner.main(["--status"]) == 0
    assert "nothing is kept" in capsys.readouterr().out
    assert not kept.exists()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"topics": ["bpe"]}',
        '{"topics": {"bpe": true}}',
        '{"topics": {"bpe": {"passed": 1}}}',
    ],
)
def test_a_file_of_something_else_is_left_alone(
    kept: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    kept.write_text(text, encoding="utf-8")
    for words in (["tokens"], ["--status"]):
        assert runner.main(words) == 2
        said = capsys.readouterr()
        assert said.err.startswith(f"error: {kept} is no file of progress")
        assert "tokens" not in said.out
    assert kept.read_text(encoding="utf-8") == text


def test_status_stands_alone() -> None:
    with pytest.raises(SystemExit) as stop:
        runner.main(["--status", "bpe"])
    assert stop.value.code == 2


def test_the_file_stays_as_it_was_when_writing_fails(
    kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(progress.os, "replace", fail)
    with pytest.raises(OSError, match="no space left"):
        progress.keep(kept, "bpe", passed=True)
    assert kept.read_text(encoding="utf-8") == '{"topics": {}}'
    assert list(kept.parent.iterdir()) == [kept]
