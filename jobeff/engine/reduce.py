"""Samples to rows: what the nodes of a month know of its jobs, and the rows that come of it.

A month is planned, its nodes are reduced in groups, and what they know is brought together. Each of these is a task
for any process: it reads and writes files of the month's own scratch folder, and sends little through a pipe.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from jobeff.engine import jobs as month_jobs
from jobeff.engine.jobs import Jobs
from jobeff.engine.partials import Parts, Rows, concatenate, merge, merge_alone, node_parts
from jobeff.engine.plan import attempts_by_node
from jobeff.errors import SetAside
from jobeff.store import page_kernels, pages, shards

Int64s = npt.NDArray[np.int64]
_PART_FIELDS = [field.name for field in fields(Parts)]
RECORDS_AT_ONCE = 1 << 14
NO_SHARD = -1
INTEGER, REAL, TEXT, WORD = page_kernels.INTEGER, page_kernels.REAL, page_kernels.TEXT, page_kernels.WORD


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


@dataclass(frozen=True)
class PlanTask:
    """Jobs of a whole month to plan: the accounting database, cluster, and its ids that are there more than once."""

    month: Month
    accounting: Path
    cluster: str
    repeated: Int64s | None


@dataclass(frozen=True)
class Plan:
    """A planned month: jobs that are wanted, its nodes, and how large the shard of each is (or `NO_SHARD`)."""

    jobs: int = 0
    spans: list[Span] = field(default_factory=list)
    weights: list[int] = field(default_factory=list)

    def found_again(self, month: Month) -> Plan:
        """The same plan with the shards that its nodes have by now."""
        return Plan(self.jobs, self.spans, [_size(month, span.node) for span in self.spans])


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
    jobs = month_jobs.read_month(task.accounting, task.cluster, task.month.name, task.repeated)
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
    np.save(month.folder / "job.npy", attempts.job)
    np.save(month.folder / "rank.npy", attempts.rank)
    begin = attempts.begin.tolist()
    spans = [Span(node, begin[i], begin[i + 1]) for i, node in enumerate(attempts.node)]
    return Plan(jobs.wanted, spans, [_size(month, span.node) for span in spans])


def _size(month: Month, node: str) -> int:
    try:
        return shards.shard_path(month.shards, month.cluster, node, month.name).stat().st_size
    except FileNotFoundError:
        return NO_SHARD


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
        self._job, self._rank = (
            np.asarray(np.load(month.folder / f"{name}.npy", mmap_mode="c")) for name in ("job", "rank")
        )

    def attempts(self, span: Span) -> Int64s:
        """Indexes of the jobs that booked a node.

        Parameters
        ----------
        span
            Of the node.

        Returns
        -------
        ndarray of int64
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
        job, rank = self._job[span.begin : span.end], self._rank[span.begin : span.end]
        jobs = self.jobs
        parts = node_parts(samples, self.month.interval, job, rank, jobs.job_id[job], jobs.start[job], jobs.end[job])
        wanted = job < jobs.wanted
        booked = jobs.booked[job]
        alone = wanted & (booked == 1)
        if alone.any():
            result.rows.append(merge_alone(parts, self.month.interval, jobs, alone))
        shared = wanted & (booked > 1)
        if shared.any():
            result.parts.append(parts.where(shared))


@dataclass
class Reduced:
    """What some nodes know: rows of jobs on one node, parts of jobs on several."""

    rows: list[Rows] = field(default_factory=list)
    parts: list[Parts] = field(default_factory=list)

    def save(self, path: Path) -> None:
        """Write it for the task that brings all together.

        Parameters
        ----------
        path
            A file in the month's folder.
        """
        rows = _concatenate_rows(self.rows)
        with path.open("wb") as file:
            for array in (rows.job, rows.numbers, rows.floats):
                np.save(file, array)
            if self.parts:
                parts = concatenate(self.parts)
                for name in _PART_FIELDS:
                    np.save(file, getattr(parts, name))


def _load_reduced(path: Path) -> tuple[Rows, Parts | None]:
    """Read what `Reduced.save` has written."""
    with path.open("rb") as file:
        rows = Rows(*(np.load(file) for _ in range(3)))
        some = os.fstat(file.fileno()).st_size > file.tell()
        return rows, Parts(**{name: np.load(file) for name in _PART_FIELDS}) if some else None


@dataclass(frozen=True)
class ReduceTask:
    """Nodes to reduce, and the file that takes what they know."""

    month: Month
    spans: list[Span]
    out: Path


@dataclass
class ReduceResult:
    """What came of a `ReduceTask`: nodes whose shard was unusable."""

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
    result, reduced = ReduceResult(), Reduced()
    planned, reader = PlannedMonth(task.month), shards.SampleReader()
    for span in task.spans:
        path = shards.shard_path(task.month.shards, task.month.cluster, span.node, task.month.name)
        try:
            samples = reader.read(path)
        except shards.DamagedShardError as error:
            result.aside.add("shard", str(path), str(error))
            result.damaged.append(span.node)
            continue
        planned.reduce(samples, span, reduced)
    reduced.save(task.out)
    return result


@dataclass(frozen=True)
class FinishTask:
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
    run
        Whether to write the rows as SQLite's records, in order of their keys.
    """

    month: Month
    cluster: str
    definition: int
    waiting: list[Span]
    reduced: list[Path]
    run: bool


@dataclass(frozen=True)
class Finished:
    """The rows of a month.

    Attributes
    ----------
    rows
        None where they were written as a run.
    computed, waiting, short, none
        Jobs that have a row; that wait for a shard; without samples, shorter than an interval, or not.
    without
        Shape (jobs,): indexes of those without samples.
    """

    rows: Rows | None
    computed: int
    waiting: int
    short: int
    none: int
    without: Int64s


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
    rows, parts = [], []
    for path in task.reduced:
        some_rows, some_parts = _load_reduced(path)
        rows.append(some_rows)
        if some_parts is not None:
            parts.append(some_parts)
    if parts:
        rows.append(merge(concatenate(parts), task.month.interval, jobs))
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
    if task.run:
        _write_run(task, jobs, found)
    return Finished(None if task.run else found, len(found.job), waiting, short, len(without) - short, without)


def _concatenate_rows(rows: Sequence[Rows]) -> Rows:
    if not rows:
        return Rows(np.empty(0, dtype=np.int64), np.empty((0, 4), dtype=np.int64), np.empty((0, 7)))
    return Rows(*(np.concatenate([getattr(some, name) for some in rows]) for name in ("job", "numbers", "floats")))


# The record of an efficiency row: its key, and then the other columns in the order of the table.
JOB_COLUMNS = [(WORD, 0), (INTEGER, 0), (INTEGER, 1)]
(_COUNTS, _SEEN, _REJECTED, _MOST, _CORES, _END, _BOOKED, _DEFINITION) = range(2, 10)
(_MEAN, _PERCENTILE, _PEAK, _MEDIAN, _LIMIT, _COVERAGE, _SWAP) = range(7)
ROW_COLUMNS = [
    *JOB_COLUMNS,
    (TEXT, month_jobs.PROJ_ID), (TEXT, month_jobs.USER), (REAL, _MEAN), (REAL, _PERCENTILE), (INTEGER, _CORES),
    (REAL, _PEAK), (REAL, _MEDIAN), (REAL, _LIMIT), (INTEGER, _COUNTS), (TEXT, month_jobs.STATE),
    (TEXT, month_jobs.DATE), (TEXT, month_jobs.NODES), (INTEGER, _END), (INTEGER, _BOOKED), (INTEGER, _SEEN),
    (REAL, _COVERAGE), (INTEGER, _REJECTED), (REAL, _SWAP), (INTEGER, _MOST), (INTEGER, _DEFINITION),
]  # fmt: skip
PROJECT_COLUMNS = [(TEXT, month_jobs.PROJ_ID), (TEXT, month_jobs.DATE), *JOB_COLUMNS]


def _write_run(task: FinishTask, jobs: Jobs, rows: Rows) -> None:
    """Write the rows of a month as records of the table and of its index, each in order of its keys."""
    # In order of the key from the start, so that what is read for a row lies together.
    order = by_key(jobs.job_id[rows.job], jobs.start[rows.job])
    job = rows.job[order]
    integers = np.empty((10, len(job)), dtype=np.int64)
    integers[0], integers[1] = jobs.job_id[job], jobs.start[job]
    integers[_COUNTS], integers[_SEEN], integers[_REJECTED], integers[_MOST] = rows.numbers[order].T
    integers[_CORES], integers[_END], integers[_BOOKED] = jobs.cores[job], jobs.end[job], jobs.booked[job]
    integers[_DEFINITION] = task.definition
    reals = np.ascontiguousarray(rows.floats[order].T)
    folder = task.month.folder
    np.save(folder / "keys.npy", integers[:2])
    whole = np.arange(len(job))
    _save_run(folder, "jobs", ROW_COLUMNS, integers, reals, jobs.texts, task.cluster, whole, job)
    project, projects = _codes(jobs.texts, month_jobs.PROJ_ID, job)
    day, days = _codes(jobs.texts, month_jobs.DATE, job)
    group = project * (len(days) + 1) + day
    # Sixteen bits are sorted digit by digit, which is many times as quick.
    small = len(projects) * (len(days) + 1) < 1 << 16
    order = np.argsort(group.astype(np.uint16) if small else group, kind="stable")
    _save_run(folder, "projects", PROJECT_COLUMNS, integers, reals, jobs.texts, task.cluster, order, job[order])
    begin = np.flatnonzero(np.diff(group[order], prepend=-1))
    keys = [(projects[project[i]], days[day[i]]) for i in order[begin].tolist()]
    groups = {"keys": keys, "begin": [*begin.tolist(), len(order)]}
    (folder / "groups.json").write_text(json.dumps(groups), encoding="utf-8")


def _save_run(
    folder: Path,
    name: str,
    columns: list[tuple[int, int]],
    integers: Int64s,
    reals: npt.NDArray[np.float64],
    texts: pages.Texts,
    word: str,
    rows: Int64s,
    text_rows: Int64s,
) -> None:
    """Write records in order of `rows`, a few at a time, so that they stay in the processor's cache on their way."""
    ends, before = np.empty(len(rows), dtype=np.int64), 0
    with (folder / f"{name}.records").open("wb") as file:
        for at in range(0, len(rows), RECORDS_AT_ONCE):
            some = slice(at, at + RECORDS_AT_ONCE)
            found = pages.records(columns, integers, reals, texts, word, rows[some], text_rows[some])
            file.write(found.data.data)
            ends[some] = found.ends + before
            before += len(found.data)
    np.save(folder / f"{name}.npy", ends)


def by_key(job_id: Int64s, start: Int64s) -> Int64s:
    """What sorts rows by job id and start.

    Parameters
    ----------
    job_id, start
        Shape (rows,).

    Returns
    -------
    ndarray of int64
        Indexes.
    """
    order = np.argsort(job_id)
    ordered = job_id[order]
    if np.all(ordered[1:] > ordered[:-1]):
        return order
    return np.lexsort((start, job_id))


def load_run(folder: Path, name: str) -> pages.Records:
    """Map the records that `finish_month` has written.

    Parameters
    ----------
    folder, name
        Of the month; ``jobs`` or ``projects``.

    Returns
    -------
    Records
        Read as they are used.
    """
    ends = np.asarray(np.load(folder / f"{name}.npy", mmap_mode="c"))
    data = np.memmap(folder / f"{name}.records", dtype=np.uint8, mode="c") if len(ends) else np.empty(0, np.uint8)
    return pages.Records(np.asarray(data), ends)


def _codes(texts: pages.Texts, column: int, rows: Int64s) -> tuple[Int64s, list[str]]:
    """A text column as numbers in order of the texts, and the texts."""
    offsets, data = texts.strings(column)
    array = pa.LargeStringArray.from_buffers(len(offsets) - 1, pa.py_buffer(offsets), pa.py_buffer(data))
    encoded = array.dictionary_encode()
    words: list[str] = encoded.dictionary.to_pylist()
    order = sorted(range(len(words)), key=lambda i: words[i].encode())
    rank = np.empty(len(words), dtype=np.int64)
    rank[order] = np.arange(len(words))
    return rank[np.asarray(encoded.indices)][rows], [words[i] for i in order]
