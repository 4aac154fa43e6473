"""Starts what forks the workers, which they wait for: before all else, so little is imported here."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Iterator
from multiprocessing import forkserver

STARTED_BY = "JOBEFF_STARTED_BY"
"""Environment of what forks the workers: the process that it is for. There is no other way to tell it anything."""


def prepare() -> None:
    """Start what forks the workers, so that it gets ready while this process does something else."""
    # A server that has imported the kernels forks the workers: quick, and free of this process's threads.
    multiprocessing.get_context("forkserver").set_forkserver_preload(["jobeff.engine.preload"])
    os.environ[STARTED_BY] = str(os.getpid())
    with undisturbed():
        forkserver.ensure_running()


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Have processes that are started within not hear Ctrl-C, nor the end of the terminal: that is for this one."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
