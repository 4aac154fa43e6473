"""A rebuild of which no shard is the same as before: it takes over those that are, as nearly all of a sound store."""

from __future__ import annotations

import os
from pathlib import Path

from jobeff.bench import commands

OTHER_MODE = 0o600
"""Ours are for a group too, so a shard with this mode is no more what would be written."""


def seconds(root: Path, repeat: int) -> float:
    """Rebuild with two workers, and have all shards written, and the old ones removed.

    Parameters
    ----------
    root
        Of the site.
    repeat
        How often.

    Returns
    -------
    float
        The least.
    """

    def other_shards() -> None:
        for path in (root / "shards").rglob("*.parquet"):
            path.chmod(OTHER_MODE)
        os.sync()

    return commands.least(root, repeat, other_shards, "rebuild")
