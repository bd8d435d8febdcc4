"""A page can do no harm, and nothing that comes out otherwise tomorrow."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.manager import AsyncKernelManager

from press.extensions import sandbox
from press.kernels import KernelManager

ROOT = Path(__file__).parents[2]
REFUSED = {
    "write a file": "open('planted.txt', 'w')",
    "append to a file": "open(ROOT / 'README.md', 'a')",
    "write a path": "(ROOT / 'book/planted.md').write_text('x')",
    "open for both": "open(ROOT / 'README.md', 'r+')",
    "write by number": "os.open(ROOT / 'README.md', os.O_WRONLY)",
    "save an array": "np.save(ROOT / 'planted.npy', np.zeros(2))",
    "write at home": "open(os.path.expanduser('~/planted.txt'), 'w')",
    "write the build": "open(ROOT / '_build/planted.txt', 'w')",
    "make a folder": "os.mkdir(ROOT / 'planted')",
    "delete a record": "(ROOT / 'records/memory.json').unlink()",
    "delete all records": "shutil.rmtree(ROOT / 'records')",
    "rename a record": "os.rename(ROOT / 'records/memory.json', TMP / 'x')",
    "replace a record": "os.replace(__file__, ROOT / 'records/memory.json')",
    "move a folder": "shutil.move(ROOT / 'records', TMP / 'records')",
    "copy over a file": "shutil.copyfile(ROOT / 'Makefile', ROOT / 'x')",
    "cut a file": "os.truncate(ROOT / 'README.md', 0)",
    "link": "os.symlink(ROOT / 'README.md', ROOT / 'planted')",
    "change a mode": "os.chmod(ROOT / 'README.md', 0o600)",
    "a way out of a temporary folder": (
        "open(TMP / '..' / '..' / '..' / ROOT / 'x', 'w')"
    ),
    "a link out of a temporary folder": (
        "os.symlink(ROOT, TMP / 'out'); open(TMP / 'out' / 'x', 'w')"
    ),
    "a database": "sqlite3.connect(ROOT / 'planted.db')",
    "fetch": "urllib.request.urlopen('https://arxiv.org')",
    "look up": "socket.getaddrinfo('arxiv.org', 443)",
    "connect": "socket.create_connection(('192.0.2.1', 80), 1)",
    "send": "socket.socket(socket.AF_INET, socket.SOCK_DGRAM)"
    ".sendto(b'x', ('192.0.2.1', 9))",
    "send a message": "socket.socket(socket.AF_INET, socket.SOCK_DGRAM)"
    ".sendmsg([b'x'], [], 0, ('192.0.2.1', 9))",
    "look up backwards": "socket.gethostbyaddr('192.0.2.1')",
    "look up a name": "socket.getnameinfo(('192.0.2.1', 80), 0)",
    "requests": "requests.get('https://arxiv.org', timeout=1)",
    "a shell": "os.system('true')",
    "a program": "subprocess.run(['git', 'status'])",
    "a shell's line": "subprocess.run('true', shell=True)",
    "a replaced process": "os.execv(sys.executable, ['python'])",
    "Python alone": "subprocess.run([sys.executable, '-I', '-c', '1'])",
    "Python without site": "subprocess.run([sys.executable, '-Sc', '1'])",
    "Python alone, later": (
        "subprocess.run([sys.executable, '-X', 'dev', '-I', '-c', '1'])"
    ),
    "Python that was let go": (
        "\nkept = os.environ.pop('SCRATCHLM_GUARD')\ntry:\n"
        "    subprocess.run([sys.executable, '-c', '1'])\nfinally:\n"
        "    os.environ['SCRATCHLM_GUARD'] = kept"
    ),
    "give away": "os.chown(ROOT / 'README.md', -1, -1)",
    "mark": "os.setxattr(ROOT / 'README.md', 'user.a', b'1')",
    "Python without environment": (
        "subprocess.run([sys.executable, '-c', '1'], env={})"
    ),
    "the time": "time.time()",
    "the time, exactly": "time.time_ns()",
    "the date": "datetime.datetime.now()",
    "the date, imported": "from datetime import datetime as d; d.utcnow()",
    "today": "datetime.date.today()",
    "the hour": "time.localtime()",
    "the hour as text": "time.strftime('%H')",
    "a measured time": "print(time.perf_counter())",
    "a duration": "t = time.perf_counter(); print(time.perf_counter() - t)",
    "a rounded duration": "print(round(2 * time.monotonic(), 1))",
    "a formatted duration": "f'{time.process_time():.1f}'",
    "a duration in a list": "str([time.perf_counter()])",
    "a rate": "print(100 / time.perf_counter())",
    "a duration, rounded to a number": "print(round(time.perf_counter()))",
    "a duration as a number": "print(int(time.monotonic()))",
    "a duration in percent": "print('%.1f' % time.perf_counter())",
    "a duration in an array": "print(np.median([time.perf_counter()]))",
    "a duration in JSON": "print(json.dumps(time.perf_counter()))",
    "compare times": "time.perf_counter() - time.perf_counter() <= 0",
    "a clock by its number": "time.clock_gettime(time.CLOCK_REALTIME)",
    "a measurement": "timeit.timeit('1', number=1)",
    "a timer": "timeit.default_timer()",
    "a timer of its own": "timeit.Timer('1').repeat(1, 1)",
    "the processor's time": "os.times()",
    "numpy without a seed": "np.random.default_rng()",
    "numpy with none": "np.random.default_rng(None)",
    "numpy, from the top": "from numpy.random import default_rng as r; r()",
    "numpy's seed": "np.random.seed()",
    "an old generator": "np.random.RandomState()",
    "bits": "np.random.Generator(np.random.PCG64())",
    "random without a seed": "random.Random()",
    "random's seed": "random.seed()",
    "the system's": "random.SystemRandom(5)",
    "bytes": "os.urandom(4)",
    "an identity": "uuid.uuid4()",
    "a hidden word": "secrets.token_hex()",
    "swallowed": "\ntry:\n    open('x', 'w')\nexcept Exception:\n    pass",
}
ALLOWED = {
    "write a temporary file": "(TMP / 'x').write_text('x')",
    "a temporary folder": "shutil.rmtree(tempfile.mkdtemp())",
    "read": "(ROOT / 'README.md').read_text()",
    "nowhere": "open(os.devnull, 'w').close()",
    "this machine": "s = socket.create_server(('127.0.0.1', 0)); "
    "socket.create_connection(s.getsockname()).close()",
    "seeds": "np.random.default_rng(0); random.Random(1)",
    "seeded from the start": "print(random.random(), np.random.rand())",
    "a library that measures": "logging.getLogger('a').warning('so')",
    "a given date": "print(datetime.datetime(2026, 1, 1), time.gmtime(0))",
    "a kind of date": (
        "assert isinstance(datetime.datetime(2026, 1, 1), datetime.date)"
    ),
    "dates of another metaclass": (
        "from pydantic.v1.types import ConstrainedDate; "
        "assert issubclass(ConstrainedDate, datetime.date)"
    ),
    "Python with options": (
        "subprocess.run([sys.executable, '-X', 'dev', '-c', '1'], check=True)"
    ),
    "Python": "subprocess.run([sys.executable, '-c', '1'], check=True)",
}
CHILDREN = {
    "write": "open('planted.txt', 'w')",
    "delete": "import os; os.remove('README.md')",
    "fetch": "import socket; socket.getaddrinfo('arxiv.org', 443)",
}
DRIVER = """
import datetime, io, json, logging, os, random, secrets, shutil, socket
import sqlite3, subprocess, sys, tempfile, time, timeit, urllib.request, uuid
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any
import numpy as np, requests
from press.guard import Forbidden, start
ROOT = Path.cwd()
TMP = Path(tempfile.mkdtemp())
tasks = json.load(sys.stdin)
__file__ = str(TMP / "file")
Path(__file__).write_text("x")
start(ROOT)
said = {}
for name, code in tasks.items():
    out = io.StringIO()
    try:
        with redirect_stdout(out):
            exec(compile(code, name, "exec"), globals())
        said[name] = ["done", out.getvalue()]
    except Forbidden as error:
        said[name] = ["forbidden", str(error)]
    except Exception as error:
        said[name] = ["failed", repr(error)]
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def said() -> dict[str, list[str]]:
    """What the guard says to each task, all in one process."""
    tasks = {**REFUSED, **ALLOWED}
    for name, code in CHILDREN.items():
        command = f"[sys.executable, '-c', {code!r}]"
        run = f"subprocess.run({command}, capture_output=True, text=True)"
        tasks[f"child: {name}"] = f"print({run}.stderr)"
    before = sandbox.state(ROOT)
    done = subprocess.run(
        [sys.executable, "-c", DRIVER],
        input=json.dumps(tasks),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert sandbox.changes(before, sandbox.state(ROOT)) == []
    return json.loads(done.stdout)


@pytest.mark.parametrize("task", REFUSED)
def test_a_page_may_not(task: str, said: dict[str, list[str]]) -> None:
    assert said[task][0] == "forbidden", said[task]


@pytest.mark.parametrize("task", ALLOWED)
def test_a_page_may(task: str, said: dict[str, list[str]]) -> None:
    assert said[task][0] == "done", said[task]


@pytest.mark.parametrize("task", CHILDREN)
def test_what_a_page_starts_may_not(
    task: str, said: dict[str, list[str]]
) -> None:
    assert "press.guard.Forbidden" in said[f"child: {task}"][1]


def test_global_generators_begin_with_a_seed(
    said: dict[str, list[str]],
) -> None:
    import random

    import numpy as np

    ours = random.Random(2026).random()
    theirs = np.random.RandomState(2026).rand()
    assert said["seeded from the start"][1] == f"{ours} {theirs}\n"


@pytest.mark.parametrize("manager", [AsyncKernelManager, KernelManager])
def test_each_kernel_of_a_build_is_guarded(
    tmp_path: Path, manager: type[AsyncKernelManager]
) -> None:
    import nbformat
    from nbclient import NotebookClient

    target = Path.home() / "planted-by-a-page.txt"
    cells = [
        "x = 1 + 1\nprint(x)",
        f"open({str(target)!r}, 'w')",
        "import time\ntime.time()",
        "start = time.perf_counter()",
        "x",
        "import tempfile\nprint(tempfile.mkdtemp())",
    ]
    notebook = nbformat.v4.new_notebook()
    notebook.cells = [nbformat.v4.new_code_cell(cell) for cell in cells]
    env = {**os.environ, **sandbox.environment(tmp_path)}
    client = NotebookClient(
        notebook,
        kernel_name="python3",
        allow_errors=True,
        kernel_manager_class=manager,
    )
    client.execute(env=env)
    said = [
        [output.get("ename", "fine") for output in cell.outputs]
        for cell in notebook.cells
    ]
    wrong = ["Forbidden"]
    assert said == [["fine"], wrong, wrong, wrong, ["fine"], ["fine"]]
    assert not target.exists()
    left = Path(notebook.cells[-1].outputs[0]["text"].strip())
    assert left.is_absolute()
    assert not left.parent.exists()


def test_the_extension_is_in_the_configuration() -> None:
    text = (ROOT / "_config.yml").read_text(encoding="utf-8")
    assert "- press.extensions.sandbox\n" in text


def test_a_change_behind_pythons_back_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "records" / "a.json"
    path.parent.mkdir()
    path.write_text("1")
    before = sandbox.state(tmp_path)
    assert sandbox.changes(before, sandbox.state(tmp_path)) == []
    path.write_text("22")
    (tmp_path / "README.md").write_text("1")
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "c.json").write_text("1")
    (tmp_path / "records" / "b.json").write_text("1")
    after = sandbox.state(tmp_path)
    found = [Path(name).name for name in sandbox.changes(before, after)]
    assert sorted(found) == ["README.md", "a.json", "b.json", "c.json"]


@pytest.mark.judge
@pytest.mark.parametrize(
    ("cell", "complaint"),
    [
        ("open('planted.txt', 'w')", "tried to change"),
        ("import time\ntime.time()", "looked at the clock"),
        (
            "from safetensors.numpy import save_file\nimport numpy as np\n"
            "save_file({'a': np.zeros(2)}, 'planted.txt')",
            "was changed while the pages ran",
        ),
    ],
)
def test_a_build_fails_for_what_a_page_does(
    cell: str, complaint: str, small_book: Any
) -> None:
    page = small_book.folder / "book" / "page.md"
    text = page.read_text(encoding="utf-8")
    page.write_text(f"{text}\n```{{code-cell}}\n{cell}\n```\n")
    done = small_book.build("html")
    assert done.returncode != 0
    log = "".join(
        path.read_text(encoding="utf-8")
        for path in (small_book.folder / "_build" / "logs").glob("*.log")
    )
    assert complaint in log + done.stderr
