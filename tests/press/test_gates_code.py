"""Code in pages: a copy of the library is found in every disguise."""

import textwrap
from collections.abc import Callable

import pytest

from press.gates.pages import Page, inline

Written = Callable[..., list[str]]

COPY = '''
def attention_weights(q, k, causal=True):
    scores = q @ k.transpose(-2, -1)
    scores = scores / math.sqrt(q.shape[-1])
    if causal:
        seen = causal_mask(q.shape[-2], k.shape[-2], q.device)
        scores = scores.masked_fill(~seen, -math.inf)
    return scores.softmax(dim=-1)
'''.strip()
RENAMED = (
    COPY.replace("attention_weights", "listen")
    .replace("causal_mask", "hide")
    .replace("scores", "s")
    .replace("causal", "past")
)
METHOD = "class Ear:\n" + textwrap.indent(
    RENAMED.replace("(q, k", "(self, q, k"), "    "
)
INSIDE = "def outer():\n" + textwrap.indent(RENAMED, "    ") + "\n    return 1"
BRANCH = "if True:\n" + textwrap.indent(RENAMED, "    ")
BARE = textwrap.dedent(RENAMED.partition("\n")[2]).replace("return ", "")
TYPED = RENAMED.replace("(q, k, past=True)", "(q: Tensor, k: Tensor, past)")
DOCUMENTED = RENAMED.replace("\n", '\n    """Ours."""\n', 1)
LAMBDA = (
    "bend = lambda x: 0.5 * x * (1 + torch.tanh("
    "math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))"
)
ONE_LINE = (
    "rows = lambda x, w, e: (x / (x.square().mean(-1, keepdim=True) + e)"
    ".sqrt() * w)"
)
FIELDS = (
    "class State:\n    step: int\n    cursor: dict[str, Any]\n"
    "    notes: dict[str, Any] = field(default_factory=dict)"
)


def cell(code: str, head: str = "") -> str:
    """A code cell."""
    return f"```{{code-cell}}\n{head}{code}\n```"


PASTED = {
    "as it is": cell(COPY),
    "renamed": cell(RENAMED),
    "as a method": cell(METHOD),
    "in a function": cell(INSIDE),
    "in a branch": cell(BRANCH),
    "its body alone": cell(BARE),
    "with types": cell(TYPED),
    "with a docstring": cell(DOCUMENTED),
    "as a class": cell(FIELDS),
    "hidden": cell(COPY, ":tags: [remove-cell]\n"),
    "in a tip": "````{tip}\n" + cell(RENAMED) + "\n````",
    "in a list": "- so:\n\n" + textwrap.indent(cell(RENAMED), "  "),
    "with colons": ":::{code-cell}\n" + RENAMED + "\n:::",
}


@pytest.mark.parametrize("form", PASTED)
def test_pasted_code_is_caught(form: str, written: Written) -> None:
    found = written("cells", PASTED[form])
    assert any(
        "is pasted from the library" in problem for problem in found
    ), found


@pytest.mark.parametrize(
    "code",
    ["def causal_mask(n):\n    return n", "causal_mask = lambda n: n"],
)
def test_the_librarys_names_are_its_own(code: str, written: Written) -> None:
    [problem] = written("cells", cell(code))
    assert "causal_mask is the library's" in problem


STILL = {
    "py": f"```py\n{RENAMED}\n```",
    "Python": f"```Python\n{RENAMED}\n```",
    "python3": f"```python3\n{RENAMED}\n```",
    "none": f"```\n{RENAMED}\n```",
    "called text": f"```text\n{RENAMED}\n```",
    "a code-block": f"```{{code-block}} python\n{RENAMED}\n```",
    "a code": f"```{{code}}\n{RENAMED}\n```",
    "a sourcecode": f"```{{sourcecode}} python\n{RENAMED}\n```",
    "literal": f"```{{parsed-literal}}\n{RENAMED}\n```",
    "tildes": f"~~~py\n{RENAMED}\n~~~",
    "indented": textwrap.indent(RENAMED, "    "),
    "in a tip": f"````{{tip}}\n```py\n{RENAMED}\n```\n````",
    "in an exercise": (
        f"````{{exercise}} A\n:name: ex-a\n:hours: 1\n```\n{RENAMED}\n```\n````"
    ),
}


@pytest.mark.parametrize("form", STILL)
def test_python_that_nothing_runs(form: str, written: Written) -> None:
    found = written("cells", STILL[form])
    assert any("Python that nothing runs" in problem for problem in found)
    assert any("is pasted from the library" in problem for problem in found)


def test_a_file_of_python_is_not_included(written: Written) -> None:
    path = "../../src/scratchlm/model/heads.py"
    [problem] = written("cells", f"```{{literalinclude}} {path}\n```")
    assert "Python that nothing runs" in problem


@pytest.mark.parametrize(
    "tag", ["skip-execution", "raises-exception", "remove-cell, skip-execution"]
)
def test_a_cell_that_does_not_count_is_caught(
    tag: str, written: Written
) -> None:
    [problem] = written("cells", cell("x = 1", f":tags: [{tag}]\n"))
    assert "a cell with the tag" in problem
    quoted = ", ".join(f'"{word}"' for word in tag.split(", "))
    [problem] = written("cells", cell("x = 1", f":tags: [{quoted}]\n"))
    assert "a cell with the tag" in problem
    head = f"---\ntags: [{tag}]\n---\n"
    [problem] = written("cells", cell("x = 1", head))
    assert "a cell with the tag" in problem


@pytest.mark.parametrize("head", ["tags: [a", "a: b: c", "only words"])
def test_a_head_that_is_no_yaml_is_caught(head: str, written: Written) -> None:
    [problem] = written("cells", cell("x = 1", f"---\n{head}\n---\n"))
    assert "a head that is no YAML" in problem


@pytest.mark.parametrize("code", ["%timeit f()", "!rm -r records", "x ="])
def test_a_cell_holds_python_only(code: str, written: Written) -> None:
    [problem] = written("cells", cell(code))
    assert "no Python" in problem


@pytest.mark.parametrize("code", ["torch.seed()", "torch.Generator().seed()"])
def test_a_seed_that_nobody_chose_is_caught(
    code: str, written: Written
) -> None:
    [problem] = written("cells", cell(code))
    assert "a seed that nobody chose" in problem


def test_a_line_that_is_too_wide_is_caught(written: Written) -> None:
    [problem] = written("cells", cell("x = " + "1 + " * 20 + "1"))
    assert "wider than 80" in problem
    silent = cell("x = " + "1 + " * 20 + "1", ":tags: [remove-output]\n")
    assert len(written("cells", silent)) == 1
    hidden = cell("x = " + "1 + " * 20 + "1", ":tags: [remove-input]\n")
    assert written("cells", hidden) == []


@pytest.mark.parametrize(
    "code",
    [
        'glue("loss", 1.234)',
        'glue("loss", "1.234")',
        'glue("loss", f"{1.234:.2f}", display=False)',
        'glue("loss", round(1.2341, 3))',
        'planted = 1.234\nglue("loss", planted)',
        'planted = 1.234\nglue("loss", f"{planted:.1f}")',
        'glue("loss", -1)',
        'glue(name="loss", variable=1.234)',
        'glue("loss", variable=1.234)',
        'glue("loss", "1.2" + "34")',
        'planted: float = 1.234\nglue("loss", planted)',
        'other, planted = 1, 1.234\nglue("loss", planted)',
        'planted = {"a": 1.234}\nglue("loss", planted["a"])',
        'planted = [1.234]\nglue("loss", planted[0])',
        'from myst_nb import glue as stick\nstick("loss", 1.234)',
    ],
)
def test_a_typed_glue_is_caught(code: str, written: Written) -> None:
    [problem] = written("cells", cell(code))
    assert "is typed, not run" in problem


@pytest.mark.parametrize(
    "code",
    [
        'glue("loss", loss.item())',
        'steps = 17\nrun(steps)\nglue("steps", steps)',
        'glue("share", f"{100 * share:.0f}")',
        "double = lambda x: 2 * x",
        "def picture(ax, x):\n    ax.plot(x)\n    ax.set_xlabel('step')",
    ],
)
def test_what_a_cell_may_do(code: str, written: Written) -> None:
    assert written("cells", cell(code)) == []


def test_shell_commands_may_be_shown(written: Written) -> None:
    assert written("cells", "```sh\nmake pdf\n```") == []
    found = written("cells", "```fish\nmake pdf\n```")
    assert ["a fence in fish" in problem for problem in found] == [True]


# --- the parsed page ---------------------------------------------------------


def page(tmp_path_text: str) -> Page:
    """A page that exists only as text."""
    from pathlib import Path

    return Page(Path("page.md"), "page.md", tmp_path_text)


def test_blocks_know_their_lines() -> None:
    text = (
        "# Title\n\n````{tip} A *title*\n\n```{code-cell}\n---\n"
        "tags: [a, b]\n---\nx = 1\n```\n````\n\n"
        ":::{note}\n:class: c\nWords.\n:::\n"
    )
    tip, cell, note = page(text).blocks
    assert (tip.directive, tip.argument, tip.line) == ("tip", "A *title*", 3)
    assert (cell.line, cell.start, cell.body) == (5, 9, "x = 1")
    assert cell.tags == ["a", "b"]
    assert (note.option("class"), note.body, note.line) == ("c", "Words.", 13)
    words = [(p.kind, p.words, p.line) for p in page(text).passages]
    assert words == [
        ("heading", "Title", 1),
        ("title", "A title", 3),
        ("paragraph", "Words.", 15),
    ]


def test_roles_code_and_mathematics_are_pieces() -> None:
    text = "See {ref}`gpt`, `x` and $y$ [there](https://a.b)."
    passage = inline(text, 7, "paragraph")
    kinds = [piece.kind for piece in passage.pieces]
    assert kinds == [
        *["text", "role", "text", "code", "text", "math", "text"],
        *["link", "text", "text"],
    ]
    assert passage.pieces[1].role == "ref"
    assert {piece.line for piece in passage.pieces} == {7}
