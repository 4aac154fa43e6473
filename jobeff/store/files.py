"""Files on disk: whole or not at all, private to the site, one writer at a time."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import secrets
import shutil
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from jobeff.errors import JobeffError, LockedError

FILE_MODE = 0o640
FOLDER_MODE = 0o750
SYNCED_ONE_BY_ONE = 8
_syncfs = getattr(ctypes.CDLL(None), "syncfs", None)  # Python's os has sync for all file systems only


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
    temporary = temporary_path(path)
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


@contextlib.contextmanager
def claimed(path: Path) -> Iterator[int]:
    """Be the only one who uses a temporary file, wherever it lies; it is empty at first, and gone afterwards.

    Parameters
    ----------
    path
        Where nobody keeps anything. What a killed run has left there is taken over.

    Yields
    ------
    int
        Handle of the file, which goes with it should it be renamed.

    Raises
    ------
    LockedError
        Somebody uses it.
    """
    make_folder(path.parent)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, FILE_MODE)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            mine = os.path.samestat(os.fstat(handle), path.lstat())  # else it got its last name before it was locked
        except (BlockingIOError, FileNotFoundError):
            mine = False
        if not mine:
            todo = "Run again when it is done"
            raise LockedError("another run is writing there", where=str(path), safe="Nothing was changed", todo=todo)
        try:
            os.ftruncate(handle, 0)
            yield handle
        finally:
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(handle), path.lstat()):
                    path.unlink()
    finally:
        os.close(handle)


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Have a library write a file by its path so that readers see the old one or the whole new one.

    Parameters
    ----------
    path
        What the file is called once it is whole; unlike for `atomic_write` no lock has to be held.

    Yields
    ------
    Path
        An empty file to be written; closed at the end.
    """
    temporary = temporary_path(path)
    with claimed(temporary) as handle:
        with naming(path):
            yield temporary
            os.fsync(handle)
        temporary.replace(path)
    sync_folder(path.parent)


class Batch:
    """Files that are written together: each whole or not at all, and all durable for the price of a few.

    Parameters
    ----------
    folder
        Of the file system that they are on.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._paths: list[Path] = []
        self._parents: set[Path] = set()

    @contextlib.contextmanager
    def write(self, path: Path) -> Iterator[IO[bytes]]:
        """Write a file that takes its name with `commit`.

        Parameters
        ----------
        path
            What it will be called; see `atomic_write` for its temporary name.

        Yields
        ------
        file
            Open for writing.
        """
        self._make(path.parent)
        handle = os.open(temporary_path(path), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, FILE_MODE)
        with naming(path), os.fdopen(handle, "wb") as file:
            yield file
        self._paths.append(path)

    def _make(self, folder: Path) -> None:
        """Create a folder, as `make_folder` does, whose name becomes durable with the files."""
        if not folder.is_dir():
            self._make(folder.parent)
            folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
            self._parents.add(folder.parent)

    def commit(self, durable: bool = True) -> None:
        """Give the files their names.

        Parameters
        ----------
        durable
            Whether they must outlast a power cut from now on; else the caller sees to it later, with `sync`.
        """
        if durable:
            sync(self._folder, [temporary_path(path) for path in self._paths])
        for path in self._paths:
            temporary_path(path).replace(path)
        if durable:
            sync(self._folder, sorted({path.parent for path in self._paths} | self._parents))
        self._paths, self._parents = [], set()


def sync(folder: Path, paths: list[Path]) -> None:
    """Make files or folders durable.

    Parameters
    ----------
    folder
        Of the file system that they are on.
    paths
        A few are made durable one by one, many with all else on their file system, which takes no longer.
    """
    if len(paths) > SYNCED_ONE_BY_ONE and _syncfs is not None:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            if _syncfs(handle) == 0:
                return
        finally:
            os.close(handle)
    for path in paths:
        handle = os.open(path, os.O_RDONLY)
        try:
            with naming(path):
                os.fsync(handle)
        finally:
            os.close(handle)


def temporary_path(path: Path) -> Path:
    """What a file is called until it is whole.

    Parameters
    ----------
    path
        Its name.

    Returns
    -------
    Path
        Beside it; always the same, so that what a killed run leaves is overwritten by the next one.
    """
    return path.with_name(f".{path.name}.tmp")


@contextlib.contextmanager
def scratch(root: Path) -> Iterator[Path]:
    """A folder for what other processes of this run need for a while; nothing in it has to be durable.

    Parameters
    ----------
    root
        Data root.

    Yields
    ------
    Path
        It goes with the run, or with the next one where the run dies.
    """
    parent = root / "db" / "scratch"
    make_folder(parent)
    remove_left(parent)
    folder = parent / f"{os.getpid()}-{secrets.token_hex(4)}"
    folder.mkdir(mode=FOLDER_MODE)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_left(folder: Path) -> None:
    """Remove what processes that died have left.

    Parameters
    ----------
    folder
        In it the name of each file and folder begins with the id of its process and ``-``.
    """
    for left in folder.iterdir():
        pid = left.name.partition("-")[0]
        if pid.isdigit() and not Path("/proc", pid).exists() and Path("/proc/self").exists():
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)


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
