"""The older name of `python -m check`, for chapters that show its output."""

import sys

from check.commands import older as main

if __name__ == "__main__":
    sys.exit(main())
