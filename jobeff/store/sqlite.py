"""SQLite: one way to open a database, one way to change it."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from jobeff.clock import Clock
from jobeff.errors import JobeffError
from jobeff.store.files import FILE_MODE, make_folder

LAST_UPDATED = """
create table if not exists last_updated (type text primary key, date text not null, time text not null) without rowid;
"""


def connect(path: Path, schema: str, version: int) -> sqlite3.Connection:
    """Open a database for writing, creating it where it is not there.

    Parameters
    ----------
    path
        The file.
    schema
        ``create ... if not exists`` statements.
    version
        Version of the schema.

    Returns
    -------
    sqlite3.Connection
        In autocommit mode; change it within `atomic` only.

    Raises
    ------
    JobeffError
        The file cannot be opened, is no database, or was written by a newer jobeff; it is left as it was.
    """
    make_folder(path.parent)
    with _told(path):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, FILE_MODE))
        connection = sqlite3.connect(path, isolation_level=None, timeout=60)
        found = connection.execute("pragma user_version").fetchone()[0]
        _refuse_newer(path, found, version)
        # A rollback journal works on network file systems, where a write-ahead log does not.
        connection.execute("pragma journal_mode = delete")
        connection.execute("pragma synchronous = full")
        if found == 0:
            with atomic(connection):
                for statement in (schema + LAST_UPDATED).split(";"):
                    connection.execute(statement)
                connection.execute(f"pragma user_version = {int(version)}")
    return connection


def connect_readonly(path: Path, version: int) -> sqlite3.Connection:
    """Open an existing database for reading.

    Parameters
    ----------
    path
        The file.
    version
        Newest version of the schema that can be read.

    Returns
    -------
    sqlite3.Connection
        Writing through it fails.

    Raises
    ------
    JobeffError
        It is not there, is no database, or was written by a newer jobeff.
    """
    if not path.is_file():
        raise JobeffError(
            f"there is no {path.stem} database yet",
            where=str(path),
            safe="Nothing was changed",
            todo="'jobeff update' makes it",
        )
    with _told(path):
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, timeout=60)
        _refuse_newer(path, connection.execute("pragma user_version").fetchone()[0], version)
    return connection


@contextlib.contextmanager
def atomic(connection: sqlite3.Connection) -> Iterator[None]:
    """Change a database in one transaction: all of it or nothing.

    Parameters
    ----------
    connection
        From `connect`.
    """
    connection.execute("begin immediate")
    try:
        yield
    except BaseException:
        connection.execute("rollback")
        raise
    connection.execute("commit")


def mark_updated(connection: sqlite3.Connection, table: str, clock: Clock) -> None:
    """Note in ``last_updated`` that a table has just been brought up to date.

    Parameters
    ----------
    connection
        Within `atomic`.
    table
        Its name.
    clock
        Whose local date and time is written.
    """
    connection.execute("insert or replace into last_updated values (?, ?, ?)", (table, *clock.now()))


def _refuse_newer(path: Path, found: int, version: int) -> None:
    if found > version:
        raise JobeffError(
            "the database is newer than this jobeff",
            where=str(path),
            why=f"it has schema version {found}, this program knows up to {version}",
            safe="It was not touched",
            todo="Install the jobeff that wrote it",
        )


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """Say in our own words what SQLite or the file system says."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise JobeffError(
            "cannot open the database", where=str(path), why=str(error), safe="It was not changed"
        ) from error
