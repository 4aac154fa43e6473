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

from jobeff.engine import order_kernels, text_kernels
from jobeff.order import order_of
from jobeff.store import pages, scratch, tables
from jobeff.store.pages import Texts

INTEGERS = ["job_id", "start", "end", "cores"]
TEXTS = ["nodes", "proj_id", "user", "jobstate", "date"]
NODES, PROJ_ID, USER, STATE, DATE = range(5)
FILES = ("integers", "codes", "words")
"""Of `Jobs.save`."""

SELECT = f"select {', '.join(INTEGERS + TEXTS)} from"

Int64s = npt.NDArray[np.int64]
ANY_ID, NO_ID = np.iinfo(np.int64).min, np.iinfo(np.int64).max


@dataclass(frozen=True)
class Jobs:
    """Jobs of one cluster and month, and others that share an id with them.

    Attributes
    ----------
    integers
        Shape (5, jobs): id, epochs of start and end, cores booked, number of nodes booked.
    texts
        Node list (expanded, joined by commas, no name twice), project, user, state, local day of the end.
    wanted
        The first so many are computed; the others only claim their rows.
    """

    integers: Int64s
    texts: Texts
    wanted: int

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
    def booked(self) -> Int64s:
        """Shape (jobs,): number of nodes booked."""
        return cast("Int64s", self.integers[4])

    def ranks(self, column: int) -> tuple[Int64s, list[str]]:
        """The order of the words of a text column.

        Parameters
        ----------
        column
            One of `NODES`, `PROJ_ID`, `USER`, `STATE`, `DATE`.

        Returns
        -------
        ndarray of int64
            Shape (words,): place of each of `texts` in the list; 0 where the column does not have it.
        list of str
            The texts of the column, in order of their bytes.
        """
        used = np.flatnonzero(np.bincount(self.texts.codes[column], minlength=self.texts.size))
        words = self.texts.words(used)
        names = sorted({*words}, key=str.encode)
        place = {name: number for number, name in enumerate(names)}
        rank = np.zeros(self.texts.size, dtype=np.int64)
        rank[used] = [place[word] for word in words]
        return rank, names

    def behind(self, count: int) -> Jobs:
        """All but the first ones.

        Parameters
        ----------
        count
            So many that are wanted.

        Returns
        -------
        Jobs
            The others.
        """
        codes = np.ascontiguousarray(self.texts.codes[:, count:])
        integers = np.ascontiguousarray(self.integers[:, count:])
        return Jobs(integers, self.texts._replace(codes=codes), self.wanted - count)

    def text(self, column: int, rows: Int64s) -> list[str]:
        """Values of a text column.

        Parameters
        ----------
        column
            See `codes`.
        rows
            Indexes of the jobs.

        Returns
        -------
        list of str
            One per row.
        """
        return self.texts.words(self.texts.codes[column, rows])

    def save(self, folder: Path) -> None:
        """Write the arrays for other processes.

        Parameters
        ----------
        folder
            An existing one, of this month alone.
        """
        integers, codes, words = (folder / f"{name}.npy" for name in FILES)
        scratch.save(integers, self.integers)
        scratch.save(codes, self.texts.codes)
        with scratch.opened(words, len(self.texts.data)) as file:
            for array in (np.array([self.wanted]), self.texts.offsets, self.texts.data):
                scratch.write(file, array)


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
    integers, codes, words = (scratch.mapped_all(folder / f"{name}.npy") for name in FILES)
    wanted, offsets, data = words
    return Jobs(integers[0], Texts(codes[0], offsets, data), int(wanted[0]))


def mapped(folder: Path, name: str) -> npt.NDArray[Any]:
    """Map an array that another process has written.

    Parameters
    ----------
    folder, name
        Scratch folder, and what it is called there.

    Returns
    -------
    ndarray
        See `jobeff.store.scratch.mapped`.
    """
    return scratch.mapped(folder / f"{name}.npy")


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
    numbers = len(INTEGERS)
    integers = np.array([(*row[:numbers], 0) for row in rows], dtype=np.int64).reshape(len(rows), numbers + 1)
    number: dict[bytes, int] = {}
    codes = [number.setdefault(str(value).encode(), len(number)) for row in rows for value in row[numbers:]]
    offsets = np.cumsum([0, *map(len, number)], dtype=np.int64)
    data = np.frombuffer(b"".join(number), dtype=np.uint8).copy()
    columns = np.array(codes, dtype=np.int32).reshape(len(rows), len(TEXTS)).T
    texts = Texts(np.ascontiguousarray(columns), offsets, data)
    return _counted(np.ascontiguousarray(integers.T), texts, wanted)


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
        query = f"{SELECT} ids cross join jobs indexed by jobs_job_id_cluster using (job_id) where {IN_MONTH}"
        wanted = accounting.execute(query, span_of(cluster, month)).fetchall()
    others = _elsewhere(accounting, cluster, month, {row[0] for row in wanted}) if wanted else []
    return from_rows(sorted(wanted) + others, len(wanted)) if wanted else None


def read_month(path: Path, cluster: str, month: str, repeated: Int64s | None, first: int = ANY_ID) -> Jobs | None:
    """Read all jobs of a month, and the attempts of the same ids in other months.

    Parameters
    ----------
    path
        Accounting database.
    cluster, month
        Which month.
    repeated
        Ids that the cluster has more than once, from `read_ids`; None where that is not known, so that each id of the
        month is looked up.
    first
        Jobs of lesser ids are left out.

    Returns
    -------
    Jobs or None
        Those wanted in order of id and start; None where there is none.
    """
    with snapshot(path) as accounting:
        found = None
        if pages.readable(path):
            wanted = wanted_of(cluster, month)
            blocks = pages.blocks(accounting, "jobs", "seq", wanted)
            found = pages.read(path, pages.place(accounting, "jobs"), blocks, wanted, INTEGERS, TEXTS)
        if found is None:
            query = f"{SELECT} jobs where {IN_MONTH} and job_id >= ?"
            rows = accounting.execute(query, (*span_of(cluster, month), first)).fetchall()
            others = _elsewhere(accounting, cluster, month, {row[0] for row in rows})
            return from_rows(sorted(rows) + others, len(rows)) if rows else None
        jobs = _in_order(*found)
        if jobs.wanted and jobs.job_id[0] < first:
            jobs = jobs.behind(int(np.searchsorted(jobs.job_id, first)))
        if jobs.wanted == 0:
            return None
        ids = jobs.job_id.tolist() if repeated is None else _common(jobs.job_id, repeated)
        others = _elsewhere(accounting, cluster, month, ids)
    return jobs if not others else _joined(jobs, from_rows(others, 0))


@contextlib.contextmanager
def snapshot(path: Path) -> Iterator[sqlite3.Connection]:
    """Have an accounting database into which nobody writes meanwhile, so that its pages can be read.

    Parameters
    ----------
    path
        The database.

    Yields
    ------
    sqlite3.Connection
        Within a transaction that has begun to read.
    """
    with pages.held(path), contextlib.closing(tables.read_database(path, "accounting")) as connection:
        connection.execute("begin")
        connection.execute("select 1 from sqlite_master").fetchone()
        yield connection


IN_MONTH = "cluster = ? and date between ? and ? and nodes <> ''"
"""Jobs of a month that ever ran, with `span_of`."""


def span_of(cluster: str, month: str) -> tuple[str, str, str]:
    """What `IN_MONTH` asks for.

    Parameters
    ----------
    cluster, month
        Which month.

    Returns
    -------
    tuple of str
        Its parameters.
    """
    return cluster, f"{month}-01", f"{month}-31"


def wanted_of(cluster: str, month: str) -> pages.Wanted:
    """The same for who reads pages.

    Parameters
    ----------
    cluster, month
        Which month.

    Returns
    -------
    Wanted
        See there.
    """
    return pages.Wanted("cluster", cluster, "date", f"{month}-", "nodes")


def _elsewhere(
    accounting: sqlite3.Connection, cluster: str, month: str, ids: Iterable[int]
) -> list[tuple[object, ...]]:
    """Attempts in other months of the ids of this one."""
    with tables.temporary_ids(accounting, ids):
        where = "cluster = ? and not (date between ? and ?) and nodes <> ''"
        query = f"{SELECT} ids cross join jobs indexed by jobs_job_id_cluster using (job_id) where {where}"
        return accounting.execute(query, span_of(cluster, month)).fetchall()


def _common(ids: Int64s, some: Int64s) -> list[int]:
    """Those of a few sorted ids that are among many."""
    if len(some) == 0:
        return []
    at = np.minimum(np.searchsorted(some, ids), len(some) - 1)
    return sorted({*ids[some[at] == ids].tolist()})


def _in_order(integers: Int64s, texts: Texts) -> Jobs:
    """Jobs in order of id and start: so whoever goes through them later goes through memory from one end to another."""
    order = order_of(integers[0], integers[1])
    codes = np.empty((len(texts.codes), len(order)), dtype=np.int32)
    found = np.empty((len(integers) + 1, len(order)), dtype=np.int64)
    for values, column in zip([*integers, *texts.codes], [*found[:-1], *codes], strict=True):
        order_kernels.take(values, order, column)
    return _counted(found, texts._replace(codes=codes), len(order))


def _counted(integers: Int64s, texts: Texts, wanted: int) -> Jobs:
    """Jobs whose nodes are counted into the last row of their integers."""
    nodes = np.empty(texts.size, dtype=np.int64)
    text_kernels.count_words(texts.offsets, texts.data, nodes)
    np.take(nodes, texts.codes[NODES], out=integers[-1], mode="clip")
    return Jobs(integers, texts, wanted)


def _joined(jobs: Jobs, others: Jobs) -> Jobs:
    """Jobs and, behind them, others."""
    one, other = jobs.texts, others.texts
    codes = np.concatenate([one.codes, other.codes + np.int32(one.size)], axis=1)
    offsets = np.concatenate([one.offsets, other.offsets[1:] + one.offsets[-1]])
    texts = Texts(codes, offsets, np.concatenate([one.data, other.data]))  # in which a word may stand twice
    return Jobs(np.concatenate([jobs.integers, others.integers], axis=1), texts, jobs.wanted)
