"""Kernels that write the pages of a shard straight from its arrays.

What `jobeff.store.shard_kernels` reads, and any reader of Parquet: one row group, pages of the first version without
compression. Arrow takes several times as long for a month of a node, which is small: most of that are fixed costs of
each column and levels value by value, where lists say in a few runs what the levels are. The format:
https://parquet.apache.org/docs/file-format/
"""

from __future__ import annotations

import numpy as np

from jobeff.jit import allocating_kernel, kernel
from jobeff.store.crc_kernels import crc32_of

PLAIN, RLE, DELTA_BINARY_PACKED, RLE_DICTIONARY = 0, 3, 5, 8
DATA_PAGE, DICTIONARY_PAGE = 0, 2
MAX_DICTIONARY = 1 << 18  # entries; a page of them is 1 MiB
DICTIONARY_COST = 20  # bytes of its page header and of what the footer says of it
GROUPS = 63  # groups of eight in one bit-packed run, so that its head is one byte and can be written afterwards
BLOCK, PART = 128, 32  # values in a block of differences, and in a part of it that has one width
HASH_BITS = 10

# A page, as `note` takes it down.
COLUMN, KIND, VALUES, ENCODING, BEGIN, END = range(6)
PAGES = 0  # how many there are
# What the footer says of values.
KNOWN, NULLS, LEAST, MOST = range(4)
# What it says of a column.
FIRST_PAGE, DICTIONARY_AT, DATA_AT, LAST_END, COUNT, ENCODINGS = range(6)

# Types of the compact protocol in which Parquet writes its headers.
I16, I32, I64, BINARY, LIST, STRUCT = 4, 5, 6, 8, 9, 12


@kernel
def put_eight(out: np.ndarray, at: int, bits: int) -> None:
    """Write eight bytes, the lowest first; the compiler makes one store of it."""
    i = np.uint64(at)
    out[i] = bits & np.uint64(255)
    out[i + np.uint64(1)] = (bits >> np.uint64(8)) & np.uint64(255)
    out[i + np.uint64(2)] = (bits >> np.uint64(16)) & np.uint64(255)
    out[i + np.uint64(3)] = (bits >> np.uint64(24)) & np.uint64(255)
    out[i + np.uint64(4)] = (bits >> np.uint64(32)) & np.uint64(255)
    out[i + np.uint64(5)] = (bits >> np.uint64(40)) & np.uint64(255)
    out[i + np.uint64(6)] = (bits >> np.uint64(48)) & np.uint64(255)
    out[i + np.uint64(7)] = bits >> np.uint64(56)


@kernel
def put_four(out: np.ndarray, at: int, bits: int) -> None:
    """Write four bytes, the lowest first; the compiler makes one store of it."""
    i = np.uint64(at)
    out[i] = bits & np.uint64(255)
    out[i + np.uint64(1)] = (bits >> np.uint64(8)) & np.uint64(255)
    out[i + np.uint64(2)] = (bits >> np.uint64(16)) & np.uint64(255)
    out[i + np.uint64(3)] = (bits >> np.uint64(24)) & np.uint64(255)


@kernel
def put_varint(out: np.ndarray, at: int, value: int) -> int:
    """Write a number, seven bits a byte, the lowest first; returns where it ends."""
    left = np.uint64(np.int64(value))
    while left > np.uint64(127):
        out[at] = (left & np.uint64(127)) | np.uint64(128)
        left >>= np.uint64(7)
        at += 1
    out[at] = left
    return at + 1


@kernel
def put_signed(out: np.ndarray, at: int, value: int) -> int:
    """Write a number with the sign as the lowest bit; returns where it ends."""
    number = np.int64(value)
    return put_varint(out, at, (number << np.int64(1)) ^ (number >> np.int64(63)))


@kernel
def put_field(out: np.ndarray, at: int, head: int, value: int) -> int:
    """Write a field that is a number; `head` says its type, and how far its number is from that before."""
    out[at] = head
    return put_signed(out, at + 1, value)


@kernel
def bits_of(value: int) -> int:
    """How many bits a number has, taken without sign."""
    left, width = np.uint64(value), 0
    while left > np.uint64(0):
        left >>= np.uint64(1)
        width += 1
    return width


@kernel
def put_bits(out: np.ndarray, at: int, lengths: np.ndarray, count: int) -> int:
    """Write levels, behind their size in bytes.

    Parameters
    ----------
    out, at
        Where to.
    lengths, count
        How long the runs of equal levels are, the first one of zeros, which may be empty, then by turns.

    Returns
    -------
    int
        Where they end.
    """
    begin, head, groups, byte, fill = at, -1, 0, 0, 0
    at += 4
    for run in range(count):
        left = lengths[run]
        ones = 255 * (run & 1)
        if fill > 0:  # a group of eight is begun and has to be filled
            take = min(left, 8 - fill)
            byte |= (ones & ((1 << take) - 1)) << fill
            fill += take
            left -= take
            if fill == 8:
                out[at] = byte
                at += 1
                groups += 1
                byte, fill = 0, 0
        if left == 0:
            continue
        # A run takes two bytes or three, and the next bit-packed run a head; the last one is not followed by any.
        if left >= 24 or (run == count - 1 and (head < 0 or left > 16)):
            if head >= 0:
                out[head] = groups << 1 | 1
                head = -1
            at = put_varint(out, at, left << 1)
            out[at] = run & 1
            at += 1
            continue
        while left > 0:
            if head < 0 or groups == GROUPS:
                if head >= 0:
                    out[head] = groups << 1 | 1
                head, groups = at, 0
                at += 1
            take = min(left, 8)
            left -= take
            byte = ones & ((1 << take) - 1)
            fill = take
            if fill == 8:
                out[at] = byte
                at += 1
                groups += 1
                byte, fill = 0, 0
    if fill > 0:
        out[at] = byte
        at += 1
        groups += 1
    if head >= 0:
        out[head] = groups << 1 | 1
    put_four(out, begin, np.uint64(at - begin - 4))
    return at


@kernel
def all_have(begins: np.ndarray, valid: np.ndarray, row: int, last: int) -> bool:
    """Whether all of some rows have values, see `put_levels`."""
    lack = False
    if len(begins) > 0:
        for i in range(row, last):  # all of them, without a branch for each
            lack |= begins[np.uint64(i)] == begins[np.uint64(i + 1)]
    else:
        for i in range(row, last):
            lack |= valid[np.uint64(i)] == 0
    return not lack


@kernel
def put_levels(
    out: np.ndarray, at: int, begins: np.ndarray, valid: np.ndarray, row: int, last: int, lengths: np.ndarray
) -> int:
    """Write the levels of some rows, straight from where their lists begin or which of them are valid.

    Parameters
    ----------
    out, at
        Where to.
    begins
        Where lists begin and the last one ends; empty where the column has no lists.
    valid
        Which rows are not null; empty where none can be.
    row, last
        The rows.
    lengths
        Room for two runs a row and two more.

    Returns
    -------
    int
        Where they end.
    """
    if len(begins) == 0 and len(valid) == 0:
        return at
    if len(begins) > 0:
        run = 0
        lengths[0] = 0
        for i in range(row, last):
            count = np.int64(begins[i + 1]) - np.int64(begins[i])
            if run & 1 == 1:
                run += 1
                lengths[run] = 0
            lengths[run] += 1
            if count > 1:
                run += 1
                lengths[run] = count - 1
        at = put_bits(out, at, lengths, run + 1)
    run = 0
    lengths[0] = 0
    if all_have(begins, valid, row, last):  # as nearly all rows do
        lengths[1] = np.int64(last - row)
        if len(begins) > 0:
            lengths[1] = np.int64(begins[last]) - np.int64(begins[row])
        return put_bits(out, at, lengths, np.int64(2))
    for i in range(row, last):
        if len(begins) > 0:
            count = np.int64(begins[i + 1]) - np.int64(begins[i])
            bit = 1 if count > 0 else 0
        else:
            count, bit = np.int64(1), np.int64(valid[i])
        if run & 1 != bit:
            run += 1
            lengths[run] = 0
        lengths[run] += max(1, count)
    return put_bits(out, at, lengths, run + 1)


@kernel
def are_same(begins: np.ndarray, others: np.ndarray) -> bool:
    """Whether lists begin and end at the same places."""
    if len(begins) != len(others):
        return False
    differ = np.int64(0)
    for i in range(len(begins)):  # all of them, without a branch for each
        differ |= np.int64(begins[i]) ^ np.int64(others[i])
    return differ == 0


@kernel
def put_same_levels(out: np.ndarray, at: int, begin: int) -> int:
    """Write the levels of lists once more that have been written before, for another column; returns where they end."""
    end = begin
    for _ in range(2):  # their repetition, and their definition
        size = np.int64(0)
        for byte in range(4):
            size |= np.int64(out[end + byte]) << np.int64(8 * byte)
        end += 4 + size
    for i in range(end - begin):
        out[np.uint64(at + i)] = out[np.uint64(begin + i)]
    return at + end - begin


@kernel
def page_rows(begins: np.ndarray, row: int, rows: int, most: int) -> tuple[int, int]:
    """Up to which row a page goes that begins with one, and how many levels it has; lists are not divided."""
    if len(begins) == 0:
        last = min(rows, row + most)
        return last, last - row
    last, levels = row, np.int64(0)
    while last < rows:
        more = max(np.int64(1), np.int64(begins[last + 1]) - np.int64(begins[last]))
        if last > row and levels + more > most:
            break
        levels += more
        last += 1
    return last, levels


@kernel
def note(
    pages: np.ndarray, counts: np.ndarray, column: int, kind: int, values: int, encoding: int, begin: int, end: int
) -> None:
    """Take down a page: its column, kind, number of values, and where its body stands."""
    page = counts[PAGES]
    pages[page, COLUMN], pages[page, KIND], pages[page, VALUES] = column, kind, values
    pages[page, ENCODING], pages[page, BEGIN], pages[page, END] = encoding, begin, end
    counts[PAGES] = page + 1


@allocating_kernel
def put_deltas(out: np.ndarray, at: int, values: np.ndarray, begin: int, count: int) -> int:
    """Write differences in bit-packed blocks; returns where they end."""
    at = put_varint(out, at, np.int64(BLOCK))
    at = put_varint(out, at, np.int64(BLOCK // PART))
    at = put_varint(out, at, count)
    at = put_signed(out, at, values[begin] if count > 0 else np.int64(0))
    steps = np.zeros(BLOCK, dtype=np.int64)
    done = 1
    while done < count:
        size = min(BLOCK, count - done)
        least = np.int64(0x7FFFFFFFFFFFFFFF)
        for i in range(size):
            # Places without a sign cannot count from the end, so that several steps are taken at once.
            u = np.uint64(begin + done + i)
            step = values[u] - values[u - np.uint64(1)]  # may overflow, and back when it is read
            steps[np.uint64(i)] = step
            least = min(least, step)
        for i in range(size, BLOCK):
            steps[i] = least
        at = put_signed(out, at, least)
        widths = at
        at += BLOCK // PART
        for part in range(BLOCK // PART):
            first = part * PART
            if first >= size:
                out[widths + part] = 0
                continue
            used = np.uint64(0)
            for i in range(first, first + PART):
                steps[np.uint64(i)] -= least
                used |= np.uint64(steps[np.uint64(i)])
            width = bits_of(used)
            out[widths + part] = width
            word, fill = np.uint64(0), 0
            for i in range(first, first + PART):
                step = np.uint64(steps[np.uint64(i)])
                word |= step << np.uint64(fill)
                fill += width
                if fill >= 64:
                    put_eight(out, at, word)
                    at += 8
                    fill -= 64
                    word = step >> np.uint64(width - fill) if fill > 0 else np.uint64(0)
            if fill > 0:
                put_eight(out, at, word)
                at += fill // 8
        done += size
    return at


@allocating_kernel
def put_longs(
    out: np.ndarray,
    at: int,
    column: int,
    values: np.ndarray,
    begins: np.ndarray,
    valid: np.ndarray,
    rows: int,
    most: int,
    lengths: np.ndarray,
    pages: np.ndarray,
    counts: np.ndarray,
) -> int:
    """Write the pages of a column of 64 bits as differences.

    Parameters
    ----------
    out, at
        Where to.
    column
        Its number.
    values
        All that are not null, of lists one behind the other.
    begins, valid, lengths
        See `put_levels`.
    rows, most
        How many rows, and levels in a page.
    pages, counts
        See `note`.

    Returns
    -------
    int
        Where they end.
    """
    row, value = np.int64(0), np.int64(0)
    while row < rows:
        last, levels = page_rows(begins, row, rows, most)
        begin = at
        at = put_levels(out, at, begins, valid, row, last, lengths)
        count = np.int64(last - row)
        if len(begins) > 0:
            count = np.int64(begins[last]) - np.int64(begins[row])
        elif len(valid) > 0:
            count = np.int64(0)
            for i in range(row, last):
                count += np.int64(valid[i])
        body, encoding = at, np.int64(DELTA_BINARY_PACKED)
        at = put_deltas(out, body, values, value, count)
        if at - body > 8 * count:
            at, encoding = body, np.int64(PLAIN)
            for i in range(value, value + count):
                put_eight(out, at, np.uint64(values[i]))
                at += 8
        note(pages, counts, column, np.int64(DATA_PAGE), levels, encoding, begin, at)
        row, value = last, value + count
    return at


@kernel
def put_group(out: np.ndarray, at: int, index: np.ndarray, i: int, width: int) -> None:
    """Write eight indexes of up to 16 bits each; what stands behind them is overwritten."""
    u, w = np.uint64(i), np.uint64(width)
    low = np.uint64(index[u]) | np.uint64(index[u + np.uint64(1)]) << w
    low |= np.uint64(index[u + np.uint64(2)]) << (w + w)
    low |= np.uint64(index[u + np.uint64(3)]) << (w + w + w)
    high = np.uint64(index[u + np.uint64(4)]) | np.uint64(index[u + np.uint64(5)]) << w
    high |= np.uint64(index[u + np.uint64(6)]) << (w + w)
    high |= np.uint64(index[u + np.uint64(7)]) << (w + w + w)
    if width == 16:
        put_eight(out, at, low)
        put_eight(out, at + 8, high)
        return
    half = np.uint64(4) * w
    put_eight(out, at, low | high << half)
    if width > 8:
        put_eight(out, at + 8, high >> (np.uint64(64) - half))


@kernel
def put_indexes(out: np.ndarray, at: int, index: np.ndarray, begin: int, count: int, width: int) -> int:
    """Write indexes as runs and bit-packed groups of eight; returns where they end."""
    if width == 0:
        return put_varint(out, at, count << 1) if count > 0 else at
    # A shorter run is no smaller than the same indexes in a bit-packed run, which it would break in two.
    least = 24 if width == 1 else 16 if width == 2 else 8
    head, groups = -1, 0
    i, end = begin, begin + count
    while i < end:
        u = np.uint64(i)
        first = index[u]
        after = i
        if i + 8 <= end:
            # All eight at once: a branch for each would be foretold wrongly about once in each group.
            differ = (first ^ index[u + np.uint64(1)]) | (first ^ index[u + np.uint64(2)])
            differ |= (first ^ index[u + np.uint64(3)]) | (first ^ index[u + np.uint64(4)])
            differ |= (first ^ index[u + np.uint64(5)]) | (first ^ index[u + np.uint64(6)])
            if differ | (first ^ index[u + np.uint64(7)]) == 0:
                after = i + 8
        if after > i or (i + 8 > end and head < 0):
            after = max(after, i + 1)
            while after < end and index[np.uint64(after)] == first:
                after += 1
        if after - i >= least or (after == end and head < 0):
            if head >= 0:
                out[head] = groups << 1 | 1
                head = -1
            at = put_varint(out, at, (after - i) << 1)
            for byte in range((width + 7) // 8):
                out[at] = (first >> (8 * byte)) & 255
                at += 1
            i = after
            continue
        if head < 0 or groups == GROUPS:
            if head >= 0:
                out[head] = groups << 1 | 1
            head, groups = at, 0
            at += 1
        if i + 8 <= end and width <= 16:
            put_group(out, at, index, i, width)
        else:
            for byte in range(width):
                out[at + byte] = 0
            for k in range(min(8, end - i)):
                for bit in range(width):
                    if (index[i + k] >> bit) & 1:
                        out[at + (k * width + bit) // 8] |= 1 << ((k * width + bit) % 8)
        at += width
        groups += 1
        i += 8
    if head >= 0:
        out[head] = groups << 1 | 1
    return at


@kernel
def number_by_table(
    values: np.ndarray, least: int, table: np.ndarray, index: np.ndarray, dictionary: np.ndarray
) -> int:
    """Number values that are near to each other, in order of first appearance.

    Parameters
    ----------
    values, least
        To be numbered; the least of them or less.
    table
        One element for each value there can be from `least` on, -1 before and after.
    index
        Output: the number of each.
    dictionary
        Output: the values that are numbered so.

    Returns
    -------
    int
        How many there are.
    """
    size = np.int64(0)
    for i in range(len(values)):
        place = np.uint64(np.int64(values[i]) - least)
        number = np.int64(table[place])
        if number < 0:
            number = size
            table[place] = size
            dictionary[size] = values[i]
            size += 1
        index[np.uint64(i)] = number
    for i in range(size):
        table[np.int64(dictionary[i]) - least] = -1
    return size


@kernel
def slot_of(value: int, bits: int) -> int:
    """Where a value is looked for first in a table of 2**bits."""
    mixed = (np.uint64(value) & np.uint64(0xFFFFFFFF)) * np.uint64(0x9E3779B1)
    return np.int64((mixed & np.uint64(0xFFFFFFFF)) >> np.uint64(32 - bits))


@kernel
def number_by_hash(values: np.ndarray, slots: np.ndarray, index: np.ndarray, dictionary: np.ndarray) -> int:
    """Number values of 32 bits in order of first appearance.

    Parameters
    ----------
    values
        To be numbered.
    slots
        Room for four times as many as there can be in a dictionary.
    index
        Output: the number of each.
    dictionary
        Output: the values that are numbered so.

    Returns
    -------
    int
        How many there are, 0 where there are too many.
    """
    bits = HASH_BITS
    slots[: 1 << bits] = -1
    size, number = np.int64(0), np.int64(0)
    for i in range(len(values)):
        value = values[i]
        if i == 0 or value != values[i - 1]:
            slot = slot_of(value, bits)
            while slots[slot] >= 0 and dictionary[slots[slot]] != value:
                slot = (slot + 1) & ((1 << bits) - 1)
            number = np.int64(slots[slot])
            if number < 0:
                if size == MAX_DICTIONARY:
                    return np.int64(0)
                number = size
                slots[slot] = size
                dictionary[size] = value
                size += 1
                if 2 * size > 1 << bits:
                    bits += 2
                    slots[: 1 << bits] = -1
                    for k in range(size):
                        slot = slot_of(dictionary[k], bits)
                        while slots[slot] >= 0:
                            slot = (slot + 1) & ((1 << bits) - 1)
                        slots[slot] = k
        index[i] = number
    return size


@kernel
def number(values: np.ndarray, table: np.ndarray, slots: np.ndarray, index: np.ndarray, dictionary: np.ndarray) -> int:
    """Number values of 32 bits, see `number_by_table` and `number_by_hash`."""
    if len(values) == 0:
        return np.int64(0)
    least, most = values[0], values[0]
    for i in range(len(values)):
        least, most = min(least, values[i]), max(most, values[i])
    if least == most:  # as of nodes without swap; an index of one value has no bits, so that nobody reads it
        dictionary[0] = least
        return np.int64(1)
    # GiB x 100 are below 65,536 on most nodes; a table takes a tenth of the time.
    if np.int64(most) - np.int64(least) < len(table):
        return number_by_table(values, np.int64(least), table, index, dictionary)
    return number_by_hash(values, slots, index, dictionary)


@kernel
def put_value_pages(
    out: np.ndarray,
    at: int,
    column: int,
    values: np.ndarray,
    index: np.ndarray,
    dictionary: np.ndarray,
    width: int,
    begins: np.ndarray,
    twin: int,
    rows: int,
    most: int,
    lengths: np.ndarray,
    pages: np.ndarray,
    counts: np.ndarray,
) -> tuple[int, int, int]:
    """Write data pages of indexes, or of plain values where their width is negative.

    Returns
    -------
    end, level_bytes, count
        Where they end; how much of it are levels; how many values there were.
    """
    valid = out[:0]
    row, value, level_bytes = np.int64(0), np.int64(0), np.int64(0)
    while row < rows:
        last, levels = page_rows(begins, row, rows, most)
        begin = at
        if twin >= 0:
            at = put_same_levels(out, at, pages[twin, BEGIN])
            twin += 1
        else:
            at = put_levels(out, at, begins, valid, row, last, lengths)
        level_bytes += at - begin
        count = np.int64(last - row)
        if len(begins) > 0:
            count = np.int64(begins[last]) - np.int64(begins[row])
        encoding = np.int64(PLAIN)
        if width >= 0:
            encoding = np.int64(RLE_DICTIONARY)
            out[at] = width
            at = put_indexes(out, at + 1, index, value, count, width)
        else:
            for i in range(value, value + count):
                # The columns of 32 bits have no dictionary, at times; that of 16 bits always has.
                plain = np.int64(values[i]) if len(values) > 0 else np.int64(dictionary[index[i]])
                put_four(out, at, np.uint64(plain))
                at += 4
        note(pages, counts, column, np.int64(DATA_PAGE), levels, encoding, begin, at)
        row, value = last, value + count
    return at, level_bytes, value


@kernel
def put_values(
    out: np.ndarray,
    at: int,
    column: int,
    values: np.ndarray,
    index: np.ndarray,
    dictionary: np.ndarray,
    size: int,
    begins: np.ndarray,
    twin: int,
    rows: int,
    most: int,
    lengths: np.ndarray,
    pages: np.ndarray,
    counts: np.ndarray,
) -> int:
    """Write the pages of a column of 32 bits, with a dictionary where that is smaller.

    Parameters
    ----------
    out, at, column
        See `put_longs`.
    values
        All, of lists one behind the other; empty where a dictionary is given that has them in any case.
    index, dictionary, size
        Their numbers, and which values those are, and how many; 0 where there is no dictionary.
    begins, rows, most, lengths, pages, counts
        See `put_longs`.
    twin
        The first page of a column whose lists begin at the same places, so that its levels are the same; negative
        where there is none.

    Returns
    -------
    int
        Where they end.
    """
    begin, before = at, counts[PAGES]
    width = bits_of(np.uint64(size - 1)) if size > 0 else np.int64(-1)
    while True:
        if width >= 0:
            for i in range(size):
                put_four(out, at, np.uint64(np.int64(dictionary[i])))
                at += 4
            note(pages, counts, column, np.int64(DICTIONARY_PAGE), size, np.int64(PLAIN), begin, at)
        at, level_bytes, count = put_value_pages(
            out, at, column, values, index, dictionary, width, begins, twin, rows, most, lengths, pages, counts
        )
        if width < 0 or at - begin - level_bytes + DICTIONARY_COST <= 4 * count:
            return at
        at, counts[PAGES], width = begin, before, np.int64(-1)


@kernel
def describe(values: np.ndarray, rows: int, known: np.ndarray, column: int) -> None:
    """Look for the least and the largest value."""
    known[column, KNOWN], known[column, NULLS] = 1, rows - len(values)
    if len(values) > 0:
        least, most = values[0], values[0]
        for i in range(len(values)):
            least, most = min(least, values[i]), max(most, values[i])
        known[column, KNOWN], known[column, LEAST], known[column, MOST] = 2, least, most


@allocating_kernel
def encode(
    job_id: np.ndarray,
    first: np.ndarray,
    last: np.ndarray,
    cores: np.ndarray,
    rejected: np.ndarray,
    offset: np.ndarray,
    size: np.ndarray,
    crc32: np.ndarray,
    first_valid: np.ndarray,
    last_valid: np.ndarray,
    time_begin: np.ndarray,
    limit_begin: np.ndarray,
    used_begin: np.ndarray,
    max_begin: np.ndarray,
    swap_begin: np.ndarray,
    core_begin: np.ndarray,
    time: np.ndarray,
    limit: np.ndarray,
    used: np.ndarray,
    max_used: np.ndarray,
    swap: np.ndarray,
    core: np.ndarray,
    most: int,
    table: np.ndarray,
    slots: np.ndarray,
    index: np.ndarray,
    lengths: np.ndarray,
    out: np.ndarray,
    pages: np.ndarray,
    known: np.ndarray,
) -> int:
    """Write the bodies of all pages of a shard.

    Parameters
    ----------
    job_id, first, last, cores, rejected, offset, size, crc32
        Columns of the shard; the values of `first` and `last` that are not null.
    first_valid, last_valid
        Which rows have one.
    time_begin, limit_begin, used_begin, max_begin, swap_begin, core_begin
        Where the lists of a row begin, and the last one ends, from anywhere.
    time, limit, used, max_used, swap, core
        Their values.
    most
        Levels in a page, unless one list has more.
    table
        65,536 times -1, and so again afterwards.
    slots
        See `number_by_hash`.
    index, lengths
        Room for as many values as the longest column of 32 or 16 bits has, and for two per row and two.
    out
        Output: the bodies, one behind the other.
    pages
        Output: see `note`.
    known
        Output: what the footer says of the values of each column.

    Returns
    -------
    int
        Number of pages.
    """
    rows = len(job_id)
    counts = np.zeros(1, dtype=np.int64)
    flat, all_valid = time_begin[:0], first_valid[:0]
    longest = max(rows, len(limit), len(used), len(max_used), len(swap), min(len(core), 65536))
    dictionary = np.empty(longest, dtype=np.int32)
    at, time_page = np.int64(0), np.int64(-1)
    # One call of each function for all columns: compiling takes as long as there are calls.
    for column in range(len(known)):
        begins = flat
        if column < 3 or column == 5 or column == 6 or column == 8:
            longs, valid = job_id, all_valid
            if column == 1:
                longs, valid = first, first_valid
            elif column == 2:
                longs, valid = last, last_valid
            elif column == 5:
                longs = offset
            elif column == 6:
                longs = size
            elif column == 8:
                longs, begins = time, time_begin
            if column < 3:
                describe(longs, rows, known, column)
            if column == 8:
                time_page = counts[PAGES]
            at = put_longs(out, at, column, longs, begins, valid, rows, most, lengths, pages, counts)
            continue
        values = cores
        if column == 4:
            values = rejected
        elif column == 7:
            values = crc32
        elif column == 9:
            values, begins = limit, limit_begin
        elif column == 10:
            values, begins = used, used_begin
        elif column == 11:
            values, begins = max_used, max_begin
        elif column == 12:
            values, begins = swap, swap_begin
        found = np.int64(0)
        if column == 13:
            values, begins = limit[:0], core_begin
            found = number_by_table(core, np.int64(0), table, index, dictionary)
        elif column != 7:
            found = number(values, table, slots, index, dictionary)
        twin = time_page if len(begins) > 0 and are_same(begins, time_begin) else np.int64(-1)
        at = put_values(
            out, at, column, values, index, dictionary, found, begins, twin, rows, most, lengths, pages, counts
        )
    return counts[PAGES]


@kernel
def put_bytes(out: np.ndarray, at: int, data: np.ndarray, begin: int, end: int) -> int:
    """Copy bytes; returns where they end."""
    for i in range(end - begin):
        out[np.uint64(at + i)] = data[np.uint64(begin + i)]
    return at + end - begin


@kernel
def put_page_header(out: np.ndarray, at: int, page: np.ndarray, checksum: int) -> int:
    """Write a page's header; returns where it ends."""
    next_i32 = np.int64(1 << 4 | I32)
    size = page[END] - page[BEGIN]
    at = put_field(out, at, next_i32, page[KIND])
    at = put_field(out, at, next_i32, size)
    at = put_field(out, at, next_i32, size)
    at = put_field(out, at, next_i32, checksum if checksum < 2**31 else checksum - 2**32)
    out[at] = (1 if page[KIND] == DATA_PAGE else 3) << 4 | STRUCT
    at = put_field(out, at + 1, next_i32, page[VALUES])
    at = put_field(out, at, next_i32, page[ENCODING])
    if page[KIND] == DATA_PAGE:
        at = put_field(out, at, next_i32, np.int64(RLE))
        at = put_field(out, at, next_i32, np.int64(RLE))
    out[at], out[at + 1] = 0, 0
    return at + 2


@kernel
def put_chunk(
    out: np.ndarray, at: int, chunk: np.ndarray, known: np.ndarray, names: np.ndarray, name: int, name_end: int
) -> int:
    """Write what the footer says of a column; returns where it ends."""
    next_i32, next_i64 = np.int64(1 << 4 | I32), np.int64(1 << 4 | I64)
    at = put_field(out, at, next_i64 + 16, np.int64(0))  # where it says the same again, which nobody does any more
    out[at] = 1 << 4 | STRUCT
    at = put_field(out, at + 1, next_i32, np.int64(names[name]))
    out[at] = 1 << 4 | LIST
    listed = at + 1
    at += 2
    number = 0
    for encoding in range(RLE_DICTIONARY + 1):
        if chunk[ENCODINGS] >> encoding & 1:
            at = put_signed(out, at, encoding)
            number += 1
    out[listed] = number << 4 | I32
    at = put_bytes(out, at, names, name + 1, name_end)
    size = chunk[LAST_END] - chunk[FIRST_PAGE]
    at = put_field(out, at, next_i32, np.int64(0))  # not compressed
    at = put_field(out, at, next_i64, chunk[COUNT])
    at = put_field(out, at, next_i64, size)
    at = put_field(out, at, next_i64, size)
    at = put_field(out, at, next_i64 + 16, chunk[DATA_AT])
    step = 3
    if chunk[DICTIONARY_AT] > 0:
        at = put_field(out, at, next_i64 + 16, chunk[DICTIONARY_AT])
        step = 1
    if known[KNOWN] > 0:
        out[at] = step << 4 | STRUCT
        at = put_field(out, at + 1, next_i64 + 32, known[NULLS])
        if known[KNOWN] > 1:
            out[at], out[at + 1] = 2 << 4 | BINARY, 8
            put_eight(out, at + 2, np.uint64(known[MOST]))
            out[at + 10], out[at + 11] = 1 << 4 | BINARY, 8
            put_eight(out, at + 12, np.uint64(known[LEAST]))
            at += 20
        out[at] = 0
        at += 1
    out[at], out[at + 1] = 0, 0
    return at + 2


@allocating_kernel
def assemble(
    bodies: np.ndarray,
    pages: np.ndarray,
    count: int,
    table: np.ndarray,
    known: np.ndarray,
    names: np.ndarray,
    name_ends: np.ndarray,
    head: np.ndarray,
    rows: int,
    out: np.ndarray,
) -> tuple[int, int]:
    """Put a file together, but for what the footer says behind its row groups.

    Parameters
    ----------
    bodies, pages, count, known
        From `encode`; how many pages there are.
    table
        From `jobeff.store.crc_table.crc32_table`.
    names, name_ends
        By column one after the other: one byte that is its type, then the field of the footer that names it.
    head
        How the footer begins.
    rows
        Of the table.
    out
        Output.

    Returns
    -------
    footer, end
        Where the footer begins, and where its row groups end.
    """
    columns = len(name_ends)
    chunks = np.zeros((columns, 6), dtype=np.int64)
    out[0], out[1], out[2], out[3] = 80, 65, 82, 49  # PAR1
    at = np.int64(4)
    for i in range(count):
        page, chunk = pages[i], chunks[pages[i, COLUMN]]
        if chunk[FIRST_PAGE] == 0:
            chunk[FIRST_PAGE] = at
        chunk[ENCODINGS] |= 1 << page[ENCODING] | 1 << RLE
        if page[KIND] == DICTIONARY_PAGE:
            chunk[DICTIONARY_AT] = at
        else:
            chunk[COUNT] += page[VALUES]
            if chunk[DATA_AT] == 0:
                chunk[DATA_AT] = at
        at = put_page_header(out, at, page, crc32_of(bodies, page[BEGIN], page[END], np.int64(0), table))
        at = put_bytes(out, at, bodies, page[BEGIN], page[END])
        chunk[LAST_END] = at
    footer = at + 4  # our own checksum stands before it
    total = at - 4
    next_i64 = np.int64(1 << 4 | I64)
    at = put_bytes(out, footer, head, np.int64(0), len(head))
    at = put_field(out, at, next_i64, rows)
    out[at], out[at + 1] = 1 << 4 | LIST, STRUCT
    if rows == 0:
        return footer, at + 2
    out[at + 1] = 1 << 4 | STRUCT
    out[at + 2], out[at + 3] = 1 << 4 | LIST, columns << 4 | STRUCT  # of up to 14 columns
    at += 4
    begin = np.int64(0)
    for column in range(columns):
        at = put_chunk(out, at, chunks[column], known[column], names, begin, name_ends[column])
        begin = name_ends[column]
    at = put_field(out, at, next_i64, total)
    at = put_field(out, at, next_i64, rows)
    at = put_field(out, at, next_i64 + 16, np.int64(4))
    at = put_field(out, at, next_i64, total)
    at = put_field(out, at, np.int64(1 << 4 | I16), np.int64(0))
    out[at] = 0
    return footer, at + 1
