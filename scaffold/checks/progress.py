"""What has passed: a small file that the checks write and read.

    {"topics": {"attention": {"passed": true}}}

It says nothing of when, so the same state is the same file, and nothing of a
topic whose checks never ran.
"""

import json
import os
from pathlib import Path
from typing import Any

EMPTY: dict[str, Any] = {"topics": {}}


class ProgressError(ValueError):
    """The file is not what the checks write; the message names the way out."""


def read(path: Path) -> dict[str, bool]:
    """Topic → whether it passed the last time; empty where there is no file.

    Raises ProgressError for a file that holds something else.
    """
    if not path.exists():
        return {}
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        found = {name: item["passed"] for name, item in data["topics"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise wrong(path) from error
    if not all(isinstance(passed, bool) for passed in found.values()):
        raise wrong(path)
    return found


def wrong(path: Path) -> ProgressError:
    """What to say of a file that is none of ours."""
    return ProgressError(
        f"{path} is no file of progress; move it away, or begin again with "
        + json.dumps(EMPTY)
    )


def text(passed: dict[str, bool]) -> str:
    """The file for some topics.

    >>> print(text({"bpe": True}), end="")
    {
     "topics": {
      "bpe": {
       "passed": true
      }
     }
    }
    """
    topics = {name: {"passed": passed[name]} for name in sorted(passed)}
    return json.dumps({"topics": topics}, indent=1) + "\n"


def keep(path: Path, topic: str, passed: bool) -> None:
    """Write down whether a topic passed; the file is there whole, or as it was.

    Raises ProgressError for a file that holds something else.
    """
    known = read(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_text(text({**known, topic: passed}), encoding="utf-8")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
