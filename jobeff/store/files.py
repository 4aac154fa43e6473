"""Files on disk: whole or not at all, private to the site, one writer at a time."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from jobeff.errors import JobeffError, LockedError

FILE_MODE = 0o640
FOLDER_MODE = 0o750


def make_folder(folder: Path) -> None:
    """Create a folder and its parents, readable by owner and group only.

    Parameters
    ----------
    folder
        It may exist.
    """
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable.

    Parameters
    ----------
    folder
        An existing folder.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with naming(folder):
            os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Have an error of the file system say of which file it is; a full disk does not.

    Parameters
    ----------
    path
        What is written.
    """
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """Write a file so that readers see the old one or the whole new one.

    Parameters
    ----------
    path
        What the file is called once it is whole. The temporary file has one fixed name beside it, so that what a killed
        run leaves is overwritten by the next one; the caller holds the lock.

    Yields
    ------
    file
        Open for writing.
    """
    make_folder(path.parent)
    temporary = path.with_name(f".{path.name}.tmp")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, FILE_MODE)
    try:
        with naming(path), os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def remove_tree(folder: Path) -> None:
    """Remove a folder of our own and all in it; nothing happens where it is not there.

    Parameters
    ----------
    folder
        A folder that only jobeff writes.
    """
    if folder.is_dir():
        shutil.rmtree(folder)
        sync_folder(folder.parent)


@contextlib.contextmanager
def lock(root: Path, target: str) -> Iterator[None]:
    """Hold the only right to write one target.

    The kernel drops the lock with its holder, however that dies.

    Parameters
    ----------
    root
        Data root.
    target
        What is written: ``accounting``, ``archive``, ``shards`` or ``efficiency``.

    Raises
    ------
    LockedError
        Somebody holds it; the message names host, process and since when.
    """
    folder = root / "db"
    make_folder(folder)
    path = folder / f".{target}.lock"
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, FILE_MODE)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise LockedError(
                f"another run is writing {target}",
                where=str(path),
                why=_holder(handle),
                safe="Nothing was changed",
                todo="Run again when it is done",
            ) from error
        except OSError as error:
            raise JobeffError(
                f"cannot lock {target}", where=str(path), why=str(error), safe="Nothing was changed"
            ) from error
        since = datetime.now(UTC).isoformat(timespec="seconds")
        about = {"host": socket.gethostname(), "pid": os.getpid(), "since": since}
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps(about).encode(), 0)
        yield
    finally:
        os.close(handle)


def _holder(handle: int) -> str:
    """Who holds a lock, in words."""
    try:
        about = json.loads(os.pread(handle, 4096, 0))
        return f"held by process {about['pid']} on {about['host']} since {about['since']}"
    except (ValueError, KeyError, TypeError):
        return "its holder has not said who it is yet"
