"""Runs to pages: a part of the leaves of a table or index of SQLite, made by a worker of its own.

Leaves know nothing of where they stand in the database, but for rows so long that they go on elsewhere. So workers
fill them beside one another, for one range of keys each.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from jobeff.engine.pool import Task
from jobeff.engine.runs import JOBS, Run, TableRun, write_index_records
from jobeff.order import distinct, order_of
from jobeff.store import pages, tree_kernels
from jobeff.store.files import naming
from jobeff.store.records import Records, Stretch
from jobeff.store.scratch import mapped_all, write

Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True)
class LeavesTask(Task):
    """A range of keys.

    Attributes
    ----------
    runs
        Each month that has rows.
    by
        `JOBS`: leaves of the table; `PROJECTS`: of its index.
    batches
        In order of their keys. Each has shape (pieces, 3): a run, and where in it the piece begins and ends. All have
        two rows or more between them, where others come behind.
    page_size
        Bytes per page.
    last
        Whether no other range comes behind this one.
    out
        File that takes the pages; it may be there, and be written over, which is quicker than a new one.
    about
        File that takes what the levels above need to know.
    first_page
        Number of the first page, where it has to be known; else pages are numbered later.
    """

    runs: Sequence[Run]
    by: str
    batches: Sequence[Int64s]
    page_size: int
    last: bool
    out: Path
    about: Path
    first_page: int | None = None

    def named(self) -> str:
        """What it writes."""
        return f"a part of the pages of {self.by}"


@dataclass
class LeavesMade:
    """What came of a `LeavesTask`.

    Attributes
    ----------
    pages
        How many pages it has written.
    numbered
        Whether there were rows so long that the number of the first page has to be known.
    """

    pages: int
    numbered: bool


def make_leaves(task: LeavesTask) -> LeavesMade:
    """Make the leaves of a range of keys.

    Parameters
    ----------
    task
        See `LeavesTask`.

    Returns
    -------
    LeavesMade
        The pages are in the task's file.
    """
    # Behind the page for locks, so that none of these is left empty for it.
    first = task.first_page or _free_number(task.page_size)
    writer = _TableWriter(task.runs) if task.by == JOBS else _IndexWriter(task.runs)
    with naming(task.out), task.out.open("r+b" if task.out.exists() else "wb") as file:
        tree = pages.IndexTree(file, task.page_size, first, first)
        # Records of the index are short, but come out of every month: all at once, each month is looked at once.
        batches = _of_two(task.batches) if task.by == JOBS else [[np.concatenate(task.batches)]]
        for number, batch in enumerate(batches, 1):
            then = tree_kernels.GO_ON
            if number == len(batches):
                then = tree_kernels.LAST if task.last else tree_kernels.GOES_UP
            tree.add(*writer.records(batch), then)
        count = tree.next_page - first
        file.truncate(count * task.page_size)
    leaves = tree.leaves()
    with naming(task.about), task.about.open("wb") as file:
        for array in leaves._replace(numbers=leaves.numbers - first):
            write(file, array)
    return LeavesMade(count, tree.overflowed and task.first_page is None)


def _free_number(page_size: int) -> int:
    return tree_kernels.LOCK_BYTE // page_size + 2


def _of_two(batches: Sequence[Int64s]) -> list[list[Int64s]]:
    """The batches, those at the end together, so that they have two rows at least where there are so many."""
    found = [[batch] for batch in batches]
    while len(found) > 1 and sum(map(_rows, found[-1])) < 2:
        found[-2:] = [found[-2] + found[-1]]
    return found


class _Writer:
    """Writes records of one batch after the other into the same memory."""

    def __init__(self) -> None:
        self._records = Records()

    def records(self, batches: Sequence[Int64s]) -> Stretch:
        """Records of some batches in order of their keys, good until the next ones."""
        self._records.clear()
        for pieces in batches:
            self._write(pieces, self._records)
        return self._records.all

    def _write(self, pieces: Int64s, records: Records) -> None:
        raise NotImplementedError


class _TableWriter(_Writer):
    """Writes records of the table; each month is opened once."""

    def __init__(self, runs: Sequence[Run]) -> None:
        super().__init__()
        self._opened = functools.cache(lambda number: TableRun(runs[number]))

    def records(self, batches: Sequence[Int64s]) -> Stretch:
        """As there; those of one month alone, as nearly all are, are not copied."""
        if len(batches) == len(batches[0]) == 1:
            number, begin, end = batches[0][0].tolist()
            return self._opened(number).piece(begin, end)
        return super().records(batches)

    def _write(self, pieces: Int64s, records: Records) -> None:
        """Records of some pieces in order of their keys, behind those that there are."""
        keys, before = [], len(records.ends)
        for number in distinct(pieces[:, 0]).tolist():
            run, mine = self._opened(number), pieces[pieces[:, 0] == number, 1:]
            run.write(mine, records)
            keys += [run.keys[begin:end] for begin, end in mine.tolist()]
        if len(keys) > 1:
            records.arrange(before, order_of(*np.concatenate(keys).T))


class _IndexWriter(_Writer):
    """Writes records of the index."""

    def __init__(self, runs: Sequence[Run]) -> None:
        super().__init__()
        self._runs = runs

    def _write(self, pieces: Int64s, records: Records) -> None:
        """Records of some pieces, which are in order of their keys, behind those that there are."""
        places, before = [], len(records.ends)
        lengths = pieces[:, 2] - pieces[:, 1]
        begins = np.cumsum(lengths) - lengths
        for number in distinct(pieces[:, 0]).tolist():
            mine = pieces[:, 0] == number
            write_index_records(self._runs[number], pieces[mine, 1:], records)
            places += [np.arange(begin, begin + size) for begin, size in zip(begins[mine], lengths[mine], strict=True)]
        if len(places) > 1:
            order = np.empty(lengths.sum(), dtype=np.int64)
            order[np.concatenate(places)] = np.arange(len(order))
            records.arrange(before, order)


def _rows(batch: Int64s) -> int:
    return int((batch[:, 2] - batch[:, 1]).sum())


@dataclass(frozen=True)
class LevelsTask(Task):
    """Leaves of a tree that stand in a database.

    Attributes
    ----------
    page_size
        Of the database.
    leaves
        What is known `about` the leaves of each task, the number that its first page has in the database, and whether
        they were made knowing it.
    next_page
        Number of the first page of the database that is not used yet.
    out
        File that takes the pages. A worker never writes into a database: one that has been given up, and goes on after
        all, would write into the next run's.
    """

    page_size: int
    leaves: Sequence[tuple[Path, int, bool]]
    next_page: int
    out: Path

    def named(self) -> str:
        """What it writes."""
        return f"the pages above those of {self.out.name}"


def make_levels(task: LevelsTask) -> int:
    """Make the levels above some leaves.

    Parameters
    ----------
    task
        See `LevelsTask`.

    Returns
    -------
    int
        Number of the first page that is not used then. The file has the tree's root, and behind it the pages from
        `next_page` to there; that of the page for locks is left empty in it.
    """
    lock = tree_kernels.LOCK_BYTE // task.page_size + 1
    with naming(task.out), task.out.open("wb") as file:
        root = task.next_page - 1
        tree = pages.IndexTree(file, task.page_size, task.next_page, root)
        for about, first, numbered in task.leaves:
            leaves = pages.Leaves(*mapped_all(about))
            numbers = leaves.numbers + first
            if first <= lock and not numbered:
                numbers += numbers >= lock
            tree.adopt(leaves._replace(numbers=numbers))
        tree.finish(root)
        file.truncate((tree.next_page - root) * task.page_size)
        return tree.next_page
