"""Samples to rows: what the nodes of a month know of its jobs, and the rows that come of it.

A month is planned, its nodes are reduced in groups, and what they know is brought together. Each of these is a task
for any process: it reads and writes files of the month's own scratch folder, and sends little through a pipe.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from jobeff.engine import jobs as month_jobs
from jobeff.engine import shared as shared_jobs
from jobeff.engine.jobs import Jobs
from jobeff.engine.partials import ROWS, Left, Parts, PartsRoom, Rows, empty_rows, node_parts, node_rows, rows_alone
from jobeff.engine.plan import attempts_by_node
from jobeff.engine.pool import Task
from jobeff.engine.runs import write_run
from jobeff.engine.shared import Shared
from jobeff.errors import SetAside
from jobeff.store import shards
from jobeff.store.ahead import begin_to_read
from jobeff.store.scratch import mapped_all, opened, save, write

Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Month:
    """Which month is computed, from where.

    Attributes
    ----------
    folder
        Scratch folder of this month.
    shards, cluster, name
        Where its shards lie; the cluster is that of the raw files.
    interval
        Seconds between samples.
    """

    folder: Path
    shards: Path
    cluster: str
    name: str
    interval: int


class Span(NamedTuple):
    """Where the attempts of a node stand in a plan."""

    node: str
    begin: int
    end: int


def attempts_of(spans: Iterable[Span]) -> int:
    """How many attempts some nodes have.

    Parameters
    ----------
    spans
        Of the nodes.

    Returns
    -------
    int
        Of all of them.
    """
    return sum(span.end - span.begin for span in spans)


@dataclass(frozen=True)
class PlanTask(Task):
    """Jobs of a whole month to plan: accounting database, cluster, its ids that are there more than once, least id."""

    month: Month
    accounting: Path
    cluster: str
    repeated: Int64s | None
    first: int = month_jobs.ANY_ID

    def named(self) -> str:
        """Cluster and month of the jobs."""
        return f"{self.cluster} {self.month.name}"


@dataclass(frozen=True)
class Plan:
    """A planned month: how many jobs are wanted, and its nodes."""

    jobs: int = 0
    spans: list[Span] = field(default_factory=list)


def plan_month(task: PlanTask) -> Plan:
    """Read the jobs of a month out of accounting and plan them.

    Parameters
    ----------
    task
        See `PlanTask`.

    Returns
    -------
    Plan
        Empty where the month has no jobs.
    """
    jobs = month_jobs.read_month(task.accounting, task.cluster, task.month.name, task.repeated, task.first)
    return Plan() if jobs is None else write_plan(task.month, jobs)


def write_plan(month: Month, jobs: Jobs) -> Plan:
    """Say which jobs are computed on which node, and write it down.

    Parameters
    ----------
    month
        Its folder is made.
    jobs
        At least one.

    Returns
    -------
    Plan
        All nodes that a job booked.
    """
    month.folder.mkdir(parents=True, exist_ok=True)
    jobs.save(month.folder)
    attempts = attempts_by_node(jobs)
    save(month.folder / "job.npy", attempts.job)
    save(month.folder / "rank.npy", attempts.rank)
    begin = attempts.begin.tolist()
    return Plan(jobs.wanted, [Span(node, begin[i], begin[i + 1]) for i, node in enumerate(attempts.node)])


class PlannedMonth:
    """A planned month as a worker sees it.

    Parameters
    ----------
    month
        Which one; `write_plan` has written it.
    """

    def __init__(self, month: Month) -> None:
        self.month = month
        self.jobs = month_jobs.load(month.folder)
        self._job, self._rank = (month_jobs.mapped(month.folder, name) for name in ("job", "rank"))

    def attempts(self, span: Span) -> npt.NDArray[np.int32]:
        """Indexes of the jobs that booked a node.

        Parameters
        ----------
        span
            Of the node.

        Returns
        -------
        ndarray of int32
            One per attempt.
        """
        return self._job[span.begin : span.end]

    def reduce(self, samples: shards.Samples, span: Span, result: Reduced) -> None:
        """Reduce the samples of one node.

        Parameters
        ----------
        samples
            All that the node has of this month.
        span
            Its attempts.
        result
            Takes the rows of jobs on this node alone, and the parts of others.
        """
        jobs, interval = self.jobs, self.month.interval
        attempts, ranks = self.attempts(span), self._rank[span.begin : span.end]
        result.count, left = node_rows(samples, interval, jobs, attempts, ranks, result.rows, result.count)
        if not left.length:
            return
        if left.shared == left.length:  # as it is on nearly all nodes
            result.add_node(samples, interval, left)
            return
        parts = node_parts(samples, interval, left)
        wanted, booked = left.job < jobs.wanted, jobs.booked[left.job]
        result.add_rows(rows_alone(parts, interval, jobs, wanted & (booked == 1)))
        if left.shared:
            result.add(parts.where(wanted & (booked > 1)))


class Reduced:
    """What some nodes know: rows of jobs on one node, parts of jobs on several.

    Parameters
    ----------
    out
        A file in the month's folder, which `save` writes; those of the parts are called like it.
    planned
        The month.
    attempts
        How many there are on these nodes.

    Attributes
    ----------
    rows, count
        Rows of jobs on one node, in memory for one per attempt, and how many there are so far.
    """

    def __init__(self, out: Path, planned: PlannedMonth, attempts: int) -> None:
        self.rows = empty_rows(attempts)
        self.count = 0
        self._out, self._planned = out, planned
        self._room = PartsRoom()
        self._parts: list[Parts] = []
        self._size = 0
        self._shared: Shared | None = None
        self._written = 0

    def add_rows(self, rows: Rows) -> None:
        """Take rows of jobs on one node.

        Parameters
        ----------
        rows
            At most one per attempt.
        """
        end = self.count + len(rows.job)
        for name in ROWS:
            getattr(self.rows, name)[self.count : end] = getattr(rows, name)
        self.count = end

    def add_node(self, samples: shards.Samples, interval: int, left: Left) -> None:
        """Take what a node knows of attempts, which are all of jobs on several.

        Parameters
        ----------
        samples, interval, left
            See `PartsRoom.add`.
        """
        self._room.add(samples, interval, left)
        self._merge_much()

    def add(self, parts: Parts) -> None:
        """Take the parts of a node.

        Parameters
        ----------
        parts
            Of jobs on several.
        """
        self._parts.append(parts)
        self._size += shared_jobs.size_of(parts)
        self._merge_much()

    def _merge_much(self) -> None:
        if self._size + self._room.size >= shared_jobs.AT_ONCE:
            self._merge()

    def _merge(self) -> None:
        """Merge what has come; jobs on many nodes become small by it, of others much is written down."""
        some = [self._room.parts(), *self._parts]
        found = shared_jobs.of_nodes(some, self._planned.month.interval, self._planned.jobs)
        self._room.clear()
        self._parts, self._size = [], 0
        self._shared = found if self._shared is None else shared_jobs.merged([self._shared, found])
        if 2 * self._shared.size >= shared_jobs.AT_ONCE:
            self._write(self._shared)
            self._shared = None

    def _write(self, shared: Shared) -> None:
        shared_jobs.write(_shared_file(self._out, self._written), [shared])
        self._written += 1

    def save(self) -> None:
        """Write it for the task that brings all together."""
        if self._parts or self._room.count:
            self._merge()
        if self._shared is not None:
            self._write(self._shared)
        _save_rows(self._out, Rows(*(getattr(self.rows, name)[: self.count] for name in ROWS)), self._written)


def _save_rows(out: Path, rows: Rows, shared: int) -> None:
    """Write rows, and how many files there are beside them, see `shared_files`."""
    arrays = [getattr(rows, name) for name in ROWS]
    with opened(out, sum(array.nbytes for array in arrays)) as file:
        for array in (np.array([shared]), *arrays):
            write(file, array)


def load_rows(path: Path) -> Rows:
    """Map rows that a task has written.

    Parameters
    ----------
    path
        From `Reduced.save` or `finish_month`.

    Returns
    -------
    Rows
        Read as they are used.
    """
    return Rows(*mapped_all(path)[1:])


def used_up(month: Month, reduced: list[Path], shared: list[Path]) -> list[Path]:
    """Files that nobody reads once a month is finished, and its rows are a run.

    Parameters
    ----------
    month
        Which one.
    reduced, shared
        See `FinishTask`.

    Returns
    -------
    list of Path
        In its folder.
    """
    of_shared = [one for path in shared for one in shared_jobs.files_of(path)]
    return [*(month.folder / f"{name}.npy" for name in (*month_jobs.FILES, "job", "rank")), *reduced, *of_shared]


def shared_files(out: Path) -> list[Path]:
    """Where the parts of jobs on several nodes are that `Reduced.save` has written.

    Parameters
    ----------
    out
        Its file.

    Returns
    -------
    list of Path
        For `jobeff.engine.shared.by_range`.
    """
    with out.open("rb") as file:
        return [_shared_file(out, number) for number in range(int(np.load(file)[0]))]


def _shared_file(out: Path, number: int) -> Path:
    return out.with_name(f"{out.name}-shared-{number}")


@dataclass(frozen=True)
class MergeTask(Task):
    """Parts of jobs on several nodes that many tasks have written, to bring together in one place."""

    month: Month
    shared: list[Path]
    out: Path

    def named(self) -> str:
        """Cluster and month of the raw files."""
        return f"{self.month.cluster} {self.month.name}"


def merge_shared(task: MergeTask) -> Path:
    """Merge parts of jobs on several nodes.

    Parameters
    ----------
    task
        See `MergeTask`.

    Returns
    -------
    Path
        Where they are now.
    """
    shared_jobs.write(task.out, shared_jobs.by_range(task.shared))
    return task.out


@dataclass(frozen=True)
class ReduceTask(Task):
    """Nodes to reduce, and the file that takes what they know."""

    month: Month
    spans: list[Span]
    out: Path

    def split(self) -> list[ReduceTask]:
        """One task per node."""
        return [replace(self, spans=[span], out=out_of_part(self.out, part)) for part, span in enumerate(self.spans)]

    def lost(self, why: str) -> ReduceResult:
        """Have the jobs on these nodes wait, as for an unusable shard."""
        result = ReduceResult(damaged=[span.node for span in self.spans])
        why = f"the worker that computed it {why}. Its jobs wait; the next run tries again"
        for node in result.damaged:
            result.aside.add("node", f"{self.month.cluster}/{node} {self.month.name}", why)
        return result


def out_of_part(out: Path, part: int) -> Path:
    """Where a part of a task writes, if the task writes there.

    Parameters
    ----------
    out, part
        File of the whole, and which part.

    Returns
    -------
    Path
        Beside it.
    """
    return out.with_name(f"{out.name}-{part}")


@dataclass
class ReduceResult:
    """What came of a `ReduceTask`: its file, None where there is none; nodes whose shard was unusable, or is lost."""

    out: Path | None = None
    damaged: list[str] = field(default_factory=list)
    aside: SetAside = field(default_factory=SetAside)


def reduce_nodes(task: ReduceTask) -> ReduceResult:
    """Compute the jobs of some nodes, as far as these nodes know them.

    Parameters
    ----------
    task
        See `ReduceTask`.

    Returns
    -------
    ReduceResult
        What could not be read; the rest is in the file.
    """
    planned, reader = PlannedMonth(task.month), shards.SampleReader()
    result = ReduceResult(task.out)
    reduced = Reduced(task.out, planned, attempts_of(task.spans))
    paths = [
        shards.shard_path(task.month.shards, task.month.cluster, span.node, task.month.name) for span in task.spans
    ]
    for span, path, following in zip(task.spans, paths, [*paths[1:], None], strict=False):
        if following is not None:
            begin_to_read(following)
        try:
            samples = reader.read(path)
        except shards.DamagedShardError as error:
            result.aside.add("shard", str(path), str(error))
            result.damaged.append(span.node)
            continue
        planned.reduce(samples, span, reduced)
    reduced.save()
    return result


@dataclass(frozen=True)
class FinishTask(Task):
    """A month whose nodes have been reduced.

    Attributes
    ----------
    month
        Which one.
    cluster
        Of the jobs.
    definition
        Of METRICS.
    waiting
        Spans of nodes whose shard was unusable.
    reduced
        Files of the groups of nodes.
    shared
        What these know of jobs on several nodes, see `shared_files`.
    run
        Whether to write the rows as a run, in order of their keys.
    """

    month: Month
    cluster: str
    definition: int
    waiting: list[Span]
    reduced: list[Path]
    shared: list[Path]
    run: bool

    def named(self) -> str:
        """Cluster and month of the jobs."""
        return f"{self.cluster} {self.month.name}"


@dataclass(frozen=True)
class Finished:
    """The rows of a month.

    Attributes
    ----------
    rows
        File for `load_rows`; None where they were written as a run.
    computed, waiting, short, none
        Jobs that have a row; that wait for a shard; without samples, shorter than an interval, or not.
    without
        Shape (jobs,): indexes of those without samples.
    total
        Sum of the checksums of the rows of a run.
    """

    rows: Path | None
    computed: int
    waiting: int
    short: int
    none: int
    without: Int64s
    total: int = 0


def finish_month(task: FinishTask) -> Finished:
    """Bring together what the nodes of a month know.

    Parameters
    ----------
    task
        See `FinishTask`.

    Returns
    -------
    Finished
        Rows of all wanted jobs that have samples, and do not wait for a shard.
    """
    planned = PlannedMonth(task.month)
    jobs = planned.jobs
    rows = [load_rows(path) for path in task.reduced]
    rows += [shared_jobs.rows_of(some, task.month.interval, jobs) for some in shared_jobs.by_range(task.shared)]
    pending = np.arange(len(jobs.job_id)) < jobs.wanted
    for span in task.waiting:
        # No number is better than one without that node.
        pending[planned.attempts(span)] = False
    waiting = jobs.wanted - int(pending.sum())
    found = _concatenate_rows(rows)
    keep = pending[found.job]
    found = found if keep.all() else Rows(found.job[keep], found.numbers[keep], found.floats[keep])
    pending[found.job] = False
    without = np.flatnonzero(pending)
    short = int((jobs.end[without] - jobs.start[without] < task.month.interval).sum())
    counts = (len(found.job), waiting, short, len(without) - short)
    if not task.run:
        out = task.month.folder / "rows"
        _save_rows(out, found, 0)
        return Finished(out, *counts, without)
    total = write_run(task.month.folder, task.cluster, task.definition, jobs, found) if len(found.job) else 0
    return Finished(None, *counts, without, total)


def _concatenate_rows(rows: Sequence[Rows]) -> Rows:
    return Rows(*(np.concatenate([getattr(some, name) for some in rows]) for name in ROWS)) if rows else empty_rows(0)
