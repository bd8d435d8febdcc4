"""Do the tests notice? Mistakes planted in the library, one at a time.

    python -m press.mutants --sample 40          (every module, 40 of each)
    python -m press.mutants --module scratchlm.model.heads --sample 0

Each mutant of `press.mutations` runs the tests of its own module; one that
survives them, those of the whole package and of the module's solutions. It
runs in a process of its own, forked from one that has imported torch and
all else but the library, so that a mutant costs a second or two. Tests that
take four times the work they should count as tests that noticed.

Survivors that change nothing that can be seen are listed in
``press/judges/mutants.yml``, each with the reason, and do not count. The
command fails where less than 85 % of a package's mutants are killed.
"""

import argparse
import contextlib
import gc
import importlib
import importlib.machinery
import importlib.util
import json
import math
import os
import random
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import yaml

from press.mutations import Mutant, Source
from press.roadmap import PACKAGES

ROOT = Path(__file__).parent.parent
REASONS = ROOT / "press" / "judges" / "mutants.yml"
OWN = (
    *("scratchlm", "solutions", "scaffold", "records", "benchmarks"),
    *("compliance", "check"),
)
OPTIONS = (
    *("-x", "-q", "-p", "no:cacheprovider", "--hypothesis-seed=0"),
    *("-W", "ignore::pytest.PytestAssertRewriteWarning"),
    *("-m", "not judge"),  # the long ones, too
)
BAR = 0.85
MEMORY = 12 * 2**30  # bytes that a mutant may take
LARGEST = 2**30  # bytes that it may write to one file
ASLEEP = 100  # times its work may a mutant take, by a busy machine's clock


# --- what to run -------------------------------------------------------------


def modules(package: str) -> list[str]:
    """The modules of a package of the library, by their dotted names."""
    folder = ROOT / "src" / "scratchlm" / package
    return [
        f"scratchlm.{package}.{path.stem}"
        for path in sorted(folder.glob("*.py"))
        if path.stem != "__init__"
    ]


def source_of(module: str) -> Path:
    """The file of a module of the library."""
    return ROOT.joinpath("src", *module.split(".")).with_suffix(".py")


def own_tests(module: str) -> list[str]:
    """The tests of a module, and the examples in its docstrings."""
    _, package, name = module.split(".")
    path = ROOT / "tests" / package / f"test_{name}.py"
    doctest = f"tests/test_doctests.py::test_the_examples_hold[{module}]"
    found = [str(path.relative_to(ROOT))] if path.exists() else []
    return [*found, doctest]


def more_tests(module: str) -> list[str]:
    """The tests of the module's package and solutions."""
    _, package, name = module.split(".")
    paths = sorted((ROOT / "tests" / package).glob("test_*.py"))
    paths.append(ROOT / "tests" / "solutions" / f"test_{name}.py")
    own = set(own_tests(module))
    found = (str(p.relative_to(ROOT)) for p in paths if p.exists())
    return [path for path in found if path not in own]


def drawn(source: Source, sample: int, seed: int) -> list[Mutant]:
    """So many mutants of a module, by chance; all of them for 0."""
    order = list(range(len(source)))
    random.Random(f"{seed} {source.module}").shuffle(order)
    mutants: list[Mutant] = []
    for index in order:
        if sample and len(mutants) == sample:
            break
        if mutant := source.mutant(index):
            mutants.append(mutant)
    return mutants


# --- one mutant, in a process of its own -------------------------------------


class Planted(importlib.machinery.SourceFileLoader):
    """Gives the mutant for the file, to whoever imports the module."""

    def __init__(self, mutant: Mutant) -> None:
        """For one mutant."""
        super().__init__(mutant.module, str(source_of(mutant.module)))
        self.code = mutant.source

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> importlib.machinery.ModuleSpec | None:
        """This loader, for its own module alone."""
        if fullname != self.name:
            return None
        return importlib.util.spec_from_file_location(
            fullname, self.path, loader=self
        )

    def get_code(self, fullname: str) -> object:  # type: ignore[override]
        """The mutant, compiled under the file's own name."""
        return compile(self.code, self.path, "exec")


def child(mutant: Mutant, tests: list[str], folder: str, limit: int) -> int:
    """Run the tests on a mutant, in this process, which is to end then.

    After `limit` seconds of work, as its processor counts them, the system
    ends it.
    """
    import pytest

    os.setsid()
    output = os.open(folder + "/output", os.O_CREAT | os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(output, stream)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST, LARGEST))
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
    os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = folder + "/examples"
    os.chdir(ROOT)
    sys.modules["__main__"] = ModuleType("__main__")  # that of the tests
    sys.meta_path.insert(0, Planted(mutant))
    place = str(Path(folder, "tmp"))
    code = pytest.main([*OPTIONS, "--basetemp", place, *tests])
    names = "\n".join(sys.modules)
    Path(folder, "modules").write_text(names, encoding="utf-8")
    return int(code)


@dataclass
class Job:
    """A run that has begun."""

    mutant: Mutant
    folder: tempfile.TemporaryDirectory[str]
    began: float = field(default_factory=time.monotonic)


def start(mutant: Mutant, tests: list[str], limit: int) -> tuple[int, Job]:
    """Fork, and let the fork run; its process and the job."""
    job = Job(mutant, tempfile.TemporaryDirectory(prefix="mutant-"))
    process = os.fork()
    if process == 0:
        code = 1
        try:
            code = child(mutant, tests, job.folder.name, limit)
        finally:
            os._exit(code)
    return process, job


def wait(jobs: dict[int, Job], limit: int) -> tuple[Job, bool]:
    """The next job that ends, and whether its tests noticed nothing.

    One that neither ends nor works is ended after a long while.
    """
    while True:
        for process, job in list(jobs.items()):
            done, status = os.waitpid(process, os.WNOHANG)
            asleep = time.monotonic() - job.began > ASLEEP * limit
            if not done and asleep:
                os.killpg(process, signal.SIGKILL)
                _, status = os.waitpid(process, 0)
            if done or asleep:
                del jobs[process]
                job.folder.cleanup()
                return job, status == 0
        time.sleep(0.01)


def survivors(
    mutants: Iterable[Mutant], tests: list[str], limit: int, at_once: int
) -> list[Mutant]:
    """The mutants that these tests do not notice."""
    waiting, jobs = list(mutants)[::-1], dict[int, Job]()
    alive: list[Mutant] = []
    while waiting or jobs:
        while waiting and len(jobs) < at_once:
            process, job = start(waiting.pop(), tests, limit)
            jobs[process] = job
        job, survived = wait(jobs, limit)
        if survived:
            alive.append(job.mutant)
    return alive


def clean_run(unchanged: Mutant, tests: list[str]) -> int:
    """A limit for the tests, from a run on a mutant that is none.

    They run twice: what the first run imported and is not ours is imported
    here, so that it is there in the second, and in every fork to come.
    Raises SystemExit where they fail.
    """
    seconds = 0.0
    for _ in range(2):
        process, job = start(unchanged, tests, 3600)
        _, status, used = os.wait4(process, 0)
        seconds = used.ru_utime + used.ru_stime
        folder = Path(job.folder.name)
        if status != 0:
            told = (folder / "output").read_text(encoding="utf-8")[-2000:]
            raise SystemExit(f"{told}\n{tests} fail without a mistake")
        names = (folder / "modules").read_text(encoding="utf-8")
        for name in filter(shared, names.splitlines()):
            with contextlib.suppress(ImportError):  # made up at run time
                importlib.import_module(name)
        job.folder.cleanup()
    gc.freeze()
    return math.ceil(10 + 4 * seconds)


def shared(name: str) -> bool:
    """Whether all forks can have a module that one of them imported."""
    top = name.split(".")[0]
    ours = top in OWN or top in ("press", "tests", "conftest", "__main__")
    return not ours and not top.startswith("test_") and name not in sys.modules


# --- the judgement -----------------------------------------------------------


@dataclass
class Verdict:
    """What became of the mutants of one module."""

    module: str
    places: int
    tried: int
    excused: list[Mutant]
    survived: list[Mutant]

    @property
    def killed(self) -> int:
        """How many the tests noticed."""
        return self.tried - len(self.excused) - len(self.survived)


def reasons() -> dict[tuple[str, ...], str]:
    """Why a mutant may survive, by its key."""
    entries = yaml.safe_load(REASONS.read_text(encoding="utf-8")) or []
    return {
        (e["module"], e["where"], e["before"], e["after"]): e["reason"]
        for e in entries
    }


def judge(module: str, sample: int, seed: int, at_once: int) -> Verdict:
    """Plant so many mistakes in a module and let the tests look."""
    text = source_of(module).read_text(encoding="utf-8")
    source, unchanged = (
        Source(module, text),
        Mutant(module, "", 0, "", "", text),
    )
    mutants = drawn(source, sample, seed)
    known = reasons()
    alive = [mutant for mutant in mutants if mutant.key not in known]
    excused = [mutant for mutant in mutants if mutant.key in known]
    for tests in (own_tests(module), more_tests(module)):
        if alive and tests:
            limit = clean_run(unchanged, tests)
            alive = survivors(alive, tests, limit, at_once)
    return Verdict(module, len(source), len(mutants), excused, alive)


def summary(verdicts: Iterable[Verdict]) -> dict[str, dict[str, float]]:
    """Killed and survived of each package, and the share killed."""
    table: dict[str, Counter[str]] = {}
    for verdict in verdicts:
        counts = table.setdefault(verdict.module.split(".")[1], Counter())
        counts["tried"] += verdict.tried
        counts["killed"] += verdict.killed
        counts["excused"] += len(verdict.excused)
        counts["survived"] += len(verdict.survived)
    return {
        package: {
            **counts,
            "share": counts["killed"]
            / max(1, counts["killed"] + counts["survived"]),
        }
        for package, counts in table.items()
    }


def as_json(verdicts: list[Verdict], sample: int, seed: int) -> str:
    """The result, for the judges' table."""

    def tell(mutant: Mutant) -> dict[str, str | int]:
        path = source_of(mutant.module).relative_to(ROOT).as_posix()
        return {
            "at": f"{path}:{mutant.line}",
            "module": mutant.module,
            "where": mutant.where,
            "before": mutant.before,
            "after": mutant.after,
        }

    return json.dumps(
        {
            "seed": seed,
            "sample": sample,
            "packages": summary(verdicts),
            "modules": {
                v.module: {
                    "places": v.places,
                    "tried": v.tried,
                    "killed": v.killed,
                    "excused": len(v.excused),
                    "survived": len(v.survived),
                }
                for v in verdicts
            },
            "survivors": [tell(m) for v in verdicts for m in v.survived],
        },
        indent=1,
        ensure_ascii=False,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Judge the modules that are asked for; 1 where a package fails."""
    parser = argparse.ArgumentParser(prog="python -m press.mutants")
    parser.add_argument("--module", action="append", help="only this one")
    parser.add_argument("--sample", type=int, default=40, help="0 for all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path, help="a JSON file")
    options = parser.parse_args(arguments)
    every = [m for p in PACKAGES for m in modules(p)]
    if wrong := sorted({*(options.module or [])} - {*every}):
        parser.error(f"no module {', '.join(wrong)}; there are {every}")
    if options.sample < 0 or options.jobs < 1:
        parser.error("--sample is 0 or more, --jobs 1 or more")
    if options.out and options.out.is_dir():
        parser.error(f"--out {options.out} is a folder; name a file")
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"
    verdicts = []
    for module in options.module or every:
        verdict = judge(module, options.sample, options.seed, options.jobs)
        verdicts.append(verdict)
        print(f"{module:34} {verdict.killed:4} of {verdict.tried:4} killed")
        for mutant in verdict.survived:
            path = source_of(module).relative_to(ROOT)
            print(f"    {path}:{mutant.line}: {mutant.where}")
            print(
                f"      - {mutant.before}\n      + {mutant.after}", flush=True
            )
    table = summary(verdicts)
    for package, counts in table.items():
        print(f"{package:34} {counts['share']:.1%} killed")
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        text = as_json(verdicts, options.sample, options.seed)
        options.out.write_text(text + "\n", encoding="utf-8")
    return int(any(counts["share"] < BAR for counts in table.values()))


if __name__ == "__main__":
    raise SystemExit(main())
