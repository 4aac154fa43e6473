"""Has the system read files from disk before they are needed, so that nobody waits for the disk then."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from jobeff.store import memory

FILES_AHEAD = 1
"""Read beyond the one that has been reached: memory has to hold them until they are."""

SHARE_OF_MEMORY = 8
"""Of a larger part of the memory that there is nothing is read ahead: it would push out what is worked on."""

AT_ONCE = 1 << 17
"""Bytes asked for at once; of more, some systems read the beginning only."""

LOOKED_AT = 1 << 22
"""Of so many bytes the last one is looked at: where the system has that, it has the others."""

NO_MATTER = (OSError, AttributeError)
"""What is wrong with a file is told by who needs it; and not all systems can be asked for one."""


@contextlib.contextmanager
def reading_ahead(files: Sequence[tuple[Path, int]]) -> Iterator[Callable[[Path], None]]:
    """Have files read in their order within, in a thread, a little before somebody comes to them.

    It is help, no more: what cannot be read is told by who needs it.

    Parameters
    ----------
    files
        Each with the offset from which on it is needed.

    Yields
    ------
    function
        Takes the path of one of them that is needed now.
    """
    number = {path: n for n, (path, _) in enumerate(files)}
    stop, asked = threading.Event(), 0
    thread = ThreadPoolExecutor(1)

    def reached(path: Path) -> None:
        nonlocal asked
        end = number[path] + 1 + FILES_AHEAD
        for one in files[asked:end]:
            thread.submit(_read, *one, stop)
        asked = max(asked, end)

    try:
        yield reached
    finally:
        stop.set()
        thread.shutdown(cancel_futures=True)


def _read(path: Path, begin: int, stop: threading.Event) -> None:
    """Ask for a file from some offset on; the system waits here once it has been asked for much."""
    with contextlib.suppress(*NO_MATTER), _opened(path) as handle:
        size = os.fstat(handle).st_size
        if (size - begin) * SHARE_OF_MEMORY > memory.available():
            return
        for first in range(begin, size, LOOKED_AT):
            end = min(first + LOOKED_AT, size)
            if _is_there(handle, end - 1):
                continue
            for at in range(first, end, AT_ONCE):
                if stop.is_set():
                    return
                os.posix_fadvise(handle, at, AT_ONCE, os.POSIX_FADV_WILLNEED)


def begin_to_read(path: Path) -> None:
    """Have the system begin to read a small file, and not wait for it; of a large one it may read the beginning only.

    Parameters
    ----------
    path
        Who needs it will tell where it cannot be read.
    """
    try:  # without contexts, which would take as long again
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return
    try:
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_WILLNEED)
    except NO_MATTER:
        pass
    finally:
        os.close(handle)


def fitting(size: int) -> int:
    """How many files are held in memory at once, beside what is worked with.

    Parameters
    ----------
    size
        Bytes of the largest.

    Returns
    -------
    int
        So many take half of the memory that there is.
    """
    return memory.available() // 2 // max(1, size)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    """Open what may be a pipe, for which one would wait."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        yield handle
    finally:
        os.close(handle)


def _is_there(handle: int, at: int) -> bool:
    """Whether a byte can be read without waiting for the disk."""
    try:
        return os.preadv(handle, [bytearray(1)], at, os.RWF_NOWAIT) == 1
    except OSError:
        return False
