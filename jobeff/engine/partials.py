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
Int32s = npt.NDArray[np.int32]
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


class Left(NamedTuple):
    """Attempts on a node that have to be reduced to parts.

    Attributes
    ----------
    attempts
        Shape (5, room), in order of (job id, start): index of the job, place of this node in its node list, id, epochs
        of start and end.
    length
        How many there are.
    samples
        How many samples they have.
    shared
        How many of them are wanted and were on several nodes.
    """

    attempts: Int64s
    length: int
    samples: int
    shared: int

    @property
    def job(self) -> Int64s:
        """Shape (length,): index of the job."""
        return self.attempts[0, : self.length]


class PartsRoom:
    """Takes parts of one node after the other, in memory that grows, and is taken again once it has been cleared.

    Attributes
    ----------
    count
        How many parts there are.
    """

    def __init__(self) -> None:
        self.count, self._slots, self._used = 0, 0, 0
        # Before the first part one that is all zeros: each begins where the one before it ends.
        self._numbers = np.zeros((part_kernels.NUMBERS, 1), dtype=np.int64)
        self._at = np.empty(0, dtype=np.int64)
        self._busy, self._light, self._values = (np.empty(0, dtype=np.int32) for _ in range(3))

    @property
    def size(self) -> int:
        """Sampling times and values of GB_USED that there are."""
        return self._slots + self._used

    def clear(self) -> None:
        """Forget all; what `parts` gave means nothing any more."""
        self.count, self._slots, self._used = 0, 0, 0

    def add(self, samples: Samples, interval: int, left: Left) -> None:
        """Reduce the samples of one node, to one part per attempt.

        Parameters
        ----------
        samples
            The node's raw files of a month, in order of job id.
        interval
            Seconds between samples.
        left
            All attempts of an id on this node must be there, since each row belongs to the nearest.
        """
        first = self.count + 1
        if first + left.length > self._numbers.shape[1] or max(self._slots, self._used) + left.samples > len(self._at):
            self._grow(first + left.length, max(self._slots, self._used) + left.samples)
        self.count += left.length
        self._slots, self._used = part_kernels.node_partials(
            interval, BUSY, LIGHTLY_BUSY,
            samples.job_id, samples.row_begin, samples.max_begin, samples.core_begin, samples.cores, samples.rejected,
            samples.time, samples.limit, samples.used, samples.max_used, samples.swap, samples.core,
            left.attempts, left.length, first, self._numbers, self._at, self._busy, self._light, self._values,
        )  # fmt: skip

    def _grow(self, parts: int, rows: int) -> None:
        """Take memory for so many, and move there what there is."""
        numbers = np.zeros((part_kernels.NUMBERS, parts + parts // 2), dtype=np.int64)
        numbers[:, : self.count + 1] = self._numbers[:, : self.count + 1]
        self._numbers = numbers
        for name, count in (
            ("_at", self._slots),
            ("_busy", self._slots),
            ("_light", self._slots),
            ("_values", self._used),
        ):
            old = getattr(self, name)
            new = np.empty(rows + rows // 2, dtype=old.dtype)
            new[:count] = old[:count]
            setattr(self, name, new)

    def parts(self) -> Parts:
        """Give what there is.

        Returns
        -------
        Parts
            Views, good until more is added.
        """
        numbers = self._numbers[:, : self.count + 1]
        slot_at, used_at = numbers[-2:]
        return Parts(
            **dict(zip(PER_PART, numbers[:-2, 1:], strict=True)),
            slot_begin=slot_at[:-1],
            slot_end=slot_at[1:],
            used_begin=used_at[:-1],
            used_end=used_at[1:],
            slots=self._at[: self._slots],
            slot_busy=self._busy[: self._slots],
            slot_light=self._light[: self._slots],
            used=self._values[: self._used],
        )


def node_parts(samples: Samples, interval: int, left: Left) -> Parts:
    """Reduce the samples of one node alone.

    Parameters
    ----------
    samples, interval, left
        See `PartsRoom.add`.

    Returns
    -------
    Parts
        One part per attempt, in the same order.
    """
    room = PartsRoom()
    room.add(samples, interval, left)
    return room.parts()


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


def node_rows(
    samples: Samples, interval: int, jobs: Jobs, attempts: Int32s, ranks: Int32s, rows: Rows, count: int
) -> tuple[int, Left]:
    """Rows of jobs that were on one node alone and have left one raw file there.

    Parameters
    ----------
    samples, interval
        See `PartsRoom.add`.
    jobs
        Of the month.
    attempts, ranks
        All on this node, in order of (job id, start): indexes of jobs, and place of this node in their node lists.
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
    count, *about = node_kernels.node_rows(
        interval, BUSY, LIGHTLY_BUSY,
        samples.job_id, samples.row_begin, samples.max_begin, samples.core_begin, samples.cores, samples.rejected,
        samples.time, samples.limit, samples.used, samples.max_used, samples.swap, samples.core,
        attempts, ranks, jobs.wanted, jobs.integers, rows.job, rows.numbers, rows.floats, count, left,
    )  # fmt: skip
    return count, Left(left, *about)


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
