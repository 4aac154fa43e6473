"""check: the databases themselves."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable
from pathlib import Path

from jobeff.errors import JobeffError
from jobeff.steps import check_report as kinds
from jobeff.steps.check_report import Finding, Report
from jobeff.store import sqlite, tables

MANY = 20
"""So many of the things that SQLite itself finds wrong with a file are told."""


def check_databases(root: Path, names: Iterable[str], read_data: bool, report: Report) -> set[str]:
    """Look at databases, and say which can be relied on.

    Parameters
    ----------
    root
        Data root.
    names
        Among `jobeff.store.tables.SCHEMAS`.
    read_data
        Whether every byte is read.
    report
        Takes what is damaged.

    Returns
    -------
    set of str
        Those that are there and not damaged.
    """
    good = set()
    for name in names:
        path = tables.database(root, name)
        if not path.exists():
            continue
        found = list(_damage(path, name, read_data))
        for why, what in found:
            report.add(Finding(kinds.DATABASE, str(path), why, what=(name, *what)))
        if not found:
            good.add(name)
    return good


def _damage(path: Path, name: str, read_data: bool) -> Iterable[tuple[str, tuple[str, ...]]]:
    """What is wrong with a database, and of which table and block; of neither where it is the file as a whole."""
    try:
        with contextlib.closing(tables.read_database(path, name)) as connection:
            if connection.execute("pragma user_version").fetchone()[0] == 0:
                return  # who was making it was killed
            wrong = _schema(connection, name)
            if wrong:
                yield wrong, ()
                return
            if read_data:
                for (line,) in connection.execute(f"pragma integrity_check({MANY})"):
                    if line != "ok":
                        yield line, ()
    except (JobeffError, sqlite3.Error) as error:
        yield str(error), ()


def _schema(connection: sqlite3.Connection, name: str) -> str:
    """How the tables differ from what they should be; empty where they do not."""
    version = connection.execute("pragma user_version").fetchone()[0]
    query = "select type, name, tbl_name, sql from sqlite_master where name not like 'sqlite_%' order by 1, 2"
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as wanted:
        for script in (sqlite.LAST_UPDATED, *tables.SCHEMAS[name][:version]):
            wanted.executescript(script)
        expected = {row[:3]: _words(row[3]) for row in wanted.execute(query)}
    found = {row[:3]: _words(row[3]) for row in connection.execute(query)}
    wrong = sorted(
        {key[1] for key in expected.keys() ^ found.keys()} | {k[1] for k in found if found[k] != expected.get(k)}
    )
    return f"its tables are not what they should be: {', '.join(wrong)}" if wrong else ""


def _words(sql: str) -> str:
    return " ".join(sql.split()).replace("if not exists ", "")
