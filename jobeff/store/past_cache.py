"""Writing past the system's cache, where there is a way.

What has to go to disk anyway, and is not read soon, need not have memory in the cache found for it first: that can take
longer than to make it. The way is open for whole blocks of a file, out of memory that begins where a block may.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from jobeff.store.files import begin_to_write

DIRECT = getattr(os, "O_DIRECT", 0)  # where the system has it
BLOCK = 4096
"""Bytes; disks with larger ones are written to through the cache."""


def room(count: int) -> npt.NDArray[np.uint8]:
    """Memory that can be written past the cache.

    Parameters
    ----------
    count
        For so many bytes.

    Returns
    -------
    ndarray
        Shape (count,); what is in it means nothing.
    """
    whole = np.empty(count + BLOCK, dtype=np.uint8)
    skip = -whole.ctypes.data % BLOCK
    return whole[skip : skip + count]


@contextlib.contextmanager
def way(handle: int) -> Iterator[bool]:
    """Have what is written to a file go past the cache within.

    Parameters
    ----------
    handle
        Of the file, open for writing.

    Yields
    ------
    bool
        False where its file system has no such way: all goes through the cache then.

    Raises
    ------
    OSError
        It could not be asked.
    """
    flags = fcntl.fcntl(handle, fcntl.F_GETFL)
    try:
        fcntl.fcntl(handle, fcntl.F_SETFL, flags | DIRECT)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        yield False
        return
    yield DIRECT != 0
    fcntl.fcntl(handle, fcntl.F_SETFL, flags)


def write(handle: int, data: memoryview, at: int) -> int:
    """Write as much as can be written so.

    Parameters
    ----------
    handle
        Of a file, within `way`.
    data, at
        What, and where it goes.

    Returns
    -------
    int
        How many bytes that were; the rest has to go through the cache.

    Raises
    ------
    OSError
        It could not be written.
    """
    done = 0
    while done < len(data):
        try:
            with data[done:] as rest:
                done += os.pwrite(handle, rest, at + done)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            break  # these blocks are smaller than those of the disk, or begin elsewhere
    return done


def fill(handle: int, data: memoryview) -> None:
    """Write all of a new file, past the cache as far as that can be.

    Parameters
    ----------
    handle
        Of the file, empty, open for writing.
    data
        All that it will hold.

    Raises
    ------
    OSError
        It could not be written.
    """
    done = 0
    with way(handle) as is_there:
        if is_there:
            done = write(handle, data, 0)
    if done < len(data):
        with os.fdopen(handle, "wb", closefd=False) as file:
            file.seek(done)
            file.write(data[done:])
        begin_to_write(handle)
