"""Kernels over text columns, without a Python object for any text; see `jobeff.store.pages.Texts`.

All compiled code of it stands in this one file, because numba's cache does not see changes in other files.
"""

from __future__ import annotations

import numpy as np

from jobeff.jit import kernel
from jobeff.prefetch import prefetch
from jobeff.store.pages import Texts

COMMA = 44
COMMAS, LOWEST_BITS, HIGHEST_BITS = (np.uint64(byte * 0x0101010101010101) for byte in (COMMA, 0x01, 0x80))
BYTES_IN_ORDER = np.uint64(0x0001020304050607)
FIRST, SIZE, BEGIN, NUMBER = range(4)
FREE = -1
FIRST_SLOTS, SLOTS_PER_TEXT = 1 << 11, 4
"""So many that a text is most often found at once."""
AHEAD = 16
"""So many rows before one is taken, it is asked for."""


@kernel
def get_eight(data: np.ndarray, at: int) -> int:
    """Eight bytes as an unsigned number, the lowest first; the compiler makes one load of it."""
    value, i = np.uint64(0), np.uint64(at)
    for step in range(8):
        value |= np.uint64(data[i + np.uint64(step)]) << np.uint64(8 * step)
    return value


@kernel
def put_eight(out: np.ndarray, at: int, value: int) -> None:
    """Write eight bytes, the lowest first; the compiler makes one store of it."""
    i = np.uint64(at)
    for step in range(8):
        out[i + np.uint64(step)] = (value >> np.uint64(8 * step)) & np.uint64(255)


@kernel
def copy(source: np.ndarray, begin: int, size: int, out: np.ndarray, at: int) -> None:
    """Copy bytes; what is behind them in `out` may change."""
    if begin + size + 8 <= len(source) and at + size + 8 <= len(out):  # as nearly always: asked once, not at each step
        for done in range(0, size, 8):
            put_eight(out, at + done, get_eight(source, begin + done))
        return
    for done in range(0, size, 8):
        if begin + done + 8 <= len(source) and at + done + 8 <= len(out):
            put_eight(out, at + done, get_eight(source, begin + done))
        else:
            for i in range(done, min(done + 8, size)):
                out[at + i] = source[begin + i]


@kernel
def take(
    offsets: np.ndarray, data: np.ndarray, columns: int, rows: np.ndarray, out_offsets: np.ndarray, out: np.ndarray
) -> None:
    """Rows in another order.

    Parameters
    ----------
    offsets, data, columns
        Text columns.
    rows
        Shape (chosen,): which rows.
    out_offsets, out
        Output: the same for these, with room for all.
    """
    to = np.int64(0)
    out_offsets[0] = 0
    for i in range(len(rows)):
        if i + 2 * AHEAD < len(rows):  # where its text stands has to be there before that can be asked for
            place = rows[i + 2 * AHEAD] * columns
            prefetch(offsets, place)
            prefetch(offsets, place + columns)
        if i + AHEAD < len(rows):
            place = rows[i + AHEAD] * columns
            prefetch(data, offsets[place])
            prefetch(data, offsets[place + columns])
        place = rows[i] * columns
        begin, end = offsets[place], offsets[place + columns]
        for column in range(columns):
            out_offsets[i * columns + column + 1] = to + offsets[place + column + 1] - begin
        copy(data, begin, end - begin, out, to)
        to += end - begin


@kernel
def word_at(data: np.ndarray, at: int, end: int) -> int:
    """Up to eight bytes as an unsigned number."""
    size = end - at
    if size >= 8:
        return get_eight(data, at)
    if at + 8 <= len(data):
        return get_eight(data, at) & ((np.uint64(1) << np.uint64(8 * size)) - np.uint64(1))
    value = np.uint64(0)
    for step in range(size):
        value |= np.uint64(data[at + step]) << np.uint64(8 * step)
    return value


@kernel
def hash_of(data: np.ndarray, begin: int, end: int, first: int) -> int:
    """A number for a text whose first eight bytes are at hand."""
    number = (np.uint64(first) ^ np.uint64(end - begin)) * np.uint64(0x9E3779B97F4A7C15)
    number ^= number >> np.uint64(32)
    for at in range(begin + 8, end, 8):
        number = (number ^ word_at(data, at, end)) * np.uint64(0x9E3779B97F4A7C15)
        number ^= number >> np.uint64(32)
    # The lowest bits of a product know nothing of the last of eight bytes, the highest ones of all.
    return np.int64((number * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32))


@kernel
def is_in(slots: np.ndarray, slot: int, data: np.ndarray, begin: int, end: int, first: int) -> bool:
    """Whether a text is the one in a slot; see `find`."""
    same, back = slots[slot, SIZE] == end - begin and slots[slot, FIRST] == first, begin - slots[slot, BEGIN]
    if same:
        for at in range(begin + 8, end, 8):
            same &= word_at(data, at - back, end - back) == word_at(data, at, end)
    return same


@kernel
def find(slots: np.ndarray, data: np.ndarray, begin: int, end: int, first: int) -> int:
    """Where a text stands in a table of known ones, or could be put.

    Parameters
    ----------
    slots
        Shape (slots, 4), as many as a power of two: of each known text its first eight bytes, how long it is, where it
        begins in `data`, and its number; where there is none, `FREE` instead of the length.
    data, begin, end, first
        The text, and its first eight bytes.

    Returns
    -------
    int
        The slot.
    """
    mask = len(slots) - 1
    slot = hash_of(data, begin, end, first) & mask
    while not is_in(slots, slot, data, begin, end, first) and slots[slot, SIZE] != FREE:
        slot = (slot + 1) & mask
    return slot


@kernel
def enter(slots: np.ndarray, known: np.ndarray, data: np.ndarray) -> None:
    """Put known texts into an empty table."""
    for one in range(len(known)):
        begin, end = known[one, 0], known[one, 1]
        first = np.int64(word_at(data, begin, end))
        slot = find(slots, data, begin, end, first)
        slots[slot, FIRST], slots[slot, SIZE], slots[slot, BEGIN], slots[slot, NUMBER] = first, end - begin, begin, one


@kernel
def comma_in(word: int) -> int:
    """Which of the eight bytes of a word is the first comma; 8 where none is."""
    other = np.uint64(word) ^ COMMAS
    # The lowest bit that is set now is the highest one of the first byte that is zero.
    found = (other - LOWEST_BITS) & ~other & HIGHEST_BITS
    if found == np.uint64(0):
        return np.int64(8)
    lowest = (found & (~found + np.uint64(1))) >> np.uint64(7)
    return np.int64((lowest * BYTES_IN_ORDER) >> np.uint64(56))


@kernel
def end_of_word(data: np.ndarray, begin: int, stop: int, first: int) -> int:
    """Where the word ends that begins in a text, whose first eight bytes are at hand."""
    end = min(begin + comma_in(first), stop)
    if end == begin + 8:
        while end < stop and data[end] != COMMA:
            end += 1
    return end


@kernel
def count_words(offsets: np.ndarray, data: np.ndarray, columns: int, column: int, out: np.ndarray) -> None:
    """How many words, joined by commas, stand in each text of a column.

    Parameters
    ----------
    offsets, data, columns, column
        Text columns, and which.
    out
        Output, shape (rows,).
    """
    for row in range(len(out)):
        count = np.int64(1)
        for at in range(offsets[row * columns + column], offsets[row * columns + column + 1]):
            if data[at] == COMMA:
                count += 1
        out[row] = count


@kernel
def codes(
    offsets: np.ndarray,
    data: np.ndarray,
    columns: int,
    column: int,
    split: bool,
    slots: np.ndarray,
    known: np.ndarray,
    at: np.ndarray,
    out: np.ndarray,
) -> bool:
    """Number the texts of a column, or the words in them, as they are met.

    Parameters
    ----------
    offsets, data, columns, column
        Text columns, and which.
    split
        Whether the texts are words joined by commas.
    slots
        See `find`; changed.
    known
        Shape (texts, 2): where each begins and ends in `data`; changed.
    at
        Shape (4,): the row that comes next and where in it, -1 at its beginning, and how many texts are known and
        numbered; changed.
    out
        Output, shape (rows or words,): the number of each, text by text.

    Returns
    -------
    bool
        Whether all are numbered; else `known` is full. It is not made larger in here: each use of an array that may be
        another one by then costs more than all the rest.
    """
    row, begin, count, done, last = at[0], at[1], at[2], at[3], np.int64(0)
    while row < (len(offsets) - 1) // columns:
        stop = offsets[row * columns + column + 1]
        if begin < 0:
            begin = offsets[row * columns + column]
        while begin <= stop:
            end, first = stop, np.int64(word_at(data, begin, stop))
            if split:
                end = end_of_word(data, begin, stop, first)
                first = np.int64(word_at(data, begin, end))
            if not is_in(slots, last, data, begin, end, first):  # as often as not it is the one before
                last = find(slots, data, begin, end, first)
                if slots[last, SIZE] == FREE:
                    if count == len(known):
                        at[0], at[1], at[2], at[3] = row, begin, count, done
                        return False
                    slots[last, FIRST], slots[last, SIZE] = first, end - begin
                    slots[last, BEGIN], slots[last, NUMBER] = begin, count
                    known[count, 0], known[count, 1] = begin, end
                    count += 1
            out[done] = slots[last, NUMBER]
            done += 1
            begin = end + 1
        row, begin = row + 1, np.int64(-1)
    at[2] = count
    return True


def numbered(texts: Texts, column: int, split: bool, out: np.ndarray) -> np.ndarray:
    """Number the texts of a column, or the words in them, as they are met.

    Parameters
    ----------
    texts, column
        Text columns, and which.
    split
        Whether the texts are words joined by commas.
    out
        Output, shape (rows or words,), int64: the number of each, text by text.

    Returns
    -------
    ndarray of int64
        Shape (different ones, 2): where each begins and ends in the data.
    """
    slots, known = np.full((FIRST_SLOTS, 4), FREE), np.empty((FIRST_SLOTS // SLOTS_PER_TEXT, 2), dtype=np.int64)
    at = np.array([0, -1, 0, 0])
    while not codes(*texts, column, split, slots, known, at, out):
        slots = np.full((2 * len(slots), 4), FREE)
        enter(slots, known, texts.data)
        known = np.concatenate([known, np.empty_like(known)])
    return known[: at[2]]


@kernel
def group(
    order: np.ndarray, begin: np.ndarray, code: np.ndarray, at: np.ndarray, row: np.ndarray, rank: np.ndarray
) -> None:
    """Put the words of rows into groups of equal ones.

    Parameters
    ----------
    order
        Shape (rows,): in which order to take the rows; it is that within each group.
    begin
        Shape (rows + 1,): where each row's words begin in `code`.
    code
        Shape (words,): which group each belongs to.
    at
        Shape (groups,): where the next one of each group goes; changed.
    row, rank
        Output, shape (words,): each word's row, and which of its words it is.
    """
    for i in range(len(order)):
        one = order[i]
        for word in range(begin[one], begin[one + 1]):
            to = at[code[word]]
            row[to], rank[to] = one, word - begin[one]
            at[code[word]] = to + 1
