"""Numba kernels: pages of a tree filled with cells, one behind the other."""

from __future__ import annotations

import numpy as np

from jobeff.jit import allocating_kernel, kernel
from jobeff.store.format_kernels import (
    INDEX_INTERIOR,
    INDEX_LEAF,
    big_endian,
    copy,
    put_big_endian,
    put_varint,
    varint_size,
)
from jobeff.store.table_kernels import cell_size, local_size

LOCK_BYTE = 2**30  # the page that this byte is on is for locks; SQLite never uses it for anything else

# What comes behind what `pack` is given.
GO_ON, LAST, GOES_UP = range(3)

# Where `pack` stands between two calls.
NEXT_PAGE, CELLS, CONTENT, DIVIDERS, DIVIDER_BYTES, WRITTEN = range(6)


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
