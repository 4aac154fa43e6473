"""Numba kernels: rows of a table read page by page, and keys of an index that are there more than once."""

from __future__ import annotations

import numpy as np

from jobeff.jit import allocating_kernel, kernel
from jobeff.store.format_kernels import (
    BAD,
    DEPTH,
    FULL,
    INDEX_INTERIOR,
    INDEX_LEAF,
    LONG,
    SIZES,
    TABLE_INTERIOR,
    TABLE_LEAF,
    big_endian,
    copy,
    get_varint,
    number_at,
    serial_size,
)
from jobeff.store.word_kernels import FIRST, FREE, LAST, LENGTH, NUMBER, add_word, find, last_at, word_at

FILE_HEADER = 100  # bytes before the first page's own header
BLOCK_BITS = 12  # rows are looked for in blocks of 4096 row numbers
LOWEST, HIGHEST = -(2**63), 2**63 - 1  # row numbers

# Where `read_table` stands between two calls.
READ_DEPTH, READ_ROWS, READ_WORDS, READ_LONG = range(4)


@kernel
def any_between(blocks: np.ndarray, low: int, high: int) -> bool:
    """Whether sorted `blocks` have one from `low` to `high`."""
    begin, end = 0, len(blocks)
    while begin < end:
        middle = (begin + end) // 2
        if blocks[middle] < low:
            begin = middle + 1
        else:
            end = middle
    return begin < len(blocks) and blocks[begin] <= high


@kernel
def put_payload(data: np.ndarray, at: int, length: int, local: int, usable: int, pages: int, out: np.ndarray) -> bool:
    """The payload of a cell of which only `local` bytes stand in its page; whether the chain of the others is whole."""
    if at + local + 4 > len(data):
        return False
    copy(data, at, local, out, 0)
    page = big_endian(data, at + local, 4)
    done = local
    while done < length:
        if page < 2 or page > pages:
            return False
        begin = (page - 1) * usable
        count = min(length - done, usable - 4)
        copy(data, begin + 4, count, out, done)
        done += count
        page = big_endian(data, begin, 4)
    return True


@allocating_kernel
def whole_payload(data: np.ndarray, at: int, length: int, local: int, usable: int, pages: int) -> np.ndarray:
    """What `put_payload` gives, in an array of its own; empty where the chain is broken."""
    out = np.empty(length if length <= len(data) else 0, dtype=np.uint8)
    is_whole = len(out) > 0 and put_payload(data, at, length, local, usable, pages, out)
    return out if is_whole else out[:0]


@kernel
def local_size(length: int, usable: int, largest: int) -> int:
    """How many bytes of a payload stand in the page itself."""
    if length <= largest:
        return length
    smallest = (usable - 12) * 32 // 255 - 23
    left = smallest + (length - smallest) % (usable - 4)
    return left if left <= largest else smallest


@kernel
def begins_with(data: np.ndarray, at: int, length: int, word: np.ndarray, whole: bool) -> bool:
    """Whether a text begins with `word`, or is `word`."""
    if length < len(word) or (whole and length != len(word)):
        return False
    for i in range(len(word)):  # noqa: SIM110  (a generator does not compile)
        if data[at + i] != word[i]:
            return False
    return True


@kernel
def find_columns(record: np.ndarray, at: int, end: int, types: np.ndarray, places: np.ndarray) -> bool:
    """Find the first columns of a record; whether it is as expected, as far as these go."""
    columns = len(types)
    size = np.int64(record[at])
    place = at + size
    if size < 128 and size > columns and place <= end:  # nearly all say each type in one byte
        longer = np.uint8(0)
        for column in range(columns):
            serial = record[at + 1 + column]
            longer |= serial
            types[column], places[column] = serial, place
            place += SIZES[serial & np.uint8(127)]
        if longer < 128:
            return place <= end
    size, header = get_varint(record, at)
    place = stop = at + size
    for column in range(columns):
        if header >= stop:
            return False
        types[column], header = get_varint(record, header)
        places[column] = place
        place += serial_size(types[column])
        if types[column] < 0 or place < at or place > end:  # each, or their sum may come round again
            return False
    return True


@kernel
def read_table(
    data: np.ndarray,
    page_size: int,
    root: int,
    blocks: np.ndarray,
    equal_column: int,
    equal: np.ndarray,
    begin_column: int,
    begin: np.ndarray,
    filled_column: int,
    int_columns: np.ndarray,
    text_columns: np.ndarray,
    ints: np.ndarray,
    codes: np.ndarray,
    slots: np.ndarray,
    offsets: np.ndarray,
    words: np.ndarray,
    long: np.ndarray,
    fields: np.ndarray,
    before: np.ndarray,
    levels: np.ndarray,
    state: np.ndarray,
) -> int:
    """Read rows of a table with row numbers out of the pages of its file, each text as the number of a word.

    Few texts are met only once: so they take less memory, and need not be compared again.

    Parameters
    ----------
    data, page_size, root
        The whole file; bytes per page, all usable; number of the table's first page.
    blocks
        Sorted: rows are looked for where ``number >> BLOCK_BITS`` is one of these.
    equal_column, equal, begin_column, begin, filled_column
        A row is taken where one text column equals, another begins with, and a third is not empty.
    int_columns, text_columns
        Which columns to read, and as what.
    ints
        Output, shape (integers, rows).
    codes, offsets, words
        Output, shapes (texts, rows), (words + 1,), (bytes,): see `jobeff.store.pages.Texts`.
    slots
        The words that are known, see `find`; changed.
    long, fields, before
        Room for a row that goes on elsewhere, and for types and places of fields, shape (2, columns); zeros, shape
        (texts,), for the slots of the row before.
    levels, state
        Where we stand: zeros at first, shapes (4, `DEPTH`) and (4,).

    Returns
    -------
    int
        Number of rows; `BAD` where the file is not as expected; where it has to be called again, `FULL` with room for
        more words, or `LONG` with room for a row of so many bytes as the state says.
    """
    pages = len(data) // page_size
    stack, child, lows, highs = levels[0], levels[1], levels[2], levels[3]
    types, places = fields[0], fields[1]
    depth, found, count = state[READ_DEPTH], state[READ_ROWS], state[READ_WORDS]
    if stack[0] == 0:
        stack[0], lows[0], highs[0] = root, LOWEST, HIGHEST
    while depth >= 0:
        page = stack[depth]
        if page < 1 or page > pages:
            return BAD
        base = (page - 1) * page_size
        head = base + (FILE_HEADER if page == 1 else 0)
        kind, cells = data[head], big_endian(data, head + 3, 2)
        if kind == TABLE_INTERIOR:
            index = child[depth]
            if head + 12 + 2 * cells > base + page_size:
                return BAD
            if index > cells:
                depth -= 1
                continue
            child[depth] = index + 1
            low, high = lows[depth], highs[depth]
            if index == cells:
                below = big_endian(data, head + 8, 4)
            else:
                cell = base + big_endian(data, head + 12 + 2 * index, 2)
                if cell + 5 > base + page_size:
                    return BAD
                below = big_endian(data, cell, 4)
                high, _ = get_varint(data, cell + 4)
            lows[depth] = high + 1
            if any_between(blocks, low >> BLOCK_BITS, high >> BLOCK_BITS):
                depth += 1
                if depth == DEPTH:
                    return BAD
                stack[depth], child[depth], lows[depth], highs[depth] = below, 0, low, high
            continue
        if kind != TABLE_LEAF or head + 8 + 2 * cells > base + page_size:
            return BAD
        for index in range(child[depth], cells):
            cell = base + big_endian(data, head + 8 + 2 * index, 2)
            length, at = get_varint(data, cell)
            _, at = get_varint(data, at)
            local = local_size(length, page_size, page_size - 35)
            if length < 1 or at + local > base + page_size:
                return BAD
            record, end = data, at + local
            if local < length:
                if length > len(data):
                    return BAD
                if length > len(long):
                    child[depth] = index
                    state[READ_DEPTH], state[READ_ROWS], state[READ_WORDS] = depth, found, count
                    state[READ_LONG] = length
                    return LONG
                if not put_payload(data, at, length, local, page_size, pages, long):
                    return BAD
                record, at, end = long, np.int64(0), length
            if not find_columns(record, at, end, types, places):
                return BAD
            for column in (equal_column, begin_column, filled_column):
                if types[column] >= 12 and types[column] % 2 == 0:  # bytes, which are like no text
                    return BAD
            texts = types[equal_column] >= 13 and types[begin_column] >= 13 and types[filled_column] > 13
            if not texts:
                continue
            size = serial_size(types[begin_column])
            if not begins_with(record, places[begin_column], size, begin, False):
                continue
            size = serial_size(types[equal_column])
            if not begins_with(record, places[equal_column], size, equal, True):
                continue
            if found == ints.shape[1]:
                return BAD
            if count + len(text_columns) >= len(offsets) or offsets[count] + end - at > len(words):
                child[depth] = index
                state[READ_DEPTH], state[READ_ROWS], state[READ_WORDS] = depth, found, count
                return FULL
            for i in range(len(int_columns)):
                serial = types[int_columns[i]]
                if serial in (0, 7) or serial > 9:
                    return BAD
                ints[i, found] = number_at(record, places[int_columns[i]], serial)
            for i in range(len(text_columns)):
                serial, place = types[text_columns[i]], places[text_columns[i]]
                if serial < 13 or serial % 2 == 0:
                    return BAD
                stop = place + serial_size(serial)
                # As often as not it is that of the row before, which takes no call to see where it is short.
                first, last = np.int64(word_at(record, place, stop)), np.int64(last_at(record, place, stop))
                slot, size = before[i], stop - place
                if slots[slot, LENGTH] != size or slots[slot, FIRST] != first or slots[slot, LAST] != last or size > 16:
                    slot = find(slots, offsets, words, record, place, stop, first, last)
                    if slots[slot, LENGTH] == FREE:
                        add_word(slots, slot, record, place, stop, offsets, words, count)
                        count += 1
                    before[i] = slot
                codes[i, found] = slots[slot, NUMBER]
            found += 1
        depth -= 1
    state[READ_WORDS] = count
    return found


@kernel
def cell_size(page: np.ndarray, at: int, usable: int) -> int:
    """Bytes of a cell of an index tree, without the page number before it."""
    length, after = get_varint(page, at)
    local = local_size(length, usable, (usable - 12) * 64 // 255 - 23)
    return after - at + local + (4 if local < length else 0)


@kernel
def end_of_part(part: int, parts: int, steps: int) -> int:
    """Where a part of the steps through a page ends: behind a cell, those being the odd ones; or behind all of them."""
    return steps if part == parts - 1 else min(((part + 1) * steps // parts | 1) + 1, steps)


@kernel
def four_bytes(data: np.ndarray, at: int) -> int:
    """Four bytes as one number, the first the lowest; with the highest bit of each where these are not there."""
    if at + 4 > len(data):
        return np.uint64(0x80808080)
    value, i = np.uint64(0), np.uint64(at)
    for step in range(4):
        value |= np.uint64(data[i + np.uint64(step)]) << np.uint64(8 * step)
    return value


@allocating_kernel
def repeated_keys(
    data: np.ndarray,
    page_size: int,
    root: int,
    word: np.ndarray,
    part: int,
    parts: int,
    found: np.ndarray,
    numbers: np.ndarray,
    least: np.ndarray,
) -> int:
    """Numbers that stand more than once beside a text in an index of (number, text, row number).

    Parameters
    ----------
    data, page_size, root
        As for `read_table`.
    word
        The text.
    part, parts
        Which part of the index, and of how many; what stands once in each of two parts is found by one of them.
    found
        Output: each number once for every time it stands there again; what does not fit is only counted.
    numbers
        Output, shape (1,): how many numbers stand beside the text in this part.
    least
        Changed, shape (blocks,): the least number beside the text in each block of row numbers, see `BLOCK_BITS`, where
        it is less than what is there; rows behind the last block are left out.

    Returns
    -------
    int
        How many were found; `BAD` where the file is not as expected.
    """
    pages = len(data) // page_size
    stack, step = np.empty(DEPTH, dtype=np.int64), np.empty(DEPTH, dtype=np.int64)
    largest = (page_size - 12) * 64 // 255 - 23  # longer ones go on elsewhere
    count, depth = 0, 0
    before = np.int64(0)
    numbers[0] = 0
    stack[0], step[0] = root, 0
    while depth >= 0:
        page = stack[depth]
        if page < 2 or page > pages:
            return BAD
        base = (page - 1) * page_size
        kind, cells = data[base], big_endian(data, base + 3, 2)
        interior = kind == INDEX_INTERIOR
        head = 12 if interior else 8
        if (not interior and kind != INDEX_LEAF) or head + 2 * cells > page_size:
            return BAD
        first, last = 0, cells
        if interior:  # in turn: the page before a cell, the cell, ..., the page behind the last
            behind = 2 * cells + 1
            if depth == 0:  # a part begins with the cell that the one before it ends with, but for the first
                behind = end_of_part(part, parts, behind)
                if step[0] == 0 and part > 0:
                    before_it = end_of_part(part - 1, parts, 2 * cells + 1)
                    step[0] = before_it - 1 if before_it <= 2 * cells else before_it
            now = step[depth]
            step[depth] = now + 1
            if now >= behind:
                depth -= 1
                continue
            first, last = now // 2, now // 2 + 1
            if now % 2 == 0:
                at = base + 8
                if first < cells:
                    at = base + big_endian(data, base + head + 2 * first, 2)
                depth += 1
                if depth == DEPTH or at + 4 > len(data):
                    return BAD
                stack[depth], step[depth] = big_endian(data, at, 4), 0
                continue
        else:
            depth -= 1
            if depth < 0 and part > 0:
                return 0
        for index in range(first, last):
            at = base + big_endian(data, base + head + 2 * index, 2) + (4 if interior else 0)
            four = four_bytes(data, at)
            if four & np.uint64(0x80808080) == 0:  # as nearly all: the length, and what the record says first
                length, size = np.int64(four & np.uint64(255)), np.int64(four >> np.uint64(8) & np.uint64(255))
                number_type, text_type = (
                    np.int64(four >> np.uint64(16) & np.uint64(255)),
                    np.int64(four >> np.uint64(24)),
                )
                at += 1
                header = at + 3
            else:
                length, at = get_varint(data, at)
                size, header = get_varint(data, at)
                number_type, header = get_varint(data, header)
                text_type, header = get_varint(data, header)
            if length < 3 or length > largest or at + length > base + page_size:
                return BAD
            end = at + length
            if size < 3 or size > length or number_type < 1 or number_type == 7 or number_type > 9:
                return BAD
            place = at + size + serial_size(number_type)
            if place > end or text_type < 0 or serial_size(text_type) > end - place:
                return BAD
            if text_type < 13 or text_type % 2 == 0 or not begins_with(data, place, serial_size(text_type), word, True):
                continue
            number = number_at(data, at + size, number_type)
            if len(least) > 0:
                if header >= at + size:
                    return BAD
                row_type = np.int64(data[header])  # none that is sound takes two bytes
                place += serial_size(text_type)
                if row_type < 1 or row_type == 7 or row_type > 9:
                    return BAD
                if place + serial_size(row_type) > end:
                    return BAD
                block = number_at(data, place, row_type) >> BLOCK_BITS
                if 0 <= block < len(least):
                    least[block] = min(least[block], number)
            if numbers[0] > 0 and number == before:
                if count < len(found):
                    found[count] = number
                count += 1
            before = number
            numbers[0] += 1
    return count
