"""Whether a database says what was written into it: SQLite's own check of its form, and the sums over its rows.

SQLite finds pages, keys and indexes that do not fit together. What it cannot see is a bit that has flipped in a cell;
`jobeff.store.row_sums` says how that is found. Rows are read straight from the pages, see `jobeff.store.pages`.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from zlib import crc32

from jobeff.errors import JobeffError, shown
from jobeff.store import pages, row_sums, tables
from jobeff.store.page_sums import shape, sums
from jobeff.store.row_sums import Totals
from jobeff.store.sqlite import LAST_UPDATED, stoppable

PROBLEMS = 100
"""SQLite stops looking after so many."""

UNREADABLE = (sqlite3.Error, OSError, UnicodeDecodeError)
"""What SQLite says of a damaged schema may hold damaged words, which Python then cannot decode."""

Progress = Callable[[int], object]


@dataclass(frozen=True)
class Damage:
    """What is wrong with a database.

    Attributes
    ----------
    table
        Empty where the file as a whole is meant.
    block
        Which rows, named as `jobeff.store.tables.BLOCKS` says: ``c1/2021-06``, ``2021-06``, ``all``. Empty where the
        table as a whole is meant, or where rows stand in no known block.
    why
        In words.
    expected, found
        Number of rows.
    """

    table: str
    block: str
    why: str
    expected: int | None = None
    found: int | None = None


def verify(
    path: Path, name: str, blocks: tuple[int, int] | None = None, progress: Progress | None = None
) -> list[Damage]:
    """Check a database, without changing it.

    Parameters
    ----------
    path
        The file. Writers may go on meanwhile; they wait while rows are read.
    name
        One of `jobeff.store.tables.SCHEMAS`.
    blocks
        Check only these rows: the ``n``-th of ``m`` parts, from 1 on, and of SQLite's own checks not that of the
        indexes. All parts together are all rows.
    progress
        Called with the number of rows checked since it was last called.

    Returns
    -------
    list of Damage
        Empty where all is well. A file that cannot be opened or read is damage too. A database that an older jobeff
        has written has no sums yet; then only its form is checked.
    """
    try:
        if not path.stat().st_size:
            return [Damage("", "", "the file is empty")]
        with contextlib.closing(tables.read_database(path, name)) as connection:
            found = [Damage("", "", why) for why in _form(path, blocks is None)]
            if _has_sums(connection, name):
                found += _unlike(connection, name)
                found += _rows(path, name, connection, blocks, progress or (lambda _: None))
            return found
    except (JobeffError, *UNREADABLE) as error:
        return [Damage("", "", _words(error))]


def in_part(block: str, part: tuple[int, int] | None) -> bool:
    """Whether a block belongs to a part of all blocks.

    Parameters
    ----------
    block
        Its name.
    part
        The ``n``-th of ``m``, from 1 on; None is all.

    Returns
    -------
    bool
        True in exactly one of `m` parts.
    """
    return part is None or crc32(block.encode()) % part[1] == part[0] - 1


def _words(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return shown(bytes(error.object).decode("utf-8", "backslashreplace"))
    return str(error)


def _form(path: Path, indexes: bool) -> Iterator[str]:
    """What SQLite finds wrong."""
    uri = f"{path.absolute().as_uri()}?mode=ro"
    with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=60, check_same_thread=False)) as other:
        query = f"pragma {'integrity' if indexes else 'quick'}_check({PROBLEMS})"
        try:
            answers = stoppable(other, lambda: other.execute(query).fetchall())
        except UNREADABLE as error:
            answers = [(_words(error),)]
    yield from (shown(str(answer)) for (answer,) in answers if answer != "ok")


def _has_sums(connection: sqlite3.Connection, name: str) -> bool:
    """Whether a database has sums, or should have."""
    version = connection.execute("pragma user_version").fetchone()[0]
    return version > tables.SCHEMAS[name].index(row_sums.DIGESTS) or bool(row_sums.columns(connection, "digests"))


def _unlike(connection: sqlite3.Connection, name: str) -> Iterator[Damage]:
    """Tables and indexes that are not as they were made."""
    version = connection.execute("pragma user_version").fetchone()[0]
    if version != len(tables.SCHEMAS[name]):
        yield Damage("", "", f"its schema version is {version}, not {len(tables.SCHEMAS[name])}")
    there = _schema(connection)
    for one, made in _expected_schema(name).items():
        if there.get(one) != made:
            kind, title, table, _ = made
            what = "it" if kind == "table" else f"{kind} {title}"
            yield Damage(table, "", f"{what} is {'not as it was made' if one in there else 'gone'}")


Schema = dict[tuple[str, str], tuple[str, str, str, str]]
"""Of tables and indexes by type and name: both, of which table it is, what has made it."""


def _schema(connection: sqlite3.Connection) -> Schema:
    found = connection.execute("select type, name, tbl_name, sql from main.sqlite_master where sql is not null")
    return {row[:2]: row for row in found}


@cache
def _expected_schema(name: str) -> Schema:
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript("".join((LAST_UPDATED, *tables.SCHEMAS[name])))
        return _schema(connection)


def _rows(
    path: Path, name: str, connection: sqlite3.Connection, part: tuple[int, int] | None, progress: Progress
) -> Iterator[Damage]:
    """Compare the sums that are kept with those of the rows, of the tables that are as they were made."""
    there, made = _schema(connection), _expected_schema(name)
    whole = [one for one in ("digests", *tables.BLOCKS[name]) if there.get(("table", one)) == made["table", one]]
    if "digests" not in whole:
        return
    with _reading(path, connection) as readable:
        kept: dict[str, Totals] = {table: {} for table in whole if table != "digests"}
        for table, block, rows, total in row_sums.stored(connection):
            if table in kept:
                kept[table][block] = (rows, total)
            elif table not in tables.BLOCKS[name]:
                yield Damage(table, block, "there are sums of a table that does not exist")
        for table, expected in kept.items():
            found = _found(path, name, connection, table, expected, part, progress) if readable else None
            if found is None:
                found = row_sums.totals(connection, table, tables.BLOCKS[name][table])
                progress(sum(rows for rows, _ in found.values()))
            yield from _differences(table, expected, found, part)


def _differences(table: str, expected: Totals, found: Totals, part: tuple[int, int] | None) -> Iterator[Damage]:
    for block in sorted(expected.keys() | found.keys()):
        (rows, total), (rows_there, total_there) = expected.get(block, (0, 0)), found.get(block, (0, 0))
        if not in_part(block, part) or (rows, total) == (rows_there, total_there):
            continue
        if rows != rows_there:
            why = f"there are {rows_there} rows where {rows} were written"
        else:
            why = "a row is not what was written"
        yield Damage(table, block, why, rows if isinstance(rows, int) else None, rows_there)


@contextlib.contextmanager
def _reading(path: Path, connection: sqlite3.Connection) -> Iterator[bool]:
    """Keep writers out; says whether the pages are what SQL would give, so that they can be read."""
    with contextlib.ExitStack() as stack:
        if readable := pages.readable(path):
            stack.enter_context(pages.held(path))
        connection.execute("begin")
        try:
            connection.execute("select 1 from sqlite_master").fetchone()
            yield readable
        finally:
            connection.execute("rollback")


def _found(
    path: Path,
    name: str,
    connection: sqlite3.Connection,
    table: str,
    expected: Totals,
    part: tuple[int, int] | None,
    progress: Progress,
) -> Totals | None:
    """Rows and sums by block, from the pages; None where SQL has to look."""
    block = tables.BLOCKS[name][table]
    names = {*expected, ""} if block else {row_sums.ALL, ""}
    return sums(path, shape(connection, table, block), {one: in_part(one, part) for one in names}, progress)
