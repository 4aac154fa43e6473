"""Fences: work on other machines that nobody can kill is never done twice at once, nor after it is no longer wanted.

A ticket is a file on the shared file system. Whoever works on it holds its lock, and whoever has taken it away has no
work begun after that. The kernel drops a lock with the process that held it, on whatever machine.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

from jobeff.errors import LockedError
from jobeff.store.files import FILE_MODE, open_lock
from jobeff.store.locks import lock

LOOK_EVERY_S = 0.1
BUILDING_WAIT_S = 20.0


class WithdrawnError(Exception):
    """A ticket is not there any more, or somebody works on it."""


def issue(folder: Path) -> Path:
    """Make a ticket.

    Parameters
    ----------
    folder
        Of this run alone, on the shared file system.

    Returns
    -------
    Path
        A new file.
    """
    path = folder / secrets.token_hex(8)
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, FILE_MODE))
    return path


@contextlib.contextmanager
def held(path: Path, wait_s: float) -> Iterator[None]:
    """Work on a ticket.

    Parameters
    ----------
    path
        From `issue`.
    wait_s
        How long to wait for somebody else who works on it.

    Raises
    ------
    WithdrawnError
        It is gone, or somebody works on it still.
    """
    try:
        handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    except FileNotFoundError as error:
        raise WithdrawnError("its ticket has been taken away") from error
    try:
        if not _locked(handle, fcntl.LOCK_EX, wait_s):
            raise WithdrawnError("an earlier attempt at it has not ended")
        if not path.exists():
            raise WithdrawnError("its ticket has been taken away")
        yield
    finally:
        os.close(handle)


def withdraw(path: Path) -> bool:
    """Take a ticket away, so that nobody begins to work on it.

    Parameters
    ----------
    path
        From `issue`.

    Returns
    -------
    bool
        False where somebody works on it; then it stays.
    """
    try:
        handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    except FileNotFoundError:
        return True
    try:
        if not _locked(handle, fcntl.LOCK_EX, 0):
            return False
        path.unlink(missing_ok=True)
        return True
    finally:
        os.close(handle)


def _building(root: Path) -> Path:
    return root / "db" / ".building.lock"


@contextlib.contextmanager
def building(root: Path, wait_s: float) -> Iterator[None]:
    """Write shards on behalf of a run that may end earlier than this.

    Parameters
    ----------
    root
        Data root.
    wait_s
        How long to wait for a run that makes sure that nobody does.

    Raises
    ------
    WithdrawnError
        It has not ended.
    """
    handle = open_lock(_building(root))
    try:
        if not _locked(handle, fcntl.LOCK_SH, wait_s):
            raise WithdrawnError("another run makes sure that nobody writes shards")
        yield
    finally:
        os.close(handle)


def _refuse_while_building(root: Path) -> None:
    """Make sure that no worker of a run that has ended writes shards still; the caller holds the lock of the shards."""
    if not _building(root).exists():
        return
    handle = open_lock(_building(root))
    try:
        if not _locked(handle, fcntl.LOCK_EX, BUILDING_WAIT_S):
            raise LockedError(
                "workers of an earlier run still write shards",
                where=str(_building(root)),
                why=f"they had not ended {BUILDING_WAIT_S:g} s later",
                safe="Nothing was changed",
                todo="Run again when they are done, or end the workers",
            )
    finally:
        os.close(handle)


@contextlib.contextmanager
def lock_shards(root: Path, run: str = "") -> Iterator[None]:
    """Hold the only right to write shards, once workers of earlier runs have ended.

    Parameters
    ----------
    root, run
        As for `jobeff.store.locks.lock`.

    Raises
    ------
    LockedError
        Somebody writes them.
    """
    with lock(root, "shards", run=run):
        _refuse_while_building(root)
        yield


@contextlib.contextmanager
def at_work(path: Path, alone: bool, wait_s: float) -> Iterator[bool]:
    """Work beside others of the same run, or alone.

    Parameters
    ----------
    path
        File to be locked, in a folder that is there.
    alone
        Whether nobody else may be at work.
    wait_s
        How long to wait for others.

    Yields
    ------
    bool
        False where they have not ended.
    """
    handle = open_lock(path)
    try:
        yield _locked(handle, fcntl.LOCK_EX if alone else fcntl.LOCK_SH, wait_s)
    finally:
        os.close(handle)


def _locked(handle: int, kind: int, wait_s: float) -> bool:
    """Lock an open file, within some time."""
    until = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(handle, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                return False
            time.sleep(LOOK_EVERY_S)
        else:
            return True
