"""What a worker on another machine does with a task: nothing, unless it is wanted, and by one of the same program."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobeff.code import code
from jobeff.engine import build, verify, warm
from jobeff.engine.pool import Task
from jobeff.engine.processes import TaskLostError
from jobeff.errors import JobeffError
from jobeff.store import fences
from jobeff.store.files import UMASK

WAIT_S = 20.0
"""For an earlier attempt at the same task, whose worker is thought to be dead, and is only slow."""

LOADED = (build, verify, warm)
"""All that any task needs is loaded as a worker begins: later it may not be of this program any more."""

_one = threading.Lock()
"""Tasks of one process go one by one: SQLite's locks on accounting are those of the process, not of a thread."""


class WrongWorkerError(JobeffError):
    """A worker cannot be used."""


@dataclass(frozen=True)
class Order:
    """What goes with a task.

    Attributes
    ----------
    ticket
        From `jobeff.store.fences.issue`.
    root
        Data root.
    code
        The program that has ordered it.
    """

    ticket: Path
    root: Path
    code: str


def done(order: Order, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Do a task, while nobody else does it, or has.

    Parameters
    ----------
    order
        See `Order`.
    function, args, kwargs
        As for any executor.

    Returns
    -------
    object
        What the function returns.

    Raises
    ------
    TaskLostError
        It must not be done here and now.
    WrongWorkerError
        This is another program.
    """
    if order.code != code():
        raise _wrong(socket.gethostname(), f"it runs jobeff {code()}, and this is {order.code}")
    with _one, contextlib.ExitStack() as stack:
        before = os.umask(UMASK)
        stack.callback(os.umask, before)
        try:
            stack.enter_context(fences.held(order.ticket, WAIT_S))
            if any(isinstance(task, Task) and task.writes_shards for task in args):
                stack.enter_context(fences.building(order.root, WAIT_S))
        except fences.WithdrawnError as error:
            raise TaskLostError(f"has refused it: {error}") from error
        warmed()
        return function(*args, **kwargs)


@functools.cache
def warmed() -> None:
    """Have the kernels compiled, or loaded, once in each process."""
    warm.run_all()


@dataclass(frozen=True)
class Probe:
    """What a worker is asked first: file that the command holds the lock of, what is in it, and the program."""

    file: Path
    text: str
    code: str


def refusal(probe: Probe) -> str:
    """Say why this worker cannot be used.

    Parameters
    ----------
    probe
        See `Probe`.

    Returns
    -------
    str
        Empty where it can.
    """
    host = socket.gethostname()
    if code() != probe.code:
        return f"{host} runs jobeff {code()}, and this is {probe.code}"
    try:
        seen = probe.file.read_text(encoding="utf-8")
        with probe.file.open("rb+") as file:
            free = _is_free(file.fileno())
    except OSError as error:
        return f"{host} cannot use {probe.file}: {error.strerror}"
    if seen != probe.text:
        return f"{host} has another file at {probe.file}"
    return f"{host} does not see that {probe.file} is locked; mount its file system with locks for all" if free else ""


def _is_free(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _wrong(where: str, why: str) -> WrongWorkerError:
    return WrongWorkerError(
        "cannot use a Dask worker",
        where=where,
        why=why,
        safe="What had been written before is whole",
        todo="Start workers from the environment of this command, where the root has the same path, and run again",
    )


def refuse(found: list[str]) -> None:
    """Refuse workers.

    Parameters
    ----------
    found
        From `refusal`, one per worker.

    Raises
    ------
    WrongWorkerError
        One of them cannot be used.
    """
    wrong = sorted({one for one in found if one})
    if wrong:
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise _wrong(wrong[0].partition(" ")[0] + more, wrong[0].partition(" ")[2])
