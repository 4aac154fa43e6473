"""A deterministic history: days of jobs with the shape of a real cluster's, as archive text and accounting.

The shape is that of three real days of a 486-node cluster: mostly jobs of one or a few cores, two hours at the median,
one in a hundred on several nodes, and one in five too short to have been sampled.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jobeff.bench import text
from jobeff.store import header_sums, tables
from jobeff.store.crc_table import crc32_table
from jobeff.store.framing import checksums

CLUSTER = "bench"
INTERVAL = 300
FIRST_DAY = int(datetime(2021, 1, 1, tzinfo=UTC).timestamp()) - 3600
CONFIG = f"""root = "."
timezone = "Etc/GMT-1"
[clusters.{CLUSTER}]
accounting = "accounting"
jobstats = ["jobstats"]
"""
CORES = np.array([1, 2, 4, 5, 8, 10, 16, 20])
SHARE = np.array([0.54, 0.15, 0.11, 0.08, 0.02, 0.02, 0.02, 0.06])

Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Shape:
    """How large a history is."""

    nodes: int = 500
    jobs_per_day: int = 15_000


@dataclass(frozen=True)
class Day:
    """Jobs that end on one day, and the raw files that they leave.

    Attributes
    ----------
    job_id, start, end, cores, project, first_node, nodes
        Shape (jobs,): id, epochs, cores booked, number of the project, first node and how many follow one another.
    file_job, file_node, file_first, file_rows, file_cores, file_extended
        Shape (files,), in order of node: index of the job, number of the node, first epoch, rows, cores, form.
    """

    job_id: Int64s
    start: Int64s
    end: Int64s
    cores: Int64s
    project: Int64s
    first_node: Int64s
    nodes: Int64s
    file_job: Int64s
    file_node: Int64s
    file_first: Int64s
    file_rows: Int64s
    file_cores: Int64s
    file_extended: npt.NDArray[np.bool_]


def day(shape: Shape, number: int) -> Day:
    """Draw the jobs that end on a day.

    Parameters
    ----------
    shape
        Of the cluster.
    number
        Day of the history, from 0.

    Returns
    -------
    Day
        Always the same for the same arguments.
    """
    random = np.random.default_rng([number, shape.nodes, shape.jobs_per_day])
    n = shape.jobs_per_day
    end = FIRST_DAY + number * 86400 + np.sort(random.integers(0, 86400, n))
    seconds = np.minimum(random.lognormal(np.log(4500), 1.0, n), 10 * 86400).astype(np.int64)
    short = random.random(n) < 0.2
    seconds[short] = random.integers(1, INTERVAL, int(short.sum()))
    start = end - seconds
    per_node = random.choice(CORES, n, p=SHARE)
    several = random.random(n) < 0.01
    nodes = np.where(several, random.integers(2, 9, n), 1)
    per_node[several] = 20
    first_node = random.integers(1, shape.nodes - 8, n)
    # Ids grow with the time of submission, so a long job's is lower than those of its neighbours; no two are the same.
    wish = (number + 60) * n + np.arange(n) - seconds * n // 86400
    order = np.argsort(wish, kind="stable")
    wish[order] = np.maximum.accumulate(wish[order] - np.arange(n)) + np.arange(n)
    job_id = wish * 16 + number % 16
    rows = seconds // INTERVAL
    job = np.repeat(np.arange(n), np.where(rows > 0, nodes, 0))
    place = np.arange(len(job)) - np.searchsorted(job, job)
    node = first_node[job] + place
    order = np.lexsort((job_id[job], node))
    job, node = job[order], node[order]
    return Day(
        job_id, start, end, per_node * nodes, random.integers(0, 400, n), first_node, nodes,
        job, node, start[job] + 1 + (job_id[job] * 37) % INTERVAL, rows[job], per_node[job], job_id[job] // 16 % 4 == 0,
    )  # fmt: skip


def written(one: Day, framed: bool) -> tuple[npt.NDArray[np.uint8], Int64s]:
    """The raw files of a day as text.

    Parameters
    ----------
    one
        From `day`.
    framed
        Whether as frames of the archive, or bare.

    Returns
    -------
    ndarray of uint8
        One file after the other.
    ndarray of int64
        Shape (files,): where each ends.
    """
    before = np.where(one.file_extended, *text.BEFORE_CORES[::-1])
    size = int((one.file_rows * (before + text.CELL * one.file_cores + 1)).sum()) + 400 * len(one.file_job)
    out = np.empty(size, dtype=np.uint8)
    ends = np.empty(len(one.file_job), dtype=np.int64)
    words = [np.frombuffer(word, dtype=np.uint8) for word in (f"==> {CLUSTER}/r".encode(), *text.HEADERS)]
    total = text.write_frames(
        out, words[0], one.file_node, one.job_id[one.file_job], one.file_first, one.file_rows, one.file_cores,
        one.file_extended, INTERVAL, words[1], words[2], crc32_table(), framed, ends,
    )  # fmt: skip
    return out[:total], ends


def write(root: Path, shape: Shape, days: int) -> int:
    """Make a site that has archive and accounting of so many days, and nothing else yet.

    Parameters
    ----------
    root
        New folder.
    shape
        Of the cluster.
    days
        Length of the history.

    Returns
    -------
    int
        Bytes of raw text.
    """
    folder = root / "archive" / CLUSTER
    for made in (folder, root / "accounting", root / "jobstats"):
        made.mkdir(parents=True)
    (root / "jobeff.toml").write_text(CONFIG)
    total = 0
    for number in range(days):
        one = day(shape, number)
        content, ends = written(one, framed=True)
        month = folder / f"{local_date(one)[:7]}.txt"
        with month.open("ab") as out, header_sums.beside(month).open("ab") as headers:
            headers.write(_header_records(content, ends, out.tell()).tobytes())
            out.write(content.data)
        total += len(content)
    _write_accounting(root, shape, days)
    return total


def _header_records(content: npt.NDArray[np.uint8], ends: Int64s, offset: int) -> header_sums.Records:
    """What `collect` writes beside a month, for frames that are appended to it at an offset."""
    line = np.concatenate([[0], ends[:-1]])
    line_ends = np.flatnonzero(content == ord("\n"))
    begin = line_ends[np.searchsorted(line_ends, line)] + 1
    found = np.empty(len(ends), dtype=header_sums.RECORD)
    found["begin"], found["length"] = begin + offset, begin - line
    found["crc32"] = checksums(content, line, begin - line)
    places = np.arange(len(found)) * found.itemsize
    said = np.full(len(found), found.itemsize - found["check"].itemsize)  # all of a record before its own checksum
    found["check"] = checksums(found.view(np.uint8), places, said)
    return found


def write_night(root: Path, shape: Shape, number: int) -> int:
    """Add a day as a site has it at night: a raw file per job and node, and an accounting log.

    Parameters
    ----------
    root
        From `write`.
    shape
        Of the cluster.
    number
        Day of the history.

    Returns
    -------
    int
        Bytes of raw text.
    """
    one = day(shape, number)
    content, ends = written(one, framed=False)
    data, begin = content.tobytes(), 0
    folder = root / "jobstats"
    for node in range(1, shape.nodes + 1):
        (folder / f"r{node}").mkdir(exist_ok=True)
    ids = one.job_id[one.file_job].tolist()
    for node, job_id, end in zip(one.file_node.tolist(), ids, ends.tolist(), strict=True):
        (folder / f"r{node}" / str(job_id)).write_bytes(data[begin:end])
        begin = end
    lines = []
    for _, job_id, project, user, start, end, partition, cores, _, nodes, name, state in _accounting_rows(one):
        stamp = datetime.fromtimestamp(int(end) + 3600, UTC).strftime("%Y-%m-%d %H:%M:%S")
        lines.append(
            f"{stamp} jobstate={state} jobid={job_id} username={user} account={project} start={start} end={end} "
            f"nodes={nodes} procs={cores} batch=yes jobname={name} partition={partition} limit=1-00:00:00\n"
        )
    (root / "accounting" / local_date(one)).write_text("".join(lines))
    return len(data)


def local_date(one: Day) -> str:
    """Local day on which the jobs of a day end."""
    return datetime.fromtimestamp(int(one.end[0]) + 3600, UTC).date().isoformat()


def nodelist(first: int, count: int) -> str:
    """Names of nodes that follow one another."""
    return ",".join(f"r{node}" for node in range(first, first + count))


def _accounting_rows(one: Day) -> Iterator[tuple[Any, ...]]:
    """What accounting says of the jobs of a day: the first columns of the table ``jobs``."""
    date = local_date(one)
    columns = (one.job_id, one.start, one.end, one.cores, one.project, one.first_node, one.nodes)
    for job_id, start, end, cores, project, first, nodes in zip(*(c.tolist() for c in columns), strict=True):
        yield (
            date, job_id, f"p{project:04d}", f"user{project * 7 % 1000:03d}", start, end, "core", cores, CLUSTER,
            nodelist(first, nodes), f"run_{job_id % 100}", "COMPLETED" if job_id % 11 else "FAILED",
        )  # fmt: skip


def _write_accounting(root: Path, shape: Shape, days: int) -> None:
    connection = tables.open_database(tables.database(root, "accounting"), "accounting")
    indexes = connection.execute("select name, sql from sqlite_master where type = 'index' and sql <> ''").fetchall()
    connection.execute("pragma synchronous = off")
    connection.execute("begin")
    for name, _ in indexes:
        connection.execute(f"drop index {name}")
    connection.executemany(
        "insert into jobs (date, job_id, proj_id, user, start, end, partition, cores, cluster, nodes, jobname,"
        f" jobstate) values ({', '.join('?' * 12)})",
        (row for number in range(days) for row in _accounting_rows(day(shape, number))),
    )
    for _, sql in indexes:
        connection.execute(sql)
    connection.execute("commit")
    connection.close()
