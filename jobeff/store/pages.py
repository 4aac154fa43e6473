"""SQLite files read and written in bulk, page by page, where going through SQL would take longer than all other work.

Reading: a caller holds a read transaction, so that nobody writes; then the pages of the file are what SQL would give.
Writing: into a new database that nobody knows of yet; its tables are made by SQLite, empty, and filled here.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from jobeff.order import distinct
from jobeff.store import format_kernels, table_kernels, tree_kernels, word_kernels

Int64s = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]
NO_BYTES = np.empty(0, dtype=np.uint8)
_NONE = np.empty(0, dtype=np.int64)
ROLLBACK_JOURNAL, UTF8 = 1, 1
PAGE_SIZES = {1 << bits for bits in range(9, 17)}
FIRST_WORDS, WORD_GUESS = 1 << 9, 24
"""Words, and bytes per word, that room is made for at first."""

LONG_GUESS = 1 << 14
"""Bytes of a row that does not fit into a page that room is made for at first."""

_held: dict[Path, Bytes] = {}


class Texts(NamedTuple):
    """Text columns, in which each text is the number of a word.

    Attributes
    ----------
    codes
        Shape (columns, rows): which word each text is.
    offsets
        Shape (words + 1,): where each word begins in `data`, and the last one ends.
    data
        All bytes, as UTF-8.
    """

    codes: npt.NDArray[np.int32]
    offsets: Int64s
    data: Bytes

    def words(self, numbers: Int64s) -> list[str]:
        """Some of the words.

        Parameters
        ----------
        numbers
            Shape (texts,): which.

        Returns
        -------
        list of str
            Decoded.
        """
        data = memoryview(self.data)  # type: ignore[arg-type]
        places = zip(self.offsets[numbers].tolist(), self.offsets[numbers + 1].tolist(), strict=True)
        return [str(data[begin:end], "utf-8") for begin, end in places]

    @property
    def size(self) -> int:
        """How many words there are."""
        return len(self.offsets) - 1


class Words:
    """Words that kernels number as they meet them.

    Parameters
    ----------
    room
        For how many there is room at first, a power of two.

    Attributes
    ----------
    slots, offsets, data
        What they are found by, where each begins in the data and the last one ends, and their bytes; all with room for
        more.
    """

    def __init__(self, room: int = FIRST_WORDS) -> None:
        self.slots = _slots(room)
        self.offsets = np.zeros(room + 1, dtype=np.int64)
        self.data = np.empty(room * WORD_GUESS, dtype=np.uint8)

    def grow(self, count: int) -> None:
        """Make more room.

        Parameters
        ----------
        count
            How many words there are.
        """
        room = 2 * (len(self.offsets) - 1)
        self.slots, self.offsets = _slots(room), np.resize(self.offsets, room + 1)
        self.data = np.resize(self.data, 2 * len(self.data))
        word_kernels.enter(self.slots, self.offsets[: count + 1], self.data)

    def texts(self, codes: npt.NDArray[np.int32], count: int) -> Texts:
        """Text columns of the words.

        Parameters
        ----------
        codes
            See `Texts`.
        count
            How many words there are.

        Returns
        -------
        Texts
            Without the room for more.
        """
        return Texts(codes, self.offsets[: count + 1], self.data[: self.offsets[count]])


def _slots(words: int) -> Int64s:
    return np.full((words * word_kernels.SLOTS_PER_WORD, 4), word_kernels.FREE)


@dataclass(frozen=True)
class Wanted:
    """Which rows of a table to read: those where one text equals, another begins with, and a third is not empty."""

    equal_column: str
    equal: str
    begin_column: str
    begin: str
    filled_column: str


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """Keep a database mapped, so that this process does not close it while it reads it through SQLite too.

    When a process closes a file, it loses all its POSIX locks on it, SQLite's as well. So this stands around the life
    of the connection.

    Parameters
    ----------
    path
        An existing database.
    """
    _held[path] = _map(path)
    try:
        yield
    finally:
        del _held[path]


def _map(path: Path) -> Bytes:
    with path.open("rb") as file:
        return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), dtype=np.uint8)


def mapped(path: Path) -> Bytes:
    """All bytes of a database, mapped.

    Parameters
    ----------
    path
        The database; within `held` it is not mapped again.

    Returns
    -------
    ndarray of uint8
        For reading only.
    """
    return _held[path] if path in _held else _map(path)


def readable(path: Path) -> bool:
    """Whether the pages of a database can be read here.

    Parameters
    ----------
    path
        An existing database.

    Returns
    -------
    bool
        Not where it has a write-ahead log, another encoding than UTF-8, or reserved bytes: then SQLite has to.
    """
    if path in _held:
        header = _held[path][: table_kernels.FILE_HEADER].tobytes()
    else:
        with path.open("rb") as file:
            header = file.read(table_kernels.FILE_HEADER)
    journal = header[18:20] == bytes([ROLLBACK_JOURNAL, ROLLBACK_JOURNAL])
    return len(header) == table_kernels.FILE_HEADER and journal and header[20] == 0 and header[59] == UTF8


def state_of(path: Path) -> int:
    """What tells the state of a database from those before and behind it.

    Parameters
    ----------
    path
        The database, within `held` and a transaction.

    Returns
    -------
    int
        SQLite's change counter, which each transaction raises that writes.
    """
    return int.from_bytes(_held[path][24:28].tobytes(), "big")


def blocks(connection: sqlite3.Connection, table: str, number: str, wanted: Wanted) -> Int64s:
    """In which blocks of row numbers rows stand, out of an index on the two columns that `Wanted` compares.

    Parameters
    ----------
    connection
        The database.
    table, number
        Its name and that of its row number.
    wanted
        Which rows.

    Returns
    -------
    ndarray of int64
        Sorted, see `read`.
    """
    same, begins = f"{wanted.equal_column} = ?1", wanted.begin_column
    bits, rest = table_kernels.BLOCK_BITS, (1 << table_kernels.BLOCK_BITS) - 1
    behind = wanted.begin[:-1] + chr(ord(wanted.begin[-1]) + 1)
    # Rows that are equal in both columns are in order of their number: so one look-up finds the next block.
    query = f"""with recursive
        texts(text) as (
            select min({begins}) from {table} where {same} and {begins} >= ?2 and {begins} < ?3
            union all
            select (select min({begins}) from {table} where {same} and {begins} > text and {begins} < ?3)
            from texts where text is not null
        ), found(text, block) as (
            select text, (select min({number}) from {table} where {same} and {begins} = text) >> {bits}
            from texts where text is not null
            union all
            select text, (select min({number}) from {table}
                          where {same} and {begins} = text and {number} > (block << {bits} | {rest})) >> {bits}
            from found where block is not null
        ) select distinct block from found where block is not null"""
    found = connection.execute(query, (wanted.equal, wanted.begin, behind))
    return np.sort(np.array([block for (block,) in found], dtype=np.int64))


class Place(NamedTuple):
    """Where a table or index lies in a database: its first page, and its columns in order."""

    root: int
    columns: list[str]


def place(connection: sqlite3.Connection, name: str) -> Place:
    """Find a table or index.

    Parameters
    ----------
    connection
        The database.
    name
        Of the table or index.

    Returns
    -------
    Place
        Its first page and columns.
    """
    root = connection.execute("select rootpage from sqlite_master where name = ?", (name,)).fetchone()[0]
    columns = [row[1] for row in connection.execute(f"pragma table_info({name})")]
    return Place(root, columns)


def read(
    path: Path, table: Place, blocks: Int64s, wanted: Wanted, integers: list[str], texts: list[str]
) -> tuple[Int64s, Texts] | None:
    """Read columns of some rows of a table that has row numbers.

    Parameters
    ----------
    path
        The database, in which nobody writes meanwhile.
    table
        From `place`.
    blocks
        From `blocks`, of all rows wanted or more.
    wanted
        Which rows.
    integers, texts
        Columns that are integers and texts in every row.

    Returns
    -------
    tuple of ndarray and Texts, or None
        Integers, shape (columns, rows), and texts; None where the file is not as expected, so that SQLite has to look.
    """
    data = mapped(path)
    column = {name: index for index, name in enumerate(table.columns)}
    tested = (wanted.equal_column, wanted.begin_column, wanted.filled_column)
    last = 1 + max(column[name] for name in (*integers, *texts, *tested))
    page_size = page_size_of(data)
    if page_size is None:
        return None
    rows = len(blocks) << table_kernels.BLOCK_BITS
    ints, codes = np.empty((len(integers), rows), dtype=np.int64), np.empty((len(texts), rows), dtype=np.int32)
    words, long = Words(), np.empty(LONG_GUESS, dtype=np.uint8)
    fields, levels = np.empty((2, last), dtype=np.int64), np.zeros((4, format_kernels.DEPTH), dtype=np.int64)
    state = np.zeros(4, dtype=np.int64)
    while True:
        found = table_kernels.read_table(
            data, page_size, table.root, blocks,
            column[wanted.equal_column], _word(wanted.equal), column[wanted.begin_column], _word(wanted.begin),
            column[wanted.filled_column],
            np.array([column[name] for name in integers]), np.array([column[name] for name in texts]),
            ints, codes, words.slots, words.offsets, words.data,
            long, fields, np.zeros(len(texts), dtype=np.int64), levels, state,
        )  # fmt: skip
        count = int(state[table_kernels.READ_WORDS])
        if found == format_kernels.BAD or len(words.data) > 4 * len(data) + FIRST_WORDS * WORD_GUESS:
            return None
        if found >= 0:
            return ints[:, :found], words.texts(codes[:, :found], count)
        if found == format_kernels.FULL:
            words.grow(count)
        else:
            long = np.empty(2 * state[table_kernels.READ_LONG], dtype=np.uint8)


def repeated(
    path: Path, index: Place, text: str, part: int = 0, parts: int = 1, least: Int64s = _NONE
) -> Int64s | None:
    """Numbers that an index of (number, text) holds more than once for a text.

    Parameters
    ----------
    path
        The database, in which nobody writes meanwhile.
    index
        From `place`.
    text
        Which one.
    part, parts
        Which part of the index, and of how many: all of them together find all.
    least
        Changed, shape (blocks,): the least number of each block of row numbers, see `blocks`, where it is less than
        what is there; rows behind the last block are left out.

    Returns
    -------
    ndarray of int64 or None
        Each once, sorted; None as for `read`.
    """
    data = mapped(path)
    page_size = page_size_of(data)
    if page_size is None:
        return None
    found = np.empty(1 << 16, dtype=np.int64)
    while True:
        count = table_kernels.repeated_keys(
            data, page_size, index.root, _word(text), part, parts, found, np.zeros(1, np.int64), least
        )
        if count == format_kernels.BAD:
            return None
        if count <= len(found):
            return distinct(found[:count])
        found = np.empty(count, dtype=np.int64)


def page_size_of(data: Bytes) -> int | None:
    """Bytes per page.

    Parameters
    ----------
    data
        From `mapped`.

    Returns
    -------
    int or None
        None where that is no database.
    """
    size = int(data[16]) << 8 | int(data[17]) if len(data) >= table_kernels.FILE_HEADER else 0
    size = 65536 if size == 1 else size
    return size if size in PAGE_SIZES else None


def _word(text: str) -> Bytes:
    return np.frombuffer(text.encode(), dtype=np.uint8)


class Leaves(NamedTuple):
    """Leaves of an index tree, as far as the levels above need to know them.

    Attributes
    ----------
    dividers, ends
        Cells for the level above, one behind the other.
    numbers
        The page before each of them.
    page, state
        The page that is still open, and how far it is filled.
    """

    dividers: Bytes
    ends: Int64s
    numbers: Int64s
    page: Bytes
    state: Int64s


class IndexTree:
    """Writes an index tree, or a table without row numbers, from records in order of their keys.

    Each record has three bytes or more, as those of two columns have: SQLite has no smaller cells.

    Parameters
    ----------
    file
        The database, open for writing, nobody else having it open.
    page_size
        Bytes per page.
    next_page
        Number of the first page that is not used yet.
    first_page
        Number of the page that the file begins with: another one than 1 where it is a piece of a database.
    """

    def __init__(self, file: BinaryIO, page_size: int, next_page: int, first_page: int = 1) -> None:
        self._file, self._page_size, self._first_page = file, page_size, first_page
        self.overflowed = False
        self._page = np.zeros(page_size, dtype=np.uint8)
        self._state = np.array([next_page, 0, page_size, 0, 0, 0], dtype=np.int64)
        self._above: list[tuple[Bytes, Int64s, Int64s]] = []
        self._out = NO_BYTES

    @property
    def next_page(self) -> int:
        """Number of the first page that is not used yet; it may be the one for locks, which is left empty."""
        return int(self._state[tree_kernels.NEXT_PAGE])

    def add(self, data: Bytes, begins: Int64s, ends: Int64s, then: int) -> None:
        """Add records behind all that have been added.

        Parameters
        ----------
        data, begins, ends
            At least one record, two where the last one goes up.
        then
            `GO_ON`, `LAST` or `GOES_UP` of the kernels: what comes behind these.
        """
        self.overflowed |= int((ends - begins).max()) > (self._page_size - 12) * 64 // 255 - 23
        self._pack(data, begins, ends, np.empty(0, dtype=np.int64), then)

    def leaves(self) -> Leaves:
        """What the levels above need to know of the leaves.

        Returns
        -------
        Leaves
            Of all that was added.
        """
        data = np.concatenate([NO_BYTES, *(data for data, _, _ in self._above)])
        sizes = np.concatenate([_NONE, *(np.diff(ends, prepend=0) for _, ends, _ in self._above)])
        numbers = np.concatenate([_NONE, *(pages for _, _, pages in self._above)])
        return Leaves(data, np.cumsum(sizes), numbers, self._page, self._state)

    def adopt(self, leaves: Leaves) -> None:
        """Take over leaves that stand in the database behind all others.

        Parameters
        ----------
        leaves
            With the numbers that their pages have there; all but those of the last ones went up at the end.
        """
        if len(leaves.numbers):
            self._above.append((leaves.dividers, leaves.ends, leaves.numbers))
        self._page[:] = leaves.page
        for part in (tree_kernels.CELLS, tree_kernels.CONTENT):
            self._state[part] = leaves.state[part]

    def finish(self, root: int) -> None:
        """Write the levels above the leaves.

        Parameters
        ----------
        root
            Number of the page that the database knows the tree by.
        """
        kind, right = format_kernels.INDEX_LEAF, 0
        while self._above:
            number = tree_kernels.usable_page(self.next_page, self._page_size)
            self._close(kind, right, number)
            pages = np.concatenate([*(pages for _, _, pages in self._above), [number]])
            self._state[tree_kernels.NEXT_PAGE] = number + 1
            data = np.concatenate([data for data, _, _ in self._above])
            sizes = np.concatenate([np.diff(ends, prepend=0) for _, ends, _ in self._above])
            ends = np.cumsum(sizes)
            self._above = []
            tree_kernels.start_page(self._page, self._state)
            self._pack(data, ends - sizes, ends, pages, tree_kernels.LAST)
            kind, right = format_kernels.INDEX_INTERIOR, int(pages[-1])
        self._close(kind, right, root)

    def _pack(self, data: Bytes, begins: Int64s, ends: Int64s, children: Int64s, then: int) -> None:
        sizes = ends - begins
        size = self._page_size
        room = 5 + int(1.6 * (sizes.sum() + 16 * len(sizes)) / size) + 2 * int((sizes > size // 5).sum())
        if len(self._out) < room * size:
            self._out = np.empty(room * size, dtype=np.uint8)
        out = self._out
        dividers, divider_ends = np.empty(room * (size // 3), dtype=np.uint8), np.empty(room, dtype=np.int64)
        pages = np.empty(room, dtype=np.int64)
        for counter in (tree_kernels.DIVIDERS, tree_kernels.DIVIDER_BYTES, tree_kernels.WRITTEN):
            self._state[counter] = 0
        first = self.next_page
        tree_kernels.pack(
            data, begins, ends, children, then, self._page, self._state, out, dividers, divider_ends, pages
        )
        self._file.seek((first - self._first_page) * size)
        self._file.write(out[: self._state[tree_kernels.WRITTEN]].data)
        count = int(self._state[tree_kernels.DIVIDERS])
        if count:
            self._above.append((dividers[: divider_ends[count - 1]].copy(), divider_ends[:count].copy(), pages[:count]))

    def _close(self, kind: int, right: int, number: int) -> None:
        out = np.empty(self._page_size, dtype=np.uint8)
        tree_kernels.close_page(self._page, self._state, kind, right, out, 0)
        self._file.seek((number - self._first_page) * self._page_size)
        self._file.write(out.data)


def set_page_count(file: BinaryIO, pages: int) -> None:
    """Tell a database's header how many pages it has now.

    Parameters
    ----------
    file
        The database, as for `IndexTree`.
    pages
        All of them.
    """
    file.seek(24)
    changes = int.from_bytes(file.read(4), "big") + 1
    for offset, value in ((24, changes), (28, pages), (92, changes)):
        file.seek(offset)
        file.write(value.to_bytes(4, "big"))
    file.flush()
    os.fsync(file.fileno())
