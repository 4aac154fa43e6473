"""Numba kernels: a row of a raw file, and its header, read by the strict rules, whatever it looks like.

Values are fixed point, hundredths, so that sums are exact whatever their order.
"""

from __future__ import annotations

import numpy as np

from jobeff.jit import allocating_kernel, kernel
from jobeff.names import INT64_MAX

# What a number in the text can turn out to be, where it is not a value >= 0.
NOT_A_NUMBER = -1  # columns have run together, or text
UNUSABLE = -2  # negative, not finite, or larger than fixed point holds
LARGEST = 2**31 - 1  # hundredths in an int32
FULL_CORE = 10_000  # 100.00 percent
ROUNDED_DOWN = 10_100  # up to here a core counts as full
# Columns of a raw file, as indexes of a header's `places`.
LOCALTIME, TIME, GB_LIMIT, GB_USED, GB_MAX_USED, GB_SWAP_USED, PAGE_IN, PAGE_OUT = range(8)
CORES = 8  # where the core columns begin
NO_ROLE = -1
ROLES = 4096  # columns a header may name before the cores


@kernel
def is_blank(byte: int) -> bool:
    """Whether a byte separates columns: space, tab, vertical tab, form feed, carriage return."""
    return byte == 32 or byte == 9 or byte == 11 or byte == 12 or byte == 13


@kernel
def is_digit(byte: int) -> bool:
    """Whether a byte is an ASCII digit."""
    return 48 <= byte <= 57


@kernel
def number_word(text: np.ndarray, begin: int, end: int) -> bool:
    """Whether ``text[begin:end]`` is ``nan`` or ``inf`` in any case."""
    if end - begin != 3:
        return False
    a, b, c = text[begin] | 32, text[begin + 1] | 32, text[begin + 2] | 32
    return (a == 110 and b == 97 and c == 110) or (a == 105 and b == 110 and c == 102)


@kernel
def parse_hundredths(text: np.ndarray, begin: int, end: int) -> int:
    """Read a decimal number exactly, as hundredths.

    Parameters
    ----------
    text
        Bytes, uint8.
    begin, end
        Where the column stands.

    Returns
    -------
    int
        Hundredths, further decimals rounded half up; `NOT_A_NUMBER` or `UNUSABLE` otherwise. Minus is usable before
        zeros only, since printf prints ``-0.0``.
    """
    at = begin
    sign = 0
    if at < end and (text[at] == 45 or text[at] == 43):
        sign = text[at]
        at += 1
    if sign != 43 and number_word(text, at, end):
        return UNUSABLE
    value = 0
    digits = 0
    while at < end and is_digit(text[at]):
        if value <= LARGEST:
            value = value * 10 + (np.int64(text[at]) - 48)
        at += 1
        digits += 1
    value *= 100
    beyond = False  # a non-zero digit after the hundredths
    if at < end and text[at] == 46:
        at += 1
        place = 0
        up = 0
        while at < end and is_digit(text[at]):
            digit = np.int64(text[at]) - 48
            if place == 0:
                value += digit * 10
            elif place == 1:
                value += digit
            else:
                if place == 2 and digit >= 5:
                    up = 1
                beyond = beyond or digit > 0
            place += 1
            digits += 1
            at += 1
        if sign == 0:
            value += up
    if at != end or digits == 0:
        return NOT_A_NUMBER
    if sign == 43 or (sign == 45 and (value > 0 or beyond)) or value > LARGEST:
        return UNUSABLE
    return value


@kernel
def parse_epoch(text: np.ndarray, begin: int, end: int) -> int:
    """Read epoch seconds: digits, less than 2**63; else `NOT_A_NUMBER`."""
    value = np.int64(0)
    for at in range(begin, end):
        digit = np.int64(text[at]) - 48
        if digit < 0 or digit > 9 or value > (INT64_MAX - digit) // 10:
            return NOT_A_NUMBER
        value = value * 10 + digit
    return value


@kernel
def two_digits(text: np.ndarray, at: int) -> int:
    """Two digits as a number, or -1."""
    if is_digit(text[at]) and is_digit(text[at + 1]):
        return (np.int64(text[at]) - 48) * 10 + (np.int64(text[at + 1]) - 48)
    return -1


@kernel
def days_in_month(year: int, month: int) -> int:
    """Length of a month of the Gregorian calendar."""
    if month == 2:
        leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
        return 29 if leap else 28
    return 30 if month == 4 or month == 6 or month == 9 or month == 11 else 31


@kernel
def is_localtime(text: np.ndarray, begin: int, end: int) -> bool:
    """Whether a column is a real date and time, ``YYYY-MM-DDTHH:MM:SS``."""
    if end - begin != 19:
        return False
    if text[begin + 4] != 45 or text[begin + 7] != 45 or text[begin + 10] != 84:
        return False
    if text[begin + 13] != 58 or text[begin + 16] != 58:
        return False
    century, years = two_digits(text, begin), two_digits(text, begin + 2)
    month, day = two_digits(text, begin + 5), two_digits(text, begin + 8)
    hour, minute = two_digits(text, begin + 11), two_digits(text, begin + 14)
    second = two_digits(text, begin + 17)
    if century < 0 or years < 0 or century + years == 0 or month < 1 or month > 12:
        return False
    if day < 1 or day > days_in_month(century * 100 + years, month):
        return False
    return 0 <= hour <= 23 and 0 <= minute <= 59 and 0 <= second <= 59


@kernel
def line_end(text: np.ndarray, begin: int, end: int) -> int:
    """Index of the next newline, or `end`."""
    at = begin
    while at < end and text[at] != 10:
        at += 1
    return at


@kernel
def next_column(text: np.ndarray, at: int, end: int) -> tuple[int, int]:
    """Begin and end of the next column at or after `at`; begin == `end` where there is none."""
    while at < end and is_blank(text[at]):
        at += 1
    begin = at
    while at < end and not is_blank(text[at]):
        at += 1
    return begin, at


@kernel
def is_word(text: np.ndarray, begin: int, end: int, word: np.ndarray) -> bool:
    """Whether a column is `word`, byte for byte."""
    if end - begin != len(word):
        return False
    for i in range(len(word)):  # noqa: SIM110  (a generator does not compile)
        if text[begin + i] != word[i]:
            return False
    return True


@kernel
def starts_with(text: np.ndarray, begin: int, end: int, word: np.ndarray) -> bool:
    """Whether a column begins with `word`."""
    return end - begin >= len(word) and is_word(text, begin, begin + len(word), word)


@kernel
def standard_roles(extended: bool, roles: np.ndarray) -> int:
    """Fill `roles` for a file without header; returns the number of columns before the cores."""
    roles[0], roles[1], roles[2], roles[3] = LOCALTIME, TIME, GB_LIMIT, GB_USED
    if not extended:
        roles[4] = GB_SWAP_USED
        return 5
    roles[4], roles[5], roles[6], roles[7] = GB_MAX_USED, GB_SWAP_USED, PAGE_IN, PAGE_OUT
    return 8


@allocating_kernel
def header_roles(
    text: np.ndarray, begin: int, end: int, words: np.ndarray, word_begin: np.ndarray, roles: np.ndarray
) -> int:
    """Read the columns that a header names.

    Parameters
    ----------
    text, begin, end
        The header line.
    words, word_begin
        The names of the columns in order of their roles, the prefix of the core columns last; one after the other.
    roles
        Shape (`ROLES`,), filled with the role of each column before the cores.

    Returns
    -------
    int
        Number of columns before the cores, or -1 where the header lacks a needed column or names one twice.
    """
    seen = np.zeros(CORES, dtype=np.bool_)
    column, before_cores = 0, -1
    at = begin
    while True:
        first, after = next_column(text, at, end)
        if first == after:
            break
        at = after
        if starts_with(text, first, after, words[word_begin[CORES] : word_begin[CORES + 1]]):
            before_cores = column if before_cores < 0 else before_cores
            continue
        if before_cores < 0:
            if column == ROLES:
                return -1
            roles[column] = NO_ROLE
        for role in range(CORES):
            if is_word(text, first, after, words[word_begin[role] : word_begin[role + 1]]):
                if seen[role] or before_cores >= 0:  # cores run to the end of the row, nothing fits behind them
                    return -1
                seen[role] = True
                roles[column] = role
        column += 1
    needed = seen[LOCALTIME] and seen[TIME] and seen[GB_LIMIT] and seen[GB_USED] and seen[GB_SWAP_USED]
    return before_cores if needed else -1


@kernel
def parse_row(
    text: np.ndarray,
    begin: int,
    end: int,
    roles: np.ndarray,
    named: int,
    row: int,
    core: int,
    time: np.ndarray,
    limit: np.ndarray,
    used: np.ndarray,
    max_used: np.ndarray,
    swap: np.ndarray,
    cores: np.ndarray,
) -> int:
    """Read one row into ``row`` of the columns and from ``core`` on in `cores`.

    Returns
    -------
    int
        Number of cores, or 0 where the row is not valid; then what was written there means nothing.
    """
    at = begin
    max_used[row] = UNUSABLE
    for column in range(named):
        first, after = next_column(text, at, end)
        if first == after:
            return 0
        at = after
        role = roles[column]
        if role == NO_ROLE:
            continue
        if role == LOCALTIME:
            if not is_localtime(text, first, after):
                return 0
            continue
        if role == TIME:
            epoch = parse_epoch(text, first, after)
            if epoch < 0:
                return 0
            time[row] = epoch
            continue
        value = parse_hundredths(text, first, after)
        if value == NOT_A_NUMBER or (role == GB_MAX_USED and text[first] == 43):
            return 0
        if role == GB_MAX_USED:
            max_used[row] = value
        elif role != PAGE_IN and role != PAGE_OUT:
            if value < 0:
                return 0
            if role == GB_LIMIT:
                limit[row] = value
            elif role == GB_USED:
                used[row] = value
            else:
                swap[row] = value
    count = 0
    while True:
        first, after = next_column(text, at, end)
        if first == after:
            return count
        value = parse_hundredths(text, first, after)
        if value < 0 or value > ROUNDED_DOWN:
            return 0
        cores[core + count] = min(value, FULL_CORE)
        count += 1
        at = after
