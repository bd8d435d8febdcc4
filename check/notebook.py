"""The magic `%check`, for notebooks: `%load_ext check`, then `%check bpe`.

%check attention --mine MyAttention
%check attention --mine "attend as scaled_dot_product_attention"
"""

import shlex
from collections.abc import Callable
from typing import Any

from check.cells import Cells
from check.commands import main


def run_cells(shell: Any) -> Cells:
    """What was typed in a shell of IPython up to now, as Python."""
    history = shell.history_manager.input_hist_parsed
    return [(f"In [{i}]", text) for i, text in enumerate(history) if i]


def magic_of(shell: Any) -> Callable[..., None]:
    """The magic, which finds in a shell the code that --mine names."""

    def check(line: str, cell: str | None = None) -> None:
        """Run the command on a line; below it, a cell adds more words."""
        words = shlex.split(f"{line} {cell or ''}")
        main(words, cells=run_cells(shell))

    return check
