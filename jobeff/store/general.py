"""The tables of the one database ``general`` that older tools read, as views of ours.

Its table ``jobs`` is that of accounting. In ``last_updated`` the jobs of the efficiency database, which share that
name, are called ``efficiency``.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import NamedTuple

from jobeff.errors import JobeffError
from jobeff.store import tables

DATABASES = (
    "accounting",
    "efficiency",
    "storage_history",
    "corehour_history",
    "corehour_usage",
    "projects",
    "current_projects",
)


class Table(NamedTuple):
    """A table: the database that it is in, its columns with their types, its key, what else is indexed."""

    database: str
    columns: str
    key: str
    indexes: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """Names of the columns."""
        return [column.split()[0] for column in self.columns.split(", ")]


TABLES = {
    "jobs": Table(
        "accounting",
        "date text, job_id integer, proj_id text, user text, start integer, end integer, partition text, "
        "cores integer, cluster text, nodes text, jobname text, jobstate text",
        "cluster, job_id, start",
        (
            "nodes, start",
            "job_id",
            "job_id, cluster",
            "proj_id, cluster",
            "proj_id, end, start, cluster",
            "cluster, date",
            "end, cluster",
        ),
    ),
    "current_projects": Table("current_projects", "proj_id text, data text, updated text", "proj_id"),
    "storage_history": Table(
        "storage_history",
        "proj_id text, date text, usage integer, quota integer, path text, "
        "noback_usage integer, noback_quota integer, noback_path text, inbox integer",
        "proj_id, date",
        ("date", "date, path", "date, noback_path", "path", "proj_id"),
    ),
    "corehour_history": Table(
        "corehour_history",
        "proj_id text, date text, cluster text, grant real, 30day_usage real",
        "proj_id, date, cluster",
        ("cluster, date",),
    ),
    "corehour_monthly": Table(
        "corehour_usage", "proj_id text, month text, cluster text, used real", "proj_id, month, cluster"
    ),
    "corehour_weekly": Table(
        "corehour_usage", "proj_id text, week text, cluster text, used real", "proj_id, week, cluster"
    ),
    "projects": Table(
        "projects",
        "proj_id text, start text, end text, pi text, deputy text, technical text, members text, active text, "
        "type text, mail text",
        "proj_id",
    ),
    "last_updated": Table("", "type text, date text, time text", "type"),
}


def connect(root: Path) -> sqlite3.Connection:
    """Attach all databases that are there, for reading, with a view for each of `TABLES`.

    Parameters
    ----------
    root
        Data root.

    Returns
    -------
    sqlite3.Connection
        In autocommit mode, allowed in other threads. A view whose database is not there yet is empty.

    Raises
    ------
    JobeffError
        There is none, or one cannot be opened.
    """
    connection = sqlite3.connect("file::memory:", uri=True, isolation_level=None, timeout=60, check_same_thread=False)
    try:
        attached = [name for name in DATABASES if _attach(connection, root, name)]
        if not attached:
            raise JobeffError(
                "there is no database yet",
                where=str(root / "db"),
                safe="Nothing was changed",
                todo="'jobeff update' makes it",
            )
        for name in TABLES:
            connection.execute(f"create temp view {name} as {_select(connection, name, attached)}")
    except BaseException:
        connection.close()
        raise
    return connection


def _attach(connection: sqlite3.Connection, root: Path, name: str) -> bool:
    path = tables.database(root, name)
    found = tables.read_if_there(path, name)  # tells what is wrong with it, and settles what a dead run has left
    if found is None:
        return False
    found.close()
    connection.execute(f"attach ? as {name}", (f"{path.absolute().as_uri()}?mode=ro",))
    return True


def _select(connection: sqlite3.Connection, name: str, attached: list[str]) -> str:
    """The query behind a view."""
    table = TABLES[name]
    if not table.database:
        # Both accounting and efficiency have a table `jobs`, and a type stands here once.
        kind = {"efficiency": "case type when 'jobs' then 'efficiency' else type end"}
        parts = [
            f"select {kind.get(one, 'type')} as type, date, time from {one}.last_updated"
            for one in attached
            if _holds(connection, one, name)
        ]
        if parts:
            return " union all ".join(parts)
    elif table.database in attached and _holds(connection, table.database, name):
        return f"select {', '.join(quoted(table.names))} from {table.database}.{name}"
    return f"select {', '.join(f'null as {column}' for column in quoted(table.names))} where 0"


def _holds(connection: sqlite3.Connection, database: str, table: str) -> bool:
    """Whether a database that is just being made has a table by now."""
    query = f"select 1 from {database}.sqlite_master where type = 'table' and name = ?"
    return connection.execute(query, (table,)).fetchone() is not None


def quoted(names: list[str]) -> list[str]:
    """Names of columns as they may stand in a query.

    Parameters
    ----------
    names
        From a `Table`.

    Returns
    -------
    list of str
        ``30day_usage`` and ``end`` are no names otherwise.
    """
    return [f'"{name}"' for name in names]
