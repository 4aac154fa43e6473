"""One job: its row, and the samples and the raw text behind it."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobeff.config import Config
from jobeff.errors import ConfigError, JobeffError, shown
from jobeff.names import is_name, job_id_or_none
from jobeff.store import tables

HUNDREDTHS = 100


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
    """

    accounting: dict[str, Any]
    efficiency: dict[str, Any] | None
    interval: int

    @property
    def month(self) -> str:
        """The month in which the job ended, and in which its raw files lie."""
        return str(self.accounting["date"])[:7]

    @property
    def nodes(self) -> list[str]:
        """The nodes it booked."""
        return [node for node in self.accounting["nodes"].split(",") if node]


def parse_id(text: str) -> tuple[str | None, int]:
    """Read ``[CLUSTER/]ID``.

    Parameters
    ----------
    text
        From the command line.

    Returns
    -------
    tuple
        Cluster, or None, and id.

    Raises
    ------
    ConfigError
        It is neither.
    """
    cluster, _, number = text.rpartition("/")
    job_id = job_id_or_none(number)
    if job_id is None or (cluster and not is_name(cluster)):
        raise ConfigError(f"not a job: {shown(text)}", todo="Give a job id, or CLUSTER/ID, such as rackham/42248156")
    return cluster or None, job_id


def find(config: Config, cluster: str | None, job_id: int) -> list[JobView]:
    """Find a job, all attempts of it, on one or all clusters.

    Parameters
    ----------
    config
        Of the site.
    cluster, job_id
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
    where = "job_id = ?" + (" and cluster = ?" if cluster else "")
    values = (job_id, cluster) if cluster else (job_id,)
    known = _rows(config, "accounting", where, values)
    computed = {}
    if tables.database(config.root, "efficiency").is_file():
        for name in {row["cluster"] for row in known}:  # the key begins with the cluster
            keyed = "cluster = ? and job_id = ?"
            rows = _rows(config, "efficiency", keyed, (name, job_id))
            computed.update({(row["cluster"], row["start"]): row for row in rows})
    if not known:
        raise JobeffError(
            f"accounting does not know job {cluster + '/' if cluster else ''}{job_id}",
            todo="Is it still running? A job is loaded once it has ended; 'jobeff update' loads what has",
        )
    views = [
        JobView(row, computed.get((row["cluster"], row["start"])), config.interval(row["cluster"])) for row in known
    ]
    return sorted(views, key=lambda view: (view.accounting["cluster"], view.accounting["start"]))


def _rows(config: Config, name: str, where: str, values: tuple[object, ...]) -> list[dict[str, Any]]:
    connection = tables.read_database(tables.database(config.root, name), name)
    try:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(f"select * from jobs where {where}", values)]
    finally:
        connection.close()


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
    for node, raw in _raw_files(config, view, ["time", "limit", "used", "max_used", "swap", "core"]):
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
        for node, raw in _raw_files(config, view, ["offset", "bytes"]):
            yield node, bytes(text[raw["offset"] : raw["offset"] + raw["bytes"]])


def _raw_files(config: Config, view: JobView, columns: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Rows of the shards that are this job's raw files."""
    from jobeff.store import shards  # noqa: PLC0415  (the numbers of a job shall not wait for pyarrow)

    for node in view.nodes:
        raw_cluster = config.raw_cluster(view.accounting["cluster"])
        path = shards.shard_path(config.shards, raw_cluster, node, view.month)
        if not path.is_file():
            continue
        table, _ = shards.read(path, ["job_id", *columns])
        for row in (table.column("job_id").to_numpy() == view.accounting["job_id"]).nonzero()[0].tolist():
            yield node, table.slice(row, 1).to_pylist()[0]
