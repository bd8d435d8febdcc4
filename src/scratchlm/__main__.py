"""`python -m scratchlm`: the command line is in `scratchlm.cli`."""

import sys

from scratchlm.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
