"""Nodes that misbehave: what each node's samples lack, compared with the jobs that booked it.

Bookings are those of accounting, samples those of the shards, month by month; a shard is read once. Of a job only the
files on that node count. An id that booked a node more than once in a month is left out of all that compares times.
"""

from __future__ import annotations

from calendar import monthrange
from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from jobeff.config import Config
from jobeff.progress import QUIET, Progress
from jobeff.steps import columns
from jobeff.store import shards
from jobeff.store.shards import DamagedShardError
from jobeff.views import report, report_select
from jobeff.views.report import Ask
from jobeff.views.report_select import Part, Selection
from jobeff.views.tables import Column, Table

COLUMNS = (
    Column("cluster", "cluster", "text", 3, least=8),
    Column("node", "node", "text"),
    Column("jobs", "jobs"),
    Column("core_hours", "core hours", "hours", 2),
    Column("expected", "", "count"),
    Column("seen", "seen", "count", 1),
    Column("missing_pct", "missing %", "share"),
    Column("first_s", "first s", "count", 1),
    Column("outside", "outside", "count", 1),
    Column("clock_s", "clock s", "count", 1),
    Column("rejected", "rejected", "count", 1),
    Column("other_cores", "", "count"),
    Column("plain", "", "count"),
    Column("extended", "", "count"),
    Column("problems", "problems", "text", least=30),
)
MEANING = (
    "seen: jobs with a sample, of those long enough to have one; missing %: of their samples; first s: from a job's "
    "start to its first sample, median; outside: jobs with a sample before their start or after their end, clock s: "
    "by how much, median. 'jobeff report node --help' says what each problem is."
)
GAPS_PCT, REJECTED_PCT, OUTSIDE_PCT, OTHER_CORES_PCT = 10, 1, 10, 10
FILE_COLUMNS = ["job_id", "first", "last", "cores", "rejected", "swap", "max_used"]

Int64s = npt.NDArray[np.int64]
Key = tuple[str, str]


@dataclass
class Node:
    """What is known of a node.

    Attributes
    ----------
    numbers
        Counts and sums by name.
    first, outside
        Seconds from start to first sample, of each job; seconds outside, of each job that has any.
    damaged
        Whether a shard cannot be read.
    """

    numbers: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    first: list[Int64s] = field(default_factory=list)
    outside: list[Int64s] = field(default_factory=list)
    damaged: bool = False


@dataclass(frozen=True)
class Bookings:
    """Bookings of one node in a month, in order of job id."""

    job_id: Int64s
    start: Int64s
    end: Int64s
    cores: Int64s
    nodes: Int64s
    core_s: npt.NDArray[np.float64]


def by_node(config: Config, ask: Ask, progress: Progress = QUIET) -> Table:
    """What each node's samples lack.

    Parameters
    ----------
    config
        Of the site.
    ask
        Which days and clusters; without days, the newest month in which a job ended.
    progress
        Of making columns ready first, and of reading shards.

    Returns
    -------
    Table
        ``cluster``, ``node``; ``jobs`` that booked it, ``core_hours`` (of a job on several nodes its share);
        ``expected`` (jobs of at least one sampling interval), ``seen`` (those with a valid sample); ``missing_pct`` (of
        the samples that they should have, one per whole interval); ``first_s``, ``outside``, ``clock_s`` (see
        `MEANING`); ``rejected`` rows; ``other_cores`` (files of jobs on one node with another number of cores than
        booked); ``plain`` and ``extended`` files; ``problems``.

    Raises
    ------
    ConfigError
        What is asked for is not there.
    """
    report.check_sort(ask.sort, COLUMNS)
    ask = replace(ask, selection=_newest_month(config, ask.selection), sort=ask.sort or "missing_pct")
    nodes: dict[Key, Node] = defaultdict(Node)
    names = ["job_id", "start", "end", "cores", "nodes"]
    for part in report_select.parts(config, ask.selection, names, progress):
        cluster, interval = config.raw_cluster(part.cluster), config.interval(part.cluster)
        booked = list(_booked(part))
        with progress.task(f"shards of {part.cluster} {part.month}", len(booked), "nodes") as advance:
            for name, bookings in booked:
                _compare(nodes[cluster, name], config, (cluster, name, part.month), bookings, interval)
                advance(1)
    keys = sorted(nodes)
    lines = [_line(*key, nodes[key]) for key in keys]
    data = pa.table({c.name: pa.array([line[c.name] for line in lines], _TYPES[c.kind]) for c in COLUMNS})
    total = {name: sum(line[name] or 0 for line in lines) for name in ("jobs", "core_hours", "seen", "rejected")}
    total["missing_pct"] = _missing_pct(nodes.values())
    found = report.finish(config, COLUMNS, data, ask, MEANING, total, len(lines))
    return replace(found, notes=(f"Jobs that ended {ask.selection}.", *found.notes))


_TYPES = {"text": pa.string(), "count": pa.int64(), "hours": pa.float64(), "share": pa.float64()}


def _newest_month(config: Config, selection: Selection) -> Selection:
    """The newest month that has jobs, where no time is asked for."""
    if selection.since or selection.until:
        return selection
    wanted = selection.clusters
    months = [month for cluster, month in columns.keys(config) if not wanted or cluster in wanted]
    if not months:
        return selection
    begin = date.fromisoformat(f"{max(months)}-01")
    return replace(selection, since=begin, until=begin.replace(day=monthrange(begin.year, begin.month)[1]))


def _booked(part: Part) -> Iterator[tuple[str, Bookings]]:
    """Bookings by node."""
    lists = pc.split_pattern(part.texts("nodes"), ",")
    offsets, code = np.asarray(lists.offsets, dtype=np.int64), part.numbers("nodes")
    count = np.diff(offsets)[code]
    job = np.repeat(np.arange(len(part)), count)
    place = np.arange(len(job)) - np.repeat(np.cumsum(count) - count, count)
    names = lists.values.dictionary_encode()
    node = np.asarray(names.indices, dtype=np.int64)[np.repeat(offsets[code], count) + place]
    order = np.lexsort((job, node))
    ends = np.searchsorted(node[order], np.arange(len(names.dictionary)), side="right")
    begin = 0
    for name, after in zip(names.dictionary.to_pylist(), ends.tolist(), strict=True):
        rows = job[order[begin:after]]
        begin = after
        if len(rows):
            job_id, start, end, cores, core_s = (
                part.numbers(column)[rows] for column in ("job_id", "start", "end", "cores", "core_s")
            )
            yield name, Bookings(job_id, start, end, cores, count[rows], core_s / count[rows])


def _compare(node: Node, config: Config, where: tuple[str, str, str], booked: Bookings, interval: int) -> None:
    """Add what the bookings and the shard of a month say of a node."""
    length = booked.end - booked.start
    node.numbers["interval"] = interval
    node.numbers["jobs"] += len(length)
    node.numbers["core_hours"] += float(booked.core_s.sum()) / 3600
    path = shards.shard_path(config.shards, *where)
    found = None
    if path.is_file():
        try:
            found = shards.read(path, FILE_COLUMNS)[0]
        except DamagedShardError:
            node.damaged = True
            return
    expected = length >= interval
    due = np.where(expected, length // interval, 0)
    node.numbers["expected"] += int(expected.sum())
    node.numbers["due"] += int(due.sum())
    if found is not None:
        _compare_files(node, found, booked, expected, due)


def _compare_files(node: Node, found: Any, booked: Bookings, expected: npt.NDArray[np.bool_], due: Int64s) -> None:
    ids, cores, rejected = (np.asarray(found.column(name)) for name in ("job_id", "cores", "rejected"))
    rows, extended = (_lengths(found.column(name)) for name in ("swap", "max_used"))
    place = np.minimum(np.searchsorted(booked.job_id, ids), len(booked.job_id) - 1)
    ours = booked.job_id[place] == ids
    valid = ours & (rows > 0)
    node.numbers["rejected"] += int(rejected[ours].sum())
    node.numbers["rows"] += int(rows[ours].sum())
    node.numbers["extended"] += int((valid & (extended > 0)).sum())
    node.numbers["plain"] += int((valid & (extended == 0)).sum())
    alone = valid & (booked.nodes[place] == 1)
    node.numbers["alone"] += int(alone.sum())
    node.numbers["other_cores"] += int((alone & (cores != booked.cores[place])).sum())
    n = len(booked.job_id)
    most, first, last = np.zeros(n, np.int64), np.full(n, np.iinfo(np.int64).max), np.zeros(n, np.int64)
    at = place[valid]
    np.maximum.at(most, at, rows[valid])
    np.minimum.at(first, at, np.asarray(pc.fill_null(found.column("first"), 0))[valid])
    np.maximum.at(last, at, np.asarray(pc.fill_null(found.column("last"), 0))[valid])
    # The files of an id that booked the node again belong to any of its attempts.
    first_of_id = np.searchsorted(booked.job_id, booked.job_id)
    most = most[first_of_id]
    node.numbers["seen"] += int((expected & (most > 0)).sum())
    node.numbers["had"] += int(np.minimum(most, due).sum())
    once = np.bincount(first_of_id, minlength=n)[first_of_id] == 1
    timed = np.flatnonzero(once & (most > 0))
    after = first[timed] - booked.start[timed]
    outside = np.where(after < 0, after, np.maximum(last[timed] - booked.end[timed], 0))
    node.first.append(after)
    node.outside.append(outside[outside != 0])


def _lengths(column: Any) -> Int64s:
    return np.asarray(pc.list_value_length(column), dtype=np.int64)


def _line(cluster: str, name: str, node: Node) -> dict[str, Any]:
    numbers = node.numbers
    first, outside = (np.concatenate(some) if some else np.array([]) for some in (node.first, node.outside))
    line: dict[str, Any] = {
        "cluster": cluster,
        "node": name,
        **{column: int(numbers[column]) for column in (
            "jobs", "expected", "seen", "rejected", "other_cores", "plain", "extended",
        )},
        "core_hours": numbers["core_hours"],
        "missing_pct": _missing_pct([node]),
        "first_s": round(float(np.median(first))) if len(first) else None,
        "outside": len(outside),
        "clock_s": round(float(np.median(outside))) if len(outside) else None,
    }  # fmt: skip
    return {**line, "problems": ", ".join(_problems(line, node, len(first)))}


def _missing_pct(nodes: Collection[Node]) -> float | None:
    """Of the samples that there should be; None where there should be none."""
    had, due = (sum(node.numbers[name] for node in nodes) for name in ("had", "due"))
    return 100 * (1 - had / due) if due else None


def _problems(line: dict[str, Any], node: Node, timed: int) -> Iterator[str]:
    numbers = node.numbers
    if node.damaged:
        yield "shard damaged"
    if line["expected"] and not line["seen"]:
        yield "never seen"
    elif (line["missing_pct"] or 0) > GAPS_PCT:
        yield "gaps"
    if line["first_s"] is not None and line["first_s"] > numbers["interval"]:
        yield "late"
    if 100 * line["outside"] > OUTSIDE_PCT * timed:
        yield "clock"
    if 100 * line["rejected"] > REJECTED_PCT * (line["rejected"] + numbers["rows"]):
        yield "rejected"
    if line["plain"] and line["extended"]:
        yield "two forms"
    if 100 * line["other_cores"] > OTHER_CORES_PCT * numbers["alone"]:
        yield "cores"
