"""Measure the book's core beside what you would use instead.

    python -m benchmarks             everything, one table after the other
    python -m benchmarks bpe         byte pairs: learning and encoding
    python -m benchmarks training    seconds to a loss, tokens per second
    python -m benchmarks generation  tokens per second with a cache
    python -m benchmarks build       the book itself, built and built again

Each prints one table and writes _build/benchmarks/NAME.json. Ours and the
peer's take turns in one run; a number is the median of five turns or more
after one to warm up, of three where a turn takes minutes, and a first build
is one. Leave the machine alone meanwhile.
"""

import argparse
import importlib
import sys
import time

from benchmarks import measure

NAMES = ("bpe", "training", "generation", "build")


def run(name: str) -> None:
    """Run one benchmark; print its table and write its file."""
    start = time.perf_counter()
    rows = importlib.import_module(f"benchmarks.{name}").rows()
    seconds = time.perf_counter() - start
    path = measure.write(name, rows).relative_to(measure.ROOT)
    print(f"\n{name}: {measure.machine()}, {seconds:.0f} s")
    print(f"{measure.table(rows)}")
    if notes := measure.conditions(rows):
        print(notes)
    print(f"wrote {path}", flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=", ".join(NAMES)
    )
    chosen = parser.parse_args(arguments).names or list(NAMES)
    unknown = [name for name in chosen if name not in NAMES]
    if unknown:
        print(
            f"no benchmark {', '.join(unknown)}; there are: "
            f"{', '.join(NAMES)}",
            file=sys.stderr,
        )
        return 2
    try:
        measure.OUT.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        print(f"{error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    try:
        for name in dict.fromkeys(chosen):
            run(name)
    except (measure.MissingPeer, OSError) as error:
        print(f"{error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
