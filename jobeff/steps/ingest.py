"""ingest: archive text to shards; the tail of each month, or all of it, by the same code."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from jobeff.engine import plan, pool, work
from jobeff.errors import SetAside
from jobeff.steps.site import Site, StepResult, timed
from jobeff.store import archive, framing, shards
from jobeff.store.files import lock

GROUPS_PER_WORKER = 4
"""A month is cut into so many tasks per worker, so that one that is slower than its bytes does not hold up the rest."""


def ingest(site: Site) -> StepResult:
    """Bring the shards up to date with the archive.

    Parameters
    ----------
    site
        Where to work.

    Returns
    -------
    StepResult
        Raw files and rows added, damaged rows, bytes of text read; frames set aside.
    """
    with lock(site.root, "shards"):
        return ingest_into(site, site.config.shards)


def ingest_into(site: Site, folder: Path) -> StepResult:
    """Ingest into one generation of shards; the caller holds its lock.

    Parameters
    ----------
    site
        Where to work.
    folder
        Of the generation.

    Returns
    -------
    StepResult
        See `ingest`.
    """
    with timed("ingest", "raw files", "rows", "damaged rows", "text bytes") as result, site.executor():
        for cluster in site.config.clusters:
            done = shards.ingested(folder, cluster)
            for month, path in archive.month_files(site.root, cluster).items():
                state = _state(path)
                known = done.get(month, {"archive_bytes": 0, "tail_crc32": 0, "restarts": 0, "nodes": []})
                if {key: known.get(key) for key in state} == state:
                    continue
                try:
                    done[month] = {**_ingest_month(site, folder, cluster, month, path, known, result), **state}
                except archive.UnreadableMonthError as error:
                    result.aside.add("archive month", str(path), str(error))
                    continue
                shards.set_ingested(folder, cluster, month, done[month])
    return result


def _state(path: Path) -> dict[str, Any]:
    """What tells that a month has not changed since."""
    return {"file": path.name, "size": archive.committed_size(path)}


def _ingest_month(
    site: Site, folder: Path, cluster: str, month: str, path: Path, known: dict[str, Any], result: StepResult
) -> dict[str, Any]:
    """Ingest what a month has more than is known; returns what is known then."""
    begin, restarts, nodes = known["archive_bytes"], known["restarts"], known["nodes"]
    scratch = site.root / "db" / "scratch"
    with archive.plain(path, scratch) as text_path, archive.mapped(text_path) as text:
        size = archive.committed_size(path) if text_path == path else len(text)
        if begin > size or framing.tail_crc32(text, begin) != known["tail_crc32"]:
            why = f"it is not what it was up to byte {begin}; its shards are made again from what is there"
            result.aside.add("archive month", str(path), why)
            for node in list(shards.nodes_with(folder, cluster, month)):
                shards.shard_path(folder, cluster, node, month).unlink()
            begin, restarts, nodes = 0, restarts + 1, []
        frames = framing.scan(text, begin, cluster, str(path), result.aside, size)
        if frames.torn:
            why = f"{frames.torn} bytes are no whole frame; 'jobeff collect' moves them away"
            result.aside.add("archive tail", f"{path} byte {frames.end}", why)
        damaged = _build(site, list(_tasks(site, folder, cluster, month, text_path, frames, nodes)), result)
        # A damaged length can lead exactly to a later frame; those between are found in the damaged one's text.
        for first, last in damaged:
            inner = framing.first_frame(text, first, last)
            within = framing.scan(text, inner, cluster, str(path), result.aside, last)
            tasks = _tasks(site, folder, cluster, month, text_path, within, nodes)
            _build(site, [replace(task, archive_bytes=frames.end, again=True) for task in tasks], result)
        tail = framing.tail_crc32(text, frames.end)
    nodes = sorted({*nodes, *shards.nodes_with(folder, cluster, month)})
    return {"archive_bytes": frames.end, "tail_crc32": tail, "restarts": restarts, "nodes": nodes}


def _build(site: Site, tasks: list[work.BuildTask], result: StepResult) -> list[tuple[int, int]]:
    """Work tasks off and count; returns where frames whose checksum is wrong begin and end."""
    if not tasks:
        return []
    damaged = []
    total = sum(int(frames.bytes.sum()) for task in tasks for _, frames in task.nodes)
    what = f"ingest {tasks[0].cluster} {tasks[0].month}"
    with site.executor() as executor, site.progress.task(what, total, "bytes") as advance:
        for built in pool.run(executor, work.build_shards, tasks, 2 * max(1, site.workers)):
            result.count("raw files", built.files)
            result.count("rows", built.rows)
            result.count("damaged rows", built.rejected)
            result.count("text bytes", built.text_bytes)
            result.aside.merge(built.aside)
            damaged.extend(built.damaged)
            advance(built.text_bytes)
    return damaged


def _tasks(
    site: Site, folder: Path, cluster: str, month: str, text: Path, frames: framing.Frames, known: list[str]
) -> Iterator[work.BuildTask]:
    order = np.argsort(frames.node, kind="stable")
    cuts = np.searchsorted(frames.node[order], np.arange(len(frames.nodes) + 1))
    mine = [order[cuts[i] : cuts[i + 1]] for i in range(len(frames.nodes))]
    weights = [int(frames.bytes[chosen].sum()) for chosen in mine]
    columns = work.FrameColumns(frames.job_id, frames.begin, frames.bytes, frames.crc32, frames.extended)
    groups = GROUPS_PER_WORKER * max(1, site.workers)
    for group in plan.balanced(range(len(mine)), weights, groups):
        nodes = [(frames.nodes[i], columns.take(mine[i])) for i in group]
        yield work.BuildTask(text, folder, cluster, month, nodes, frames.end, set(known))


def changed_jobs(site: Site, cluster: str, month: str, begin: int, end: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Ids of the jobs whose raw files stand in a part of a month.

    Parameters
    ----------
    site
        Where to work.
    cluster, month
        Which month.
    begin, end
        Offsets in it; both behind a whole frame.

    Returns
    -------
    ndarray of int64
        Each id once.
    """
    path = archive.month_files(site.root, cluster).get(month)
    if path is None or begin >= end:
        return np.array([], dtype=np.int64)
    with archive.plain(path, site.root / "db" / "scratch") as text_path, archive.mapped(text_path) as text:
        frames = framing.scan(text, begin, cluster, str(path), SetAside())
    return np.unique(frames.job_id[frames.begin < end])
