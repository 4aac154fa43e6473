"""Months whose jobs are computed, each a chain of tasks: planned, reduced node by node, finished."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Container, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from jobeff.engine import ids as known_ids
from jobeff.engine import jobs as month_jobs
from jobeff.engine import plan, pool, reduce
from jobeff.engine.jobs import ANY_ID, NO_ID
from jobeff.engine.reduce import Finished, Month, Plan
from jobeff.steps.bulk import Expected
from jobeff.steps.changes import DEFINITION, months_of
from jobeff.steps.site import Site, StepResult
from jobeff.store import shards, tables
from jobeff.store.scratch import give_back

GROUPS_PER_WORKER = 2
MERGED_AT_ONCE = 32
"""Of more files with parts of jobs on several nodes, so many at a time are merged into one, by any worker."""

LOOKS = 3
"""At ids, while somebody writes; then it is done without what they tell."""

NOT_INGESTED: dict[str, Any] = {"archive_bytes": 0, "restarts": 0, "nodes": []}
Ingested = dict[str, dict[str, Any]]
"""How far the shards of each month have been built. It is read before they are: what comes in meanwhile is new."""

COUNTS = ("jobs", "no samples", "too short", "waiting for a shard")

Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Inputs:
    """What is computed, from which shards, by way of which scratch folder.

    `newest` is the last record of accounting when it was opened. `ids` has those that were read since; `first` the
    least of them by cluster and month, where the next run is left what comes in meanwhile and is less.
    """

    site: Site
    shards: Path
    accounting: sqlite3.Connection
    scratch: Path
    result: StepResult
    newest: int = 0
    ids: dict[str, known_ids.Ids | None] = field(default_factory=dict)
    first: dict[str, dict[str, int]] = field(default_factory=dict)

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


Chain = Generator[Any, Any, Done | None]


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

    chains: Sequence[Chain]
    months: Container[tuple[str, str]]
    at_once: int


NOTHING_PARSED = Parsing((), (), 0)


Reduced = tuple[list[Path], set[str]]
"""Files with what the nodes of a month know of its jobs, and the nodes whose shard was unusable."""


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
        yield Inputs(site, folder, accounting, temporary, result, newest_record(accounting))


def newest_record(accounting: sqlite3.Connection) -> int:
    """The last record of accounting.

    Parameters
    ----------
    accounting
        The database.

    Returns
    -------
    int
        Its number; 0 where there is none.
    """
    return int(accounting.execute("select coalesce(max(seq), 0) from jobs").fetchone()[0])


def known_of(ingested: Ingested, month: str) -> dict[str, Any]:
    """Tell how far the shards of a month have been built.

    Parameters
    ----------
    ingested, month
        What is known of all, and its name.

    Returns
    -------
    dict
        What `jobeff.store.shards.ingested` says of it; `NOT_INGESTED` where it has none.
    """
    return ingested.get(month, NOT_INGESTED)


def run(
    inputs: Inputs,
    what: str,
    chains: Sequence[Chain],
    at_once: int = 0,
    among: Callable[[Iterable[Chain]], Iterable[Chain]] = iter,
) -> Iterator[Done]:
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
    among
        Puts other work between them, whose result is None.

    Yields
    ------
    Done
        In order of completion.
    """
    if not chains:
        return
    site = inputs.site
    with site.executor() as executor, site.progress.task(what, len(chains), "months") as advance:

        def counted(chain: Chain) -> Chain:
            done = yield from chain
            advance(1)
            return done

        months = among([counted(chain) for chain in site.wrapped(chains)])
        for done in pool.run_chains(executor, months, at_once or site.months_at_once()):
            if done is not None:
                finished = done.finished
                counts = (finished.computed, finished.none, finished.short, finished.waiting)
                for name, count in zip(COUNTS, counts, strict=True):
                    inputs.result.count(name, count)
                yield done


def whole_months(
    inputs: Inputs, cluster: str, months: Sequence[str], ingested: Ingested, bulk_load: bool = True
) -> list[Chain]:
    """Compute whole months from shards.

    Parameters
    ----------
    inputs, cluster, months
        Which ones.
    ingested
        How far their shards have been built.
    bulk_load
        Whether the rows go into a new database by way of runs.

    Returns
    -------
    list of generator
        One per month.
    """
    if not months:
        return []
    repeated = repeated_ids(inputs, cluster)

    def chain(name: str) -> Chain:
        month = inputs.month(cluster, name)
        planned = yield from plan_month(inputs, month, cluster, repeated)
        if not planned.jobs:
            return None
        reduced = yield from from_shards(inputs, month, planned, known_of(ingested, name))
        return (yield from finish(month, cluster, planned, reduced, bulk_load, bulk_load and inputs.site.is_local))

    return [chain(name) for name in months]


def changed_month(inputs: Inputs, cluster: str, name: str, changed: Int64s, ingested: Ingested) -> Chain:
    """Compute the changed jobs of a month from shards.

    Parameters
    ----------
    inputs, cluster, name
        Which month.
    changed
        Ids of jobs.
    ingested
        How far its shards have been built.

    Returns
    -------
    Done
        The month; None where it has none of them.
    """
    jobs = month_jobs.read_changed(inputs.accounting, cluster, name, changed)
    if jobs is None:
        return None
    month = inputs.month(cluster, name)
    planned = reduce.write_plan(month, jobs)
    reduced = yield from from_shards(inputs, month, planned, known_of(ingested, name))
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
        See `jobeff.engine.ids.Ids`; None where it cannot be told quickly.
    """
    found = _ids(inputs, cluster)
    return None if found is None else found.repeated


def _ids(inputs: Inputs, cluster: str) -> known_ids.Ids | None:
    """What `read_ids` finds; looked for once."""
    if cluster not in inputs.ids:
        inputs.ids[cluster] = _read_ids(inputs, cluster)
    return inputs.ids[cluster]


def _read_ids(inputs: Inputs, cluster: str) -> known_ids.Ids | None:
    path, parts = tables.database(inputs.site.root, "accounting"), inputs.site.width
    months = months_of(inputs.accounting, cluster)

    def asked() -> Generator[Any, Any, known_ids.Ids | None]:
        for _ in range(LOOKS):
            found = yield [(known_ids.read_ids, (path, cluster, months, part, parts)) for part in range(parts)]
            if any(some is None for some in found):
                return None
            joined = known_ids.joined_ids(found)
            if joined is not None:
                return joined
        return None

    with inputs.site.executor() as executor:  # workers have the kernels for it
        (ids,) = pool.run_chains(executor, [asked()], 1)
    return ids


def expected(inputs: Inputs, months: Mapping[str, Sequence[str]]) -> list[Expected]:
    """Tell which months will have rows, before any is computed.

    Parameters
    ----------
    inputs, months
        Which ones, by cluster.

    Returns
    -------
    list of Expected
        One per month that has jobs which ever ran; none where that is not known of all. From now on jobs are left out
        that have come in since, and have a lesser id: their place in the database may have been written already.
    """
    first = {cluster: ids.first for cluster in months if (ids := _ids(inputs, cluster)) is not None}
    if len(first) < len(months):
        return []
    inputs.first.update(first)
    every = [(cluster, name, first[cluster].get(name, NO_ID)) for cluster in months for name in months[cluster]]
    return [Expected(*one) for one in every if one[2] != NO_ID]


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
    path, first = tables.database(inputs.site.root, "accounting"), ANY_ID
    if cluster in inputs.first:
        first = inputs.first[cluster].get(month.name, NO_ID)  # of a month that has begun since, all
    (planned,) = yield [(reduce.plan_month, reduce.PlanTask(month, path, cluster, repeated, first))]
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


def finish(month: Month, cluster: str, planned: Plan, reduced: Reduced, bulk_load: bool, spare: bool = False) -> Chain:
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
