"""The frame: help that teaches, errors that help, and quiet ends."""

import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cyclopts import CycloptsError

from scratchlm.cli import app as cli
from scratchlm.cli import errors, signals
from scratchlm.cli.presets import PRESETS
from scratchlm.text.files import entry, write_seal

COMMANDS = (
    "corpus get",
    "corpus toytown",
    "corpus filter",
    "corpus prepare",
    "corpus shards",
    "tokenizer train",
    "tokenizer encode",
    "tokenizer export",
    "train",
    "sample",
    "evaluate",
    "compare",
    "quantize",
    "export",
    "import",
    "chat",
    "serve",
    "page",
    "doctor",
)


def help_of(words: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What a command's help says."""
    assert cli.main([*words.split(), "--help"]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS)
def test_help_teaches(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = help_of(command, capsys)
    about, example = text.split("Example:")
    assert f"\n  python -m scratchlm {command}" in example
    assert re.search(r"\n(Next|Book): ", example)
    for name, purpose in re.findall(r"^ (--\S+)(.*)$", about, re.M):
        assert re.search(r" +[a-z].*[a-z]", purpose), name
    assert max(map(len, text.splitlines())) <= 80


def test_the_list_of_commands_has_all_of_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lists = [help_of(words, capsys) for words in ("", "corpus", "tokenizer")]
    for command in COMMANDS:
        assert any(f"\n {command.split()[-1]} " in text for text in lists)


def test_without_a_command_help_is_shown(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main([]) == 0
    assert "Begin with:" in capsys.readouterr().out


def test_examples_in_the_help_are_understood(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    asked = {"model": PRESETS["small"], "training": {}, "data": {}}
    for name in ("data/tokenizer.json", "runs/first/config.json"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(json.dumps(asked))
    run = tmp_path / "runs/first"
    write_seal(run, {"config.json": entry(run / "config.json")})
    app, found = cli.make_app(), 0
    for command in COMMANDS:
        text = help_of(command, capsys).split("Example:")[1]
        text = text.replace("\\\n", " ")
        for line in re.findall(r"python -m scratchlm (.*)$", text, re.M):
            app.parse_args(
                shlex.split(line), exit_on_error=False, print_error=False
            )
            found += 1
    assert found >= 20


def test_help_of_the_whole_does_not_import_torch() -> None:
    code = (
        "import sys; from scratchlm.cli.app import main; main(['--help']); "
        "print([m for m in ('torch', 'numpy', 'yaml') if m in sys.modules])"
    )
    out = python("-c", code).stdout
    assert out.endswith("[]\n")
    assert "Train a model, from nothing." in out


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    words = r"\d+\.\d+\.\d+|run from its folder, not installed"
    assert re.fullmatch(rf"({words})\n", capsys.readouterr().out)


def test_a_missing_function_is_a_bug() -> None:
    with pytest.raises(LookupError, match="no function fly"):
        cli.teaching("scratchlm.cli.train", "fly")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fly"], "fly"),
        (["trai"], "train"),
        (["train", "--stepz", "5"], "--steps"),
        (["train", "--steps", "many"], "--steps"),
        (["train", "--steps", "0"], "steps"),
        (["train", "--steps", "1.5"], "--steps 1.5: choose a whole number"),
        (["sample", "--tokens", "2.5"], "--tokens 2.5: choose a whole number"),
        (["train", "--patience", "nan"], "--patience nan: choose a whole"),
        (["train", "--steps", "9" * 20], "choose a whole number below 2^63"),
        (["tokenizer", "export", "--out", ""], "--out is empty"),
        (["compare", ""], "is empty: it needs a folder or file"),
        (["tokenizer", "train", "a.txt", "--kind", "words"], "words"),
        (["corpus", "prepare", "notes.txt"], "--out"),
    ],
)
def test_arguments_are_checked(
    arguments: list[str], message: str, fails: Callable[[list[str]], str]
) -> None:
    error = fails(arguments)
    assert message in error
    ours = re.search("^error: steps|choose a whole|is empty", error)
    if not ours and len(arguments) > 1:  # the parser's own
        assert f"Try: python -m scratchlm {arguments[0]}" in error


# --- how commands end --------------------------------------------------------


def ending(error: BaseException, monkeypatch: Any) -> int:
    """The exit code after a command that raises this."""

    def parse(app: Any, words: list[str]) -> Callable[[], None]:
        def command() -> None:
            raise error

        return command

    monkeypatch.setattr(cli, "parse", parse)
    return cli.main(["train"])


@pytest.mark.always
def test_bugs_keep_their_traceback(monkeypatch: Any) -> None:
    for kind in (ValueError, KeyError, ImportError, RuntimeError):
        with pytest.raises(kind, match="a bug"):
            ending(kind("a bug"), monkeypatch)


def test_what_can_be_mended_is_a_sentence(
    monkeypatch: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    from scratchlm.training.checkpoint import CheckpointError
    from scratchlm.training.trainer import NonFiniteLoss

    for kind in (errors.UserError, CheckpointError, NonFiniteLoss):
        assert ending(kind("a sentence"), monkeypatch) == 2
        assert capsys.readouterr().err == "error: a sentence\n"


def test_the_system_speaks_in_sentences(
    monkeypatch: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    refused = PermissionError(13, "Permission denied", "runs/a")
    assert ending(refused, monkeypatch) == 2
    taken = FileExistsError(17, "File exists", "file")
    assert ending(taken, monkeypatch) == 2
    full = OSError(28, "No space left on device", "runs/a/log.jsonl")
    assert ending(full, monkeypatch) == 2
    said = capsys.readouterr().err
    assert "runs/a: permission denied; name" in said
    assert "runs/a/log.jsonl: the disk is full; free" in said
    assert "Errno" not in said
    assert errors.from_system(ConnectionError("no way")) == "no way"


@pytest.mark.always
def test_ctrl_c_is_one_line(
    monkeypatch: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ending(KeyboardInterrupt(), monkeypatch) == 130
    assert ending(KeyboardInterrupt("all is saved"), monkeypatch) == 130
    assert capsys.readouterr().err == "\nstopped\n\nall is saved\n"


def test_only_the_users_values_are_the_users_mistakes() -> None:
    with (
        pytest.raises(errors.UserError, match="three"),
        errors.users_input(),
    ):
        raise ValueError("three")
    with pytest.raises(KeyError), errors.users_input():
        raise KeyError("three")


# --- as a program ------------------------------------------------------------


def python(*words: str, **settings: Any) -> subprocess.CompletedProcess[str]:
    """Run Python with the library, and wait."""
    environment = {**os.environ, **settings.pop("env", {})}
    return subprocess.run(
        [sys.executable, *words],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        **settings,
    )


def test_letters_that_the_output_cannot_take(monkeypatch: Any) -> None:
    narrow = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", narrow)
    monkeypatch.setattr(sys, "stderr", object())
    cli.tolerate_any_encoding()
    print("a dash – and more", flush=True)
    assert narrow.buffer.getvalue() == b"a dash \\u2013 and more\n"  # type: ignore[attr-defined]


def test_a_closed_pipe_is_no_error(tmp_path: Path) -> None:
    command = f"{shlex.quote(sys.executable)} -m scratchlm --help | true"
    done = subprocess.run(
        ["bash", "-c", f"{command}; echo ${{PIPESTATUS[0]}} >&2"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr.strip() in ("0", "141")


@pytest.mark.parametrize("package", ["cyclopts", "torch"])
def test_a_package_that_is_not_installed(package: str) -> None:
    code = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "sys.argv = ['scratchlm', 'doctor']\n"
        "import runpy; runpy.run_module('scratchlm', run_name='__main__')"
    )
    done = python("-c", code)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {package} is not installed for /")


def test_a_module_of_ours_that_is_missing_is_a_bug() -> None:
    error = ModuleNotFoundError("no module", name="scratchlm.cli.flight")
    with pytest.raises(ModuleNotFoundError):
        errors.missing(error)


def test_without_any_output_a_command_ends_well(monkeypatch: Any) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    assert cli.main(["corpus", "toytown", "--characters", "1"]) == 0


@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_into_a_narrow_terminal(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    lines = help_of(command, capsys).split("Example:")[0].splitlines()
    assert max(map(len, lines)) <= 60


@pytest.mark.always
def test_the_reader_goes_away(monkeypatch: Any, tmp_path: Path) -> None:
    with open(tmp_path / "out", "w") as file:
        monkeypatch.setattr(sys, "stdout", file)
        assert ending(BrokenPipeError(), monkeypatch) == 141
        rich = SystemExit(1)
        rich.__context__ = BrokenPipeError()
        assert ending(rich, monkeypatch) == 141
        with pytest.raises(SystemExit):
            ending(SystemExit(3), monkeypatch)


def test_ctrl_c_while_modules_are_imported(tmp_path: Path) -> None:
    code = (
        "import os, signal; from scratchlm.cli import signals\n"
        "assert 'cyclopts' not in __import__('sys').modules\n"
        "with signals.stopping_at_once():\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    import time; time.sleep(60)\n"
    )
    start = time.monotonic()
    done = python("-c", code)
    assert done.returncode == 130
    assert done.stderr == "\nstopped; nothing was begun\n"
    assert time.monotonic() - start < 50


def test_signals_are_as_before_when_a_command_is_known() -> None:
    before = signal.getsignal(signal.SIGINT)
    with signals.stopping_at_once():
        assert signal.getsignal(signal.SIGINT) is signals.stop_at_once
    assert signal.getsignal(signal.SIGINT) is before


def test_mistakes_of_the_frame_are_known_to_the_library() -> None:
    assert issubclass(CycloptsError, Exception)
    assert not issubclass(errors.UserError, ValueError)
