"""Kernels that read the pages of a shard straight from its bytes.

A shard is Parquet, and pyarrow reads it; but a month of a node is small, and building readers, levels and list
arrays for each of its columns takes longer than all that is computed from it. These kernels know what
`jobeff.store.shards.write` writes: one row group, pages of the first version without compression. Anything else makes
them say so, and pyarrow reads the file. The format: https://parquet.apache.org/docs/file-format/
"""

from __future__ import annotations

import numpy as np

from jobeff.jit import allocating_kernel, kernel

BAD, NO_ROOM = -1, -2  # not what we write; more than there is room for
CHUNK_BEGIN, CHUNK_VALUES = range(2)
PLAIN, DELTA_BINARY_PACKED, RLE_DICTIONARY = 0, 5, 8
DATA_PAGE, DICTIONARY_PAGE = 0, 2
DEPTH = 32
MANY = 2**28  # values of a column; a longer one is left to pyarrow

# A page header, as `page_header` gives it.
KIND, VALUES, ENCODING, BODY, AFTER = range(5)

# Types of the compact protocol in which Parquet writes its headers.
TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = range(1, 13)


@kernel
def get_varint(data: np.ndarray, at: int) -> tuple[int, int]:
    """A number, seven bits a byte, the lowest first; and where it ends."""
    value, shift = np.int64(0), 0
    while at < len(data) and shift < 64:
        byte = np.int64(data[at])
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            break
        shift += 7
    return value, at


@kernel
def get_signed(data: np.ndarray, at: int) -> tuple[int, int]:
    """A number in which the sign is the lowest bit; and where it ends."""
    value, at = get_varint(data, at)
    return ((value >> 1) & 0x7FFFFFFFFFFFFFFF) ^ -(value & 1), at


@kernel
def get_field(data: np.ndarray, at: int, before: int) -> tuple[int, int, int]:
    """The next field of a structure: its type (0 at the end) and number, and where its value begins."""
    if at >= len(data):
        return 0, 0, at
    byte = np.int64(data[at])
    at += 1
    kind, step = byte & 15, byte >> 4
    if kind == 0 or step > 0:
        return kind, before + step, at
    number, at = get_signed(data, at)
    return kind, number, at


@kernel
def get_list(data: np.ndarray, at: int) -> tuple[int, int, int]:
    """The head of a list: type and number of its elements, and where they begin."""
    if at >= len(data):
        return 0, 0, at
    byte = np.int64(data[at])
    at += 1
    if byte >> 4 == 15:
        count, at = get_varint(data, at)
        return byte & 15, count, at
    return byte & 15, byte >> 4, at


@allocating_kernel
def skip(data: np.ndarray, at: int, kind: int) -> int:
    """Where a value ends, whatever it is."""
    left, kinds, numbers = (
        np.zeros(DEPTH, dtype=np.int64),
        np.zeros(DEPTH, dtype=np.int64),
        np.zeros(DEPTH, dtype=np.int64),
    )
    depth = 0
    left[0], kinds[0] = 1, kind
    # Each level is a list with so many elements left, of one kind; -1 left is a structure, which ends by itself.
    while depth >= 0 and at < len(data):
        if left[depth] == 0:
            depth -= 1
            continue
        now = kinds[depth]
        if left[depth] < 0:
            now, numbers[depth], at = get_field(data, at, numbers[depth])
            if now == 0:
                depth -= 1
                continue
            if now in (TRUE, FALSE):
                continue
        else:
            left[depth] -= 1
        if now in (STRUCT, LIST, SET):
            depth += 1
            if depth == DEPTH:
                return len(data)
            if now == STRUCT:
                left[depth], numbers[depth] = -1, 0
            else:
                kinds[depth], left[depth], at = get_list(data, at)
        elif now == BINARY:
            size, at = get_varint(data, at)
            if size < 0 or size > len(data) - at:
                return len(data)
            at += size
        elif now == DOUBLE:
            at += 8
        elif now in (BYTE, TRUE, FALSE):
            at += 1
        elif now == MAP:
            return len(data)
        else:
            _, at = get_varint(data, at)
    return at


@allocating_kernel
def column_chunk(data: np.ndarray, at: int, chunks: np.ndarray, column: int) -> int:
    """Read where a column's pages begin and how many values it has; returns where its description ends."""
    number, begin, codec = 0, np.int64(2**62), 0
    while True:
        kind, number, at = get_field(data, at, number)
        if kind == 0:
            break
        if kind != STRUCT or number != 3:
            at = skip(data, at, kind)
            continue
        inner = 0
        while True:
            kind, inner, at = get_field(data, at, inner)
            if kind == 0:
                break
            if inner == 4:
                codec, at = get_signed(data, at)
            elif inner == 5:
                chunks[column, CHUNK_VALUES], at = get_signed(data, at)
            elif inner == 9 or inner == 11:  # data pages, and the dictionary before them
                offset, at = get_signed(data, at)
                begin = min(begin, offset)
            else:
                at = skip(data, at, kind)
    chunks[column, CHUNK_BEGIN] = begin if codec == 0 else BAD
    return at


@allocating_kernel
def column_chunks(data: np.ndarray, footer: int, chunks: np.ndarray) -> int:
    """Read where the columns of a file lie.

    Parameters
    ----------
    data
        The whole file.
    footer
        Where its footer begins.
    chunks
        Output, shape (columns, 2): offset of the first page, `BAD` where it is compressed; number of values.

    Returns
    -------
    int
        Number of rows; `BAD` where there are other columns, or more than one row group.
    """
    number, at, rows, found = 0, footer, BAD, BAD
    while at < len(data):
        kind, number, at = get_field(data, at, number)
        if kind == 0:
            break
        if number == 3:
            rows, at = get_signed(data, at)
        elif number == 4:
            _, groups, at = get_list(data, at)
            if groups != 1:
                return BAD
            inner = 0
            while True:
                kind, inner, at = get_field(data, at, inner)
                if kind == 0:
                    break
                if inner != 1:
                    at = skip(data, at, kind)
                    continue
                _, found, at = get_list(data, at)
                if found != len(chunks):
                    return BAD
                for column in range(found):
                    at = column_chunk(data, at, chunks, column)
        else:
            at = skip(data, at, kind)
    return rows if found == len(chunks) else BAD


@allocating_kernel
def page_header(data: np.ndarray, at: int, page: np.ndarray) -> None:
    """Read a page's header: kind (`BAD`: not one of ours), values, encoding, where its body begins and ends."""
    number, size = 0, 0
    page[KIND], page[VALUES], page[ENCODING] = BAD, 0, BAD
    found = BAD
    while True:
        kind, number, at = get_field(data, at, number)
        if kind == 0:
            break
        if number == 1:
            found, at = get_signed(data, at)
        elif number == 3:
            size, at = get_signed(data, at)
        elif kind == STRUCT and (number == 5 or number == 7):
            inner = 0
            while True:
                kind, inner, at = get_field(data, at, inner)
                if kind == 0:
                    break
                if inner == 1:
                    page[VALUES], at = get_signed(data, at)
                elif inner == 2:
                    page[ENCODING], at = get_signed(data, at)
                elif kind != TRUE and kind != FALSE:
                    at = skip(data, at, kind)
        elif kind != TRUE and kind != FALSE:
            at = skip(data, at, kind)
    page[BODY], page[AFTER] = at, at + size
    room = len(data) - 8 - at
    if found in (DATA_PAGE, DICTIONARY_PAGE) and 0 <= size <= room and 0 <= page[VALUES] <= MANY:
        page[KIND] = found


@kernel
def load(data: np.ndarray, at: int, size: int) -> int:
    """A number of up to eight bytes, the lowest first."""
    value = np.int64(0)
    for i in range(size):
        value |= np.int64(data[at + i]) << (8 * i)
    return value


@kernel
def load8(data: np.ndarray, at: int) -> int:
    """Eight bytes as one number, the first the lowest; the compiler makes one load of it."""
    i = np.uint64(at)
    value = np.uint64(data[i])
    value |= np.uint64(data[i + np.uint64(1)]) << np.uint64(8)
    value |= np.uint64(data[i + np.uint64(2)]) << np.uint64(16)
    value |= np.uint64(data[i + np.uint64(3)]) << np.uint64(24)
    value |= np.uint64(data[i + np.uint64(4)]) << np.uint64(32)
    value |= np.uint64(data[i + np.uint64(5)]) << np.uint64(40)
    value |= np.uint64(data[i + np.uint64(6)]) << np.uint64(48)
    value |= np.uint64(data[i + np.uint64(7)]) << np.uint64(56)
    return value


@kernel
def unpack(
    data: np.ndarray, at: int, groups: int, width: int, dictionary: np.ndarray, out: np.ndarray, begin: int
) -> int:
    """Decode groups of eight indexes of up to 16 bits into the values that they stand for; returns the largest index.

    The dictionary has room for every index of so many bits.
    """
    w, one = np.uint64(width), np.uint64(1)
    mask, half = (one << w) - one, np.uint64(4) * w
    place, to, most = np.uint64(at), np.uint64(begin), np.uint64(0)
    # Four indexes of 16 bits are a word; the other four begin within a byte.
    skipped, shift = half >> np.uint64(3), half & np.uint64(7)
    for _ in range(groups):
        low = load8(data, place)
        high = load8(data, place + skipped) >> shift
        a, b, c, d = low & mask, (low >> w) & mask, (low >> (w + w)) & mask, (low >> (w + w + w)) & mask
        e, f, g, h = high & mask, (high >> w) & mask, (high >> (w + w)) & mask, (high >> (w + w + w)) & mask
        # By pairs: one after the other, each would wait for the one before.
        ab, cd, ef, gh = max(a, b), max(c, d), max(e, f), max(g, h)
        abcd, efgh = max(ab, cd), max(ef, gh)
        largest = max(abcd, efgh)
        most = max(most, largest)
        out[to], out[to + one] = dictionary[a], dictionary[b]
        out[to + np.uint64(2)], out[to + np.uint64(3)] = dictionary[c], dictionary[d]
        out[to + np.uint64(4)], out[to + np.uint64(5)] = dictionary[e], dictionary[f]
        out[to + np.uint64(6)], out[to + np.uint64(7)] = dictionary[g], dictionary[h]
        place += w
        to += np.uint64(8)
    return most


@kernel
def runs(
    data: np.ndarray,
    at: int,
    end: int,
    width: int,
    dictionary: np.ndarray,
    known: int,
    out: np.ndarray,
    begin: int,
    count: int,
) -> bool:
    """Decode runs and bit-packed groups of indexes into the values that they stand for.

    Parameters
    ----------
    data, at, end
        Where they stand.
    width
        Bits of an index, up to 32.
    dictionary, known
        Room for every index of so many bits; how many values there are.
    out, begin, count
        Where to, and how many.

    Returns
    -------
    bool
        Whether there were `count` of them, each in the dictionary.
    """
    mask = (np.uint64(1) << np.uint64(width)) - np.uint64(1)
    stop = begin + count
    largest = np.uint64(known - 1)
    worst = np.uint64(0)
    if known < 1 or width > 32 or mask >= np.uint64(len(dictionary)):
        return False
    while begin < stop:
        if at >= end:
            return False
        head, at = get_varint(data, at)
        if head & 1 == 0:
            if at + (width + 7) // 8 > end or head < 0:
                return False
            index = np.uint64(load(data, at, (width + 7) // 8))
            at += (width + 7) // 8
            last = min(stop, begin + min(head >> 1, count))
            if index > largest or last <= begin:
                return False
            value = dictionary[index]
            for i in range(np.uint64(begin), np.uint64(last)):
                out[i] = value
            begin = last
            continue
        if head < 0 or head > 2 * count + 16:  # more groups than there are values
            return False
        last = min(stop, begin + (head >> 1) * 8)
        if at + (head >> 1) * width > end or last <= begin:
            return False
        whole = (last - begin) // 8 if width <= 16 else 0  # groups of wider ones are one by one
        worst = max(worst, unpack(data, at, whole, width, dictionary, out, begin))
        bit = (np.uint64(at) + np.uint64(whole * width)) << np.uint64(3)
        for i in range(np.uint64(begin + 8 * whole), np.uint64(last)):
            index = (load8(data, bit >> np.uint64(3)) >> (bit & np.uint64(7))) & mask
            worst = max(worst, index)
            out[i] = dictionary[index]
            bit += np.uint64(width)
        at += (head >> 1) * width
        begin = last
    return worst <= largest


@kernel
def ones(data: np.ndarray, at: int, end: int, count: int) -> int:
    """How many of `count` levels of one bit are 1; `BAD` where there are not so many."""
    found, done = np.int64(0), np.int64(0)
    while done < count:
        if at >= end:
            return BAD
        head, at = get_varint(data, at)
        if head < 0 or at >= end:
            return BAD
        if head & 1 == 0:
            now: int = min(head >> 1, count - done)
            if now < 1 or data[at] > 1:
                return BAD
            found += now * np.int64(data[at])
            at += 1
            done += now
            continue
        if head >> 1 > end - at or head >> 1 < 1:
            return BAD
        now = min((head >> 1) * 8, count - done)
        whole = now >> 3
        for byte in range(np.uint64(at), np.uint64(at + whole)):
            pairs = data[byte] - ((data[byte] >> np.uint8(1)) & np.uint8(0x55))
            fours = (pairs & np.uint8(0x33)) + ((pairs >> np.uint8(2)) & np.uint8(0x33))
            found += np.int64((fours + (fours >> np.uint8(4))) & np.uint8(0x0F))
        for bit in range(now & 7):
            found += (np.int64(data[at + whole]) >> bit) & 1
        at += head >> 1
        done += now
    return found


@kernel
def first_levels(data: np.ndarray, at: int, end: int, count: int, begins: np.ndarray, row: int, value: int) -> int:
    """Where lists begin none of which is empty: each level that is 0 begins one.

    Parameters
    ----------
    data, at, end
        Where the levels stand, of one bit each.
    count
        How many.
    begins
        Output, from `row` on.
    row, value
        How many lists, and values, were before these.

    Returns
    -------
    int
        How many lists there are then; `BAD` where there is no room for them, or there are not so many levels.
    """
    done = np.int64(0)
    while done < count:
        if at >= end:
            return BAD
        head, at = get_varint(data, at)
        if head < 0 or at >= end:
            return BAD
        if head & 1 == 0:
            now: int = min(head >> 1, count - done)
            if now < 1 or data[at] > 1:
                return BAD
            if data[at] == 0:
                if now >= len(begins) - row:
                    return BAD
                for i in range(now):
                    begins[row + i] = value + done + i
                row += now
            at += 1
            done += now
            continue
        if head >> 1 > end - at or head >> 1 < 1:
            return BAD
        now = min((head >> 1) * 8, count - done)
        for group in range((now + 7) >> 3):
            byte = np.int64(data[at + group])
            if byte == 255:  # as nearly all are
                continue
            last: int = min(np.int64(8), now - 8 * group)
            for bit in range(last):
                if (byte >> bit) & 1 == 0:
                    if row + 1 >= len(begins):
                        return BAD
                    begins[row] = value + done + 8 * group + bit
                    row += 1
        at += head >> 1
        done += now
    return row


@kernel
def deltas(data: np.ndarray, at: int, end: int, out: np.ndarray, begin: int, count: int) -> bool:
    """Decode differences in bit-packed blocks; whether there were `count` values."""
    block, at = get_varint(data, at)
    per_block, at = get_varint(data, at)
    total, at = get_varint(data, at)
    value, at = get_signed(data, at)
    if total != count or per_block < 1 or block < per_block or block > MANY or count < 1:
        return count == 0 and total == 0
    size = block // per_block
    out[begin] = value
    done, stop = begin + 1, begin + count
    while done < stop:
        if at >= end:
            return False
        least, at = get_signed(data, at)
        if at + per_block > end:
            return False
        widths = at
        at += per_block
        for part in range(per_block):
            if done >= stop:
                break
            width = np.int64(data[widths + part])
            last = min(stop, done + size)
            if width > 56 or at + (size * width + 7) // 8 > end:
                return False
            mask = (np.uint64(1) << np.uint64(width)) - np.uint64(1)
            bit = np.uint64(at) << np.uint64(3)
            for i in range(np.uint64(done), np.uint64(last)):
                step = (load8(data, bit >> np.uint64(3)) >> (bit & np.uint64(7))) & mask
                value += least + np.int64(step)
                out[i] = value
                bit += np.uint64(width)
            at += size * width // 8
            done = last
    return True


@allocating_kernel
def column(
    data: np.ndarray,
    chunks: np.ndarray,
    index: int,
    size: int,
    lists: int,
    out: np.ndarray,
    begins: np.ndarray,
    levels: np.ndarray,
) -> int:
    """Decode a column.

    Parameters
    ----------
    data, chunks, index
        The file, where its columns lie, and which one.
    size
        Bytes of a plain value.
    lists
        Whether its rows are lists.
    out
        Output: all values, of lists one behind the other.
    begins
        Output, where it is not empty: where lists begin, and the last one ends.
    levels
        Room for two times as many as the column has levels, where `begins` is not empty.

    Returns
    -------
    int
        Number of values; `BAD` where it is not what we write.
    """
    page = np.empty(5, dtype=np.int64)
    dictionary, known = np.zeros(1, dtype=np.int32), np.int64(0)
    at, seen, done, row = chunks[index, CHUNK_BEGIN], np.int64(0), np.int64(0), np.int64(0)
    if at < 0:
        return BAD
    while seen < chunks[index, CHUNK_VALUES]:
        if at + 8 > len(data):
            return BAD
        page_header(data, at, page)
        begin, end = page[BODY], page[AFTER]
        if page[KIND] == BAD or end <= at:
            return BAD
        at = end
        if page[KIND] == DICTIONARY_PAGE:
            known = page[VALUES]
            if size != 4 or begin + known * size > end:
                return BAD
            room = 2  # some write one bit where there is one value
            while room < known:
                room *= 2
            dictionary = np.zeros(room, dtype=np.int32)
            for i in range(known):
                value = load(data, begin + i * size, size)
                dictionary[i] = value if value < 2**31 else value - 2**32
            continue
        count = page[VALUES]
        if seen + count > chunks[index, CHUNK_VALUES]:
            return BAD
        seen += count
        if lists:
            first = begin + 4
            middle = first + load(data, begin, 4)
            if middle + 4 > end:
                return BAD
            begin = middle + 4 + load(data, middle, 4)
            if begin > end:
                return BAD
            values = ones(data, middle + 4, begin, count)
            if values == BAD:
                return BAD
            if len(begins) > 0:
                if values == count:
                    row = first_levels(data, first, middle, count, begins, row, done)
                else:
                    row = list_begins(data, first, middle, begin, count, begins, row, done, levels)
                if row == BAD:
                    return BAD
            count = values
        if done + count > len(out):
            return BAD
        if count == 0:
            continue
        if page[ENCODING] == RLE_DICTIONARY:
            width = np.int64(data[begin])
            if not runs(data, begin + 1, end, width, dictionary, known, out, done, count):
                return BAD
        elif page[ENCODING] == DELTA_BINARY_PACKED:
            if not deltas(data, begin, end, out, done, count):
                return BAD
        elif page[ENCODING] == PLAIN and begin + count * size <= end:
            for i in range(count):
                value = load(data, begin + i * size, size)
                out[done + i] = value if size == 8 or value < 2**31 else value - 2**32
        else:
            return BAD
        done += count
    if len(begins) > 0:
        if row + 1 != len(begins):
            return BAD
        begins[row] = done
    return done


@allocating_kernel
def list_begins(
    data: np.ndarray,
    first: int,
    middle: int,
    end: int,
    count: int,
    begins: np.ndarray,
    row: int,
    value: int,
    levels: np.ndarray,
) -> int:
    """Where lists begin some of which are empty.

    Parameters
    ----------
    data, first, middle, end
        Where the levels stand: whether a value is in the list that the one before is in; whether there is one.
    count, begins, row, value
        See `first_levels`.
    levels
        Room for twice as many as there are.

    Returns
    -------
    int
        See `first_levels`.
    """
    # Not as literals: numba would compile `runs` anew for each.
    bits, one, none = np.array([0, 1], dtype=np.int32), np.int64(1), np.int64(0)
    if 2 * count > len(levels):
        return BAD
    same, there = levels[:count], levels[count : 2 * count]
    if not runs(data, first, middle, one, bits, np.int64(2), same, none, count):
        return BAD
    if not runs(data, middle + 4, end, one, bits, np.int64(2), there, none, count):
        return BAD
    for i in range(count):
        if same[i] == 0:
            if row + 1 >= len(begins):
                return BAD
            begins[row] = value
            row += 1
        value += np.int64(there[i])  # as a byte it would come round where this is not compiled
    return row


@allocating_kernel
def decode(
    data: np.ndarray,
    footer: int,
    places: np.ndarray,
    sizes: np.ndarray,
    chunks: np.ndarray,
    job_id: np.ndarray,
    rejected: np.ndarray,
    cores: np.ndarray,
    time: np.ndarray,
    limit: np.ndarray,
    used: np.ndarray,
    max_used: np.ndarray,
    swap: np.ndarray,
    core: np.ndarray,
    row_begin: np.ndarray,
    max_begin: np.ndarray,
    core_begin: np.ndarray,
    levels: np.ndarray,
) -> int:
    """Decode the samples of a shard.

    Parameters
    ----------
    data, footer
        The file, and where its footer begins.
    places
        Which columns the nine from `job_id` on are.
    sizes
        Output, shape (9,): how many values each of them has; where there is no room, how many it needs.
    chunks
        For `column_chunks`.
    job_id, rejected, cores, time, limit, used, max_used, swap, core, row_begin, max_begin, core_begin
        Output, see `jobeff.store.shards.Samples`; room for all values, and for one more than raw files.
    levels
        Room for two times as many as time or max_used have levels.

    Returns
    -------
    int
        How many raw files it holds; `BAD` where it is not what we write, `NO_ROOM` where it is more than there is room
        for.
    """
    chunks[:] = 0
    rows = column_chunks(data, footer, chunks)
    if rows < 0:
        return BAD
    longest = np.int64(0)
    for i in range(len(places)):
        sizes[i] = chunks[places[i], CHUNK_VALUES]
        if sizes[i] < 0 or sizes[i] > MANY:
            return BAD
        longest = max(longest, sizes[i])
    if sizes[0] != rows:
        return BAD
    fits = len(job_id) >= sizes[0] and len(rejected) >= sizes[1] and len(cores) >= sizes[2] and len(time) >= sizes[3]
    fits = fits and len(limit) >= sizes[4] and len(used) >= sizes[5] and len(max_used) >= sizes[6]
    fits = fits and len(swap) >= sizes[7] and len(core) >= sizes[8] and len(levels) >= 2 * longest
    if not fits or min(len(row_begin), len(max_begin), len(core_begin)) <= rows:
        return NO_ROOM
    none = row_begin[:0]
    # Not as literals: numba would compile `column` anew for each.
    eight, four, yes, no = np.int64(8), np.int64(4), np.int64(1), np.int64(0)
    flat = column(data, chunks, places[0], eight, no, job_id, none, levels) == rows
    flat = flat and column(data, chunks, places[1], four, no, rejected, none, levels) == rows
    if not flat or column(data, chunks, places[2], four, no, cores, none, levels) != rows:
        return BAD
    total = column(data, chunks, places[3], eight, yes, time, row_begin[: rows + 1], levels)
    same = total != BAD and column(data, chunks, places[4], four, yes, limit, none, levels) == total
    same = same and column(data, chunks, places[5], four, yes, used, none, levels) == total
    if not same or column(data, chunks, places[7], four, yes, swap, none, levels) != total:
        return BAD
    if column(data, chunks, places[6], four, yes, max_used, max_begin[: rows + 1], levels) == BAD:
        return BAD
    core_begin[0] = 0
    for row in range(rows):
        core_begin[row + 1] = core_begin[row] + (row_begin[row + 1] - row_begin[row]) * cores[row]
    if column(data, chunks, places[8], four, yes, core, none, levels) != core_begin[rows]:
        return BAD
    for i in range(len(sizes)):
        sizes[i] = rows if i < 3 else total
    sizes[6], sizes[8] = max_begin[rows], core_begin[rows]
    return rows
