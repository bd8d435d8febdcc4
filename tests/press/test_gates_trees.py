"""Where things stand: every tree, every page, every import."""

from collections.abc import Callable

import pytest

from press.gates.trees import ORDER

Plant = Callable[..., list[str]]
BLOCK = "src/scratchlm/model/block.py"


def append(text: str) -> Callable[[str], str]:
    """Write more at the end."""
    return lambda old: f"{old}\n{text}\n"


def test_a_lost_check_is_caught(plant: Plant) -> None:
    name = "scaffold/checks/model/check_attention.py"
    [problem] = plant("mirror", name, None, whole=True)
    assert problem == f"{name} is missing"


@pytest.mark.parametrize(
    "name",
    [
        "src/scratchlm/model/extra.py",
        "solutions/model/extra.py",
        "tests/model/test_extra.py",
        "scaffold/checks/model/check_extra.py",
        "book/model/extra.md",
        "book/appendix/solutions/extra.md",
        "src/scratchlm/model/deep/extra.py",
    ],
)
def test_a_file_without_a_topic_is_caught(name: str, plant: Plant) -> None:
    [problem] = plant("mirror", name, "x = 1\n", whole=True)
    assert problem == f"{name} belongs to no topic"


def test_contents_edited_by_hand_are_caught(plant: Plant) -> None:
    [problem] = plant("contents", "_toc.yml", append("# mine"), whole=True)
    assert "_toc.yml is not the roadmap's" in problem


def test_an_orphan_is_caught(plant: Plant) -> None:
    for name in ("book/start/lost.md", "book/appendix/lost.md"):
        [problem] = plant("contents", name, "# Lost\n", whole=True)
        assert problem == f"{name} is an orphan: no contents lead to it"


def test_contents_that_lead_nowhere_are_caught(plant: Plant) -> None:
    found = plant(
        "contents",
        "_toc.yml",
        lambda text: text.replace("book/model/heads", "book/model/head"),
        whole=True,
    )
    assert "_toc.yml: there is no book/model/head.md" in found


BACK = {
    "absolute": "from scratchlm.training.trainer import Trainer",
    "of a package": "import scratchlm.training.trainer",
    "of a name": "from scratchlm import training",
    "relative": "from ..training.trainer import Trainer",
    "relative, the package": "from .. import generation",
    "late": "def f():\n    from ..training import trainer\n    return trainer",
    "dynamic": "importlib.import_module('scratchlm.cli.train')",
    "dunder": "__import__('scratchlm.training.memory')",
    "the command line": "from scratchlm import __main__",
    "by keyword": "importlib.import_module(name='scratchlm.cli.train')",
    "dynamic, relative": "importlib.import_module('..cli.train', __package__)",
    "under another name": (
        "from importlib import import_module as get\nget('scratchlm.cli.train')"
    ),
    "by attribute": "getattr(importlib, 'import_module')('scratchlm.cli.app')",
    "later": "NAME = 'scratchlm.cli.app'\nimportlib.import_module(NAME)",
    "what is loaded": "sys.modules['scratchlm.cli.app']",
    "an entry point": "pkgutil.resolve_name('scratchlm.cli.app:main')",
    "for types": (
        "if TYPE_CHECKING:\n    from scratchlm.training import trainer"
    ),
}


@pytest.mark.parametrize("form", BACK)
def test_an_import_backwards_is_caught(form: str, plant: Plant) -> None:
    found = plant("directions", BLOCK, append(BACK[form]))
    assert any(BLOCK in problem for problem in found), found


@pytest.mark.parametrize("later", ORDER[2:])
def test_each_later_package_is_out_of_reach(later: str, plant: Plant) -> None:
    line = f"from scratchlm.{later} import thing"
    [problem] = plant("directions", BLOCK, append(line))
    assert f"imports scratchlm.{later}.thing" in problem


@pytest.mark.parametrize(
    ("tree", "other"),
    [
        (tree, other)
        for tree in ("solutions", "scaffold", "records", "benchmarks")
        for other in ("solutions", "scaffold", "records", "benchmarks")
        if tree != other
    ]
    + [("press", t) for t in ("scratchlm", "solutions", "scaffold", "records")]
    + [("compliance", t) for t in ("press", "solutions", "scaffold", "tests")]
    + [(t, "compliance") for t in ("press", "solutions", "scaffold")]
    + [("src/scratchlm", t) for t in ("press", "solutions", "tests")],
)
def test_trees_keep_apart(tree: str, other: str, plant: Plant) -> None:
    name = f"{tree}/planted.py"
    [problem] = plant("directions", name, f"from {other}.some import thing\n")
    assert problem == f"{name}:1 imports {other}.some.thing"


def test_trees_keep_apart_under_any_name(plant: Plant) -> None:
    text = "from importlib import import_module as get\nget('scaffold.emit')\n"
    [problem] = plant("directions", "solutions/planted.py", text)
    assert problem == "solutions/planted.py:2 imports scaffold.emit"


@pytest.mark.parametrize("tree", ["solutions", "records", "benchmarks"])
def test_trees_may_import_what_they_need(tree: str, plant: Plant) -> None:
    text = "from press.records import read\nfrom scratchlm.model import gpt\n"
    assert plant("directions", f"{tree}/planted.py", text) == []


def test_a_package_may_import_what_is_before_it(plant: Plant) -> None:
    text = "from ..text import bpe\nfrom . import heads\nimport torch"
    assert plant("directions", BLOCK, append(text)) == []


@pytest.mark.parametrize("other", ["scaffold.checks", "records", "press"])
def test_tests_that_are_emitted_know_the_library_alone(
    plant: Plant, other: str
) -> None:
    name = "tests/model/test_planted.py"
    [problem] = plant("directions", name, f"from {other} import thing\n")
    assert problem.startswith(f"{name}:1 imports {other}")
    fine = "tests/scaffold/test_planted.py"
    assert plant("directions", fine, f"from {other} import thing\n") == []


def test_tests_of_the_rules_know_them_and_the_library(plant: Plant) -> None:
    name = "tests/compliance/test_planted.py"
    text = "from compliance import rules\nfrom scratchlm.text import corpus\n"
    assert plant("directions", name, text) == []
    [problem] = plant("directions", name, "from press import gates\n")
    assert problem.startswith(f"{name}:1 imports press")
