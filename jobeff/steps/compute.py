"""compute: shards and accounting to the efficiency database; what has changed, or everything."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

from jobeff.engine import jobs as month_jobs
from jobeff.engine import reduce
from jobeff.engine.forking import hold
from jobeff.engine.jobs import Jobs
from jobeff.engine.partials import Rows
from jobeff.engine.runs import Run
from jobeff.steps import changes, computing
from jobeff.steps.bulk import NewDatabase, remove_left
from jobeff.steps.changes import DEFINITION, changed_ids, months_of, months_to_compute
from jobeff.steps.computing import NOTHING_PARSED, Done, Ingested, Inputs, Parsing, known_of
from jobeff.steps.kept_rows import Old, by_month, without_source
from jobeff.steps.site import Site, StepResult, timed
from jobeff.store import shards, tables, upsert
from jobeff.store.files import remove_tree, sync_folder, sync_path
from jobeff.store.locks import lock
from jobeff.store.sqlite import atomic, identity, mark_updated, replace_database

WRITTEN = "insert into written values (?, ?, 1) on conflict do update set times = times + 1"


def compute(site: Site, everything: bool = False) -> StepResult:
    """Bring the efficiency database up to date.

    Parameters
    ----------
    site
        Where to work.
    everything
        Compute all jobs anew, into a new database that takes the place of the old one when it is whole. So it is
        done too where there is none yet.

    Returns
    -------
    StepResult
        Jobs computed, without samples, too short to have one; shards set aside.
    """
    path = tables.database(site.root, "efficiency")
    new = path.with_name("efficiency.sqlite.new")
    with (
        lock(site.root, "efficiency", run=site.run),
        timed("compute", *computing.COUNTS) as result,
        computing.open_inputs(site, site.config.shards, result) as inputs,
    ):
        if everything or not path.exists():
            tables.refuse_newer(path, "efficiency")
            compute_all(inputs, new)
            replace_database(new, path, hold)
        else:
            remove_left(new)
            _compute_changes(inputs, path)
    return result


def compute_all(inputs: Inputs, path: Path, parsing: Parsing = NOTHING_PARSED) -> None:
    """Compute all jobs into a new database.

    Parameters
    ----------
    inputs
        From which shards.
    path
        The database to make; what a run that died has left there is removed.
    parsing
        Months that are computed otherwise than from shards.
    """
    with inputs.site.executor() as executor:
        _compute_all(inputs, path, parsing, executor)


def _compute_all(inputs: Inputs, path: Path, parsing: Parsing, executor: Executor) -> None:
    site = inputs.site
    newest, accounting, months = site.recalled("accounting", lambda: _survey(inputs))
    with NewDatabase(path, executor, inputs.scratch / ".leaves", site.width) as new:
        if site.is_local:
            new.expect(computing.expected(inputs, months))
        done = list(_added(new, computing.run(inputs, "compute", parsing.chains, parsing.at_once, new.among)))
        old = Old(site)
        noted = {cluster: _ingested(inputs, cluster) for cluster in months}
        gone = {cluster: _without_source(inputs, cluster, old.rows, known) for cluster, known in noted.items()}
        # No shard of what is gone is waited for.
        ingested = {c: {m: about for m, about in known.items() if m not in gone[c]} for c, known in noted.items()}
        if not parsing.chains:  # else they have been ingested just now
            ingested = site.recalled("ingested", lambda: ingested)
        rest = {cluster: [m for m in months[cluster] if (cluster, m) not in parsing.months] for cluster in ingested}
        others = [
            chain
            for cluster in rest
            for chain in computing.whole_months(inputs, cluster, rest[cluster], ingested[cluster])
        ]
        done += _added(new, computing.run(inputs, "compute", others, among=new.among))
        site.planned()
        new.finish()
    with contextlib.closing(tables.open_database(path, "efficiency", durable=False)) as efficiency:
        for cluster, known in ingested.items():
            whole = [one.month.name for one in done if one.cluster == cluster and not one.damaged]
            _mark(efficiency, inputs, cluster, whole, newest, known, accounting)
        waiting = [(one.cluster, one.month.name) for one in done if one.damaged]
        if kept := old.keep(efficiency, waiting, [(c, month) for c, found in gone.items() for month in sorted(found)]):
            inputs.result.count("kept without samples", kept)
        old.name_lost(path, inputs.result.aside)
        with atomic(efficiency):
            mark_updated(efficiency, "jobs", site.config.clock)
    sync_path(path)
    sync_folder(path.parent)


def _added(new: NewDatabase, done: Iterable[Done]) -> Iterator[Done]:
    """Months as they end, each added to a database."""
    for one in done:
        month, rows = one.month, one.finished.computed
        run = Run(one.cluster, month.name, month.folder, rows, one.finished.total) if rows else None
        new.add(one.cluster, month.name, run)
        yield one


def _compute_changes(inputs: Inputs, path: Path) -> None:
    """Compute what an efficiency database lacks."""
    with contextlib.closing(tables.open_database(path, "efficiency")) as efficiency:
        for cluster in clusters(inputs.accounting):
            _compute_cluster(inputs, efficiency, cluster)
        with atomic(efficiency):
            mark_updated(efficiency, "jobs", inputs.site.config.clock)


def clusters(accounting: sqlite3.Connection) -> list[str]:
    """Clusters that accounting has jobs of.

    Parameters
    ----------
    accounting
        The database.

    Returns
    -------
    list of str
        In order.
    """
    # An index on (cluster, ...) has them in order, so one look-up finds the next.
    query = """with recursive found(cluster) as (
                 select min(cluster) from jobs
                 union all
                 select (select min(cluster) from jobs where cluster > found.cluster) from found
                 where found.cluster is not null
               ) select cluster from found where cluster is not null"""
    return [row[0] for row in accounting.execute(query)]


def _survey(inputs: Inputs) -> tuple[int, Any, dict[str, list[str]]]:
    """The newest record of accounting, what tells it from another one, and its months by cluster."""
    return inputs.newest, identity(inputs.accounting), all_months(inputs)


def all_months(inputs: Inputs) -> dict[str, list[str]]:
    """Months in which jobs ended, by cluster.

    Parameters
    ----------
    inputs
        Which accounting.

    Returns
    -------
    dict
        Both in order.
    """
    return {cluster: months_of(inputs.accounting, cluster) for cluster in clusters(inputs.accounting)}


def _compute_cluster(inputs: Inputs, efficiency: sqlite3.Connection, cluster: str) -> None:
    """Compute the months of a cluster in which anything is new, each in one transaction."""
    newest, ingested = computing.newest_record(inputs.accounting), _ingested(inputs, cluster)
    done = done_months(inputs, efficiency, cluster, ingested)
    changed = changed_ids(inputs.site, inputs.accounting, cluster, done, ingested)
    months = months_to_compute(inputs.accounting, cluster, done, changed)
    anew = {month for month in months if month not in done or done[month][0] < DEFINITION}
    rows = [(name, month) for name, month in by_month(efficiency) if month in months] if months else []
    gone = _without_source(inputs, cluster, rows, ingested)
    whole = [month for month in months if month in anew - gone]
    partly = [month for month in months if month not in anew]
    damaged = set()
    # A new attempt of a job can change one in an older month. So the older months go first, and are marked last:
    # a run that is killed between the two finds them changed again.
    for one in computing.run(
        inputs, f"compute {cluster}", [computing.changed_month(inputs, cluster, m, changed, ingested) for m in partly]
    ):
        lost = _write(efficiency, one)
        if lost and one.month.name in gone:
            why = f"{lost} rows are gone: accounting has their jobs otherwise now, and nothing has their samples"
            inputs.result.aside.add("efficiency rows", f"{cluster}/{one.month.name}", why)
        if one.damaged:
            damaged.add(one.month.name)
    for one in computing.run(
        inputs, f"compute {cluster}", computing.whole_months(inputs, cluster, whole, ingested, False)
    ):
        _write(efficiency, one)
        if not one.damaged:
            _mark(efficiency, inputs, cluster, [one.month.name], newest, ingested)
    # Those of which nothing had to be computed too: what has an id that is new may never have started.
    _mark(efficiency, inputs, cluster, (done.keys() | gone) - set(whole) - damaged, newest, ingested)


def _without_source(inputs: Inputs, cluster: str, rows: Iterable[tuple[str, str]], known: Ingested) -> set[str]:
    return without_source(inputs.site, inputs.shards, cluster, rows, set(known))


def done_months(inputs: Inputs, efficiency: sqlite3.Connection, cluster: str, ingested: Ingested) -> changes.Done:
    """Find the months that have been computed from what there is now, or the beginning of it.

    Parameters
    ----------
    inputs, efficiency, cluster
        Which accounting, the database, and which cluster.
    ingested
        How far its shards have been built.

    Returns
    -------
    dict
        See `jobeff.steps.changes.Done`.
    """
    rows = efficiency.execute(
        """select month, definition, accounting_seq, archive_bytes, restarts from computed
           where cluster = ? and accounting = ? and coalesce(interval, ?3) = ?3""",
        (cluster, identity(inputs.accounting), _interval(inputs, cluster)),
    )
    return {
        month: (definition, seq, size)
        for month, definition, seq, size, restarts in rows
        if restarts == known_of(ingested, month)["restarts"]
    }


def _ingested(inputs: Inputs, cluster: str) -> Ingested:
    return shards.ingested(inputs.shards, inputs.site.config.raw_cluster(cluster))


def _interval(inputs: Inputs, cluster: str) -> int:
    return inputs.site.config.interval(cluster)


def _write(efficiency: sqlite3.Connection, done: Done) -> int:
    """Write the rows of a month, and remove those of jobs without samples, in one transaction; how many those were."""
    jobs, finished = month_jobs.load(done.month.folder), done.finished
    keys = (jobs.job_id[finished.without].tolist(), jobs.start[finished.without].tolist())
    with atomic(efficiency):
        if finished.rows is not None:
            rows = records(done.cluster, jobs, reduce.load_rows(finished.rows))
            upsert.replace(efficiency, "jobs", tables.EFFICIENCY_COLUMNS, rows)
        removed = efficiency.executemany(
            "delete from jobs where cluster = ? and job_id = ? and start = ?",
            ((done.cluster, job_id, start) for job_id, start in zip(*keys, strict=True)),
        ).rowcount
        efficiency.execute(WRITTEN, (done.cluster, done.month.name))
    remove_tree(done.month.folder)
    return max(0, removed)


def records(cluster: str, jobs: Jobs, rows: Rows) -> Iterator[tuple[object, ...]]:
    """Rows in the order of the table's columns.

    Parameters
    ----------
    cluster, jobs, rows
        Of a month.

    Yields
    ------
    tuple
        See `jobeff.store.tables.EFFICIENCY_COLUMNS`.
    """
    job = rows.job
    cpu, percentile, peak, median, limit, coverage, swap = rows.floats.T.tolist()
    counts, seen, rejected, most = rows.numbers.T.tolist()
    nodes, proj_id, user, state, date = (jobs.text(column, job) for column in range(len(month_jobs.TEXTS)))
    return zip(
        jobs.job_id[job].tolist(),
        [cluster] * len(job),
        proj_id,
        user,
        cpu,
        percentile,
        jobs.cores[job].tolist(),
        peak,
        median,
        [value if value == value else None for value in limit],  # NaN: unknown  # noqa: PLR0124
        counts,
        state,
        date,
        nodes,
        jobs.start[job].tolist(),
        jobs.end[job].tolist(),
        jobs.booked[job].tolist(),
        seen,
        coverage,
        rejected,
        swap,
        most,
        [DEFINITION] * len(job),
        strict=True,
    )


def _mark(
    efficiency: sqlite3.Connection,
    inputs: Inputs,
    cluster: str,
    months: Iterable[str],
    newest: int,
    ingested: Ingested,
    accounting: Any = None,
) -> None:
    """Note that months are computed, up to which accounting record and archive offset."""
    accounting = identity(inputs.accounting) if accounting is None else accounting
    with atomic(efficiency):
        for month in months:
            about = known_of(ingested, month)
            reached = (newest, about["restarts"], about["archive_bytes"])
            row = (cluster, month, DEFINITION, accounting, *reached, _interval(inputs, cluster))
            efficiency.execute("insert or replace into computed values (?, ?, ?, ?, ?, ?, ?, ?)", row)
