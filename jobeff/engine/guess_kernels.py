"""Numba kernels: rows that look like the one before, or as the usual sampler prints them; all others are left alone."""

from __future__ import annotations

import numpy as np

from jobeff.engine.pictures import (
    CELL,
    CELLS,
    LANES,
    PICTURED,
    load8,
    unusual_memory,
    unusual_swap_and_pages,
    unusual_times,
    usual_cores,
    usual_numbers,
)
from jobeff.engine.row_kernels import (
    CORES,
    FULL_CORE,
    GB_LIMIT,
    GB_MAX_USED,
    GB_SWAP_USED,
    GB_USED,
    LOCALTIME,
    NO_ROLE,
    NOT_A_NUMBER,
    ROUNDED_DOWN,
    TIME,
    UNUSABLE,
    is_blank,
    is_localtime,
    next_column,
    parse_hundredths,
    standard_roles,
    two_digits,
)
from jobeff.jit import allocating_kernel, kernel

PLAIN_BYTES, EXTENDED_BYTES = 65, 103  # of a row before its cores, as the usual sampler prints it
SIX_SPACES = np.uint64(0x202020202020)


@kernel
def learn_shape(text: np.ndarray, begin: int, end: int, named: int, width: int, ends: np.ndarray) -> bool:
    """Learn where the columns of a valid row end, so that the next row's may be guessed.

    Parameters
    ----------
    text, begin, end
        The row.
    named, width
        Columns before the cores, and cores.
    ends
        Filled with the ends of the columns before the cores, as offsets in the row.

    Returns
    -------
    bool
        Whether the row is of the usual shape: times first, from the first byte on, each core printed as ``%6.1f``,
        nothing behind them.
    """
    if named > len(ends):
        return False
    at = begin
    for column in range(named):
        first, at = next_column(text, at, end)
        if column == 0 and first != begin:
            return False
        ends[column] = at - begin
    return end - at == CELL * width and ends[0] == 19


@kernel
def same_bytes(text: np.ndarray, one: int, other: int, length: int) -> bool:
    """Whether two places hold the same bytes."""
    if 8 <= length <= 16:
        tail = length - 8
        return load8(text, one) == load8(text, other) and load8(text, one + tail) == load8(text, other + tail)
    for i in range(length):  # noqa: SIM110  (a generator does not compile)
        if text[one + i] != text[other + i]:
            return False
    return True


@kernel
def guess_times(text: np.ndarray, at: int, before: int, time_end: int) -> int:
    """TIME of a row whose first two columns end where those of the row at `before` end; -1 where it has to be read."""
    date = load8(text, at) == load8(text, before) and load8(text, at + 2) == load8(text, before + 2)
    if not date or text[at + 10] != 84 or text[at + 13] != 58 or text[at + 16] != 58:
        return -1
    hour, minute, second = two_digits(text, at + 11), two_digits(text, at + 14), two_digits(text, at + 17)
    if hour < 0 or hour > 23 or minute < 0 or minute > 59 or second < 0 or second > 59 or text[at + 19] != 32:
        return -1
    value = np.int64(0)
    first = at + 20
    while first < at + time_end and text[first] == 32:
        first += 1
    if at + time_end - first > 18:
        return -1
    for i in range(first, at + time_end):
        digit = np.int64(text[i]) - 48
        if digit < 0 or digit > 9:
            return -1
        value = value * 10 + digit
    return value if first < at + time_end else -1


@kernel
def guess_number(text: np.ndarray, begin: int, end: int) -> int:
    """Read a number that ends at `end`, with blanks before it; negative where it has to be read otherwise."""
    first = end
    while first > begin and not is_blank(text[first - 1]):
        first -= 1
    if first in (begin, end) or text[first] == 43:
        return NOT_A_NUMBER
    for i in range(begin, first):
        if not is_blank(text[i]):
            return NOT_A_NUMBER
    return parse_hundredths(text, first, end)


@kernel
def guess_cores(text: np.ndarray, begin: int, width: int, cores: np.ndarray, core: int) -> bool:
    """Read cores printed as ``%6.1f``, eight bytes at a time; False where one has to be read otherwise."""
    bad = np.uint64(0)
    for i in range(width):
        cell = load8(text, begin + CELL * i - 2)  # the cell's six bytes are the upper ones
        digits = cell ^ np.uint64(0x3030303030303030)  # of a digit its value, of a blank 16
        hundreds = (digits >> np.uint64(24)) & np.uint64(255)
        tens = (digits >> np.uint64(32)) & np.uint64(255)
        ones = (digits >> np.uint64(40)) & np.uint64(255)
        tenths = digits >> np.uint64(56)
        value = (hundreds & np.uint64(15)) * np.uint64(10000) + (tens & np.uint64(15)) * np.uint64(1000)
        value += ones * np.uint64(100) + tenths * np.uint64(10)
        bad |= np.uint64(
            (ones > 9)
            | (tenths > 9)
            | (((cell >> np.uint64(48)) & np.uint64(255)) != 46)
            | (((cell >> np.uint64(16)) & np.uint64(255)) != 32)
            | ((hundreds > 9) & (hundreds != 16))
            | ((tens > 9) & ((tens != 16) | (hundreds != 16)))
            | (value > ROUNDED_DOWN)
        )
        cores[core + i] = min(value, np.uint64(FULL_CORE))
    return bad == 0


@kernel
def guess_row(
    text: np.ndarray,
    at: int,
    before: int,
    ends: np.ndarray,
    roles: np.ndarray,
    named: int,
    width: int,
    row: int,
    core: int,
    time: np.ndarray,
    limit: np.ndarray,
    used: np.ndarray,
    max_used: np.ndarray,
    swap: np.ndarray,
    cores: np.ndarray,
) -> bool:
    """Read a row on the guess that its columns stand where those of the last valid row at `before` stand.

    What is not as guessed makes it return False, and means nothing: `parse_row` decides.
    """
    if roles[0] != LOCALTIME or roles[1] != TIME:
        return False
    epoch = guess_times(text, at, before, ends[1])
    if epoch < 0:
        return False
    time[row] = epoch
    max_used[row] = UNUSABLE
    for column in range(2, named):
        role, begin, end = roles[column], ends[column - 1], ends[column]
        if same_bytes(text, at + begin, before + begin, end - begin):
            if role == GB_LIMIT:
                limit[row] = limit[row - 1]
            elif role == GB_USED:
                used[row] = used[row - 1]
            elif role == GB_SWAP_USED:
                swap[row] = swap[row - 1]
            elif role == GB_MAX_USED:
                max_used[row] = max_used[row - 1]
            continue
        value = guess_number(text, at + begin, at + end)
        if value < 0:
            return False
        if role == GB_LIMIT:
            limit[row] = value
        elif role == GB_USED:
            used[row] = value
        elif role == GB_SWAP_USED:
            swap[row] = value
        elif role == GB_MAX_USED:
            max_used[row] = value
        elif role == NO_ROLE:
            return False
    return guess_cores(text, at + ends[named - 1], width, cores, core)


@kernel
def same_text(text: np.ndarray, one: int, other: int, length: int) -> bool:
    """Whether two places hold the same bytes, of any number."""
    at = 0
    while at + 32 <= length:
        differs = load8(text, one + at) ^ load8(text, other + at)
        differs |= load8(text, one + at + 8) ^ load8(text, other + at + 8)
        differs |= load8(text, one + at + 16) ^ load8(text, other + at + 16)
        differs |= load8(text, one + at + 24) ^ load8(text, other + at + 24)
        if differs != np.uint64(0):
            return False
        at += 32
    for i in range(at, length):  # noqa: SIM110  (a generator does not compile)
        if text[one + i] != text[other + i]:
            return False
    return True


@kernel
def eight_digits(x: int) -> int:
    """Eight bytes of 0 to 9, the first the highest, as a number."""
    x = (x * np.uint64(10) + (x >> np.uint64(8))) & np.uint64(0x00FF00FF00FF00FF)
    x = (x * np.uint64(100) + (x >> np.uint64(16))) & np.uint64(0x0000FFFF0000FFFF)
    return (x * np.uint64(10000) + (x >> np.uint64(32))) & np.uint64(0xFFFFFFFF)


@kernel
def tenths(word: int) -> int:
    """Hundredths of eight bytes printed as ``%8.1f``."""
    digits = word & np.uint64(0x0F000F0F0F0F0F0F)
    closed = (digits & np.uint64(0xFFFFFFFFFFFF)) | ((digits >> np.uint64(8)) & np.uint64(0xFF000000000000))
    return np.int64(eight_digits(closed))


@kernel
def fixed_width(text: np.ndarray, at: int, end: int, before: int) -> int:
    """Cores of a row as the usual sampler prints it, by where its line ends; 0 where it ends elsewhere."""
    stop = at + before + CELL
    while stop < end and text[stop] != 10 and text[stop - 2] == 46:
        stop += CELL
    if stop < end and text[stop] != 10:
        return 0
    return (stop - at - before) // CELL if stop <= end else 0


@kernel
def two_lower_digits(word: int) -> int:
    """The first two bytes of a word, if they are digits, as a number."""
    return np.int64((word & np.uint64(15)) * np.uint64(10) + ((word >> np.uint64(8)) & np.uint64(15)))


@kernel
def fixed_rows(
    text: np.ndarray,
    begin: int,
    end: int,
    before: int,
    width: int,
    first_row: int,
    core: int,
    seen: np.ndarray,
    time: np.ndarray,
    limit: np.ndarray,
    used: np.ndarray,
    max_used: np.ndarray,
    swap: np.ndarray,
    cores: np.ndarray,
) -> int:
    """Read rows as the usual sampler prints them: each column at its place, checked byte for byte, many bytes at once.

    What is read of a row means nothing where something of it is wrong: that is looked at once, at its end.

    Parameters
    ----------
    text, begin, end
        Where rows stand. One that ends with the text, or with `end`, is left.
    before, width
        Bytes before the cores, `PLAIN_BYTES` or `EXTENDED_BYTES`; cores, at least one.
    first_row, core
        Where to write.
    seen
        Shape (2,), uint64: a date that is real and its T, as two words that overlap.
    time, limit, used, max_used, swap, cores
        See `parse_files`.

    Returns
    -------
    int
        How many rows were read, all of one day. The next one has to be read otherwise, or with the date of its own, or
        there is none.
    """
    length = before + CELL * width
    stop = min(end, len(text) - PICTURED) - length  # what is read of the last cores may begin right before they end
    room = len(cores) - width - LANES
    row, at = np.uint64(first_row), np.int64(begin)
    if at >= stop:
        return np.int64(0)
    year, day = load8(text, at), load8(text, at + 3)
    if year != seen[0] or day != seen[1]:
        if not is_localtime(text, at, at + 19):
            return np.int64(0)
        seen[0], seen[1] = year, day
    while at < stop and core <= room and load8(text, at) == year and load8(text, at + 3) == day:
        # All words before all vectors, out of which the compiler would shift them else.
        hour, upper = two_lower_digits(load8(text, at + 11)), two_lower_digits(load8(text, at + 21))
        lower, hundredths, now, most = usual_numbers(text, at)
        wrong = np.uint64(text[np.uint64(at + length)]) ^ np.uint64(10)
        wrong |= np.uint64(hour > 23) | unusual_times(text, at + 1) | unusual_memory(text, at + 33)
        time[row], limit[row], used[row] = upper * 100_000_000 + lower, hundredths, now
        if before == PLAIN_BYTES:
            max_used[row], swap[row] = UNUSABLE, most
        else:
            max_used[row], swap[row] = most, tenths(load8(text, at + 71))
            wrong |= (load8(text, at + 63) >> np.uint64(16)) ^ SIX_SPACES
            wrong |= unusual_swap_and_pages(text, at + 71)
        cell, left = at + before, width
        while left > CELLS:
            wrong |= usual_cores(text, cell, np.int64(CELLS), cores, core)
            cell, core, left = cell + CELL * CELLS, core + CELLS, left - CELLS
        wrong |= usual_cores(text, cell, left, cores, core)
        if wrong != np.uint64(0):
            break
        row += np.uint64(1)
        core += left
        at += length + 1
    return np.int64(row) - first_row


@allocating_kernel
def fixed_layout(roles: np.ndarray, named: int) -> int:
    """Bytes before the cores where the columns are those of the usual sampler, 0 where they are others."""
    usual = np.empty(CORES, dtype=np.int64)
    for extended in (False, True):
        if standard_roles(extended, usual) != named:
            continue
        same = True
        for column in range(named):
            same = same and roles[column] == usual[column]
        if same:
            return EXTENDED_BYTES if extended else PLAIN_BYTES
    return 0


@kernel
def known_header(text: np.ndarray, at: int, end: int, headers: np.ndarray) -> int:
    """Which of the headers met before begins at `at`, as an index of `headers`; -1 for none."""
    for slot in range(2, len(headers)):
        length = headers[slot, 1]
        if length == 0 or at + length > end or (at + length < end and text[at + length] != 10):
            continue
        if same_text(text, at, headers[slot, 0], length):
            return slot
    return -1
