"""`python -m check`."""

import sys

from check.commands import main

if __name__ == "__main__":
    sys.exit(main())
