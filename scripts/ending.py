"""How a script that has started others ends by a signal: they end first, whatever sessions they have begun."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PR_SET_CHILD_SUBREAPER = 36


def on_ending(do: Callable[[int, object], None] | signal.Handlers) -> None:
    """What to do on each of these signals."""
    for one in ENDING:
        signal.signal(one, do)


def end_others() -> None:
    """End all that was started."""
    # Whose parent is ended before it becomes a child of this process, so that it is found.
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    while found := descendants(os.getpid()):
        for process in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.05)


def descendants(ancestor: int) -> list[int]:
    """Ids of all processes that a process has started, and those of theirs, but for those that have ended."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended
            state, parent = path.read_text(errors="replace").rpartition(") ")[2].split()[:2]
            if state not in "ZX":
                parents[int(path.parent.name)] = int(parent)
    found = [ancestor]
    for one in found:
        found += [process for process, parent in parents.items() if parent == one]
    return found[1:]
