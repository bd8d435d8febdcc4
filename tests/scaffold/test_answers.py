"""Answers from a file, a folder that is not empty, and the last message."""

import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import tomlkit
import tomllib

from scaffold.__main__ import main
from scaffold.emit import emit
from scaffold.estimate import dollars, estimate
from scaffold.plan import Limits, Plan, budgets, tracks
from scaffold.repository import git
from scaffold.stamp import STAMP, read_stamp
from scaffold.wishes import Wishes
from scratchlm.cli.estimate import duration

BEGINNER = ["--track", "beginner", "--out"]
Capture = pytest.CaptureFixture[str]


def refused(words: list[str], capsys: Capture) -> str:
    """What is said of words that argparse does not take."""
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    return capsys.readouterr().err


def all_of(folder: Path) -> dict[str, bytes]:
    """Every file of a folder but Git's."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and ".git" not in path.parts
    }


# --- answers -----------------------------------------------------------------


def test_a_file_has_the_answers_and_what_is_typed_wins(
    tmp_path: Path,
) -> None:
    answers = tmp_path / "answers.toml"
    answers.write_text(
        'track = "practitioner"\nbudget = "gpu8"\nauthor = "Ada Ü"\n'
        "hourly-usd = 0.5\ngit = false\n",
        encoding="utf-8",
    )
    out = tmp_path / "llm"
    words = ["--out", str(out), f"--answers={answers}", "--author", "Bea"]
    assert main(words) == 0
    said = read_stamp(out).answers
    assert said["track"] == "practitioner"
    assert said["budget"] == "gpu8"
    assert said["author"] == "Bea"
    assert said["hourly_usd"] == 0.5
    assert not (out / ".git").exists()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('trakc = "beginner"\n', "trakc is no answer; there are: track,"),
        ('out = "llm"\n', "out is no answer"),
        ("dry_run = true\n", "dry_run is no answer"),
        ('git = "no"\n', "git cannot be 'no'"),
        ("name = true\n", "name cannot be 'true'"),
        ("[track]\na = 1\n", "track is no answer"),
        ("track = \n", "Invalid value"),
        ('license = "mine"\n', "invalid choice: 'mine'"),
    ],
)
def test_answers_that_are_none_are_refused(
    text: str, why: str, tmp_path: Path, capsys: Capture
) -> None:
    answers = tmp_path / "answers.toml"
    answers.write_text(text, encoding="utf-8")
    words = [*BEGINNER, str(tmp_path / "llm"), "--answers", str(answers)]
    assert why in refused(words, capsys)
    assert list(tmp_path.iterdir()) == [answers]


def test_a_file_that_is_not_there_is_named(
    tmp_path: Path, capsys: Capture
) -> None:
    words = [*BEGINNER, str(tmp_path / "llm"), "--answers", "none.toml"]
    assert "--answers none.toml: " in refused(words, capsys)
    words[-2] = "--answer"  # an abbreviation of which nothing would be read
    assert "write --answers in full" in refused(words, capsys)


def test_a_text_is_looked_for_beside_the_answers(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_bytes(b"So they wrote. " * 20_000)
    answers = tmp_path / "answers.toml"
    answers.write_text('data = "text.txt"\ntrack = "beginner"\n')
    out = tmp_path / "llm"
    assert main([str(out), "--answers", str(answers), "--no-git"]) == 0
    assert read_stamp(out).answers["data"] == "../text.txt"
    again = tmp_path / "deeper" / "again"
    stamp = str(out / ".scaffold.toml")
    assert main([str(again), "--answers", stamp, "--no-git"]) == 0
    assert read_stamp(again).answers["data"] == "../../text.txt"


def test_a_repository_does_not_tell_whose_machine_made_it(
    tmp_path: Path,
) -> None:
    """Nor does it lose its text when both are moved."""
    home = tmp_path / "home" / "ada"
    (home / "my texts").mkdir(parents=True)
    (home / "my texts" / "a.txt").write_bytes(b"So they wrote. " * 20_000)
    out = home / "llm"
    words = [*BEGINNER, str(out), "--no-git"]
    assert main([*words, "--data", str(home / "my texts" / "a.txt")]) == 0
    config = tomllib.loads((out / "config.toml").read_text(encoding="utf-8"))
    assert config["corpus"] == "../my texts/a.txt"
    for name, text in all_of(out).items():
        assert str(tmp_path).encode() not in text, name
    home.rename(tmp_path / "home" / "grace")
    program = tmp_path / "home" / "grace" / "llm" / "train.py"
    said = subprocess.run(  # from a folder that is not its own
        [sys.executable, str(program), "--dry-run", "--device", "cpu"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 0, said.stderr
    assert "tokens" in said.stdout


def test_defaults_are_a_beginners(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "--defaults, which is a beginner's" in refused([], capsys)
    for option in ("-y", "--defaults"):
        words = [f"llm{option}", option, "--no-git", "-q"]
        assert main([*words, "--no-input", "--no-color"]) == 0
        said = read_stamp(tmp_path / f"llm{option}").answers
        assert said["track"] == next(iter(tracks()))
        assert said["budget"] == "cpu"


# --- git ---------------------------------------------------------------------


def test_without_a_commit_all_files_are_added(
    tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "llm"
    assert main([*BEGINNER, str(out), "--no-commit", "--branch", "trunk"]) == 0
    assert f"{len(all_of(out))} files, not committed, for" in (
        capsys.readouterr().out
    )
    assert git(out, "symbolic-ref", "HEAD") == "refs/heads/trunk"
    lines = git(out, "status", "--porcelain").splitlines()
    assert {line[0] for line in lines} == {"A"}
    assert len(lines) == len(all_of(out))


@pytest.mark.parametrize("name", ["a b", "-x", "@{-1}", "a..b", ".a"])
def test_a_branch_that_git_does_not_take_is_refused(
    name: str, tmp_path: Path, capsys: Capture
) -> None:
    words = [*BEGINNER, str(tmp_path / "llm"), f"--branch={name}"]
    assert main(words) == 2
    assert f"--branch {name!r} is no name" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words",
    [
        ["--no-git", "--branch", "trunk"],
        ["--no-git", "--no-commit"],
        ["--no-git", "--reproducible"],
        ["--no-commit", "--reproducible"],
    ],
)
def test_nothing_is_said_of_a_commit_that_is_not_made(
    words: list[str], tmp_path: Path, capsys: Capture
) -> None:
    assert main([*BEGINNER, str(tmp_path / "llm"), *words]) == 2
    assert "leave one of them out" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_another_repository_keeps_its_branches(
    tmp_path: Path, capsys: Capture
) -> None:
    git(tmp_path, "init", "-q")
    words = [*BEGINNER, str(tmp_path / "llm"), "--branch", "trunk"]
    assert main(words) == 2
    assert "leave --branch out" in capsys.readouterr().err
    assert not (tmp_path / "llm").exists()


# --- a folder that holds something -------------------------------------------


@pytest.fixture
def cloned(tmp_path: Path) -> Path:
    """An empty project of somebody's, as a website makes one."""
    out = tmp_path / "clone"
    out.mkdir()
    git(out, "init", "-q", "--initial-branch=theirs")
    git(out, "config", "user.name", "Ada")
    git(out, "config", "user.email", "ada@example.org")
    (out / "README.md").write_text("# Mine\n", encoding="utf-8")
    (out / "paper.txt").write_text("Mine, too.\n", encoding="utf-8")
    git(out, "add", "-A")
    git(out, "commit", "-q", "-m", "Begun")
    return out


def test_by_force_what_is_there_stays(cloned: Path, capsys: Capture) -> None:
    before = all_of(cloned)
    assert main([*BEGINNER, str(cloned)]) == 3
    assert main([*BEGINNER, str(cloned), "--force", "--dry-run"]) == 0
    foreseen = capsys.readouterr().err
    assert all_of(cloned) == before
    assert main([*BEGINNER, str(cloned), "--force"]) == 0
    said = capsys.readouterr()
    taken = "README.md is there and stays; the book's is in README.md.new"
    assert f"note:  {taken}" in said.err
    assert f"note:  {taken}" in foreseen
    now = all_of(cloned)
    assert {name: now[name] for name in before} == before
    assert len(now) > len(before) + 100
    assert git(cloned, "status", "--porcelain") == ""
    assert git(cloned, "symbolic-ref", "--short", "HEAD") == "theirs"
    assert git(cloned, "log", "--format=%s").splitlines()[-1] == "Begun"
    commit = git(cloned, "rev-parse", "--short=7", "HEAD")
    assert f"{len(now)} files, commit {commit}, for" in said.out
    assert main(["diff", str(cloned)]) == 0
    assert ": 0 files would change" in capsys.readouterr().out


def test_by_force_a_folder_becomes_a_repository_of_the_books_files(
    tmp_path: Path, capsys: Capture
) -> None:
    """What its owner has there is not committed for them."""
    out = tmp_path / "llm"
    out.mkdir()
    (out / "secret.txt").write_text("mine", encoding="utf-8")
    assert main([*BEGINNER, str(out), "--force"]) == 0
    assert git(out, "status", "--porcelain") == "?? secret.txt"
    assert (out / "train.py").is_file()


def test_by_force_files_that_the_folder_ignores_come_too(
    cloned: Path, capsys: Capture
) -> None:
    """Their names are the scaffold's, and nobody else's rules are for them."""
    (cloned / ".gitignore").write_text("notes/\n*.toml\n", encoding="utf-8")
    git(cloned, "add", "--all")
    git(cloned, "commit", "-q", "-m", "Rules")
    assert main([*BEGINNER, str(cloned), "--force"]) == 0
    assert git(cloned, "ls-files", "notes", "config.toml").count("\n") > 1
    assert f", commit {git(cloned, 'rev-parse', '--short=7', 'HEAD')}, " in (
        capsys.readouterr().out
    )


@pytest.mark.parametrize(
    ("word", "said"),
    [("--no-commit", "files, not committed, for "), ("--no-git", "files, for")],
)
def test_by_force_the_commit_of_another_is_not_named(
    word: str, said: str, cloned: Path, capsys: Capture
) -> None:
    assert main([*BEGINNER, str(cloned), "--force", word]) == 0
    assert said in capsys.readouterr().out


def test_by_force_the_folder_above_may_be_another_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    """Nothing is written there; the folder itself has to take it all."""
    out = tmp_path / "home"
    out.mkdir()
    (out / "mine.txt").write_text("mine", encoding="utf-8")
    refused = [tmp_path]
    monkeypatch.setattr(
        "scaffold.emit.os.access", lambda path, mode: path not in refused
    )
    assert main([*BEGINNER, str(out), "--force", "--no-git"]) == 0
    (out / ".scaffold.toml").unlink()
    refused[0] = out
    assert main([*BEGINNER, str(out), "--force"]) == 2
    assert f"{out} cannot be written to" in capsys.readouterr().err


def test_by_force_open_changes_and_a_made_one_are_refused(
    cloned: Path, tmp_path: Path, capsys: Capture
) -> None:
    (cloned / "paper.txt").write_text("Mine, changed.\n", encoding="utf-8")
    before = all_of(cloned)
    for words in (["--force"], ["--force", "--dry-run"]):
        assert main([*BEGINNER, str(cloned), *words]) == 3
        assert "commit them first" in capsys.readouterr().err
        words += ["--branch", "trunk"]
        assert main([*BEGINNER, str(cloned), *words]) == 3
        assert "leave --branch out" in capsys.readouterr().err
    assert all_of(cloned) == before
    made = emit(Plan("beginner", "cpu"), tmp_path / "made", Wishes(git=False))
    assert main([*BEGINNER, str(made), "--force"]) == 3
    assert "python -m scaffold update" in capsys.readouterr().err
    file = tmp_path / "file"
    file.write_text("mine", encoding="utf-8")
    assert main([*BEGINNER, str(file), "--force"]) == 3
    assert file.read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("link", ["check", "notes"])
def test_by_force_nothing_is_written_elsewhere(
    link: str, cloned: Path, tmp_path: Path, capsys: Capture
) -> None:
    (tmp_path / "other").mkdir()
    (cloned / link).symlink_to(tmp_path / "other")
    git(cloned, "add", "-A")
    git(cloned, "commit", "-q", "-m", "A link")
    assert main([*BEGINNER, str(cloned), "--force"]) == 3
    assert "leads out of the folder" in capsys.readouterr().err
    assert list((tmp_path / "other").iterdir()) == []


@pytest.mark.parametrize("own", [True, False])
def test_by_force_interrupted_nothing_is_left(
    own: bool, cloned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = cloned
    if not own:
        out = tmp_path / "plain"
        out.mkdir()
        (out / "mine.txt").write_text("mine", encoding="utf-8")

    def interrupted(*words: object) -> None:
        git(out, "init", "-q")
        git(out, "add", "--all")
        signal.raise_signal(signal.SIGTERM)

    before = all_of(out), (out / ".git").exists()
    monkeypatch.setattr("scaffold.join.commit", interrupted)
    assert main([*BEGINNER, str(out), "--force"]) == 130
    assert (all_of(out), (out / ".git").exists()) == before
    assert not (out / "check").exists()
    if own:
        assert git(out, "status", "--porcelain") == ""


# --- the last message --------------------------------------------------------


@pytest.mark.parametrize("track", tracks())
def test_the_last_message_says_what_there_is_and_what_is_next(
    track: str, tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "my llm"
    plan, facts = Plan(track, "gpu8"), budgets()["gpu8"]
    words = ["--track", track, "--budget", "gpu8", "--out", str(out)]
    assert main(words) == 0
    said = capsys.readouterr().out
    commit = git(out, "rev-parse", "--short=7", "HEAD")
    start = f"{out}: {len(all_of(out))} files, commit {commit}, for "
    assert said.startswith(start + facts["title"] + "\n")
    run = estimate(plan.settings, facts, Limits())
    takes = f"{duration(3600 * run.hours)}, {dollars(run.usd)}\n"
    assert f"estimated: {takes}" in said
    assert f"cd {shlex.quote(str(out))}\n" in said
    assert ("python -m check" in said) is (track == "beginner")
    assert ("python train.py --taste" in said) is (track != "beginner")
    assert all(len(x) < 80 for x in said.splitlines() if str(out) not in x)


@pytest.mark.parametrize("words", [["--reproducible"], ["--no-git"], []])
def test_what_is_printed_makes_it_once_more(
    words: list[str], tmp_path: Path, capsys: Capture
) -> None:
    """The same files; and where there is a commit, always the same one."""
    out = tmp_path / "my llm"
    more = ["--author", "Ada Ü", "--hours", "0.5", "--mode", "stubs", *words]
    assert main(["--track", "practitioner", "--out", str(out), *more]) == 0
    found = re.search(
        r"^again: python -m scaffold FOLDER (.+)$",
        capsys.readouterr().out,
        re.M,
    )
    assert found
    twice = []
    for name in ("a", "b"):
        assert main([str(tmp_path / name), *shlex.split(found[1])]) == 0
        made = all_of(tmp_path / name)
        if "--no-git" in words:
            assert not (tmp_path / name / ".git").exists()
        else:
            twice.append(git(tmp_path / name, "rev-parse", "HEAD"))
        first = all_of(out)
        stamps = [tomlkit.parse(x.pop(STAMP).decode()) for x in (made, first)]
        assert made == first
        known, kept = (stamp.unwrap() for stamp in stamps)
        known["answers"].pop("reproducible", None)
        kept["answers"].pop("reproducible", None)
        assert known == kept
    assert len(set(twice)) <= 1
    if "--reproducible" in words:
        assert twice[0] == git(out, "rev-parse", "HEAD")
