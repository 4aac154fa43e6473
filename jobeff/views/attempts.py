"""Which attempt of its id a job is: an id that was requeued has a line for each time it ran."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Sequence

from jobeff.config import Config
from jobeff.store import tables

AT_ONCE = 500


def numbers(config: Config, jobs: Sequence[str], starts: Sequence[int | None]) -> list[int | None]:
    """Number the attempts of ids that accounting knows several of.

    Parameters
    ----------
    config
        Of the site.
    jobs, starts
        ``cluster/id`` and start of each; None for what is no single job.

    Returns
    -------
    list
        As `jobeff.views.job.JobView.number`, from 1; None where the id ran once.
    """
    ids: dict[str, set[int]] = {}
    for job, start in zip(jobs, starts, strict=True):
        if start is not None:
            cluster, _, job_id = job.rpartition("/")
            ids.setdefault(cluster, set()).add(int(job_id))
    known: dict[str, list[int]] = {}
    connection = tables.read_database(tables.database(config.root, "accounting"), "accounting")
    with contextlib.closing(connection):
        for cluster, wanted in ids.items():
            for number, begin in _starts(connection, cluster, sorted(wanted)):
                known.setdefault(f"{cluster}/{number}", []).append(begin)
    return [
        sorted(known[job]).index(start) + 1 if start is not None and len(known.get(job, ())) > 1 else None
        for job, start in zip(jobs, starts, strict=True)
    ]


def _starts(connection: sqlite3.Connection, cluster: str, wanted: Sequence[int]) -> list[tuple[int, int]]:
    """Id and start of all jobs with these ids."""
    found: list[tuple[int, int]] = []
    for at in range(0, len(wanted), AT_ONCE):
        some = wanted[at : at + AT_ONCE]
        query = f"select job_id, start from jobs where cluster = ? and job_id in ({', '.join('?' * len(some))})"
        found += connection.execute(query, (cluster, *some)).fetchall()
    return found
