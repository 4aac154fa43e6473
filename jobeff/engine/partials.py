"""Partials: what one node knows of a job; of a job on this node alone, that is its row.

All of it is integers, so that merging it is exact, commutative and associative; see `jobeff.engine.shared`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from jobeff.engine import merge_kernels, node_kernels, part_kernels
from jobeff.engine.jobs import Jobs
from jobeff.store.shards import Samples

BUSY = 1000
"""A core is busy, for the percentile, above 10.00 percent."""

LIGHTLY_BUSY = 300
"""A core is used, for the most cores used at one time, above 3.00 percent."""

Int64s = npt.NDArray[np.int64]
PER_PART = ("job", "rank", "counts", "core_sum", "core_values", "peak", "limit", "swap", "rejected")
OF_SLOTS = ("slots", "slot_busy", "slot_light")


@dataclass(frozen=True)
class Parts:
    """Partials of many jobs.

    Attributes
    ----------
    job, rank
        Shape (parts,): index of the job and place of the node in its node list.
    counts, core_sum, core_values, peak, limit, swap, rejected
        Shape (parts,): valid rows; sum (hundredths of percent) and number of core values; hundredths of GiB;
        invalid rows.
    slot_begin, slot_end, used_begin, used_end
        Shape (parts,): each part's span of the next four.
    slots, slot_busy, slot_light
        Sampling times, and how many cores were busy and lightly busy then.
    used
        GB_USED of every valid row, hundredths of GiB.
    """

    job: Int64s
    rank: Int64s
    counts: Int64s
    core_sum: Int64s
    core_values: Int64s
    peak: Int64s
    limit: Int64s
    swap: Int64s
    rejected: Int64s
    slot_begin: Int64s
    slot_end: Int64s
    used_begin: Int64s
    used_end: Int64s
    slots: Int64s
    slot_busy: npt.NDArray[np.int32]
    slot_light: npt.NDArray[np.int32]
    used: npt.NDArray[np.int32]

    def where(self, chosen: npt.NDArray[np.bool_]) -> Parts:
        """Some of the parts, with nothing of the others.

        Parameters
        ----------
        chosen
            Shape (parts,).

        Returns
        -------
        Parts
            A copy.
        """
        at_slots, slot_begin, slot_end = _spans(self.slot_begin[chosen], self.slot_end[chosen])
        at_used, used_begin, used_end = _spans(self.used_begin[chosen], self.used_end[chosen])
        return Parts(
            **{name: getattr(self, name)[chosen] for name in PER_PART},
            **{name: getattr(self, name)[at_slots] for name in OF_SLOTS},
            slot_begin=slot_begin,
            slot_end=slot_end,
            used_begin=used_begin,
            used_end=used_end,
            used=self.used[at_used],
        )


def node_parts(
    samples: Samples,
    interval: int,
    job: Int64s,
    rank: Int64s,
    job_id: Int64s,
    start: Int64s,
    end: Int64s,
    rows: int | None = None,
) -> Parts:
    """Reduce the samples of one node.

    Parameters
    ----------
    samples
        The node's raw files of a month, in order of job id.
    interval
        Seconds between samples.
    job, rank, job_id, start, end
        Shape (attempts,), in order of (job_id, start): index, place of this node in the node list, id, epochs. All
        attempts of an id on this node must be there, since each row belongs to the nearest.
    rows
        At most so many of the samples are of these attempts; by default all may be.

    Returns
    -------
    Parts
        One part per attempt, in the same order.
    """
    n, rows = len(job), len(samples.time) if rows is None else rows
    part = {name: np.zeros(n, dtype=np.int64) for name in PER_PART[2:]}
    slot_at, used_at = np.zeros(n + 1, dtype=np.int64), np.zeros(n + 1, dtype=np.int64)  # each ends where one begins
    slots = np.empty(rows, dtype=np.int64)
    slot_busy, slot_light, used = (np.empty(rows, dtype=np.int32) for _ in range(3))
    part_kernels.node_partials(
        interval, BUSY, LIGHTLY_BUSY,
        samples.job_id, samples.row_begin, samples.max_begin, samples.core_begin, samples.cores, samples.rejected,
        samples.time, samples.limit, samples.used, samples.max_used, samples.swap, samples.core,
        job_id, start, end,
        part["counts"], part["core_sum"], part["core_values"], part["peak"], part["limit"], part["swap"],
        part["rejected"], slot_at[1:], used_at[1:], slots, slot_busy, slot_light, used,
    )  # fmt: skip
    n_slots, n_used = int(slot_at[-1]), int(used_at[-1])
    return Parts(
        job=job,
        rank=rank,
        slot_begin=slot_at[:-1],
        slot_end=slot_at[1:],
        used_begin=used_at[:-1],
        used_end=used_at[1:],
        slots=slots[:n_slots],
        slot_busy=slot_busy[:n_slots],
        slot_light=slot_light[:n_slots],
        used=used[:n_used],
        **part,
    )


@dataclass(frozen=True)
class Rows:
    """Results of jobs that have at least one valid row.

    Attributes
    ----------
    job
        Shape (rows,): index of the job.
    numbers
        Shape (rows, 4), int64: counts, nodes seen, rejected, most cores used.
    floats
        Shape (rows, 7): cpu_mean, cpu_cores_used_percentile, mem_peak, mem_median, mem_limit (NaN: unknown), coverage,
        swap_peak.
    """

    job: Int64s
    numbers: Int64s
    floats: npt.NDArray[np.float64]


ROWS = ("job", "numbers", "floats")


def empty_rows(count: int) -> Rows:
    """Memory for rows.

    Parameters
    ----------
    count
        How many.

    Returns
    -------
    Rows
        What is in it means nothing.
    """
    return Rows(np.empty(count, dtype=np.int64), np.empty((count, 4), dtype=np.int64), np.empty((count, 7)))


class Left(NamedTuple):
    """Attempts on a node that have to be reduced to parts.

    Attributes
    ----------
    job, rank, job_id, start, end
        See `node_parts`.
    samples
        How many samples they have.
    shared
        How many of them are wanted and were on several nodes.
    """

    job: Int64s
    rank: Int64s
    job_id: Int64s
    start: Int64s
    end: Int64s
    samples: int
    shared: int


def node_rows(
    samples: Samples, interval: int, jobs: Jobs, attempts: Int64s, ranks: Int64s, rows: Rows, count: int
) -> tuple[int, Left]:
    """Rows of jobs that were on one node alone and have left one raw file there.

    Parameters
    ----------
    samples, interval
        See `node_parts`.
    jobs
        Of the month.
    attempts, ranks
        Those on this node, as for `node_parts`: indexes of jobs, and place of this node in their node lists.
    rows, count
        Takes the rows of those that have samples, behind those that it has already.

    Returns
    -------
    int
        How many rows there are then.
    Left
        Those of the attempts that are left.
    """
    left = np.empty((5, len(attempts)), dtype=np.int64)
    count, left_count, shared, samples_left = node_kernels.node_rows(
        interval, BUSY, LIGHTLY_BUSY,
        samples.job_id, samples.row_begin, samples.max_begin, samples.core_begin, samples.cores, samples.rejected,
        samples.time, samples.limit, samples.used, samples.max_used, samples.swap, samples.core,
        attempts, ranks, jobs.wanted, jobs.job_id, jobs.start, jobs.end, jobs.cores, jobs.booked,
        rows.job, rows.numbers, rows.floats, count, left,
    )  # fmt: skip
    job, rank, job_id, start, end = left[:, :left_count]
    return count, Left(job, rank, job_id, start, end, samples_left, shared)


def rows_alone(parts: Parts, interval: int, jobs: Jobs, alone: npt.NDArray[np.bool_]) -> Rows:
    """Rows of those jobs on one node that have been reduced to parts, which have one part each.

    Parameters
    ----------
    parts
        Of one node.
    interval
        Seconds between samples.
    jobs
        All jobs that a part may be of.
    alone
        Shape (parts,): which parts these are.

    Returns
    -------
    Rows
        One row per job that has samples.
    """
    order = np.flatnonzero(alone)
    job = parts.job[order]
    numbers = np.zeros((len(job), 4), dtype=np.int64)
    floats = np.zeros((len(job), 7), dtype=np.float64)
    merge_kernels.rows_of_parts(
        interval, job, order,
        parts.counts, parts.core_sum, parts.core_values, parts.peak, parts.limit, parts.swap, parts.rejected,
        parts.slot_begin, parts.slot_end, parts.used_begin, parts.used_end,
        parts.slot_busy, parts.slot_light, parts.used,
        jobs.start, jobs.end, jobs.cores, numbers, floats,
    )  # fmt: skip
    return seen(job, numbers, floats)


def seen(job: Int64s, numbers: Int64s, floats: npt.NDArray[np.float64]) -> Rows:
    """Leave out jobs without a valid row.

    Parameters
    ----------
    job, numbers, floats
        See `Rows`.

    Returns
    -------
    Rows
        Those with one.
    """
    found = numbers[:, 0] > 0
    return Rows(job[found], numbers[found], floats[found])


def _spans(begin: Int64s, end: Int64s) -> tuple[Int64s, Int64s, Int64s]:
    """Indexes of all that the spans cover, and where the spans lie once only that is kept."""
    lengths = end - begin
    new_end = np.cumsum(lengths)
    new_begin = new_end - lengths
    at = np.repeat(begin - new_begin, lengths) + np.arange(int(lengths.sum()))
    return at, new_begin, new_end
