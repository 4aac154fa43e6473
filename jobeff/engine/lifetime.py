"""Processes that end with the one that has started them, and hear of no signal that is for it alone."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
from collections.abc import Iterator

from jobeff.engine.forking import FOR_THE_COMMAND

_KILL_WITH_PARENT = 1  # PR_SET_PDEATHSIG of Linux


def end_with(parent: int) -> None:
    """Have the kernel end this process when the thread that has started it is gone, however that ended.

    The parent holds the locks: whoever outlived it would write without them.

    Parameters
    ----------
    parent
        Its id, so that one that was gone before this is known.
    """
    _set_death_signal(signal.SIGKILL)
    if parent != os.getppid():
        os._exit(1)


def outlive_thread() -> None:
    """Undo `end_with`, for a process that hears of the end of its parent by itself."""
    _set_death_signal(0)


def _set_death_signal(number: int) -> None:
    with contextlib.suppress(AttributeError, OSError):  # elsewhere than on Linux it ends with its next task
        ctypes.CDLL(None).prctl(_KILL_WITH_PARENT, number)


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Have processes that are started within not hear of `FOR_THE_COMMAND`."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, FOR_THE_COMMAND)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
