"""check: the jobs of a month, in accounting, in the shards and in the efficiency database."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from jobeff.engine import jobs as month_jobs
from jobeff.engine import pool
from jobeff.engine.jobs import Jobs
from jobeff.engine.plan import attempts_by_node
from jobeff.engine.reduce import load_rows
from jobeff.steps import check_report as kinds
from jobeff.steps import compute, computing
from jobeff.steps.changes import DEFINITION, Done, changed_ids
from jobeff.steps.check_raw import RawFiles, Unit
from jobeff.steps.check_report import Finding, Report
from jobeff.steps.kept_rows import KEYS, SAME
from jobeff.store import tables
from jobeff.store.files import remove_tree

Int64s = npt.NDArray[np.int64]
_COLUMNS = ", ".join(tables.EFFICIENCY_COLUMNS)


@dataclass
class Rows:
    """The rows of one cluster of accounting, and what of it is not computed yet.

    Attributes
    ----------
    cluster
        As accounting spells it.
    done
        Months computed.
    changed
        Ids of the jobs that have to be computed again, sorted.
    repeated
        Ids that it has more than once, as far as that is known; see `jobeff.engine.jobs.read_month`.
    """

    cluster: str
    done: Done
    changed: Int64s
    repeated: Int64s | None


def rows_of(
    inputs: computing.Inputs, efficiency: sqlite3.Connection | None, cluster: str, known: dict[str, dict[str, Any]],
    whole: bool,
) -> Rows:  # fmt: skip
    """Say what of a cluster has been computed.

    Parameters
    ----------
    inputs, efficiency, cluster
        Accounting, the database that is checked, and which cluster.
    known
        How far its shards have been built.
    whole
        Whether all months are looked at: then it pays to read the ids of all of them at once.

    Returns
    -------
    Rows
        Without an efficiency database nothing has been.
    """
    done = compute.done_months(inputs, efficiency, cluster, known) if efficiency is not None else {}
    changed = changed_ids(inputs.site, inputs.accounting, cluster, done, known)
    return Rows(cluster, done, changed, computing.repeated_ids(inputs, cluster) if whole else None)


def stale_rows(
    efficiency: sqlite3.Connection, rows: Sequence[Rows], raw_cluster: Any, chosen: Any, report: Report
) -> None:
    """Find rows whose job accounting does not have, or has otherwise, and which are not to be computed again anyway.

    Parameters
    ----------
    efficiency
        With accounting attached to it, by that name.
    rows
        Of all clusters.
    raw_cluster
        Gives the cluster on whose nodes a cluster's jobs ran.
    chosen
        Says whether a month of a cluster is looked at.
    report
        Takes what is found.
    """
    by_cluster = {one.cluster: one for one in rows}
    query = f"""select e.cluster, e.job_id, e.start, e.date_finished, a.seq is null, substr(a.date, 1, 7)
                from main.jobs as e left join accounting.jobs as a using ({", ".join(KEYS)})
                where a.seq is null or not ({SAME})"""
    for cluster, job_id, start, day, gone, now in efficiency.execute(query):
        month, known = now or str(day)[:7], by_cluster.get(cluster)
        if not chosen(raw_cluster(cluster), month) or (known is not None and _waits(known, month, job_id) and not gone):
            continue
        why = "accounting has no such job" if gone else "accounting says otherwise of its job"
        where = f"efficiency row {cluster}/{job_id} that started at {start}"
        report.add(Finding(kinds.STALE, where, why, raw_cluster(cluster), month, (cluster, str(job_id), str(start))))


def _waits(rows: Rows, month: str, job_id: int) -> bool:
    at = int(np.searchsorted(rows.changed, job_id))
    return month not in rows.done or (at < len(rows.changed) and int(rows.changed[at]) == job_id)


def check_rows(
    unit: Unit, inputs: computing.Inputs, efficiency: sqlite3.Connection | None, all_rows: Sequence[Rows],
    raw: RawFiles, report: Report,
) -> None:  # fmt: skip
    """Compare the jobs of a month with their raw files and rows.

    Parameters
    ----------
    unit, inputs, efficiency
        Which month, from which accounting, in which database.
    all_rows
        Of the clusters whose jobs ran on these nodes.
    raw
        What their shards hold.
    report
        Takes what is found.
    """
    claimed = np.zeros(len(raw.files.job_id), dtype=np.bool_)
    path = tables.database(unit.site.root, "accounting")
    for rows in all_rows:
        jobs = month_jobs.read_month(path, rows.cluster, unit.month, rows.repeated)
        if jobs is None:
            continue
        has, certain = _with_files(jobs, raw, unit.site.config.interval(unit.cluster), claimed)
        if not raw.ingested:
            continue
        _count(unit, jobs, has, report)
        if efficiency is None or unit.month not in rows.done:
            report.add(unit.damage(kinds.BEHIND, f"{rows.cluster} {unit.month}", "it is not computed yet"))
            continue
        if rows.done[unit.month][0] < DEFINITION:
            why = f"it was computed by definition {rows.done[unit.month][0]}"
            report.add(unit.damage(kinds.OLDER, f"{rows.cluster} {unit.month}", why))
            continue
        behind = np.isin(jobs.job_id[: jobs.wanted], rows.changed)
        if behind.any():
            why = f"{int(behind.sum())} jobs have to be computed again"
            report.add(unit.damage(kinds.BEHIND, f"{rows.cluster} {unit.month}", why))
        if raw.gone:
            _count_alone(unit, efficiency, rows.cluster, report)
            continue
        with _temporary(efficiency):
            if unit.read_data:
                _expect_computed(unit, inputs, efficiency, rows, raw)
            else:
                keys = np.flatnonzero(certain[: jobs.wanted])
                _expect_keys(efficiency, rows.cluster, jobs, keys)
            _forget(efficiency, rows.changed)
            _compare(unit, efficiency, rows.cluster, report)
    report.count(kinds.ORPHAN, unit.cluster, unit.month, int((~claimed).sum()))


def _with_files(
    jobs: Jobs, raw: RawFiles, interval: int, claimed: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Which jobs have a raw file, and which certainly a sample in one; raw files that any job claims are noted."""
    has, certain = (np.zeros(len(jobs.job_id), dtype=np.bool_) for _ in range(2))
    attempts, files = attempts_by_node(jobs), raw.files
    order = np.argsort(files.node, kind="stable")
    cuts = np.searchsorted(files.node[order], np.arange(len(raw.nodes) + 1))
    place = {node: i for i, node in enumerate(raw.nodes)}
    for number, node in enumerate(attempts.node):
        if node not in place:
            continue
        job = attempts.job[attempts.begin[number] : attempts.begin[number + 1]]
        mine = order[cuts[place[node]] : cuts[place[node] + 1]]
        claimed[mine] |= np.isin(files.job_id[mine], jobs.job_id[job])
        has[job] |= np.isin(jobs.job_id[job], files.job_id[mine])
        certain[job] |= _certain(jobs, job, files.take(mine), interval)
    return has, certain


def _certain(jobs: Jobs, job: npt.NDArray[np.int32], files: Any, interval: int) -> npt.NDArray[np.bool_]:
    """Which jobs, of ids that a node has once, begin or end a raw file of theirs while they ran."""
    ids, counts = np.unique(jobs.job_id[job], return_counts=True)
    once = np.isin(jobs.job_id[job], ids[counts == 1])
    found = np.zeros(len(job), dtype=np.bool_)
    place = np.searchsorted(jobs.job_id[job], files.job_id)  # attempts of a node are in order of their ids
    place = np.minimum(place, len(job) - 1)
    right = jobs.job_id[job][place] == files.job_id
    start, end = jobs.start[job][place] - interval, jobs.end[job][place] + interval
    inside = ((files.first >= start) & (files.first <= end)) | ((files.last >= start) & (files.last <= end))
    found[place[right & inside & (files.first >= 0)]] = True
    return found & once


def _count(unit: Unit, jobs: Jobs, has: npt.NDArray[np.bool_], report: Report) -> None:
    without = ~has[: jobs.wanted]
    short = without & (jobs.end - jobs.start < unit.site.config.interval(unit.cluster))[: jobs.wanted]
    report.count("jobs", unit.cluster, unit.month, jobs.wanted)
    report.count(kinds.TOO_SHORT, unit.cluster, unit.month, int(short.sum()))
    report.count(kinds.NO_RAW_FILE, unit.cluster, unit.month, int((without & ~short).sum()))


def _count_alone(unit: Unit, efficiency: sqlite3.Connection, cluster: str, report: Report) -> None:
    """Count rows that nothing can be compared with."""
    query = "select count(*) from jobs where cluster = ? and date_finished between ? and ?"
    (alone,) = efficiency.execute(query, (cluster, f"{unit.month}-01", f"{unit.month}-31")).fetchone()
    report.count("rows", unit.cluster, unit.month, alone)
    if alone:
        why = f"{alone} rows; neither the archive nor any shard has their samples any more"
        report.add(unit.damage(kinds.ALONE, f"{cluster} {unit.month}", why))


@contextlib.contextmanager
def _temporary(efficiency: sqlite3.Connection) -> Iterator[None]:
    """Temporary tables of the rows that should be there, and of the keys of those that should not."""
    columns = ", ".join(f'"{name}"' for name in tables.EFFICIENCY_COLUMNS)
    efficiency.execute(f"create temp table expected ({columns})")
    efficiency.execute("create temp table without (cluster, job_id, start)")
    try:
        yield
    finally:
        efficiency.execute("drop table temp.expected")
        efficiency.execute("drop table temp.without")


def _expect_keys(efficiency: sqlite3.Connection, cluster: str, jobs: Jobs, chosen: Int64s) -> None:
    keys = zip(jobs.job_id[chosen].tolist(), jobs.start[chosen].tolist(), strict=True)
    _insert(efficiency, "expected (cluster, job_id, start) values (?, ?, ?)", ((cluster, *key) for key in keys))


def _expect_computed(
    unit: Unit, inputs: computing.Inputs, efficiency: sqlite3.Connection, rows: Rows, raw: RawFiles
) -> None:
    """Compute the month once more, from shards that are sound."""
    month = inputs.month(rows.cluster, unit.month)

    def chain() -> computing.Chain:
        planned = yield from computing.plan_month(inputs, month, rows.cluster, rows.repeated)
        if not planned.jobs:
            return None
        planned = type(planned)(planned.jobs, [span for span in planned.spans if span.node not in raw.damaged])
        reduced = yield from computing.from_shards(inputs, month, planned, {"nodes": []})
        return (yield from computing.finish(month, rows.cluster, planned, reduced, False))

    for done in pool.run_chains(unit.executor, [chain()], 1):
        if done is None or done.finished.rows is None:
            continue
        jobs, finished = month_jobs.load(month.folder), done.finished
        places = ", ".join("?" * len(tables.EFFICIENCY_COLUMNS))
        found = load_rows(done.finished.rows)
        _insert(efficiency, f"expected values ({places})", compute.records(rows.cluster, jobs, found))
        keys = zip(jobs.job_id[finished.without].tolist(), jobs.start[finished.without].tolist(), strict=True)
        _insert(efficiency, "without values (?, ?, ?)", ((rows.cluster, *key) for key in keys))
        _forget_nodes(efficiency, jobs, raw.damaged)
        remove_tree(month.folder)


def _insert(efficiency: sqlite3.Connection, what: str, values: Iterable[tuple[object, ...]]) -> None:
    efficiency.execute("savepoint filled")  # each row in a transaction of its own takes a hundred times as long
    efficiency.executemany(f"insert into temp.{what}", values)
    efficiency.execute("release filled")


def _forget_nodes(efficiency: sqlite3.Connection, jobs: Jobs, damaged: set[str]) -> None:
    """Say nothing of jobs that booked a node whose shard is of no use."""
    if not damaged:
        return
    attempts = attempts_by_node(jobs)
    spans = [(attempts.begin[i], attempts.begin[i + 1]) for i, node in enumerate(attempts.node) if node in damaged]
    job = np.unique(np.concatenate([np.empty(0, dtype=np.int64), *(attempts.job[b:e] for b, e in spans)]))
    _forget(efficiency, jobs.job_id[job])


def _forget(efficiency: sqlite3.Connection, job_ids: Int64s) -> None:
    with tables.temporary_ids(efficiency, job_ids.tolist()):
        for table in ("expected", "without"):
            efficiency.execute(f"delete from temp.{table} where job_id in (select job_id from temp.ids)")


def _compare(unit: Unit, efficiency: sqlite3.Connection, cluster: str, report: Report) -> None:
    expected = efficiency.execute("select count(*) from temp.expected").fetchone()[0]
    report.count("rows", unit.cluster, unit.month, expected)
    on = " and ".join(f'j."{name}" = e."{name}"' for name in ("cluster", "job_id", "start"))
    missing = (
        f"select e.job_id, e.start from temp.expected as e left join main.jobs as j on {on} where j.job_id is null"
    )
    there = f"select e.job_id, e.start from temp.without as e join main.jobs as j on {on}"
    _add(unit, kinds.MISSING, cluster, efficiency.execute(missing), "it has samples, but no row", report)
    _add(unit, kinds.STALE, cluster, efficiency.execute(there), "it has no samples, but a row", report)
    if unit.read_data:
        same = " and ".join(f'j."{name}" is e."{name}"' for name in tables.EFFICIENCY_COLUMNS)
        differs = f"select e.job_id, e.start from temp.expected as e join main.jobs as j on {on} where not ({same})"
        _add(unit, kinds.DIFFERS, cluster, efficiency.execute(differs), "its shards give another row", report)


def _add(unit: Unit, kind: str, cluster: str, keys: Iterable[tuple[int, int]], why: str, report: Report) -> None:
    for job_id, start in keys:
        where = f"job {cluster}/{job_id} that started at {start}"
        report.add(unit.damage(kind, where, why, cluster, str(job_id), str(start)))
