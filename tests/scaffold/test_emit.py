"""An emitted repository is complete, committed, and passes its own tests."""

import http.client
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
import tomlkit
from packaging.requirements import Requirement

from compliance.card import read_card
from press.plan import SLIVER, plan_text
from press.records import read
from press.roadmap import load
from scaffold.__main__ import main
from scaffold.emit import copies, emit, known_marks
from scaffold.holes import INIT, body, chosen, fill
from scaffold.needs import requirements
from scaffold.plan import (
    CombinationError,
    Plan,
    ScaffoldError,
    budgets,
    parameters,
    tracks,
)
from scratchlm.model.gpt import llama_config, memory_estimate

ROOT = Path(__file__).parents[2]
PROJECT = "scratchlm"


def run(folder: Path, *command: str, given: str = "") -> str:
    """Run Python in the folder, seeing nothing of this repository."""
    environment = {
        k: v for k, v in os.environ.items() if not k.startswith("PYTHON")
    }
    environment |= {"OMP_NUM_THREADS": "1", "PYTHONSAFEPATH": ""}
    done = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=environment,
        input=given,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def git(folder: Path, *arguments: str) -> str:
    command = ["git", *arguments]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=True
    ).stdout


def track_of(repository: Path) -> str:
    """The track of an emitted repository, which its commit names."""
    return git(repository, "log", "--format=%s").split(": ")[1].split(",")[0]


@pytest.fixture(scope="module", params=tracks())
def repository(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The repository of each track."""
    out = tmp_path_factory.mktemp("scaffold") / "llm"
    assert main(["--track", request.param, "--out", str(out)]) == 0
    return out


def test_it_is_a_git_repository_with_one_commit(repository: Path) -> None:
    assert git(repository, "status", "--porcelain") == ""
    assert len(git(repository, "log", "--oneline").splitlines()) == 1


def test_its_sources_are_those_of_the_book(repository: Path) -> None:
    files = sorted((repository / "scratchlm").rglob("*.py"))
    assert len(files) > 20
    holed = track_of(repository) == "beginner"
    for path in files:
        original = ROOT / "src" / path.relative_to(repository)
        text, book = (p.read_text(encoding="utf-8") for p in (path, original))
        if holed and path.name == "__init__.py" and path.parent.name == PROJECT:
            assert text == INIT
        elif holed and text != book:
            name = chosen()[path.stem]  # nothing else differs
            assert fill(text, name, body(book, name)) == book
        else:
            assert path.read_bytes() == original.read_bytes()


def test_it_has_the_rules_and_their_tests(repository: Path) -> None:
    for folder in ("compliance", "tests/compliance"):
        files = [p for p in (ROOT / folder).iterdir() if p.is_file()]
        assert files
        for path in files:
            copied = repository / folder / path.name
            assert copied.read_bytes() == path.read_bytes()
    text = (repository / "README.md").read_text(encoding="utf-8")
    assert "python -m compliance " in text.split("```")[1]


@pytest.mark.parametrize("own", [False, True])
def test_its_card_is_one_whose_gaps_are_known(
    own: bool, tmp_path: Path
) -> None:
    """Nothing in it is wrong; what its reader must say is open."""
    text = None
    if own:
        text = tmp_path / "text.txt"
        text.write_bytes(b"So they wrote, day after day. " * 10_000)
    out = emit(Plan("beginner", "cpu", text), tmp_path / "llm")
    said, problems = read_card(out / "card.yml")
    assert said["released"] is False
    assert all(problem.open for problem in problems)
    named = {problem.entry for problem in problems}
    assert {"provider.contact", "model.limits"} <= named
    assert ("data.0.source" in named) is own


def test_its_readme_names_every_topic_of_the_track(repository: Path) -> None:
    text = (repository / "README.md").read_text(encoding="utf-8")
    for topic in Plan(track_of(repository), "cpu").topics:
        assert topic.title in text
        assert (repository / "scratchlm" / topic.package).is_dir()
    assert "{{" not in text
    assert "{%" not in text


def test_its_checks_are_found(repository: Path) -> None:
    """That its tests are, the matrix of all combinations tells."""
    assert "attention" in run(repository, "-m", "checks", "--list").split()
    listed = run(repository, "-m", "check", "list")
    plan = Plan(track_of(repository), "cpu")
    names = [line.split()[0] for line in listed.splitlines()]
    assert names == [topic.id for topic in plan.topics]
    wanted = "1 todo" if plan.stubs else "1 pass"
    assert wanted in run(repository, "-m", "check", "attention")
    (repository / "progress.json").unlink()


def test_it_has_a_reference_to_compare_with(repository: Path) -> None:
    files = sorted((repository / "scratchlm").rglob("*.*"))
    for path in files:
        if path.suffix != ".pyc":
            name = path.relative_to(repository)
            copy = repository / "check" / "reference" / name
            assert copy.read_bytes() == (ROOT / "src" / name).read_bytes()


def test_it_trains_and_samples(repository: Path) -> None:
    small = "--steps 20 --characters 60000 --vocab-size 300 --layers 1"
    small += " --channels 32 --context 32 --batch-size 4 --warmup 2"
    out = run(repository, "train.py", *small.split())
    assert "done: best validation loss" in out
    text = run(repository, "sample.py", "--prompt", "Mrs", "--tokens", "20")
    assert text.startswith("Mrs")
    kept = run(repository, "-m", "compliance")  # which would exit with 1
    assert re.search(r"^seal +1 sealed folder +holds$", kept, re.M)
    assert re.search(r"^card +1 card +holds$", kept, re.M)
    assert "none violated" in kept


def test_a_model_of_ones_own_text_is_put_to_use(tmp_path: Path) -> None:
    """What the practitioner's README says, in its order."""
    text = tmp_path / "text.txt"
    text.write_bytes(b"So they wrote, day after day. " * 10_000)
    words = ["--track", "practitioner", "--data", str(text)]
    assert main([*words, "--out", str(tmp_path / "llm")]) == 0
    folder = tmp_path / "llm"
    readme = (folder / "README.md").read_text(encoding="utf-8")
    block = readme.split("## Into use")[1].split("```")[1]
    lines = [line.split("  #")[0] for line in block.splitlines()[1:]]
    export, chat, serve = (shlex.split(line)[1:] for line in lines)
    small = "--steps 4 --warmup 1 --vocab-size 270 --layers 1 --heads 2"
    small += " --channels 32 --context 32 --batch-size 4"
    assert "done: best" in run(folder, "train.py", *small.split())
    run(folder, *export)
    assert (folder / "exported" / "model.safetensors").exists()
    said = run(folder, *chat, "--tokens", "4", given="So they\n\n")
    assert "was never taught to answer" in said
    command = [sys.executable, *serve, "--port", "0"]
    with subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, text=True
    ) as served:
        try:
            assert served.stdout is not None
            said = served.stdout.readline()
            port = int(re.findall(r"http://127\.0\.0\.1:(\d+)", said)[0])
            asked = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            asked.request("GET", "/v1/models")
            (model,) = json.load(asked.getresponse())["data"]
            asked.close()
            assert model["id"] == "1"
        finally:
            served.terminate()


def test_what_cannot_go_on_is_told_so(repository: Path) -> None:
    runs = repository / "runs"
    shutil.rmtree(runs, ignore_errors=True)  # of another test
    for name in ("007", "²", "notes"):  # no runs of ours
        (runs / name).mkdir(parents=True)
    for script, words, why in (
        ("train.py", ["--resume"], "no run to go on with"),
        ("sample.py", [], "no model is trained yet"),
    ):
        done = subprocess.run(
            [sys.executable, script, *words],
            cwd=repository,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 2, done.stderr
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1
        assert why in done.stderr
    shutil.rmtree(runs)


def read_config(folder: Path) -> dict[str, object]:
    text = (folder / "config.toml").read_text(encoding="utf-8")
    return dict(tomlkit.parse(text).unwrap())


def test_a_budget_changes_the_configuration(tmp_path: Path) -> None:
    sizes = []
    for budget in ("cpu", "gpu8", "gpu24", "node8"):
        plan = Plan("researcher", budget)
        out = emit(plan, tmp_path / budget)
        assert read_config(out) == plan.settings
        sizes.append(parameters(plan.settings))
        assert budget in (out / "README.md").read_text(encoding="utf-8")
    assert sizes == sorted(set(sizes))


def test_a_budget_has_a_model_for_toytown_that_its_text_can_teach() -> None:
    """Not a hundred million parameters with three tokens for each.

    Two tokens for each, or a run on record: it has these settings and ends
    below the one beside it that read more than two.
    """
    shown = read(ROOT / "records" / "training.json")["data"]
    for budget, facts in budgets().items():
        settings = Plan("beginner", budget).settings
        step = settings["batch_size"] * settings["context"]
        seen = step * settings["steps"] * settings.get("accumulate", 1)
        if seen < 2 * parameters(settings):
            ran = shown["config"]
            kept = {**ran["model"], **ran["training"], **ran["data"]}
            assert settings.keys() - kept.keys() == {"max_minutes"}
            assert all(v == kept.get(k, v) for k, v in settings.items())
            (_, loss), (_, other) = (
                run["validation"][-1] for run in (shown, shown["adamw"])
            )
            assert loss < other, budget
        assert settings["vocab_size"] <= 2048  # Toytown has no more pieces
        assert facts["memory"] > 0


@pytest.mark.parametrize("budget", budgets())
def test_a_text_of_ones_own_fills_the_machine(
    budget: str, tmp_path: Path
) -> None:
    """By the library's own estimate of a step's memory, in float32."""
    text = tmp_path / "text.txt"
    text.write_bytes(b"So they wrote, day after day. " * 10_000)
    settings = Plan("researcher", budget, text).settings
    assert settings["corpus"] == str(text)
    assert "characters" not in settings
    names = ("vocab_size", "layers", "heads", "channels", "context")
    shape = llama_config(**{name: settings[name] for name in names})
    need = memory_estimate(shape, settings["batch_size"]).peak
    memory = budgets()[budget]["memory"]
    assert need < 0.9 * memory
    if budget != "cpu":
        assert need > 0.3 * memory


@pytest.mark.parametrize("size", [24, 1000])
def test_a_text_that_is_too_short_is_refused(
    size: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "short.txt"
    text.write_bytes(b"a" * size)
    out = tmp_path / "llm"
    words = ["--track", "beginner", "--data", str(text), "--out", str(out)]
    assert main(words) == 5  # a good text and a good budget, not together
    assert f"{text} is too short" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize(
    ("budget", "size"),
    [("cpu", 2_600), ("cpu", 2_900), ("gpu8", 5_300), ("gpu24", 11_000)],
)
def test_a_text_whose_words_do_not_fill_two_windows_is_refused(
    budget: str, size: int, tmp_path: Path
) -> None:
    """Of a short text each word becomes one token, of five bytes and more."""
    text = tmp_path / "short.txt"
    words = (ROOT / "README.md").read_text(encoding="utf-8").split()
    words = [word for word in words if word.isalpha() and len(word) > 3]
    text.write_text(" ".join(words * 50)[:size], encoding="utf-8")
    with pytest.raises(CombinationError, match="nine tenths of it may not"):
        Plan("practitioner", budget, text)
    text.write_text(" ".join(words * 50)[: 4 * size], encoding="utf-8")
    assert Plan("practitioner", budget, text).settings["corpus"] == str(text)


def test_a_prepared_folder_is_divided_already(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All of the one file is learned from, and the other has to be there."""
    line = '{"text": "' + "So they wrote, day after day. " * 40 + '"}\n'
    (tmp_path / "train.jsonl").write_text(line * 40, encoding="utf-8")
    words = ["estimate", "--track", "beginner", "--data", str(tmp_path)]
    assert main(words) == 2
    assert "validation.jsonl cannot be read" in capsys.readouterr().err
    (tmp_path / "validation.jsonl").write_text('{"text": 5}\n')
    assert main(words) == 2
    assert "line 1" in capsys.readouterr().err
    (tmp_path / "validation.jsonl").write_text(line, encoding="utf-8")
    assert Plan("beginner", "cpu", tmp_path).tokens == 40 * len(line) // 4


def test_steps_follow_from_the_size_of_the_text(tmp_path: Path) -> None:
    small, large = tmp_path / "small.txt", tmp_path / "large.txt"
    small.write_bytes(b"a" * 400_000)
    large.write_bytes(b"a" * 200_000_000)
    few, many = (Plan("beginner", "cpu", p) for p in (small, large))
    assert few.tokens == 90_000
    assert few.settings["steps"] == 4 * 90_000 // (16 * 128) + 1
    assert "more text, or a smaller budget" in few.warning
    assert many.settings["steps"] > 10 * few.settings["steps"]
    assert many.warning == ""


def test_a_text_that_is_none_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "llm"
    for data in (tmp_path / "missing.txt", tmp_path):
        words = ["--track", "beginner", "--data", str(data)]
        assert main([*words, "--out", str(out)]) == 2
        assert f"{data} is no text" in capsys.readouterr().err
    latin, lines = tmp_path / "latin.txt", tmp_path / "lines.jsonl"
    latin.write_bytes("Stra\u00dfe ".encode("latin-1") * 9)
    lines.write_text('{"text": 5}\n', encoding="utf-8")
    for data, why in ((latin, "is not UTF-8"), (lines, "line 1")):
        words = ["--track", "beginner", "--data", str(data)]
        assert main([*words, "--out", str(out)]) == 2
        assert why in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize("budget", budgets())
def test_the_settings_of_every_budget_are_understood(budget: str) -> None:
    """Every key of a budget is a setting of the command `train`."""
    from scratchlm.cli.app import make_app, parse

    words = ["train"]
    for name, value in Plan("beginner", budget).settings.items():
        value = "cpu" if name == "device" else value
        words += [f"--{name.replace('_', '-')}", str(value)]
    parse(make_app(), words)
    with pytest.raises(Exception, match="--no-such"):
        parse(make_app(), [*words, "--no-such", "1"])


@pytest.mark.parametrize(
    "name",
    ["Ada's model", 'a "b"', "100%", "über uns", "...", "--", "a+1", "日本"],
)
def test_any_folder_gives_a_project_that_installs(
    name: str, tmp_path: Path
) -> None:
    out = emit(Plan("beginner", "cpu"), tmp_path / name)
    text = (out / "pyproject.toml").read_text(encoding="utf-8")
    project = tomlkit.parse(text).unwrap()["project"]
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", project["name"])
    for line in project["dependencies"]:
        Requirement(line)
    assert main(["--track", "beginner", "--out", str(out)]) == 3  # it is there


def test_it_asks_for_all_that_its_files_import(repository: Path) -> None:
    """Also for what only a test imports, and torch's silent need."""
    text = (repository / "requirements.txt").read_text(encoding="utf-8")
    names = set(re.findall(r"^([\w-]+)==", text, re.M))
    assert {"torch", "pytest", "hypothesis", "transformers"} <= names
    assert {"tensorboard", "tokenizers", "tiktoken"} <= names
    held = (repository / "constraints.txt").read_text(encoding="utf-8")
    assert names < set(re.findall(r"^([\w-]+)==", held, re.M))
    assert "--hash" not in text + held


def test_an_import_that_no_lock_names_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "new.py"
    file.write_text("import antigravity, surprise\n", encoding="utf-8")
    with pytest.raises(KeyError, match=r"new\.py imports surprise"):
        requirements([file], set())


def test_another_repository_does_not_take_its_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hook exports GIT_DIR to whatever it starts."""
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "-q")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other / ".git" / "index"))
    out = emit(Plan("beginner", "cpu"), tmp_path / "llm")
    monkeypatch.delenv("GIT_DIR")
    monkeypatch.delenv("GIT_INDEX_FILE")
    assert len(git(out, "log", "--oneline").splitlines()) == 1
    assert not list((other / ".git" / "refs" / "heads").iterdir())


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["--track", "expert"], tracks),
        (["--track", "beginner", "--budget", "tpu"], budgets),
    ],
)
def test_unknown_names_exit_2_with_the_list(
    arguments: list[str],
    names: object,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "llm"
    assert main([*arguments, "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert all(name in error for name in names())  # type: ignore[operator]
    assert not out.exists()


def test_a_folder_that_holds_something_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.txt").write_text("do not lose this", encoding="utf-8")
    assert main(["--track", "beginner", "--out", str(tmp_path)]) == 3
    assert "not an empty folder" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("below", ["mine.txt/llm", "mine.txt/a/b"])
def test_a_folder_in_a_file_is_refused(
    below: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.txt").write_text("do not lose this", encoding="utf-8")
    out = tmp_path / below
    assert main(["--track", "beginner", "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert error == (
        f"error: {tmp_path / 'mine.txt'} is a file, and no folder can be made "
        "in it; name another one with --out\n"
    )


def test_a_folder_that_may_not_be_written_is_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("scaffold.emit.os.access", lambda path, mode: False)
    out = tmp_path / "a" / "llm"
    assert main(["--track", "beginner", "--out", str(out)]) == 2
    assert f"{tmp_path} cannot be written to" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--track", "beginner", "--out", "a" * 300], "File name too long"),
        (["--track", "beginner", "--data", "nothing.txt"], "is no text"),
        (["--track", "beginner", "--data", ""], "is no text"),
        (["--track", "", "--out", "x"], "no track ''"),
        (["--track", "beginner", "--budget", ""], "no budget ''"),
    ],
)
def test_what_cannot_be_is_one_sentence(
    arguments: list[str],
    why: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert why in error
    assert error.count("\n") == 1
    assert "[Errno" not in error
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    out = tmp_path / "empty"
    out.mkdir()
    assert main(["--track", "beginner", "--out", str(out)]) == 0
    assert (out / "README.md").exists()


@pytest.mark.parametrize("there", [False, True])
def test_what_a_link_leads_to_is_filled(there: bool, tmp_path: Path) -> None:
    """And the link stays one, whether its folder is there yet or not."""
    disk, link = tmp_path / "big" / "llm", tmp_path / "link"
    disk.parent.mkdir()
    if there:
        disk.mkdir()
    link.symlink_to(disk)
    assert main(["--track", "beginner", "--out", str(link), "-q"]) == 0
    assert link.is_symlink()
    assert (disk / "README.md").exists()
    assert (disk / ".git").is_dir()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["big", "link"]
    assert [p.name for p in disk.parent.iterdir()] == ["llm"]


def test_all_or_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the last stage fails, no file is left behind."""
    monkeypatch.setattr("scaffold.emit.commit", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        emit(Plan("beginner", "cpu"), tmp_path / "llm")
    assert list(tmp_path.iterdir()) == []


def test_without_git_the_error_says_so(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["--track", "beginner", "--out", str(tmp_path / "llm")]) == 4
    assert "git is not installed" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_plan_of_weeks_holds_each_topic_once() -> None:
    for track, facts in tracks().items():
        plan = Plan(track, "cpu")
        topics = [topic for week in plan.weeks for topic in week.topics]
        assert sorted([*topics, *plan.later], key=plan.topics.index) == list(
            plan.topics
        )
        assert len(topics) + len(plan.later) == len(plan.topics)
        assert {t.tracks[track] for t in topics} == {"core"}
        longest = facts["hours"] + 7 * SLIVER / 60
        assert all(w.hours <= longest for w in plan.weeks)
        assert [p.milestone for w in plan.weeks for p in w.reached] == list(
            load().milestones
        )


def test_it_carries_its_plan_as_a_calendar(tmp_path: Path) -> None:
    words = ["--track", "beginner", "--out", str(tmp_path / "llm")]
    assert main([*words, "--start", "2026-12-01"]) == 0
    kept = (tmp_path / "llm" / "plan.ics").read_bytes()
    hours = tracks()["beginner"]["hours"]
    assert kept == plan_text("beginner", date(2026, 12, 1), hours).encode()
    readme = (tmp_path / "llm" / "README.md").read_text(encoding="utf-8")
    assert "calendar from 2026-12-01 on" in readme


def test_a_start_that_is_none_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--track", "beginner", "--out", str(tmp_path / "llm")]
    assert main([*words, "--start", "2026-13-01"]) == 2
    assert "--start '2026-13-01' is no date" in capsys.readouterr().err
    assert not (tmp_path / "llm").exists()


def test_its_progress_is_kept_from_the_first_check_on(
    repository: Path, tmp_path: Path
) -> None:
    """By the emitted checks themselves, which import nothing of ours."""
    assert not (repository / "plan.ics").exists()
    folder = tmp_path / "llm"
    shutil.copytree(repository, folder)
    run(folder, "-m", "check", "toytown")
    kept = json.loads((folder / "progress.json").read_text(encoding="utf-8"))
    assert kept["version"] == 1
    wanted = "todo" if track_of(repository) == "beginner" else "pass"
    assert kept["topics"] == {"toytown": wanted}
    status = run(folder, "-m", "check", "--status")
    assert re.search(rf"^toytown +{wanted}$", status, re.M)


def test_nothing_is_copied_that_does_not_exist() -> None:
    for source in copies(Plan("researcher", "cpu")).values():
        assert source.exists(), source


def test_the_data_of_a_module_goes_along() -> None:
    """Toytown's grammar is no Python, and the town is nothing without it."""
    grammar = copies(Plan("beginner", "cpu"))["scratchlm/text/toytown.yaml"]
    assert grammar.read_text(encoding="utf-8").startswith("# The grammar of")
    parts = copies(Plan("researcher", "cpu"))
    for kind in ("js", "html", "css"):
        assert f"scratchlm/serving/browser.{kind}" in parts


def test_a_topic_that_the_record_of_mistakes_lacks_is_named() -> None:
    topic = replace(load().topics[0], id="new_one")
    with pytest.raises(ScaffoldError, match="not know new_one: run python -m"):
        known_marks([topic])
