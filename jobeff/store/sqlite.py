"""SQLite: one way to open a database, one way to change it."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import TypeVar

from jobeff.clock import Clock
from jobeff.errors import RIGHTS, JobeffError, reason
from jobeff.store.files import FILE_MODE, make_folder, sync_folder

T = TypeVar("T")
INTERRUPTED_EVERY_S = 0.05


class NoDatabaseError(JobeffError):
    """There is no database yet, or nothing in it: who was making it was killed."""


MAGIC = b"SQLite format 3\0"
LAST_UPDATED = """
create table if not exists last_updated (type text primary key, date text not null, time text not null) without rowid;
"""


def connect(
    path: Path,
    schema: Sequence[str],
    migrated: Callable[[sqlite3.Connection, int], None] = lambda *_: None,
    opened: Callable[[sqlite3.Connection], None] = lambda _: None,
    durable: bool = True,
) -> sqlite3.Connection:
    """Open a database for writing, creating it where it is not there, and bringing an older one up to date.

    Parameters
    ----------
    path
        The file.
    schema
        Scripts; a database's version is how many of them have run, and the others run now, in one transaction.
    migrated
        Called at the end of that transaction, with the version before it.
    opened
        Called at the end.
    durable
        Whether each change outlasts a power cut; else the caller sees to it later, of a database that nobody has yet.

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
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, FILE_MODE)
        regular = stat.S_ISREG(os.fstat(handle).st_mode)
        os.close(handle)
        if not regular:
            raise OSError(errno.EINVAL, "not a regular file")
        connection = sqlite3.connect(path, isolation_level=None, timeout=60)
        found = connection.execute("pragma user_version").fetchone()[0]
        _refuse_newer(path, found, len(schema))
        # A rollback journal works on network file systems, where a write-ahead log does not.
        connection.execute("pragma journal_mode = delete")
        connection.execute(f"pragma synchronous = {'full' if durable else 'off'}")
        if found < len(schema):
            _migrate(connection, schema, migrated)
        opened(connection)
    return connection


def _migrate(
    connection: sqlite3.Connection, schema: Sequence[str], migrated: Callable[[sqlite3.Connection, int], None]
) -> None:
    # Where SQLite is built to vacuum by itself, pages of another kind stand among those that bulk work fills.
    connection.execute("pragma auto_vacuum = none")
    with atomic(connection):
        found = connection.execute("pragma user_version").fetchone()[0]  # another run may have been quicker
        if found == 0:
            connection.execute(LAST_UPDATED)
            # Numbers of rows mean something within one database only; this tells one from its successor.
            connection.execute(f"pragma application_id = {int.from_bytes(os.urandom(4), 'big') >> 1}")
        for script in schema[found:]:
            for statement in script.split(";"):
                connection.execute(statement)
        migrated(connection, found)
        connection.execute(f"pragma user_version = {max(found, len(schema))}")


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
        It is not there or empty (`NoDatabaseError`), is no database, or was written by a newer jobeff.
    """
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise JobeffError(
            "cannot open the database", where=str(path), why="it is not a regular file", safe="It was not touched"
        )
    if not path.exists():
        raise _none_yet(path)
    uri = f"{path.absolute().as_uri()}?mode=ro"
    with _told(path):
        connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=60)
        try:
            found = connection.execute("pragma user_version").fetchone()[0]
        except sqlite3.OperationalError:  # a run that died has left a journal, which only a writer can roll back
            connection.close()
            settle(path)
            connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=60)
            found = connection.execute("pragma user_version").fetchone()[0]
        if found == 0:  # another run may make it just now
            size, found = path.stat().st_size, connection.execute("pragma user_version").fetchone()[0]
        if found == 0:
            connection.close()
            if size == 0:
                raise _none_yet(path)
            raise sqlite3.DatabaseError("its schema version is 0")
        _refuse_newer(path, found, version)
    return connection


def _none_yet(path: Path) -> NoDatabaseError:
    what, todo = f"there is no {path.stem} database yet", "'jobeff update' makes it"
    return NoDatabaseError(what, where=str(path), safe="Nothing was changed", todo=todo)


def refuse_newer_file(path: Path, version: int) -> None:
    """See that a database that is to be replaced was not written by a newer jobeff.

    Parameters
    ----------
    path
        The file; it may be missing, or so damaged that SQLite does not open it.
    version
        Newest version of the schema that is known.

    Raises
    ------
    JobeffError
        It was.
    """
    with contextlib.suppress(FileNotFoundError):
        with path.open("rb") as file:
            head = file.read(100)
        if head.startswith(MAGIC) and len(head) == 100:
            _refuse_newer(path, int.from_bytes(head[60:64], "big"), version)


def identity(connection: sqlite3.Connection) -> int:
    """A number that a database got when it was made.

    Parameters
    ----------
    connection
        From `connect` or `connect_readonly`.

    Returns
    -------
    int
        Another one after the database was lost and made again.
    """
    return int(connection.execute("pragma application_id").fetchone()[0])


def settle(path: Path) -> None:
    """Roll back what a run that died had begun to write, so that no journal is left beside a database.

    Parameters
    ----------
    path
        An existing database.
    """
    with contextlib.closing(sqlite3.connect(path, isolation_level=None, timeout=60)) as connection:
        connection.execute("begin immediate")
        connection.execute("rollback")


def replace_database(new: Path, old: Path, hold: Callable[[int], bool] = lambda _: False) -> None:
    """Put a database in the place of another.

    Parameters
    ----------
    new
        Whole, and closed.
    old
        It may be missing. A journal left beside it would be rolled into the new one, so it is rolled back first.
    hold
        Has another process hold a file open, by its handle, and tells whether it does; the old one's room is given back
        by that then. Else it is given back while this one goes on.

    Raises
    ------
    JobeffError
        The old one is in use, or its journal cannot be rolled back; both are left as they were.
    """
    with _told(old):
        for path in (new, old):
            if path.exists():
                settle(path)
        left = old.with_name(f"{old.name}-journal")
        if left.exists():
            raise OSError(f"{left.name} belongs to an unfinished change of it")
    held = old.open("rb") if old.exists() else None
    new.replace(old)
    sync_folder(old.parent)
    if held is not None:  # to give its room back takes the longer the larger it is
        if hold(held.fileno()):
            held.close()
        else:
            threading.Thread(target=held.close).start()


@contextlib.contextmanager
def atomic(connection: sqlite3.Connection) -> Iterator[None]:
    """Change a database in one transaction: all of it or nothing.

    Parameters
    ----------
    connection
        From `connect`.
    """
    try:
        connection.execute("begin immediate")
        yield
        connection.execute("commit")
    except BaseException as error:
        if connection.in_transaction:  # SQLite itself has rolled back where the disk is full
            connection.execute("rollback")
        if isinstance(error, sqlite3.Error) and hasattr(error, "sqlite_errorcode"):  # else it is of what was read
            path = connection.execute("pragma database_list").fetchone()[2]
            safe, todo = "It is as it was before", "Mend the cause and run again"
            raise JobeffError("cannot write a database", where=path, why=str(error), safe=safe, todo=todo) from error
        raise


def stoppable(connection: sqlite3.Connection, work: Callable[[], T]) -> T:
    """Do something that may stay within SQLite for long, so that a signal stops it at once.

    Parameters
    ----------
    connection
        Used by `work`; it must be allowed in another thread.
    work
        What to do.

    Returns
    -------
    object
        What `work` gives.
    """
    future: Future[T] = Future()
    given_up = threading.Event()

    def run() -> None:
        if given_up.is_set():  # the signal came while this thread was being started, and nobody waits for it
            return
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    thread = threading.Thread(target=run, daemon=True)
    try:
        thread.start()
        return future.result()
    except BaseException:  # a signal is heard in this thread, while the other one is within SQLite
        given_up.set()
        while thread.is_alive():  # or about to be: a statement that begins later knows nothing of an interrupt
            connection.interrupt()
            thread.join(INTERRUPTED_EVERY_S)
        raise


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
    except (sqlite3.Error, OSError, UnicodeDecodeError) as error:  # a message may quote a damaged schema
        why, todo = reason(error), "Mend the cause and run again"
        if isinstance(error, PermissionError) or (path.exists() and not os.access(path, os.R_OK)):
            why, todo = os.strerror(errno.EACCES), RIGHTS  # SQLite only says that it cannot open it
        elif not isinstance(error, (OSError, sqlite3.OperationalError)):
            todo = "'jobeff check' says what is damaged, 'jobeff repair' mends it"
        raise JobeffError(
            "cannot open the database", where=str(path), why=why, safe="It was not changed", todo=todo
        ) from error
