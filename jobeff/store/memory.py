"""How much memory this process can have: the machine's, or what Slurm or a container leaves it of that."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

MINE = Path("/proc/self/cgroup")
"""Names the control groups that this process is in, one a line: number, controllers, path."""

GROUPS = Path("/sys/fs/cgroup")
"""Where they lie: of version 2 there is one tree, of version 1 one of each controller."""

LIMITS = {"": "memory.max", "memory": "memory.limit_in_bytes"}
"""File with the limit of a group, by the controllers named for it: version 2 names none."""


def available() -> int:
    """Bytes that this process can have, with what the system keeps of its files.

    Returns
    -------
    int
        The least of the machine's memory and the limits of its control groups; one that cannot be read is none.
    """
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    with contextlib.suppress(OSError, ValueError):  # other systems have no such thing
        for line in MINE.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            for kind in LIMITS.keys() & set(controllers.split(",")):
                top = GROUPS / kind
                group = top / path.lstrip("/")
                for one in (group, *group.parents):
                    if one.is_relative_to(top):
                        limits += _limit(one / LIMITS[kind])
    return min(limits)


def _limit(path: Path) -> list[int]:
    """The number in a file, if there is one."""
    try:
        return [int(path.read_text())]
    except (OSError, ValueError):  # no group of ours to look into, or "max"
        return []
