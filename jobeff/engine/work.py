"""What a worker does with the nodes it owns: archive text to shards, shards to partials.

Each function takes one task and gives one result, both plain data, so that any executor can run it.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from jobeff.engine import samples
from jobeff.engine.partials import Parts, Rows, concatenate, merge, node_parts
from jobeff.errors import SetAside
from jobeff.store import archive, framing, shards

Int64s = npt.NDArray[np.int64]
RAW_COLUMNS = ["job_id", "rejected", "cores", *shards.SAMPLES]
ORDER = [("job_id", "ascending"), ("first", "ascending"), ("bytes", "ascending"), ("crc32", "ascending")]
BATCH_BYTES = 64 << 20
"""Raw text parsed at once, so that a node with a huge month does not need huge memory."""


class FrameColumns(NamedTuple):
    """Frames of one node: columns of `jobeff.store.framing.Frames`."""

    job_id: Int64s
    begin: Int64s
    bytes: Int64s
    crc32: Int64s
    extended: npt.NDArray[np.bool_]

    def take(self, chosen: npt.NDArray[Any]) -> FrameColumns:
        """Some of the frames, by index or mask."""
        return FrameColumns(*(column[chosen] for column in self))


@dataclass(frozen=True)
class BuildTask:
    """Raw files of some nodes to add to their shards.

    Attributes
    ----------
    month_text
        Plain archive file.
    shards, cluster, month
        Where the shards lie.
    nodes
        The nodes, with their frames.
    archive_bytes
        Offset in the archive that the shards will have been built to.
    known
        Nodes that had a shard of the month.
    again
        The frames have been found only now: add them even to shards that have come so far already.
    """

    month_text: Path
    shards: Path
    cluster: str
    month: str
    nodes: list[tuple[str, FrameColumns]]
    archive_bytes: int
    known: set[str]
    again: bool = False


@dataclass
class BuildResult:
    """What came of a `BuildTask`: raw files and rows added, damaged rows, text read; what was set aside.

    `damaged` says where frames begin and end whose checksum is wrong.
    """

    files: int = 0
    rows: int = 0
    rejected: int = 0
    text_bytes: int = 0
    damaged: list[tuple[int, int]] = field(default_factory=list)
    aside: SetAside = field(default_factory=SetAside)


def build_shards(task: BuildTask) -> BuildResult:
    """Add raw files to the shards of some nodes.

    Parameters
    ----------
    task
        See `BuildTask`.

    Returns
    -------
    BuildResult
        Counts over these nodes.
    """
    result = BuildResult()
    with archive.mapped(task.month_text) as text:
        for node, frames in task.nodes:
            _build_shard(task, node, np.frombuffer(text, dtype=np.uint8), frames, result)
    return result


def _build_shard(
    task: BuildTask, node: str, text: npt.NDArray[np.uint8], frames: FrameColumns, result: BuildResult
) -> None:
    path = shards.shard_path(task.shards, task.cluster, node, task.month)
    tables = []
    if path.exists():
        try:
            table, about = shards.read(path)
        except shards.DamagedShardError as error:
            frames = _start_again(task, node, str(error), result)
        else:
            if about["archive_bytes"] >= task.archive_bytes and not task.again:
                return  # an earlier run that died had already come this far
            known = frames.begin < about["archive_bytes"]
            if task.again:
                known = np.isin(frames.begin, table.column("offset").to_numpy())
            frames = frames.take(~known)
            tables.append(table)
    elif node in task.known:
        frames = _start_again(task, node, "it is gone", result)
    where = f"{task.month_text} {task.cluster}/{node}"
    tables.extend(_parsed(text, frames, where, result))
    if not tables:
        return
    table = _without_superseded(text, _in_order(pa.concat_tables(tables)))
    about = {"cluster": task.cluster, "node": node, "month": task.month, "archive_bytes": task.archive_bytes}
    shards.write(path, table, about)


def _start_again(task: BuildTask, node: str, why: str, result: BuildResult) -> FrameColumns:
    """Set a damaged shard aside; all frames that its node has in the archive."""
    path = shards.shard_path(task.shards, task.cluster, node, task.month)
    if path.exists():
        path.replace(path.with_name(f"{path.name}.damaged"))
        why += f"; the damaged one is {path.name}.damaged"
    result.aside.add("shard", str(path), f"{why}. It is made again from the archive")
    with archive.mapped(task.month_text) as text:
        found = framing.scan(text, 0, task.cluster, str(task.month_text), SetAside(), task.archive_bytes)
    mine = found.node == (found.nodes.index(node) if node in found.nodes else -1)
    return FrameColumns(found.job_id, found.begin, found.bytes, found.crc32, found.extended).take(mine)


def _parsed(text: npt.NDArray[np.uint8], frames: FrameColumns, where: str, result: BuildResult) -> Iterator[pa.Table]:
    """Raw files as tables of samples, a batch at a time, those whose checksum is wrong set aside."""
    job_id, begin, length, crc32, extended = frames
    order = np.argsort(job_id, kind="stable")
    batch = np.cumsum(length[order]) // BATCH_BYTES
    for chosen in np.split(order, np.flatnonzero(np.diff(batch)) + 1):
        found = np.array([zlib.crc32(text[b : b + n].data) for b, n in zip(begin[chosen], length[chosen], strict=True)])
        damaged = (crc32[chosen] >= 0) & (crc32[chosen] != found)
        for frame in chosen[damaged]:
            result.aside.add("archive frame", f"{where}/{job_id[frame]} byte {begin[frame]}", "its checksum is wrong")
            result.damaged.append((int(begin[frame]), int(begin[frame] + length[frame])))
        keep = chosen[~damaged]
        if len(keep) == 0:
            continue
        columns, known = samples.parse(text, begin[keep], begin[keep] + length[keep], extended[keep])
        for frame in keep[~known]:
            result.aside.add("raw file", f"{where}/{job_id[frame]}", "its header does not name the columns needed")
        result.files += len(keep)
        result.rows += len(columns["time"].values)
        result.rejected += int(columns["rejected"].sum())
        result.text_bytes += int(length[keep].sum())
        raw = {"job_id": job_id[keep], "offset": begin[keep], "bytes": length[keep]}
        yield shards.table_of({**columns, **raw, "crc32": found[~damaged].astype(np.uint32)})


def _in_order(table: pa.Table) -> pa.Table:
    """Rows in the order of a shard; nulls go last: a file without a valid row stands behind the others of its job."""
    job_id = table.column("job_id").to_numpy()
    if np.all(job_id[1:] > job_id[:-1]):
        return table
    return table.take(pc.sort_indices(table, sort_keys=ORDER))


def _without_superseded(text: npt.NDArray[np.uint8], table: pa.Table) -> pa.Table:
    """Drop a raw file whose text is how another one of its job begins: the same file, taken before it had grown."""
    job_id = table.column("job_id").to_numpy()
    begin, length = table.column("offset").to_numpy(), table.column("bytes").to_numpy()
    drop = np.zeros(len(job_id), dtype=np.bool_)
    for last in np.flatnonzero(job_id[1:] == job_id[:-1]) + 1:
        for other in range(last - 1, -1, -1):
            if job_id[other] != job_id[last]:
                break
            short, long = (other, last) if length[other] <= length[last] else (last, other)
            whole = text[begin[long] : begin[long] + length[short]]
            if not drop[long] and np.array_equal(text[begin[short] : begin[short] + length[short]], whole):
                drop[short] = True
    return table.filter(~drop) if drop.any() else table


@dataclass(frozen=True)
class ReduceTask:
    """Jobs to compute on some nodes.

    Attributes
    ----------
    shards, cluster, month, interval
        Where the shards lie; seconds between samples.
    nodes
        Names of the nodes, and where the attempts of each begin and end in the next ones.
    job, rank, job_id, start, end, cores, booked
        Shape (attempts,), within a node in order of (job_id, start): index of the job, place of the node in its node
        list, id, epochs, cores booked, nodes booked (0 for a job that is not wanted and only claims its rows).
    """

    shards: Path
    cluster: str
    month: str
    interval: int
    nodes: list[tuple[str, int, int]]
    job: Int64s
    rank: Int64s
    job_id: Int64s
    start: Int64s
    end: Int64s
    cores: Int64s
    booked: Int64s


@dataclass
class ReduceResult:
    """What came of a `ReduceTask`: finished rows, parts of jobs on several nodes, nodes whose shard was unusable."""

    rows: list[Rows]
    parts: Parts | None
    damaged: list[str]
    aside: SetAside


def reduce_nodes(task: ReduceTask) -> ReduceResult:
    """Compute the jobs of some nodes, as far as these nodes know them.

    Parameters
    ----------
    task
        See `ReduceTask`.

    Returns
    -------
    ReduceResult
        Rows of jobs on one node; parts of the others.
    """
    result = ReduceResult([], None, [], SetAside())
    pieces: list[Parts] = []
    for node, first, last in task.nodes:
        path = shards.shard_path(task.shards, task.cluster, node, task.month)
        try:
            table, _ = shards.read(path, RAW_COLUMNS)
        except shards.DamagedShardError as error:
            result.aside.add("shard", str(path), str(error))
            result.damaged.append(node)
            continue
        mine = slice(first, last)
        attempts = (task.job[mine], task.rank[mine], task.job_id[mine], task.start[mine], task.end[mine])
        parts = node_parts(shards.samples_of(table), task.interval, *attempts)
        booked = task.booked[mine]
        alone = booked == 1
        if alone.any():
            columns = (column[mine][alone] for column in (task.job, task.start, task.end, task.cores, task.booked))
            result.rows.append(merge(parts.where(alone), task.interval, *columns))
        if (booked > 1).any():
            pieces.append(parts.where(booked > 1))
    result.parts = concatenate(pieces) if pieces else None
    return result
