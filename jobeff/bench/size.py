"""What a site of a given size takes: disk, memory and time, from what this machine took on small synthetic sites."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from jobeff.bench import text
from jobeff.store import tables

DAY_S, MONTH_DAYS, YEAR_DAYS = 86_400, 30.4, 365.25
FRAME_BYTES = 180
"""Of a raw file in the archive, beside its rows: the line before it and its header."""

ROW_BYTES = sum(text.BEFORE_CORES) / len(text.BEFORE_CORES) + 1


@dataclass(frozen=True)
class Load:
    """What comes in on a day.

    Attributes
    ----------
    nodes, jobs
        Nodes of the cluster; jobs that end on a day.
    files, rows, cells
        Raw files, their rows, and values of cores in these, on a day.
    """

    nodes: float
    jobs: float
    files: float
    rows: float
    cells: float

    @property
    def text(self) -> float:
        """Bytes of the archive on a day."""
        return self.files * FRAME_BYTES + self.rows * ROW_BYTES + self.cells * text.CELL


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
        Seconds: each is (start, per byte of text, per shard); for a night the text of the month and the shards in it.
    parallel
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
    parallel: float


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
    return Load(nodes, jobs, jobs * nodes_per_job, cells / cores_per_job, cells)


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
    query = """select count(distinct date), count(*), sum(booked), sum(booked * samples), sum(cores * samples) from (
                 select date, cores, (end - start) / ?1 as samples,
                   case when end - start < ?1 then 0 else 1 + length(nodes) - length(replace(nodes, ',', '')) end
                     as booked
                 from jobs where nodes <> '' and (?2 is null or cluster = ?2))"""
    with contextlib.closing(tables.read_database(path, "accounting")) as connection:
        days, jobs, files, rows, cells = connection.execute(query, (interval, cluster)).fetchone()
        if not jobs:
            return None
        lists = connection.execute(
            "select distinct nodes from jobs where nodes <> '' and (?1 is null or cluster = ?1)", (cluster,)
        )
        nodes = len({node for (names,) in lists for node in names.split(",")})
    return Load(nodes, jobs / days, files / days, rows / days, cells / days)


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

    def seconds(cost: tuple[float, float, float]) -> float:
        share = (1 - costs.parallel) + costs.parallel / max(1, workers)
        return cost[0] + share * (cost[1] * total + cost[2] * shards)

    night = costs.night
    return Size(
        archive=total,
        shards=total * costs.shard_per_text + shards * costs.shard_file,
        databases=load.jobs * days * costs.database_job,
        memory_mb=costs.memory + costs.memory_job * load.jobs * in_month,
        night_s=night[0] + night[1] * load.text * in_month + night[2] * load.nodes,
        rebuild_s=seconds(costs.rebuild),
        recompute_s=seconds(costs.recompute),
    )
