"""The right to write one target: a lock while a process writes, a reservation while a run on other machines does."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from jobeff.errors import JobeffError, LockedError
from jobeff.store.files import atomic_write, make_folder, naming, open_lock, read_regular, sync_folder


@contextlib.contextmanager
def lock(root: Path, target: str, doing: str = "writing {target}", run: str = "") -> Iterator[None]:
    """Hold the only right to write one target.

    The kernel drops the lock with its holder, however that dies.

    Parameters
    ----------
    root
        Data root.
    target
        What is written: ``accounting``, ``archive``, ``shards``, ``efficiency``, ...
    doing
        What its holder does, in words.
    run
        Name of the run on other machines that the caller is a part of.

    Raises
    ------
    LockedError
        Somebody holds it; the message names host, process and since when, or the run on other machines.
    JobeffError
        The folder of the databases may not be written.
    """
    folder = root / "db"
    make_folder(folder)
    _require_writable(folder)
    path = folder / f".{target}.lock"
    handle = open_lock(path)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise LockedError(
                f"another run is {doing.format(target=target)}",
                where=str(path),
                why=_holder(handle),
                safe="Nothing was changed",
                todo="Run again when it is done",
            ) from error
        except OSError as error:
            raise JobeffError(
                f"cannot lock {target}", where=str(path), why=str(error), safe="Nothing was changed"
            ) from error
        _refuse_while_reserved(root, target, run)
        since = datetime.now(UTC).isoformat(timespec="seconds")
        about = {"host": socket.gethostname(), "pid": os.getpid(), "since": since}
        with naming(path):
            os.ftruncate(handle, 0)
            os.pwrite(handle, json.dumps(about).encode(), 0)
        yield
    finally:
        os.close(handle)


def _require_writable(folder: Path) -> None:
    """See that a folder may be written, before work of hours is done that cannot be kept there."""
    if not os.access(folder, os.W_OK | os.X_OK):
        read_only = os.statvfs(folder).f_flag & os.ST_RDONLY
        raise JobeffError(
            "cannot write to the folder of the databases",
            where=str(folder),
            why=os.strerror(errno.EROFS if read_only else errno.EACCES),
            safe="Nothing was changed",
            todo="Mend that, or run as a user who may write there",
        )


def reserve(root: Path, target: str, run: str) -> None:
    """Keep others from writing one target until a run on other machines has ended, though no process of it lives.

    Parameters
    ----------
    root, target
        As for `lock`, which the caller holds.
    run
        Its name.
    """
    with atomic_write(_reservation(root, target)) as file:
        file.write(run.encode())


def release(root: Path, target: str, run: str) -> None:
    """Let others write one target again.

    Parameters
    ----------
    root, target, run
        As for `reserve`; another run's is left as it is.
    """
    if reserved_by(root, target) == run:
        _reservation(root, target).unlink()
        sync_folder(root / "db")


def _reservation(root: Path, target: str) -> Path:
    return root / "db" / f".{target}.reserved"


def reserved_by(root: Path, target: str) -> str:
    """Say which run has reserved a target.

    Parameters
    ----------
    root, target
        As for `reserve`.

    Returns
    -------
    str
        Its name; empty where there is none.
    """
    try:
        return read_regular(_reservation(root, target)).decode("utf-8", "backslashreplace")
    except FileNotFoundError:
        return ""


def _refuse_while_reserved(root: Path, target: str, run: str) -> None:
    by = reserved_by(root, target)
    if by not in ("", run):
        raise LockedError(
            f"another run is writing {target}",
            where=str(_reservation(root, target)),
            why=f"it is reserved for the run {by} on Slurm",
            safe="Nothing was changed",
            todo="Run again when it is done ('jobeff slurm status'), or end it ('jobeff slurm cancel')",
        )


def _holder(handle: int) -> str:
    """Who holds a lock, in words."""
    try:
        about = json.loads(os.pread(handle, 4096, 0))
        return f"held by process {about['pid']} on {about['host']} since {about['since']}"
    except (ValueError, KeyError, TypeError):
        return "its holder has not said who it is yet"
