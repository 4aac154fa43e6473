"""Numba kernels: what several nodes know of a job to its row."""

from __future__ import annotations

import numpy as np

from jobeff.engine.block_kernels import largest, ones
from jobeff.engine.file_kernels import stable_order
from jobeff.engine.node_kernels import fill_floats
from jobeff.engine.quantile_kernels import counted_quantile, quantile
from jobeff.jit import allocating_kernel, kernel

# Columns of `jobeff.engine.shared.Shared.parts`.
JOB, RANK, NODES, COUNTS, COVERED, CORE_SUM, CORE_VALUES, PEAK, LIMIT, SWAP, REJECTED, SLOT_END, USED_END = range(13)
WORD, SPARSEST = 64, 64  # bits; so many keys that may be, for each that is there, are looked through by their bits


@kernel
def rows_of_parts(
    interval: int,
    jobs: np.ndarray,
    order: np.ndarray,
    counts: np.ndarray,
    core_sum: np.ndarray,
    core_values: np.ndarray,
    peak: np.ndarray,
    limit: np.ndarray,
    swap: np.ndarray,
    rejected: np.ndarray,
    slot_begin: np.ndarray,
    slot_end: np.ndarray,
    used_begin: np.ndarray,
    used_end: np.ndarray,
    slot_busy: np.ndarray,
    slot_light: np.ndarray,
    used_values: np.ndarray,
    starts: np.ndarray,
    stops: np.ndarray,
    booked_cores: np.ndarray,
    numbers: np.ndarray,
    floats: np.ndarray,
) -> None:
    """Rows of jobs on one node, each of its one part.

    Parameters
    ----------
    interval
        Seconds between samples.
    jobs
        Shape (jobs,): index of each job in `starts`, `stops` and `booked_cores`.
    order
        Shape (jobs,): the part of each.
    counts, core_sum, core_values, peak, limit, swap, rejected
        One element per part, see `node_partials`.
    slot_begin, slot_end, used_begin, used_end
        Each part's part of the next three.
    slot_busy, slot_light, used_values
        See `node_partials`.
    starts, stops, booked_cores
        Epochs and cores booked.
    numbers
        Output, shape (jobs, 4), int64: counts, nodes seen, rejected, most cores used.
    floats
        Output, shape (jobs, 7): cpu_mean, percentile, mem_peak, mem_median, mem_limit (NaN: unknown), coverage,
        swap_peak. Rows of jobs without a valid row mean nothing; their ``counts`` is 0.
    """
    for row in range(len(jobs)):
        job, part = jobs[row], order[row]
        found = counts[part]
        numbers[row, 0], numbers[row, 2] = found, rejected[part]
        if found == 0:
            continue
        # A node's sampling times are in order, and each stands there once.
        numbers[row, 1], numbers[row, 3] = 1, largest(slot_light, slot_begin[part], slot_end[part])
        fill_floats(
            floats, row, core_sum[part], max(core_values[part], found * booked_cores[job]),
            quantile(slot_busy, slot_begin[part], slot_end[part], 3), peak[part],
            quantile(used_values, used_begin[part], used_end[part], 2), limit[part],
            found, max(1, (stops[job] - starts[job]) // interval), swap[part],
        )  # fmt: skip


@allocating_kernel
def add_up(table: np.ndarray, spans: np.ndarray, out: np.ndarray, at: int) -> int:
    """Bring the rows of a table that have the same key together, in order of their keys.

    Parameters
    ----------
    table
        Shape (rows, columns), int64: a key, and what is added up.
    spans
        Shape (spans, 2): which rows.
    out, at
        Takes one row per key, from row `at` on; the table may be the same one.

    Returns
    -------
    int
        Where the rows end that `out` has been given.
    """
    width, total, low, high = table.shape[1], 0, np.int64(0), np.int64(0)
    for s in range(len(spans)):
        for k in range(spans[s, 0], spans[s, 1]):
            key = table[k, 0]
            low, high = (min(low, key), max(high, key)) if total else (key, key)
            total += 1
    if total == 0:
        return at
    if high - low < SPARSEST * (total + SPARSEST):
        # A bit tells whether there is a sum yet, so that neither all have to be made zero before, nor looked at after.
        sums = np.empty((high - low + 1, width), dtype=np.int64)
        there = np.zeros((high - low) // WORD + 1, dtype=np.uint64)
        for s in range(len(spans)):
            for k in range(spans[s, 0], spans[s, 1]):
                place = np.uint64(table[k, 0] - low)
                word, bit = place >> np.uint64(6), place & np.uint64(63)
                is_there = np.int64((there[word] >> bit) & np.uint64(1))
                there[word] |= np.uint64(1) << bit
                for column in range(1, width):
                    sums[place, column] = sums[place, column] * is_there + table[k, column]
        for word in range(len(there)):
            left = there[word]
            while left != np.uint64(0):
                place = word * WORD + ones((left - np.uint64(1)) & ~left)  # the lowest bit
                left &= left - np.uint64(1)
                out[at, 0] = low + place
                for column in range(1, width):
                    out[at, column] = sums[place, column]
                at += 1
        return at
    rows, i = np.empty((total, width), dtype=np.int64), 0
    for s in range(len(spans)):
        for k in range(spans[s, 0], spans[s, 1]):
            rows[i] = table[k]
            i += 1
    order = stable_order(rows[:, 0])
    for i in range(total):
        row = order[i]
        if i > 0 and rows[row, 0] == rows[order[i - 1], 0]:
            for column in range(1, width):
                out[at - 1, column] += rows[row, column]
        else:
            out[at] = rows[row]
            at += 1
    return at


@kernel
def ranks_before(peak: int, limit: int, other_peak: int, other_limit: int) -> bool:
    """Whether a node ranks before another by peak/limit; an unknown limit (0) ranks last, by the peak alone."""
    if limit > 0 and other_limit > 0:
        return np.int64(peak) * np.int64(other_limit) > np.int64(other_peak) * np.int64(limit)
    if limit > 0 or other_limit > 0:
        return limit > 0
    return peak > other_peak


@allocating_kernel
def merge_parts(
    begin: np.ndarray,
    order: np.ndarray,
    parts: np.ndarray,
    slots: np.ndarray,
    used: np.ndarray,
    merged: np.ndarray,
    merged_slots: np.ndarray,
    merged_used: np.ndarray,
) -> tuple[int, int]:
    """Merge all parts of each job into one; exact, commutative and associative.

    Parameters
    ----------
    begin, order
        The parts of job j are ``order[begin[j]:begin[j + 1]]``, in any order.
    parts, slots, used
        Of `jobeff.engine.shared.Shared`; within a part, rows of `used` may be in any order and more than one of a kind.
    merged, merged_slots, merged_used
        Output, as many columns: one part per job, zeros at first, and room for all rows.

    Returns
    -------
    tuple of int
        How many rows `merged_slots` and `merged_used` have been given.
    """
    s, u = 0, 0
    for job in range(len(begin) - 1):
        count = begin[job + 1] - begin[job]
        at_slots, at_used = np.zeros((count, 2), dtype=np.int64), np.zeros((count, 2), dtype=np.int64)
        best = -1
        for i in range(count):
            part = order[begin[job] + i]
            if part > 0:
                at_slots[i, 0], at_used[i, 0] = parts[part - 1, SLOT_END], parts[part - 1, USED_END]
            at_slots[i, 1], at_used[i, 1] = parts[part, SLOT_END], parts[part, USED_END]
            merged[job, JOB] = parts[part, JOB]
            merged[job, COUNTS] = max(merged[job, COUNTS], parts[part, COUNTS])
            merged[job, SWAP] = max(merged[job, SWAP], parts[part, SWAP])
            merged[job, NODES] += parts[part, NODES]
            merged[job, COVERED] += parts[part, COVERED]
            merged[job, CORE_SUM] += parts[part, CORE_SUM]
            merged[job, CORE_VALUES] += parts[part, CORE_VALUES]
            merged[job, REJECTED] += parts[part, REJECTED]
            if parts[part, NODES] and (best < 0 or ranks_first(parts, part, best)):
                best = part
        if best >= 0:
            merged[job, RANK], merged[job, PEAK], merged[job, LIMIT] = (
                parts[best, RANK],
                parts[best, PEAK],
                parts[best, LIMIT],
            )
        s = add_up(slots, at_slots, merged_slots, s)
        u = add_up(used, at_used, merged_used, u)
        merged[job, SLOT_END], merged[job, USED_END] = s, u
    return s, u


@kernel
def ranks_first(parts: np.ndarray, one: int, other: int) -> bool:
    """Whether the node of one part ranks before that of another; of two alike, the first of the node list."""
    if ranks_before(parts[one, PEAK], parts[one, LIMIT], parts[other, PEAK], parts[other, LIMIT]):
        return True
    if ranks_before(parts[other, PEAK], parts[other, LIMIT], parts[one, PEAK], parts[one, LIMIT]):
        return False
    return parts[one, RANK] < parts[other, RANK]


@allocating_kernel
def rows_of_merged(
    interval: int,
    parts: np.ndarray,
    slots: np.ndarray,
    used: np.ndarray,
    starts: np.ndarray,
    stops: np.ndarray,
    booked_cores: np.ndarray,
    booked_nodes: np.ndarray,
    numbers: np.ndarray,
    floats: np.ndarray,
) -> None:
    """Rows of jobs on several nodes, whose parts have been merged.

    Parameters
    ----------
    interval
        Seconds between samples.
    parts, slots, used
        From `merge_parts`.
    starts, stops, booked_cores, booked_nodes, numbers, floats
        As for `rows_of_parts`.
    """
    for row in range(len(parts)):
        job, counts = parts[row, JOB], parts[row, COUNTS]
        numbers[row, 0], numbers[row, 1], numbers[row, 2] = counts, parts[row, NODES], parts[row, REJECTED]
        if counts == 0:
            continue
        s, u = (parts[row - 1, SLOT_END], parts[row - 1, USED_END]) if row else (0, 0)
        times = slots[s : parts[row, SLOT_END]]
        totals, light = np.empty(len(times), dtype=np.int64), np.int64(0)
        for k in range(len(times)):
            totals[k] = times[k, 1]
            light = max(light, times[k, 2])
        numbers[row, 3] = light
        expected = max(1, (stops[job] - starts[job]) // interval)
        limit = parts[row, LIMIT]
        floats[row, 0] = parts[row, CORE_SUM] / (100.0 * max(parts[row, CORE_VALUES], counts * booked_cores[job]))
        floats[row, 1] = quantile(totals, 0, len(totals), 3)
        floats[row, 2] = parts[row, PEAK] / 100.0
        floats[row, 3] = counted_quantile(used[u : parts[row, USED_END]], 2) / 100.0
        floats[row, 4] = limit / 100.0 if limit > 0 else np.nan
        floats[row, 5] = parts[row, COVERED] / (expected * booked_nodes[job])
        floats[row, 6] = parts[row, SWAP] / 100.0
