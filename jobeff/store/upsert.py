"""Many rows into a table at once: new ones are added, changed ones take the place of the old."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

CACHE_KIB = 65_536
"""The keys of one day are spread over the whole table; what SQLite keeps of it by default is too little for that."""

MANY = 10_000
"""Fewer rows than this are always put into the indexes one by one."""


class Upserted(NamedTuple):
    """How many rows were new, changed and unchanged; how many others gave way to a later one with the same key."""

    new: int
    changed: int
    unchanged: int
    repeated: int


class Incoming:
    """Rows on their way into a table: nothing of them is in it before all of them can be read.

    They are gathered in the temporary table ``incoming``, of which each connection can have one.

    Parameters
    ----------
    connection
        From `jobeff.store.sqlite.connect`.
    table
        Where the rows shall go.
    columns
        Of the table; what a row of `add` holds, in order.
    key
        Which of them are the table's primary key.
    """

    def __init__(self, connection: sqlite3.Connection, table: str, columns: Sequence[str], key: Sequence[str]) -> None:
        self._connection = connection
        self._table = table
        others = [name for name in columns if name not in key]
        self._columns, self._key, self._first = _listed(columns), _listed(key), _listed(key[:1])
        self._update = f"({_listed(others)}) = ({_listed(others, 'excluded.')})"
        self._differs = f"({_listed(others, 'old.')}) is not ({_listed(others, 'excluded.')})"
        self._same_key = " and ".join(f'old."{name}" = new."{name}"' for name in key)
        self._insert = f"insert into temp.incoming values ({', '.join('?' * len(columns))})"
        connection.execute(f"pragma main.cache_size = -{CACHE_KIB}")
        connection.execute(f"create temp table incoming ({self._columns})")

    def add(self, rows: Iterable[Sequence[Any]]) -> None:
        """Gather rows; of several with one key the last counts.

        Parameters
        ----------
        rows
            In the order of the columns.
        """
        self._connection.executemany(self._insert, rows)

    @contextlib.contextmanager
    def whole(self) -> Iterator[None]:
        """Take back all that is done to the database within, where it fails; a transaction has to be open."""
        self._connection.execute("savepoint whole")
        try:
            yield
        except BaseException:
            if self._connection.in_transaction:  # SQLite itself has rolled back where the disk is full
                self._connection.execute("rollback to whole")
                self._connection.execute("release whole")
            raise
        self._connection.execute("release whole")

    def merge(self) -> Upserted:
        """Bring the rows into the table; they also stay in ``incoming``, until `clear`.

        Returns
        -------
        Upserted
            How many of which.
        """
        execute = self._connection.execute
        total = execute("select count(*) from temp.incoming").fetchone()[0]
        distinct, there = execute(
            f"select count(*), count(old.{self._first}) from "
            f"(select {self._key} from temp.incoming group by {self._key}) as new "
            f"left join main.{self._table} as old on {self._same_key}"
        ).fetchone()
        with self._indexes_later(distinct - there):
            # Beside max(rowid), SQLite takes the other columns from the row that has it.
            written = execute(
                f"insert into main.{self._table} as old ({self._columns}) select {self._columns} from "
                f"(select {self._columns}, max(rowid) from temp.incoming group by {self._key}) where true "
                f"on conflict ({self._key}) do update set {self._update} where {self._differs}"
            ).rowcount
        new = distinct - there
        return Upserted(new, written - new, distinct - written, total - distinct)

    @contextlib.contextmanager
    def _indexes_later(self, new: int) -> Iterator[None]:
        """Where most of a table will be new, its indexes are made at the end: sorted, not row by row all over them."""
        execute = self._connection.execute
        few = new < MANY or execute(f"select count(*) from main.{self._table}").fetchone()[0] > new
        found = () if few else execute(
            "select name, sql from main.sqlite_master where type = 'index' and tbl_name = ? and sql is not null",
            (self._table,),
        ).fetchall()  # fmt: skip
        for name, _ in found:
            execute(f'drop index main."{name}"')
        yield
        for _, sql in found:
            execute(sql)

    def clear(self) -> None:
        """Forget the rows."""
        self._connection.execute("delete from temp.incoming")


def replace(connection: sqlite3.Connection, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Rows into a table, in the place of those that have their keys.

    Parameters
    ----------
    connection
        Within `jobeff.store.sqlite.atomic`.
    table
        Where the rows go.
    columns
        What a row holds, in order.
    rows
        Of several with one key the last counts.
    """
    names = _listed(columns)
    connection.execute(f"create temp table replacing as select {names} from main.{table} limit 0")
    try:
        connection.executemany(f"insert into temp.replacing values ({', '.join('?' * len(columns))})", rows)
        # One statement: where sums are kept of the rows, one for each row takes longer than all else.
        connection.execute(f"insert or replace into main.{table} ({names}) select {names} from temp.replacing")
    finally:
        connection.execute("drop table if exists temp.replacing")


def _listed(names: Sequence[str], prefix: str = "") -> str:
    return ", ".join(f'{prefix}"{name}"' for name in names)
