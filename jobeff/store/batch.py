"""Many files that become durable together, for the price of a few."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

from jobeff.store import past_cache, unchanged
from jobeff.store.files import begin_to_write, make_missing, naming, open_new, sync_path, temporary_path

SYNCED_ONE_BY_ONE = 8
AT_ONCE = 1 << 20
"""Bytes of files that are handed to a thread at once: to wake it for each took a third of the time of writing one."""
TELLS_ERRORS = (5, 8)
"""Since this Linux, ``syncfs`` tells that something could not be written."""

_syncfs = getattr(ctypes.CDLL(None), "syncfs", None)  # Python's os has sync for all file systems only


@contextlib.contextmanager
def syncing(folder: Path) -> Iterator[Callable[[Iterable[Path]], None]]:
    """Have a way to make many files durable that have been written since.

    A few are made durable one by one; many with all else on their file system, which takes no longer. ``syncfs`` tells
    of errors since its folder was opened, so that is done before the first file is written. Where it fails, it may be
    for the sake of somebody else's file: then each of ours is asked, and the one that is lost is named.

    Parameters
    ----------
    folder
        An existing one, of the file system that they are on.

    Yields
    ------
    function
        Takes the paths of files and folders.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)

    def sync(paths: Iterable[Path]) -> None:
        rest = iter(paths)  # they may be a million
        few = list(itertools.islice(rest, SYNCED_ONE_BY_ONE + 1))
        if len(few) > SYNCED_ONE_BY_ONE and _syncfs is not None and _tells_errors() and _syncfs(handle) == 0:
            return
        for path in itertools.chain(few, rest):
            sync_path(path)

    try:
        yield sync
    finally:
        os.close(handle)


@contextlib.contextmanager
def syncing_soon() -> Iterator[Callable[[Path], None]]:
    """Have a way to make files durable in a thread, while there is other work: so a disk has little left at the end.

    What a disk has been given, it may keep in memory of its own until it is asked for, and then it takes long.

    Yields
    ------
    function
        Takes the path of a file. Nothing happens while another one is being made durable: to ask once is enough for
        all that was written before. So this is no promise, and the caller makes durable what has to be.

    Raises
    ------
    OSError
        One could not be: by the next call, or at the end.
    """
    begun: Future[None] | None = None
    with ThreadPoolExecutor(1) as thread:

        def sync(path: Path) -> None:
            nonlocal begun
            if begun is None or begun.done():
                if begun is not None:
                    begun.result()
                begun = thread.submit(sync_path, path)

        yield sync
    if begun is not None:
        begun.result()


def _tells_errors() -> bool:
    found = re.match(r"(\d+)\.(\d+)", os.uname().release)
    return found is not None and tuple(map(int, found.groups())) >= TELLS_ERRORS


class Batch:
    """Files that are written together, as a context: each whole or not at all; those without a name yet go at its end.

    Those that are there already under another name have their own at once, durable with the others.

    Parameters
    ----------
    folder
        Of the file system that they are on.
    read_soon
        Whether they are, so that they stay in the system's cache. Else they go past it where they can, while the next
        ones are made.
    """

    def __init__(self, folder: Path, read_soon: bool = True) -> None:
        self._folder = folder
        self._paths: list[tuple[Path, Path]] = []  # temporary names and those to come
        self._parents: set[Path] = set()
        self._fill = _through_cache if read_soon else past_cache.fill
        self._behind = None if read_soon else _Behind(self._write)
        self._taken_over: list[Path] = []

    def __enter__(self) -> Batch:
        self._parents.update(make_missing(self._folder))
        self._stack = contextlib.ExitStack()
        self._sync = self._stack.enter_context(syncing(self._folder))
        if self._behind is not None:
            self._stack.enter_context(self._behind.thread)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()
        for temporary, _ in self._paths:
            temporary.unlink(missing_ok=True)

    def put(self, path: Path, whole: memoryview, old: Path | None = None) -> None:
        """Write a file that takes its name with `commit`.

        Parameters
        ----------
        path
            What it will be called; see `jobeff.store.files.atomic_write` for its temporary name.
        whole
            All that it will hold.
        old
            A file that may be the same already; see `jobeff.store.unchanged`.
        """
        if old is not None and self._take_over(old, path, whole):
            self._taken_over.append(path)
            return
        temporary = temporary_path(path)
        self._paths.append((temporary, path))
        if self._behind is None:
            self._write(temporary, path, whole)
        else:
            self._behind.put(temporary, path, whole)

    def _take_over(self, old: Path, path: Path, whole: memoryview) -> bool:
        """Give what is whole and on disk already its new name at once."""
        folder = path.parent
        try:
            group = os.stat(folder).st_gid  # noqa: PTH116  (asked for each of many files)
        except FileNotFoundError:
            with naming(path):
                self._parents.update(make_missing(folder))
            group = folder.stat().st_gid
        return unchanged.take_over(old, path, whole, group)

    def _write(self, temporary: Path, path: Path, whole: memoryview) -> None:
        with naming(path):
            try:
                handle = open_new(temporary)
            except FileNotFoundError:  # most folders are there: not asked for each of many files
                self._parents.update(make_missing(path.parent))
                handle = open_new(temporary)
            try:
                self._fill(handle, whole)
            finally:
                os.close(handle)

    def commit(self, durable: bool = True) -> None:
        """Give the files their names.

        Parameters
        ----------
        durable
            Whether they must outlast a power cut from now on; else the caller sees to it later, with `syncing`.
        """
        if self._behind is not None:
            self._behind.finish()
        if durable:
            self._sync([temporary for temporary, _ in self._paths])
        for temporary, path in self._paths:
            temporary.replace(path)
        if durable:
            named = [*(path for _, path in self._paths), *self._taken_over]
            self._sync(sorted({path.parent for path in named} | self._parents))
        self._paths, self._taken_over, self._parents = [], [], set()


class _Behind:
    """Writes files in a thread while the next ones are made, out of memory that can be written past the cache.

    Parameters
    ----------
    write
        Takes a temporary name, the one to come, and what the file will hold.
    """

    def __init__(self, write: Callable[[Path, Path, memoryview], None]) -> None:
        self.thread = ThreadPoolExecutor(1)
        self._write = write
        self._begun: Future[None] | None = None
        self._waiting: list[tuple[Path, Path, memoryview]] = []
        self._rooms = [past_cache.room(AT_ONCE) for _ in range(2)]  # one is filled while the other is written
        self._used = 0

    def put(self, temporary: Path, path: Path, whole: memoryview) -> None:
        """Copy a file, and hand those before it over where there is no room for one more."""
        if self._used + len(whole) > len(self._rooms[0]):
            self._hand_over()
            if len(whole) > len(self._rooms[0]):
                self._rooms[0] = past_cache.room(len(whole))
        end = self._used + len(whole)
        mine = memoryview(self._rooms[0])[self._used : end]  # type: ignore[arg-type]
        mine[:] = whole
        self._waiting.append((temporary, path, mine))
        self._used = end + -end % past_cache.BLOCK

    def finish(self) -> None:
        """Wait until all is written."""
        self._hand_over()
        self._wait()

    def _hand_over(self) -> None:
        self._wait()
        self._begun = self.thread.submit(self._write_all, self._waiting)
        self._waiting, self._used = [], 0
        self._rooms.reverse()

    def _write_all(self, waiting: list[tuple[Path, Path, memoryview]]) -> None:
        for one in waiting:
            self._write(*one)

    def _wait(self) -> None:
        begun, self._begun = self._begun, None
        if begun is not None:
            begun.result()


def _through_cache(handle: int, whole: memoryview) -> None:
    with os.fdopen(handle, "wb", closefd=False) as file:
        file.write(whole)
    begin_to_write(handle)
