"""Reports: many jobs in one table."""

from __future__ import annotations

import sqlite3
from typing import Any

from jobeff.config import Config
from jobeff.store import tables

# Of booked core hours a job used the larger of its share of the cores and its share of the memory.
PROJECTS = """
select booked.proj_id as project,
       count(*) as jobs,
       count(seen.job_id) as measured,
       sum(booked.hours) as core_hours,
       sum(case when seen.job_id is not null then booked.hours end) as measured_core_hours,
       sum(seen.cpu_mean * booked.hours) / sum(case when seen.job_id is not null then booked.hours end) as cpu_pct,
       100 * sum(seen.mem_peak / seen.mem_limit * booked.hours)
           / sum(case when seen.mem_limit > 0 then booked.hours end) as memory_pct,
       100 * sum(max(seen.cpu_mean / 100, coalesce(seen.mem_peak / seen.mem_limit, 0)) * booked.hours)
           / sum(case when seen.job_id is not null then booked.hours end) as efficiency_pct,
       sum((1 - min(1, max(seen.cpu_mean / 100, coalesce(seen.mem_peak / seen.mem_limit, 0)))) * booked.hours)
           as wasted_core_hours
from (select cluster, job_id, start, proj_id, date, cores * (end - start) / 3600.0 as hours
      from accounting.jobs where nodes <> '') as booked
left join jobs as seen
  on seen.cluster = booked.cluster and seen.job_id = booked.job_id and seen.start = booked.start
where booked.date between ? and ?
group by booked.proj_id
order by core_hours desc, project
"""


def projects(config: Config, since: str = "0000-00-00", until: str = "9999-99-99") -> list[dict[str, Any]]:
    """Booked and used core hours by project.

    Parameters
    ----------
    config
        Of the site.
    since, until
        First and last local day on which a job ended, ISO dates.

    Returns
    -------
    list of dict
        ``project``, ``jobs``, ``measured`` (jobs with samples), ``core_hours`` (booked by all jobs that started),
        ``measured_core_hours``; and of the measured ones, weighted by core hours: ``cpu_pct``, ``memory_pct`` (of jobs
        whose limit is known), ``efficiency_pct`` (the larger of cores and memory used), ``wasted_core_hours``. None
        where nothing was measured. The project with the most core hours first.
    """
    connection = tables.read_database(tables.database(config.root, "efficiency"), "efficiency")
    accounting = tables.database(config.root, "accounting")
    try:
        connection.execute("attach ? as accounting", (f"{accounting.absolute().as_uri()}?mode=ro",))
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(PROJECTS, (since, until))]
    finally:
        connection.close()
