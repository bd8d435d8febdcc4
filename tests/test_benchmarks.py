"""The benchmarks: rows, tables, files, and each of them in small."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import __main__ as command
from benchmarks import bpe, build, generation, measure, texts, training
from benchmarks.measure import Row
from records import make_benchmarks
from scratchlm.generation.generate import generate
from scratchlm.generation.speed import FastStep
from scratchlm.text.files import read_json

ROW = Row("one thing", 2.0, 4.0, "a peer", "s", "no slower", True, {"a": [1]})


def test_a_row_has_a_ratio_where_it_has_a_peer() -> None:
    assert ROW.ratio == 0.5
    assert Row("alone", 2.0, None, "", "s", "fast", True).ratio is None


def test_the_table_is_aligned() -> None:
    text = measure.table([ROW, Row("more", 1e4, None, "", "s", "1 s", False)])
    head, _, first, second = text.splitlines()
    assert head.index("target") == first.index("no slower")
    assert "0.5" in first
    assert first.endswith("yes")
    assert "10,000" in second
    assert second.endswith("NO")


def test_the_file_holds_all_that_was_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(measure, "OUT", tmp_path)
    path = measure.write("bpe", [ROW])
    assert path == tmp_path / "bpe.json"
    (row,) = json.loads(path.read_text(encoding="utf-8"))
    names = "what ours peer peer_name unit ratio target holds"
    assert set(names.split()) <= set(row)
    assert row["machine"]
    assert row["commit"]
    assert {"python", "torch", "tokenizers"} <= set(row["versions"])
    assert not list(tmp_path.glob("*.partial"))


def test_a_missing_peer_says_how_to_get_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(measure.MissingPeer, match="pip install -r"):
        measure.load("a_library_that_nobody_wrote")

    def fail() -> list[Row]:
        measure.load("a_library_that_nobody_wrote")
        return []

    monkeypatch.setattr(bpe, "rows", fail)
    assert command.main(["bpe"]) == 1
    assert "benchmarks/requirements.txt" in capsys.readouterr().err

    def offline() -> list[Row]:
        raise ConnectionError("the text could not be fetched")

    monkeypatch.setattr(bpe, "rows", offline)
    assert command.main(["bpe"]) == 1
    assert "could not be fetched" in capsys.readouterr().err
    assert (measure.ROOT / measure.REQUIREMENTS).exists()


def test_a_peer_that_does_not_fit_says_why(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    text = "raise ImportError('wanted 0.22, but found 0.15')"
    (tmp_path / "unfit_peer.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(measure.MissingPeer, match=r"found 0\.15.*pip install"):
        measure.load("unfit_peer")


def test_what_is_measured_is_written_without_git_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert measure.commit() == "unknown"


def test_numbers_in_the_table_are_written_out() -> None:
    assert measure.short(999.6) == "1,000"
    assert measure.short(-999.4) == "-999"


def test_the_help_says_how_many_turns_there_are_at_least() -> None:
    assert "of three where a turn takes minutes" in str(command.__doc__)
    counts = build.TURNS, training.RUNS, training.SEEDS
    assert min(counts) == 3
    assert training.TURNS >= 5


def test_nothing_is_measured_that_cannot_be_written(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    place = tmp_path / "_build"
    place.write_text("mine")
    monkeypatch.setattr(measure, "OUT", place / "benchmarks")
    monkeypatch.setattr(command, "run", lambda name: 1 / 0)
    assert command.main(["bpe"]) == 2
    assert str(place) in capsys.readouterr().err


def test_unknown_benchmarks_are_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert command.main(["nothing"]) == 2
    assert "bpe, training, generation, build" in capsys.readouterr().err


def test_a_named_benchmark_is_run_and_written(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written = []
    monkeypatch.setattr(bpe, "rows", lambda: [ROW])
    monkeypatch.setattr(
        measure,
        "write",
        lambda name, rows: (
            written.append((name, rows)) or measure.OUT / "bpe.json"
        ),
    )
    assert command.main(["bpe"]) == 0
    assert written == [("bpe", [ROW])]
    assert "one thing" in capsys.readouterr().out


def test_a_process_reports_its_last_line_or_its_error() -> None:
    assert measure.in_a_process("print('x'); print('[3]')") == [3]
    with pytest.raises(RuntimeError, match="broken"):
        measure.in_a_process("raise SystemExit('broken')")


def test_the_memory_of_a_process_is_its_own() -> None:
    """What the parent holds does not count."""
    held = np.ones(50_000_000)  # 400 MB
    code = "from benchmarks.measure import peak_memory\n"
    small = measure.in_a_process(code + "print(peak_memory())")
    grown = measure.in_a_process(
        code + "x = b'x' * 300_000_000\nprint(peak_memory())"
    )
    assert held.nbytes > 300e6
    assert 2e8 < grown - small < 4e8


def test_stories_are_written_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(texts, "OUT", tmp_path)
    path = texts.toytown(5_000)
    text = path.read_text(encoding="utf-8")
    assert 5_000 <= len(text) < 7_000
    assert text.endswith("\0")
    path.write_text("mine", encoding="utf-8")
    assert texts.toytown(5_000).read_text(encoding="utf-8") == "mine"


def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Little text and few tokens for the benchmark of byte pairs."""
    monkeypatch.setattr(texts, "OUT", tmp_path)
    monkeypatch.setattr(bpe, "SMALL", 400)
    monkeypatch.setattr(bpe, "LARGE", 500)
    monkeypatch.setattr(bpe, "LARGE_TEXT", 50_000)
    monkeypatch.setattr(bpe, "ENCODED", 60_000)
    monkeypatch.setattr(bpe, "LONG_PIECE", 500)
    monkeypatch.setattr(bpe, "LONG_WORD", 100)
    monkeypatch.setattr(bpe, "LEARNED", 270)


def test_byte_pairs_in_small(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    small(monkeypatch, tmp_path)
    text = texts.toytown(30_000).read_text(encoding="utf-8")
    text = text.replace("\0", "")
    rows = [
        bpe.training(text),
        *bpe.large_training(),
        *bpe.encoding(text),
        *bpe.long_pieces(text),
    ]
    assert all(row.ours > 0 and row.ratio for row in rows)
    assert [row.peer_name for row in rows].count("tiktoken") == 2
    memory = rows[2]
    assert memory.unit == "GB"
    assert 0.01 < memory.ours < 1


@pytest.mark.judge
def test_preparing_in_small(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    small(monkeypatch, tmp_path)
    rate, memory = bpe.preparing()
    assert rate.ours > 0
    assert rate.ratio
    assert 0.8 < (memory.ratio or 0) < 1.25


def test_generation_in_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both write the same text, and the cached token is the cheaper one."""
    monkeypatch.setattr(generation, "TOKENS", 12)
    monkeypatch.setattr(generation, "COSTS", (1, 256, 1024))
    monkeypatch.setattr(generation, "REPEATED", 2)
    rows = generation.rows()
    assert [row.unit for row in rows] == ["tokens/s"] * 2 + ["ms"] * 2
    assert rows[3].holds
    assert rows[3].ratio is not None
    assert rows[3].ratio < 0.5


def little() -> training.Data:
    """A little text by character, with something to learn in it."""
    text = "the cat sat on the mat. a bat ate the hat. " * 150
    return training.split(text)


def test_the_split_is_nine_to_one() -> None:
    data = training.split("ab" * 500)
    assert len(data.train) == 900
    assert len(data.validation) == 100


def test_both_train_in_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "STEPS", 12)
    monkeypatch.setattr(training, "WARMUP", 4)
    data = little()
    peer = training.peer_run(data, seed=0)
    ours = training.our_run(data, 12, seed=0)
    for outcome in (peer, ours):
        assert outcome.seconds > 0
        assert outcome.loss < np.log(65)
    assert ours.loss < peer.loss
    again = training.our_run(data, 12, seed=0)
    assert again.loss == pytest.approx(ours.loss, abs=1e-3)


def test_the_peers_rate_rises_and_falls() -> None:
    rates = [training.peer_rate(step) for step in range(training.STEPS)]
    assert max(rates) == pytest.approx(training.PEAK)
    assert rates.index(max(rates)) in (99, 100)
    assert rates[-1] == pytest.approx(training.FLOOR, rel=1e-2)
    assert rates[0] == pytest.approx(training.PEAK / 100)


def test_the_peer_has_the_recipes_size() -> None:
    size = sum(p.numel() for p in training.Peer().parameters())
    assert size == 809_856


def test_throughput_and_memory_are_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(training, "TURNS", 1)
    monkeypatch.setattr(training, "TIMED", 2)
    printed, fused, bound = training.throughput("float32")
    assert printed.ours > 0
    assert printed.peer == fused.peer > 0
    step = training.TIMED * training.BATCH * training.CONTEXT / fused.ours
    assert bound.ours > 0
    assert bound.peer == pytest.approx(1000 * step / training.TIMED)
    memory = training.activation_memory()
    assert memory.holds
    assert memory.ours < memory.peer / 2  # type: ignore[operator]


def test_both_sides_write_the_same_text() -> None:
    """With the peer's weights, ours is the same model."""
    ours, theirs = generation.pair()
    ids = generation.prompts(2)
    step = FastStep(ours)
    new = generate(ours, ids, 12, generation.GREEDY, step=step)
    text = theirs.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=12,
        do_sample=False,
        pad_token_id=0,
    )
    assert torch.equal(torch.stack(list(new), dim=1), text[:, ids.shape[1] :])


def test_the_record_names_every_benchmark() -> None:
    assert make_benchmarks.NAMES == command.NAMES
    assert make_benchmarks.OUT == measure.OUT


def test_pages_that_import_a_module_are_known() -> None:
    pages = build.importers(measure.ROOT)
    assert "book/generation/sampling" in pages
    assert "book/generation/generate" in pages  # by way of generate.py
    assert "book/model/attention" not in pages


def test_executed_pages_are_read_from_the_log(tmp_path: Path) -> None:
    logs = tmp_path / "_build" / "logs"
    logs.mkdir(parents=True)
    (logs / "chapters.log").write_text(
        "executing [ 50%] book/a/b\nreading sources... [ 50%] book/c\n"
        "executing [100%] book/c/d\n"
    )
    assert build.executed(tmp_path) == {"book/a/b", "book/c/d"}


def test_the_builds_stages_stand_beside_the_whole(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    printed = "model  50.0 s  a\nchapters  80.0 s\npdf  90.0 s"
    monkeypatch.setattr(build, "build", lambda *_: (250.0, printed))
    whole, found = build.from_a_clone(tmp_path)
    assert whole == 250
    assert [row.ratio for row in found] == [5, 0.2, 0.32, 0.04]
    assert all(row.holds for row in found)
    slow = build.part("a build", [31.0, 30.0, 29.0], 250, "all", 0.1)
    assert slow.ours == 30
    assert not slow.holds


def test_under_the_table_stands_what_was_missing_and_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(measure, "lacks", lambda: ["bfloat16"])
    told = Row("a", 1.0, 1.0, "b", "s", "c", True, given="b had two threads")
    assert measure.conditions([told, ROW, told]).splitlines() == [
        "no instructions for bfloat16",
        "b had two threads",
    ]
    monkeypatch.setattr(measure, "lacks", lambda: [])
    assert measure.conditions([ROW]) == ""


@pytest.mark.parametrize("name", command.NAMES)
def test_the_record_was_made_by_the_benchmarks_as_they_are(name: str) -> None:
    """A row that is added, or measured otherwise, asks for a new record."""
    place = measure.ROOT / "records" / "benchmarks.json"
    rows = read_json(place)["data"][name]
    assert {row["source"] for row in rows} == {measure.source(name)}
