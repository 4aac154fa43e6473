"""export: databases as files that other tools read; each appears when it is whole."""

from __future__ import annotations

import contextlib
import functools
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jobeff.config import Config
from jobeff.errors import ConfigError, JobeffError, shown
from jobeff.progress import Advance, Progress
from jobeff.steps.site import StepResult, timed
from jobeff.store import general, tables
from jobeff.store.files import atomic_path
from jobeff.store.sqlite import stoppable

OURS = ("archive", "db", "shards")
ROWS_AT_ONCE = 50_000
SILENT = Progress()


def export_general(config: Config, path: Path, force: bool = False, progress: Progress = SILENT) -> StepResult:
    """Write one SQLite file with the tables of `jobeff.store.general`.

    Parameters
    ----------
    config
        Of the site.
    path
        The file.
    force
        Whether it may take the place of another one.
    progress
        Told how far it is.

    Returns
    -------
    StepResult
        Rows of each table.

    Raises
    ------
    ConfigError
        The file is there, or lies among our own.
    JobeffError
        There is no database yet, or one cannot be read.
    """
    check_target(config, path, force)
    with (
        timed("export", *general.TABLES) as result,
        contextlib.closing(general.connect(config.root)) as connection,
        told(path),
        atomic_path(path) as temporary,
        progress.task("export general", 2 * len(general.TABLES), "tables") as advance,
    ):
        connection.execute("attach ? as out", (f"{temporary.absolute().as_uri()}?mode=rw",))
        # It is thrown away unless it becomes whole, so nothing has to be undone.
        connection.execute("pragma out.journal_mode = off")
        connection.execute("pragma out.synchronous = off")
        for name, table in general.TABLES.items():
            types = [column.split()[1] for column in table.columns.split(", ")]
            columns = (f"{column} {kind}" for column, kind in zip(general.quoted(table.names), types, strict=True))
            connection.execute(f"create table out.{name} ({', '.join(columns)})")
        _copy(connection, result, advance)
        # When nothing is read any more, so that writers need not wait for it.
        for name, table in general.TABLES.items():
            _index(connection, name, "unique index", table.key)
            for indexed in table.indexes:
                _index(connection, name, "index", indexed)
            advance(1)
        connection.execute("detach out")
    return result


def _copy(connection: sqlite3.Connection, result: StepResult, advance: Advance) -> None:
    """Copy all tables as they are at one time."""
    connection.execute("begin")
    for (name,) in connection.execute("select name from pragma_database_list").fetchall():
        if name in general.DATABASES:  # from here on nothing changes in it
            connection.execute(f"select count(*) from {name}.sqlite_master").fetchone()
    for name in general.TABLES:
        copy = functools.partial(connection.execute, f"insert into out.{name} select * from temp.{name}")
        result.count(name, stoppable(connection, copy).rowcount)
        advance(1)
    connection.execute("commit")


def _index(connection: sqlite3.Connection, table: str, kind: str, columns: str) -> None:
    name = f"{table}_{columns.replace(', ', '_')}"
    stoppable(connection, functools.partial(connection.execute, f"create {kind} out.{name} on {table} ({columns})"))


def export_efficiency(config: Config, path: Path, force: bool = False, progress: Progress = SILENT) -> StepResult:
    """Write the efficiency of all jobs as Parquet.

    Parameters
    ----------
    config, path, force, progress
        As for `export_general`.

    Returns
    -------
    StepResult
        Number of jobs.

    Raises
    ------
    ConfigError
        The file is there, or lies among our own.
    JobeffError
        There is no efficiency database yet, or it cannot be read.
    """
    import pyarrow as pa  # noqa: PLC0415  (the other export has no need of it)
    import pyarrow.parquet as pq  # noqa: PLC0415

    check_target(config, path, force)
    types = {"text": pa.string(), "integer": pa.int64(), "real": pa.float64()}
    with (
        timed("export", "jobs") as result,
        contextlib.closing(tables.read_database(tables.database(config.root, "efficiency"), "efficiency")) as source,
        told(path),
    ):
        columns = source.execute("""select name, lower(type), "notnull" from pragma_table_info('jobs')""").fetchall()
        schema = pa.schema([pa.field(name, types[kind], nullable=not required) for name, kind, required in columns])
        [(jobs,)] = source.execute("select count(*) from jobs").fetchall()
        cursor = source.execute("select * from jobs")
        with (
            progress.task("export efficiency", jobs, "jobs") as advance,
            atomic_path(path) as temporary,
            pq.ParquetWriter(temporary, schema, compression="zstd") as writer,
        ):
            while rows := cursor.fetchmany(ROWS_AT_ONCE):
                writer.write_batch(_batch(rows, schema))
                result.count("jobs", len(rows))
                advance(len(rows))
    return result


def _batch(rows: list[tuple[Any, ...]], schema: Any) -> Any:
    import pyarrow as pa  # noqa: PLC0415

    arrays = [pa.array(column, field.type) for column, field in zip(zip(*rows, strict=True), schema, strict=True)]
    return pa.record_batch(arrays, schema=schema)


@contextlib.contextmanager
def told(path: Path) -> Iterator[None]:
    """Say of which export it is that a library could not go on.

    Parameters
    ----------
    path
        What is written.

    Raises
    ------
    JobeffError
        SQLite cannot read or write, or Arrow is given what a column cannot hold.
    """
    try:
        yield
    except (sqlite3.Error, ValueError, TypeError) as error:
        safe, todo = "What was exported before is as it was", "Mend the cause and run again"
        raise JobeffError("cannot export", where=str(path), why=shown(str(error)), safe=safe, todo=todo) from error


def check_target(config: Config, path: Path, force: bool) -> None:
    """See that a file may be written.

    Parameters
    ----------
    config
        Of the site.
    path
        The file.
    force
        Whether it may be there.

    Raises
    ------
    ConfigError
        It may not be written; nothing was.
    """
    refuse_ours(config, path)
    if path.is_file() and not path.is_symlink():
        if not force:
            raise _refused(path, "it is there already", "Name another file, or say --force")
    elif path.exists() or path.is_symlink():
        raise _refused(path, "it is no regular file")


def refuse_ours(config: Config, path: Path) -> None:
    """See that a file or folder is not among those that the data root keeps itself.

    Parameters
    ----------
    config
        Of the site.
    path
        What is to be written.

    Raises
    ------
    ConfigError
        It is; nothing was written.
    """
    if any(path.resolve().is_relative_to((config.root / folder).resolve()) for folder in OURS):
        raise _refused(path, "the data root keeps its own files there")


def _refused(path: Path, why: str, todo: str = "Name another place") -> ConfigError:
    return ConfigError("cannot write the export", where=str(path), why=why, safe="Nothing was changed", todo=todo)
