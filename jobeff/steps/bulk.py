"""The rows of all months into a new efficiency database, in order of its keys, page by page.

Each month has written its rows as a run, in order of their keys. Merging runs takes little memory, however many there
are: a range of keys at a time, each made into pages by a worker; here they are put one behind the other. Ids of jobs go
up with time, so most of the table goes to disk while later months are computed.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import sqlite3
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from jobeff.engine import pool
from jobeff.engine.leaves import LeavesTask
from jobeff.engine.processes import Processes
from jobeff.engine.runs import JOBS, PROJECTS, Run
from jobeff.steps.ranges import ROWS_PER_TASK, Range, TableRanges, index_ranges
from jobeff.steps.trees import Trees
from jobeff.store import pages, row_sums, tables
from jobeff.store.files import REMOVED_AT_ONCE
from jobeff.store.placing import open_page_file
from jobeff.store.sqlite import atomic

PER_WORKER = 3
"""So many tasks are given out, and their files kept, beyond the one whose pages come next; enough for workers to go on
while the levels of a tree are made. Of one worker there are as many as of two."""

NAMES = {JOBS: "jobs", PROJECTS: "jobs_proj_id_date_finished"}

Chain = Generator[Any, Any, Any]


class Expected(NamedTuple):
    """A month to come: which one, and the least id of its jobs."""

    cluster: str
    month: str
    first: int


class NewDatabase:
    """A database of runs that is being made; the caller makes it durable.

    Parameters
    ----------
    path
        A new database; what a run that died has left there is removed.
    executor
        Makes the pages.
    scratch
        Takes them for a while; on the same file system.
    width
        How many tasks the executor runs at once.
    """

    def __init__(self, path: Path, executor: Executor, scratch: Path, width: int = 1) -> None:
        self._path, self._executor, self._scratch = path, executor, scratch
        self._at_once = PER_WORKER * max(2, width)
        self._expected: collections.deque[Expected] = collections.deque()
        self._come: dict[tuple[str, str], Run | None] = {}
        self._ranges = TableRanges()
        self._early: collections.deque[LeavesTask] = collections.deque()
        self._given = dict.fromkeys(NAMES, 0)
        self._open = contextlib.ExitStack()
        self._trees: Trees | None = None

    def __enter__(self) -> NewDatabase:
        return self

    def __exit__(self, *error: object) -> None:
        if self._trees is None:  # what there is may be of a run that died, and nobody has begun to write over it
            self._open.close()
            return
        if error[0] is None:
            return
        try:
            self._trees.give_up()
            self._open.close()
        finally:
            remove_left(self._path)  # what there is of it takes room, and serves nobody

    def expect(self, months: Iterable[Expected]) -> None:
        """Learn which months will come, all of them, so that rows go to disk as soon as it is known where.

        Parameters
        ----------
        months
            Each will be added, if only as one that has no rows.
        """
        least: dict[str, int] = {}  # of a month and those behind it
        for one in sorted(months, reverse=True):
            least[one.cluster] = min(one.first, least.get(one.cluster, one.first))
            self._expected.appendleft(one._replace(first=least[one.cluster]))

    def add(self, cluster: str, month: str, run: Run | None) -> None:
        """Take a month.

        Parameters
        ----------
        cluster, month
            Which one.
        run
            None where it has no rows.
        """
        self._come[cluster, month] = run
        # In order of the months, however they come, so that the same rows make the same pages.
        while self._expected and self._expected[0][:2] in self._come:
            self._take(self._expected.popleft()[:2])
            if self._expected:
                self._early += [self._task(JOBS, part) for part in self._ranges.settled(self._bounds())]

    def among(self, chains: Iterable[Chain]) -> Iterator[Chain]:
        """Have pages of months that were added made while others are computed.

        Parameters
        ----------
        chains
            Of the other months.

        Returns
        -------
        iterator
            Those, and between them chains for pages, as there are some, which return None. Where it has come to its
            end, it may have more later.
        """
        return _Among(iter(chains), self)

    def pages(self) -> Generator[Any, Any, None] | None:
        """Have pages made that can be made already, as many at once as all workers can make.

        Returns
        -------
        generator
            A chain of tasks, or None where there is nothing to do, or the disk has enough to write: months go on then.
            Of the last but one month a few are left for when the index is divided: workers would wait for that.
        """
        count = len(self._early) - (self._at_once if len(self._expected) == 1 else 0)
        count = min(count, self._opened().room()) if count > 0 else 0
        return self._opened().made([self._early.popleft() for _ in range(count)]) if count else None

    def finish(self) -> None:
        """Make the rest, once all months have been added."""
        self._expected.clear()
        for key in sorted(self._come):
            self._take(key)
        trees, runs = self._opened(), self._ranges.runs
        if runs:
            trees.take_spare(runs[0].folder)
            table = (self._task(JOBS, *one) for one in _and_last(self._ranges.rest()))
            index = (self._task(PROJECTS, *one) for one in _and_last(index_ranges(runs)))
            tasks = itertools.chain(self._early, _in_turn(self._at_once, table, index))
            for _ in pool.run_chains(self._executor, (trees.made([task]) for task in tasks), self._at_once):
                pass
            trees.finish()
        self._open.close()
        with contextlib.closing(self._database()) as database, atomic(database):
            row_sums.add(database, "jobs", {f"{run.cluster}/{run.month}": (run.rows, run.total) for run in runs})

    def _take(self, key: tuple[str, str]) -> None:
        run = self._come.pop(key)
        if run is not None:
            self._ranges.add(run)

    def _bounds(self) -> dict[str, int | None]:
        """Of the first cluster of which months are to come, and of those before it."""
        cluster, _, first = self._expected[0]
        before: dict[str, int | None] = {run.cluster: None for run in self._ranges.runs if run.cluster < cluster}
        return {**before, cluster: first}

    def _task(self, by: str, part: Range, last: bool = False) -> LeavesTask:
        self._given[by] += 1
        out = self._scratch / f"{by}-{self._given[by]}"
        size = self._opened().page_size
        return LeavesTask([*self._ranges.runs], by, part, size, last, out, out.with_name(f"{out.name}-about"))

    def _database(self) -> sqlite3.Connection:
        return tables.open_database(self._path, "efficiency", durable=False)

    def _opened(self) -> Trees:
        if self._trees is None:
            remove_left(self._path)
            self._scratch.mkdir(exist_ok=True)
            with contextlib.closing(self._database()) as database:
                roots = {by: pages.place(database, name).root for by, name in NAMES.items()}
                size, count = (database.execute(f"pragma {name}").fetchone()[0] for name in ("page_size", "page_count"))
            file = self._open.enter_context(open_page_file(self._path))
            # To remove all that is not needed any more at the end, when nobody else had something to do, took longer.
            remover = self._open.enter_context(ThreadPoolExecutor(REMOVED_AT_ONCE))
            writer = self._open.enter_context(ThreadPoolExecutor(1))
            # Here a worker that was given up has ended; elsewhere it may still write to its files.
            spare: list[Path] | None = [] if isinstance(self._executor, Processes | pool.InProcess) else None
            self._trees = Trees(file, self._executor, writer, remover, self._at_once, count + 1, size, roots, spare)
        return self._trees


def remove_left(path: Path) -> None:
    """Remove a new database that a run has left which died.

    Parameters
    ----------
    path
        The database.
    """
    for left in (path, path.with_name(f"{path.name}-journal")):
        left.unlink(missing_ok=True)


class _Among(Iterator[Any]):
    """See `NewDatabase.among`."""

    def __init__(self, chains: Iterator[Any], new: NewDatabase) -> None:
        self._chains, self._new = chains, new

    def __next__(self) -> Any:
        found = self._new.pages()
        return next(self._chains) if found is None else found


def _in_turn(first: int, table: Iterator[LeavesTask], index: Iterator[LeavesTask]) -> Iterator[LeavesTask]:
    """Tasks of the table and of its index, in such turns that both come to their end together.

    Pages of the table are made quicker than a disk takes them, those of the index are not.
    """
    yield from itertools.islice(table, first)  # while those of the index are found
    for task in index:
        yield task
        yield from itertools.islice(table, ROWS_PER_TASK[PROJECTS] // ROWS_PER_TASK[JOBS])
    yield from table


def _and_last(parts: Iterable[Range]) -> Iterator[tuple[Range, bool]]:
    """Ranges, and whether each is the last."""
    every = list(parts)
    yield from ((part, number == len(every)) for number, part in enumerate(every, 1))
