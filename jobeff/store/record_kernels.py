"""Numba kernels: rows as records, and records as cells of pages."""

from __future__ import annotations

import numpy as np

from jobeff.jit import allocating_kernel, kernel
from jobeff.prefetch import prefetch
from jobeff.store.format_kernels import (
    BEFORE_TEXT,
    SIZES,
    TAG_NULL,
    copy,
    copy_eight,
    copy_short,
    get_eight,
    put_eight,
    put_eight_back,
    put_varint,
    varint_size,
)

INTEGER, REAL, TEXT, WORD, BESIDE_TEXT, CONSTANT = range(6)
CRC_BLOCK, LEAST_CELLS = 16, 64  # whole blocks of so many bytes, and so many bytes, that `crc_kernels` folds
AHEAD = 8  # rows that are asked for before they are needed


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
