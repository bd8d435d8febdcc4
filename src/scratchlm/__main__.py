"""`python -m scratchlm`: the command line is in `scratchlm.cli`."""

import sys

from scratchlm.cli.errors import missing
from scratchlm.cli.signals import stopping_at_once

with stopping_at_once():
    try:
        from scratchlm.cli.app import main
    except ImportError as error:
        print(f"error: {missing(error)}", file=sys.stderr)
        sys.exit(2)

if __name__ == "__main__":
    sys.exit(main())
