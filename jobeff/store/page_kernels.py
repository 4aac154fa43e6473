"""Kernels that read and write pages of SQLite's file format, whole tables at memory speed.

The format is described at https://www.sqlite.org/fileformat2.html and does not change. SQLite itself takes a
microsecond and more per row and column set, which is longer than all other work on a job; see `jobeff.store.pages`.
"""

from __future__ import annotations

import numpy as np

from jobeff.jit import allocating_kernel, kernel
from jobeff.prefetch import prefetch

TABLE_INTERIOR, TABLE_LEAF, INDEX_INTERIOR, INDEX_LEAF = 5, 13, 2, 10
FILE_HEADER = 100  # bytes before the first page's own header
BLOCK_BITS = 12  # rows are looked for in blocks of 4096 row numbers
DEPTH = 64  # SQLite's trees are at most 20 levels deep
LOWEST, HIGHEST = -(2**63), 2**63 - 1  # row numbers
LOCK_BYTE = 2**30  # the page that this byte is on is for locks; SQLite never uses it for anything else
BAD, FULL, LONG = -1, -2, -3  # the file is not as expected; no room for one more word; a row is too long

# What is known of a word, see `find`.
FIRST, LAST, LENGTH, NUMBER = range(4)
FREE = -1
MIXER = np.uint64(0x9E3779B97F4A7C15)
SLOTS_PER_WORD = 4
"""So many that a word is most often found at once."""

# Where `read_table` stands between two calls.
READ_DEPTH, READ_ROWS, READ_WORDS, READ_LONG = range(4)

INTEGER, REAL, TEXT, WORD, BESIDE_TEXT, CONSTANT = range(6)

# What a cell is, in a row's checksum.
TAG_NULL, TAG_INTEGER, TAG_REAL, TAG_TEXT = range(4)
BEFORE_TEXT = 255

COMMA = 44
COMMAS, LOWEST_BITS, HIGHEST_BITS = (np.uint64(byte * 0x0101010101010101) for byte in (COMMA, 0x01, 0x80))
BYTES_IN_ORDER = np.uint64(0x0001020304050607)

SIZES = np.array([0, 1, 2, 3, 4, 6, 8, 8, 0, 0, *[max(0, serial - 12) // 2 for serial in range(10, 128)]])
"""Bytes of a value of each serial type that is said in one byte."""

CRC_BLOCK, LEAST_CELLS = 16, 64  # whole blocks of so many bytes, and so many bytes, that `crc_kernels` folds

AHEAD = 8  # rows that are asked for before they are needed

# Where `sum_rows` stands between two calls.
STEP_DEPTH, STEP_PAGES = range(2)

# What comes behind what `pack` is given.
GO_ON, LAST, GOES_UP = range(3)

# Where `pack` stands between two calls.
NEXT_PAGE, CELLS, CONTENT, DIVIDERS, DIVIDER_BYTES, WRITTEN = range(6)


@kernel
def big_endian(data: np.ndarray, at: int, size: int) -> int:
    """An unsigned number of `size` bytes, the highest first."""
    value = np.int64(0)
    for i in range(size):
        value = (value << 8) | np.int64(data[at + i])
    return value


@kernel
def put_big_endian(out: np.ndarray, at: int, size: int, value: int) -> None:
    """Write the lowest `size` bytes of a number, the highest first."""
    for i in range(size):
        out[at + size - 1 - i] = (value >> (8 * i)) & 255


@kernel
def get_varint(data: np.ndarray, at: int) -> tuple[int, int]:
    """A number of one to nine bytes, and where it ends."""
    value = np.int64(0)
    if at + 9 > len(data):  # at the very end of the file a short one may stand
        for i in range(at, len(data)):
            value = (value << 7) | (np.int64(data[i]) & 127)
            if data[i] < 128:
                return value, i + 1
        return 0, len(data)
    for i in range(8):
        byte = np.int64(data[at + i])
        value = (value << 7) | (byte & 127)
        if byte < 128:
            return value, at + i + 1
    return (value << 8) | np.int64(data[at + 8]), at + 9


@kernel
def put_eight(out: np.ndarray, at: int, value: int) -> None:
    """Write eight bytes, the highest first; the compiler makes one store of it."""
    bits = np.uint64(value)
    i = np.uint64(at)
    out[i] = bits >> np.uint64(56)
    out[i + np.uint64(1)] = (bits >> np.uint64(48)) & np.uint64(255)
    out[i + np.uint64(2)] = (bits >> np.uint64(40)) & np.uint64(255)
    out[i + np.uint64(3)] = (bits >> np.uint64(32)) & np.uint64(255)
    out[i + np.uint64(4)] = (bits >> np.uint64(24)) & np.uint64(255)
    out[i + np.uint64(5)] = (bits >> np.uint64(16)) & np.uint64(255)
    out[i + np.uint64(6)] = (bits >> np.uint64(8)) & np.uint64(255)
    out[i + np.uint64(7)] = bits & np.uint64(255)


@kernel
def put_eight_back(out: np.ndarray, at: int, value: int) -> None:
    """Write eight bytes, the lowest first; the compiler makes one store of it."""
    bits, i = np.uint64(value), np.uint64(at)
    for step in range(8):
        out[i + np.uint64(step)] = (bits >> np.uint64(8 * step)) & np.uint64(255)


@kernel
def get_eight(data: np.ndarray, at: int) -> int:
    """Eight bytes as an unsigned number, the lowest first; the compiler makes one load of it."""
    value, i = np.uint64(0), np.uint64(at)
    for step in range(8):
        value |= np.uint64(data[i + np.uint64(step)]) << np.uint64(8 * step)
    return value


@kernel
def copy_eight(source: np.ndarray, begin: int, out: np.ndarray, at: int) -> None:
    """Copy eight bytes by one load and one store; byte by byte, the two might overlap, and the compiler keeps it so."""
    put_eight_back(out, at, get_eight(source, begin))


@kernel
def copy(source: np.ndarray, begin: int, size: int, out: np.ndarray, at: int) -> None:
    """Copy bytes, eight at a time: a call for each short text would take longer."""
    if size < 8:
        for i in range(size):
            out[at + i] = source[begin + i]
        return
    for done in range(0, size - 8, 8):
        copy_eight(source, begin + done, out, at + done)
    copy_eight(source, begin + size - 8, out, at + size - 8)


@kernel
def copy_short(source: np.ndarray, begin: int, size: int, out: np.ndarray, at: int) -> None:
    """Copy bytes, where what is behind them in `out` does not matter: most texts have one length then."""
    if size <= 16 and begin + 16 <= len(source) and at + 16 <= len(out):
        copy_eight(source, begin, out, at)
        copy_eight(source, begin + 8, out, at + 8)
    else:
        copy(source, begin, size, out, at)


@kernel
def put_varint(out: np.ndarray, at: int, value: int) -> int:
    """Write a number below 2**28; returns where it ends."""
    if value < 128:
        out[at] = value
        return at + 1
    if value < 16384:
        out[at] = 128 | (value >> 7)
        out[at + 1] = value & 127
        return at + 2
    if value < 2097152:
        out[at] = 128 | (value >> 14)
        out[at + 1] = 128 | ((value >> 7) & 127)
        out[at + 2] = value & 127
        return at + 3
    out[at] = 128 | (value >> 21)
    out[at + 1] = 128 | ((value >> 14) & 127)
    out[at + 2] = 128 | ((value >> 7) & 127)
    out[at + 3] = value & 127
    return at + 4


@kernel
def varint_size(value: int) -> int:
    """Bytes that `put_varint` writes."""
    return 1 if value < 128 else 2 if value < 16384 else 3 if value < 2097152 else 4


@kernel
def serial_size(serial: int) -> int:
    """Bytes of a value of a serial type."""
    if serial >= 12:
        return (serial - 12) // 2
    if serial <= 4:
        return serial
    return 6 if serial == 5 else 8 if serial <= 7 else 0


@kernel
def signed(data: np.ndarray, at: int, serial: int) -> int:
    """The integer of a serial type from 0 to 9."""
    if serial == 8 or serial == 9:
        return serial - 8
    size = serial_size(serial)
    value = big_endian(data, at, size)
    if 0 < size < 8 and value >> (8 * size - 1):
        value -= np.int64(1) << (8 * size)
    return value


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
def last_at(data: np.ndarray, begin: int, end: int) -> int:
    """The last eight bytes of a word as an unsigned number; 0 where `word_at` gives all of it."""
    return get_eight(data, end - 8) if end - begin > 8 else np.uint64(0)


@kernel
def mixed(number: int, word: int) -> int:
    """Go on with a hash by eight bytes."""
    number = (number ^ word) * MIXER
    return number ^ number >> np.uint64(32)


@kernel
def mixed_middle(number: int, data: np.ndarray, begin: int, end: int) -> int:
    """Go on with a hash by what is neither among the first eight bytes nor among the last."""
    for at in range(begin + 8, end - 8, 8):
        number = mixed(number, get_eight(data, at))
    return number


@kernel
def is_same_middle(words: np.ndarray, known: int, data: np.ndarray, begin: int, end: int) -> bool:
    """Whether two words are the same that have the same length and begin and end with the same eight bytes."""
    for at in range(begin + 8, end - 8, 8):  # noqa: SIM110  (a generator does not compile)
        if get_eight(words, known + at - begin) != get_eight(data, at):
            return False
    return True


@kernel
def find(
    slots: np.ndarray,
    offsets: np.ndarray,
    words: np.ndarray,
    data: np.ndarray,
    begin: int,
    end: int,
    first: int,
    last: int,
) -> int:
    """Where a word stands in a table of known ones, or could be put.

    Parameters
    ----------
    slots
        Shape (slots, 4), as many as a power of two: of each known word what `word_at` and `last_at` give, how long it
        is, and its number; where there is none, `FREE` instead of the length.
    offsets, words
        Where each known one begins, and what they stand in.
    data, begin, end, first, last
        The word, and its first and last eight bytes.

    Returns
    -------
    int
        The slot.
    """
    size, mask = end - begin, len(slots) - 1
    number = mixed(mixed(np.uint64(size), np.uint64(first)), np.uint64(last))
    if size > 16:
        number = mixed_middle(number, data, begin, end)
    # The lowest bits of a product know nothing of the last of eight bytes, the highest ones of all.
    slot = np.int64(number * MIXER >> np.uint64(32)) & mask
    while slots[slot, LENGTH] != FREE:
        same = slots[slot, LENGTH] == size and slots[slot, FIRST] == first and slots[slot, LAST] == last
        if same and (size <= 16 or is_same_middle(words, offsets[slots[slot, NUMBER]], data, begin, end)):
            break
        slot = (slot + 1) & mask
    return slot


@kernel
def put_word(slots: np.ndarray, slot: int, size: int, first: int, last: int, number: int) -> None:
    """Have a slot that is free know a word; see `find`."""
    slots[slot, FIRST], slots[slot, LAST], slots[slot, LENGTH], slots[slot, NUMBER] = first, last, size, number


@kernel
def enter(slots: np.ndarray, offsets: np.ndarray, words: np.ndarray) -> None:
    """Put known words, which stand one behind the other, into an empty table."""
    for one in range(len(offsets) - 1):
        begin, end = offsets[one], offsets[one + 1]
        first, last = np.int64(word_at(words, begin, end)), np.int64(last_at(words, begin, end))
        put_word(slots, find(slots, offsets, words, words, begin, end, first, last), end - begin, first, last, one)


@kernel
def add_word(
    slots: np.ndarray,
    slot: int,
    data: np.ndarray,
    begin: int,
    end: int,
    offsets: np.ndarray,
    words: np.ndarray,
    count: int,
) -> None:
    """Put a word that is new behind the known ones."""
    to = offsets[count]
    copy_short(data, begin, end - begin, words, to)
    offsets[count + 1] = to + end - begin
    first, last = np.int64(word_at(data, begin, end)), np.int64(last_at(data, begin, end))
    put_word(slots, slot, end - begin, first, last, count)


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
def number_words(
    offsets: np.ndarray,
    data: np.ndarray,
    texts: np.ndarray,
    slots: np.ndarray,
    word_offsets: np.ndarray,
    words: np.ndarray,
    at: np.ndarray,
    out: np.ndarray,
) -> bool:
    """Number the words of some texts, which are joined by commas, as they are met.

    Parameters
    ----------
    offsets, data, texts
        Where each text begins, and the last one ends; what they stand in; and which of them.
    slots
        See `find`; changed.
    word_offsets, words
        The same for the words, one behind the other; changed.
    at
        Shape (4,): the text that comes next and where in it, -1 at its beginning, and how many words are known and
        numbered; changed.
    out
        Output, shape (words,): the number of each, text by text.

    Returns
    -------
    bool
        Whether all are numbered; else there is no room for one more. It is not made in here: each use of an array that
        may be another one by then costs more than all the rest.
    """
    one, begin, count, done = at[0], at[1], at[2], at[3]
    while one < len(texts):
        stop = offsets[texts[one] + 1]
        if begin < 0:
            begin = offsets[texts[one]]
        while begin <= stop:
            end = end_of_word(data, begin, stop, word_at(data, begin, stop))
            first, last = np.int64(word_at(data, begin, end)), np.int64(last_at(data, begin, end))
            slot = find(slots, word_offsets, words, data, begin, end, first, last)
            if slots[slot, LENGTH] == FREE:
                if count + 1 == len(word_offsets) or word_offsets[count] + end - begin > len(words):
                    at[0], at[1], at[2], at[3] = one, begin, count, done
                    return False
                add_word(slots, slot, data, begin, end, word_offsets, words, count)
                count += 1
            out[done] = slots[slot, NUMBER]
            done += 1
            begin = end + 1
        one, begin = one + 1, np.int64(-1)
    at[2] = count
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
def form_integers(values: np.ndarray, count: int, serials: np.ndarray, bodies: np.ndarray) -> None:
    """Serial types of integers, and their bytes, the highest first and foremost; without branches, many at once."""
    for i in range(count):
        value = values[i]
        low = value ^ (value >> 63)
        longer = np.int64(low >= 2**7) + np.int64(low >= 2**15) + np.int64(low >= 2**23)
        much_longer = np.int64(low >= 2**31) + np.int64(low >= 2**47)
        serials[i] = 8 + value if value == 0 or value == 1 else 1 + longer + much_longer
        bodies[i] = value << (56 - 8 * longer - 16 * much_longer)  # of 0 and 1, no byte is written


@kernel
def form_reals(
    bits: np.ndarray,
    reals: np.ndarray,
    count: int,
    place: int,
    serials: np.ndarray,
    bodies: np.ndarray,
    exact: np.ndarray,
    nulls: np.ndarray,
) -> None:
    """Serial types and bytes of reals; `exact` has the whole ones as integers before."""
    for i in range(count):
        value, x = bits[i], reals[i]
        is_whole, is_null = np.float64(exact[i]) == x, x != x  # noqa: PLR0124  (not a number)
        # So does SQLite itself: a real column's whole numbers take less room.
        serials[i] = serials[i] if is_whole else np.int64(0) if is_null else np.int64(7)
        bodies[i] = bodies[i] if is_whole else value
        exact[i] = np.int64(0) if x == 0 else value  # minus zero is zero then
        nulls[i] |= np.int64(is_null) << place


@kernel
def whole_numbers(reals: np.ndarray, count: int, out: np.ndarray) -> None:
    """Reals as integers, where they may be whole numbers; else 0."""
    for i in range(count):
        out[i] = np.int64(reals[i]) if -1e14 < reals[i] < 1e14 else np.int64(0)


@kernel
def gather(
    rows: np.ndarray, integers: np.ndarray, bits: np.ndarray, row_ints: np.ndarray, row_bits: np.ndarray
) -> None:
    """Copy the numbers of some rows; column by column, `form` would fetch each row as often as there are columns.

    Parameters
    ----------
    rows
        Shape (chosen,): which rows.
    integers, bits
        Shapes (rows, integers), (rows, reals).
    row_ints, row_bits
        Output: those of the chosen, with room for all.
    """
    for i in range(len(rows)):
        if i + AHEAD < len(rows):
            there = rows[i + AHEAD]
            prefetch(integers, there * integers.shape[1])
            prefetch(bits, there * bits.shape[1])
            prefetch(bits, (there + 1) * bits.shape[1] - 1)
        row = rows[i]
        for column in range(integers.shape[1]):
            row_ints[column, i] = integers[row, column]
        for column in range(bits.shape[1]):
            row_bits[column, i] = bits[row, column]


@kernel
def form(
    kinds: np.ndarray,
    sources: np.ndarray,
    places: np.ndarray,
    row_ints: np.ndarray,
    row_bits: np.ndarray,
    row_reals: np.ndarray,
    text_ints: np.ndarray,
    word_size: int,
    text_rows: np.ndarray,
    types: np.ndarray,
    bodies: np.ndarray,
    exact: np.ndarray,
    nulls: np.ndarray,
    serials: np.ndarray,
) -> None:
    """Form the numbers of some rows, column by column, which is several times as quick as row by row.

    Parameters
    ----------
    kinds, sources, text_rows
        See `encode`.
    row_ints, row_bits, row_reals
        From `gather`: the latter twice, the same memory as their bits and as they are; NaN is NULL.
    text_ints
        Shape (integers, rows of texts): integers that stand beside the texts.
    places
        Shape (columns,): which of a row's numbers each column is, in order of the table.
    word_size
        Bytes of the word.
    types
        Output, shape (rows, columns or more): serial types, but for texts.
    bodies, exact
        Output, shape (numbers, rows): as they stand in a record, in its order, the highest byte being the first; and
        as they are, reals as their bits, in order of `places`.
    nulls
        Output, shape (rows,): which numbers are NULL, one bit for each place.
    serials
        Scratch, shape (rows,).
    """
    count = len(text_rows)
    for i in range(count):
        nulls[i] = 0
    number = np.int64(0)
    for column in range(len(kinds)):
        kind, source = kinds[column], sources[column]
        if kind == TEXT:
            continue
        if kind == WORD:
            for i in range(count):
                types[i, column] = 13 + 2 * word_size
            continue
        values, body = exact[places[column]], bodies[number]
        if kind == REAL:
            whole_numbers(row_reals[source], count, values)
            form_integers(values, count, serials, body)
            form_reals(row_bits[source], row_reals[source], count, places[column], serials, body, values, nulls)
        else:
            for i in range(count):
                values[i] = source
                if kind == INTEGER:
                    values[i] = row_ints[source, i]
                elif kind == BESIDE_TEXT:
                    values[i] = text_ints[source, text_rows[i]]
            form_integers(values, count, serials, body)
        for i in range(count):
            types[i, column] = serials[i]
        number += 1


@allocating_kernel
def encode(
    kinds: np.ndarray,
    sources: np.ndarray,
    codes: np.ndarray,
    offsets: np.ndarray,
    text: np.ndarray,
    word: np.ndarray,
    text_rows: np.ndarray,
    types: np.ndarray,
    bodies: np.ndarray,
    first: int,
    out: np.ndarray,
    ends: np.ndarray,
    begin: int,
) -> tuple[int, int]:
    """Write rows as SQLite's records, one after the other.

    Parameters
    ----------
    kinds, sources
        Shape (columns,): `INTEGER`, `REAL`, `TEXT` or `BESIDE_TEXT`, and which column of the integers of rows, reals
        of rows, texts, or integers beside the texts it is from; `CONSTANT`, and the integer; or `WORD`. At most 31.
    codes, offsets, text
        Text columns, see `jobeff.store.pages.Texts`.
    word
        The text of a column that is `WORD`, the same in every row.
    text_rows
        Shape (records,): which rows of the text columns belong to the records.
    types, bodies
        From `form`.
    first
        Which of the records to begin with.
    out
        Output, bytes.
    ends
        Output, shape (records,): where each record ends.
    begin
        Where in `out` the first one begins.

    Returns
    -------
    int
        Up to which record there was room.
    int
        Where the last one ends.
    """
    columns, texts = len(kinds), np.flatnonzero(kinds == TEXT)
    flat = types.reshape(-1)  # a row of it would be an array of its own, which takes longer
    header_size = 1 + columns + (varint_size(13 + 2 * len(word)) - 1) * np.sum(kinds == WORD)
    starts, sizes = np.empty(len(texts), dtype=np.int64), np.empty(len(texts), dtype=np.int64)
    at = begin
    for i in range(first, len(text_rows)):
        length = np.int64(0)
        for k in range(len(texts)):
            code = codes[sources[texts[k]], text_rows[i]]
            starts[k], sizes[k] = offsets[code], offsets[code + 1] - offsets[code]
            length += sizes[k]
        if at + 32 + 13 * columns + len(word) + length > len(out):
            return i, at
        type_at = at + 1
        for step in range(0, columns, 8):  # what is said in more than one byte comes below
            copy_eight(flat, i * types.shape[1] + step, out, type_at + step)
        header = header_size
        for k in range(len(texts)):
            serial = 13 + 2 * sizes[k]
            out[type_at + texts[k]] = serial & 127
            header += varint_size(serial) - 1
        if header > 1 + columns:
            put_header(kinds, sizes, len(word), types[i], out, type_at)
        out[at] = header
        at += header
        number, k = 0, 0
        for column in range(columns):
            kind = kinds[column]
            if kind == TEXT:
                copy_short(text, starts[k], sizes[k], out, at)
                at += sizes[k]
                k += 1
            elif kind == WORD:
                copy(word, 0, len(word), out, at)
                at += len(word)
            else:
                put_eight(out, at, bodies[number, i])
                at += SIZES[types[i, column]]
                number += 1
        ends[i] = at
    return len(text_rows), at


@kernel
def put_header(
    kinds: np.ndarray, sizes: np.ndarray, word_size: int, types: np.ndarray, out: np.ndarray, at: int
) -> None:
    """Write serial types of which some take more than a byte; `sizes` are those of the texts, in order."""
    k = 0
    for column in range(len(kinds)):
        serial = np.int64(types[column])
        if kinds[column] == TEXT:
            serial = 13 + 2 * sizes[k]
            k += 1
        elif kinds[column] == WORD:
            serial = 13 + 2 * word_size
        at = put_varint(out, at, serial)


@allocating_kernel
def write_cells(
    fields: np.ndarray,
    sources: np.ndarray,
    tags: np.ndarray,
    codes: np.ndarray,
    offsets: np.ndarray,
    text: np.ndarray,
    word: np.ndarray,
    text_rows: np.ndarray,
    exact: np.ndarray,
    nulls: np.ndarray,
    out: np.ndarray,
    begins: np.ndarray,
    ends: np.ndarray,
) -> int:
    """Write what the checksums of rows are made of; see `jobeff.store.row_sums`.

    It has zeros before it, which change no checksum that begins with 0, so that its size is one of whole blocks; that
    it begins with 0xFFFFFFFF instead, as CRC-32 does, is in the first bytes.

    Parameters
    ----------
    fields, sources
        Shape (columns,), in order of the table: kinds and sources of `encode`.
    tags
        What the cells of a row are that has no NULL, shape (columns + 8,).
    codes, offsets, text, word, text_rows
        As for `encode`.
    exact, nulls
        From `form`.
    out
        Output, bytes.
    begins, ends
        Output, shape (records,): where each begins and ends.

    Returns
    -------
    int
        Up to which record there was room.
    """
    is_text = (fields == TEXT) | (fields == WORD)
    texts, numbers = np.flatnonzero(is_text), np.flatnonzero(~is_text)
    starts, sizes = np.empty(len(texts), dtype=np.int64), np.empty(len(texts), dtype=np.int64)
    sizes[:] = len(word)
    at = np.int64(0)
    for i in range(len(text_rows)):
        length = np.int64(0)
        for k in range(len(texts)):
            if fields[texts[k]] == TEXT:
                code = codes[sources[texts[k]], text_rows[i]]
                starts[k], sizes[k] = offsets[code], offsets[code + 1] - offsets[code]
            length += sizes[k]
        if at + 2 * LEAST_CELLS + 10 * len(fields) + length > len(out):
            return i
        for step in range(0, LEAST_CELLS, 8):
            put_eight(out, at + step, 0)
        at += LEAST_CELLS
        begin = at
        for step in range(0, len(fields), 8):
            copy_eight(tags, step, out, at + step)
        at += len(fields)
        for number in range(len(numbers)):
            put_eight_back(out, at, exact[number, i])
            at += 8 - 8 * (nulls[i] >> number & 1)
        if nulls[i] != 0:
            for number in range(len(numbers)):
                if nulls[i] >> number & 1:
                    out[begin + numbers[number]] = TAG_NULL
        for k in range(len(texts)):
            out[at] = BEFORE_TEXT
            if fields[texts[k]] == WORD:
                copy(word, 0, sizes[k], out, at + 1)
            else:
                copy_short(text, starts[k], sizes[k], out, at + 1)
            at += 1 + sizes[k]
        put_eight_back(out, begin, np.int64(get_eight(out, begin) ^ np.uint64(0xFFFFFFFF)))
        size = int(at - begin)
        begins[i], ends[i] = at - max(LEAST_CELLS, size + -size % CRC_BLOCK), at
    return len(text_rows)


@kernel
def start_page(page: np.ndarray, state: np.ndarray) -> None:
    """Begin an empty page."""
    state[CELLS], state[CONTENT] = 0, len(page)


@kernel
def close_page(page: np.ndarray, state: np.ndarray, kind: int, right: int, out: np.ndarray, to: int) -> None:
    """Write a page's header and cell pointers, and the page to ``out[to:]``."""
    head = 12 if kind == INDEX_INTERIOR else 8
    page[0] = kind
    put_big_endian(page, 1, 2, 0)
    put_big_endian(page, 3, 2, state[CELLS])
    put_big_endian(page, 5, 2, state[CONTENT] & 65535)
    page[7] = 0
    if kind == INDEX_INTERIOR:
        put_big_endian(page, 8, 4, right)
    page[head + 2 * state[CELLS] : state[CONTENT]] = 0
    copy(page, 0, len(page), out, to)


@kernel
def put_cell(page: np.ndarray, state: np.ndarray, head: int, cell: np.ndarray, size: int) -> None:
    """Put a cell into a page in which there is room for it."""
    state[CONTENT] -= size
    at = state[CONTENT]
    copy(cell, 0, size, page, at)
    put_big_endian(page, head + 2 * state[CELLS], 2, at)
    state[CELLS] += 1


@kernel
def usable_page(number: int, size: int) -> int:
    """The number of a page, or of the next where that is the one for locks."""
    return number + 1 if number == LOCK_BYTE // size + 1 else number


@kernel
def leave_lock_page(state: np.ndarray, size: int, out: np.ndarray) -> None:
    """Leave the page for locks empty, where it is the next one."""
    if usable_page(state[NEXT_PAGE], size) != state[NEXT_PAGE]:
        out[state[WRITTEN] : state[WRITTEN] + size] = 0
        state[NEXT_PAGE] += 1
        state[WRITTEN] += size


@kernel
def form_cell(
    records: np.ndarray, begin: int, end: int, cell: np.ndarray, usable: int, state: np.ndarray, out: np.ndarray
) -> int:
    """Make the cell of a record, what is too long for it going to pages of its own; returns the cell's size."""
    length = end - begin
    local = local_size(length, usable, (usable - 12) * 64 // 255 - 23)
    at = put_varint(cell, 0, length)
    copy(records, begin, local, cell, at)
    at += local
    if local == length:
        return at
    put_big_endian(cell, at, 4, usable_page(state[NEXT_PAGE], usable))
    done = begin + local
    while done < end:
        leave_lock_page(state, usable, out)
        count = min(end - done, usable - 4)
        to = state[WRITTEN]
        put_big_endian(out, to, 4, usable_page(state[NEXT_PAGE] + 1, usable) if done + count < end else 0)
        copy(records, done, count, out, to + 4)
        out[to + 4 + count : to + usable] = 0
        state[NEXT_PAGE] += 1
        state[WRITTEN] += usable
        done += count
    return at + 4


@kernel
def add_divider(
    cell: np.ndarray, begin: int, size: int, state: np.ndarray, dividers: np.ndarray, ends: np.ndarray
) -> None:
    """Keep a cell for the level above."""
    at = state[DIVIDER_BYTES]
    for i in range(size):
        dividers[at + i] = cell[begin + i]
    ends[state[DIVIDERS]] = at + size
    state[DIVIDERS] += 1
    state[DIVIDER_BYTES] = at + size


@allocating_kernel
def pack(
    records: np.ndarray,
    begins: np.ndarray,
    ends: np.ndarray,
    children: np.ndarray,
    then: int,
    page: np.ndarray,
    state: np.ndarray,
    out: np.ndarray,
    dividers: np.ndarray,
    divider_ends: np.ndarray,
    pages: np.ndarray,
) -> None:
    """Fill the pages of one level of an index tree, from left to right.

    Parameters
    ----------
    records, begins, ends
        Records in order of their keys; or, for a level above the leaves, cells ready made.
    children
        Empty for leaves; else the page before each cell, and the one behind the last.
    then
        `GO_ON` where more come, `LAST` where these are the last of the level, `GOES_UP` where the last one goes to the
        level above, so that what comes next begins a page of its own.
    page, state
        The page being filled, and where we stand: both go on from one call to the next.
    out
        Output: whole pages. The last page of a level stays in `page`, to be closed by the caller.
    dividers, divider_ends, pages
        Output: cells for the level above, where they end, and the page before each.
    """
    leaf = len(children) == 0
    kind, head, extra = (INDEX_LEAF, 8, 0) if leaf else (INDEX_INTERIOR, 12, 4)
    cell = np.empty(len(page), dtype=np.uint8)
    largest = (len(page) - 12) * 64 // 255 - 23
    for i in range(len(begins)):
        up = then == GOES_UP and i == len(begins) - 1
        length = ends[i] - begins[i]
        if leaf and length <= largest and not up:  # as nearly all are: straight into the page
            size = varint_size(length) + length
            place = state[CONTENT] - size
            if head + 2 * state[CELLS] + 2 <= place:
                copy(records, begins[i], length, page, put_varint(page, place, length))
                put_big_endian(page, head + 2 * state[CELLS], 2, place)
                state[CONTENT] = place
                state[CELLS] += 1
                continue
        if leaf:
            size = form_cell(records, begins[i], ends[i], cell, len(page), state, out)
        else:
            size = 4 + ends[i] - begins[i]
            put_big_endian(cell, 0, 4, children[i])
            for k in range(size - 4):
                cell[4 + k] = records[begins[i] + k]
        if head + 2 * state[CELLS] + 2 + size <= state[CONTENT] and not up:
            put_cell(page, state, head, cell, size)
            continue
        right = 0 if leaf else children[i]
        # No page may be empty: before the last cell of all, or of a page that nothing else comes to, the one before it
        # goes up instead.
        final = (then == LAST and i == len(begins) - 1) or (then == GOES_UP and i == len(begins) - 2)
        if final:
            state[CELLS] -= 1
            at = big_endian(page, head + 2 * state[CELLS], 2)
            above = at + cell_size(page, at + extra, len(page)) + extra
            if not leaf:
                right = big_endian(page, at, 4)
            add_divider(page, at + extra, above - at - extra, state, dividers, divider_ends)
            state[CONTENT] = above
        else:
            add_divider(cell, extra, size - extra, state, dividers, divider_ends)
        leave_lock_page(state, len(page), out)
        pages[state[DIVIDERS] - 1] = state[NEXT_PAGE]
        close_page(page, state, kind, right, out, state[WRITTEN])
        state[NEXT_PAGE] += 1
        state[WRITTEN] += len(page)
        start_page(page, state)
        if final:
            put_cell(page, state, head, cell, size)


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
            number = signed(data, at + size, number_type)
            if numbers[0] > 0 and number == before:
                if count < len(found):
                    found[count] = number
                count += 1
            before = number
            numbers[0] += 1
    return count


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
def number_at(data: np.ndarray, at: int, serial: int) -> int:
    """The integer, or the bits of the real, of a serial type from 1 to 9; where there is room by one load."""
    if serial >= 8:
        return serial - 8
    if at + 8 > len(data):
        return big_endian(data, at, 8) if serial == 7 else signed(data, at, serial)
    value, i = np.uint64(0), np.uint64(at)
    for step in range(8):
        value |= np.uint64(data[i + np.uint64(step)]) << np.uint64(56 - 8 * step)
    return np.int64(value) >> (64 - 8 * serial_size(serial))


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
