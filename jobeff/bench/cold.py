"""Commands on files that the system does not have in its cache: of years of history it cannot have all."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from pathlib import Path

from jobeff.bench import commands

FROM = {"rebuild": ("archive", "shards"), "compute --all": ("shards",)}
"""What each command reads, as folders of the site."""


def forget(folder: Path) -> None:
    """Have the system drop from its cache what it has of all files of a folder; they are on disk.

    Parameters
    ----------
    folder
        With all folders in it.
    """
    for path in folder.rglob("*"):
        if path.is_file():
            handle = os.open(path, os.O_RDONLY)
            try:
                os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(handle)


def seconds(root: Path, repeat: int) -> dict[str, float]:
    """Run commands with two workers, and have the system forget what they read before each.

    Parameters
    ----------
    root
        Of the site.
    repeat
        How often.

    Returns
    -------
    dict
        Of each command the least seconds.
    """

    def forgotten(folders: Sequence[str]) -> None:
        os.sync()  # else not all is on disk, and stays in the cache
        for folder in folders:
            forget(root / folder)

    return {
        command: commands.least(root, repeat, functools.partial(forgotten, folders), *command.split())
        for command, folders in FROM.items()
    }
