"""Sums over the rows of every table, by which a flipped bit in any cell is found.

Each database has a table ``digests``: for each block of a table the number of its rows, and the sum of their
checksums. Whoever writes a row changes the sums by what came and what went; they are never taken anew from the rows
that stand there, so damage does not become what is right.

A row's checksum is the CRC-32 of its cells in the order of the table's columns: a byte per cell that says what it is
(`NULL`, `INTEGER`, `REAL`, `TEXT`), eight bytes for each number (integers signed, reals as IEEE 754; the lowest byte
first), and the texts as UTF-8, before each of them the byte 255, which stands in no text. The kernels in
`jobeff.store.record_kernels` and `jobeff.store.sum_kernels` do the same. A sum stays exact up to 2**31 rows in a block.
"""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any, NamedTuple
from zlib import crc32

NULL, INTEGER, REAL, TEXT = range(4)
BEFORE_TEXT = b"\xff"
FUNCTION = "row_checksum"
ROWS_AT_ONCE = 4096
PLANS = 4096
"""More kinds of rows than this are never met, but where there is damage."""

DIGESTS = """
create table digests (
    table_name text not null, block text not null, rows integer not null, sum integer not null,
    primary key (table_name, block)
) without rowid;
"""

Block = tuple[tuple[str, int | None], ...]
"""Columns that say in which block a row stands, and how many characters of each; without any there is one block."""

WHOLE: Block = ()
ALL = "all"
"""Name of the only block of a small table."""

Totals = dict[str, tuple[int, int]]
"""Rows and sum by block."""


class Column(NamedTuple):
    """A column of a table: its name and declared type, and its place in the primary key from 1 on, or 0."""

    name: str
    type: str
    key: int


def columns(connection: sqlite3.Connection, table: str) -> list[Column]:
    """Columns of a table, in order.

    Parameters
    ----------
    connection, table
        The database, and which table.

    Returns
    -------
    list of Column
        Empty where there is no such table.
    """
    found = connection.execute(f'pragma main.table_info("{table}")')
    return [Column(name, kind.lower(), key) for _, name, kind, _, _, key in found]


def checksum(*row: int | float | str | bytes | None) -> int:
    """Checksum of a row.

    Parameters
    ----------
    *row
        Its cells in order; bytes are a text in UTF-8.

    Returns
    -------
    int
        CRC-32.
    """
    pack, tags, numbers, texts = _plans[tuple(map(type, row))]
    try:
        return crc32(BEFORE_TEXT.join((pack(tags, *numbers(row)), *texts(row))))
    except TypeError:  # a text in a column of numbers
        found = [one.encode() if isinstance(one, str) else one for one in texts(row)]
        return crc32(BEFORE_TEXT.join((pack(tags, *numbers(row)), *found)))


class _Plan(NamedTuple):
    """How rows of some types are packed."""

    pack: Callable[..., bytes]
    tags: bytes
    numbers: Callable[[Sequence[Any]], Sequence[Any]]
    texts: Callable[[Sequence[Any]], Sequence[Any]]


class _Plans(dict[tuple[type, ...], _Plan]):
    def __missing__(self, kinds: tuple[type, ...]) -> _Plan:
        tags = [NULL if k is type(None) else INTEGER if k is int else REAL if k is float else TEXT for k in kinds]
        codes = "".join({INTEGER: "q", REAL: "d"}.get(tag, "") for tag in tags)
        numbers = [i for i, tag in enumerate(tags) if tag in (INTEGER, REAL)]
        texts = [i for i, tag in enumerate(tags) if tag == TEXT]
        plan = _Plan(struct.Struct(f"<{len(tags)}s{codes}").pack, bytes(tags), _getter(numbers), _getter(texts))
        if len(self) >= PLANS:
            self.clear()
        self[kinds] = plan
        return plan


def _getter(indexes: list[int]) -> Callable[[Sequence[Any]], Sequence[Any]]:
    if len(indexes) > 1:
        return itemgetter(*indexes)
    return lambda row: [row[index] for index in indexes]


_plans = _Plans()


def install(connection: sqlite3.Connection, tables: Mapping[str, Block]) -> None:
    """Have all that is written through a connection change the sums too, in the same transaction.

    Parameters
    ----------
    connection
        Of a database that has the table ``digests``.
    tables
        Block of each table.
    """
    connection.create_function(FUNCTION, -1, checksum, deterministic=True)
    # Without this, a row that another takes the place of goes unheard.
    connection.execute("pragma recursive_triggers = on")
    for table, block in tables.items():
        found = columns(connection, table)
        come, gone = (_change(table, found, block, side) for side in ("new", "old"))
        for event, body in (("insert", come), ("delete", gone), ("update", f"{gone} {come}")):
            connection.execute(
                f'create temp trigger "{table}_{event}" after {event} on main."{table}" begin {body} end'
            )


def _change(table: str, found: list[Column], block: Block, side: str) -> str:
    """A statement that changes a sum by a row that came or went."""
    value = f"{FUNCTION}({', '.join(_cell(column, f'{side}.', side == 'old') for column in found)})"
    one, total = ("1", value) if side == "new" else ("-1", f"-{value}")
    return (
        f"insert into digests values ('{table}', {_block_name(block, f'{side}.')}, {one}, {total}) "
        f"on conflict (table_name, block) do update set rows = rows + excluded.rows, sum = sum + excluded.sum;"
    )


def _cell(column: Column, prefix: str = "", damaged: bool = False) -> str:
    """A cell as `checksum` takes it: texts as bytes, since damaged ones are no longer UTF-8."""
    name = f'{prefix}"{column.name}"'
    if column.type == "text":
        return f"cast({name} as blob)"
    return f"case typeof({name}) when 'text' then cast({name} as blob) else {name} end" if damaged else name


def _block_name(block: Block, prefix: str = "") -> str:
    """The name of a row's block, in SQL."""
    parts = [
        f'{prefix}"{name}"' if length is None else f'substr({prefix}"{name}", 1, {length})' for name, length in block
    ]
    return " || '/' || ".join(parts) or f"'{ALL}'"


def totals(connection: sqlite3.Connection, table: str, block: Block) -> Totals:
    """Rows and sums of a table's blocks as its rows are now.

    Parameters
    ----------
    connection, table, block
        The database, and which table.

    Returns
    -------
    dict
        By block, of those that have rows.
    """
    found = columns(connection, table)
    # A text that has become bytes says the same, so what kind it is has to be asked for.
    bytes_there = ", ".join(f"typeof(\"{column.name}\") = 'blob'" for column in found)
    cells = ", ".join(_cell(column, damaged=True) for column in found)
    name = f"cast({_block_name(block)} as blob)"
    rows: dict[bytes, int] = {}
    sums: dict[bytes, int] = {}
    cursor = connection.execute(f'select {name}, max(0, {bytes_there}), {cells} from main."{table}"')
    while some := cursor.fetchmany(ROWS_AT_ONCE):
        for of, odd, *row in some:
            rows[of] = rows.get(of, 0) + 1
            sums[of] = sums.get(of, 0) + checksum(*row) + odd
    return {_text(of): (rows[of], sums[of]) for of in rows}


def fill(connection: sqlite3.Connection, tables: Mapping[str, Block]) -> None:
    """Take the sums of all rows of a database that has had none until now.

    Parameters
    ----------
    connection
        Within `jobeff.store.sqlite.atomic`.
    tables
        Block of each table.
    """
    for table, block in tables.items():
        if columns(connection, table):
            add(connection, table, totals(connection, table, block))


def add(connection: sqlite3.Connection, table: str, found: Mapping[str, tuple[int, int]]) -> None:
    """Add what rows written past SQL, or before there were sums, come to.

    Parameters
    ----------
    connection
        Within `jobeff.store.sqlite.atomic`.
    table
        Which one.
    found
        Rows and sum by block.
    """
    connection.executemany(
        "insert into digests values (?, ?, ?, ?) "
        "on conflict (table_name, block) do update set rows = rows + excluded.rows, sum = sum + excluded.sum",
        ((table, block, rows, total) for block, (rows, total) in found.items()),
    )


def stored(connection: sqlite3.Connection) -> Iterator[tuple[str, str, Any, Any]]:
    """The sums that stand in a database.

    Parameters
    ----------
    connection
        The database.

    Yields
    ------
    tuple
        Table, block, rows and sum, of blocks that have rows; where it is damaged, anything at all.
    """
    query = "select cast(table_name as blob), cast(block as blob), rows, sum from digests"
    for table, block, rows, total in connection.execute(f"{query} where rows is not 0 or sum is not 0"):
        yield _text(table), _text(block), rows, total


def _text(name: bytes | None) -> str:
    return (name or b"").decode("utf-8", "backslashreplace")
