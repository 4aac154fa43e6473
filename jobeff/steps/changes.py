"""Which jobs have to be computed: what accounting and the archive have that the efficiency database has not seen."""

from __future__ import annotations

import sqlite3
from typing import Any

import numpy as np
import numpy.typing as npt

from jobeff.names import is_month
from jobeff.order import distinct
from jobeff.steps.ingest import changed_jobs
from jobeff.steps.site import Site
from jobeff.store import tables

DEFINITION = 1
"""Of METRICS: a change to it gets the next number."""

Int64s = npt.NDArray[np.int64]
Done = dict[str, tuple[int, int, int]]
"""By month: definition, accounting record and archive offset up to which it has been computed."""


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
    return distinct(np.concatenate([np.array(found, dtype=np.int64), *late]))


def months_of(accounting: sqlite3.Connection, cluster: str) -> list[str]:
    """Months in which jobs of a cluster ended.

    Parameters
    ----------
    accounting, cluster
        Where to look.

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
    return sorted(month for (month,) in days if is_month(month))


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
    months = {month for month in months_of(accounting, cluster) if month not in done or done[month][0] < DEFINITION}
    with tables.temporary_ids(accounting, changed):
        rows = accounting.execute(
            """select distinct substr(date, 1, 7)
               from ids cross join jobs indexed by jobs_job_id_cluster using (job_id) where cluster = ?""",
            (cluster,),
        )
        months.update(month for (month,) in rows)
    return sorted(month for month in months if is_month(month))
