"""Whatever a page read is in its key, each kind of it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from press import dependencies
from press.dependencies import (
    closure,
    everything,
    executed_digest,
    files_named,
    makers,
    page_digest,
)
from press.extensions import freshness

ROOT = dependencies.ROOT
PAGE = """
```{code-cell}
---
mystnb: {figure: {name: fig}}
---
:tags: [remove-cell]
import subprocess, sys
from pathlib import Path
from press import drawing
from scratchlm.model.attention import causal_mask
from solutions.model.heads import anything
drawing.setup()
folder = drawing.book_run()
data = drawing.record("memory")
words = [sys.executable, "-m", "scaffold.checks", "bpe"]
path = drawing.ROOT / "book" / "omitted.yml"
other = Path("benchmarks/requirements.txt").read_text()
subprocess.run([sys.executable, "-m", "benchmarks", "bpe"])
subprocess.run([sys.executable, "records/run_it.py"])
names = [p.name for p in (drawing.ROOT / "docs").iterdir()]
more = drawing.ROOT.joinpath("book", "data", "more.txt")
beside = open("beside.csv"), open("../../tests/data.csv")
```

  ```{code-cell}
  from solutions.model import layers
  ```

```{listing} scratchlm.training.muon
```

```{check} optimizer
```

```{literalinclude} ../../src/scratchlm/text/toytown.yaml
```

```{renamed}
```
"""
EXECUTED = {
    "an import": "src/scratchlm/model/attention.py",
    "a package around an import": "src/scratchlm/__init__.py",
    "a solution": "solutions/model/heads.py",
    "what a solution imports": "src/scratchlm/model/heads.py",
    "the drawing": "press/drawing.py",
    "a record": "records/memory.json",
    "a program that a cell starts": "benchmarks/__main__.py",
    "what that program imports": "benchmarks/measure.py",
    "a file by its path": "benchmarks/requirements.txt",
    "a file by the parts of its path": "book/omitted.yml",
    "what a script imports": "records/helper.py",
    "a file in a folder that a cell lists": "docs/one.txt",
    "a file whose path is joined": "book/data/more.txt",
    "a file beside the page": "book/model/beside.csv",
    "a file over the page": "tests/data.csv",
    "a file that a module names": "tests/sums.txt",
    "a cell that is set in": "solutions/model/layers.py",
    "the scaffold": "scaffold/checks/__main__.py",
    "a check that the scaffold runs": "scaffold/checks/text/check_bpe.py",
    "a template of the scaffold": "scaffold/templates/pyproject.toml.j2",
    "the locked versions": "requirements.lock",
    "the run's weights": "_build/runs/toytown/best/model.safetensors",
    "the run's log": "_build/runs/toytown/log.jsonl",
    "the run's tokenizer": "_build/runs/toytown/tokenizer.json",
    "the run's configuration": "_build/runs/toytown/config.json",
    "the run's tokens": "_build/runs/toytown/train.bin",
}
SHOWN = {
    "a listing": "src/scratchlm/training/muon.py",
    "a check": "scaffold/checks/training/check_optimizer.py",
    "the roadmap": "roadmap.yml",
    "the rules that a card names": "compliance/data.py",
    "what a machine costs": "scaffold/budgets.yml",
    "a file that is shown": "src/scratchlm/text/toytown.yaml",
    "old names": "book/renamed.yml",
    "an extension": "press/extensions/boxes.py",
}


@pytest.fixture
def repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """The folders that the page reads, small and empty but for imports."""
    monkeypatch.setattr(dependencies, "ROOT", tmp_path)
    run = tmp_path / "_build" / "runs" / "toytown"
    monkeypatch.setattr(dependencies, "RUN", run)
    monkeypatch.setattr(dependencies, "BUILD", tmp_path / "_build")
    folders = dict.fromkeys(dependencies.FOLDERS, tmp_path)
    folders["scratchlm"] = tmp_path / "src"
    monkeypatch.setattr(dependencies, "FOLDERS", folders)
    roots = {"scratchlm": tmp_path / "src", "solutions": tmp_path}
    monkeypatch.setattr("press.sources.ROOTS", roots)
    imports = {
        "solutions/model/heads.py": "from scratchlm.model import heads\n",
        "benchmarks/__main__.py": "from .measure import Row\n",
        "benchmarks/measure.py": 'FILE = ROOT / "tests" / "sums.txt"\n',
        "records/run_it.py": "from records import helper\n",
    }
    for name in ("records/run_it.py", *EXECUTED.values(), *SHOWN.values()):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(imports.get(name, ""), encoding="utf-8")
    (tmp_path / "pyproject.toml").touch()
    next_build()
    yield tmp_path
    next_build()


def next_build() -> None:
    """What a build knows of the files, it knows for itself."""
    dependencies.versions.cache_clear()
    dependencies.forget()


def change(path: Path) -> None:
    """Another content, without a change of meaning where it is Python."""
    with path.open("a", encoding="utf-8") as file:
        file.write("# changed\n")
    next_build()


@pytest.mark.parametrize("kind", EXECUTED)
def test_a_page_runs_again_for(kind: str, repository: Path) -> None:
    before = executed_digest(PAGE)
    assert executed_digest(PAGE) == before
    change(repository / EXECUTED[kind])
    assert executed_digest(PAGE) != before


@pytest.mark.parametrize(
    "name", ["docs/new.txt", "book/data/more.txt", "docs/one.txt"]
)
def test_a_page_runs_again_for_what_comes_or_goes(
    name: str, repository: Path
) -> None:
    before = executed_digest(PAGE)
    path = repository / name
    if path.exists():
        path.unlink()
    else:
        path.touch()
    next_build()
    assert executed_digest(PAGE) != before


def test_a_build_looks_at_the_files_anew(repository: Path) -> None:
    """What the last one knew is forgotten before pages are compared."""
    page = repository / "page.md"
    page.write_text(PAGE, encoding="utf-8")

    class Env:
        found_docs: ClassVar[list[str]] = ["page"]

        def doc2path(self, name: str) -> Path:
            return page

    env: Any = Env()
    app: Any = None
    assert freshness.outdated(app, env) == []
    (repository / "docs" / "new.txt").touch()
    assert freshness.outdated(app, env) == ["page"]
    assert freshness.outdated(app, env) == []


def test_a_page_runs_again_for_what_a_link_leads_to(
    repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = tmp_path_factory.mktemp("elsewhere") / "more.txt"
    other.write_text("1")
    link = repository / "book/data/more.txt"
    link.unlink()
    link.symlink_to(other)
    before = executed_digest(PAGE)
    other.write_text("2")
    next_build()
    assert executed_digest(PAGE) != before


@pytest.mark.parametrize("kind", SHOWN)
def test_a_page_is_written_again_for(kind: str, repository: Path) -> None:
    before = page_digest(PAGE, makers())
    assert page_digest(PAGE, makers()) == before
    change(repository / SHOWN[kind])
    assert page_digest(PAGE, makers()) != before


def test_a_card_depends_on_rules_and_prices(repository: Path) -> None:
    found = dependencies.dependencies("```{card} optimizer\n```\n")
    assert repository / "compliance/data.py" in found
    assert repository / "scaffold/budgets.yml" not in found  # nobody reads it
    (repository / "scaffold/__main__.py").touch()
    next_build()
    found = dependencies.dependencies("```{card} optimizer\n```\n")
    assert repository / "scaffold/budgets.yml" in found
    found = dependencies.dependencies("```{prices}\n```\n")
    assert found == {repository / "scaffold/budgets.yml"}


def test_a_page_does_not_run_again_for_what_it_does_not_read(
    repository: Path,
) -> None:
    page = PAGE.split("words =")[0] + "```\n"
    before = executed_digest(page)
    extension = "press/extensions/boxes.py"
    for name in ("src/scratchlm/training/muon.py", "roadmap.yml", extension):
        change(repository / name)
    change(repository / "scaffold/templates/pyproject.toml.j2")
    assert executed_digest(page) == before


def test_relative_imports_are_followed() -> None:
    import ast

    code = "from . import a\nfrom ..b import c\nfrom .d.e import f\n"
    found = dependencies.imports(ast.parse(code), "press.extensions")
    assert {"press.extensions.a", "press.b.c", "press.extensions.d.e"} <= found


def test_the_real_pages_depend_on_what_they_read() -> None:
    text = (ROOT / "book/start/first.md").read_text(encoding="utf-8")
    names = {
        path.relative_to(ROOT / "src/scratchlm").as_posix()
        for path in dependencies.executed(text)
        if path.is_relative_to(ROOT / "src/scratchlm")
    }
    # its cells call the command line, which imports commands by name
    assert {"cli/app.py", "cli/sample.py", "generation/sampling.py"} <= names


@pytest.mark.parametrize(
    "options",
    ["", ":tags: [remove-cell]\n", "---\ntags: [a]\n---\n:name: b\n"],
)
def test_the_mark_is_put_into_the_first_cell_and_not_shown(
    options: str,
) -> None:
    from docutils import nodes
    from docutils.utils import new_document

    code = "import math\nprint(math.pi)\n"
    cell = f"```{{code-cell}}\n{options}{code}```\n"
    source = [f"# A page\n\n{cell}\n{cell}"]
    digest = executed_digest(source[0])
    freshness.mark_first_cell(None, "page", source)  # type: ignore[arg-type]
    marked = f"# sources {digest}\n{code}"
    first, second = cell.replace(code, marked), cell
    assert source[0] == f"# A page\n\n{first}\n{second}"
    document = new_document("page")
    document += nodes.literal_block(marked, marked)
    freshness.unmark(None, document)  # type: ignore[arg-type]
    assert document.astext() == code


def test_a_page_without_cells_has_no_mark() -> None:
    source = ["# A page\n\nWith `{code-cell}` in a sentence.\n"]
    freshness.mark_first_cell(None, "page", source)  # type: ignore[arg-type]
    assert "sources" not in source[0]


def test_every_page_with_cells_runs_anew_when_what_it_reads_changes() -> None:
    """Those that draw nothing, too: solutions begin with an import."""
    found = 0
    for path in sorted((ROOT / "book").rglob("*.md")):
        source = [path.read_text(encoding="utf-8")]
        if dependencies.CELL.search(source[0]):
            freshness.mark_first_cell(None, path.stem, source)  # type: ignore[arg-type]
            assert len(freshness.MARK.findall(source[0])) == 1, path
            found += 1
    assert found > 80


def test_an_environment_is_no_file_of_the_book(tmp_path: Path) -> None:
    """Its thousands of files are known by the locked versions."""
    for name in ("a.txt", ".venv/b.py", "c/__pycache__/d.pyc", "c/.e"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    found = {p.relative_to(tmp_path).as_posix() for p in everything(tmp_path)}
    assert found == {"a.txt", "c/.e"}
    assert not files_named(".venv/bin")
    assert not files_named(".venv")


def test_a_corpus_that_is_fetched_makes_nothing_anew() -> None:
    """Tests fetch one during the first build; the next goes on from there."""
    corpus = ROOT / "data" / "planted-corpus.txt"
    corpus.parent.mkdir(exist_ok=True)
    corpus.write_text("x")
    next_build()
    try:
        assert not files_named("data")
        assert not files_named("data/planted-corpus.txt")
        assert corpus not in closure({"scratchlm.cli.train"})
    finally:
        corpus.unlink()
        next_build()


def test_what_counts_minutes_decides_what_a_card_says(
    repository: Path,
) -> None:
    """Chapter, what its listings show, module, and the record of the runs."""
    chapter = "```{listing} scratchlm.model.other.sums\n```\n"
    texts = {
        "book/text/one.md": chapter,
        "src/scratchlm/text/one.py": "",
        "src/scratchlm/model/other.py": "def sums(): ...\n",
        "records/pages.json": "{}",
    }
    for name, text in texts.items():
        path = repository / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    wanted = {repository / name for name in texts}
    for page in ("```{card} one\n```\n", "```{plan} beginner\n```\n"):
        assert wanted <= dependencies.used_by_directives(page)
    other = dependencies.used_by_directives("```{card} muon\n```\n")
    assert repository / "book/text/one.md" not in other
