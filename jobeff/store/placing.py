"""Pages of scratch files put into a database that is being made, past the system's cache where there is a way."""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from jobeff.store import past_cache
from jobeff.store.batch import syncing_soon
from jobeff.store.files import begin_to_write, naming

SYNCED_AT = 1 << 26
"""Bytes that are left to the disk at once: a tenth of a second or so."""


class PageFile:
    """A file that takes parts of others.

    Parameters
    ----------
    file
        Open for writing.
    direct
        Handle of the same file that goes past the cache, or None.
    sync_soon
        From `syncing_soon`.
    """

    def __init__(self, file: BinaryIO, direct: int | None, sync_soon: Callable[[Path], None]) -> None:
        self.file, self._direct, self._sync_soon = file, direct, sync_soon
        self._written = 0

    def put(self, source: Path, begin: int, end: int, to: int) -> None:
        """Put a part of a file somewhere.

        Parameters
        ----------
        source
            Which file; nobody writes to it meanwhile.
        begin, end
            Which part of it.
        to
            Where it goes.

        Raises
        ------
        OSError
            It could not be written, or the source is not as long as that.
        """
        if begin == end:
            return
        with naming(source), source.open("rb", buffering=0) as pieces:
            if os.fstat(pieces.fileno()).st_size < end:
                raise OSError(errno.EIO, "the file became shorter", str(source))
            done = self._past_cache(pieces.fileno(), begin, end, to)
            self._through_cache(pieces.fileno(), begin + done, end, to + done)
        self._written += end - begin
        if self._written >= SYNCED_AT:
            self._written = 0
            self._sync_soon(Path(self.file.name))

    def _past_cache(self, source: int, begin: int, end: int, to: int) -> int:
        """Write as much as can be written so; how many bytes that were."""
        if self._direct is None:
            return 0
        with mmap.mmap(source, end, access=mmap.ACCESS_READ) as data, memoryview(data) as view, view[begin:end] as part:
            done = past_cache.write(self._direct, part, to)
        if begin + done < end:
            self._direct = None
        return done

    def _through_cache(self, source: int, begin: int, end: int, to: int) -> None:
        if begin == end:
            return
        self.file.seek(to)
        size = end - begin
        while begin < end:
            begin += os.sendfile(self.file.fileno(), source, begin, end - begin)
        begin_to_write(self.file.fileno(), to, size)


@contextlib.contextmanager
def open_page_file(path: Path) -> Iterator[PageFile]:
    """Open a file that takes parts of others.

    Parameters
    ----------
    path
        It exists, and nobody else writes to it.

    Yields
    ------
    PageFile
        Whoever makes the file durable does so for all parts.
    """
    with (
        path.open("rb+") as file,
        path.open("rb+", buffering=0) as direct,
        past_cache.way(direct.fileno()) as is_there,
        syncing_soon() as sync_soon,
    ):
        yield PageFile(file, direct.fileno() if is_there else None, sync_soon)
