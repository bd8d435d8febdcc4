"""`python -m scratchlm`: the command line is in `scratchlm.cli`."""

import sys

from scratchlm.cli.signals import stopping_at_once

with stopping_at_once():
    from scratchlm.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
