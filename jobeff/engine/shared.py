"""Jobs on several nodes: what some nodes know of each, in a form that can be merged in any order and any grouping.

It takes memory as the job is long, not as it is wide: cores are added up by sampling time, and of memory used it is
counted how often each value was met, which keeps percentile and median exact. What many jobs need more room for than
there shall be is kept on disk in order of jobs, and merged a range of jobs at a time.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from jobeff.engine import merge_kernels
from jobeff.engine.jobs import Jobs
from jobeff.engine.partials import OF_SLOTS, Parts, Rows, seen
from jobeff.order import distinct
from jobeff.store.scratch import WORTH_IT, opened

PART_COLUMNS, SLOT_COLUMNS, USED_COLUMNS = 13, 3, 2
AT_ONCE = 1 << 20
"""So many rows of `Shared.slots` and `Shared.used` are merged at once, unless one job has more: 20 MB."""

Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Shared:
    """Parts of jobs.

    Attributes
    ----------
    parts
        Shape (parts, 13): index of the job; place in its node list of the node with the largest peak/limit; nodes with
        a valid row; most valid rows on one node; valid rows that count for the coverage; sum (hundredths of percent)
        and number of core values; peak and limit of that node, swap (hundredths of GiB); invalid rows; where the
        part's rows of the next two end, which begin where the part before ends.
    slots
        Shape (slots, 3): sampling time, cores busy and lightly busy then, on all these nodes.
    used
        Shape (values, 2): GB_USED in hundredths of GiB, and in how many valid rows it was met.
    """

    parts: Int64s
    slots: Int64s
    used: Int64s

    @property
    def job(self) -> Int64s:
        """Shape (parts,): index of the job."""
        return self.parts[:, merge_kernels.JOB]

    @property
    def size(self) -> int:
        """Rows of the other two, see `AT_ONCE`."""
        return len(self.slots) + len(self.used)

    def span(self, first: int, last: int) -> Shared:
        """Some of the parts.

        Parameters
        ----------
        first, last
            The first, and the one behind the last.

        Returns
        -------
        Shared
            A copy.
        """
        begin = self.parts[first - 1, merge_kernels.SLOT_END :].tolist() if first else [0, 0]
        end = self.parts[last - 1, merge_kernels.SLOT_END :].tolist() if last else [0, 0]
        parts = np.array(self.parts[first:last])
        parts[:, merge_kernels.SLOT_END :] -= begin
        return Shared(parts, np.array(self.slots[begin[0] : end[0]]), np.array(self.used[begin[1] : end[1]]))


def size_of(parts: Parts) -> int:
    """How many rows of slots and used there are.

    Parameters
    ----------
    parts
        Of any nodes.

    Returns
    -------
    int
        See `AT_ONCE`.
    """
    return len(parts.slots) + len(parts.used)


def of_nodes(parts: Sequence[Parts], interval: int, jobs: Jobs) -> Shared:
    """What some nodes know, one part per job.

    Parameters
    ----------
    parts
        Of at least one node, of jobs on several.
    interval
        Seconds between samples.
    jobs
        All jobs that a part may be of.

    Returns
    -------
    Shared
        In order of jobs.
    """

    def column(name: str) -> Int64s:
        return np.concatenate([getattr(one, name) for one in parts])

    job, counts = column("job"), column("counts")
    expected = np.maximum(1, (jobs.end[job] - jobs.start[job]) // interval)
    ends = [np.cumsum(column(f"{name}_end") - column(f"{name}_begin")) for name in ("slot", "used")]
    columns = [
        job, column("rank"), counts > 0, counts, np.minimum(counts, expected),
        *map(column, ("core_sum", "core_values", "peak", "limit", "swap", "rejected")), *ends,
    ]  # fmt: skip
    slots = np.empty((int(ends[0][-1]), SLOT_COLUMNS), dtype=np.int64)
    for i, name in enumerate(OF_SLOTS):
        np.concatenate([getattr(one, name) for one in parts], out=slots[:, i])
    used = np.ones((int(ends[1][-1]), USED_COLUMNS), dtype=np.int64)
    np.concatenate([one.used for one in parts], out=used[:, 0])
    return _one_per_job(Shared(np.stack(columns, axis=1, dtype=np.int64), slots, used))


def merged(some: Sequence[Shared]) -> Shared:
    """Merge parts.

    Parameters
    ----------
    some
        At least one.

    Returns
    -------
    Shared
        One part per job, in order of jobs.
    """
    parts = np.concatenate([one.parts for one in some])
    before, at = np.zeros(2, dtype=np.int64), 0
    for one in some:
        parts[at : at + len(one.parts), merge_kernels.SLOT_END :] += before
        before += (len(one.slots), len(one.used))
        at += len(one.parts)
    slots, used = (np.concatenate([getattr(one, name) for one in some]) for name in ("slots", "used"))
    return _one_per_job(Shared(parts, slots, used))


def _one_per_job(shared: Shared) -> Shared:
    order = np.argsort(shared.job, kind="stable")
    _, begin = np.unique(shared.job[order], return_index=True)
    parts = np.zeros((len(begin), PART_COLUMNS), dtype=np.int64)
    slots, used = np.empty_like(shared.slots), np.empty_like(shared.used)
    begin = np.append(begin, len(order))
    ends = merge_kernels.merge_parts(begin, order, shared.parts, shared.slots, shared.used, parts, slots, used)
    return Shared(parts, slots[: ends[0]], used[: ends[1]])


def rows_of(shared: Shared, interval: int, jobs: Jobs) -> Rows:
    """Rows of jobs.

    Parameters
    ----------
    shared
        From `merged`: all that is known of these jobs.
    interval
        Seconds between samples.
    jobs
        All jobs that a part may be of.

    Returns
    -------
    Rows
        One row per job that has samples.
    """
    numbers = np.zeros((len(shared.parts), 4), dtype=np.int64)
    floats = np.zeros((len(shared.parts), 7), dtype=np.float64)
    merge_kernels.rows_of_merged(
        interval, shared.parts, shared.slots, shared.used, jobs.start, jobs.end, jobs.cores, jobs.booked,
        numbers, floats,
    )  # fmt: skip
    return seen(shared.job, numbers, floats)


def write(path: Path, ranges: Iterable[Shared]) -> None:
    """Write parts down, a range of jobs after the other.

    Parameters
    ----------
    path
        What their three files are called like.
    ranges
        Each of jobs behind those of the one before, one part per job.
    """
    before = np.zeros(2, dtype=np.int64)
    with contextlib.ExitStack() as stack:
        files = []
        for one in files_of(path):
            files.append(stack.enter_context(opened(one, WORTH_IT)))
        for shared in ranges:
            parts = shared.parts.copy()
            parts[:, merge_kernels.SLOT_END :] += before
            before += (len(shared.slots), len(shared.used))
            for file, array in zip(files, (parts, shared.slots, shared.used), strict=True):
                file.write(array.reshape(-1).view(np.uint8).data)


def by_range(paths: Sequence[Path]) -> Iterator[Shared]:
    """Merge parts that have been written down.

    Parameters
    ----------
    paths
        Given to `write`.

    Yields
    ------
    Shared
        All that is known of some jobs, one part each; those of the next are behind.
    """
    files = [_mapped(path) for path in paths]
    jobs = 1 + max((int(one.job[-1]) for one in files if len(one.job)), default=-1)
    size = np.zeros(jobs)
    for one in files:
        rows = np.diff(one.parts[:, merge_kernels.SLOT_END :].sum(axis=1), prepend=0)
        size += np.bincount(one.job, rows, jobs)
    ends = np.cumsum(size)  # of whole numbers, so they are exact
    whole = np.arange(AT_ONCE, ends[-1] + 1, AT_ONCE) if jobs else ends
    cuts = [0, *distinct(np.searchsorted(ends, whole)).tolist(), jobs]
    bounds = [np.searchsorted(one.job, cuts).tolist() for one in files]
    for part in range(len(cuts) - 1):
        spans = [(one, bound[part], bound[part + 1]) for one, bound in zip(files, bounds, strict=True)]
        some = [one.span(first, last) for one, first, last in spans if first < last]
        if some:
            yield merged(some)


def files_of(path: Path) -> list[Path]:
    """The files that `write` makes.

    Parameters
    ----------
    path
        Given to it.

    Returns
    -------
    list of Path
        Beside it.
    """
    return [path.with_name(f"{path.name}.{name}") for name in ("parts", "slots", "used")]


def _mapped(path: Path) -> Shared:
    columns = (PART_COLUMNS, SLOT_COLUMNS, USED_COLUMNS)
    arrays = [
        np.asarray(np.memmap(one, dtype=np.int64, mode="c") if one.stat().st_size else np.empty(0, dtype=np.int64))
        for one in files_of(path)
    ]
    return Shared(*(array.reshape(-1, width) for array, width in zip(arrays, columns, strict=True)))
