"""The rows of a month as a run, in order of their keys: what `jobeff.engine.leaves` makes pages of."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from jobeff.engine import jobs as month_jobs
from jobeff.engine import order_kernels
from jobeff.engine.jobs import Jobs
from jobeff.engine.partials import Rows
from jobeff.order import order_of, sorted_by
from jobeff.store import record_kernels, tables
from jobeff.store.files import naming
from jobeff.store.pages import Texts
from jobeff.store.records import Encoder, Records, Stretch
from jobeff.store.scratch import mapped_all, opened, save, write

Int64s = npt.NDArray[np.int64]
INTEGER, REAL, TEXT, WORD = record_kernels.INTEGER, record_kernels.REAL, record_kernels.TEXT, record_kernels.WORD
BESIDE, CONSTANT = record_kernels.BESIDE_TEXT, record_kernels.CONSTANT
JOBS, PROJECTS = "jobs", "projects"
FILES = {JOBS: ("records", "ends.npy"), PROJECTS: ("row-order.npy", "groups.npy")}
"""Of a run, by what they are needed for."""

KEYS = "keys.npy"
"""Is needed for both."""

RECORDS_AT_ONCE = 1 << 12
BYTES_PER_RECORD = 120
"""About."""

KEY = ("cluster", "job_id", "start")
_COUNTS, _SEEN, _REJECTED, _MOST = range(4)
_MEAN, _PERCENTILE, _PEAK, _MEDIAN, _LIMIT, _COVERAGE, _SWAP = range(7)
_JOB_ID, _START, _END, _CORES, _BOOKED = range(len(month_jobs.INTEGERS) + 1)
# The record of an efficiency row: its key, and then the other columns in the order of the table, but for the last one,
# which is the definition.
JOB_COLUMNS = [(WORD, 0), (BESIDE, _JOB_ID), (BESIDE, _START)]
ROW_COLUMNS = [
    *JOB_COLUMNS,
    (TEXT, month_jobs.PROJ_ID), (TEXT, month_jobs.USER), (REAL, _MEAN), (REAL, _PERCENTILE), (BESIDE, _CORES),
    (REAL, _PEAK), (REAL, _MEDIAN), (REAL, _LIMIT), (INTEGER, _COUNTS), (TEXT, month_jobs.STATE),
    (TEXT, month_jobs.DATE), (TEXT, month_jobs.NODES), (BESIDE, _END), (BESIDE, _BOOKED), (INTEGER, _SEEN),
    (REAL, _COVERAGE), (INTEGER, _REJECTED), (REAL, _SWAP), (INTEGER, _MOST),
]  # fmt: skip
_IN_RECORD = [*KEY, *(name for name in tables.EFFICIENCY_COLUMNS if name not in KEY)]
ROW_FIELDS = [_IN_RECORD.index(name) for name in tables.EFFICIENCY_COLUMNS]
PROJECT_COLUMNS = [(TEXT, 0), (TEXT, 1), (WORD, 0), (INTEGER, 0), (INTEGER, 1)]


def write_run(folder: Path, cluster: str, definition: int, jobs: Jobs, rows: Rows) -> int:
    """Write the rows of a month as records in order of their keys, and in which order the index has them.

    Parameters
    ----------
    folder
        Scratch folder of the month.
    cluster, definition
        What all rows have in common.
    jobs, rows
        The month's jobs, and the rows of those that have one, at least one.

    Returns
    -------
    int
        Sum of the rows' checksums.
    """
    order, job, keys = _by_key(jobs, rows.job)
    columns = [*ROW_COLUMNS, (CONSTANT, definition)]
    encoder = Encoder(columns, rows.numbers, rows.floats, jobs.texts, jobs.integers, cluster, ROW_FIELDS)
    save(folder / "ends.npy", _write_records(folder / "records", encoder, order, job))
    save(folder / KEYS, keys)
    (project, projects), (day, days) = (jobs.ranks(column) for column in (month_jobs.PROJ_ID, month_jobs.DATE))
    group = np.empty(len(job), dtype=np.int64)
    of_project, of_day = (jobs.texts.codes[column] for column in (month_jobs.PROJ_ID, month_jobs.DATE))
    order_kernels.pairs(job, of_project, of_day, project * (len(days) + 1), day, group)
    order = sorted_by(group)
    save(folder / "row-order.npy", order.astype(np.int32))  # all runs' are kept until the end
    group = group[order]
    begin = np.flatnonzero(np.diff(group, prepend=-1))
    project, day = np.divmod(group[begin], len(days) + 1)
    codes = np.stack([project, day + len(projects)]).astype(np.int32)
    names = [name.encode() for name in (*projects, *days)]
    texts = Texts(codes, np.cumsum([0, *map(len, names)], dtype=np.int64), np.frombuffer(b"".join(names), np.uint8))
    path = folder / "groups.npy"
    with naming(path), path.open("wb") as file:
        # Those of larger numbers first, so that all lie in memory as such numbers must.
        for array in (begin, np.append(begin, len(order))[1:], texts.offsets, texts.codes, texts.data):
            write(file, array)
    return encoder.total


def _write_records(path: Path, encoder: Encoder, rows: Int64s, job: Int64s) -> Int64s:
    """Write records one behind the other; where the first begins, and each one ends."""
    records, ends = Records(), np.zeros(len(rows) + 1, dtype=np.int64)
    with opened(path, BYTES_PER_RECORD * len(rows)) as file:
        for at in range(0, len(rows), RECORDS_AT_ONCE):
            some = slice(at, at + RECORDS_AT_ONCE)
            records.clear()
            encoder.write(rows[some], job[some], records)
            file.write(records.data[: records.used].data)
            ends[1:][some] = ends[at] + records.ends
    return ends


def _by_key(jobs: Jobs, job: Int64s) -> tuple[Int64s, Int64s, Int64s]:
    """What sorts rows by their keys, the job of each then, and their keys, shape (rows, 2).

    The jobs are in that order, but for those that only claim rows.
    """
    place = np.full(len(jobs.job_id), -1, dtype=np.int64)
    place[job] = np.arange(len(job))
    found = np.flatnonzero(place >= 0)
    keys = np.empty((len(found), 2), dtype=np.int64)
    keys[:, 0], keys[:, 1] = jobs.job_id[found], jobs.start[found]
    if not np.all(keys[1:, 0] > keys[:-1, 0]):
        order = order_of(*keys.T)
        found, keys = found[order], keys[order]
    return place[found], found, keys


class Run(NamedTuple):
    """A month that has rows, as `write_run` has written them.

    Attributes
    ----------
    cluster, month
        Which one.
    folder
        Where they are.
    rows, total
        How many there are, and the sum of their checksums.
    """

    cluster: str
    month: str
    folder: Path
    rows: int
    total: int


class Groups(NamedTuple):
    """Rows of a month that have project and day in common, in order.

    Attributes
    ----------
    texts
        Two columns, project and day of each group.
    begin, end
        Shape (groups,): where its rows stand in the order of the index.
    """

    texts: Texts
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
    begin, end, offsets, codes, data = mapped_all(folder / "groups.npy")
    return Groups(Texts(codes, offsets, data), begin, end)


def used_up(run: Run, by: str, both: bool) -> list[Path]:
    """Files that nobody reads any more.

    Parameters
    ----------
    run
        Which month.
    by
        `JOBS`: the table has been made of it; `PROJECTS`: the index.
    both
        Whether the other has been made before.

    Returns
    -------
    list of Path
        In its folder.
    """
    return [run.folder / name for name in (*FILES[by], *([KEYS] if both else []))]


class TableRun:
    """The rows of a month as records of the table.

    Parameters
    ----------
    run
        Which month.
    """

    def __init__(self, run: Run) -> None:
        self.keys = month_jobs.mapped(run.folder, "keys")
        self._ends = month_jobs.mapped(run.folder, "ends")
        # As arrays that can be written to: kernels are compiled for such.
        self._data = np.asarray(np.memmap(run.folder / "records", dtype=np.uint8, mode="c"))

    def piece(self, begin: int, end: int) -> Stretch:
        """Records where they stand.

        Parameters
        ----------
        begin, end
            Of the piece in the order of the table, at least one row.

        Returns
        -------
        Stretch
            As they are needed for a tree.
        """
        return Stretch(self._data, self._ends[begin:end], self._ends[begin + 1 : end + 1])

    def write(self, pieces: Int64s, records: Records) -> None:
        """Write records.

        Parameters
        ----------
        pieces
            Shape (pieces, 2): where they begin and end in the order of the table, at least one row; in order.
        records
            Takes them, behind those that it has.
        """
        for begin, end in pieces.tolist():
            records.copy(self._data, self._ends[begin : end + 1])


def write_index_records(run: Run, pieces: Int64s, records: Records) -> None:
    """Write the rows of a month as records of the index by project and day.

    Parameters
    ----------
    run
        Which month.
    pieces
        Shape (pieces, 2): where they begin and end in the order of the index, at least one row; in order.
    records
        Takes them, behind those that it has.
    """
    lengths = pieces[:, 1] - pieces[:, 0]
    ends = np.cumsum(lengths)
    rows = np.arange(ends[-1]) + np.repeat(pieces[:, 0] - ends + lengths, lengths)
    groups = load_groups(run.folder)
    first, last = np.searchsorted(groups.end, rows[[0, -1]], side="right")
    some = slice(first, last + 1)
    texts = groups.texts._replace(codes=np.ascontiguousarray(groups.texts.codes[:, some]))
    begin, end = groups.begin[some], groups.end[some]
    keys, order = (month_jobs.mapped(run.folder, name) for name in ("keys", "row-order"))
    none, beside = np.empty((len(keys), 0)), np.empty((0, 0), dtype=np.int64)
    group = np.repeat(np.arange(len(end)), end - begin)[rows - begin[0]]
    encoder = Encoder(PROJECT_COLUMNS, keys, none, texts, beside, run.cluster)
    encoder.write(order[rows].astype(np.int64), group, records)
