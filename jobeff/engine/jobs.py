"""The jobs of a month as accounting has them, in arrays that any process can map."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from jobeff.store import pages, tables
from jobeff.store.pages import Texts
from jobeff.store.scratch import save

INTEGERS = ["job_id", "start", "end", "cores"]
TEXTS = ["nodes", "proj_id", "user", "jobstate", "date"]
NODES, PROJ_ID, USER, STATE, DATE = range(5)
SELECT = f"select {', '.join(INTEGERS + TEXTS)} from"

Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Jobs:
    """Jobs of one cluster and month, and others that share an id with them.

    Attributes
    ----------
    integers
        Shape (4, jobs): id, epochs of start and end, cores booked.
    texts
        Node list (expanded, joined by commas, no name twice), project, user, state, local day of the end.
    wanted
        The first so many are computed; the others only claim their rows.
    booked
        Shape (jobs,): number of nodes booked.
    """

    integers: Int64s
    texts: Texts
    wanted: int
    booked: Int64s

    @property
    def job_id(self) -> Int64s:
        """Shape (jobs,): id."""
        return cast("Int64s", self.integers[0])

    @property
    def start(self) -> Int64s:
        """Shape (jobs,): epoch of the start."""
        return cast("Int64s", self.integers[1])

    @property
    def end(self) -> Int64s:
        """Shape (jobs,): epoch of the end."""
        return cast("Int64s", self.integers[2])

    @property
    def cores(self) -> Int64s:
        """Shape (jobs,): cores booked."""
        return cast("Int64s", self.integers[3])

    @property
    def nodes(self) -> pa.LargeStringArray:
        """Shape (jobs,): node lists."""
        return self.strings(NODES)

    def strings(self, column: int) -> pa.LargeStringArray:
        """A text column.

        Parameters
        ----------
        column
            One of `NODES`, `PROJ_ID`, `USER`, `STATE`, `DATE`.

        Returns
        -------
        LargeStringArray
            Shape (jobs,), without copying the texts.
        """
        offsets, data = self.texts.strings(column)
        return pa.LargeStringArray.from_buffers(len(offsets) - 1, pa.py_buffer(offsets), pa.py_buffer(data))

    def text(self, column: int, rows: Int64s) -> list[str]:
        """Values of a text column.

        Parameters
        ----------
        column
            See `strings`.
        rows
            Indexes of the jobs.

        Returns
        -------
        list of str
            One per row.
        """
        return cast("list[str]", self.strings(column).take(pa.array(rows)).to_pylist())

    def save(self, folder: Path) -> None:
        """Write the arrays for other processes.

        Parameters
        ----------
        folder
            An existing one, of this month alone.
        """
        for name, array in {"integers": self.integers, "booked": self.booked, **self.texts._asdict()}.items():
            save(folder / f"{name}.npy", array)
        save(folder / "wanted.npy", np.array([self.wanted]))


def load(folder: Path) -> Jobs:
    """Map what `Jobs.save` has written.

    Parameters
    ----------
    folder
        The same.

    Returns
    -------
    Jobs
        Its arrays are read as they are used.
    """
    texts = Texts(*(mapped(folder, name) for name in Texts._fields))
    return Jobs(mapped(folder, "integers"), texts, int(mapped(folder, "wanted")[0]), mapped(folder, "booked"))


def mapped(folder: Path, name: str) -> npt.NDArray[Any]:
    """Map an array that another process has written.

    Parameters
    ----------
    folder, name
        Scratch folder, and what it is called there.

    Returns
    -------
    ndarray
        Read as it is used. It can be written to, because kernels are compiled for such arrays; the file stays as it is.
    """
    return np.asarray(np.load(folder / f"{name}.npy", mmap_mode="c"))


def from_rows(rows: list[tuple[object, ...]], wanted: int) -> Jobs:
    """Jobs out of rows that `SELECT` has given.

    Parameters
    ----------
    rows
        Those wanted first.
    wanted
        How many these are.

    Returns
    -------
    Jobs
        In the same order.
    """
    columns = list(zip(*rows, strict=True)) or [()] * (len(INTEGERS) + len(TEXTS))
    integers = np.array(columns[: len(INTEGERS)], dtype=np.int64).reshape(len(INTEGERS), len(rows))
    texts = [[str(value).encode() for value in column] for column in columns[len(INTEGERS) :]]
    ends = np.array([np.cumsum([len(text) for text in column], dtype=np.int64) for column in texts])
    ends = ends.reshape(len(TEXTS), len(rows))
    data = [b"".join(column) for column in texts]
    sizes = np.array([len(column) for column in data], dtype=np.int64)
    return _jobs(integers, Texts(np.cumsum(sizes) - sizes, ends, np.frombuffer(b"".join(data), dtype=np.uint8)), wanted)


def read_changed(accounting: sqlite3.Connection, cluster: str, month: str, changed: Int64s) -> Jobs | None:
    """Read those jobs of a month that have one of some ids, and their attempts in other months.

    Parameters
    ----------
    accounting, cluster, month
        Which month.
    changed
        Ids of the jobs wanted.

    Returns
    -------
    Jobs or None
        None where no job is wanted.
    """
    with tables.temporary_ids(accounting, changed):
        # A cross join keeps SQLite from walking the whole month and looking each job up among the ids.
        query = f"{SELECT} ids cross join jobs indexed by jobs_job_id_cluster using (job_id) where {_IN_MONTH}"
        wanted = accounting.execute(query, _span(cluster, month)).fetchall()
    others = _elsewhere(accounting, cluster, month, {row[0] for row in wanted}) if wanted else []
    return from_rows(wanted + others, len(wanted)) if wanted else None


def read_month(path: Path, cluster: str, month: str, repeated: Int64s | None) -> Jobs | None:
    """Read all jobs of a month, and the attempts of the same ids in other months.

    Parameters
    ----------
    path
        Accounting database.
    cluster, month
        Which month.
    repeated
        Ids that the cluster has more than once, from `repeated_ids`; None where that is not known, so that each id of
        the month is looked up.

    Returns
    -------
    Jobs or None
        None where no job is wanted.
    """
    with _snapshot(path) as accounting:
        found = None
        if pages.readable(path):
            blocks = pages.blocks(accounting, "jobs", "seq", _INDEXED, _span(cluster, month))
            wanted = pages.Wanted("cluster", cluster, "date", f"{month}-", "nodes")
            found = pages.read(path, pages.place(accounting, "jobs"), blocks, wanted, INTEGERS, TEXTS)
        if found is None:
            rows = accounting.execute(f"{SELECT} jobs where {_IN_MONTH}", _span(cluster, month)).fetchall()
            others = _elsewhere(accounting, cluster, month, {row[0] for row in rows})
            return from_rows(rows + others, len(rows)) if rows else None
        integers, texts = found
        count = integers.shape[1]
        if count == 0:
            return None
        ids = integers[0].tolist() if repeated is None else _common(integers[0], repeated)
        others = _elsewhere(accounting, cluster, month, ids)
    jobs = _jobs(integers, texts, count)
    return jobs if not others else _joined(jobs, from_rows(others, 0))


def repeated_ids(of: tuple[Path, str]) -> Int64s | None:
    """Ids that a cluster has more than once: requeued jobs, and ids that came round again.

    Parameters
    ----------
    of
        Accounting database, and which cluster.

    Returns
    -------
    ndarray of int64 or None
        Sorted; None where it cannot be told quickly.
    """
    path, cluster = of
    if not pages.readable(path):
        return None
    with _snapshot(path) as accounting:
        return pages.repeated(path, pages.place(accounting, "jobs_job_id_cluster"), cluster)


@contextlib.contextmanager
def _snapshot(path: Path) -> Iterator[sqlite3.Connection]:
    """A database into which nobody writes meanwhile, so that its pages can be read."""
    with pages.held(path), contextlib.closing(tables.read_database(path, "accounting")) as connection:
        connection.execute("begin")
        connection.execute("select 1 from sqlite_master").fetchone()
        yield connection


_INDEXED = "cluster = ? and date between ? and ?"
_IN_MONTH = f"{_INDEXED} and nodes <> ''"


def _span(cluster: str, month: str) -> tuple[str, str, str]:
    return cluster, f"{month}-01", f"{month}-31"


def _elsewhere(
    accounting: sqlite3.Connection, cluster: str, month: str, ids: Iterable[int]
) -> list[tuple[object, ...]]:
    """Attempts in other months of the ids of this one."""
    with tables.temporary_ids(accounting, ids):
        where = "cluster = ? and not (date between ? and ?) and nodes <> ''"
        query = f"{SELECT} ids cross join jobs indexed by jobs_job_id_cluster using (job_id) where {where}"
        return accounting.execute(query, _span(cluster, month)).fetchall()


def _common(ids: Int64s, some: Int64s) -> list[int]:
    """Those of a few sorted ids that are among many."""
    if len(some) == 0:
        return []
    at = np.minimum(np.searchsorted(some, ids), len(some) - 1)
    return sorted({*ids[some[at] == ids].tolist()})


def _jobs(integers: Int64s, texts: Texts, wanted: int) -> Jobs:
    offsets, data = texts.strings(NODES)
    commas = np.cumsum(data == ord(",")) if len(data) else np.zeros(1, dtype=np.int64)
    before = np.concatenate([[0], commas])[offsets]
    return Jobs(integers, texts, wanted, np.diff(before) + 1)


def _joined(jobs: Jobs, others: Jobs) -> Jobs:
    """Jobs and, behind them, others."""
    offsets: list[Int64s] = []
    data: list[npt.NDArray[np.uint8]] = []
    for column in range(len(TEXTS)):
        (one, first), (other, second) = jobs.texts.strings(column), others.texts.strings(column)
        offsets.append(np.concatenate([one[1:], other[1:] + one[-1]]))
        data += [first, second]
    sizes = np.array([len(data[2 * i]) + len(data[2 * i + 1]) for i in range(len(TEXTS))], dtype=np.int64)
    texts = Texts(np.cumsum(sizes) - sizes, np.array(offsets), np.concatenate(data))
    integers = np.concatenate([jobs.integers, others.integers], axis=1)
    return Jobs(integers, texts, jobs.wanted, np.concatenate([jobs.booked, others.booked]))
