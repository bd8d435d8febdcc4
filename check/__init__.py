"""One command that checks what you wrote, and names the mistake.

`python -m check --help` tells how. This package is the engine; what each
topic has to do stands in the files that `check.places.CHECKS` names.
"""

from typing import Any

LIBRARY = "scratchlm"


def load_ipython_extension(shell: Any) -> None:
    """What `%load_ext check` calls: `%check TOPIC` works from then on."""
    from check.notebook import magic_of

    shell.register_magic_function(magic_of(shell), "line_cell", "check")
