"""The projects of the guide: each command makes what its project needs."""

import re
import shlex
from pathlib import Path

import pytest
import tomlkit

from scaffold.__main__ import main, make_parser
from scaffold.plan import Plan, ScaffoldError
from scratchlm.cli.app import main as scratchlm

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "book" / "guide" / "projects.md"
PROJECT = re.compile(r"^## (.+?)$(.*?)(?=^## |\Z)", re.M | re.S)
BLOCK = re.compile(r"^```sh\n(.*?)^```", re.M | re.S)
SCAFFOLD = "python -m scaffold "


def projects() -> dict[str, str]:
    """Each project's text, by its title."""
    text = PAGE.read_text(encoding="utf-8")
    return {t: body for t, body in PROJECT.findall(text) if BLOCK.search(body)}


def command(body: str) -> list[str]:
    """The options of the scaffold's command in a project."""
    lines = "".join(BLOCK.findall(body)).splitlines()
    (line,) = [x for x in lines if x.startswith(SCAFFOLD)]
    return shlex.split(line.removeprefix(SCAFFOLD))


def a_text(name: str) -> str:
    """Something of the kind that a project has, long enough to train on."""
    if name.endswith(".abc"):
        return "gbg2g|f2gfef|c3A3|\n" * 3000
    if name == "code.txt":
        files = sorted((ROOT / "src" / "scratchlm" / "text").glob("*.py"))
        return "".join(path.read_text(encoding="utf-8") for path in files)
    return "So de baka counted de loaves in de yard.\n\n" * 3000


def test_there_are_six_and_each_says_what_would_refute_it() -> None:
    found = projects()
    assert len(found) == 6
    for title, body in found.items():
        for words in ("**The question.**", "**It takes**", "refuted"):
            assert words in body, f"{title} lacks {words}"
        assert re.search(r"\*\*The first experiment", body), title
        assert re.search(r"\*\*The trap", body), title
        assert "{cite" in body, title


@pytest.mark.parametrize("title", projects())
def test_its_track_has_the_topics_that_it_takes(title: str) -> None:
    body = projects()[title]
    takes = body[body.index("**It takes**") : body.index("```sh")]
    options = make_parser().parse_args(command(body))
    topics = {topic.id for topic in Plan(options.track, options.budget).topics}
    named = set(re.findall(r"\{ref\}`(\w+)`", takes))
    assert named
    assert named <= topics


@pytest.mark.parametrize("title", projects())
def test_its_command_makes_a_repository_that_could_train(
    title: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = command(projects()[title])
    options = make_parser().parse_args(words)
    if options.data:
        options.data.write_text(a_text(options.data.name), encoding="utf-8")
    assert main(words) == 0
    text = (options.out / "config.toml").read_text(encoding="utf-8")
    settings = tomlkit.parse(text).unwrap()
    assert settings["steps"] >= 20
    if options.data:
        found = options.out / settings["corpus"]
        assert found.resolve() == options.data.resolve()
    assert (options.out / "train.py").exists()
    assert (options.out / ".git").is_dir()


def test_a_text_that_is_not_there_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ScaffoldError, match=r"village\.txt is no text"):
        Plan("practitioner", "cpu", Path("village.txt"))


@pytest.mark.parametrize("kind", ["bpe", "characters"])
def test_a_dry_run_writes_nothing(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a project tries first; tunes are read by the letter."""
    monkeypatch.chdir(tmp_path)
    Path("tunes.abc").write_text(a_text("tunes.abc"), encoding="utf-8")
    words = f"train --corpus tunes.abc --preset tiny --tokenizer {kind}"
    assert scratchlm([*words.split(), "--dry-run"]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["tunes.abc"]
