"""Numba kernels: raw files to samples; rows that no guess fits are read one by one."""

from __future__ import annotations

import numpy as np

from jobeff.engine.guess_kernels import (
    EXTENDED_BYTES,
    PLAIN_BYTES,
    fixed_layout,
    fixed_rows,
    fixed_width,
    guess_row,
    known_header,
    learn_shape,
)
from jobeff.engine.pictures import CELL
from jobeff.engine.row_kernels import ROLES, header_roles, is_word, line_end, next_column, parse_row, standard_roles
from jobeff.jit import allocating_kernel, kernel
from jobeff.prefetch import prefetch
from jobeff.store.crc_kernels import crc32_of

GUESSED = 32  # with more columns before the cores than these, rows are not guessed
CACHE_LINE, FETCHED = 64, 4096  # bytes of memory that come at once, and of a text that are asked for


@kernel
def is_increasing(values: np.ndarray, begin: int, end: int) -> bool:
    """Whether each value is larger than the one before."""
    wrong, one = 0, np.uint64(1)  # with signs, each place would be looked at from the end too
    for i in range(np.uint64(begin) + one, np.uint64(end)):
        wrong += values[i] <= values[i - one]
    return wrong == 0


@allocating_kernel
def stable_order(values: np.ndarray) -> np.ndarray:
    """Indexes that sort `values`, equal ones in their old order: merge sort, a tenth of numpy's in time to compile."""
    n = len(values)
    order, other = np.arange(n), np.empty(n, dtype=np.int64)
    width = 1
    while width < n:
        for begin in range(0, n, 2 * width):
            middle, end = min(begin + width, n), min(begin + 2 * width, n)
            i, j = begin, middle
            for to in range(begin, end):
                if i < middle and (j == end or values[order[i]] <= values[order[j]]):
                    other[to] = order[i]
                    i += 1
                else:
                    other[to] = order[j]
                    j += 1
        order, other = other, order
        width *= 2
    return order


@allocating_kernel
def rearrange(values: np.ndarray, begin: int, width: int, order: np.ndarray, kept: int) -> None:
    """Put the rows ``order[:kept]`` of a file first, `width` elements each."""
    old = np.empty(len(order) * width, dtype=values.dtype)
    for i in range(len(old)):
        old[i] = values[begin + i]
    for row in range(kept):
        for i in range(width):
            values[begin + row * width + i] = old[order[row] * width + i]


@allocating_kernel
def first_of_each(time: np.ndarray, begin: int, end: int, order: np.ndarray) -> int:
    """Order rows by TIME and keep the first in the file of each; `order` is filled, returns how many are kept."""
    sorted_rows = stable_order(time[begin:end])
    kept = 0
    for i in range(len(sorted_rows)):
        row = sorted_rows[i]
        if kept == 0 or time[begin + order[kept - 1]] != time[begin + row]:
            order[kept] = row
            kept += 1
    return kept


@kernel
def keep_usable(values: np.ndarray, begin: int, end: int, to: int) -> int:
    """Move a file's values to `to`, if any of them is usable; returns where they end there."""
    usable = 0
    for i in range(begin, end):
        usable += values[i] >= 0
    if usable == 0:
        return to
    for i in range(end - begin):
        values[to + i] = values[begin + i]
    return to + end - begin


@kernel
def fetch(text: np.ndarray, begin: int, end: int) -> None:
    """Ask for the first bytes of a text; for what is behind them the processor asks by itself, once it is read."""
    for at in range(begin, min(end, begin + FETCHED), CACHE_LINE):
        prefetch(text, at)


@allocating_kernel
def parse_files(
    text: np.ndarray,
    begins: np.ndarray,
    ends: np.ndarray,
    extended: np.ndarray,
    words: np.ndarray,
    word_begin: np.ndarray,
    table: np.ndarray,
    time: np.ndarray,
    limit: np.ndarray,
    used: np.ndarray,
    max_used: np.ndarray,
    swap: np.ndarray,
    cores: np.ndarray,
    row_begin: np.ndarray,
    max_begin: np.ndarray,
    core_begin: np.ndarray,
    first_time: np.ndarray,
    last_time: np.ndarray,
    widths: np.ndarray,
    rejected: np.ndarray,
    known: np.ndarray,
    crc32: np.ndarray,
) -> bool:
    """Read raw files into typed columns, every row by the row rules of METRICS.md.

    The checksum is found here too, while the text of a file is close to the processor, and that of the next one comes.

    Parameters
    ----------
    text
        Bytes, uint8.
    begins, ends
        Shape (files,): where each raw file stands in `text`.
    extended
        Shape (files,): which form a file without header has.
    words, word_begin
        Names of the columns, see `header_roles`.
    table
        From `jobeff.store.crc_table.crc32_table`.
    time, limit, used, max_used, swap
        Output, one element per valid row: epoch seconds; hundredths of GiB. `max_used` is < 0 in a row without it, and
        has no elements for a file without any. Within a file they are in order of TIME.
    cores
        Output, hundredths of percent, row after row.
    row_begin, max_begin, core_begin
        Output, shape (files + 1,): where a file's part of these begins.
    first_time, last_time, widths, rejected, known, crc32
        Output, shape (files,): TIME of the first and last valid row, 0 without one; cores per row, invalid rows,
        whether the columns could be known; checksum of the text.

    Returns
    -------
    bool
        False where a file is not within the text.
    """
    shape, seen = np.empty(GUESSED, dtype=np.int64), np.zeros(2, dtype=np.uint64)
    seen[1] = ~np.uint64(0)  # no text equals it, not even NULs
    # The columns without a header in either form, then those of the last two headers: mostly there are two forms.
    all_roles, headers = np.empty((4, ROLES), dtype=np.int64), np.zeros((4, 4), dtype=np.int64)
    for slot in range(2):
        headers[slot, 2] = standard_roles(slot == 1, all_roles[slot])
        headers[slot, 3] = EXTENDED_BYTES if slot == 1 else PLAIN_BYTES
    oldest = 2
    row, core, most = 0, 0, 0
    row_begin[0], max_begin[0], core_begin[0] = 0, 0, 0
    for file in range(len(begins)):
        at, end = begins[file], ends[file]
        if at < 0 or at > end or end > len(text):
            return False
        if file + 1 < len(begins):
            fetch(text, begins[file + 1], ends[file + 1])
        crc32[file] = crc32_of(text, at, end, np.int64(0), table)
        slot = known_header(text, at, end, headers)
        first_line = slot < 0
        if first_line:
            slot = 1 if extended[file] else 0
        else:
            at += headers[slot, 1] + 1
        roles, named, fixed = all_roles[slot], headers[slot, 2], headers[slot, 3]
        first_row, first_core = row, core
        width, bad = 0, 0
        untried = True  # whether to look for the width of the first row; once, lest a bad file be searched at each line
        before, length = 0, 0  # the last valid row, where its shape is another usual one, and its length
        while at < end:
            if fixed > 0:
                cells, found = width, 0
                if width == 0 and untried:
                    cells, untried = fixed_width(text, at, end, fixed), False
                if cells > 0:
                    found = fixed_rows(
                        text, at, end, fixed, cells, row, core, seen, time, limit, used, max_used, swap, cores
                    )
                if found > 0:
                    first_line = False
                    width, length = cells, 0
                    row += found
                    core += found * cells
                    at += found * (fixed + CELL * cells + 1)
                    continue
            if length > 0 and (at + length == end or (at + length < end and text[at + length] == 10)):
                guessed = guess_row(
                    text, at, before, shape, roles, named, width, row, core, time, limit, used, max_used, swap, cores
                )
                if guessed:
                    before = at
                    row += 1
                    core += width
                    at += length + 1
                    continue
            stop = line_end(text, at, end)
            first, after = next_column(text, at, stop)
            if first == after:
                at = stop + 1
                continue
            if first_line and is_word(text, first, after, words[: word_begin[1]]):
                slot, oldest = oldest, 5 - oldest
                roles = all_roles[slot]
                named = header_roles(text, at, stop, words, word_begin, roles)
                fixed = fixed_layout(roles, named)
                headers[slot, 0], headers[slot, 1], headers[slot, 2], headers[slot, 3] = at, stop - at, named, fixed
                first_line, untried = False, True
                at = stop + 1
                continue
            first_line = False
            count = 0
            if named > 0:
                count = parse_row(text, at, stop, roles, named, row, core, time, limit, used, max_used, swap, cores)
            if count == 0 or (width > 0 and count != width):
                bad += 1
            else:
                width = count
                row += 1
                core += count
                before, length = at, 0
                if learn_shape(text, at, stop, named, width, shape):
                    length = stop - at
            at = stop + 1
        if not is_increasing(time, first_row, row):
            order = np.empty(row - first_row, dtype=np.int64)
            kept = first_of_each(time, first_row, row, order)
            rearrange(time, first_row, 1, order, kept)
            rearrange(limit, first_row, 1, order, kept)
            rearrange(used, first_row, 1, order, kept)
            rearrange(max_used, first_row, 1, order, kept)
            rearrange(swap, first_row, 1, order, kept)
            rearrange(cores, first_core, width, order, kept)
            bad += (row - first_row) - kept
            row = first_row + kept
            core = first_core + kept * width
        most = keep_usable(max_used, first_row, row, most)
        row_begin[file + 1], max_begin[file + 1], core_begin[file + 1] = row, most, core
        first_time[file] = time[first_row] if row > first_row else 0
        last_time[file] = time[row - 1] if row > first_row else 0
        widths[file] = width
        rejected[file] = bad
        known[file] = named > 0
    return True


@kernel
def outcome(said: np.ndarray, crc32: np.ndarray, known: np.ndarray, rejected: np.ndarray) -> tuple[int, int, int]:
    """Count what came of raw files.

    Parameters
    ----------
    said
        Shape (files,): checksums that are to be; less than 0 where nobody knows.
    crc32, known, rejected
        From `parse_files`.

    Returns
    -------
    tuple of int
        Files whose checksum is wrong; whose columns could not be known; invalid rows.
    """
    wrong, unknown, rows = 0, 0, np.int64(0)
    for file in range(len(said)):
        wrong += said[file] >= 0 and said[file] != np.int64(crc32[file])
        unknown += not known[file]
        rows += rejected[file]
    return wrong, unknown, rows
