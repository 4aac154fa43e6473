"""Numba kernels: samples of a node to rows of jobs on it alone, as nearly all are; `part_kernels` is for the others."""

from __future__ import annotations

import numpy as np

from jobeff.engine.block_kernels import BLOCK, is_regular, largest, mark_above, marked, ones_above, sum_of_cores
from jobeff.engine.part_kernels import slot_of
from jobeff.engine.quantile_kernels import quantile_of_ones, quantile_up_to
from jobeff.jit import allocating_kernel, kernel


@kernel
def fill_floats(
    floats: np.ndarray,
    row: int,
    core_sum: int,
    core_values: int,
    percentile: float,
    peak: int,
    median: float,
    limit: int,
    counts: int,
    expected: int,
    swap: int,
) -> None:
    """What a job on one node has of `jobeff.engine.partials.Rows.floats`."""
    floats[row, 0] = core_sum / (100.0 * core_values)
    floats[row, 1] = percentile
    floats[row, 2] = peak / 100.0
    floats[row, 3] = median / 100.0
    floats[row, 4] = limit / 100.0 if limit > 0 else np.nan
    floats[row, 5] = min(counts, expected) / expected
    floats[row, 6] = swap / 100.0


@kernel
def busy_rows(
    interval: int,
    busy: int,
    lightly_busy: int,
    time: np.ndarray,
    begin: int,
    end: int,
    cores: np.ndarray,
    core: int,
    width: int,
    marks: np.ndarray,
    light_marks: np.ndarray,
    high: np.ndarray,
) -> tuple[int, int]:
    """How many cores were busy at each sampling time of one raw file.

    Parameters
    ----------
    interval, busy, lightly_busy
        See `node_partials`.
    time, begin, end
        Rows, in order.
    cores, core, width
        Their cores, from `core` on.
    marks, light_marks
        Room for a bit each core, and for a word more.
    high
        Output: busy cores, a sampling time each; of two rows of the same one the last counts.

    Returns
    -------
    tuple of int
        How many sampling times there were, and the most cores used at any of them.
    """
    few = width <= BLOCK
    if few:
        end_core = core + (end - begin) * width
        mark_above(cores, core, end_core, busy, marks)
        mark_above(cores, core, end_core, lightly_busy, light_marks)
    at, most, found = np.int64(0), np.int64(0), np.uint64(0)
    regular = is_regular(time, begin, end, interval)
    if few and regular:
        for row in range(np.uint64(end - begin)):
            high[row] = marked(marks, at, width)
            most = max(most, marked(light_marks, at, width))
            at += width
        return end - begin, most
    pending = np.int64(0)
    first, middle = time[begin], np.int64(0)  # of a sampling time that is so many seconds behind the first row
    for row in range(np.uint64(end - begin)):
        if few:
            many, light = marked(marks, at, width), marked(light_marks, at, width)
        else:
            many = ones_above(cores, core + at, core + at + width, busy)
            light = ones_above(cores, core + at, core + at + width, lightly_busy)
        at += width
        same = False
        if not regular and row > np.uint64(0):
            # Divisions are slow, and nearly each row is at the next sampling time.
            after = time[np.uint64(begin) + row] - first
            if 2 * abs(after - middle - interval) < interval:
                middle += interval
            else:
                now = slot_of(after, np.int64(0), np.int64(0), interval) * interval
                same, middle = now == middle, now
        if same:
            found -= np.uint64(1)
        else:
            most = max(most, pending)
        high[found], pending = many, light
        found += np.uint64(1)
    return np.int64(found), max(most, pending)


@allocating_kernel
def node_rows(
    interval: int,
    busy: int,
    lightly_busy: int,
    file_job: np.ndarray,
    row_begin: np.ndarray,
    max_begin: np.ndarray,
    core_begin: np.ndarray,
    widths: np.ndarray,
    file_rejected: np.ndarray,
    time: np.ndarray,
    limit: np.ndarray,
    used: np.ndarray,
    max_used: np.ndarray,
    swap: np.ndarray,
    cores: np.ndarray,
    attempts: np.ndarray,
    ranks: np.ndarray,
    wanted: int,
    jobs: np.ndarray,
    rows: np.ndarray,
    numbers: np.ndarray,
    floats: np.ndarray,
    count: int,
    left: np.ndarray,
) -> tuple[int, int, int, int]:
    """Rows of jobs on one node that have left one raw file there, as nearly all have; the others are left.

    Parameters
    ----------
    interval, busy, lightly_busy, file_job, row_begin, max_begin, core_begin, widths, file_rejected, time, limit, \
    used, max_used, swap, cores
        See `node_partials`.
    attempts, ranks
        Indexes of the jobs on this node, in order of (job id, start); place of the node in the node list of each.
    wanted
        Jobs with a lower index have to have a row.
    jobs
        See `jobeff.engine.jobs.Jobs.integers`.
    rows, numbers, floats, count
        Output, see `jobeff.engine.partials.Rows`; how many rows there are already.
    left
        Output, shape (5, attempts): attempt, rank, job id, start and end of those that have to be reduced to a part.

    Returns
    -------
    tuple of int
        How many rows there are then; how many attempts are left, how many samples they have, and how many of them are
        to have a row and were on several nodes.
    """
    job_id, starts, stops, booked_cores, booked_nodes = jobs[0], jobs[1], jobs[2], jobs[3], jobs[4]
    high = np.empty(BLOCK, dtype=np.int32)
    marks, light_marks = np.empty(2, dtype=np.uint32), np.empty(2, dtype=np.uint32)
    # The jobs of a node are far from each other. Fetched all at once they are waited for together, not one by one.
    ids, spans, booked, nodes = (
        np.empty(len(attempts), np.int64),
        np.empty((len(attempts), 2), np.int64),
        np.empty(len(attempts), np.int64),
        np.empty(len(attempts), np.int64),
    )
    for i in range(len(attempts)):
        ids[i] = job_id[attempts[i]]
    for i in range(len(attempts)):
        spans[i, 0], spans[i, 1] = starts[attempts[i]], stops[attempts[i]]
    for i in range(len(attempts)):
        booked[i] = booked_cores[attempts[i]]
        nodes[i] = booked_nodes[attempts[i]] if attempts[i] < wanted else 0
    left_count, left_shared, left_samples = 0, 0, 0
    file, attempt = 0, 0
    while attempt < len(attempts):
        current, number, last_attempt = attempt, ids[attempt], attempt + 1
        while last_attempt < len(attempts) and ids[last_attempt] == number:
            last_attempt += 1
        while file < len(file_job) and file_job[file] < number:
            file += 1
        last = file
        while last < len(file_job) and file_job[last] == number:
            last += 1
        alone = last_attempt - attempt == 1 and last - file < 2 and nodes[attempt] == 1
        if not alone:
            for i in range(attempt, last_attempt):
                left[0, left_count], left[1, left_count], left[2, left_count] = attempts[i], ranks[i], number
                left[3, left_count], left[4, left_count] = spans[i, 0], spans[i, 1]
                left_count += 1
                left_shared += nodes[i] > 1
            left_samples += row_begin[last] - row_begin[file]
        attempt = last_attempt
        if not alone or last == file:
            continue
        start, stop, width = spans[current, 0], spans[current, 1], np.int64(widths[file])
        begin, end = row_begin[file], row_begin[file + 1]
        while begin < end and time[begin] < start - interval:
            begin += 1
        while begin < end and time[end - 1] - interval > stop:
            end -= 1
        if begin == end:
            continue
        found, skipped = end - begin, begin - row_begin[file]
        core = core_begin[file] + skipped * width
        if len(high) < found + BLOCK:
            high = np.empty(2 * found + BLOCK, dtype=np.int32)
        if len(marks) < found * width // BLOCK + 2:
            marks = np.empty(2 * found * width // BLOCK + 2, dtype=np.uint32)
            light_marks = np.empty(len(marks), dtype=np.uint32)
        total = sum_of_cores(cores, core, core + found * width)
        if width == 1 and is_regular(time, begin, end, interval):
            percentile = quantile_of_ones(found, ones_above(cores, core, core + found, busy), np.int64(3))
            most = np.int64(ones_above(cores, core, core + found, lightly_busy) > 0)
        else:
            slots, most = busy_rows(
                interval, busy, lightly_busy, time, begin, end, cores, core, width, marks, light_marks, high
            )
            percentile = quantile_up_to(high, np.int64(0), slots, largest(high, np.int64(0), slots), np.int64(3))
        peak = largest(used, begin, end)
        median = quantile_up_to(used, begin, end, peak, np.int64(2))
        if max_begin[file + 1] > max_begin[file]:
            at = max_begin[file] + skipped
            peak = max(peak, largest(max_used, at, at + found))
        rows[count] = attempts[current]
        numbers[count, 0], numbers[count, 1], numbers[count, 2], numbers[count, 3] = found, 1, file_rejected[file], most
        fill_floats(
            floats, count, total, found * max(width, booked[current]), percentile, peak, median,
            largest(limit, begin, end), found, max(1, (stop - start) // interval), largest(swap, begin, end),
        )  # fmt: skip
        count += 1
    return count, left_count, left_samples, left_shared
