"""Columns for reports, made of the databases: those of single jobs, and what all jobs of a day add up to."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

QUERY = """
select jobs.job_id, jobs.start, jobs.end, jobs.cores, cast(substr(jobs.date, 9, 2) as integer),
       case when instr(jobs.job_id_text, '_') > 0
            then cast(substr(jobs.job_id_text, 1, instr(jobs.job_id_text, '_') - 1) as integer) else 0 end,
       jobs.proj_id, jobs.user, jobs.jobname, jobs.jobstate, jobs.nodes,
       seen.cpu_mean, seen.mem_peak, nullif(seen.mem_limit, 0), seen.swap_peak,
       coalesce(seen.cores_used_peak, 0), coalesce(seen.nodes_seen, 0), coalesce(seen.nodes_booked, 0)
from jobs indexed by jobs_cluster_date
left join efficiency.jobs as seen
  on seen.cluster = jobs.cluster and seen.job_id = jobs.job_id and seen.start = jobs.start
where jobs.cluster = ? and jobs.date between ? and ? and jobs.nodes <> ''
"""
ROWS_AT_ONCE = 100_000


def of_jobs(connection: sqlite3.Connection, cluster: str, month: str) -> pa.Table:
    """The columns of a month.

    Parameters
    ----------
    connection
        Of accounting, with efficiency attached.
    cluster, month
        Which.

    Returns
    -------
    pyarrow.Table
        One row per job that started, with `jobeff.store.columns.SCHEMA`.
    """
    try:
        return _table(connection, cluster, month)
    except sqlite3.OperationalError:  # a database that was imported may hold what is no UTF-8; asking takes longer
        connection.text_factory = _text
        return _table(connection, cluster, month)


def _table(connection: sqlite3.Connection, cluster: str, month: str) -> pa.Table:
    import numpy as np  # noqa: PLC0415  (as in `jobeff.steps.columns`)
    import pyarrow as pa  # noqa: PLC0415

    from jobeff.store import columns  # noqa: PLC0415

    cursor = connection.execute(QUERY, (cluster, f"{month}-01", f"{month}-31"))
    names = [name for name in columns.SCHEMA.names if name != "core_s"]
    parts = [columns.SCHEMA.empty_table()]
    while rows := cursor.fetchmany(ROWS_AT_ONCE):
        found: dict[str, Any] = dict(zip(names, zip(*rows, strict=True), strict=True))
        start, end, cores = (np.array(found[name], dtype=np.int64) for name in ("start", "end", "cores"))
        found["core_s"] = cores.astype(np.float64) * (end - start)
        parts.append(columns.table_of(found))
    table = pa.concat_tables(parts).unify_dictionaries().combine_chunks()
    return table.sort_by([("job_id", "ascending"), ("start", "ascending")])


def _text(text: bytes) -> str:
    return text.decode("utf-8", "backslashreplace")


def of_days(jobs: pa.Table) -> pa.Table:
    """What the jobs that ended on a day add up to, by project and user.

    Parameters
    ----------
    jobs
        The columns of a month.

    Returns
    -------
    pyarrow.Table
        With `jobeff.store.columns.DAYS`, in order of day.
    """
    import numpy as np  # noqa: PLC0415  (as in `jobeff.steps.columns`)
    import pyarrow as pa  # noqa: PLC0415

    from jobeff.steps.used import Used  # noqa: PLC0415
    from jobeff.store import columns  # noqa: PLC0415

    if not jobs.num_rows:
        return columns.DAYS.empty_table()
    used = Used(*(np.asarray(jobs.column(name)) for name in ("core_s", "cpu_mean", "mem_peak", "mem_limit")))
    project, user = (jobs.column(name).combine_chunks() for name in ("project", "user"))
    code = np.asarray(jobs.column("day"), dtype=np.int64)
    for texts in (project, user):
        code = code * len(texts.dictionary) + np.asarray(texts.indices)
    _, first, place = np.unique(code, return_index=True, return_inverse=True)
    of_measured = place[used.measured]
    sums = (
        (place, used.core_s), (of_measured, used.booked), (of_measured, used.booked * used.efficiency),
    )  # fmt: skip
    rows = pa.array(first)
    return pa.Table.from_arrays(
        [
            *(jobs.column(name).combine_chunks().take(rows) for name in ("day", "project", "user")),
            *(pa.array(np.bincount(group, values, len(first))) for group, values in sums),
        ],
        schema=columns.DAYS,
    )
