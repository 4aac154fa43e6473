"""What is known of the ids of a cluster without reading its jobs: the index of ids tells it."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from jobeff.engine.jobs import ANY_ID, IN_MONTH, NO_ID, snapshot, span_of, wanted_of
from jobeff.order import distinct
from jobeff.store import pages
from jobeff.store.table_kernels import BLOCK_BITS

Int64s = npt.NDArray[np.int64]


class Ids(NamedTuple):
    """What is known of the ids of a cluster without reading its jobs.

    Attributes
    ----------
    repeated
        Those that it has more than once, sorted: requeued jobs, and ids that came round again.
    first
        By month, an id that none of its jobs that ever ran is less than: `ANY_ID` where it is not known, `NO_ID` where
        there is no such job.
    state
        Of the database: as long as nobody writes to it, it is the same.
    """

    repeated: Int64s
    first: dict[str, int]
    state: int


def read_ids(of: tuple[Path, str, Sequence[str], int, int]) -> Ids | None:
    """Read the ids of a cluster.

    Parameters
    ----------
    of
        Accounting database, which cluster, its months, which part of its ids, and of how many.

    Returns
    -------
    Ids or None
        None where they cannot be read quickly. An id whose rows lie in two parts is repeated in one of them or both.
    """
    path, cluster, months, part, parts = of
    if not pages.readable(path):
        return None
    with snapshot(path) as accounting:
        newest = accounting.execute("select coalesce(max(seq), 0) from jobs").fetchone()[0]
        count = (newest >> BLOCK_BITS) + 1
        if 8 * count > path.stat().st_size:  # numbers far from each other, which are no reason to take much memory
            count = 0
        least = np.full(count, NO_ID)
        index = pages.place(accounting, "jobs_job_id_cluster")
        repeated = pages.repeated(path, index, cluster, part, parts, least)
        if repeated is None:
            return None
        first = {month: _first(accounting, cluster, month, least) for month in months}
        return Ids(repeated, first, pages.state_of(path))


def _first(accounting: sqlite3.Connection, cluster: str, month: str, least: Int64s) -> int:
    """An id that none of a month is less than, by the least id of each block of records; see `Ids`."""
    query = f"select 1 from jobs where {IN_MONTH} limit 1"
    if accounting.execute(query, span_of(cluster, month)).fetchone() is None:
        return NO_ID
    blocks = pages.blocks(accounting, "jobs", "seq", wanted_of(cluster, month))
    return int(least[blocks].min()) if blocks[0] >= 0 and blocks[-1] < len(least) else ANY_ID


def joined_ids(parts: Sequence[Ids]) -> Ids | None:
    """What all parts of an index tell.

    Parameters
    ----------
    parts
        At least one.

    Returns
    -------
    Ids or None
        None where somebody has written meanwhile: then nobody may have looked at what stands between two parts.
    """
    if len({part.state for part in parts}) > 1:
        return None
    first = {month: min(part.first[month] for part in parts) for month in parts[0].first}
    return Ids(distinct(np.concatenate([part.repeated for part in parts])), first, parts[0].state)
