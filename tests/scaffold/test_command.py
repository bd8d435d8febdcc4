"""The command `new`: names, licenses, repositories, and how it ends."""

import json
import os
import signal
import socket
import sys
from pathlib import Path

import pexpect
import pytest
import tomlkit

from press.edition import edition
from scaffold.__main__ import main
from scaffold.options import HELP, make_parser
from scaffold.plan import Plan, budgets, tracks
from scaffold.repository import belongs_to, git
from scaffold.stamp import is_managed, managed, read_stamp
from scaffold.wishes import LICENSES, Wishes, license_files

ROOT = Path(__file__).parents[2]
BEGINNER = ["--track", "beginner", "--out"]
AWKWARD = """Ada "Ü" O'Hara {{ name }}"""


def package(folder: Path) -> dict[str, object]:
    text = (folder / "pyproject.toml").read_text(encoding="utf-8")
    return dict(tomlkit.parse(text).unwrap()["project"])


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No network, and nobody who could answer."""

    def refuse(*_: object) -> None:
        raise AssertionError("the scaffold asked for something")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr("builtins.input", refuse)
    monkeypatch.setattr("sys.stdin", None)


@pytest.mark.usefixtures("offline")
def test_names_are_taken_as_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / """my "model's" träck; $HOME"""
    words = ["new", *BEGINNER, str(out), "--name", 'A "fine" `model`']
    assert main([*words, "--author", AWKWARD]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"{out}: ")
    readme = (out / "README.md").read_text(encoding="utf-8")
    assert readme.splitlines()[0] == '# A "fine" `model`'
    assert package(out)["name"] == "a-fine-model"
    assert package(out)["authors"] == [{"name": AWKWARD}]
    assert git(out, "log", "--format=%an") == AWKWARD
    notice = (out / "LICENSE").read_text(encoding="utf-8")
    assert notice.startswith("MIT License")
    assert f"Copyright (c) {AWKWARD}\n" in notice
    said = read_stamp(out).answers
    assert said["author"] == AWKWARD
    assert (out / ".git").is_dir()


@pytest.mark.parametrize("option", ["--name", "--author"])
@pytest.mark.parametrize("value", ["two\nlines", "   ", "a\x7fb", "\udcff"])
def test_a_name_that_no_line_can_hold_is_refused(
    option: str,
    value: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([*BEGINNER, str(tmp_path / "llm"), option, value]) == 2
    assert f"{option} " in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", LICENSES)
def test_the_book_keeps_its_notice_under_any_license(name: str) -> None:
    """The license of its files asks for that."""
    files = license_files(Wishes(license=name))
    book = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert book in files.values()
    assert ("LICENSE" in files) is (name != "none")
    if name == "Apache-2.0":
        assert "Version 2.0, January 2004" in files["LICENSE"]
        assert files["LICENSE"].rstrip().endswith("under the License.")


@pytest.mark.parametrize("name", ["Apache-2.0", "none"])
def test_package_and_card_say_which_license(name: str, tmp_path: Path) -> None:
    out = tmp_path / "llm"
    assert main([*BEGINNER, str(out), "--license", name, "--no-git"]) == 0
    assert package(out).get("license", "") == LICENSES[name]
    card = (out / "card.yml").read_text(encoding="utf-8")
    line = "license: Apache-2.0\n" if name != "none" else "license:\n"
    assert card.count(f"  {line}") == 1
    assert (out / "LICENSE-scratchlm").is_file()
    assert not (out / ".git").exists()


def test_without_git_none_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    assert main([*BEGINNER, str(tmp_path / "llm"), "--no-git"]) == 0
    assert not (tmp_path / "llm" / ".git").exists()


def other_git(folder: Path) -> Path:
    """Settings of somebody else's, each of which would change a commit."""
    path = folder / "gitconfig"
    (folder / "ignored").write_text("*.py\nREADME.md\n", encoding="utf-8")
    lines = [
        "[user]",
        "name = Somebody",
        "email = somebody@example.org",
        "[core]",
        "autocrlf = true",
        f"excludesFile = {folder / 'ignored'}",
        "[commit]",
        "gpgSign = true",
        "[i18n]",
        "commitEncoding = latin-1",
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_the_same_commit_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    words = ["--author", "Ada Ü", "--reproducible"]
    for place, zone in (("a", "UTC"), ("b/c", "Asia/Tokyo")):
        out = tmp_path / place / "llm"
        assert main([*BEGINNER, str(out), *words]) == 0
        found.append(git(out, "rev-parse", "HEAD"))
        assert git(out, "log", "--format=%at %ct") == " ".join(
            [str(edition().epoch)] * 2
        )
        assert git(out, "status", "--porcelain") == ""
        monkeypatch.setenv("TZ", zone)
        monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(other_git(tmp_path)))
        monkeypatch.setenv("GIT_DEFAULT_HASH", "sha256")
    assert found[0] == found[1]
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000000000")
    out = tmp_path / "d" / "llm"
    assert main([*BEGINNER, str(out), *words]) == 0
    assert git(out, "log", "--format=%at %ct") == "1000000000 1000000000"
    assert git(out, "log", "--format=%T") == git(
        tmp_path / "a" / "llm", "log", "--format=%T"
    )
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1")  # of few digits
    out = tmp_path / "e" / "llm"
    assert main([*BEGINNER, str(out), "--reproducible"]) == 0
    assert git(out, "log", "--format=%at %ct") == "1 1"
    # Somebody, whom the settings name, is the author of all that follows.
    git(out, "commit", "-q", "--allow-empty", "--no-gpg-sign", "-m", "Mine")
    found = git(out, "log", "--format=%an %ae").splitlines()
    assert found == [
        "Somebody somebody@example.org",
        "scratchlm scaffold scaffold@example.invalid",
    ]


def test_a_time_that_is_none_is_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    words = [*BEGINNER, str(tmp_path / "llm"), "--reproducible"]
    assert main(words) == 2
    assert "SOURCE_DATE_EPOCH is 'yesterday'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("below", ["llm", "new/folder/llm"])
def test_no_repository_is_made_in_another(
    below: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    git(tmp_path, "init", "-q")
    out = tmp_path / below
    assert main([*BEGINNER, str(out)]) == 0
    said = capsys.readouterr().err
    assert f"inside the Git repository {tmp_path}" in said
    assert not (out / ".git").exists()
    assert (out / "README.md").is_file()


def test_a_folder_that_the_other_ignores_is_free(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / ".gitignore").write_text("_build/\n", encoding="utf-8")
    for out in (tmp_path / "_build", tmp_path / "_build" / "llm"):
        assert belongs_to(out) is None
    assert main([*BEGINNER, str(out)]) == 0
    assert (out / ".git").is_dir()


@pytest.mark.parametrize("how", ["keys", "SIGTERM", "SIGHUP"])
def test_an_interruption_leaves_nothing(
    how: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Also none of the folders that had to be made for it."""

    def interrupted(*_: object) -> None:
        assert [p.name[:5] for p in tmp_path.iterdir()] == [".llm."]
        if how != "keys":
            os.kill(os.getpid(), getattr(signal, how))
        raise KeyboardInterrupt

    numbers = signal.SIGTERM, signal.SIGHUP
    before = [signal.getsignal(number) for number in numbers]
    monkeypatch.setattr("scaffold.emit.commit", interrupted)
    assert main([*BEGINNER, str(tmp_path / "a" / "b" / "llm")]) == 130
    assert "interrupted" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    assert [signal.getsignal(number) for number in numbers] == before


def test_a_hang_up_that_is_ignored_interrupts_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As under `nohup`, which is there for that."""

    def hang_up(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGHUP)

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        monkeypatch.setattr("scaffold.emit.commit", hang_up)
        assert main([*BEGINNER, str(tmp_path / "llm")]) == 0
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
    assert (tmp_path / "llm" / "README.md").is_file()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(28, "No space left on device"), "No space left on device"),
        (OSError(28, "No space", "a/b"), "a/b: No space"),
        (OSError("odd"), "odd"),
    ],
)
def test_an_error_of_the_disk_is_one_sentence(
    error: OSError,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(_: object) -> int:
        raise error

    monkeypatch.setattr("scaffold.__main__.carry_out", fail)
    assert main(["list"]) == 2
    assert capsys.readouterr().err == f"error: {said}\n"


def test_the_destination_is_looked_at_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not after a long text was read."""
    (tmp_path / "mine.txt").write_text("x", encoding="utf-8")
    monkeypatch.setattr("scaffold.new.Plan", lambda *_: 1 / 0)
    assert main([*BEGINNER, str(tmp_path)]) == 3


def test_a_dry_run_writes_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["--track", "beginner", "--hours", "0.02", "--dry-run"]
    assert main([*words, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert main(words) == 0
    printed = capsys.readouterr()
    assert list(tmp_path.iterdir()) == []
    assert main([*words[:-1], "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    out = tmp_path / "llm-beginner"
    assert said["out"] == str(out)
    there = {
        path.relative_to(out).as_posix(): path.stat().st_size
        for path in out.rglob("*")
        if path.is_file() and ".git" not in path.parts
    }
    assert said["files"] == there
    assert said["bytes"] == sum(there.values())
    config = (out / "config.toml").read_text(encoding="utf-8")
    assert said["config"] == tomlkit.parse(config).unwrap()
    assert said["answers"] == read_stamp(out).answers
    assert said["estimate"]["estimated"] is True
    assert f"{len(there)} files" in printed.out
    assert [f"note:  {n}" for n in said["notes"]] == printed.err.splitlines()
    assert len(said["notes"]) == 1


def test_json_is_of_a_dry_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*BEGINNER, str(tmp_path / "llm"), "--json"]) == 2
    assert "--dry-run" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_stamp_knows_the_edition_and_every_managed_file(
    tmp_path: Path,
) -> None:
    out = tmp_path / "llm"
    words = ["--start", "2026-12-01", "--budget", "gpu8", "--hourly-usd", "0"]
    assert main([*BEGINNER, str(out), *words]) == 0
    found = read_stamp(out)
    assert found.book["version"] == edition().version
    assert found.answers == {
        "track": "beginner",
        "budget": "gpu8",
        "start": "2026-12-01",
        "hourly_usd": 0.0,
        "name": "llm",
    }
    assert found.managed == managed(out)
    assert found.plan == Plan("beginner", "gpu8", start="2026-12-01")
    for name in ("train.py", "check/mine.py", "compliance/card.py"):
        assert name in found.managed
    for name in ("README.md", "config.toml", "scratchlm/text/bpe.py"):
        assert not is_managed(name)


@pytest.mark.parametrize("command", ["", *HELP])
def test_help_teaches(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*command.split(), "--help"])
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    assert "python -m scaffold" in printed
    assert all(len(line.encode()) <= 100 for line in printed.splitlines())
    if command in ("", "new", "list", "estimate"):
        assert all(name in printed for name in (*tracks(), *budgets()))
    if not command:
        assert all(text in printed for text in HELP)


def test_options_without_a_command_are_those_of_new() -> None:
    words = ["--track", "beginner", "--out", "list"]
    bare, named = (
        make_parser().parse_args(w) for w in (words, ["new", *words])
    )
    assert bare == named
    assert bare.command == "new"
    assert bare.out == Path("list")


@pytest.mark.parametrize(
    "words",
    [
        ["my-model", "--track", "beginner"],
        ["--track", "beginner", "my-model"],
        ["--track", "beginner", "my-model", "--no-git"],
        ["new", "my-model", "--track", "beginner"],
        ["new", "--track", "beginner", "my-model"],
    ],
)
def test_a_folder_needs_no_option(words: list[str]) -> None:
    options = make_parser().parse_args(words)
    assert options.dest == Path("my-model")
    assert options.out is None


def test_it_is_made_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["my-model", "--track", "practitioner", "-q", "--no-git"]) == 0
    assert (tmp_path / "my-model" / "train.py").exists()


def test_two_folders_are_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for words in (["a", *BEGINNER, "b"], ["a", *BEGINNER, "a"]):
        assert main(words) == 2
        error = capsys.readouterr().err
        assert "both name the folder" in error
        assert error.count("\n") == 1
    with pytest.raises(SystemExit) as ended:
        main(["a", "b", "--track", "beginner"])
    assert ended.value.code == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("slip", ["updaet", "estimat", "lst", "doctr"])
def test_a_slip_of_the_pen_makes_no_folder(
    slip: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main([slip, "--track", "beginner"])
    assert ended.value.code == 2
    assert f"no command {slip!r}; " in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    named = make_parser().parse_args([f"./{slip}", "--track", "beginner"])
    assert named.dest == Path(slip)


@pytest.mark.parametrize("words", [[], ["new"]])
def test_it_knows_its_version(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*words, "--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"{edition().words}\n"


@pytest.mark.parametrize("said", ["1", ""])
def test_a_terminal_gets_no_color(said: str, tmp_path: Path) -> None:
    """Neither with NO_COLOR nor without it: nothing here needs one."""
    for words, code in (
        ("--help", 0),
        ("list", 0),
        ("--track expert", 2),
        ("--track beginner --budget gpu8 --dry-run", 0),
    ):
        shell = pexpect.spawn(
            sys.executable,
            ["-m", "scaffold", *words.split()],
            cwd=str(ROOT),
            encoding="utf-8",
            timeout=200,
            env=os.environ | {"NO_COLOR": said, "TERM": "xterm-256color"},
        )
        shell.expect(pexpect.EOF)
        shell.close()
        assert shell.exitstatus == code
        assert len(shell.before or "") > 20
        assert "\x1b" not in (shell.before or "")
