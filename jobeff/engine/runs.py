"""The rows of a month as a run, in order of their keys: what `jobeff.engine.leaves` makes pages of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from jobeff.engine import jobs as month_jobs
from jobeff.engine.jobs import Jobs
from jobeff.engine.partials import Rows
from jobeff.engine.plan import order_of
from jobeff.store import page_kernels, tables
from jobeff.store.files import naming
from jobeff.store.records import Encoder
from jobeff.store.scratch import save

Int64s = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]
INTEGER, REAL, TEXT, WORD = page_kernels.INTEGER, page_kernels.REAL, page_kernels.TEXT, page_kernels.WORD
BESIDE = page_kernels.BESIDE_TEXT
JOBS, PROJECTS = "jobs", "projects"

KEY = ("cluster", "job_id", "start")
_COUNTS, _SEEN, _REJECTED, _MOST, _BOOKED, _DEFINITION = range(6)
_MEAN, _PERCENTILE, _PEAK, _MEDIAN, _LIMIT, _COVERAGE, _SWAP = range(7)
_JOB_ID, _START, _END, _CORES = (month_jobs.INTEGERS.index(name) for name in ("job_id", "start", "end", "cores"))
# The record of an efficiency row: its key, and then the other columns in the order of the table.
JOB_COLUMNS = [(WORD, 0), (BESIDE, _JOB_ID), (BESIDE, _START)]
ROW_COLUMNS = [
    *JOB_COLUMNS,
    (TEXT, month_jobs.PROJ_ID), (TEXT, month_jobs.USER), (REAL, _MEAN), (REAL, _PERCENTILE), (BESIDE, _CORES),
    (REAL, _PEAK), (REAL, _MEDIAN), (REAL, _LIMIT), (INTEGER, _COUNTS), (TEXT, month_jobs.STATE),
    (TEXT, month_jobs.DATE), (TEXT, month_jobs.NODES), (BESIDE, _END), (INTEGER, _BOOKED), (INTEGER, _SEEN),
    (REAL, _COVERAGE), (INTEGER, _REJECTED), (REAL, _SWAP), (INTEGER, _MOST), (INTEGER, _DEFINITION),
]  # fmt: skip
_IN_RECORD = [*KEY, *(name for name in tables.EFFICIENCY_COLUMNS if name not in KEY)]
ROW_FIELDS = [_IN_RECORD.index(name) for name in tables.EFFICIENCY_COLUMNS]
PROJECT_COLUMNS = [(TEXT, month_jobs.PROJ_ID), (TEXT, month_jobs.DATE), *JOB_COLUMNS]


def write_run(folder: Path, definition: int, jobs: Jobs, rows: Rows) -> None:
    """Write the rows of a month in order of their keys, and in which order the index has them.

    Parameters
    ----------
    folder
        Scratch folder of the month, where `jobs` has been saved.
    definition
        What all rows have in common.
    jobs, rows
        The month's jobs, and the rows of those that have one.
    """
    order = order_of(jobs.job_id[rows.job], jobs.start[rows.job])
    job = rows.job[order]
    numbers = np.empty((len(job), 6), dtype=np.int64)
    numbers[:, : _MOST + 1] = rows.numbers[order]
    numbers[:, _BOOKED], numbers[:, _DEFINITION] = jobs.booked[job], definition
    save(folder / "keys.npy", np.array([jobs.job_id[job], jobs.start[job]]))
    save(folder / "row-job.npy", job)
    save(folder / "row-numbers.npy", numbers)
    save(folder / "row-floats.npy", rows.floats[order])
    project, projects = _codes(jobs, month_jobs.PROJ_ID, job)
    day, days = _codes(jobs, month_jobs.DATE, job)
    group = project * (len(days) + 1) + day
    # Sixteen bits are sorted digit by digit, which is many times as quick.
    small = len(projects) * (len(days) + 1) < 1 << 16
    order = np.argsort(group.astype(np.uint16) if small else group, kind="stable")
    save(folder / "row-order.npy", order)
    begin = np.flatnonzero(np.diff(group[order], prepend=-1))
    first = order[begin]
    save(folder / "groups.npy", np.array([project[first], day[first], begin, np.append(begin, len(order))[1:]]))
    path = folder / "groups.json"
    with naming(path):
        path.write_text(json.dumps({"projects": projects, "days": days}), encoding="utf-8")


class Groups(NamedTuple):
    """Rows of a month that have project and day in common, in order.

    Attributes
    ----------
    projects, days
        Names, in order of their bytes.
    project, day, begin, end
        Shape (groups,): which of these, and where the rows stand in the order of the index.
    """

    projects: list[str]
    days: list[str]
    project: Int64s
    day: Int64s
    begin: Int64s
    end: Int64s


def load_groups(folder: Path) -> Groups:
    """Read the groups that `write_run` has written.

    Parameters
    ----------
    folder
        Of the month.

    Returns
    -------
    Groups
        See there.
    """
    names = json.loads((folder / "groups.json").read_text(encoding="utf-8"))
    return Groups(names["projects"], names["days"], *np.load(folder / "groups.npy"))


class Run:
    """The rows of a month, as `write_run` has written them.

    Parameters
    ----------
    cluster, folder
        Of the month.
    by
        `JOBS`: the rows as records of the table; `PROJECTS`: as those of its index.
    """

    def __init__(self, cluster: str, folder: Path, by: str) -> None:
        jobs = month_jobs.load(folder)
        self.name = f"{cluster}/{folder.name}"
        self.keys, self._job, numbers, floats = (
            month_jobs.mapped(folder, name) for name in ("keys", "row-job", "row-numbers", "row-floats")
        )
        self._order = month_jobs.mapped(folder, "row-order") if by == PROJECTS else None
        columns, fields = (ROW_COLUMNS, ROW_FIELDS) if by == JOBS else (PROJECT_COLUMNS, [])
        self._encoder = Encoder(columns, numbers, floats, jobs.texts, jobs.integers, cluster, fields)
        self.rows = 0

    @property
    def total(self) -> int:
        """Sum of the checksums of the rows that have been written."""
        return self._encoder.total

    def select(self, begin: int, end: int) -> tuple[Int64s, Int64s, int]:
        """Some rows.

        Parameters
        ----------
        begin, end
            Where they stand in the order of the table or index.

        Returns
        -------
        tuple
            Which rows, and rows of the texts, these are; and the room that their records may need.
        """
        rows = np.arange(begin, end) if self._order is None else np.asarray(self._order[begin:end])
        job = self._job[rows]
        return rows, job, self._encoder.size(job)

    def write(self, rows: Int64s, job: Int64s, out: Bytes, ends: Int64s, at: int) -> int:
        """Write records.

        Parameters
        ----------
        rows, job
            From `select`.
        out, ends, at
            See `jobeff.store.records.Encoder.write`.

        Returns
        -------
        int
            Where the last one ends.
        """
        self.rows += len(rows)
        return self._encoder.write(rows, job, out, ends, at)


def _codes(jobs: Jobs, column: int, rows: Int64s) -> tuple[Int64s, list[str]]:
    """A text column as numbers in order of the texts, and the texts."""
    encoded = jobs.strings(column).dictionary_encode()
    words: list[str] = encoded.dictionary.to_pylist()
    order = sorted(range(len(words)), key=lambda i: words[i].encode())
    rank = np.empty(len(words), dtype=np.int64)
    rank[order] = np.arange(len(words))
    return rank[np.asarray(encoded.indices)][rows], [words[i] for i in order]
