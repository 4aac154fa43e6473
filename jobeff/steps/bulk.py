"""The rows of all months into a new efficiency database, in order of its keys, page by page.

Each month has written its rows as a run, in order of their keys. Merging runs takes little memory, however many there
are: a range of keys at a time, each made into pages by a worker; here they are put one behind the other.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import os
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jobeff.engine import pool
from jobeff.engine.jobs import mapped
from jobeff.engine.leaves import LeavesMade, LeavesTask, LevelsTask, make_leaves, make_levels
from jobeff.engine.processes import Processes
from jobeff.engine.runs import JOBS, PROJECTS, Run, drop, load_groups
from jobeff.order import distinct
from jobeff.store import page_kernels, pages, row_sums, tables
from jobeff.store.files import REMOVED_AT_ONCE, naming
from jobeff.store.placing import PageFile, open_page_file
from jobeff.store.scratch import given_back
from jobeff.store.sqlite import atomic

Int64s = npt.NDArray[np.int64]
ROWS_AT_ONCE = 1 << 14
"""Encoded at once, so that they are still in the processor's cache when they are put into pages."""

ROWS_PER_TASK = {JOBS: 1 << 17, PROJECTS: 1 << 18}
"""Records of the index are short, but each task looks into every month."""

PER_WORKER = 3
"""So many tasks are given out, and their files kept, beyond the one whose pages come next; enough for workers to go on
while the levels of a tree are made. Of one worker there are as many as of two."""

Made = tuple[int, LeavesTask, LeavesMade]


def write(path: Path, runs: Sequence[Run], executor: Executor, scratch: Path, width: int = 1) -> None:
    """Make a database of runs; the caller makes it durable.

    Parameters
    ----------
    path
        A new database.
    runs
        Each month that has rows.
    executor
        Makes the pages.
    scratch
        Takes them for a while; on the same file system.
    width
        How many tasks the executor runs at once.
    """
    with contextlib.closing(tables.open_database(path, "efficiency", durable=False)) as database:
        names = {JOBS: "jobs", PROJECTS: "jobs_proj_id_date_finished"}
        roots = {by: pages.place(database, name).root for by, name in names.items()}
        size, count = (database.execute(f"pragma {name}").fetchone()[0] for name in ("page_size", "page_count"))
    if not runs:
        return
    at_once = PER_WORKER * max(2, width)
    tasks = _in_turn(at_once, *(_tasks(runs, by, size, scratch) for by in roots))
    # To remove all that is not needed any more at the end, when nobody else had something to do, took longer.
    with naming(path), open_page_file(path) as file, ThreadPoolExecutor(REMOVED_AT_ONCE) as remover:
        with ThreadPoolExecutor(1) as writer:
            trees = _Trees(file, executor, writer, remover, at_once, count + 1, _spare(runs, executor))
            next_page = trees.put(tasks, roots)
        pages.set_page_count(file.file, next_page - 1)
    with contextlib.closing(tables.open_database(path, "efficiency", durable=False)) as database, atomic(database):
        row_sums.add(database, "jobs", {f"{run.cluster}/{run.month}": (run.rows, run.total) for run in runs})


def _spare(runs: Sequence[Run], executor: Executor) -> list[Path] | None:
    """Files that tasks may write over; None where a worker that was given up elsewhere may still write to its own."""
    return given_back(runs[0].folder) if isinstance(executor, Processes | pool.InProcess) else None


def _in_turn(first: int, table: Iterator[LeavesTask], index: Iterator[LeavesTask]) -> Iterator[LeavesTask]:
    """Tasks of the table and of its index, in such turns that both come to their end together.

    Pages of the table are made quicker than a disk takes them, those of the index are not.
    """
    yield from itertools.islice(table, first)  # while those of the index are found
    for task in index:
        yield task
        yield from itertools.islice(table, ROWS_PER_TASK[PROJECTS] // ROWS_PER_TASK[JOBS])
    yield from table


@dataclass
class _Trees:
    """A database that trees are put into, one of their parts behind the other; see `_spare` for the files.

    `next_page` is the first that is free once the `writer` has put all that it was given, in order, where it belongs:
    it waits for the disk, and has but one thread.
    """

    file: PageFile
    executor: Executor
    writer: Executor
    remover: Executor
    at_once: int
    next_page: int
    spare: list[Path] | None
    writing: collections.deque[Future[None]] = field(default_factory=collections.deque)

    def put(self, tasks: Iterable[LeavesTask], roots: dict[str, int]) -> int:
        """Have leaves made, put in order of the tasks, and a tree's levels behind its last; the page behind all.

        Workers have leaves of another tree to make while one of them makes levels.
        """
        placed: dict[str, list[tuple[Path, int, bool]]] = {by: [] for by in roots}
        waiting: dict[int, tuple[LeavesTask, LeavesMade]] = {}
        done = 0
        free = self.spare if self.spare is not None else []
        chains = (_leaves(number, task, free) for number, task in enumerate(tasks))
        for number, given, result in pool.run_chains(self.executor, chains, self.at_once):
            waiting[number] = given, result
            while (found := waiting.pop(done, None)) is not None:
                done += 1
                task = found[0]
                placed[task.by].append(self._put_leaves(*found))
                if task.last:
                    for run in task.runs:
                        self.remover.submit(drop, run, task.by)
                    out = task.about.with_name(f"{task.by}-levels")  # beside it: `task.out` may be a spare file
                    self._put_levels(LevelsTask(task.page_size, placed[task.by], self.next_page, out), roots[task.by])
        self._written(0)
        for path in free:
            self.remover.submit(path.unlink, missing_ok=True)
        return self.next_page

    def _put_leaves(self, task: LeavesTask, made: LeavesMade) -> tuple[Path, int, bool]:
        """Put leaves behind all else; what `LevelsTask` has to know of them."""
        first, numbered = self.next_page, made.numbered
        if made.numbered:
            again = _leaves(0, replace(task, first_page=first), [task.out])
            ((_, _, made),) = pool.run_chains(self.executor, [again], 1)
        places, self.next_page = _places(made.pages, first, task.page_size, numbered)
        self._write(task.out, places)
        return task.about, first, numbered

    def _put_levels(self, task: LevelsTask, root: int) -> None:
        """Have the levels above leaves made, and put them behind all else, the root in its place."""
        size = task.page_size
        (made,) = pool.run_chains(self.executor, [_one(make_levels, task)], 1)
        self.next_page = int(made)
        behind = (size, (self.next_page - task.next_page + 1) * size, (task.next_page - 1) * size)
        self._write(task.out, [(0, size, (root - 1) * size), behind])

    def _write(self, source: Path, places: Sequence[tuple[int, int, int]]) -> None:
        self._written(self.at_once)
        self.writing.append(self.writer.submit(self._place, source, places))

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
        while len(self.writing) > left:
            self.writing.popleft().result()


def _leaves(number: int, task: LeavesTask, free: list[Path]) -> Generator[Any, Any, Made]:
    if free:
        task = replace(task, out=free.pop())
    (made,) = yield [(make_leaves, task)]
    return number, task, made


def _one(function: Any, task: Any) -> Generator[Any, Any, Any]:
    (result,) = yield [(function, task)]
    return result


def _places(count: int, first: int, size: int, numbered: bool) -> tuple[list[tuple[int, int, int]], int]:
    """Where pages go, but for that of the page for locks; the number of the page behind them."""
    lock = page_kernels.LOCK_BYTE // size + 1
    before = count if numbered or not first <= lock < first + count else lock - first
    places = [(0, before * size, (first - 1) * size), (before * size, count * size, (first + before) * size)]
    return places, first + count + (before < count)


def _tasks(runs: Sequence[Run], by: str, page_size: int, scratch: Path) -> Iterator[LeavesTask]:
    """A table's or index's ranges of keys, so that each has two rows or more, but for the last."""
    batches = list(_by_job(runs) if by == JOBS else _by_project(runs))
    scratch.mkdir(exist_ok=True)
    parts: list[list[Int64s]] = [[]]
    rows = 0
    for batch in batches:
        if rows >= max(2, min(ROWS_PER_TASK[by], 64 * ROWS_AT_ONCE)):
            parts.append([])
            rows = 0
        parts[-1].append(batch)
        rows += int((batch[:, 2] - batch[:, 1]).sum())
    for number, part in enumerate(parts, 1):
        out = scratch / f"{by}-{number}"
        yield LeavesTask(runs, by, part, page_size, number == len(parts), out, out.with_name(f"{out.name}-about"))


def _by_job(runs: Sequence[Run]) -> Iterator[Int64s]:
    """Ranges of the table: in order of cluster, job id and start; see `LeavesTask`."""
    for cluster in sorted({run.cluster for run in runs}):
        numbers = [number for number, run in enumerate(runs) if run.cluster == cluster]
        ids = [mapped(runs[number].folder, "keys")[:, 0] for number in numbers]
        cuts = distinct(np.concatenate([one[::ROWS_AT_ONCE] for one in ids]))
        bounds = [np.append(np.searchsorted(one, cuts), len(one)) for one in ids]
        for part in range(len(cuts)):
            pieces = [(number, bound[part], bound[part + 1]) for number, bound in zip(numbers, bounds, strict=True)]
            yield np.array([piece for piece in pieces if piece[1] < piece[2]], dtype=np.int64)


def _by_project(runs: Sequence[Run]) -> Iterator[Int64s]:
    """Ranges of the index: in order of project, day, cluster, job id and start; see `LeavesTask`."""
    found = [load_groups(run.folder) for run in runs]
    names = [one.texts.words(np.arange(one.texts.size)) for one in found]
    project, day = (_ranks(names, [one.texts.codes[column] for one in found]) for column in range(2))
    cluster = _ranks([[run.cluster] for run in runs], [np.zeros(len(one.begin), dtype=np.int64) for one in found])
    run = np.repeat(np.arange(len(found)), [len(one.begin) for one in found])
    begin, end = (np.concatenate(some) for some in zip(*((one.begin, one.end) for one in found), strict=True))
    order = np.lexsort((run, cluster, day, project))
    run, begin, end = run[order], begin[order], end[order]
    # What stands side by side in a run and in the index is one piece.
    new = np.flatnonzero(np.append(True, (run[1:] != run[:-1]) | (begin[1:] != end[:-1])))
    pieces = np.stack([run[new], begin[new], end[np.append(new[1:], len(run)) - 1]], axis=1)
    batch = np.cumsum(pieces[:, 2] - pieces[:, 1]) // ROWS_AT_ONCE
    yield from np.split(pieces, np.flatnonzero(np.diff(batch)) + 1)


def _ranks(names: Sequence[Sequence[str]], codes: Sequence[npt.NDArray[Any]]) -> Int64s:
    """Codes of names, each in a list of their own, as codes in the list of all, in order of the names' bytes."""
    every = {name: rank for rank, name in enumerate(sorted({n for some in names for n in some}, key=str.encode))}
    ranks = [np.array([every[name] for name in some], dtype=np.int64) for some in names]
    return np.concatenate([rank[code] for rank, code in zip(ranks, codes, strict=True)])
