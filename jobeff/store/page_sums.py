"""Sums over the rows of tables, read from the pages of a database."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from jobeff.store import format_kernels, pages, row_sums, sum_kernels
from jobeff.store.crc_table import crc32_table
from jobeff.store.row_sums import Block, Column, Totals

Int64s = npt.NDArray[np.int64]
PAGES_AT_ONCE = 1 << 14
"""So often a signal is heard, and progress shown."""


class Shape(NamedTuple):
    """How the records of a table are to be read.

    Attributes
    ----------
    root
        Its first page.
    fields, is_real
        Shape (columns,): which field of the record each column is, -1 being the row number; whether it holds reals.
    parts, lengths
        Which fields the name of a block is made of, and how many bytes of each; -1 means all.
    """

    root: int
    fields: Int64s
    is_real: npt.NDArray[np.bool_]
    parts: Int64s
    lengths: Int64s


def shape(connection: sqlite3.Connection, table: str, block: Block) -> Shape:
    """How a table is to be read.

    Parameters
    ----------
    connection, table, block
        The database, and which table.

    Returns
    -------
    Shape
        See there.
    """
    query = "select rootpage, sql from main.sqlite_master where type = 'table' and name = ?"
    root, sql = connection.execute(query, (table,)).fetchone()
    columns = row_sums.columns(connection, table)
    numbered = not sql.rstrip().lower().endswith("without rowid")
    fields = np.array(_fields(columns, numbered), dtype=np.int64)
    names = [column.name for column in columns]
    return Shape(
        root,
        fields,
        np.array([column.type == "real" for column in columns]),
        np.array([fields[names.index(name)] for name, _ in block], dtype=np.int64),
        np.array([-1 if length is None else length for _, length in block], dtype=np.int64),
    )


def _fields(columns: Sequence[Column], numbered: bool) -> list[int]:
    """Which field of a record each column is: keys come first in a table without row numbers."""
    keys = sorted((column.key, index) for index, column in enumerate(columns) if column.key)
    if not numbered:
        order = [index for _, index in keys] + [index for index, column in enumerate(columns) if not column.key]
        return [order.index(index) for index in range(len(columns))]
    alias = keys[0][1] if len(keys) == 1 and columns[keys[0][1]].type == "integer" else -1
    return [-1 if index == alias else index for index in range(len(columns))]


def sums(path: Path, table: Shape, wanted: Mapping[str, bool], progress: Callable[[int], object]) -> Totals | None:
    """Rows and sums by block.

    Parameters
    ----------
    path
        The database, in which nobody writes meanwhile.
    table
        From `shape`.
    wanted
        Names of all blocks that are known, and whether to sum each; the empty name is for rows in none of them.
    progress
        Called with the number of rows summed since it was last called.

    Returns
    -------
    dict or None
        By block, of those that have rows; None where the pages are not as expected, so that SQLite has to look.
    """
    data = pages.mapped(path)
    page_size = pages.page_size_of(data)
    names = [name for name in wanted if name]
    keys = np.array([_key(name) if len(table.parts) else 0 for name in names], dtype=np.int64)
    order = np.argsort(keys)
    if page_size is None or len(np.unique(keys)) < len(keys):
        return None
    names = [*(names[i] for i in order), ""]
    rows, totals = np.zeros(len(names), dtype=np.int64), np.zeros(len(names), dtype=np.int64)
    stack, step = np.zeros(format_kernels.DEPTH, dtype=np.int64), np.zeros(format_kernels.DEPTH, dtype=np.int64)
    state = np.zeros(2, dtype=np.int64)
    stack[0] = table.root
    done, before = 0, 0
    while done == 0:
        done = sum_kernels.sum_rows(
            data, page_size, len(table.fields), table.fields, table.is_real, table.parts, table.lengths,
            keys[order], np.array([wanted.get(name, True) for name in names]), crc32_table(),
            stack, step, state, PAGES_AT_ONCE, rows, totals,
        )  # fmt: skip
        progress(int(rows.sum()) - before)
        before = int(rows.sum())
    if done == format_kernels.BAD:
        return None
    return {name: (int(r), int(s)) for name, r, s in zip(names, rows, totals, strict=True) if r}


def _key(name: str) -> int:
    return int(sum_kernels.name_key(np.frombuffer(name.encode(), dtype=np.uint8)))
