"""A repository with holes: cut from the book, green, filled piece by piece."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from check import holes as holes_of
from check.closing import code_lines
from check.commands import main as check
from check.holes import unwritten
from check.parts import banner, next_files
from check.places import Site
from press.roadmap import Topic, load
from scaffold import holes
from scaffold.__main__ import main
from scaffold.emit import emit
from scaffold.holes import LONGEST, body, chosen, described, dug, fill
from scaffold.plan import Plan, ScaffoldError

ROOT = Path(__file__).parents[2]
TOPICS = load().topics
SCALE = "scores / math.sqrt(q.shape[-1])"


def source(topic: Topic) -> str:
    """The module as the book prints it."""
    return (ROOT / topic.files["module"]).read_text(encoding="utf-8")


def solve(site: Site, name: str, old: str = "", new: str = "") -> None:
    """Fill a hole from the book, with `old` made `new`."""
    topic = site.topics[name]
    path, book = site.path(topic), site.reference / topic.file
    lines = body(book.read_text(encoding="utf-8"), topic.hole)
    text = "\n".join(lines)
    assert not old or text.count(old) == 1
    lines = (text.replace(old, new) if old else text).splitlines()
    text = fill(path.read_text(encoding="utf-8"), topic.hole, lines)
    path.write_text(text, encoding="utf-8")


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run Python in the folder, seeing nothing of this repository."""
    hidden = ("PYTHON", "COVERAGE", "PYTEST")
    clean = {k: v for k, v in os.environ.items() if not k.startswith(hidden)}
    return subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=clean | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A beginner's repository, as it is made."""
    return Site(emit(Plan("beginner", "cpu"), tmp_path / "llm"))


def test_every_topic_has_its_hole() -> None:
    assert list(chosen()) == [topic.id for topic in TOPICS]


@pytest.mark.parametrize("topic", TOPICS, ids=lambda t: t.id)
def test_a_hole_is_cut_from_the_book(topic: Topic) -> None:
    name, book = chosen()[topic.id], source(topic)
    text = dug(topic, book)
    count = len(code_lines("\n".join(body(book, name))))
    assert 1 < count <= LONGEST
    assert unwritten(text, book) == (name,)
    assert fill(text, name, body(book, name)) == book
    hole = body(text, name)
    assert f"# Yours to write; the book takes {count} lines." in hole[0]
    assert re.match(r" +# 1\. \S", hole[1]), hole
    assert len("\n".join(hole).encode()) < 4000
    assert all(len(line.encode()) <= 80 for line in hole)
    said = re.sub(r'"\s+"', "", "".join(hole))
    assert f'"{topic.id}: {name} is yours to write; read the chapter' in said
    assert f'with: python -m check {topic.id}"' in said
    compile(text, topic.id, "exec")


def test_the_steps_lead_to_the_function_and_name_the_shapes() -> None:
    (topic,) = (t for t in TOPICS if t.id == "attention")
    text = "\n".join(body(dug(topic, source(topic)), "attention_weights"))
    assert "# 1. Score each query with each key" in text
    assert "# Shapes in the book: scores (..., Tq, Tk)\n" in text
    said = " ".join(text.replace('"', " ").split())
    assert "section 'Nine lines'" in said


@pytest.mark.parametrize("topic", TOPICS, ids=lambda t: t.id)
def test_steps_use_names_of_the_module_and_say_what_is_new(
    topic: Topic,
) -> None:
    hole, book = described()[topic.id], source(topic)
    assert set(hole) == {"function", "steps"}
    assert 2 <= len(hole["steps"]) <= 5
    names = set(re.findall(r"\w+", "\n".join(body(book, hole["function"]))))
    names |= set(re.findall(r"\w+", book.split(hole["function"])[-1][:400]))
    docstring = " ".join(book.split())
    for step in hole["steps"]:
        for code in re.findall(r"`([^`]+)`", step):
            assert set(re.findall(r"\w+", code)) <= names, (code, step)
        assert step.endswith((".", "?"))
        assert step not in docstring


def test_a_hole_that_cannot_be_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    (topic,) = (t for t in TOPICS if t.id == "trainer")
    for name, why in (("gone", "no function gone"), ("train", "has 1")):
        hole = {"trainer": {"function": name, "steps": ["Write it."]}}
        monkeypatch.setattr(holes, "described", lambda hole=hole: hole)
        text = source(topic)
        if name == "train":
            text += 'def train():\n    "Long."\n' + "    print()\n" * 13
        with pytest.raises(ScaffoldError, match=why):
            dug(topic, text)


def test_a_mode_is_the_tracks_unless_it_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for track, stubs in (
        ("beginner", True),
        ("practitioner", False),
        ("researcher", False),
    ):
        assert Plan(track, "cpu").stubs is stubs
        assert Plan(track, "cpu", mode="stubs").stubs
        assert not Plan(track, "cpu", mode="solutions").stubs
    words = ["--track", "beginner", "--out", str(tmp_path / "llm")]
    assert main([*words, "--mode", "holes"]) == 2
    assert "no mode 'holes'; there are: stubs" in capsys.readouterr().err
    assert main([*words, "--mode", "solutions"]) == 0
    assert banner(tmp_path / "llm") == []
    assert "Two files" not in (tmp_path / "llm" / "README.md").read_text()


def test_a_fresh_one_is_green(site: Site) -> None:
    """Its tests run on the book's modules, which stand in."""
    tests = ("model/test_attention.py", "text/test_bpe.py")
    done = run(site.root, "-m", "pytest", *(f"tests/{x}" for x in tests))
    assert done.returncode == 0, done.stdout[-2000:]
    assert re.search(r"\d{2} passed", done.stdout)
    done = run(site.root, "-m", "check", "--status")
    assert done.returncode == 0
    states = dict(line.split() for line in done.stdout.splitlines()[:-1])
    assert states == dict.fromkeys(site.topics, "todo")
    command = ["git", "status", "--porcelain"]
    assert subprocess.check_output(command, cwd=site.root) == b""


def test_a_command_uses_what_stands_in(site: Site) -> None:
    words = "-m scratchlm corpus toytown --characters 2000"
    done = run(site.root, *words.split())
    assert done.returncode == 0, done.stderr


def test_training_says_whose_its_parts_are(site: Site) -> None:
    """Two files at a time, and it changes what it says."""
    count = len(site.topics)
    small = ["--taste", "--steps", "4", "--warmup", "1"]
    first = run(site.root, "train.py", *small)
    assert "done: best validation loss" in first.stdout, first.stderr
    assert f"0 of {count} parts are yours" in first.stderr
    named = re.findall(r"write next +(\S+) in (\S+)", first.stderr)
    assert len(named) == 2
    written = next_files(site)
    assert [(t.hole, t.file) for t in written] == named
    for topic in written:
        solve(site, topic.id)
    second = run(site.root, "train.py", *small)
    assert "done: best validation loss" in second.stdout, second.stderr
    assert f"2 of {count} parts are yours" in second.stderr
    names = ", ".join(topic.id for topic in written)
    assert f"unchecked   {names}\n" in second.stderr
    assert check([topic.id for topic in written], site) == 0
    assert f"  checked     {names}" in banner(site.root)
    assert not set(next_files(site)) & set(written)


def test_a_program_takes_each_module_apart_once(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It asks who stands in for each as it is imported, and for its banner."""
    taken: list[str] = []
    parsed = holes_of.parsed

    def counted(text: str) -> list[tuple[str, holes_of.Function]]:
        taken.append(text)
        return parsed(text)

    monkeypatch.setattr(holes_of, "parsed", counted)
    unwritten.cache_clear()
    assert banner(site.root)
    assert banner(site.root)
    holed = [topic for topic in site.topics.values() if topic.hole]
    assert len(taken) == 2 * len(holed)  # the reader's file and the book's
    path = site.path(holed[0])
    path.write_bytes((site.reference / holed[0].file).read_bytes())
    assert f"1 of {len(holed)} parts are yours" in banner(site.root)[0]


def test_what_is_begun_and_not_ended_is_not_used(site: Site) -> None:
    topic = site.topics["attention"]
    path = site.path(topic)
    text = path.read_text(encoding="utf-8")
    begun = text.replace(
        "    raise NotImplementedError(",
        "    scores = q @ k.mT\n    raise NotImplementedError(",
    )
    assert begun != text
    path.write_text(begun, encoding="utf-8")
    assert "attention" in " ".join(banner(site.root)).split("book's")[1]
    assert check(["attention"], site) == 0  # still to do
    path.write_text("def attention_weights(:\n", encoding="utf-8")
    done = run(site.root, "-c", "import scratchlm.model.attention")
    assert "SyntaxError" in done.stderr  # it is used, and says what is wrong
    assert "llm/scratchlm/model/attention.py" in done.stderr


def test_any_order_will_do_and_a_mistake_below_is_named(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    """Heads before attention; then attention, with a mistake."""
    assert check(["heads"], site) == 0
    assert "○ write MultiHeadAttention.forward" in capsys.readouterr().out
    solve(site, "heads")
    assert check(["heads"], site) == 0
    assert "1 topic: 1 pass" in capsys.readouterr().out
    solve(site, "attention", SCALE, "scores")
    assert check(["heads"], site) == 1
    out = " ".join(capsys.readouterr().out.split())
    assert "Mend attention first" in out
    assert check(["attention"], site) == 1
    assert "the scale is missing" in capsys.readouterr().out
