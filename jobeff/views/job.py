"""One job: its row, and the samples and the raw text behind it."""

from __future__ import annotations

import contextlib
import re
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from jobeff.config import Config
from jobeff.errors import ConfigError, JobeffError, shown
from jobeff.names import INT64_MAX, is_name, job_id_or_none
from jobeff.store import tables

HUNDREDTHS = 100
PART = re.compile(r"([0-9]{1,19})(?:_(?:[0-9]{1,10}|\[[0-9,%:-]{1,150}\])|\+[0-9]{1,10})")
"""A task of an array, tasks that never came apart, or a part of a heterogeneous job."""

NEAR = 1_000_000
"""Ids that Slurm gives the parts of a job are looked for in so many first; only the job's own id has an index."""


class Wanted(NamedTuple):
    """A job asked for: its cluster, or None for any; its id, or as people see it, ``123_4`` and ``123+0``."""

    cluster: str | None
    job_id: int
    text: str | None = None

    def __str__(self) -> str:
        return (f"{self.cluster}/" if self.cluster else "") + (self.text or str(self.job_id))


@dataclass(frozen=True)
class JobView:
    """A job as the databases know it.

    Attributes
    ----------
    accounting
        Row of the accounting database, by column.
    efficiency
        Row of the efficiency database, by column; None where the job has none.
    interval
        Seconds between samples of its cluster.
    attempts
        Node list, start and end of each attempt of its id on its cluster, in order of start.
    node_types
        Memory of its cluster's kinds of nodes, GiB.
    """

    accounting: dict[str, Any]
    efficiency: dict[str, Any] | None
    interval: int
    attempts: tuple[tuple[str, int, int], ...]
    node_types: tuple[int, ...] = ()

    @property
    def month(self) -> str:
        """The month in which the job ended, and in which its raw files lie."""
        return str(self.accounting["date"])[:7]

    @property
    def nodes(self) -> list[str]:
        """The nodes it booked."""
        return [node for node in self.accounting["nodes"].split(",") if node]

    @property
    def start(self) -> int:
        """Epoch seconds."""
        return int(self.accounting["start"])

    @property
    def end(self) -> int:
        """Epoch seconds."""
        return int(self.accounting["end"])

    @property
    def expected(self) -> int:
        """Rows expected of each node."""
        return max(1, (self.end - self.start) // self.interval)

    @property
    def hours(self) -> float:
        """How long it ran."""
        return (self.end - self.start) / 3600

    @property
    def number(self) -> int:
        """Which of the attempts it is, from 1."""
        return [start for _, start, _ in self.attempts].index(self.start) + 1

    @property
    def name(self) -> str:
        """``cluster/id``, the id as people see it."""
        known = self.accounting
        return f"{known['cluster']}/{shown(known['job_id_text'] or str(known['job_id']))}"

    def rivals(self, node: str) -> list[tuple[int, int]]:
        """Start and end of all attempts that booked a node, this one among them."""
        return [(start, end) for nodes, start, end in self.attempts if node in nodes.split(",")]


def parse_id(text: str) -> Wanted:
    """Read ``[CLUSTER/]ID``.

    Parameters
    ----------
    text
        From the command line.

    Returns
    -------
    Wanted
        What it asks for.

    Raises
    ------
    ConfigError
        It is no job.
    """
    cluster, _, number = text.rpartition("/")
    if text.startswith("/") or (cluster and not is_name(cluster)):
        job_id, part = None, None
    else:
        part = PART.fullmatch(number)
        job_id = job_id_or_none(part[1] if part else number)
    if job_id is None:
        todo = "Give a job id, or CLUSTER/ID, such as rackham/42248156; of an array 123_4, of a heterogeneous job 123+0"
        raise ConfigError(f"not a job: {shown(text) or 'an empty id'}", todo=todo)
    return Wanted(cluster or None, job_id, number if part else None)


def find(config: Config, wanted: Wanted) -> list[JobView]:
    """Find a job, all attempts of it, on one or all clusters.

    Parameters
    ----------
    config
        Of the site.
    wanted
        From `parse_id`.

    Returns
    -------
    list of JobView
        In order of cluster and start.

    Raises
    ------
    JobeffError
        There is no such job.
    """
    rows = known(config, wanted)
    if not rows:
        raise JobeffError(f"accounting does not know job {wanted}", todo=_todo(config, wanted))
    keys = sorted({(row["cluster"], row["job_id"]) for row in rows})
    by_key = {key: _rows(config, "cluster = ? and job_id = ?", key) for key in keys}
    computed = {}
    efficiency = tables.read_if_there(tables.database(config.root, "efficiency"), "efficiency")
    if efficiency is not None:
        with contextlib.closing(efficiency):
            for key in keys:
                seen = _select(efficiency, "cluster = ? and job_id = ?", key)
                computed.update({(*key, row["start"]): row for row in seen})
    attempts = {
        key: tuple(sorted(((row["nodes"], row["start"], row["end"]) for row in rows), key=lambda one: one[1:]))
        for key, rows in by_key.items()
    }
    return [
        JobView(
            row,
            computed.get((row["cluster"], row["job_id"], row["start"])),
            config.interval(row["cluster"]),
            attempts[row["cluster"], row["job_id"]],
            config.node_types(row["cluster"]),
        )
        for row in sorted(rows, key=lambda row: (row["cluster"], row["job_id"], row["start"]))
    ]


def known(config: Config, wanted: Wanted) -> list[dict[str, Any]]:
    """What accounting knows of a job.

    Parameters
    ----------
    config, wanted
        As for `find`.

    Returns
    -------
    list of dict
        Rows in no order; none where there is no such job.
    """
    of_cluster = " and cluster = ?" if wanted.cluster else ""
    cluster = (wanted.cluster,) if wanted.cluster else ()
    if wanted.text is None:
        return _rows(config, f"job_id = ?{of_cluster}", (wanted.job_id, *cluster))
    # A part has an id of its own, which is a little larger than that of the whole until ids come round again.
    for begin, end in ((wanted.job_id, wanted.job_id + NEAR), (0, INT64_MAX)):
        where = f"job_id between ? and ? and job_id_text = ?{of_cluster}"
        rows = _rows(config, where, (begin, min(end, INT64_MAX), wanted.text, *cluster))
        if rows:
            return rows
    return []


def _todo(config: Config, wanted: Wanted) -> str:
    """What to do where accounting does not know a job."""
    if wanted.cluster:
        elsewhere = {row["cluster"] for row in known(config, wanted._replace(cluster=None))}
        if elsewhere:
            names = " and ".join(f"{name}/{wanted.text or wanted.job_id}" for name in sorted(elsewhere))
            return f"It knows {names}"
        if wanted.cluster not in config.clusters and config.raw_cluster(wanted.cluster) == wanted.cluster:
            return f"No cluster {wanted.cluster} is configured; there is {', '.join(sorted(config.clusters))}"
    if wanted.text is None:
        near = min(wanted.job_id + NEAR, INT64_MAX)
        values = (wanted.job_id, near, f"{wanted.job_id}[_+]*")
        parts = _rows(config, "job_id between ? and ? and job_id_text glob ? limit 3", values)
        if parts:
            return f"It came apart; ask for a part, such as {', '.join(shown(row['job_id_text']) for row in parts)}"
    elif whole := known(config, wanted._replace(text=None)):
        return f"It knows no part of that job, but the job itself: {whole[0]['cluster']}/{wanted.job_id}"
    raw = _raw_file_of(config, wanted)
    if raw is not None:
        written = datetime.fromtimestamp(raw.stat().st_mtime, config.clock.zone)
        return (
            f"A raw file of it, {shown(str(raw))}, was last written {written:%Y-%m-%d %H:%M}: it is still running, or "
            "its accounting has not come; 'jobeff update' loads what has"
        )
    return "Is it still running? A job is loaded once it has ended; 'jobeff update' loads what has"


def _raw_file_of(config: Config, wanted: Wanted) -> Path | None:
    """A raw file that a node has written of a job that accounting does not know."""
    folders = [
        folder
        for name, cluster in sorted(config.clusters.items())
        if wanted.cluster in (None, name)
        for folder in cluster.jobstats
    ]
    for folder in folders:
        with contextlib.suppress(OSError):
            for node in sorted(folder.iterdir()):
                path = node / str(wanted.job_id)
                if is_name(node.name) and path.is_file() and not path.is_symlink():
                    return path
    return None


def _rows(config: Config, where: str, values: tuple[object, ...]) -> list[dict[str, Any]]:
    """Rows of accounting."""
    connection = tables.read_database(tables.database(config.root, "accounting"), "accounting")
    with contextlib.closing(connection):
        return _select(connection, where, values)


def _select(connection: sqlite3.Connection, where: str, values: tuple[object, ...]) -> list[dict[str, Any]]:
    connection.row_factory = sqlite3.Row
    return [dict(row) for row in connection.execute(f"select * from jobs where {where}", values)]


def samples(config: Config, view: JobView) -> Iterator[dict[str, Any]]:
    """The valid rows of a job's raw files, in the units they are shown in.

    Parameters
    ----------
    config
        Of the site.
    view
        From `find`.

    Yields
    ------
    dict
        ``node``, ``time`` (epoch seconds), ``limit_gib``, ``used_gib``, ``max_used_gib`` (None where there is none),
        ``swap_gib``, ``cores_pct``; all rows of the files, also those of other attempts.
    """
    for node, raw in raw_files(config, view, ["time", "limit", "used", "max_used", "swap", "core"]):
        width = len(raw["core"]) // max(1, len(raw["time"]))
        for i, time in enumerate(raw["time"]):
            most = raw["max_used"][i] if raw["max_used"] else -1
            yield {
                "node": node,
                "time": time,
                "limit_gib": raw["limit"][i] / HUNDREDTHS,
                "used_gib": raw["used"][i] / HUNDREDTHS,
                "max_used_gib": most / HUNDREDTHS if most >= 0 else None,
                "swap_gib": raw["swap"][i] / HUNDREDTHS,
                "cores_pct": [core / HUNDREDTHS for core in raw["core"][i * width : (i + 1) * width]],
            }


def raw_text(config: Config, view: JobView) -> Iterator[tuple[str, bytes]]:
    """The archived text of a job's raw files.

    Parameters
    ----------
    config
        Of the site.
    view
        From `find`.

    Yields
    ------
    tuple
        Node and text, verbatim.
    """
    from jobeff.store import archive  # noqa: PLC0415  (the numbers of a job shall not wait for numpy)

    raw_cluster = config.raw_cluster(view.accounting["cluster"])
    path = archive.month_files(config.root, raw_cluster).get(view.month)
    if path is None:
        return
    with (
        tempfile.TemporaryDirectory() as scratch,
        archive.plain(path, Path(scratch)) as plain,
        archive.mapped(plain) as text,
    ):
        for node, raw in raw_files(config, view, ["offset", "bytes"]):
            yield node, bytes(text[raw["offset"] : raw["offset"] + raw["bytes"]])


def raw_files(
    config: Config, view: JobView, columns: list[str], nodes: Sequence[str] | None = None
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Rows of the shards that are a job's raw files.

    Parameters
    ----------
    config
        Of the site.
    view
        From `find`.
    columns
        Of the shards.
    nodes
        Some of the job's nodes; all by default.

    Yields
    ------
    tuple
        Node and columns by name, in order of the shard.
    """
    from jobeff.store import shards  # noqa: PLC0415  (the numbers of a job shall not wait for pyarrow)

    for node in view.nodes if nodes is None else nodes:
        raw_cluster = config.raw_cluster(view.accounting["cluster"])
        path = shards.shard_path(config.shards, raw_cluster, node, view.month)
        if not path.is_file():
            continue
        table, _ = shards.read(path, ["job_id", *columns])
        for row in (table.column("job_id").to_numpy() == view.accounting["job_id"]).nonzero()[0].tolist():
            yield node, table.slice(row, 1).to_pylist()[0]
