"""Run every gate, or those named: ``python -m press.gates numbers``."""

import argparse
import sys
import time

from press.gates import GATES, Book


def main(arguments: list[str] | None = None) -> int:
    """Run the gates, a line for each; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m press.gates", description=__doc__
    )
    parser.add_argument(
        "names", nargs="*", metavar="GATE", help=", ".join(GATES)
    )
    names = parser.parse_args(arguments).names or list(GATES)
    if unknown := sorted(set(names) - set(GATES)):
        parser.error(f"no gate {', '.join(unknown)}; there are {list(GATES)}")
    book = Book()
    failed = 0
    for name in names:
        start = time.perf_counter()
        problems = GATES[name](book)
        seconds = time.perf_counter() - start
        verdict = f"{len(problems)} problems" if problems else "holds"
        about = (GATES[name].__doc__ or "").split("\n")[0]
        print(f"{name:<12} {seconds:5.1f} s  {verdict}  {about}", flush=True)
        for problem in problems:
            print(f"    {problem}")
        failed += bool(problems)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
