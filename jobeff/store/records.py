"""Rows as SQLite's records, as they stand in the pages of a table or index."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from jobeff.store import format_kernels, record_kernels
from jobeff.store.pages import Texts

Int64s = npt.NDArray[np.int64]
_TAGS = {
    record_kernels.INTEGER: format_kernels.TAG_INTEGER,
    record_kernels.BESIDE_TEXT: format_kernels.TAG_INTEGER,
    record_kernels.CONSTANT: format_kernels.TAG_INTEGER,
    record_kernels.REAL: format_kernels.TAG_REAL,
    record_kernels.TEXT: format_kernels.TAG_TEXT,
    record_kernels.WORD: format_kernels.TAG_TEXT,
}


ROOM = 1 << 20
"""Bytes for records at first."""

ROWS_AT_ONCE = 1 << 10
"""Rows that go from one kernel to the next at once, while they are in the processor's cache."""

ROOM_FOR_ROWS = ROWS_AT_ONCE + 8
"""A little more: else what stands beside one another in a row would all compete for the same places of the cache."""

MOST_COLUMNS = 31
"""Of more, the size of a record's header might take two bytes."""


class Stretch(NamedTuple):
    """Bytes in which records stand in any order, and where each begins and ends: shape (records,)."""

    data: npt.NDArray[np.uint8]
    begins: Int64s
    ends: Int64s


class Records:
    """Records, and where each begins and ends; all of it is used again for the next ones.

    Attributes
    ----------
    data
        Bytes; those of the records stand in any order.
    begins, ends
        Shape (records,).
    used
        Bytes that they take.
    """

    def __init__(self) -> None:
        self.data = np.empty(ROOM, dtype=np.uint8)
        self.begins = self.ends = np.empty(0, dtype=np.int64)
        self.used = 0

    @property
    def all(self) -> Stretch:
        """All of them."""
        return Stretch(self.data, self.begins, self.ends)

    def clear(self) -> None:
        """Forget all records."""
        self.begins = self.ends = self.ends[:0]
        self.used = 0

    def added(self, ends: Int64s) -> None:
        """Take records that have been written behind the others.

        Parameters
        ----------
        ends
            Where they end, at least one.
        """
        self.begins = np.concatenate([self.begins, [self.used], ends[:-1]])
        self.ends = np.concatenate([self.ends, ends])
        self.used = int(ends[-1])

    def copy(self, data: npt.NDArray[np.uint8], ends: Int64s) -> None:
        """Take records that stand one behind the other somewhere else.

        Parameters
        ----------
        data
            Bytes.
        ends
            Where the first begins in it, and each one ends, at least one.
        """
        first, last = ends[[0, -1]].tolist()
        while self.used + last - first > len(self.data):
            self.grow(self.used)
        self.data[self.used : self.used + last - first] = data[first:last]
        self.added(ends[1:] - first + self.used)

    def grow(self, used: int) -> None:
        """Make more room.

        Parameters
        ----------
        used
            So many bytes are kept.
        """
        data = np.empty(2 * len(self.data), dtype=np.uint8)
        data[:used] = self.data[:used]
        self.data = data

    def arrange(self, first: int, order: Int64s) -> None:
        """Put records in another order, where they stand.

        Parameters
        ----------
        first
            All behind the first so many.
        order
            Indexes of these.
        """
        for ends in (self.begins, self.ends):
            ends[first:] = ends[first:][order]


class Encoder:
    """Writes rows as records, and sums their checksums on the way.

    Parameters
    ----------
    columns
        In order of the record: `INTEGER`, `REAL`, `TEXT` or `BESIDE_TEXT` of the kernels, and which column of the
        next ones; `CONSTANT`, and the integer; or `WORD`.
    integers, reals
        Shapes (rows, integers), (rows, reals); NaN is NULL.
    texts
        Text columns.
    beside
        Shape (integers, texts): integers that stand beside the texts.
    word
        What stands in a column that is `WORD`.
    fields
        Which field of the record each column of the table is, in order of the table; without, nothing is summed.
    """

    def __init__(
        self,
        columns: list[tuple[int, int]],
        integers: Int64s,
        reals: npt.NDArray[np.float64],
        texts: Texts,
        beside: Int64s,
        word: str,
        fields: Sequence[int] = (),
    ) -> None:
        if len(columns) > MOST_COLUMNS:
            raise ValueError(f"{len(columns)} columns are more than {MOST_COLUMNS}")
        if fields and sorted(fields) != list(range(len(columns))):
            raise ValueError("the fields are not the columns in another order")
        self._kinds, self._sources = (np.array(column, dtype=np.int64) for column in zip(*columns, strict=True))
        self._integers, self._bits, self._texts, self._beside = integers, reals.view(np.int64), texts, beside
        self._word = np.frombuffer(word.encode(), dtype=np.uint8)
        order = np.array(fields or range(len(columns)), dtype=np.int64)
        self._summed = len(fields) > 0
        self._fields, self._fields_sources = self._kinds[order], self._sources[order]
        is_number = ~np.isin(self._fields, (record_kernels.TEXT, record_kernels.WORD))
        self._places = np.zeros(len(columns), dtype=np.int64)
        self._places[order[is_number]] = np.arange(is_number.sum())
        self._tags = np.zeros(len(order) + 8, dtype=np.uint8)
        self._tags[: len(order)] = [_TAGS[kind] for kind in self._fields.tolist()]
        self._types = np.zeros((ROWS_AT_ONCE, MOST_COLUMNS + 1), dtype=np.uint8)
        self._bodies, self._exact = np.empty((2, is_number.sum(), ROOM_FOR_ROWS), dtype=np.int64)
        self._row_ints, self._row_bits = (
            np.empty((array.shape[1], ROOM_FOR_ROWS), dtype=np.int64) for array in (integers, reals)
        )
        self._nulls, self._serials = np.empty((2, ROOM_FOR_ROWS), dtype=np.int64)
        self._cells = np.empty(ROOM if fields else 0, dtype=np.uint8)
        self.total = 0
        """Sum of the checksums of all rows that have been written."""

    def write(self, rows: Int64s, text_rows: Int64s, records: Records) -> None:
        """Write records.

        Parameters
        ----------
        rows, text_rows
            Shape (records,): which rows, in this order, and which of the texts.
        records
            Takes them, behind those that it has.
        """
        ends = np.empty(len(rows), dtype=np.int64)
        used = records.used
        for at in range(0, len(rows), ROWS_AT_ONCE):
            some = slice(at, at + ROWS_AT_ONCE)
            used = self._write(rows[some], text_rows[some], records, used, ends[some])
        if len(rows):
            records.added(ends)

    def _write(self, rows: Int64s, text_rows: Int64s, records: Records, used: int, ends: Int64s) -> int:
        """Write some records; where the last one ends."""
        from jobeff.store.crc_kernels import of_blocks  # noqa: PLC0415  (who hands out work need not wait for numba)

        numbers = self._row_ints, self._row_bits
        record_kernels.gather(rows, self._integers, self._bits, *numbers)
        record_kernels.form(
            self._kinds, self._sources, self._places, *numbers, self._row_bits.view(np.float64), self._beside,
            len(self._word), text_rows, self._types, self._bodies, self._exact, self._nulls, self._serials,
        )  # fmt: skip
        texts = (*self._texts, self._word, text_rows)
        done = 0
        while True:
            done, used = record_kernels.encode(
                self._kinds, self._sources, *texts, self._types, self._bodies, done, records.data, ends, used
            )
            if done == len(rows):
                break
            records.grow(used)
        if self._summed:
            begins, cell_ends = np.empty((2, len(rows)), dtype=np.int64)
            about = (self._fields, self._fields_sources, self._tags, *texts, self._exact, self._nulls)
            while record_kernels.write_cells(*about, self._cells, begins, cell_ends) < len(rows):
                self._cells = np.empty(2 * len(self._cells), dtype=np.uint8)
            self.total += int(of_blocks(self._cells, begins, cell_ends).sum())
        return used
