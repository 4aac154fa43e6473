"""The rows of all months in ranges of keys, each as large as one worker makes pages of at once."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from jobeff.engine.jobs import mapped
from jobeff.engine.runs import JOBS, PROJECTS, Run, load_groups
from jobeff.errors import JobeffError
from jobeff.order import distinct

Int64s = npt.NDArray[np.int64]
Range = list[Int64s]
"""Batches in order of their keys; see `jobeff.engine.leaves.LeavesTask`."""

ROWS_AT_ONCE = 1 << 14
"""Encoded at once, so that they are still in the processor's cache when they are put into pages."""

ROWS_PER_TASK = {JOBS: 1 << 17, PROJECTS: 1 << 18}
"""Records of the index are short, but each task looks into every month."""

LEAST = np.iinfo(np.int64).min
NO_IDS = np.empty(0, dtype=np.int64)


class TableRanges:
    """Ranges of the table, in order of cluster, job id and start, while more months come.

    Attributes
    ----------
    runs
        The months so far; batches tell them by their place here.
    """

    def __init__(self) -> None:
        self.runs: list[Run] = []
        self._ids: list[Int64s] = []
        self._given: list[int] = []
        self._last: tuple[str, int] | None = None

    def add(self, run: Run) -> None:
        """Take a month.

        Parameters
        ----------
        run
            Of rows behind all that have been given.

        Raises
        ------
        JobeffError
            They are not.
        """
        ids = mapped(run.folder, "keys")[:, 0]
        if self._last is not None and (run.cluster, int(ids[0])) <= self._last:
            raise JobeffError(
                f"cannot compute {run.cluster} {run.month}",
                why="accounting was changed meanwhile: it has other months now",
                safe="Nothing was published",
                todo="Run again",
            )
        self.runs.append(run)
        self._ids.append(ids)
        self._given.append(0)

    def settled(self, bounds: Mapping[str, int | None]) -> list[Range]:
        """Give the ranges that no month to come has rows in or before.

        Parameters
        ----------
        bounds
            The least id that is to come, by cluster; None where none is. Of others nothing is given, and they are
            behind these.

        Returns
        -------
        list
            Whole ranges alone: what is left is given with what comes.
        """
        ends = [
            given if run.cluster not in bounds else _before(bounds[run.cluster], ids)
            for run, ids, given in zip(self.runs, self._ids, self._given, strict=True)
        ]
        *whole, _ = _ranges(self._batches(ends), ROWS_PER_TASK[JOBS])
        for number, _, end in itertools.chain.from_iterable(batch.tolist() for one in whole for batch in one):
            self._given[number] = end
            run = self.runs[number]
            self._last = max(self._last or ("", LEAST), (run.cluster, int(self._ids[number][end - 1])))
            if end == run.rows:
                self._ids[number] = NO_IDS  # a file is open for as long as it is mapped
        return whole

    def rest(self) -> list[Range]:
        """Give all that is left; no month comes any more.

        Returns
        -------
        list
            At least one range.
        """
        found = list(_ranges(self._batches([run.rows for run in self.runs]), ROWS_PER_TASK[JOBS]))
        self._ids.clear()
        return found

    def _batches(self, ends: Sequence[int]) -> Iterator[Int64s]:
        """What has not been given before some ends, one per run."""
        for cluster in sorted({run.cluster for run in self.runs}):
            numbers = [
                number
                for number, run in enumerate(self.runs)
                if run.cluster == cluster and self._given[number] < ends[number]
            ]
            if not numbers:
                continue
            begins = [self._given[number] for number in numbers]
            ids = [self._ids[number][begin : ends[number]] for number, begin in zip(numbers, begins, strict=True)]
            cuts = distinct(np.concatenate([one[::ROWS_AT_ONCE] for one in ids]))
            bounds = [
                begin + np.append(np.searchsorted(one, cuts), len(one)) for one, begin in zip(ids, begins, strict=True)
            ]
            for part in range(len(cuts)):
                pieces = [(number, bound[part], bound[part + 1]) for number, bound in zip(numbers, bounds, strict=True)]
                yield np.array([piece for piece in pieces if piece[1] < piece[2]], dtype=np.int64)


def index_ranges(runs: Sequence[Run]) -> Iterator[Range]:
    """Give the ranges of the index, in order of project, day, cluster, job id and start.

    Parameters
    ----------
    runs
        All months that have rows.

    Yields
    ------
    list
        At least one range.
    """
    yield from _ranges(_by_project(runs), ROWS_PER_TASK[PROJECTS])


def _before(bound: int | None, ids: Int64s) -> int:
    """How many ids are less."""
    return len(ids) if bound is None else int(np.searchsorted(ids, bound))


def _ranges(batches: Iterable[Int64s], rows_per_task: int) -> Iterator[Range]:
    """Batches put together, so that each range but the last has two rows or more."""
    found: Range = []
    rows = 0
    for batch in batches:
        if rows >= max(2, min(rows_per_task, 64 * ROWS_AT_ONCE)):
            yield found
            found, rows = [], 0
        found.append(batch)
        rows += int((batch[:, 2] - batch[:, 1]).sum())
    yield found


def _by_project(runs: Sequence[Run]) -> Iterator[Int64s]:
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


def _ranks(names: Sequence[Sequence[str]], codes: Sequence[npt.NDArray[np.generic]]) -> Int64s:
    """Codes of names, each in a list of their own, as codes in the list of all, in order of the names' bytes."""
    every = {name: rank for rank, name in enumerate(sorted({n for some in names for n in some}, key=str.encode))}
    ranks = [np.array([every[name] for name in some], dtype=np.int64) for some in names]
    return np.concatenate([rank[code] for rank, code in zip(ranks, codes, strict=True)])
