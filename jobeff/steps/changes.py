"""Which jobs have to be computed: what accounting and the archive have that the efficiency database has not seen."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from jobeff.engine import plan
from jobeff.names import is_month
from jobeff.steps.ingest import changed_jobs
from jobeff.steps.site import Site
from jobeff.store import tables

DEFINITION = 1
"""Of METRICS: a change to it gets the next number."""

SELECT = "select job_id, start, end, cores, nodes, proj_id, user, jobstate, date from"

Int64s = npt.NDArray[np.int64]
Done = dict[str, tuple[int, int, int]]
"""By month: definition, accounting record and archive offset up to which it has been computed."""


@dataclass(frozen=True)
class Month:
    """Jobs of a cluster and month with all that a row needs of accounting."""

    cluster: str
    name: str
    jobs: plan.Jobs
    proj_id: list[str]
    user: list[str]
    state: list[str]
    date: list[str]
    nodelist: list[str]


def changed_ids(
    site: Site, accounting: sqlite3.Connection, cluster: str, done: Done, ingested: dict[str, dict[str, Any]]
) -> Int64s:
    """Find what is new in months that have been computed.

    Parameters
    ----------
    site, accounting, cluster
        Where to look.
    done
        Months computed.
    ingested
        How far the shards of each month have been built.

    Returns
    -------
    ndarray of int64
        Ids of the jobs for which accounting or a raw file is new, each once; also those of months not computed yet.
    """
    if not done:
        return np.array([], dtype=np.int64)
    since = min(seq for _, seq, _ in done.values())
    rows = accounting.execute(
        "select job_id, date, seq from jobs where seq > ? and cluster = ? and nodes <> ''", (since, cluster)
    )
    found = [job_id for job_id, date, seq in rows if seq > done.get(date[:7], (0, 0, 0))[1]]
    late = [
        changed_jobs(site, site.config.raw_cluster(cluster), month, done[month][2], about["archive_bytes"])
        for month, about in ingested.items()
        if month in done and about["archive_bytes"] > done[month][2]
    ]
    return np.unique(np.concatenate([np.array(found, dtype=np.int64), *late]))


def months_to_compute(accounting: sqlite3.Connection, cluster: str, done: Done, changed: Int64s) -> list[str]:
    """Find the months to compute: those never computed, and those of the changed jobs.

    Parameters
    ----------
    accounting, cluster
        Where to look.
    done
        Months computed.
    changed
        From `changed_ids`.

    Returns
    -------
    list of str
        In order.
    """
    # The days of a cluster are few and indexed, so this reads one index entry per day.
    days = accounting.execute(
        """with recursive days(day) as (
             select min(date) from jobs where cluster = :cluster
             union all
             select (select min(date) from jobs where cluster = :cluster and date > day) from days where day is not null
           ) select distinct substr(day, 1, 7) from days where day is not null""",
        {"cluster": cluster},
    )
    months = {month for (month,) in days if month not in done or done[month][0] < DEFINITION}
    with tables.temporary_ids(accounting, changed):
        rows = accounting.execute(
            "select distinct substr(date, 1, 7) from ids cross join jobs using (job_id) where cluster = ?", (cluster,)
        )
        months.update(month for (month,) in rows)
    return sorted(month for month in months if is_month(month))


def read_month(accounting: sqlite3.Connection, cluster: str, month: str, changed: Int64s | None) -> Month | None:
    """Read the jobs of a month, or those of some ids, and the attempts of the same ids in other months.

    Parameters
    ----------
    accounting, cluster, month
        Which month.
    changed
        Ids of the jobs wanted; None for all.

    Returns
    -------
    Month or None
        None where no job is wanted.
    """
    span = (cluster, f"{month}-01", f"{month}-31")
    in_month = "cluster = ? and date between ? and ? and nodes <> ''"
    if changed is None:
        wanted = accounting.execute(f"{SELECT} jobs where {in_month}", span).fetchall()
    else:
        with tables.temporary_ids(accounting, changed):
            # A cross join keeps SQLite from walking the whole month and looking each job up among the ids.
            wanted = accounting.execute(
                f"{SELECT} ids cross join jobs using (job_id) where {in_month}", span
            ).fetchall()
    if not wanted:
        return None
    with tables.temporary_ids(accounting, {row[0] for row in wanted}):
        elsewhere = "cluster = ? and not (date between ? and ?) and nodes <> ''"
        others = accounting.execute(f"{SELECT} ids cross join jobs using (job_id) where {elsewhere}", span).fetchall()
    columns = list(zip(*wanted, *others, strict=True))
    job_id, start, end, cores = (np.array(column, dtype=np.int64) for column in columns[:4])
    jobs = plan.Jobs(
        job_id=job_id,
        start=start,
        end=end,
        cores=cores,
        wanted=np.arange(len(job_id)) < len(wanted),
        nodes=pa.array(columns[4], type=pa.string()),
    )
    proj_id, user, state, date = (list(column) for column in columns[5:])
    return Month(cluster, month, jobs, proj_id, user, state, date, list(columns[4]))
