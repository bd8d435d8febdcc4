"""The magic `%check`, for notebooks: `%load_ext check`, then `%check bpe`."""

import shlex

from check.commands import main


def magic(line: str, cell: str | None = None) -> None:
    """Run the command on a line; below it, a cell adds more words."""
    main(shlex.split(f"{line} {cell or ''}"))
