"""A topic's way: todo, fail, pass, regressed; blocked and stale."""

import ast
import io
import json
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from check import places, progress
from check.closing import last_run
from check.commands import Desk, main
from check.errors import Told
from check.holes import functions, stub
from check.lessons import riddle
from check.mine import Mine
from check.places import Site, Topic
from check.values import distance, freeze
from check.verdict import Verdict
from check.watch import changes
from press import build

ROOT = Path(__file__).parents[2]
SCALE = "scores / math.sqrt(q.shape[-1])"


def change(site: Site, name: str, old: str, new: str) -> None:
    path = site.path(site.topics[name])
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1
    path.write_text(text.replace(old, new), encoding="utf-8")


def state(site: Site, name: str) -> str:
    return progress.state(site, progress.read(site), site.topics[name])


def test_a_topic_goes_from_todo_to_regressed(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    assert state(site, "attention") == "todo"
    assert main(["reset", "attention", "--stub", "--yes"], site) == 0
    assert (
        site.path(site.topics["attention"]).parent / "attention.py.1"
    ).exists()
    assert main(["attention"], site) == 0  # to do is no failure
    assert state(site, "attention") == "todo"
    assert "○ write causal_mask" in capsys.readouterr().out
    assert main(["reset", "attention", "--yes"], site) == 0
    change(site, "attention", SCALE, "scores")
    assert main(["attention"], site) == 1
    assert state(site, "attention") == "fail"
    out = capsys.readouterr().out
    assert "likely    the scale is missing" in out
    assert len(out.splitlines()) <= 30
    change(
        site, "attention", "    scores = scores\n", f"    scores = {SCALE}\n"
    )
    assert main(["attention"], site) == 0
    assert state(site, "attention") == "pass"
    change(site, "attention", SCALE, "scores")
    assert state(site, "attention") == "stale"
    capsys.readouterr()
    assert main([], site) == 1  # the next topic passes, this one no more
    assert state(site, "attention") == "regressed"
    assert "attention had passed before" in capsys.readouterr().out
    assert main(["--status"], site) == 1
    assert "attention     regressed" in re.sub(
        r" +", "     ", capsys.readouterr().out
    )


def test_a_module_that_others_break_is_blocked(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    """By that which is broken, not by one that is right in its own way."""
    other = site.path(site.topics["embeddings"])  # of what heads needs
    other.write_text(other.read_text(encoding="utf-8") + "# mine\n")
    change(site, "attention", SCALE, "scores")
    assert main(["heads"], site) == 1
    assert state(site, "heads") == "blocked"
    out = capsys.readouterr().out
    assert "Mend attention first" in " ".join(out.split())
    assert "python -m check attention" in out


def test_the_file_of_progress_has_the_form_that_others_read(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["attention"], site) == 0
    data = json.loads(site.progress.read_text(encoding="utf-8"))
    assert data["version"] == 1
    assert data["topics"] == {"attention": "pass"}
    before = site.progress.read_bytes()
    assert main(["attention"], site) == 0
    assert site.progress.read_bytes() == before  # no clock
    site.progress.write_text("[]", encoding="utf-8")
    assert main(["attention"], site) == 2
    assert "move it away" in capsys.readouterr().err


def test_results_for_programs(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    change(site, "attention", SCALE, "scores")
    assert main(["attention", "--json"], site) == 1
    data = json.loads(capsys.readouterr().out)
    assert data["version"] == 3
    assert data["status"] == "fail"
    assert {t["status"] for t in data["tests"]} == {"pass", "fail"}
    assert data["topics"] == {"attention": "fail"}
    assert main(["--status", "--json"], site) == 1
    data = json.loads(capsys.readouterr().out)
    assert data["topics"]["attention"] == "fail"
    assert [t["name"] for t in data["tests"]] == ["attention"]


def test_what_waits_is_no_failure_for_programs(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["reset", "attention", "--stub", "--yes"], site) == 0
    capsys.readouterr()
    assert main(["attention", "--json"], site) == 0
    data = json.loads(capsys.readouterr().out)
    assert (data["status"], data["tests"]) == ("pass", [])
    assert data["topics"] == {"attention": "todo"}


def test_results_are_the_same_in_every_encoding(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    change(site, "attention", SCALE, "print('\N{GRINNING FACE} é ×') or scores")
    assert main(["attention", "--json"], site) == 1
    out = capsys.readouterr().out
    assert out.isascii()
    printed = {test["output"] for test in json.loads(out)["tests"]}
    assert "\N{GRINNING FACE} é ×" in "".join(printed)


def test_what_is_not_written_is_named_behind_another_failure(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first check that fails is not the one that finds it."""
    change(
        site,
        "attention",
        "    if causal:\n",
        "    scores = scores + torch.arange(float(scores.shape[-1]))\n"
        "    if q.shape[-1] == 4:\n        raise NotImplementedError\n"
        "    if causal:\n",
    )
    path = site.path(site.topics["attention"])
    lines = path.read_text(encoding="utf-8").splitlines()
    line = 1 + next(i for i, x in enumerate(lines) if "NotImplemented" in x)
    assert main(["attention"], site) == 0
    out = capsys.readouterr().out
    assert f"attention.py:{line}\n" in out


def test_code_saved_while_the_checks_ran_has_not_passed(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what another run has found meanwhile is still there."""
    path = site.path(site.topics["attention"])

    def saving(site: Site, topic: Topic, *rest: object) -> Verdict:
        path.write_text(path.read_text(encoding="utf-8") + "# later\n")
        known = progress.read(site)
        progress.enter(site, known, site.topics["bpe"], "pass")
        progress.write(site, known)
        report = {"checks": [], "broken": None, "printed": "", "title": ""}
        return Verdict(topic, "pass", report)

    monkeypatch.setattr("check.commands.judge", saving)
    assert main(["attention"], site) == 0
    assert state(site, "attention") == "stale"
    assert not progress.holds_still(site, site.topics["attention"])
    assert state(site, "bpe") == "pass"


def test_hints_grow_stronger(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    change(site, "attention", SCALE, "scores")
    said = []
    for level in "1234":
        assert main(["hint", "attention", "--level", level], site) == 0
        said.append(capsys.readouterr().out)
    assert "look at: 4 / sqrt(4) = 2" in said[0]
    assert "the scale is missing" not in said[0]
    assert "the scale is missing" in said[1]
    assert SCALE in said[2]
    assert f"+    scores = {SCALE}" in said[3]
    assert main(["hint", "bpe"], site) == 0
    assert "nothing to hint at" in capsys.readouterr().out


@pytest.mark.parametrize("level", "1234")
def test_hints_are_about_the_first_hole(
    level: str, site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    """The check that fails first uses another function, in vain."""
    topic = site.topics["attention"]
    path = site.path(topic)
    text = path.read_text(encoding="utf-8")
    empty = stub(text).splitlines()
    function = dict(functions(ast.parse(text)))["scaled_dot_product_attention"]
    other = dict(functions(ast.parse(stub(text))))[function.name]
    lines = text.splitlines()
    lines[function.lineno - 1 : function.end_lineno] = empty[
        other.lineno - 1 : other.end_lineno
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert main(["hint", "attention", "--level", level], site) == 0
    out = capsys.readouterr().out
    assert ("scaled_dot_product_attention" in out) is (level != "2")
    assert "def attention_weights" not in out
    assert "def causal_mask" not in out
    if level == "1":
        assert f"attention.py:{function.lineno}" in out
    if level == "2":
        assert "nothing is written there yet" in out
    if level == "4":
        assert "-    raise NotImplementedError" in out
        assert "+    return attention_weights(q, k, causal) @ v" in out


def test_when_all_passes_the_last_page_has_numbers(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    known = progress.read(site)
    for topic in site.topics.values():
        progress.enter(site, known, topic, "pass")
        progress.remember(site, topic, True)
    progress.write(site, known)
    run = site.root / "runs" / "1"
    run.mkdir(parents=True)
    (run / "log.jsonl").write_text(
        '{"step": 1, "validation_loss": 2.5}\n{"step": 2, "valid'
    )
    (run / "config.json").write_text(
        '{"data": {"entropy_nats": 30.0, "validation_tokens": 21}}'
    )
    assert main([], site) == 0
    out = capsys.readouterr().out
    assert "Everything passes." in out
    assert f"{len(site.topics)} topics" in out
    assert "a validation loss of 2.500 nats; no model can be below 1.500" in out
    path = site.path(site.topics["bpe"])
    path.write_text(path.read_text(encoding="utf-8") + "# mine\n")
    assert main(["characters"], site) == 0
    out = capsys.readouterr().out
    assert "Everything passes" not in out
    assert "changed since they passed: bpe\nnext: python -m check\n" in out
    assert main([], site) == 0
    assert "Everything passes." in capsys.readouterr().out


def test_a_riddle_has_its_question(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lines with the answer are left out, and none that begins like them."""
    told = Told("CheckFailed", "reading what is no number")
    ended = {"checks": [], "broken": None, "ended": told.as_data()}
    report = {"printed": "", "title": "", **ended}
    monkeypatch.setattr("check.lessons.run", lambda job: report)
    topic = site.topics["attention"]
    _, lines = riddle(site, topic, 1)
    assert "      reading what is no number" in lines
    labels = {line[6:16].strip() for line in lines if line[:6].isspace()}
    assert not labels & {"in", "next", "read"}


def test_relative_imports_are_seen(site: Site) -> None:
    text = "from .files import a\nfrom ..model import gpt\n"
    found = places.imported(text, ("scratchlm", "text"))
    assert {"scratchlm/text/files.py", "scratchlm/model/gpt.py"} <= {*found}
    path = site.path(site.topics["bpe"])
    text = path.read_text(encoding="utf-8")
    path.write_text(f"{text}from . import shards\n", encoding="utf-8")
    inside = places.closure(site.sources, path)
    assert site.path(site.topics["shards"]) in inside


def test_the_tenth_run_is_newer_than_the_ninth(site: Site) -> None:
    for name, loss in (("9", 3.0), ("10", 2.0)):
        log = site.root / "runs" / name / "log.jsonl"
        log.parent.mkdir(parents=True)
        log.write_text(json.dumps({"validation_loss": loss}) + "\n")
    assert last_run(site).startswith("the run 10 reached a validation loss")


def test_a_mistake_can_be_looked_for(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    known = "7"
    codes = [
        main(["break", "attention", "--answer", str(n)], site)
        for n in range(1, int(known) + 1)
    ]
    assert sorted(codes) == [0] + [1] * 6  # one of the answers is right
    out = capsys.readouterr().out
    assert "planted in a copy" in out
    reference = site.reference / "scratchlm" / "model" / "attention.py"
    mine = site.path(site.topics["attention"])
    assert mine.read_bytes() == reference.read_bytes()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["atention"], "did you mean attention"),
        (["--chapter", "nowhere"], "the parts are"),
        (["--mine", "gone.py"], "there is no such file"),
        (["--frobnicate"], "--help"),
        (["--watch", "--json"], "take one"),
        (["--status", "attention"], "--status stands alone"),
        (["--status", "--mine", "gone.py"], "--status stands alone"),
        (["--status", "--chapter", "model"], "--status stands alone"),
        (["atention", "--all"], "did you mean attention"),
        (["atention", "--chapter", "bpe"], "did you mean attention"),
        (["hint", "attention", "--mine", "gone.py"], "there is no such file"),
    ],
)
def test_what_cannot_be_done_is_told(
    words: list[str],
    said: str,
    site: Site,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(words, site) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("form", [[], ["--stub"]])
def test_without_a_terminal_reset_says_what_to_type(
    form: list[str],
    site: Site,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = site.path(site.topics["attention"])
    before = path.read_bytes()
    monkeypatch.setattr("sys.stdin", io.StringIO())
    words = ["reset", "attention", *form]
    assert main(words, site) == 2
    typed = " ".join([*words, "--yes"])
    assert f"type: python -m check {typed}\n" in capsys.readouterr().err
    assert path.read_bytes() == before
    assert main([*words, "--yes"], site) == 0


def test_output_that_nobody_reads_on_is_no_error() -> None:
    """As with `| head -1`: the reader goes before anything is written."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "check", "--status", "--json"]
    done = subprocess.run(
        command,
        cwd=ROOT,
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writing)
    assert done.stderr == ""
    assert done.returncode == 141


def test_topics_beside_a_chapter_are_checked_with_it(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bpe", "--chapter", "attention", "--json"], site) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["topics"] == {"bpe": "pass", "attention": "pass"}


def test_lists_and_explanations(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["list"], site) == 0
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert names == list(site.topics)
    assert main(["explain", "attention"], site) == 0
    assert "the scale is missing" in capsys.readouterr().out
    assert main(["doctor"], site) == 0
    assert main(["--help"], site) == 0
    assert "--mine" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("a", "b", "gap"),
    [
        (1.0, 1.0 + 2**-20, 2**-20 / (1 + 2**-20)),
        ([1, "x 0.5"], [1, "x 0.5"], 0.0),
        (True, 1, float("inf")),
        (None, 0, float("inf")),
        ((1, 2), [1, 2], 0.0),
        ({"a": 1}, {"a": 2}, 0.5),
        ({1, 2}, {2, 1}, 0.0),
        (float("nan"), float("nan"), 0.0),
        (b"ab", b"ac", float("inf")),
        (object(), object(), 0.0),
    ],
)
def test_values_are_compared_by_what_they_are(
    a: object, b: object, gap: float
) -> None:
    assert distance(freeze(a), freeze(b)) == gap


def test_the_cache_is_not_needed(site: Site, tmp_path: Path) -> None:
    site.cache.mkdir(exist_ok=True)
    (site.cache / "verified.json").write_text("nonsense")
    assert main(["attention"], site) == 0


def test_a_change_is_seen(site: Site) -> None:
    seen = changes(site, Mine(), pause=0.01)
    path = site.path(site.topics["attention"])

    def write() -> None:
        time.sleep(0.2)
        path.write_text(path.read_text(encoding="utf-8") + "\n")

    writer = threading.Thread(target=write)
    writer.start()
    assert next(seen) == {"attention"}
    writer.join()


def test_what_is_saved_while_the_check_runs_is_seen(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = site.path(site.topics["attention"])
    looks: list[float] = []
    checked: list[list[str]] = []

    def look(seconds: float) -> None:
        looks.append(seconds)
        assert len(looks) < 9, "it waits for a change that was there"

    def again(desk: Desk, names: list[str], mine: None) -> None:
        checked.append(names)
        if len(checked) == 1:
            path.write_text(path.read_text(encoding="utf-8") + "\n")
        else:
            raise KeyboardInterrupt

    monkeypatch.setattr(Desk, "again", again)
    monkeypatch.setattr("check.watch.time.sleep", look)
    assert main(["--watch"], site) == 130
    assert checked == [[], ["attention"]]


def test_a_failure_names_the_page_of_the_printed_book(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    change(site, "attention", SCALE, "scores")
    path = site.root / "check" / "topics.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    entry = next(x for x in data["topics"] if x["id"] == "attention")
    entry["pages"] = [["", "211"], ["Nine lines", "217"]]
    path.write_text(json.dumps(data), encoding="utf-8")
    assert main(["attention"], Site(site.root)) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "“Nine lines”, page 217 of the PDF" in said
    entry["pages"] = [["", "211"]]  # the section has another title there
    path.write_text(json.dumps(data), encoding="utf-8")
    assert main(["attention"], Site(site.root)) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "“Nine lines”, page 211 of the PDF" in said


def test_the_pages_are_those_that_the_build_has_written(
    tmp_path: Path,
) -> None:
    place = build.PRINTED.relative_to(build.ROOT)
    source = Path(places.__file__).read_text(encoding="utf-8")
    assert f'PAGES = "{place.as_posix()}"' in source
    (tmp_path / place).parent.mkdir()
    written = json.dumps({"One": {"": "3", "Two": "4"}})
    (tmp_path / place).write_text(written, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(places, "PAGES", place.as_posix())
        assert places.printed(tmp_path, "One") == [("", "3"), ("Two", "4")]
        assert places.printed(tmp_path, "Other") == []
    assert places.printed(tmp_path / "nowhere", "One") == []
