"""How much memory a check may take, on Linux.

Counted is what can be written, and not all address space: a JavaScript engine
reserves a terabyte of that, and a driver of graphics cards no less, without
using it. No topic's reference takes a quarter of the margin.
"""

import re
import sys
from pathlib import Path

if sys.platform == "linux":
    import resource

MARGIN = 4 * 2**30  # bytes that every run may take beyond those at its start


def limit() -> None:
    """From here on, this process gets so many bytes more and no others."""
    if sys.platform != "linux":
        return
    status = Path("/proc/self/status").read_text(encoding="ascii")
    most = resource.getrlimit(resource.RLIMIT_DATA)[1]
    found = re.search(r"VmData:\s+(\d+) kB", status)
    if found and most == resource.RLIM_INFINITY:  # else there is one already
        size = 1024 * int(found[1]) + MARGIN
        resource.setrlimit(resource.RLIMIT_DATA, (size, most))


def lift() -> None:
    """There is no limit any more, so that what happened can be told."""
    if sys.platform == "linux":
        most = resource.getrlimit(resource.RLIMIT_DATA)[1]
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def peak() -> int:
    """The most memory that this process has had so far, in bytes."""
    if sys.platform != "linux":
        return 0
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
