"""Numba kernels: samples of a node to what it knows of each of its jobs, whatever the files and attempts."""

from __future__ import annotations

import numpy as np

from jobeff.engine.file_kernels import first_of_each
from jobeff.jit import allocating_kernel, kernel
from jobeff.names import INT64_MAX

NUMBERS = 11
"""Of a part, see `node_partials`."""


@kernel
def slot_of(time: int, first: int, start: int, interval: int) -> int:
    """Sampling time of a row: whole intervals since the node's first row, moved by its distance from the start."""
    whole, rest = (time - first) // interval, (time - first) % interval
    if 2 * rest > interval or (2 * rest == interval and whole % 2 == 1):  # half to even
        whole += 1
    return whole + max(0, first - start) // interval


@kernel
def attempt_of(time: int, begin: int, end: int, starts: np.ndarray, stops: np.ndarray) -> int:
    """Which of the attempts ``begin:end``, in order of start, a row belongs to: the first nearest one."""
    best = begin
    nearest = INT64_MAX
    for attempt in range(begin, end):
        distance = max(0, starts[attempt] - time, time - stops[attempt])
        if distance < nearest:
            nearest = distance
            best = attempt
    return best


@allocating_kernel
def rows_by_time(file: int, last: int, row_begin: np.ndarray, time: np.ndarray, rows: np.ndarray) -> int:
    """Fill `rows` with the rows of the files ``file:last`` in order of TIME, each TIME once; returns how many."""
    count = row_begin[last] - row_begin[file]
    if last - file == 1:
        for i in range(count):
            rows[i] = row_begin[file] + i
        return count
    kept = first_of_each(time, row_begin[file], row_begin[last], rows)
    for i in range(kept):
        rows[i] += row_begin[file]
    return kept


@kernel
def one_file(
    interval: int,
    busy: int,
    lightly_busy: int,
    attempt: int,
    file: int,
    row_begin: np.ndarray,
    max_begin: np.ndarray,
    core_begin: np.ndarray,
    widths: np.ndarray,
    time: np.ndarray,
    limit: np.ndarray,
    used: np.ndarray,
    max_used: np.ndarray,
    swap: np.ndarray,
    cores: np.ndarray,
    starts: np.ndarray,
    stops: np.ndarray,
    counts: np.ndarray,
    core_sum: np.ndarray,
    core_values: np.ndarray,
    peak: np.ndarray,
    top_limit: np.ndarray,
    swap_peak: np.ndarray,
    slots: np.ndarray,
    slot_busy: np.ndarray,
    slot_light: np.ndarray,
    used_values: np.ndarray,
    slot: int,
    value: int,
) -> tuple[int, int]:
    """What `node_partials` does for an attempt with one raw file to itself; returns where its slots and values end."""
    start, stop, width = starts[attempt], stops[attempt], np.int64(widths[file])
    begin, with_max = row_begin[file], max_begin[file + 1] > max_begin[file]
    first, before, when, halfway = np.int64(-1), np.int64(-1), np.int64(0), False
    slots_begin, values_begin = slot, value
    total, top, most, swapped = np.int64(0), np.int64(0), np.int64(0), np.int64(0)
    for row in range(begin, row_begin[file + 1]):
        at = time[row]
        if at < start - interval or at - interval > stop:
            continue
        if first < 0:
            first = at
        high, light = 0, 0
        at_core = core_begin[file] + (row - begin) * width
        for c in range(at_core, at_core + width):
            load = np.int64(cores[c])
            total += load
            high += load > busy
            light += load > lightly_busy
        now = np.int64(used[row])
        used_values[value] = now
        value += 1
        top = max(top, now)
        if with_max:
            top = max(top, np.int64(max_used[max_begin[file] + row - begin]))
        most, swapped = max(most, np.int64(limit[row])), max(swapped, np.int64(swap[row]))
        # Divisions are slow; a row one interval behind another is one slot behind it, but for halves.
        if before >= 0 and at == before + interval and not halfway:
            when += 1
        else:
            when = slot_of(at, first, start, interval)
            halfway = 2 * ((at - first) % interval) == interval
        before = at
        if slot == slots_begin or slots[slot - 1] != when:
            slot += 1
        slots[slot - 1], slot_busy[slot - 1], slot_light[slot - 1] = when, high, light
    counts[attempt] = value - values_begin
    core_sum[attempt], core_values[attempt] = total, (value - values_begin) * width
    peak[attempt], top_limit[attempt], swap_peak[attempt] = top, most, swapped
    return slot, value


@allocating_kernel
def node_partials(
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
    left: np.ndarray,
    attempts: int,
    first_part: int,
    numbers: np.ndarray,
    slots: np.ndarray,
    slot_busy: np.ndarray,
    slot_light: np.ndarray,
    used_values: np.ndarray,
) -> tuple[int, int]:
    """Reduce one node's samples to one partial per attempt.

    Parameters
    ----------
    interval
        Seconds between samples.
    busy, lightly_busy
        A core counts above these hundredths of percent, for the percentile and for the peak.
    file_job, row_begin, max_begin, core_begin, widths, file_rejected
        Raw files in order of job id: id, where its rows, its GB_MAX_USED (none in the plain form) and its cores begin
        (one element more than files), cores per row, invalid rows.
    time, limit, used, max_used, swap, cores
        Their samples, as `parse_files` writes them.
    left, attempts
        Attempts on this node and how many they are, see `jobeff.engine.partials.Left`.
    first_part
        Which part the first of them becomes; there is one before it.
    numbers
        Output, shape (`NUMBERS`, parts): index of the job, rank, valid rows, sum and number of core values, peak, limit
        and swap (hundredths of GiB), invalid rows; where the part ends in the next four.
    slots, slot_busy, slot_light
        Output: sampling times and how many cores were busy then.
    used_values
        Output: GB_USED of every valid row.

    Returns
    -------
    tuple of int
        Where slots and values end.
    """
    last_part = first_part + attempts
    for k in range(2):
        numbers[k, first_part:last_part] = left[k, :attempts]
    job, starts, stops = left[2][:attempts], left[3][:attempts], left[4][:attempts]
    for k in range(2, NUMBERS):
        numbers[k, first_part:last_part] = 0
    counts, core_sum = numbers[2][first_part:last_part], numbers[3][first_part:last_part]
    core_values, peak = numbers[4][first_part:last_part], numbers[5][first_part:last_part]
    top_limit, swap_peak = numbers[6][first_part:last_part], numbers[7][first_part:last_part]
    rejected, slot_end = numbers[8][first_part:last_part], numbers[9][first_part:last_part]
    used_end = numbers[10][first_part:last_part]
    slot, value = numbers[9, first_part - 1], numbers[10, first_part - 1]
    rows = np.empty(len(time), dtype=np.int64)
    owner = np.empty(len(time), dtype=np.int64)
    file, attempt = 0, 0
    while attempt < len(job):
        last_attempt = attempt + 1
        while last_attempt < len(job) and job[last_attempt] == job[attempt]:
            last_attempt += 1
        while file < len(file_job) and file_job[file] < job[attempt]:
            file += 1
        last = file
        bad = 0
        while last < len(file_job) and file_job[last] == job[attempt]:
            bad += file_rejected[last]
            last += 1
        if last - file == 1 and last_attempt - attempt == 1:
            # The usual case, one raw file of one attempt: its rows as they stand, sums in registers.
            slot, value = one_file(
                interval, busy, lightly_busy, attempt, file, row_begin, max_begin, core_begin, widths,
                time, limit, used, max_used, swap, cores, starts, stops,
                counts, core_sum, core_values, peak, top_limit, swap_peak,
                slots, slot_busy, slot_light, used_values, slot, value,
            )  # fmt: skip
            rejected[attempt], slot_end[attempt], used_end[attempt] = bad, slot, value
            file = last
            attempt = last_attempt
            continue
        found = rows_by_time(file, last, row_begin, time, rows) if last > file else 0
        several = last_attempt - attempt > 1
        for i in range(found if several else 0):
            owner[i] = attempt_of(time[rows[i]], attempt, last_attempt, starts, stops)
        for current in range(attempt, last_attempt):
            rejected[current] = bad
            first, before, when, halfway = np.int64(-1), np.int64(-1), np.int64(0), False
            slots_begin = slot
            for i in range(found):
                row = rows[i]
                at = time[row]
                if (
                    (several and owner[i] != current)
                    or at < starts[current] - interval
                    or at - interval > stops[current]
                ):
                    continue
                source = file
                while row >= row_begin[source + 1]:
                    source += 1
                if first < 0:
                    first = at
                width = widths[source]
                begin = core_begin[source] + (row - row_begin[source]) * width
                total, high, light = np.int64(0), 0, 0
                for c in range(begin, begin + width):
                    load = cores[c]
                    total += load
                    high += load > busy
                    light += load > lightly_busy
                counts[current] += 1
                core_sum[current] += total
                core_values[current] += width
                now = used[row]
                used_values[value] = now
                value += 1
                top = now
                if max_begin[source + 1] > max_begin[source]:
                    top = max(top, max_used[max_begin[source] + row - row_begin[source]])
                peak[current] = max(peak[current], top)
                top_limit[current] = max(top_limit[current], limit[row])
                swap_peak[current] = max(swap_peak[current], swap[row])
                # Divisions are slow; a row one interval behind another is one slot behind it, but for halves.
                if before >= 0 and at == before + interval and not halfway:
                    when += 1
                else:
                    when = slot_of(at, first, starts[current], interval)
                    halfway = 2 * ((at - first) % interval) == interval
                before = at
                if slot == slots_begin or slots[slot - 1] != when:
                    slot += 1
                slots[slot - 1] = when
                slot_busy[slot - 1] = high
                slot_light[slot - 1] = light
            slot_end[current] = slot
            used_end[current] = value
        file = last
        attempt = last_attempt
    return slot, value
