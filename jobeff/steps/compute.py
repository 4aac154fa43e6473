"""compute: shards and accounting to the efficiency database; what has changed, or everything."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jobeff.engine import plan, pool, work
from jobeff.engine.partials import Parts, Rows, concatenate, merge
from jobeff.steps.changes import DEFINITION, Month, changed_ids, months_to_compute, read_month
from jobeff.steps.site import Site, StepResult, timed
from jobeff.store import shards, tables
from jobeff.store.files import lock
from jobeff.store.sqlite import atomic, identity, mark_updated, replace_database

GROUPS_PER_WORKER = 2
NOT_INGESTED: dict[str, Any] = {"archive_bytes": 0, "restarts": 0, "nodes": []}
COUNTS = ("jobs", "no samples", "too short", "waiting for a shard")
INSERT = (
    f"insert or replace into jobs ({', '.join(tables.EFFICIENCY_COLUMNS)}) "
    f"values ({', '.join('?' * len(tables.EFFICIENCY_COLUMNS))})"
)

Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Target:
    """What is computed, from which shards, into which database."""

    site: Site
    shards: Path
    accounting: sqlite3.Connection
    efficiency: sqlite3.Connection
    result: StepResult


def compute(site: Site, everything: bool = False) -> StepResult:
    """Bring the efficiency database up to date.

    Parameters
    ----------
    site
        Where to work.
    everything
        Compute all jobs anew, into a new database that takes the place of the old one when it is whole.

    Returns
    -------
    StepResult
        Jobs computed, without samples, too short to have one; shards set aside.
    """
    path = tables.database(site.root, "efficiency")
    if not everything:
        with lock(site.root, "efficiency"):
            return compute_into(site, site.config.shards, path)
    with lock(site.root, "efficiency"):
        new = path.with_name("efficiency.sqlite.new")
        for left in (new, new.with_name(f"{new.name}-journal")):  # by a run that died
            left.unlink(missing_ok=True)
        result = compute_into(site, site.config.shards, new)
        replace_database(new, path)
        return result


def compute_into(site: Site, folder: Path, path: Path) -> StepResult:
    """Compute what a database lacks, from one generation of shards; the caller holds the lock.

    Parameters
    ----------
    site
        Where to work.
    folder
        Of the shards.
    path
        Efficiency database; made where it is not there.

    Returns
    -------
    StepResult
        See `compute`.
    """
    accounting = tables.read_database(tables.database(site.root, "accounting"))
    efficiency = tables.open_database(path, "efficiency")
    try:
        with timed("compute", *COUNTS) as result, site.executor():
            target = Target(site, folder, accounting, efficiency, result)
            newest = accounting.execute("select coalesce(max(seq), 0) from jobs").fetchone()[0]
            for cluster in _clusters(accounting):
                _compute_cluster(target, cluster, newest)
            with atomic(efficiency):
                mark_updated(efficiency, "jobs", site.config.clock)
        return result
    finally:
        accounting.close()
        efficiency.close()


def _clusters(accounting: sqlite3.Connection) -> list[str]:
    return [row[0] for row in accounting.execute("select distinct cluster from jobs order by cluster")]


def _compute_cluster(target: Target, cluster: str, newest: int) -> None:
    """Compute the months of a cluster in which anything is new, one at a time, each in one transaction."""
    raw_cluster = target.site.config.raw_cluster(cluster)
    ingested = shards.ingested(target.shards, raw_cluster)
    rows = target.efficiency.execute(
        """select month, definition, accounting_seq, archive_bytes, restarts from computed
           where cluster = ? and accounting = ?""",
        (cluster, identity(target.accounting)),
    )
    done = {
        month: (definition, seq, size)
        for month, definition, seq, size, restarts in rows
        if restarts == ingested.get(month, NOT_INGESTED)["restarts"]
    }
    changed = changed_ids(target.site, target.accounting, cluster, done, ingested)
    months = months_to_compute(target.accounting, cluster, done, changed)
    whole = [month for month in months if month not in done or done[month][0] < DEFINITION]
    partly = [month for month in months if month not in whole]
    up_to_date = {month for month in done if month not in months}
    with target.site.progress.task(f"compute {cluster}", len(months), "months") as advance:
        # A new attempt of a job can change one in an older month. So the older months go first, and are marked last:
        # a run that is killed between the two finds them changed again.
        for month in partly:
            picked = read_month(target.accounting, cluster, month, changed)
            if _compute_month(target, picked, ingested.get(month, NOT_INGESTED)["nodes"]):
                up_to_date.add(month)
            advance(1)
        for month in whole:
            picked = read_month(target.accounting, cluster, month, None)
            if _compute_month(target, picked, ingested.get(month, NOT_INGESTED)["nodes"]):
                _mark(target, cluster, [month], newest, ingested)
            advance(1)
    _mark(target, cluster, up_to_date, newest, ingested)


def _compute_month(target: Target, month: Month | None, known: list[str]) -> bool:
    """Compute the wanted jobs of a month and write their rows; False where a shard of `known` nodes was unusable."""
    if month is None:
        return True
    attempts = plan.attempts_by_node(month.jobs)
    raw_cluster = target.site.config.raw_cluster(month.cluster)
    present = set(shards.nodes_with(target.shards, raw_cluster, month.name))
    interval = target.site.config.interval(month.cluster)
    pieces: list[Parts] = []
    rows: list[Rows] = []
    damaged = set(known) - present
    for node in sorted(damaged):
        path = shards.shard_path(target.shards, raw_cluster, node, month.name)
        target.result.aside.add("shard", str(path), "it is gone; 'jobeff rebuild' makes it again")
    with target.site.executor() as executor:
        tasks = _tasks(target, month, attempts, present, interval)
        for reduced in pool.run(executor, work.reduce_nodes, tasks, 2 * max(1, target.site.workers)):
            rows.extend(reduced.rows)
            damaged.update(reduced.damaged)
            target.result.aside.merge(reduced.aside)
            if reduced.parts is not None:
                pieces.append(reduced.parts)
    jobs = month.jobs
    if pieces:
        parts = concatenate(pieces)
        job = np.unique(parts.job)
        columns = (jobs.start, jobs.end, jobs.cores, jobs.booked)
        rows.append(merge(parts, interval, job, *(column[job] for column in columns)))
    _write(target, month, rows, _waiting(attempts, damaged))
    return not damaged


def _waiting(attempts: plan.Attempts, damaged: set[str]) -> Int64s:
    """Jobs that booked a node whose shard is unusable: no number is better than one without that node."""
    found = [
        attempts.job[attempts.begin[i] : attempts.begin[i + 1]]
        for i, node in enumerate(attempts.node)
        if node in damaged
    ]
    return np.unique(np.concatenate(found)) if found else np.array([], dtype=np.int64)


def _tasks(
    target: Target, month: Month, attempts: plan.Attempts, present: set[str], interval: int
) -> Iterator[work.ReduceTask]:
    jobs = month.jobs
    booked = np.where(jobs.wanted, jobs.booked, 0)
    nodes = [i for i, node in enumerate(attempts.node) if node in present]
    raw_cluster = target.site.config.raw_cluster(month.cluster)
    paths = (shards.shard_path(target.shards, raw_cluster, attempts.node[i], month.name) for i in nodes)
    weights = [path.stat().st_size for path in paths]
    for group in plan.balanced(nodes, weights, GROUPS_PER_WORKER * max(1, target.site.workers)):
        spans = [np.arange(attempts.begin[i], attempts.begin[i + 1]) for i in group]
        ends = np.cumsum([len(span) for span in spans])
        at = np.concatenate(spans)
        job = attempts.job[at]
        yield work.ReduceTask(
            shards=target.shards,
            cluster=raw_cluster,
            month=month.name,
            interval=interval,
            nodes=[(attempts.node[i], int(e - len(s)), int(e)) for i, s, e in zip(group, spans, ends, strict=True)],
            job=job,
            rank=attempts.rank[at],
            job_id=jobs.job_id[job],
            start=jobs.start[job],
            end=jobs.end[job],
            cores=jobs.cores[job],
            booked=booked[job],
        )


def _write(target: Target, month: Month, rows: list[Rows], waiting: Int64s) -> None:
    """Write the rows of a month, and remove those of jobs that have no samples any more, in one transaction."""
    jobs = month.jobs
    pending = jobs.wanted.copy()
    pending[waiting] = False
    target.result.count("waiting for a shard", int(jobs.wanted.sum() - pending.sum()))
    with atomic(target.efficiency):
        for some in rows:
            keep = pending[some.job]
            job = some.job[keep]
            target.efficiency.executemany(INSERT, _records(month, job, some.numbers[keep], some.floats[keep]))
            target.result.count("jobs", len(job))
            pending[job] = False
        without = np.flatnonzero(pending)
        target.efficiency.executemany(
            "delete from jobs where cluster = ? and job_id = ? and start = ?",
            ((month.cluster, int(jobs.job_id[job]), int(jobs.start[job])) for job in without),
        )
        short = jobs.end[without] - jobs.start[without] < target.site.config.interval(month.cluster)
        target.result.count("too short", int(short.sum()))
        target.result.count("no samples", int((~short).sum()))


def _records(
    month: Month, job: Int64s, numbers: Int64s, floats: npt.NDArray[np.float64]
) -> Iterator[tuple[object, ...]]:
    """Rows in the order of the table's columns."""
    jobs = month.jobs
    index = job.tolist()
    cpu, percentile, peak, median, limit, coverage, swap = floats.T.tolist()
    counts, seen, rejected, most = numbers.T.tolist()
    return zip(
        jobs.job_id[job].tolist(),
        [month.cluster] * len(index),
        [month.proj_id[i] for i in index],
        [month.user[i] for i in index],
        cpu,
        percentile,
        jobs.cores[job].tolist(),
        peak,
        median,
        [value if value == value else None for value in limit],  # NaN: unknown  # noqa: PLR0124
        counts,
        [month.state[i] for i in index],
        [month.date[i] for i in index],
        [month.nodelist[i] for i in index],
        jobs.start[job].tolist(),
        jobs.end[job].tolist(),
        jobs.booked[job].tolist(),
        seen,
        coverage,
        rejected,
        swap,
        most,
        [DEFINITION] * len(index),
        strict=True,
    )


def _mark(
    target: Target, cluster: str, months: Iterable[str], newest: int, ingested: dict[str, dict[str, Any]]
) -> None:
    """Note that months are computed, up to which accounting record and archive offset."""
    with atomic(target.efficiency):
        target.efficiency.executemany(
            "insert or replace into computed values (?, ?, ?, ?, ?, ?, ?)",
            (
                (
                    cluster,
                    month,
                    DEFINITION,
                    identity(target.accounting),
                    newest,
                    about["restarts"],
                    about["archive_bytes"],
                )
                for month, about in ((month, ingested.get(month, NOT_INGESTED)) for month in months)
            ),
        )
