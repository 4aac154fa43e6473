"""Files on disk: whole or not at all, private to the site."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import io
import os
import shutil
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

from jobeff.errors import JobeffError, LockedError

FILE_MODE = 0o640
FOLDER_MODE = 0o750
UMASK = 0o777 & ~FOLDER_MODE
REMOVED_AT_ONCE = 32
"""Folders; to remove a file is to wait for a disk, which is told of its place, or for a server, and little else."""

_WRITE = 2  # SYNC_FILE_RANGE_WRITE
_sync_file_range = getattr(ctypes.CDLL(None), "sync_file_range", None)  # Linux has it, and Python's os does not


def make_folder(folder: Path) -> None:
    """Create a folder and its parents, readable by owner and group only.

    Parameters
    ----------
    folder
        It may exist.
    """
    for parent in make_missing(folder):
        sync_folder(parent)


def make_missing(folder: Path) -> list[Path]:
    """Create a folder and its parents as `make_folder` does, not durable yet.

    Parameters
    ----------
    folder
        It may exist.

    Returns
    -------
    list of Path
        Folders in which the caller has to make a new name durable.
    """
    if folder.is_dir():
        return []
    above = make_missing(folder.parent)
    folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
    return [*above, folder.parent]


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable.

    Parameters
    ----------
    folder
        An existing folder.
    """
    sync_path(folder, os.O_DIRECTORY)


def sync_path(path: Path, flags: int = 0) -> None:
    """Make one file or folder durable.

    Parameters
    ----------
    path
        It exists.
    flags
        For opening it.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | flags)
    try:
        with naming(path):
            os.fsync(handle)
    finally:
        os.close(handle)


def begin_to_write(handle: int, begin: int = 0, size: int = 0) -> None:
    """Have the system begin to put a part of a file on disk now, while there is other work, and not wait for it.

    Nothing is durable by that, and no error is told: that is left to who makes it durable, and has less to wait for.

    Parameters
    ----------
    handle
        Open for writing.
    begin, size
        Which part; all of it by default.
    """
    if _sync_file_range is not None:
        _sync_file_range(handle, ctypes.c_int64(begin), ctypes.c_int64(size), _WRITE)


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


def read_regular(path: Path) -> bytes:
    """Read a file of our own.

    Parameters
    ----------
    path
        A link is not followed; a pipe or a device, which may have no end, is not read.

    Returns
    -------
    bytes
        All of it.

    Raises
    ------
    OSError
        It cannot be read, or is not a regular file.
    """
    with io.FileIO(open_regular(path)) as file:
        _regular_size(file.fileno(), path)
        return file.read()


def read_regular_into(path: Path, room: Callable[[int], memoryview]) -> memoryview:
    """Read a file of our own into memory that is there already.

    Parameters
    ----------
    path
        See `read_regular`.
    room
        Gives memory for so many bytes at least.

    Returns
    -------
    memoryview
        All of it.

    Raises
    ------
    OSError
        See `read_regular`; or it became shorter meanwhile.
    """
    handle = open_regular(path)  # a file object would take as long as to read a small file
    try:
        size = _regular_size(handle, path)
        found = room(size)[:size]
        if size and os.readv(handle, [found]) != size:
            raise OSError(errno.EIO, "the file became shorter", str(path))
        return found
    finally:
        os.close(handle)


def open_regular(path: Path) -> int:
    """Open what should be a file of our own, for reading; it is for the caller to see whether it is.

    Parameters
    ----------
    path
        A link is not followed; for a pipe it does not wait.

    Returns
    -------
    int
        Handle.
    """
    return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)


def _regular_size(handle: int, path: Path) -> int:
    about = os.fstat(handle)
    if not stat.S_ISREG(about.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return about.st_size


@contextlib.contextmanager
def atomic_write(path: Path, durable: bool = True) -> Iterator[IO[bytes]]:
    """Write a file so that readers see the old one or the whole new one.

    Parameters
    ----------
    path
        What the file is called once it is whole. The temporary file has one fixed name beside it, so that what a killed
        run leaves is overwritten by the next one; the caller holds the lock.
    durable
        Whether it must outlast a power cut from now on; else the caller sees to it later, and what a power cut leaves
        may be neither of the two.

    Yields
    ------
    file
        Open for writing.
    """
    make_folder(path.parent)
    temporary = temporary_path(path)
    try:
        with naming(path), create(temporary) as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        sync_folder(path.parent)


def create(path: Path) -> IO[bytes]:
    """Make a new file under a temporary name; what a killed run, or anybody, has left there goes, and is not opened.

    Parameters
    ----------
    path
        From `temporary_path`.

    Returns
    -------
    file
        Open for writing.
    """
    return os.fdopen(open_new(path), "wb")


def open_new(path: Path) -> int:
    """Make a new file as `create` does, without what a file object costs.

    Parameters
    ----------
    path
        From `temporary_path`.

    Returns
    -------
    int
        Handle, for writing.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    try:
        return os.open(path, flags, FILE_MODE)
    except FileExistsError:  # seldom: not asked for each of many files
        path.unlink(missing_ok=True)
        return os.open(path, flags, FILE_MODE)


def open_lock(path: Path) -> int:
    """Open a file that is there to be locked, creating it where it is not there.

    Parameters
    ----------
    path
        A pipe, link or device there is not followed, nor waited for.

    Returns
    -------
    int
        Handle, for reading and writing.

    Raises
    ------
    JobeffError
        It is no regular file.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, FILE_MODE)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        todo = "Remove it and run again"
        raise JobeffError("not a regular file", where=str(path), safe="It was left as it is", todo=todo)
    return handle


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
    handle = open_lock(path)
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
            with naming(path):
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


def remove_tree(folder: Path) -> None:
    """Remove a folder of our own and all in it; nothing happens where it is not there.

    Parameters
    ----------
    folder
        A folder that only jobeff writes.
    """
    if folder.is_dir():
        _remove(folder)
        sync_folder(folder.parent)


def remove_trees(folders: Iterable[Path]) -> None:
    """Remove folders of our own and all in them, not durable yet; one that is not there was removed before.

    Parameters
    ----------
    folders
        That only jobeff writes.
    """
    found = [folder for folder in folders if folder.is_dir() and not folder.is_symlink()]
    with ThreadPoolExecutor(REMOVED_AT_ONCE) as threads:
        list(threads.map(_remove, found))  # which raises what went wrong


def _remove(folder: Path) -> None:
    """Remove a folder; an error names what could not be removed by its whole path, not by its last part."""

    def failed(_function: object, path: str, about: Any) -> None:
        error = about if isinstance(about, OSError) else about[1]
        error.filename = path
        raise error

    told: dict[str, Any] = {"onexc" if sys.version_info >= (3, 12) else "onerror": failed}
    shutil.rmtree(folder, **told)
