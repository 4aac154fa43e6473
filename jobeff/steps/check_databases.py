"""check: the databases themselves."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path

from jobeff.errors import JobeffError
from jobeff.progress import Advance, Progress
from jobeff.steps import check_report as kinds
from jobeff.steps.check_report import Finding, Report
from jobeff.store import digests, tables


def check_databases(
    root: Path,
    read_data: bool,
    part: tuple[int, int] | None,
    report: Report,
    progress: Progress,
    names: Iterable[str] = tables.SCHEMAS,
) -> set[str]:
    """Look at databases, and say which can be relied on.

    Parameters
    ----------
    root
        Data root.
    read_data
        Whether every byte is read.
    part
        Of these, the ``n``-th of ``m`` parts; None: all of it.
    report
        Takes what is damaged.
    progress
        Says how many rows have been read.
    names
        Which databases.

    Returns
    -------
    set of str
        Those that are there and not damaged.
    """
    good = set()
    paths = {name: tables.database(root, name) for name in names}
    paths = {name: path for name, path in paths.items() if not _is_none_yet(path, name)}
    rows = sum(_rows(path, name) for name, path in paths.items()) if read_data else 0
    with progress.task("check databases", rows // (part[1] if part else 1), "rows") as advance:
        for name, path in paths.items():
            found = list(_damage(path, name, read_data, part, advance))
            for where, why, what in found:
                report.add(Finding(kinds.DATABASE, where, why, what=(name, *what)))
            if not found:
                good.add(name)
    return good


def _rows(path: Path, name: str) -> int:
    """How many rows a database says it has; where it is damaged, that is told of later."""
    try:
        with contextlib.closing(tables.read_database(path, name)) as connection:
            return int(connection.execute("select coalesce(sum(rows), 0) from digests").fetchone()[0])
    except (JobeffError, sqlite3.Error, ValueError, OverflowError):
        return 0


def _is_none_yet(path: Path, name: str) -> bool:
    try:
        connection = tables.read_if_there(path, name)
    except JobeffError:  # that is told of later
        return False
    if connection is None:
        return True
    connection.close()
    return False


def _damage(
    path: Path, name: str, read_data: bool, part: tuple[int, int] | None, advance: Advance
) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """What is wrong with a database: where, why, and of which table and block; of neither where it is the file."""
    try:
        yield from _sums(path, name, part, advance) if read_data else _form(path, name)
    except (JobeffError, sqlite3.Error, ValueError) as error:  # text in SQLite's own message need not be UTF-8
        yield str(path), ascii(str(error)), ()


def _sums(
    path: Path, name: str, part: tuple[int, int] | None, advance: Advance
) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    for one in digests.verify(path, name, part, advance):
        where = " ".join(text for text in (str(path), one.table, one.block) if text)
        yield where, one.why, (one.table, one.block)


def _form(path: Path, name: str) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    with contextlib.closing(tables.read_database(path, name)) as connection:
        connection.execute("select count(*) from sqlite_master").fetchone()
    yield from ()
