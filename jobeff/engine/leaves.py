"""Runs to pages: a part of the leaves of a table or index of SQLite, made by a worker of its own.

Leaves know nothing of where they stand in the database, but for rows so long that they go on elsewhere. So workers
fill them beside one another, for one range of keys each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from jobeff.engine.plan import order_of
from jobeff.engine.pool import Task
from jobeff.engine.runs import JOBS, Run
from jobeff.store import page_kernels, pages
from jobeff.store.files import naming
from jobeff.store.scratch import write

Int64s = npt.NDArray[np.int64]


class Records(NamedTuple):
    """Records, and where each begins and ends."""

    data: npt.NDArray[np.uint8]
    begins: Int64s
    ends: Int64s


@dataclass(frozen=True)
class LeavesTask(Task):
    """A range of keys.

    Attributes
    ----------
    runs
        Cluster and scratch folder of each month.
    by
        See `jobeff.engine.runs.Run`.
    batches
        In order of their keys. Each has shape (pieces, 3): a run, and where in it the piece begins and ends. All have
        two rows or more between them, where others come behind.
    page_size
        Bytes per page.
    last
        Whether no other range comes behind this one.
    out
        File that takes the pages; what the levels above need to know goes to one beside it.
    first_page
        Number of the first page, where it has to be known; else pages are numbered later.
    """

    runs: Sequence[tuple[str, Path]]
    by: str
    batches: Sequence[Int64s]
    page_size: int
    last: bool
    out: Path
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
    sums
        Rows and sum of checksums by block, where there are any.
    """

    pages: int
    numbered: bool
    sums: dict[str, tuple[int, int]] = field(default_factory=dict)


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
    runs: dict[int, Run] = {}
    with naming(task.out), task.out.open("wb") as file:
        tree = pages.IndexTree(file, task.page_size, first, first)
        batches = _of_two(task.batches)
        for number, batch in enumerate(batches, 1):
            then = page_kernels.GO_ON
            if number == len(batches):
                then = page_kernels.LAST if task.last else page_kernels.GOES_UP
            tree.add(*_together([_records(task, runs, one) for one in batch]), then)
        count = tree.next_page - first
        file.truncate(count * task.page_size)
    leaves = tree.leaves()
    with naming(task.out), _about(task.out).open("wb") as file:
        for array in leaves._replace(numbers=leaves.numbers - first):
            write(file, array)
    sums = {run.name: (run.rows, run.total) for run in runs.values() if run.total}
    return LeavesMade(count, tree.overflowed and task.first_page is None, sums if task.by == JOBS else {})


def _free_number(page_size: int) -> int:
    return page_kernels.LOCK_BYTE // page_size + 2


def _about(out: Path) -> Path:
    return out.with_name(f"{out.name}-about")


def _of_two(batches: Sequence[Int64s]) -> list[list[Int64s]]:
    """The batches, those at the end together, so that they have two rows at least where there are so many."""
    found = [[batch] for batch in batches]
    while len(found) > 1 and sum(map(_rows, found[-1])) < 2:
        found[-2:] = [found[-2] + found[-1]]
    return found


def _together(records: list[Records]) -> Records:
    """Records one behind the other."""
    if len(records) == 1:
        return records[0]
    shift = np.cumsum([0, *(len(one.data) for one in records)])
    begins, ends = (
        np.concatenate([getattr(one, name) + by for one, by in zip(records, shift[:-1], strict=True)])
        for name in ("begins", "ends")
    )
    return Records(np.concatenate([one.data for one in records]), begins, ends)


def _records(task: LeavesTask, runs: dict[int, Run], batch: Int64s) -> Records:
    """Records of a batch in order of their keys."""
    chosen = []
    for number, begin, end in batch.tolist():
        if number not in runs:
            runs[number] = _run(task, number)
        chosen.append((runs[number], begin, runs[number].select(begin, end)))
    room = sum(size for _, _, (_, _, size) in chosen)
    data, ends, at, done = np.empty(room + 8, dtype=np.uint8), np.empty(_rows(batch), dtype=np.int64), 0, 0
    for run, _, (rows, job, _) in chosen:
        at = run.write(rows, job, data, ends[done : done + len(rows)], at)
        done += len(rows)
    begins = np.concatenate([[0], ends[:-1]])
    if task.by == JOBS and len(chosen) > 1:
        keys = np.concatenate([run.keys[:, begin : begin + len(rows)] for run, begin, (rows, _, _) in chosen], axis=1)
        order = order_of(keys[0], keys[1])
        return Records(data, begins[order], ends[order])
    return Records(data, begins, ends)


def _run(task: LeavesTask, number: int) -> Run:
    cluster, folder = task.runs[number]
    return Run(cluster, folder, task.by)


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
        Files of the leaves, the number that the first page of each has in the database, and whether they were made
        knowing it.
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
    lock = page_kernels.LOCK_BYTE // task.page_size + 1
    with naming(task.out), task.out.open("wb") as file:
        root = task.next_page - 1
        tree = pages.IndexTree(file, task.page_size, task.next_page, root)
        for out, first, numbered in task.leaves:
            with _about(out).open("rb") as about:
                leaves = pages.Leaves(*(np.load(about) for _ in pages.Leaves._fields))
            numbers = leaves.numbers + first
            if first <= lock and not numbered:
                numbers += numbers >= lock
            tree.adopt(leaves._replace(numbers=numbers))
        tree.finish(root)
        file.truncate((tree.next_page - root) * task.page_size)
        return tree.next_page
