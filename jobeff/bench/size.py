"""What a site of a given size takes: disk, memory and time, from what this machine took on small synthetic sites."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobeff.bench import text
from jobeff.store import archive, tables

DAY_S, MONTH_DAYS, YEAR_DAYS = 86_400, 30.4, 365.25
FRAME_BYTES = 180
"""Of a raw file in the archive, beside its rows: the line before it and its header."""

ROW_BYTES = sum(text.BEFORE_CORES) / len(text.BEFORE_CORES) + 1
"""Of a row beside its cores, where half of the raw files are of each form; a site with an archive tells its own."""


@dataclass(frozen=True)
class Load:
    """What comes in on a day.

    Attributes
    ----------
    nodes, jobs
        Nodes of the cluster; jobs that end on a day.
    files, rows, cells
        Raw files, their rows, and values of cores in these, on a day.
    text
        Bytes of the archive on a day.
    """

    nodes: float
    jobs: float
    files: float
    rows: float
    cells: float
    text: float


@dataclass(frozen=True)
class Costs:
    """What this machine takes, see `jobeff.bench.calibrate`.

    Attributes
    ----------
    shard_per_text, shard_file
        Bytes of a shard for each byte of text, and for being one.
    database_job
        Bytes of all databases for each job.
    memory, memory_job
        MB of the largest process, and for each job of the largest month.
    rebuild, recompute, night
        Seconds: each is (start, per byte of text, per shard), the latter two of one worker; for a night the text of the
        month and the shards in it, with all workers.
    rebuild_parallel, recompute_parallel
        Share of the work on text and shards that workers divide among them.
    """

    shard_per_text: float
    shard_file: float
    database_job: float
    memory: float
    memory_job: float
    rebuild: tuple[float, float, float]
    recompute: tuple[float, float, float]
    night: tuple[float, float, float]
    rebuild_parallel: float
    recompute_parallel: float


@dataclass(frozen=True)
class Size:
    """What a site takes: bytes, MB of the largest process, seconds."""

    archive: float
    shards: float
    databases: float
    memory_mb: float
    night_s: float
    rebuild_s: float
    recompute_s: float


def made_up(
    nodes: int,
    interval: int,
    jobs: int,
    cores_per_node: float,
    nodes_per_job: float,
    cores_per_job: float,
    booked: float,
) -> Load:
    """The load of a cluster that is not there yet.

    Parameters
    ----------
    nodes, interval, jobs
        Nodes; seconds between samples; jobs a day.
    cores_per_node, nodes_per_job, cores_per_job
        Means; the cores of a job are those on one of its nodes.
    booked
        Share of all cores that jobs have at a time.

    Returns
    -------
    Load
        Of a day.
    """
    cells = nodes * cores_per_node * booked * DAY_S / interval
    files, rows = jobs * nodes_per_job, cells / cores_per_job
    return Load(nodes, jobs, files, rows, cells, _text(files, rows, cells, ROW_BYTES))


def _text(files: float, rows: float, cells: float, row_bytes: float) -> float:
    """Bytes of the archive."""
    return files * FRAME_BYTES + rows * row_bytes + cells * text.CELL


def of_site(root: Path, cluster: str | None, interval: int) -> Load | None:
    """The load that accounting of a site tells of.

    Parameters
    ----------
    root, cluster, interval
        Data root; one cluster, or None for all; seconds between samples.

    Returns
    -------
    Load or None
        Mean of its days; None where there are no jobs.
    """
    path = tables.database(root, "accounting")
    if not path.exists():
        return None
    # A job shorter than the interval leaves no raw file; others one on each node.
    query = """select cluster, substr(date, 1, 7), count(distinct date), count(*), sum(booked), sum(booked * samples),
                 sum(cores * samples) from (
                 select cluster, date, cores, (end - start) / ?1 as samples,
                   case when end - start < ?1 then 0 else 1 + length(nodes) - length(replace(nodes, ',', '')) end
                     as booked
                 from jobs where nodes <> '' and (?2 is null or cluster = ?2)) group by 1, 2"""
    with contextlib.closing(tables.read_database(path, "accounting")) as connection:
        months = connection.execute(query, (interval, cluster)).fetchall()
        if not months:
            return None
        count = "select count(distinct date) from jobs where nodes <> '' and (?1 is null or cluster = ?1)"
        days = connection.execute(count, (cluster,)).fetchone()[0]
        jobs, files, rows, cells = (sum(month[i] for month in months) for i in range(3, 7))
        lists = connection.execute(
            "select distinct nodes from jobs where nodes <> '' and (?1 is null or cluster = ?1)", (cluster,)
        )
        nodes = len({node for (names,) in lists for node in names.split(",")})
    whole = _text(files, rows, cells, _row_bytes(root, months))
    return Load(nodes, jobs / days, files / days, rows / days, cells / days, whole / days)


def _row_bytes(root: Path, months: list[tuple[Any, ...]]) -> float:
    """Of a row beside its cores: what plain months of the archive come to; it is of one form, the other, or between."""
    size, others, rows = 0.0, 0.0, 0.0
    for cluster, month, _, _, files, some, cells in months:
        path = archive.month_file(root, cluster, month)
        if path.is_file():
            size, others, rows = size + path.stat().st_size, others + _text(files, 0, cells, 0), rows + some
    if not rows:
        return ROW_BYTES
    return min(max((size - others) / rows, min(text.BEFORE_CORES) + 1), max(text.BEFORE_CORES) + 1)


def predict(load: Load, days: float, workers: int, costs: Costs) -> Size:
    """Say what a site takes.

    Parameters
    ----------
    load, days
        What comes in on a day, and for how many days.
    workers
        Worker processes.
    costs
        Of this machine.

    Returns
    -------
    Size
        At the end of these days.
    """
    months = max(1.0, days / MONTH_DAYS)
    total, shards = load.text * days, load.nodes * months
    in_month = min(days, MONTH_DAYS)

    def seconds(cost: tuple[float, float, float], parallel: float) -> float:
        share = (1 - parallel) + parallel / max(1, workers)
        return cost[0] + share * (cost[1] * total + cost[2] * shards)

    night = costs.night
    return Size(
        archive=total,
        shards=total * costs.shard_per_text + shards * costs.shard_file,
        databases=load.jobs * days * costs.database_job,
        memory_mb=costs.memory + costs.memory_job * load.jobs * in_month,
        night_s=night[0] + night[1] * load.text * in_month + night[2] * load.nodes,
        rebuild_s=seconds(costs.rebuild, costs.rebuild_parallel),
        recompute_s=seconds(costs.recompute, costs.recompute_parallel),
    )
