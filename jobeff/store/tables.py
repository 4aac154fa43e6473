"""The databases: their columns, keys and indexes.

A schema is a list of scripts; its version is how many of them have run. A change is one more script at the end.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path

from jobeff.store import row_sums
from jobeff.store.row_sums import DIGESTS, WHOLE, Block
from jobeff.store.sqlite import NoDatabaseError, connect, connect_readonly, refuse_newer_file

# `seq` grows with every row added or changed, so that compute finds what is new; it never comes back.
ACCOUNTING = """
create table jobs (
    date text not null, job_id integer not null, proj_id text not null, user text not null,
    start integer not null, end integer not null, partition text not null, cores integer not null,
    cluster text not null, nodes text not null, jobname text not null, jobstate text not null,
    submit integer, limit_s integer, job_id_text text,
    seq integer primary key autoincrement
);
create unique index jobs_cluster_job_id_start on jobs (cluster, job_id, start);
create index jobs_nodes_start on jobs (nodes, start);
create index jobs_job_id on jobs (job_id);
create index jobs_job_id_cluster on jobs (job_id, cluster);
create index jobs_proj_id_cluster on jobs (proj_id, cluster);
create index jobs_proj_id_end_start_cluster on jobs (proj_id, end, start, cluster);
create index jobs_cluster_date on jobs (cluster, date);
create index jobs_end_cluster on jobs (end, cluster);
create table loaded (
    path text primary key, cluster text not null, bytes integer not null, crc32 integer not null,
    mtime_ns integer not null, lines integer not null
) without rowid;
"""

EFFICIENCY_COLUMNS = (
    "job_id",
    "cluster",
    "proj_id",
    "user",
    "cpu_mean",
    "cpu_cores_used_percentile",
    "cores",
    "mem_peak",
    "mem_median",
    "mem_limit",
    "counts",
    "state",
    "date_finished",
    "nodelist",
    "start",
    "end",
    "nodes_booked",
    "nodes_seen",
    "coverage",
    "rejected",
    "swap_peak",
    "cores_used_peak",
    "definition",
)

EFFICIENCY = """
create table jobs (
    job_id integer not null, cluster text not null, proj_id text not null, user text not null,
    cpu_mean real not null, cpu_cores_used_percentile real not null, cores integer not null,
    mem_peak real not null, mem_median real not null, mem_limit real, counts integer not null,
    state text not null, date_finished text not null, nodelist text not null,
    start integer not null, end integer not null, nodes_booked integer not null, nodes_seen integer not null,
    coverage real not null, rejected integer not null, swap_peak real not null,
    cores_used_peak integer not null, definition integer not null,
    primary key (cluster, job_id, start)
) without rowid;
create index jobs_proj_id_date_finished on jobs (proj_id, date_finished);
create table computed (
    cluster text not null, month text not null, definition integer not null,
    accounting integer not null, accounting_seq integer not null,
    restarts integer not null, archive_bytes integer not null,
    primary key (cluster, month)
) without rowid;
"""

# How often the rows of a month were written one by one, so that who has copied them sees what has changed.
WRITTEN = """
create table written (
    cluster text not null, month text not null, times integer not null, primary key (cluster, month)
) without rowid;
"""

# With which interval a month has been computed; NULL where an older jobeff has not said so.
SETTINGS = """
alter table computed add column interval integer;
"""

# What stands in the newest months of the archive, so that collect takes each file once; made again from the archive.
COLLECTED = """
create table frames (
    cluster text not null, job_id integer not null, node text not null, month text not null,
    offset integer not null, bytes integer not null, first integer, last integer,
    extended integer not null, crc32 integer not null, known_end integer not null,
    primary key (cluster, job_id, node, month, offset)
) without rowid;
create index frames_month on frames (cluster, month);
create table indexed (
    cluster text not null, month text not null, bytes integer not null, file text not null,
    primary key (cluster, month)
) without rowid;
create table placed (
    cluster text primary key, accounting integer not null, accounting_seq integer not null
) without rowid;
"""

# What a job said before another record took its place; `summarise` takes back what it has counted of it.
REPLACED = """
create table replaced (
    id integer primary key autoincrement, seq integer not null, cluster text not null, proj_id text not null,
    start integer not null, end integer not null, cores integer not null
);
"""

# Of each cluster that `sacct` is asked of: every UTC day from the first to the last of these has been asked whole.
ASKED = """
create table asked (cluster text primary key, first text not null, complete text) without rowid;
"""

# Keys begin with what the other indexes of TABLES would hold alone, so those are left out.
STORAGE_HISTORY = """
create table storage_history (
    proj_id text not null, date text not null, usage integer, quota integer, path text,
    noback_usage integer, noback_quota integer, noback_path text, inbox integer,
    primary key (proj_id, date)
) without rowid;
create index storage_history_date_path on storage_history (date, path);
create index storage_history_date_noback_path on storage_history (date, noback_path);
create index storage_history_path on storage_history (path);
"""

# A row that a site's own core-hour file gave is `loaded`; nothing derived takes its place. `reached` says what the rest
# has been derived from: which core-hour database, up to which of its touched days, until which day.
COREHOUR_HISTORY = """
create table corehour_history (
    proj_id text not null, date text not null, cluster text not null,
    grant real, "30day_usage" real, loaded integer not null default 0,
    primary key (proj_id, date, cluster)
) without rowid;
create index corehour_history_cluster_date on corehour_history (cluster, date);
create table reached (usage integer not null, touched integer not null, date text not null);
"""

# Days hold whole core seconds, so that what is added and taken back leaves no trace; months and weeks are their sums.
# An integer that overflows would become a real number in SQLite, so days refuse those. `touched` has the first day that
# a run has changed, until the core-hour history has seen it.
COREHOUR_USAGE = """
create table corehour_daily (
    proj_id text not null, date text not null, cluster text not null,
    core_s integer not null check (typeof(core_s) = 'integer' and core_s > 0),
    primary key (proj_id, date, cluster)
) without rowid;
create index corehour_daily_date on corehour_daily (date);
create table corehour_monthly (
    proj_id text not null, month text not null, cluster text not null, used real not null,
    primary key (proj_id, month, cluster)
) without rowid;
create table corehour_weekly (
    proj_id text not null, week text not null, cluster text not null, used real not null,
    primary key (proj_id, week, cluster)
) without rowid;
create table counted (
    accounting integer not null, seq integer not null, replaced integer not null, timezone text not null
);
create table touched (
    id integer primary key autoincrement, proj_id text not null, cluster text not null, date text not null
);
"""

PROJECTS = """
create table projects (
    proj_id text primary key, start text, end text, pi text, deputy text, technical text, members text,
    active text not null, type text, mail text
) without rowid;
"""

CURRENT_PROJECTS = """
create table current_projects (proj_id text primary key, data text not null, updated text not null) without rowid;
"""

# How far each file has been read, so that an unchanged one is not read again and of a grown one the tail.
LOADED = """
create table loaded (
    path text primary key, bytes integer not null, crc32 integer not null, mtime_ns integer not null,
    lines integer not null
) without rowid;
"""

SCHEMAS = {
    "accounting": (ACCOUNTING, REPLACED, ASKED, DIGESTS),
    "efficiency": (EFFICIENCY, WRITTEN, SETTINGS, DIGESTS),
    "collected": (COLLECTED, DIGESTS),
    "storage_history": (STORAGE_HISTORY, LOADED, DIGESTS),
    "corehour_history": (COREHOUR_HISTORY, LOADED, DIGESTS),
    "corehour_usage": (COREHOUR_USAGE, DIGESTS),
    "projects": (PROJECTS, DIGESTS),
    "current_projects": (CURRENT_PROJECTS, DIGESTS),
}

MONTH = (("date", 7),)

# What of a table is summed together, see `jobeff.store.row_sums`: what can be made again by itself.
BLOCKS: dict[str, dict[str, Block]] = {
    "accounting": {"jobs": (("cluster", None), *MONTH), "loaded": WHOLE, "replaced": WHOLE, "asked": WHOLE},
    "efficiency": {"jobs": (("cluster", None), ("date_finished", 7)), "computed": WHOLE, "written": WHOLE},
    "collected": {"frames": (("cluster", None), ("month", None)), "indexed": WHOLE, "placed": WHOLE},
    "storage_history": {"storage_history": MONTH, "loaded": WHOLE},
    "corehour_history": {"corehour_history": MONTH, "reached": WHOLE, "loaded": WHOLE},
    "corehour_usage": {
        "corehour_daily": MONTH,
        "corehour_monthly": (("month", None),),
        "corehour_weekly": (("week", 4),),
        "counted": WHOLE,
        "touched": WHOLE,
    },
    "projects": {"projects": WHOLE},
    "current_projects": {"current_projects": WHOLE},
}
for _tables in BLOCKS.values():
    _tables["last_updated"] = WHOLE


def database(root: Path, name: str) -> Path:
    """Where a database lies.

    Parameters
    ----------
    root
        Data root.
    name
        One of `SCHEMAS`.

    Returns
    -------
    Path
        ``db/<name>.sqlite`` below the root.
    """
    return root / "db" / f"{name}.sqlite"


opened: set[str] = set()
"""Databases that this process has opened: what a command has failed on is one of them."""


def open_database(path: Path, name: str, durable: bool = True) -> sqlite3.Connection:
    """Open a database for writing.

    Parameters
    ----------
    path
        The file, usually from `database`.
    name
        One of `SCHEMAS`.
    durable
        See `jobeff.store.sqlite.connect`.

    Returns
    -------
    sqlite3.Connection
        See `jobeff.store.sqlite.connect`. What is written through it changes the sums too.
    """
    schema, blocks = SCHEMAS[name], BLOCKS[name]
    opened.add(name)

    def migrated(connection: sqlite3.Connection, found: int) -> None:
        if DIGESTS in schema[found:]:
            row_sums.fill(connection, blocks)

    def install(connection: sqlite3.Connection) -> None:
        if DIGESTS in schema:
            row_sums.install(connection, blocks)

    return connect(path, schema, migrated, install, durable)


def read_database(path: Path, name: str) -> sqlite3.Connection:
    """Open a database for reading.

    Parameters
    ----------
    path
        The file, usually from `database`.
    name
        One of `SCHEMAS`.

    Returns
    -------
    sqlite3.Connection
        See `jobeff.store.sqlite.connect_readonly`.
    """
    opened.add(name)
    return connect_readonly(path, len(SCHEMAS[name]))


def read_if_there(path: Path, name: str) -> sqlite3.Connection | None:
    """Open a database for reading that need not have been made yet.

    Parameters
    ----------
    path, name
        As for `read_database`.

    Returns
    -------
    sqlite3.Connection or None
        None where it is not there, or who was making it was killed before there was anything in it.
    """
    try:
        return read_database(path, name)
    except NoDatabaseError:
        return None


def refuse_newer(path: Path, name: str) -> None:
    """See that a database that is to be replaced was not written by a newer jobeff.

    Parameters
    ----------
    path
        The file; it may be missing, or damaged.
    name
        One of `SCHEMAS`.
    """
    refuse_newer_file(path, len(SCHEMAS[name]))


@contextlib.contextmanager
def temporary_ids(connection: sqlite3.Connection, job_ids: Iterable[int]) -> Iterator[None]:
    """Have a temporary table ``ids(job_id)`` to join with.

    Parameters
    ----------
    connection
        It may be for reading only; a temporary table is not part of the database.
    job_ids
        What shall stand in it; each once is enough.
    """
    connection.execute("create temp table ids (job_id integer primary key)")
    try:
        # In one transaction: each row in one of its own takes a hundred times as long.
        connection.execute("savepoint ids")
        connection.executemany("insert or ignore into ids values (?)", ((int(job_id),) for job_id in job_ids))
        connection.execute("release ids")
        yield
    finally:
        connection.execute("drop table if exists temp.ids")  # it goes by itself where the disk is full
