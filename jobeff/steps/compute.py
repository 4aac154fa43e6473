"""compute: shards and accounting to the efficiency database; what has changed, or everything."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Container, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from jobeff.engine import jobs as month_jobs
from jobeff.engine import plan, pool, reduce
from jobeff.engine.jobs import Jobs
from jobeff.engine.partials import Rows
from jobeff.engine.reduce import Finished, Month, Plan
from jobeff.engine.runs import Run
from jobeff.order import distinct
from jobeff.steps import bulk, changes
from jobeff.steps.changes import DEFINITION, changed_ids, months_of, months_to_compute
from jobeff.steps.kept_rows import Old, by_month, without_source
from jobeff.steps.site import Site, StepResult, timed
from jobeff.store import shards, tables, upsert
from jobeff.store.files import remove_tree, sync_folder, sync_path
from jobeff.store.locks import lock
from jobeff.store.scratch import give_back
from jobeff.store.sqlite import atomic, identity, mark_updated, replace_database

GROUPS_PER_WORKER = 2
MERGED_AT_ONCE = 32
"""Of more files with parts of jobs on several nodes, so many at a time are merged into one, by any worker."""

NOT_INGESTED: dict[str, Any] = {"archive_bytes": 0, "restarts": 0, "nodes": []}
Ingested = dict[str, dict[str, Any]]
"""How far the shards of each month have been built. It is read before they are: what comes in meanwhile is new."""

COUNTS = ("jobs", "no samples", "too short", "waiting for a shard")
WRITTEN = "insert into written values (?, ?, 1) on conflict do update set times = times + 1"

Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Inputs:
    """What is computed, from which shards, by way of which scratch folder."""

    site: Site
    shards: Path
    accounting: sqlite3.Connection
    scratch: Path
    result: StepResult

    def month(self, cluster: str, name: str) -> Month:
        """A month of a cluster's jobs; the raw files may be those of the cluster it is a part of."""
        config = self.site.config
        folder = self.scratch / cluster / name
        return Month(folder, self.shards, config.raw_cluster(cluster), name, config.interval(cluster))


@dataclass(frozen=True)
class Done:
    """A month that has been computed; `damaged` says whether a shard was unusable."""

    month: Month
    cluster: str
    finished: Finished
    damaged: bool


Computing = Generator[Any, Any, Done | None]


@dataclass(frozen=True)
class Parsing:
    """Months that are computed as their text is parsed, before those whose shards are read.

    Attributes
    ----------
    chains
        The work; it may ingest months without jobs too.
    months
        Clusters and names of those that are computed.
    at_once
        How many.
    """

    chains: Sequence[Computing]
    months: Container[tuple[str, str]]
    at_once: int


NOTHING_PARSED = Parsing((), (), 0)


Reduced = tuple[list[Path], set[str]]
"""Files with what the nodes of a month know of its jobs, and the nodes whose shard was unusable."""


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
    with (
        lock(site.root, "efficiency", run=site.run),
        timed("compute", *COUNTS) as result,
        open_inputs(site, site.config.shards, result) as inputs,
    ):
        if everything or not path.exists():
            tables.refuse_newer(path, "efficiency")
            new = path.with_name("efficiency.sqlite.new")
            compute_all(inputs, new)
            replace_database(new, path)
        else:
            _compute_changes(inputs, path)
    return result


@contextlib.contextmanager
def open_inputs(site: Site, folder: Path, result: StepResult) -> Iterator[Inputs]:
    """Open accounting and a scratch folder.

    Parameters
    ----------
    site
        Where to work.
    folder
        Of the shards.
    result
        Takes the counts.

    Yields
    ------
    Inputs
        Accounting may grow meanwhile; what comes in is found to be new by the next run.
    """
    path = tables.database(site.root, "accounting")
    with contextlib.closing(tables.read_database(path, "accounting")) as accounting, site.scratch() as temporary:
        yield Inputs(site, folder, accounting, temporary, result)


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
    newest, accounting, months = inputs.site.recalled("accounting", lambda: _survey(inputs))
    done = list(run(inputs, "compute", parsing.chains, parsing.at_once))
    old = Old(inputs.site)
    noted = {cluster: _ingested(inputs, cluster) for cluster in months}
    gone = {cluster: _without_source(inputs, cluster, old.rows, known) for cluster, known in noted.items()}
    # No shard of what is gone is waited for.
    ingested = {c: {m: about for m, about in known.items() if m not in gone[c]} for c, known in noted.items()}
    if not parsing.chains:  # else they have been ingested just now
        ingested = inputs.site.recalled("ingested", lambda: ingested)
    rest = {cluster: [m for m in months[cluster] if (cluster, m) not in parsing.months] for cluster in ingested}
    others = [chain for cluster in rest for chain in _whole_months(inputs, cluster, rest[cluster], ingested[cluster])]
    done += run(inputs, "compute", others)
    inputs.site.planned()
    for left in (path, path.with_name(f"{path.name}-journal")):
        left.unlink(missing_ok=True)
    done.sort(key=lambda one: (one.cluster, one.month.name))  # as they ended, which differs from run to run
    runs = [
        Run(one.cluster, one.month.name, one.month.folder, one.finished.computed, one.finished.total)
        for one in done
        if one.finished.computed
    ]
    bulk.write(path, runs, executor, inputs.scratch / ".leaves", inputs.site.width)
    with contextlib.closing(tables.open_database(path, "efficiency", durable=False)) as efficiency:
        for cluster, known in ingested.items():
            whole = [one.month.name for one in done if one.cluster == cluster and not one.damaged]
            _mark(efficiency, inputs, cluster, whole, newest, known, accounting)
        waiting = [(one.cluster, one.month.name) for one in done if one.damaged]
        if kept := old.keep(efficiency, waiting, [(c, month) for c, found in gone.items() for month in sorted(found)]):
            inputs.result.count("kept without samples", kept)
        old.name_lost(path, inputs.result.aside)
        with atomic(efficiency):
            mark_updated(efficiency, "jobs", inputs.site.config.clock)
    sync_path(path)
    sync_folder(path.parent)


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


def _newest(inputs: Inputs) -> int:
    return int(inputs.accounting.execute("select coalesce(max(seq), 0) from jobs").fetchone()[0])


def _survey(inputs: Inputs) -> tuple[int, Any, dict[str, list[str]]]:
    """The newest record of accounting, what tells it from another one, and its months by cluster."""
    return _newest(inputs), identity(inputs.accounting), all_months(inputs)


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
    newest, ingested = _newest(inputs), _ingested(inputs, cluster)
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
    for one in run(
        inputs, f"compute {cluster}", [_changed_month(inputs, cluster, m, changed, ingested) for m in partly]
    ):
        lost = _write(efficiency, one)
        if lost and one.month.name in gone:
            why = f"{lost} rows are gone: accounting has their jobs otherwise now, and nothing has their samples"
            inputs.result.aside.add("efficiency rows", f"{cluster}/{one.month.name}", why)
        if one.damaged:
            damaged.add(one.month.name)
    for one in run(inputs, f"compute {cluster}", _whole_months(inputs, cluster, whole, ingested, False)):
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
        if restarts == _known(ingested, month)["restarts"]
    }


def _ingested(inputs: Inputs, cluster: str) -> Ingested:
    return shards.ingested(inputs.shards, inputs.site.config.raw_cluster(cluster))


def _interval(inputs: Inputs, cluster: str) -> int:
    return inputs.site.config.interval(cluster)


def _known(ingested: Ingested, month: str) -> dict[str, Any]:
    return ingested.get(month, NOT_INGESTED)


def run(inputs: Inputs, what: str, chains: Sequence[Computing], at_once: int = 0) -> Iterator[Done]:
    """Compute months, some at once.

    Parameters
    ----------
    inputs
        Its result takes the counts.
    what
        For the progress.
    chains
        One per month.
    at_once
        How many; 0: as many as can be read from shards.

    Yields
    ------
    Done
        In order of completion.
    """
    if not chains:
        return
    site = inputs.site
    with site.executor() as executor, site.progress.task(what, len(chains), "months") as advance:
        for done in pool.run_chains(executor, site.wrapped(chains), at_once or site.months_at_once()):
            if done is not None:
                finished = done.finished
                counts = (finished.computed, finished.none, finished.short, finished.waiting)
                for name, count in zip(COUNTS, counts, strict=True):
                    inputs.result.count(name, count)
                yield done
            advance(1)


def _whole_months(
    inputs: Inputs, cluster: str, months: Sequence[str], ingested: Ingested, bulk_load: bool = True
) -> list[Computing]:
    """Work that computes whole months from shards."""
    if not months:
        return []
    repeated = repeated_ids(inputs, cluster)

    def chain(name: str) -> Computing:
        month = inputs.month(cluster, name)
        planned = yield from plan_month(inputs, month, cluster, repeated)
        if not planned.jobs:
            return None
        reduced = yield from from_shards(inputs, month, planned, _known(ingested, name))
        return (yield from finish(month, cluster, planned, reduced, bulk_load, bulk_load and inputs.site.is_local))

    return [chain(name) for name in months]


def _changed_month(inputs: Inputs, cluster: str, name: str, changed: Int64s, ingested: Ingested) -> Computing:
    """Work that computes the changed jobs of a month."""
    jobs = month_jobs.read_changed(inputs.accounting, cluster, name, changed)
    if jobs is None:
        return None
    month = inputs.month(cluster, name)
    planned = reduce.write_plan(month, jobs)
    reduced = yield from from_shards(inputs, month, planned, _known(ingested, name))
    return (yield from finish(month, cluster, planned, reduced, False))


def repeated_ids(inputs: Inputs, cluster: str) -> Int64s | None:
    """Ids that a cluster has more than once.

    Parameters
    ----------
    inputs, cluster
        Which accounting, and which cluster.

    Returns
    -------
    ndarray of int64 or None
        See `jobeff.engine.jobs.repeated_ids`.
    """
    path, parts = tables.database(inputs.site.root, "accounting"), inputs.site.width

    def asked() -> Generator[Any, Any, Int64s | None]:
        found = yield [(month_jobs.repeated_ids, (path, cluster, part, parts)) for part in range(parts)]
        return None if any(some is None for some in found) else distinct(np.concatenate(found))

    with inputs.site.executor() as executor:  # workers have the kernels for it
        (repeated,) = pool.run_chains(executor, [asked()], 1)
    return repeated


def plan_month(inputs: Inputs, month: Month, cluster: str, repeated: Int64s | None) -> Generator[Any, Any, Plan]:
    """Plan a whole month.

    Parameters
    ----------
    inputs, month, cluster
        Which one.
    repeated
        From `repeated_ids`.

    Returns
    -------
    Plan
        Without jobs where the month has none.
    """
    path = tables.database(inputs.site.root, "accounting")
    (planned,) = yield [(reduce.plan_month, reduce.PlanTask(month, path, cluster, repeated))]
    return cast("Plan", planned)


def from_shards(inputs: Inputs, month: Month, planned: Plan, known: dict[str, Any]) -> Generator[Any, Any, Reduced]:
    """Reduce the nodes of a planned month, reading their shards.

    Parameters
    ----------
    inputs, month, planned
        Which one.
    known
        What `jobeff.store.shards.ingested` says of it: which nodes must have a shard, and whose is not up to date.

    Returns
    -------
    tuple
        See `Reduced`.
    """
    sizes = shards.nodes_with(month.shards, month.cluster, month.name)
    gone, waiting = set(known["nodes"]) - sizes.keys(), set(known.get("waiting", ()))
    for node in sorted(gone):
        path = shards.shard_path(month.shards, month.cluster, node, month.name)
        inputs.result.aside.add("shard", str(path), "it is gone; 'jobeff rebuild' makes it again")
    present = [span for span in planned.spans if span.node in sizes and span.node not in waiting]
    weights = [sizes[span.node] for span in present]
    groups = plan.balanced(present, weights, GROUPS_PER_WORKER * inputs.site.width)
    tasks = [reduce.ReduceTask(month, group, month.folder / f"reduced-{i}") for i, group in enumerate(groups)]
    damaged, files = gone | waiting, []
    for result in (yield [(reduce.reduce_nodes, task) for task in tasks]):
        damaged.update(result.damaged)
        inputs.result.aside.merge(result.aside)
        if result.out is not None:
            files.append(result.out)
    return files, damaged


def finish(
    month: Month, cluster: str, planned: Plan, reduced: Reduced, bulk_load: bool, spare: bool = False
) -> Computing:
    """Bring together what the nodes of a month know.

    Parameters
    ----------
    month, cluster, planned
        Which one.
    reduced
        From `from_shards`.
    bulk_load
        Whether the rows go into a new database by way of a run.
    spare
        Whether other months may write over what this one needs no more; not where a worker that was given up may go on.

    Returns
    -------
    Done
        The month.
    """
    files, damaged = reduced
    waiting = [span for span in planned.spans if span.node in damaged]
    shared = [one for path in files for one in reduce.shared_files(path)]
    while len(shared) > MERGED_AT_ONCE:
        some = [shared[i : i + MERGED_AT_ONCE] for i in range(0, len(shared), MERGED_AT_ONCE)]
        tasks = [reduce.MergeTask(month, one, one[0].with_name(f"{one[0].name}-merged")) for one in some]
        shared = yield [(reduce.merge_shared, task) for task in tasks]
    task = reduce.FinishTask(month, cluster, DEFINITION, waiting, files, shared, bulk_load)
    (finished,) = yield [(reduce.finish_month, task)]
    if spare:
        give_back(month.folder, reduce.used_up(month, files, shared))
    return Done(month, cluster, finished, bool(damaged))


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
            about = _known(ingested, month)
            reached = (newest, about["restarts"], about["archive_bytes"])
            row = (cluster, month, DEFINITION, accounting, *reached, _interval(inputs, cluster))
            efficiency.execute("insert or replace into computed values (?, ?, ?, ?, ?, ?, ?, ?)", row)
