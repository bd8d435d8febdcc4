"""Python reads this when it starts: what a page started is guarded, too."""

import os

if os.environ.get("SCRATCHLM_GUARD"):
    from pathlib import Path

    from press.guard import start

    start(Path(os.environ["SCRATCHLM_GUARD"]), cells=False)
