"""Scratch: what the processes of one run share for a while. Nothing in it has to be durable, but all has to be true."""

from __future__ import annotations

import contextlib
import functools
import io
import mmap
import os
import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from jobeff.errors import LockedError
from jobeff.store.files import FOLDER_MODE, REMOVED_AT_ONCE, claimed, make_folder, naming

LOCK = ".lock"
WORTH_IT = 1 << 16
"""Bytes of a file that is written over another one rather than anew."""

PREAMBLE_BYTES = 10
"""Of an array's header: what it is, and in the last two bytes how long the rest of it is."""

KNOWN_HEADERS = 1 << 10
"""That are not read again."""


def scratch_root(root: Path) -> Path:
    """Where the scratch folders of a data root lie.

    Parameters
    ----------
    root
        Data root.

    Returns
    -------
    Path
        It need not exist.
    """
    return root / "db" / "scratch"


@contextlib.contextmanager
def scratch(root: Path) -> Iterator[Path]:
    """A scratch folder for this run.

    Parameters
    ----------
    root
        Data root.

    Yields
    ------
    Path
        It goes with the run, or with the next one where the run dies.
    """
    with temporary_folder(scratch_root(root)) as folder:
        yield folder


@contextlib.contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """A new folder that has a lock beside it for as long as its process lives; those whose process died are removed.

    Parameters
    ----------
    parent
        In it there are no other files.

    Yields
    ------
    Path
        Empty.
    """
    make_folder(parent)
    remove_left(parent)
    folder = parent / f"{os.getpid()}-{os.urandom(8).hex()}"
    with claimed(folder.with_name(folder.name + LOCK)):
        folder.mkdir(mode=FOLDER_MODE)
        try:
            yield folder
        finally:
            with ThreadPoolExecutor(REMOVED_AT_ONCE) as threads:
                list(threads.map(_remove, folder.glob("*/*/")))  # folders alone: of months
            _remove(folder)


def _remove(left: Path) -> None:
    shutil.rmtree(left, ignore_errors=True)


def remove_left(parent: Path) -> None:
    """Remove what processes that died have left.

    Parameters
    ----------
    parent
        Holds folders of `temporary_folder`. Their locks are made before them and go after them.
    """
    for left in sorted(parent.iterdir()):
        folder = left.with_name(left.name.removesuffix(LOCK))
        with contextlib.suppress(LockedError, FileNotFoundError), claimed(folder.with_name(folder.name + LOCK)):
            if folder.is_dir() and not folder.is_symlink():
                _remove(folder)
            else:
                folder.unlink(missing_ok=True)


def give_back(folder: Path, files: Iterable[Path]) -> None:
    """Have others write over files that nobody reads any more: their memory is there, and new memory has to be found.

    Parameters
    ----------
    folder
        That of a month within the folder of its cluster; all of one run share what is given back.
    files
        Of that folder.
    """
    spare = _spare(folder)
    spare.mkdir(exist_ok=True)
    for file in files:
        file.rename(spare / f"{folder.parent.name}-{folder.name}-{file.name}")


def given_back(folder: Path) -> list[Path]:
    """Files that can be written over.

    Parameters
    ----------
    folder
        See `give_back`.

    Returns
    -------
    list of Path
        The largest last.
    """
    spare = _spare(folder)
    return sorted(spare.iterdir(), key=lambda path: path.stat().st_size) if spare.is_dir() else []


def _spare(folder: Path) -> Path:
    return folder.parent.parent / ".spare"


@contextlib.contextmanager
def opened(path: Path, size: int) -> Iterator[IO[bytes]]:
    """Open a scratch file for writing, over one that was given back where there is one.

    Parameters
    ----------
    path
        In the folder of a month.
    size
        How many bytes will be written, about.

    Yields
    ------
    file
        Ends where the caller has stopped to write.
    """
    with naming(path), path.open("r+b" if size >= WORTH_IT and _claimed(path, size) else "wb") as file:
        yield file
        file.truncate()


def _claimed(path: Path, size: int) -> bool:
    """Take the spare file that comes next to a size: memory is found or given up for no more than what differs."""
    try:
        with os.scandir(_spare(path.parent)) as found:
            others = sorted((abs(one.stat().st_size - size), one.path) for one in found)
    except FileNotFoundError:
        return False
    for _, spare in others:
        with contextlib.suppress(FileNotFoundError):  # somebody else was quicker
            Path(spare).rename(path)
            return True
    return False


def save(path: Path, array: npt.NDArray[Any]) -> None:
    """Write an array for `numpy.load`.

    Parameters
    ----------
    path
        Of an ``.npy`` file.
    array
        Without Python objects.
    """
    with opened(path, array.nbytes) as file:
        write(file, array)


def mapped(path: Path) -> npt.NDArray[Any]:
    """Map an array that `save` has written.

    numpy's own way asks where the file really lies, which takes longer than all the rest.

    Parameters
    ----------
    path
        Of an ``.npy`` file.

    Returns
    -------
    ndarray
        Read as it is used. It can be written to, because kernels are compiled for such arrays; the file stays as it is.
    """
    return mapped_all(path)[0]


def mapped_all(path: Path) -> list[npt.NDArray[Any]]:
    """Map all arrays that `write` has written to a file.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    list of ndarray
        At least one; see `mapped`.
    """
    found = []
    with path.open("rb") as file:
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)  # for as long as one of the arrays is there
    at = 0
    while at < len(data):
        behind = at + PREAMBLE_BYTES + int.from_bytes(data[at + PREAMBLE_BYTES - 2 : at + PREAMBLE_BYTES], "little")
        shape, dtype = _said(data[at:behind])
        found.append(np.ndarray(shape, dtype, data, behind))
        at = behind + found[-1].nbytes
    return found


@functools.lru_cache(KNOWN_HEADERS)
def _said(header: bytes) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """What a header says of its array; numpy has Python's compiler read it, and most are like one before."""
    file = io.BytesIO(header)
    np.lib.format.read_magic(file)
    shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    return shape, dtype


def write(file: IO[bytes], array: npt.NDArray[Any]) -> None:
    """Write an array to an open file, for `numpy.load`.

    numpy's own `save` goes through a buffer of C, of which it does not ask whether it could be written: on a full disk
    it leaves zeros, and says nothing.

    Parameters
    ----------
    file
        Open for writing.
    array
        Without Python objects.
    """
    array = np.ascontiguousarray(array)
    np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
    file.write(array.reshape(-1).view(np.uint8).data)
