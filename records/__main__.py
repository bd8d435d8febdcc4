"""Record runs that are too long to repeat at every build.

    python -m records                list the records and their age
    python -m records NAME [NAME…]   run again and write records/NAME.json

A record is made by ``records/make_NAME.py``: its `record()` measures and
returns the data, its `replay(data)` repeats the part that must come out the
same on every machine and raises AssertionError where it does not. A test
replays every record. The file carries a seal (`press.records`), which is
verified whenever it is read: a number changed by hand does not pass.
"""

import argparse
import datetime
import importlib
import os
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

from press.machine import machine, versions
from press.records import RecordError, read, seal
from scratchlm.text.files import write_json

HERE = Path(__file__).parent


def names() -> list[str]:
    """The names of all records that this folder can make."""
    makers = sorted(HERE.glob("make_*.py"))
    return [m.stem.removeprefix("make_").replace("_", "-") for m in makers]


def maker(name: str) -> ModuleType:
    """The module that records and replays `name`."""
    return importlib.import_module("records.make_" + name.replace("-", "_"))


def make(name: str) -> dict[str, Any]:
    """Run the maker of `name`; returns the record with its provenance."""
    start = time.perf_counter()
    data = maker(name).record()
    return {
        "name": name,
        "made": datetime.date.today().isoformat(),
        "machine": machine(),
        "versions": versions(["torch", "numpy"]),
        "seconds": round(time.perf_counter() - start, 1),
        "data": data,
    }


def write(name: str) -> Path:
    """Make the record and write it; the old one stays until it is done."""
    path = HERE / f"{name}.json"
    write_json(path, seal(make(name)))
    return path


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m records",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME")
    chosen = parser.parse_args(arguments).names
    known = names()
    unknown = [name for name in chosen if name not in known]
    if unknown:
        print(
            f"no record {', '.join(unknown)}; there are: {', '.join(known)}",
            file=sys.stderr,
        )
        return 2
    if chosen and not os.access(HERE, os.W_OK):
        print(f"{HERE} cannot be written to", file=sys.stderr)
        return 2
    for name in dict.fromkeys(chosen):
        print(f"{name}: recording …", flush=True)
        print(f"{name}: wrote {write(name)}")
    if not chosen:
        for name in known:
            path = HERE / f"{name}.json"
            made = "not recorded yet"
            if path.exists():
                try:
                    made = read(path)["made"]
                except RecordError as error:
                    made = str(error)
            print(f"{name:24} {made}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
