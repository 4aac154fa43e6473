"""Rows as SQLite's records, as they stand in the pages of a table or index."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from jobeff.store import page_kernels as kernels
from jobeff.store.crc_table import crc32_table
from jobeff.store.pages import Texts

Int64s = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]


class Encoder:
    """Writes rows as records, and sums their checksums on the way.

    Parameters
    ----------
    columns
        In order of the record: `INTEGER`, `REAL`, `TEXT` or `BESIDE_TEXT` of the kernels, and which column of the
        next ones; or `WORD`.
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
        self._kinds, self._sources = (np.array(column, dtype=np.int64) for column in zip(*columns, strict=True))
        self._integers, self._reals, self._texts, self._beside = integers, reals, texts, beside
        self._word, self._fields = np.frombuffer(word.encode(), dtype=np.uint8), np.array(fields, dtype=np.int64)
        self._total = np.zeros(1, dtype=np.int64)

    @property
    def total(self) -> int:
        """Sum of the checksums of all rows that have been written."""
        return int(self._total[0])

    def size(self, text_rows: Int64s) -> int:
        """Room that records may need.

        Parameters
        ----------
        text_rows
            Which rows of the texts belong to them.

        Returns
        -------
        int
            Bytes.
        """
        length = 0
        for i in self._sources[self._kinds == kernels.TEXT].tolist():
            ends = self._texts.ends[i]
            length += int((ends[text_rows] - np.where(text_rows > 0, ends[text_rows - 1], 0)).sum())
        return length + len(text_rows) * (4 + 13 * len(self._kinds) + len(self._word))

    def write(self, rows: Int64s, text_rows: Int64s, out: Bytes, ends: Int64s, begin: int = 0) -> int:
        """Write records.

        Parameters
        ----------
        rows, text_rows
            Shape (records,): which rows, in this order, and which of the texts.
        out
            Takes the records, from `begin` on; with room for `size` bytes, and eight more.
        ends
            Shape (records,), takes where each ends.
        begin
            Where to begin.

        Returns
        -------
        int
            Where the last one ends.
        """
        return int(
            kernels.encode(
                self._kinds, self._sources, self._integers, self._reals, self._beside, *self._texts, self._word,
                rows, text_rows, self._fields, crc32_table(), out, ends, begin, self._total,
            )
        )  # fmt: skip
