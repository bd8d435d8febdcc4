"""What must not be in the repository is found wherever somebody puts it."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from press.gates import GATES, Book

ROOT = Path(__file__).parents[2]
Plant = Callable[..., list[str]]
Written = Callable[..., list[str]]


def cell(code: str) -> str:
    """A code cell that no reader sees."""
    return f"```{{code-cell}}\n:tags: [remove-cell]\n{code}\n```"


UNSAFE = {
    "eval": ("eval(input())", "S307"),
    "exec": ("exec(text)", "S102"),
    "a shell": ("import subprocess\nsubprocess.run(x, shell=True)", "S602"),
    "os.system": ("import os\nos.system('ls')", "S605"),
    "YAML": ("import yaml\nyaml.load(x, Loader=yaml.Loader)", "S506"),
    "a weak lock": ("import tempfile\ntempfile.mktemp()", "S306"),
    "no lock": ("import requests\nrequests.get(x, verify=False)", "S501"),
    "eval, silenced": ("eval(input())  # noqa: S307", "S307"),
    "a name that is not there": ("print(never_defined)", "F821"),
}


@pytest.mark.parametrize("kind", UNSAFE)
def test_an_unsafe_cell_is_caught(kind: str, written: Written) -> None:
    code, rule = UNSAFE[kind]
    lines = len(Book().read("book/model/attention.md").splitlines())
    found = written("unsafe", cell(code))
    assert any(f" {rule} " in problem for problem in found), found
    line = lines + 3 + code.count("\n") + 1
    assert any(f":{line}: " in problem for problem in found), found


RUFFS = [k for k in UNSAFE if not k.endswith(("there", "silenced"))]


@pytest.mark.parametrize("kind", RUFFS)
def test_an_unsafe_module_is_caught(kind: str, tmp_path: Path) -> None:
    code, rule = UNSAFE[kind]
    path = tmp_path / "src" / "module.py"
    path.parent.mkdir()
    path.write_text(code + "\n", encoding="utf-8")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    command = [sys.executable, "-m", "ruff", "check", "--quiet", "src"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert rule in done.stdout


PICKLED = {
    "pickle": ("import pickle", "imports pickle"),
    "its loads": ("from pickle import loads", "imports pickle"),
    "dynamic": ("__import__('pickle').loads(x)", "imports pickle"),
    "dill": ("import dill as d", "imports dill"),
    "shelve": ("import shelve", "imports shelve"),
    "joblib": ("from joblib import load", "imports joblib"),
    "torch.load": ("torch.load(p, weights_only=False)", "torch.load pickles"),
    "torch.load, silent": ("torch.load(p)", "torch.load pickles"),
    "torch.load, later": ("torch.load(p, weights_only=w)", "load pickles"),
    "torch.save": ("torch.save(model, p)", "torch.save pickles"),
    "numpy": ("np.load(p, allow_pickle=True)", "allow_pickle"),
    "YAML": ("yaml.unsafe_load(x)", "makes objects"),
    "YAML in full": ("yaml.load(x, yaml.FullLoader)", "makes objects"),
    "YAML, all of it": ("yaml.load_all(x, yaml.Loader)", "makes objects"),
    "YAML, no loader of ours": ("yaml.load(x, NoSafeLoader)", "makes objects"),
    "torch.load, imported": (
        "from torch import load; load(p)",
        "torch.load pickles",
    ),
    "torch, renamed": ("import torch as t; t.save(m, p)", "save pickles"),
    "YAML, renamed": (
        "from yaml import load as planted; planted(x, L)",
        "yaml.load makes objects",
    ),
    "torch.load, by its name": (
        "getattr(torch, 'load')(p)",
        "torch.load pickles",
    ),
    "torch.load, later again": ("read = torch.load", "load is passed on"),
    "torch.load, mapped": ("map(torch.load, ps)", "load is passed on"),
    "numpy, in place": ("np.load(p, None, True)", "allow_pickle"),
    "numpy, unpacked": ("np.load(p, **{'allow_pickle': True})", "allow_pickle"),
    "numpy, options": ("np.load(p, **options)", "allow_pickle"),
    "pickle, in place": ("sys.modules['pickle'].loads(x)", "imports pickle"),
    "torch, in a dictionary": ("vars(torch)['load'](p)", "load pickles"),
    "torch, in its own": ("torch.__dict__['load'](p)", "load pickles"),
    "numpy, in full": ("import numpy; numpy.load(p, 'r', y)", "allow_pickle"),
    "a table": ("pandas.read_pickle(p)", "read_pickle pickles"),
    "torch.hub": ("torch.hub.load(repo, name)", "torch.hub.load pickles"),
    "eval": ("values = map(eval, texts)", "eval is passed on"),
    "exec, by its name": ("getattr(builtins, 'exec')(x)", "exec is passed on"),
    "a shell": ("run = os.system", "os.system is passed on"),
}


@pytest.mark.parametrize("kind", PICKLED)
def test_a_pickle_is_caught(
    kind: str, plant: Plant, written: Written
) -> None:
    code, message = PICKLED[kind]
    [problem] = written("pickled", cell(code))
    assert message in problem
    for name in ("src/scratchlm/planted.py", "solutions/planted.py"):
        [problem] = plant("pickled", name, f"{code}\n")
        assert problem.startswith(f"{name}:1: ")
        assert message in problem


@pytest.mark.parametrize(
    "code",
    [
        "torch.load(p, weights_only=True)",
        "from torch import load; load(p, weights_only=True)",
        "model.eval()",
        "np.load(p)",
        "yaml.load(x, yaml.CSafeLoader)",
        "import pickletools",
        "np.load(p, allow_pickle=False)",
        "yaml.safe_load(x)",
        "yaml.load(x, Loader=yaml.SafeLoader)",
        "json.load(file)",
    ],
)
def test_what_makes_no_objects_is_fine(code: str, written: Written) -> None:
    assert written("pickled", cell(code)) == []


@pytest.mark.parametrize(
    "comment",
    [
        "# noqa",
        "# noqa: S301",
        "#NOQA:S602",
        "# noqa: E501, S301",
        "# ruff: noqa",
        "# ruff: noqa: S102",
        "# pragma: allowlist secret",
        "# pragma: whitelist secret",
        "# pragma: allowlist nextline secret",
    ],
)
def test_no_comment_silences_a_scanner(comment: str, plant: Plant) -> None:
    found = plant("silenced", "src/scratchlm/planted.py", f"x = 1  {comment}\n")
    assert found == [f"src/scratchlm/planted.py:1: {comment}"]
    text = "x = 1  # noqa: E501\n"
    assert plant("silenced", "src/scratchlm/planted.py", text) == []


SECRETS = {
    "a key of AWS": 'key = "AKIA' + 'IOSFODNN7EXAMPLQ"',
    "a token of GitHub": 'auth = "ghp_' + "a1B2c3D4e5" * 3 + 'F6g7H8"',
    "a private key": "-----BEGIN RSA PRIVATE " + "KEY-----",
    "a password": "pass" + 'word = "hunter2-and-more"',
    "an API key": "api" + '_key = "d8f3a91c77"',
    "an address with a password": 'url = "https://me:s3' + 'cr3t@a.org/x"',
    "a key of OpenAI": 'k = "sk-' + "a1B2c3D4e5" * 2 + "T3Blbk" + "FJ"
    + "a1B2c3D4e5" * 2 + '"',
    "a token of Hugging Face": 'x = "hf_' + "a1B2c3D4e5" * 3 + 'abcd"',
    "a key of Google": 'x = "AI' + "zaSy" + "a1B2c3D4e5" * 3 + 'abc"',
    "a key of Anthropic": "x: sk-" + "ant-api03-" + "a1B2c3D4e5" * 3,
    "a fine token of GitHub": 'x = "github_' + "pat_" + "a1B2c3D4e5" * 4 + '"',
    "a header": '"Author' + 'ization": "Bearer ' + "a1B2c3D4e5" * 3 + '"',
    "a machine": "machine a.org login me pass" + "word a1B2c3D4e5",
    "a home folder": 'open("/' + 'home/ada/notes.txt")',
    "a home folder of a Mac": "see /" + "Users/ada/notes.txt",
    "a home folder of Windows": 'open("C:\\\\' + 'Users\\\\ada")',
    "an administrator's folder": "cd /" + "root/book",
    "silenced": "pass" + 'word = "hunter2-more"  # pragma: allowlist secret',
}


@pytest.mark.parametrize("kind", SECRETS)
@pytest.mark.parametrize(
    "name",
    [
        "src/a.py",
        "book/a.md",
        "settings.yml",
        "docs/a.txt",
        "scaffold/templates/a.py.j2",
        "records/a.jsonl",
        ".netrc",
    ],
)
def test_a_secret_is_caught(kind: str, name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"\n{SECRETS[kind]}\n", encoding="utf-8")
    found = GATES["secrets"](Book(tmp_path))
    assert any(problem.startswith(f"{name}:2: ") for problem in found), found


def test_no_secret_is_seen_where_there_is_none(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.png").write_bytes(b"\x89PNG\xff")
    text = 'token = "the"\nsha256 = "86c4e6aa9db7c042ec79f339dcb96d42"\n'
    (tmp_path / "src" / "a.py").write_text(text, encoding="utf-8")
    assert GATES["secrets"](Book(tmp_path)) == []
