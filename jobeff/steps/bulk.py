"""The rows of all months into a new efficiency database, in order of its keys, page by page.

Each month has written its rows as a run: records in order of their keys. Merging runs takes little memory, however
many there are: a range of keys at a time.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from jobeff.engine.jobs import mapped
from jobeff.engine.plan import order_of
from jobeff.engine.runs import load_digests, load_run
from jobeff.store import pages, row_sums, tables
from jobeff.store.files import naming
from jobeff.store.sqlite import atomic

Int64s = npt.NDArray[np.int64]
ROWS_AT_ONCE = 1 << 16


class Batch(NamedTuple):
    """Records in order of their keys: bytes, and where each begins and ends."""

    data: npt.NDArray[np.uint8]
    begin: Int64s
    end: Int64s


def write(path: Path, runs: Sequence[tuple[str, Path]]) -> None:
    """Make a database of runs.

    Parameters
    ----------
    path
        A new database.
    runs
        Cluster and scratch folder of each month that has rows.
    """
    with contextlib.closing(tables.open_database(path, "efficiency")) as database:
        table, index = (pages.place(database, name).root for name in ("jobs", "jobs_proj_id_date_finished"))
        size, count = (database.execute(f"pragma {name}").fetchone()[0] for name in ("page_size", "page_count"))
    if not runs:
        return
    with naming(path), path.open("rb+") as file:
        next_page = count + 1
        for batches, root in ((_by_job(runs), table), (_by_project(runs), index)):
            tree = pages.IndexTree(file, size, next_page)
            waiting: Batch | None = None
            for batch in batches:
                if waiting is not None:
                    tree.add(*waiting, last=False)
                waiting = batch
            if waiting is not None:
                tree.add(*waiting, last=True)
            tree.finish(root)
            next_page = tree.next_page
        pages.set_page_count(file, next_page - 1)
    with contextlib.closing(tables.open_database(path, "efficiency")) as database, atomic(database):
        for _, folder in runs:
            row_sums.add(database, "jobs", load_digests(folder))


def _by_job(runs: Sequence[tuple[str, Path]]) -> Iterator[Batch]:
    """Records of the table in order of cluster, job id and start."""
    for cluster in sorted({cluster for cluster, _ in runs}):
        folders = [folder for name, folder in runs if name == cluster]
        keys = [mapped(folder, "keys") for folder in folders]
        records = [load_run(folder, "jobs") for folder in folders]
        cuts = np.unique(np.concatenate([key[0, ::ROWS_AT_ONCE] for key in keys]))
        bounds = [np.append(np.searchsorted(key[0], cuts), key.shape[1]) for key in keys]
        for part in range(len(cuts)):
            pieces = [(run, int(bound[part]), int(bound[part + 1])) for run, bound in enumerate(bounds)]
            pieces = [(run, begin, end) for run, begin, end in pieces if begin < end]
            job_id, start = (np.concatenate([keys[run][i, b:e] for run, b, e in pieces]) for i in range(2))
            data, begin, end = _joined(records, pieces)
            order = order_of(job_id, start)
            yield Batch(data, begin[order], end[order])


def _by_project(runs: Sequence[tuple[str, Path]]) -> Iterator[Batch]:
    """Records of the index in order of project, day, cluster, job id and start."""
    records = [load_run(folder, "projects") for _, folder in runs]
    groups: list[tuple[bytes, bytes, bytes, int, int, int]] = []
    for run, (cluster, folder) in enumerate(runs):
        found = json.loads((folder / "groups.json").read_text(encoding="utf-8"))
        spans = itertools.pairwise(found["begin"])
        for (project, day), (first, last) in zip(found["keys"], spans, strict=True):
            groups.append((project.encode(), day.encode(), cluster.encode(), run, first, last))
    groups.sort()
    pieces: list[tuple[int, int, int]] = []
    rows = 0
    for *_, run, first, last in groups:
        if pieces and pieces[-1][0] == run and pieces[-1][2] == first:
            pieces[-1] = (run, pieces[-1][1], last)
        else:
            if rows >= ROWS_AT_ONCE:
                yield Batch(*_joined(records, pieces))
                pieces, rows = [], 0
            pieces.append((run, first, last))
        rows += last - first
    yield Batch(*_joined(records, pieces))


def _joined(
    records: Sequence[pages.Records], pieces: Sequence[tuple[int, int, int]]
) -> tuple[npt.NDArray[np.uint8], Int64s, Int64s]:
    """Pieces of runs, each a run and where it begins and ends, one behind the other."""
    data, ends, at = [], [], 0
    for run, first, last in pieces:
        whole, end = records[run]
        begin = int(end[first - 1]) if first else 0
        data.append(whole[begin : int(end[last - 1])])
        ends.append(end[first:last] + (at - begin))
        at += len(data[-1])
    joined = np.concatenate(ends)
    return np.concatenate(data), np.concatenate([[0], joined[:-1]]), joined
