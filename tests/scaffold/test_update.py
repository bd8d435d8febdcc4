"""An update replaces what is the book's, and nothing that is the reader's."""

import shutil
import subprocess
from pathlib import Path

import pytest

from press.edition import edition
from scaffold.__main__ import main
from scaffold.emit import emit
from scaffold.plan import Limits, Plan
from scaffold.repository import git
from scaffold.stamp import STAMP, digest, is_managed, managed, read_stamp
from scaffold.update import DONE, Change, decide
from scaffold.wishes import Wishes

CHANGED, STALE = "check/mine.py", "compliance/people.py"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository as it was made."""
    return emit(
        Plan("beginner", "cpu"), tmp_path_factory.mktemp("made") / "my llm"
    )


@pytest.fixture
def older(made: Path, tmp_path: Path) -> Path:
    """The same, as an older edition would have made it.

    One file that the edition has changed since, one that it had and this
    one has not, and one that is new in this one.
    """
    folder = tmp_path / "my llm"
    shutil.copytree(made, folder)
    (folder / STALE).write_text("# an old rule\n", encoding="utf-8")
    (folder / "check" / "old.py").write_text("# gone\n", encoding="utf-8")
    path = folder / STAMP
    text = path.read_text(encoding="utf-8").splitlines(keepends=True)
    lines = [x for x in text if not x.startswith(f'"{STALE}"')]
    lines = [x for x in lines if not x.startswith('"check/verdict.py"')]
    (folder / "check" / "verdict.py").unlink()
    for name in (STALE, "check/old.py"):
        lines.append(f'"{name}" = "{digest(folder / name)}"\n')
    text = "".join(lines).replace(edition().version, "0.0.1", 1)
    path.write_text(text, encoding="utf-8")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "As an older edition made it")
    return folder


def all_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and ".git" not in path.parts
    }


def test_there_is_nothing_to_do_at_once(
    made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = all_of(made)
    assert main(["diff", str(made)]) == 0
    assert ": 0 files would change" in capsys.readouterr().out
    assert main(["update", str(made)]) == 0
    assert all_of(made) == before


def test_an_update_brings_the_books_files(
    older: Path, made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["diff", str(older)]) == 0
    shown = capsys.readouterr().out
    assert "-# an old rule" in shown
    assert git(older, "status", "--porcelain") == ""
    assert main(["update", str(older)]) == 0
    printed = capsys.readouterr().out
    for line in (
        f"{STALE}: replaced",
        "check/verdict.py: new",
        "check/old.py: removed, as the book has it no more",
    ):
        assert line in printed.splitlines()
        assert line in shown.splitlines()
    assert printed.startswith("from 0.0.1 ")
    assert all_of(older) == all_of(made)


def test_what_comes_next_commits_the_new_files_too(
    older: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["update", str(older)]) == 0
    words = capsys.readouterr().out.split("next:  ")[1]
    lines = [x.strip() for line in words.splitlines() for x in line.split("; ")]
    commands = [line for line in lines if line.startswith("git ")]
    assert commands[-1] == "git commit"
    for command in [*commands[:-1], f"{commands[-1]} -qm 'The update'"]:
        subprocess.run(["sh", "-c", command], cwd=older, check=True)
    assert git(older, "status", "--porcelain") == ""
    assert git(older, "ls-files", "check/verdict.py")


def test_a_repository_that_git_does_not_read_is_left_alone(
    older: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As that of another owner: nobody knows what is not committed there."""
    before = all_of(older)
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    assert main(["update", str(older)]) == 2
    assert "dubious ownership" in capsys.readouterr().err
    assert all_of(older) == before


def test_what_was_changed_is_kept(older: Path, made: Path) -> None:
    """The new one lies beside it, once; and yours becomes the book's again."""
    path = older / STALE
    path.write_text("# my rule\n", encoding="utf-8")
    (older / "check" / "old.py").write_text("# mine now\n", encoding="utf-8")
    (older / "check" / "verdict.py").write_text("# mine\n", encoding="utf-8")
    git(older, "commit", "-q", "-a", "-m", "Mine")
    git(older, "add", "-A")
    git(older, "commit", "-q", "-m", "Mine, too")
    assert main(["update", str(older)]) == 0
    assert path.read_text(encoding="utf-8") == "# my rule\n"
    fresh = older / f"{STALE}.new"
    assert fresh.read_bytes() == (made / STALE).read_bytes()
    assert (older / "check" / "old.py").exists()
    assert (older / "check" / "verdict.py.new").exists()
    fresh.unlink()
    git(older, "add", "-A")
    git(older, "commit", "-q", "-m", "The update")
    assert main(["update", str(older)]) == 0
    assert not fresh.exists()
    assert git(older, "status", "--porcelain") == ""


@pytest.fixture
def changed(older: Path, made: Path) -> Path:
    """A rule that the edition changed at its head, its reader at its end."""
    path, kept = older / STALE, older / STAMP
    fresh = (made / STALE).read_text(encoding="utf-8")
    before = digest(path)
    path.write_text("# as it was\n" + fresh, encoding="utf-8")
    text = kept.read_text(encoding="utf-8")
    kept.write_text(text.replace(before, digest(path)), encoding="utf-8")
    git(older, "commit", "-q", "-a", "-m", "As another edition made it")
    mine = path.read_text(encoding="utf-8") + "\n# my rule\n"
    path.write_text(mine, encoding="utf-8")
    git(older, "commit", "-q", "-a", "-m", "Mine")
    return older


def test_a_merge_is_offered_and_not_made(
    changed: Path, made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = changed / STALE
    mine = path.read_bytes()
    assert main(["update", str(changed)]) == 0
    assert path.read_bytes() == mine
    said = capsys.readouterr().out
    _, block = said.split("to merge what you want of them, in the folder:\n")
    offered, after = block.split("next:")
    assert "git commit" in after
    commands = [x for x in offered.splitlines() if x.startswith("  ")]
    assert len(commands) == 2
    for command in commands:
        subprocess.run(["sh", "-c", command], cwd=changed, check=True)
    fresh = (made / STALE).read_text(encoding="utf-8")
    merged = path.read_text(encoding="utf-8")
    assert merged == fresh + "\n# my rule\n"
    names = {one.name for one in path.parent.iterdir()}
    assert not {f"{path.name}.new", f"{path.name}.old"} & names
    git(changed, "add", "-A")
    git(changed, "commit", "-q", "-m", "Merged")
    assert main(["update", str(changed)]) == 0
    assert "to merge" not in capsys.readouterr().out


@pytest.mark.parametrize("how", ["no repository", "another past", "its own"])
def test_without_a_common_past_the_difference_is_offered(
    how: str, changed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = STALE
    if how == "no repository":
        shutil.rmtree(changed / ".git")
    elif how == "another past":
        shutil.rmtree(changed / ".git")
        git(changed, "init", "-q")
        git(changed, "add", "-A")
        git(changed, "config", "user.name", "Ada")
        git(changed, "config", "user.email", "ada@example.org")
        git(changed, "commit", "-q", "-m", "All of it")
    else:
        name = "check/verdict.py"
        (changed / name).write_text("# mine\n", encoding="utf-8")
        git(changed, "add", "-A")
        git(changed, "commit", "-q", "-m", "One of my own")
    assert main(["update", str(changed)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert f"  git diff --no-index {name} {name}.new" in said


def test_what_is_the_readers_is_never_touched(older: Path, made: Path) -> None:
    """Not even where the book has something else by now."""
    names = [name for name in all_of(made) if not is_managed(name)]
    assert len(names) > 100
    for name in names:
        if name != STAMP:
            (older / name).write_text("mine\n", encoding="utf-8")
    (older / "check.py").write_text("mine\n", encoding="utf-8")
    (older / "notes" / "train.py").write_text("mine\n", encoding="utf-8")
    git(older, "add", "-A")
    git(older, "commit", "-q", "-m", "All of it is mine")
    assert main(["update", str(older)]) == 0
    for name in [*names, "check.py", "notes/train.py"]:
        if name != STAMP:
            assert (older / name).read_text(encoding="utf-8") == "mine\n"
            assert not (older / f"{name}.new").exists()


def test_what_is_not_committed_could_be_lost(
    older: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (older / "new.txt").write_text("mine", encoding="utf-8")
    before = all_of(older)
    assert main(["update", str(older)]) == 3
    assert "commit them first" in capsys.readouterr().err
    assert all_of(older) == before


@pytest.mark.parametrize("committed", [False, True])
def test_progress_does_not_stand_in_the_way(
    committed: bool, older: Path, made: Path
) -> None:
    """It is the reader's to commit, or not: an update never touches it."""
    progress = older / "progress.json"
    aside = older / "scratchlm" / "text" / "bpe.py.1"
    for path in (progress, aside):
        path.write_text("before", encoding="utf-8")
    if committed:
        git(older, "add", "-A")
        git(older, "commit", "-q", "-m", "My progress")
        for path in (progress, aside):
            path.write_text("now", encoding="utf-8")
    kept = progress.read_bytes()
    ignored = git(older, "status", "--porcelain", "--ignored")
    assert "!! progress.json" not in ignored
    assert main(["update", str(older)]) == 0
    assert (older / STALE).read_bytes() == (made / STALE).read_bytes()
    assert progress.read_bytes() == aside.read_bytes() == kept
    other = older / "scratchlm" / "text" / "own.py"
    git(older, "reset", "--hard", "-q")
    other.write_text("mine", encoding="utf-8")
    assert main(["update", str(older)]) == 3


def test_the_book_s_file_of_an_earlier_update_is_kept(
    older: Path, made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (older / STALE).write_text("# my rule\n", encoding="utf-8")
    for name in (f"{STALE}.new", f"{STALE}.new.2"):
        (older / name).write_text(f"# {name}\n", encoding="utf-8")
    git(older, "add", "-A")
    git(older, "commit", "-q", "-m", "Two updates that I have not looked at")
    assert main(["diff", str(older)]) == 0
    assert f"is in {STALE}.new.3\n" in capsys.readouterr().out
    assert main(["update", str(older)]) == 0
    assert f"is in {STALE}.new.3\n" in capsys.readouterr().out
    for name in (f"{STALE}.new", f"{STALE}.new.2"):
        kept = (older / name).read_text(encoding="utf-8")
        assert kept == f"# {name}\n"
    fresh = (made / STALE).read_bytes()
    assert (older / f"{STALE}.new.3").read_bytes() == fresh


def test_the_same_file_is_not_laid_beside_twice(
    older: Path, made: Path
) -> None:
    (older / STALE).write_text("# my rule\n", encoding="utf-8")
    shutil.copyfile(made / STALE, older / f"{STALE}.new")
    git(older, "add", "-A")
    git(older, "commit", "-q", "-m", "Mine, beside the book's")
    assert main(["update", str(older)]) == 0
    assert not (older / f"{STALE}.new.2").exists()


def test_a_removed_file_does_not_come_back(
    older: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    git(older, "rm", "-q", STALE)
    git(older, "commit", "-q", "-m", "I need no such rule")
    assert main(["update", str(older)]) == 0
    assert f"{STALE}: removed by you" in capsys.readouterr().out
    assert not (older / STALE).exists()


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ('"../outside.py" = "0"', "not the book's"),
        ('"scratchlm/text/bpe.py" = "0"', "not the book's"),
        ("[managed]", "cannot be read"),
        ("no toml", "cannot be read"),
    ],
)
def test_a_stamp_that_was_changed_is_refused(
    line: str,
    why: str,
    older: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with open(older / STAMP, "a", encoding="utf-8") as file:
        file.write(f"{line}\n")
    before = all_of(older)
    for command in ("diff", "update"):
        assert main([command, str(older)]) == 2
        assert why in capsys.readouterr().err
    assert all_of(older) == before


def test_a_folder_of_something_else_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in ("diff", "update"):
        assert main([command, str(tmp_path)]) == 2
        assert "the scaffold did not make it" in capsys.readouterr().err


def test_a_link_out_of_the_repository_is_not_followed(
    older: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outside = tmp_path / "outside.py"
    outside.write_text("# an old rule\n", encoding="utf-8")
    (older / STALE).unlink()
    (older / STALE).symlink_to(outside)
    git(older, "commit", "-q", "-a", "-m", "A link")
    assert main(["update", str(older)]) == 2
    assert "leads out of the repository" in capsys.readouterr().err
    assert outside.read_text(encoding="utf-8") == "# an old rule\n"


def test_the_books_files_depend_on_track_and_budget_alone(
    made: Path, tmp_path: Path
) -> None:
    """So an update needs neither the reader's text nor the limits."""
    text = tmp_path / "text.txt"
    text.write_bytes(b"So they wrote, day after day. " * 10_000)
    plan = Plan("beginner", "cpu", text, "2026-12-01", Limits(hours=0.01))
    wishes = Wishes("Other", "Ada", "Apache-2.0", git=False)
    out = emit(plan, tmp_path / "other", wishes)
    assert managed(out) == managed(made)
    text.unlink()
    assert main(["update", str(out)]) == 0
    assert read_stamp(out).answers["data"] == str(text)


def test_every_decision_is_told() -> None:
    kinds = {
        decide(kept, here, ours)
        for kept in ("", "a", "b")
        for here in ("", "a", "b", "c")
        for ours in ("", "a", "b")
    }
    assert kinds == {"", *DONE}
    for kind in DONE:
        assert str(Change("check/a.py", kind, "check/a.py")).startswith(
            "check/a.py: "
        )
