"""The build's own parts: stages, listings, executing ahead."""

import gc
import json
import os
import re
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from press import build, sources
from press.extensions import ahead

ROOT = Path(__file__).parents[2]

# --- the build ---------------------------------------------------------------


def test_a_failing_stage_says_where_its_log_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(build, "LOGS", tmp_path)
    command = [sys.executable, "-c", "print('broken'); raise SystemExit(3)"]
    with pytest.raises(build.BuildError, match="broken") as error:
        build.run("stage", command)
    assert str(tmp_path / "stage.log") in str(error.value)


def test_what_a_killed_typesetter_was_writing_is_not_read_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """TeX reads its own files of the run before, which may be cut off."""
    seen: list[set[str]] = []

    def run(name: str, command: list[str], **more: Any) -> None:
        there = {path.name for path in tmp_path.glob("book*")}
        seen.append(there)
        if len(seen) < 3:
            (tmp_path / "book.aux").write_text(r"\newlabel{half")
            raise KeyboardInterrupt

    for name in ("book.tex", "book.sty", "book-letter.aux"):
        (tmp_path / name).touch()
    monkeypatch.setattr(build, "run", run)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            build.typeset(tmp_path)
    kept = {"book.tex", "book.sty", "book-letter.aux", "book-unfinished"}
    build.typeset(tmp_path)
    assert seen == [kept, kept, kept]
    (tmp_path / "book.aux").write_text("whole")
    build.typeset(tmp_path)
    assert seen[3] == {*kept, "book.aux"}


def test_a_stage_runs_until_it_succeeds_and_then_until_its_key_changes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(build, "BUILD", tmp_path)
    result = tmp_path / "result"
    done: list[str] = []
    fails = True

    def action() -> str:
        done.append("run")
        result.write_text("half" if fails else "whole")
        if fails:
            raise build.BuildError("no")
        return ""

    def stage(key: str) -> None:
        build.stage("stage", action, lambda: key, result)

    for _ in range(2):
        with pytest.raises(build.BuildError):
            stage("one")
    fails = False
    stage("one")
    stage("one")
    assert len(done) == 3
    result.unlink()
    stage("one")
    assert len(done) == 4
    # What failed for another key is not taken for the result of this one.
    fails = True
    with pytest.raises(build.BuildError):
        stage("two")
    fails = False
    stage("one")
    assert len(done) == 6


def test_whatever_a_page_is_made_from_counts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Prose, code, records and settings change the key; caches do not."""
    monkeypatch.setattr(build, "ROOT", tmp_path)
    monkeypatch.setattr(build, "RUN", tmp_path / "_build" / "run")
    seen = {build.inputs()}
    names = (
        "book/text/bpe.md",
        "src/a.py",
        "records/a.json",
        "records/make_a.py",
        "benchmarks/a.py",
        "compliance/licenses.yml",
        "press/static/book.css",
        "_config.yml",
        "requirements.lock",
        "_build/run/best/model.safetensors",
        "_build/run/log.jsonl",
        "_build/run/tokenizer.json",
    )
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("one", encoding="utf-8")
        seen.add(build.inputs())
    other = replace(build.edition(), commit="0123456789")
    monkeypatch.setattr(build, "edition", lambda: other)
    seen.add(build.inputs())
    assert len(seen) == 2 + len(names)
    cached = tmp_path / "src" / "__pycache__" / "a.pyc"
    cached.parent.mkdir()
    cached.write_text("two", encoding="utf-8")
    assert build.inputs() in seen


def test_what_a_failed_or_killed_run_left_is_thrown_away(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Sphinx must read all pages again, or it does not warn again."""
    monkeypatch.setattr(build, "BUILD", tmp_path)
    known = tmp_path / "site" / "_build" / ".doctrees" / "environment.pickle"
    seen: list[bool] = []
    error: type[BaseException] | None = build.BuildError

    def sphinx(
        name: str, command: list[str], bar: bool, more: dict[str, str]
    ) -> Path:
        assert more == build.SHARING
        seen.append(known.exists())
        known.parent.mkdir(parents=True, exist_ok=True)
        known.touch()
        if error is not None:
            raise error
        return tmp_path / "log"

    monkeypatch.setattr(build, "run", sphinx)
    toc, out = tmp_path / "_toc.yml", tmp_path / "site"
    toc.write_text("root: one", encoding="utf-8")

    def attempt() -> None:
        build.jupyter_book("html", toc, out, True, "html")

    for kind in (build.BuildError, KeyboardInterrupt):
        error = kind
        with pytest.raises(kind):
            attempt()
    error = None
    attempt()
    attempt()
    toc.write_text("root: other", encoding="utf-8")  # pages may be gone
    attempt()
    attempt()
    assert seen == [False, False, False, True, False, True]


def test_a_docstring_does_not_train_the_model_again(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text('"""One."""\n\ndef f():\n    """Two."""\n    return 1\n')
    before = build.bare(path)
    path.write_text('"""Three."""\n\ndef f():\n    """Four."""\n    return 1\n')
    assert build.bare(path) == before
    path.write_text('"""One."""\n\ndef f():\n    """Two."""\n    return 2\n')
    assert build.bare(path) != before


def test_other_versions_train_and_measure_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = build.model_key(), build.coverage_key()
    assert before == (build.model_key(), build.coverage_key())
    monkeypatch.setattr(build, "versions", lambda: b"torch 9")
    after = build.model_key(), build.coverage_key()
    assert before[0] != after[0]
    assert before[1] != after[1]


def test_another_choice_of_long_tests_is_measured_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A line may have been run by one that is left out from now on."""
    before = build.coverage_key()
    monkeypatch.setattr(build.pace, "RECORD", build.ROOT / "README.md")
    assert build.coverage_key() != before


def test_what_tex_complains_of_is_found(tmp_path: Path) -> None:
    log = tmp_path / "book.log"
    log.write_text(
        "Overfull \\hbox (0.4pt too wide) in paragraph at lines 1--2\n"
        "Overfull \\hbox (12.5pt too wide) in paragraph at lines 3--4\n"
        "Missing character: There is no X in font Y!\n"
        "LaTeX Warning: Label `a:sol-a' multiply defined.\n"
        "LaTeX Warning: Reference `b:b' on page 2 undefined on input line 3.\n"
        "LaTeX Warning: Citation `c' on page 2 undefined on input line 4.\n"
        "LaTeX Warning: Float too large for page by 13.2pt on input line 5.\n"
        "LaTeX Font Warning: Some font shapes were not available.\n"
    )
    found = build.faults(tmp_path / "book.pdf")
    assert len(found) == 6
    words = ("12.5pt", "Missing", "`a:sol-a'", "`b:b'", "`c'", "13.2pt")
    for word, line in zip(words, found, strict=True):
        assert word in line


def test_references_are_joined_without_doubles(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    refs = tmp_path / "book" / "refs"
    refs.mkdir(parents=True)
    (refs / "a.bib").write_text("@book{x, title={One}}\n@book{y, title={T}}\n")
    (refs / "b.bib").write_text("@book{x, title={Other}}\n")
    monkeypatch.setattr(build, "ROOT", tmp_path)
    monkeypatch.setattr(build, "BUILD", tmp_path / "_build")
    build.gather_references()
    text = (tmp_path / "_build" / "references.bib").read_text()
    assert text.count("@book{x,") == 1
    assert "One" in text
    assert "Other" not in text


def test_of_the_coverage_the_lines_that_no_test_runs_are_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(build, "COVERAGE", tmp_path / "coverage.json")
    file = {"executed_lines": [3, 4], "missing_lines": [5]}
    build.keep_missing({"files": {"src/x.py": file}})
    data = json.loads((tmp_path / "coverage.json").read_text())
    assert data == {"src/x.py": [5]}


def test_a_chapter_that_is_not_there_is_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as stop:
        build.main(["page", "book/model/atention.md"])
    assert stop.value.code == 2
    assert "PAGE=" in capsys.readouterr().err


def test_what_a_shell_sets_decides_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = {"PYTHONOPTIMIZE": "1", "COLUMNS": "200", "TZ": "Asia/Tokyo"}
    settings |= {"FORCE_COLOR": "1", "PYTEST_ADDOPTS": "-k no_test"}
    settings |= {"SCRATCHLM_MIRROR": "/somewhere", "PYTHONHASHSEED": "7"}
    before = build.environment()
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    assert {n for n in settings if n not in before} <= {
        "PYTHONOPTIMIZE",
        "FORCE_COLOR",
        "PYTEST_ADDOPTS",
        "SCRATCHLM_MIRROR",
    }
    assert build.environment() == before
    monkeypatch.setenv("HTTPS_PROXY", "https://proxy.invalid")
    assert "HTTPS_PROXY" in build.environment()


def test_properties_are_tried_on_the_same_examples() -> None:
    from hypothesis import settings

    random = os.environ.get("HYPOTHESIS_PROFILE") == "random"
    assert settings().derandomize is not random


def test_tests_are_run_once_whatever_asks_for_them(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`make test` measures once; the rest of the tests are always run."""
    monkeypatch.setattr(build, "BUILD", tmp_path)
    coverage = tmp_path / "coverage.json"
    monkeypatch.setattr(build, "COVERAGE", coverage)
    monkeypatch.setattr(build, "coverage_key", lambda: "key")
    monkeypatch.setattr(build, "train_model", lambda: "")
    monkeypatch.setattr(build, "RUN", tmp_path)
    (tmp_path / "log.jsonl").touch()
    done: list[str] = []

    def measure() -> str:
        done.append("measured")
        coverage.write_text("{}")
        return ""

    monkeypatch.setattr(build, "measure_coverage", measure)
    monkeypatch.setattr(build, "run_other_tests", lambda: done.append("rest"))
    monkeypatch.setattr(build, "untested", lambda book, missing: [])
    assert build.main(["test"]) == 0
    build.prepare()
    assert build.main(["test"]) == 0
    assert done == ["measured", "rest", "rest"]
    monkeypatch.setattr(build, "untested", lambda book, missing: ["line 5"])
    for _ in range(2):
        assert build.main(["test"]) == 1
        assert "line 5" in capsys.readouterr().err
    assert done == ["measured", "rest", "rest"]


def test_each_file_is_measured_once() -> None:
    files = build.measured_files()
    wanted = {
        path.relative_to(ROOT).as_posix()
        for name in build.SHOWN_TESTS
        for path in (ROOT / "tests" / name).rglob("test_*.py")
    }
    assert len(files) == len(set(files))
    assert set(files) == wanted
    assert files == sorted(files)


# --- listings ----------------------------------------------------------------


def test_a_symbol_is_found_with_its_decorators() -> None:
    snippet = sources.find("scratchlm.training.schedule.Schedule")
    assert snippet.text.startswith("@dataclass(frozen=True)\nclass Schedule:")
    assert snippet.file == "src/scratchlm/training/schedule.py"
    whole = (ROOT / snippet.file).read_text(encoding="utf-8").splitlines()
    shown = whole[snippet.first - 1 : snippet.last]
    assert "\n".join(shown) + "\n" == snippet.text


def test_a_method_stands_without_its_indentation() -> None:
    text = sources.find("scratchlm.training.schedule.Schedule.rate").text
    assert text.startswith("def rate(self, step: int) -> float:\n    ")


def test_a_module_is_shown_whole_or_to_its_first_definition() -> None:
    whole = sources.find("scratchlm.model.plain", "whole").text
    assert whole == (sources.ROOT / "src/scratchlm/model/plain.py").read_text()
    head = sources.find("scratchlm.model.plain").text
    assert whole.startswith(head.rstrip())
    assert "def " not in head


SCRIPT = "scratchlm.serving.browser.js"


def test_a_script_is_shown_by_its_names() -> None:
    assert sources.find(SCRIPT).text.endswith('"use strict";\n')
    one = sources.find(f"{SCRIPT}.product")
    assert one.file == "src/scratchlm/serving/browser.js"
    assert one.text.startswith("/** A matrix times a vector")
    assert one.text.endswith("  return out;\n}\n")
    two = sources.find(f"{SCRIPT}.product-normalize")
    assert (two.first, two.text[: len(one.text)]) == (one.first, one.text)
    method = sources.find(f"{SCRIPT}.feedForward").text
    assert method.startswith("feedForward(name, x) {\n  const")
    assert method.endswith("\n}\n")
    assert sources.find(f"{SCRIPT}.dot").text.startswith("const dot = ")
    with pytest.raises(LookupError, match="defines no nothing"):
        sources.find(f"{SCRIPT}.nothing")


def test_the_chapter_prints_the_whole_script() -> None:
    page = (ROOT / "book/serving/browser.md").read_text(encoding="utf-8")
    shown: set[int] = set()
    for symbol in re.findall(rf"{{listing}} ({SCRIPT}\S*)", page):
        snippet = sources.find(symbol)
        shown |= set(range(snippet.first, snippet.last + 1))
    lines = sources.find(SCRIPT).path.read_text(encoding="utf-8").splitlines()
    missing = [
        line
        for number, line in enumerate(lines, 1)
        if number not in shown and line.strip("}") and line[:6] != "// ---"
    ]
    assert missing == []


def test_the_head_of_a_class_stops_before_its_methods() -> None:
    text = sources.find("scratchlm.training.schedule.Schedule", "head").text
    assert "peak: float" in text
    assert "def " not in text


@pytest.mark.parametrize(
    "symbol",
    [
        "scratchlm.training.schedule.nothing",
        "scratchlm.nowhere.f",
        "torch.nn.Linear",
        "scratchlm.training.schedule.Schedule.nothing",
    ],
)
def test_an_unknown_symbol_is_an_error(symbol: str) -> None:
    with pytest.raises(LookupError):
        sources.find(symbol)


def test_public_symbols_leave_out_what_is_private() -> None:
    names = sources.public_symbols(ROOT / "src" / "scratchlm")
    assert "scratchlm.model.attention.scaled_dot_product_attention" in names
    assert "scratchlm.training.schedule.Schedule.rate" in names
    assert not any(
        "._" in n and "__init__" not in n and "__main__" not in n for n in names
    )


# --- executing ahead ---------------------------------------------------------

SMALL_PAGE = """---
file_format: mystnb
kernelspec: {{name: python3, display_name: Python 3}}
---
# A page

```{{code-cell}}
{code}  # drawing.setup()
```
"""
PIECES = 'for x in ("6 *", " 7\\n\\n", "42\\n"): print(x, end="", flush=True)'


def test_pages_are_executed_once_and_failures_are_not_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nor does a build that has failed go on with what is left."""
    from types import SimpleNamespace

    from myst_nb.core.config import NbParserConfig
    from myst_parser.config.main import MdParserConfig

    for name, code in (("good", PIECES), ("bad", "1 / 0")):
        text = SMALL_PAGE.format(code=code)
        (tmp_path / f"{name}.md").write_text(text, encoding="utf-8")
    (tmp_path / "plain.md").write_text("# No cells\n", encoding="utf-8")
    env = SimpleNamespace(
        doc2path=lambda name: str(tmp_path / f"{name}.md"),
        myst_config=MdParserConfig(),
        mystnb_config=NbParserConfig(
            execution_mode="cache",
            execution_cache_path=str(tmp_path / "cache"),
        ),
    )
    app: Any = SimpleNamespace(env=env)
    for todo in (["good", "bad"], ["bad"]):
        names = ["good", "bad", "plain"]
        work = ahead.Ahead()
        work.begin(app, env, names)
        assert names == ["plain", "good", "bad"]
        assert [*work.pages] == todo
        for name in names:
            work.wait(app, name, [])
        work.end(app, None)
        said = capsys.readouterr().out  # the benchmark of the build reads it
        assert ("executing [ 50%] good" in said) == ("good" in todo)
    busy, let_go = ahead.Ahead(), threading.Event()
    for _ in range(ahead.MOST):
        busy.pool.submit(let_go.wait)
    busy.begin(app, env, ["bad"])  # as many as it has threads are busy
    busy.end(app, RuntimeError("planted"))
    let_go.set()
    assert busy.pages["bad"][1].cancelled()
    notebook = ahead.notebook_of(app, env, "good")
    cache = ahead.get_cache(str(tmp_path / "cache"))
    _, merged = cache.merge_match_into_notebook(notebook)
    [said] = merged.cells[-1].outputs
    assert said.text == "6 * 7\n\n42\n"  # in one, whatever the pieces
    assert ahead.notebook_of(app, env, "plain") is None
    gc.collect()  # what is left open is reported here, not elsewhere
