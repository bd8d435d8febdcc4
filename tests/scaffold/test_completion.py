"""What a shell completes is what the parser knows: shells say so themselves."""

import subprocess
from pathlib import Path

import pexpect
import pytest

from scaffold.__main__ import main
from scaffold.completion import bash, commands, fish, named, zsh
from scaffold.options import HELP, SHELLS, make_parser
from scaffold.plan import budgets, tracks

ROOT = Path(__file__).parents[2]
BEGIN = ("python", "-m", "scaffold")


def completed(*words: str) -> set[str]:
    """What bash offers for the last of the words after the program's."""
    line = (*BEGIN, *words)
    asked = " ".join(f"'{word}'" for word in line)
    script = (
        f"{bash()}\nCOMP_WORDS=({asked})\nCOMP_CWORD={len(line) - 1}\n"
        "_scaffold\nprintf '%s\\n' \"${COMPREPLY[@]}\"\n"
    )
    done = subprocess.run(
        ["bash", "--norc", "-eu"],
        input=script,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ([""], set(HELP)),
        (["up"], {"update"}),
        (["--track", ""], set(tracks())),
        (["new", "--track", "re"], {"researcher"}),
        (["--track", "beginner", "--budget", ""], set(budgets())),
        (["estimate", "--budget", "gpu"], {"gpu8", "gpu24"}),
        (["--license", "M"], {"MIT"}),
        (["completion", ""], set(SHELLS)),
        (["completion", "z"], {"zsh"}),
        (["list", "--j"], {"--json"}),
        (["list", ""], {"-h", "--help", "--json"}),
        (["--au"], {"--author"}),
        (["new", "--dry"], {"--dry-run"}),
        (["estimate", "--dry"], set()),
        (["--out", ""], set()),  # a path: bash's own
        (["update", ""], set()),
        (["--hours", ""], set()),
    ],
)
def test_bash_completes(words: list[str], offered: set[str]) -> None:
    assert completed(*words) == offered


def asked_of_fish(words: str) -> set[str]:
    """What fish offers behind some words."""
    asked = f"complete -C 'python -m scaffold {words}'"
    done = subprocess.run(
        ["fish", "--no-config"],
        input=f"{fish()}\n{asked}\n",
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return {line.split("\t")[0] for line in done.stdout.splitlines()}


@pytest.mark.judge
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("up", {"update"}),
        ("--track ", set(tracks())),
        ("new --track re", {"researcher"}),
        ("--mode s", {"stubs", "solutions"}),
        ("estimate --budget gpu", {"gpu8", "gpu24"}),
        ("completion ", set(SHELLS)),
        ("list --j", {"--json"}),
        ("list ", set()),
        ("estimate --dry", set()),
        ("--out scaf", {"scaffold/"}),
        ("update scaf", {"scaffold/"}),
    ],
)
def test_fish_completes(words: str, offered: set[str]) -> None:
    assert asked_of_fish(words) == offered


@pytest.mark.judge
def test_fish_offers_commands_and_places_for_a_new_repository() -> None:
    offered = asked_of_fish("")
    assert offered >= set(HELP)
    assert all((ROOT / name).exists() for name in offered - set(HELP))


@pytest.mark.judge
@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("up", "update"),
        ("new --track re", "researcher"),
        ("--mode so", "solutions"),
        ("estimate --budget gpu2", "gpu24"),
        ("completion z", "zsh"),
        ("list --j", "--json"),
        ("--au", "--author"),
        ("--out scaf", "scaffold/"),
    ],
)
def test_zsh_completes(typed: str, completed: str, tmp_path: Path) -> None:
    """A shell at a terminal, in which the tabulator is pressed."""
    script = tmp_path / "scaffold.zsh"
    script.write_text(zsh(), encoding="utf-8")
    shell = pexpect.spawn(
        "zsh",
        ["-f", "-i"],
        encoding="utf-8",
        timeout=60,
        cwd=str(ROOT),
        dimensions=(40, 200),
        env={"TERM": "dumb", "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
    )
    shell.sendline(
        "PS1=@; autoload -Uz compinit; compinit -u -D; "
        f"source {script}; print re''ady"
    )
    shell.expect("ready\r\n")
    shell.expect("@")
    shell.send(f"python -m scaffold {typed}\t")
    word = typed.split()[-1]
    shell.expect_exact(word)
    shell.expect_exact(completed.removeprefix(word))
    shell.close(force=True)


def test_bash_leaves_other_programs_alone() -> None:
    script = f"{bash()}\nCOMP_WORDS=(python -m pytest -)\nCOMP_CWORD=3\n"
    script += "_scaffold || true\necho ${#COMPREPLY[@]}\n"
    script += "complete -p python\n"
    done = subprocess.run(
        ["bash", "--norc"],
        input=script,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[0] == "0"
    assert "default" in done.stdout.splitlines()[1]


def test_every_option_of_the_parser_is_in_every_script() -> None:
    found = commands()
    assert list(found) == list(HELP)
    for command, options in found.items():
        names = named(options)
        assert "--help" in names
        for name in (n for n in names if n.startswith("--")):
            assert completed(command, name) >= {name}
            assert f"{name} " in zsh() or f"{name}\n" in zsh()
            assert f"'__scaffold_command {command}' -l {name[2:]}" in fish()
    new = {name for name in named(found["new"]) if name.startswith("--")}
    assert set(completed("--")) == new
    assert make_parser().parse_args(["list"]).command == "list"


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_is_printed(
    shell: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["completion", shell]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"# Completes `python -m scaffold` in {shell}")
    assert main(["completion", shell]) == 0
    assert capsys.readouterr().out == printed


def test_another_shell_is_refused() -> None:
    with pytest.raises(SystemExit) as ended:
        main(["completion", "tcsh"])
    assert ended.value.code == 2
