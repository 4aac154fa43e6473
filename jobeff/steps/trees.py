"""Trees of a database that is being made: leaves that workers have made are put one behind the other, then the rest."""

from __future__ import annotations

import collections
import itertools
import os
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from jobeff.engine import leaves, pool
from jobeff.engine.leaves import LeavesMade, LeavesTask, LevelsTask
from jobeff.engine.runs import used_up
from jobeff.store import pages, tree_kernels
from jobeff.store.files import naming
from jobeff.store.placing import PageFile
from jobeff.store.scratch import give_back, given_back

Placed = list[tuple[Path, int, bool]]
"""Leaves of a tree; see `LevelsTask`."""


@dataclass
class Trees:
    """A database that trees are put into, one of their parts behind the other.

    Attributes
    ----------
    file
        The database.
    executor
        Makes leaves and levels.
    writer
        Puts all that it is given where it belongs, in order: it waits for the disk, and has but one thread.
    remover
        Removes what nobody needs any more.
    at_once
        So many files may wait for the writer.
    next_page
        Number of the first page that is free once the writer has put all.
    page_size
        Bytes per page.
    roots
        Page of each tree's root.
    spare
        Files that tasks may write over; None where a worker that was given up elsewhere may still write to its own.
    """

    file: PageFile
    executor: Executor
    writer: Executor
    remover: Executor
    at_once: int
    next_page: int
    page_size: int
    roots: Mapping[str, int]
    spare: list[Path] | None
    _writing: collections.deque[Future[None]] = field(default_factory=collections.deque)
    _placed: dict[str, Placed] = field(default_factory=lambda: collections.defaultdict(list))
    _rows: collections.Counter[tuple[str, int]] = field(default_factory=collections.Counter)
    _waiting: dict[int, tuple[LeavesTask, LeavesMade]] = field(default_factory=dict)
    _at_end: bool = False
    _is_torn: bool = False
    _begun: int = 0
    _done: int = 0

    def room(self) -> int:
        """How many more leaves can be begun and put without waiting for the disk.

        Returns
        -------
        int
            None, too, where a part has been given up: nothing can be put behind it.

        Raises
        ------
        OSError
            What was put before could not be written.
        """
        with naming(Path(self.file.file.name)):
            while self._writing and self._writing[0].done():
                self._writing.popleft().result()
        return 0 if self._is_torn else max(0, self.at_once - len(self._writing) - (self._begun - self._done))

    def made(self, tasks: Sequence[LeavesTask]) -> Generator[Any, Any, None]:
        """Have leaves made, and put in the order in which they were begun, a tree's levels behind its last.

        Workers have leaves of another tree to make while one of them makes levels.

        Parameters
        ----------
        tasks
            Ranges of keys, behind all of the same tree that have been begun; made all at once.

        Returns
        -------
        generator
            A chain of tasks.
        """
        first, self._begun = self._begun, self._begun + len(tasks)
        given = [replace(task, out=self.spare.pop()) if self.spare else task for task in tasks]
        try:
            results = yield [(leaves.make_leaves, task) for task in given]
        except GeneratorExit:
            self._is_torn = True
            raise
        self._waiting.update(zip(itertools.count(first), zip(given, results, strict=True), strict=False))
        with naming(Path(self.file.file.name)):
            while (found := self._waiting.pop(self._done, None)) is not None:
                self._done += 1
                self._put(*found)

    def take_spare(self, folder: Path) -> None:
        """Have all files written over that months have given back; no month is computed any more.

        Parameters
        ----------
        folder
            Of one of the months.
        """
        if self.spare is not None:
            self.spare[:0] = given_back(folder)
        self._at_end = True

    def give_up(self) -> None:
        """Write nothing more."""
        self.writer.shutdown(cancel_futures=True)

    def finish(self) -> None:
        """Wait until all is written."""
        with naming(Path(self.file.file.name)):
            self._written(0)
            for path in self.spare or []:
                self.remover.submit(path.unlink, missing_ok=True)
            pages.set_page_count(self.file.file, self.next_page - 1)

    def _put(self, task: LeavesTask, made: LeavesMade) -> None:
        """Put leaves behind all else, and behind the last ones what is above them."""
        self._placed[task.by].append(self._put_leaves(task, made))
        for number in self._used_up(task):
            run = task.runs[number]
            both = all(self._rows[by, number] == run.rows for by in self.roots)
            self._give_up(run.folder, used_up(run, task.by, both))
        if task.last:
            out = task.about.with_name(f"{task.by}-levels")  # beside it: `task.out` may be a spare file
            self._put_levels(
                LevelsTask(self.page_size, self._placed[task.by], self.next_page, out), self.roots[task.by]
            )

    def _give_up(self, folder: Path, files: Sequence[Path]) -> None:
        """Have other months write over files that are read no more, or remove them."""
        if self.spare is not None and not self._at_end:
            give_back(folder, files)
            return
        for path in files:
            self.remover.submit(path.unlink)

    def _used_up(self, task: LeavesTask) -> Iterator[int]:
        """Runs of which all rows have been put into a tree."""
        run, begin, end = np.concatenate(task.batches).T
        rows = np.bincount(run, end - begin)
        for number in np.flatnonzero(rows).tolist():
            self._rows[task.by, number] += int(rows[number])
            if self._rows[task.by, number] == task.runs[number].rows:
                yield number

    def _put_leaves(self, task: LeavesTask, made: LeavesMade) -> tuple[Path, int, bool]:
        first, numbered = self.next_page, made.numbered
        if made.numbered:
            again = _one(leaves.make_leaves, replace(task, first_page=first))
            (made,) = pool.run_chains(self.executor, [again], 1)
        places, self.next_page = _places(made.pages, first, self.page_size, numbered)
        self._write(task.out, places)
        return task.about, first, numbered

    def _put_levels(self, task: LevelsTask, root: int) -> None:
        """Have the levels above leaves made, and put them behind all else, the root in its place."""
        size = task.page_size
        (made,) = pool.run_chains(self.executor, [_one(leaves.make_levels, task)], 1)
        self.next_page = int(made)
        behind = (size, (self.next_page - task.next_page + 1) * size, (task.next_page - 1) * size)
        self._write(task.out, [(0, size, (root - 1) * size), behind])

    def _write(self, source: Path, places: Sequence[tuple[int, int, int]]) -> None:
        self._written(self.at_once)
        self._writing.append(self.writer.submit(self._place, source, places))

    def _place(self, source: Path, places: Sequence[tuple[int, int, int]]) -> None:
        """In a thread: put parts of a file, where each begins and ends, to their places; nobody needs it then."""
        for begin, end, to in places:
            self.file.put(source, begin, end, to)
        if self.spare is not None:
            self.spare.append(source)
        else:  # so that it takes no room
            os.truncate(source, 0)

    def _written(self, left: int) -> None:
        """Wait until no more than so many files are left to be written; an error of one ends all."""
        while len(self._writing) > left:
            self._writing.popleft().result()


def _one(function: Callable[[Any], Any], task: Any) -> Generator[Any, Any, Any]:
    (result,) = yield [(function, task)]
    return result


def _places(count: int, first: int, size: int, numbered: bool) -> tuple[list[tuple[int, int, int]], int]:
    """Where pages go, but for that of the page for locks; the number of the page behind them."""
    lock = tree_kernels.LOCK_BYTE // size + 1
    before = count if numbered or not first <= lock < first + count else lock - first
    places = [(0, before * size, (first - 1) * size), (before * size, count * size, (first + before) * size)]
    return places, first + count + (before < count)
