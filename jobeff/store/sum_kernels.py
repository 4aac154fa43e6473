"""Numba kernels: checksums of rows, added up by block."""

from __future__ import annotations

import numpy as np

from jobeff.jit import allocating_kernel, kernel
from jobeff.store.format_kernels import (
    BAD,
    BEFORE_TEXT,
    DEPTH,
    INDEX_INTERIOR,
    INDEX_LEAF,
    TABLE_INTERIOR,
    TABLE_LEAF,
    TAG_INTEGER,
    TAG_NULL,
    TAG_REAL,
    TAG_TEXT,
    big_endian,
    get_eight,
    get_varint,
    number_at,
    serial_size,
)
from jobeff.store.table_kernels import local_size, whole_payload

# Where `sum_rows` stands between two calls.
STEP_DEPTH, STEP_PAGES = range(2)


@kernel
def find_fields(record: np.ndarray, at: int, end: int, types: np.ndarray, places: np.ndarray) -> bool:
    """Find the fields of a record; whether it is whole, has as many as there should be, and none of them is bytes."""
    size, header = get_varint(record, at)
    stop = at + size
    if size < 1 or stop > end:
        return False
    place = stop
    for column in range(len(types)):
        if header >= stop:
            return False
        serial = np.int64(record[header])
        header += 1
        if serial >= 128:
            serial, header = get_varint(record, header - 1)
        if serial < 0 or serial == 10 or serial == 11 or (serial >= 12 and serial % 2 == 0):
            return False
        types[column], places[column] = serial, place
        place += serial_size(serial)
        if place < stop or place > end:
            return False
    return header == stop and place == end


@kernel
def crc32_eight(crc: int, value: int, table: np.ndarray) -> int:
    """Go on with a CRC-32 by eight bytes, the lowest first; all unsigned, so that no index may be negative."""
    x = value ^ crc
    byte = np.uint64(255)
    first = np.uint64(table[7, x & byte]) ^ np.uint64(table[6, (x >> np.uint64(8)) & byte])
    second = np.uint64(table[5, (x >> np.uint64(16)) & byte]) ^ np.uint64(table[4, (x >> np.uint64(24)) & byte])
    third = np.uint64(table[3, (x >> np.uint64(32)) & byte]) ^ np.uint64(table[2, (x >> np.uint64(40)) & byte])
    fourth = np.uint64(table[1, (x >> np.uint64(48)) & byte]) ^ np.uint64(table[0, x >> np.uint64(56)])
    return first ^ second ^ third ^ fourth


@kernel
def crc32_one(crc: int, value: int, table: np.ndarray) -> int:
    """Go on with a CRC-32 by one byte."""
    return np.uint64(table[0, (crc ^ value) & np.uint64(255)]) ^ (crc >> np.uint64(8))


@kernel
def crc32_text(crc: int, data: np.ndarray, begin: int, size: int, table: np.ndarray) -> int:
    """Go on with a CRC-32 by bytes of an array."""
    at, end = np.uint64(begin), np.uint64(begin + size)
    while at + np.uint64(8) <= end:
        crc = crc32_eight(crc, get_eight(data, at), table)
        at += np.uint64(8)
    while at < end:
        crc = crc32_one(crc, np.uint64(data[at]), table)
        at += np.uint64(1)
    return crc


@kernel
def row_checksum(
    record: np.ndarray,
    types: np.ndarray,
    places: np.ndarray,
    fields: np.ndarray,
    is_real: np.ndarray,
    row_number: int,
    number: np.ndarray,
    table: np.ndarray,
) -> int:
    """Checksum of a row, as `jobeff.store.row_sums` describes it.

    Parameters
    ----------
    record, types, places
        The record, and what `find_fields` has found in it.
    fields, is_real
        Shape (columns,): which field each of the table's columns is, -1 being the row number; whether it holds reals,
        of which SQLite stores the whole ones as integers.
    row_number
        Of the row.
    number
        Scratch: one real.
    table
        From `jobeff.store.crc_kernels.crc32_table`.

    Returns
    -------
    int
        CRC-32.
    """
    bits = number.view(np.int64)
    crc, tags = np.uint64(0xFFFFFFFF), np.uint64(0)
    for column in range(len(fields)):
        serial = types[fields[column]] if fields[column] >= 0 else np.int64(6)
        tag = TAG_INTEGER
        if serial == 0:
            tag = TAG_NULL
        elif serial >= 12:
            tag = TAG_TEXT
        elif serial == 7 or is_real[column]:
            tag = TAG_REAL
        tags |= np.uint64(tag) << np.uint64(8 * (column & 7))
        if column & 7 == 7:
            crc, tags = crc32_eight(crc, tags, table), np.uint64(0)
    for _ in range(len(fields) & 7):
        crc = crc32_one(crc, tags & np.uint64(255), table)
        tags >>= np.uint64(8)
    for column in range(len(fields)):
        field = fields[column]
        value = np.int64(row_number)
        if field >= 0:
            serial = types[field]
            if serial == 0 or serial >= 12:
                continue
            value = number_at(record, places[field], serial)
            if is_real[column] and serial != 7:
                number[0] = np.float64(value)
                value = bits[0]
        crc = crc32_eight(crc, np.uint64(value), table)
    for column in range(len(fields)):
        field = fields[column]
        if field >= 0 and types[field] >= 12:
            crc = crc32_one(crc, np.uint64(BEFORE_TEXT), table)
            crc = crc32_text(crc, record, places[field], serial_size(types[field]), table)
    return np.int64(crc ^ np.uint64(0xFFFFFFFF))


@kernel
def add_to_key(key: int, byte: int) -> int:
    """Go on with a hash of 62 bits by a byte: two of 31 bits, which can be multiplied without loss."""
    high = ((((key >> 31) ^ byte) + 1) * 16777619) & 0x7FFFFFFF
    low = ((key & 0x7FFFFFFF) * 69069 + byte + 1) & 0x7FFFFFFF
    return (high << 31) | low


@kernel
def name_key(name: np.ndarray) -> int:
    """The number of a block's name, see `block_key`."""
    key = np.int64(0)
    for i in range(len(name)):
        key = add_to_key(key, np.int64(name[i]))
    return key


@kernel
def block_key(record: np.ndarray, types: np.ndarray, places: np.ndarray, parts: np.ndarray, lengths: np.ndarray) -> int:
    """A number for the block that a row is in, see `add_to_key`."""
    key = np.int64(0)
    for part in range(len(parts)):
        if part > 0:
            key = add_to_key(key, np.int64(47))
        length = serial_size(types[parts[part]]) if types[parts[part]] >= 12 else 0
        if lengths[part] >= 0:
            length = min(length, lengths[part])
        begin = places[parts[part]]
        for at in range(begin, begin + length):
            key = add_to_key(key, np.int64(record[at]))
    return key


@kernel
def find_key(keys: np.ndarray, key: int) -> int:
    """Where a number stands among sorted ones; their count where it does not."""
    begin, end = 0, len(keys)
    while begin < end:
        middle = (begin + end) // 2
        if keys[middle] < key:
            begin = middle + 1
        else:
            end = middle
    return begin if begin < len(keys) and keys[begin] == key else len(keys)


@allocating_kernel
def sum_rows(
    data: np.ndarray,
    page_size: int,
    columns: int,
    fields: np.ndarray,
    is_real: np.ndarray,
    parts: np.ndarray,
    lengths: np.ndarray,
    keys: np.ndarray,
    wanted: np.ndarray,
    table: np.ndarray,
    stack: np.ndarray,
    step: np.ndarray,
    state: np.ndarray,
    budget: int,
    rows: np.ndarray,
    sums: np.ndarray,
) -> int:
    """Rows and sums by block of a table of either kind, some pages at a time.

    Parameters
    ----------
    data, page_size
        The whole file; bytes per page, all usable.
    columns
        Fields that a record has.
    fields, is_real, table
        See `row_checksum`.
    parts, lengths
        Which fields a block's name is made of, and how many bytes of each; -1 means all.
    keys
        `block_key` of the blocks, sorted.
    wanted
        Shape (blocks + 1,): whether to sum a block; the last one takes all that is in none of them.
    stack, step, state
        Where we stand: pages above, and steps in each; depth, and pages read.
    budget
        How many pages to read now.
    rows, sums
        Shape (blocks + 1,): added to.

    Returns
    -------
    int
        1 when done, 0 when there is more, `BAD` where pages are not as expected.
    """
    pages = len(data) // page_size
    types, places = np.empty(columns, dtype=np.int64), np.empty(columns, dtype=np.int64)
    number = np.empty(1, dtype=np.float64)
    index_largest = (page_size - 12) * 64 // 255 - 23
    stop = state[STEP_PAGES] + budget
    last_key = np.int64(0)
    last_block = np.int64(-1)
    while state[STEP_DEPTH] >= 0:
        depth = state[STEP_DEPTH]
        page = stack[depth]
        if page < 2 or page > pages:
            return BAD
        base = (page - 1) * page_size
        kind, cells = np.int64(data[base]), big_endian(data, base + 3, 2)
        interior = kind in (INDEX_INTERIOR, TABLE_INTERIOR)
        in_table = kind in (TABLE_INTERIOR, TABLE_LEAF)
        top = 12 if interior else 8
        if not (interior or kind in (INDEX_LEAF, TABLE_LEAF)) or top + 2 * cells > page_size:
            return BAD
        now = step[depth]
        if now == 0:
            if state[STEP_PAGES] >= stop:
                return 0
            state[STEP_PAGES] += 1
            if state[STEP_PAGES] > pages:
                return BAD
        first, last = np.int64(0), cells
        if interior:  # in turn: the page before a cell, the cell, ..., the page behind the last
            step[depth] = now + 1
            if now > 2 * cells:
                state[STEP_DEPTH] = depth - 1
                continue
            first, last = now // 2, now // 2 + 1
            if now % 2 == 0:
                at = base + 8
                if first < cells:
                    at = base + big_endian(data, base + top + 2 * first, 2)
                if depth + 1 == DEPTH or at + 4 > len(data):
                    return BAD
                state[STEP_DEPTH] = depth + 1
                stack[depth + 1], step[depth + 1] = big_endian(data, at, 4), 0
                continue
            if in_table:
                continue
        else:
            state[STEP_DEPTH] = depth - 1
        for index in range(first, last):
            at = base + big_endian(data, base + top + 2 * index, 2) + (4 if interior else 0)
            length, at = get_varint(data, at)
            row_number = np.int64(0)
            largest = index_largest
            if in_table:
                row_number, at = get_varint(data, at)
                largest = page_size - 35
            if length < 1 or length > len(data):
                continue
            local = local_size(length, page_size, largest)
            if at + local > base + page_size:
                continue
            record, end = data, at + local
            if local < length:
                record = whole_payload(data, at, length, local, page_size, pages)
                at, end = 0, len(record)
            if not find_fields(record, at, end, types, places):
                continue
            key = block_key(record, types, places, parts, lengths)
            if last_block < 0 or key != last_key:
                last_key, last_block = key, find_key(keys, key)
            if wanted[last_block]:
                rows[last_block] += 1
                sums[last_block] += row_checksum(record, types, places, fields, is_real, row_number, number, table)
    return 1
