"""The rows of a month as a run: SQLite's records in order of their keys, which `jobeff.steps.bulk` merges."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt

from jobeff.engine import jobs as month_jobs
from jobeff.engine.jobs import Jobs
from jobeff.engine.partials import Rows
from jobeff.engine.plan import order_of
from jobeff.store import page_kernels, page_sums, pages, tables
from jobeff.store.files import naming
from jobeff.store.scratch import save

Int64s = npt.NDArray[np.int64]
RECORDS_AT_ONCE = 1 << 14
INTEGER, REAL, TEXT, WORD = page_kernels.INTEGER, page_kernels.REAL, page_kernels.TEXT, page_kernels.WORD

KEY = ("cluster", "job_id", "start")
# The record of an efficiency row: its key, and then the other columns in the order of the table.
JOB_COLUMNS = [(WORD, 0), (INTEGER, 0), (INTEGER, 1)]
(_COUNTS, _SEEN, _REJECTED, _MOST, _CORES, _END, _BOOKED, _DEFINITION) = range(2, 10)
(_MEAN, _PERCENTILE, _PEAK, _MEDIAN, _LIMIT, _COVERAGE, _SWAP) = range(7)
ROW_COLUMNS = [
    *JOB_COLUMNS,
    (TEXT, month_jobs.PROJ_ID), (TEXT, month_jobs.USER), (REAL, _MEAN), (REAL, _PERCENTILE), (INTEGER, _CORES),
    (REAL, _PEAK), (REAL, _MEDIAN), (REAL, _LIMIT), (INTEGER, _COUNTS), (TEXT, month_jobs.STATE),
    (TEXT, month_jobs.DATE), (TEXT, month_jobs.NODES), (INTEGER, _END), (INTEGER, _BOOKED), (INTEGER, _SEEN),
    (REAL, _COVERAGE), (INTEGER, _REJECTED), (REAL, _SWAP), (INTEGER, _MOST), (INTEGER, _DEFINITION),
]  # fmt: skip
_IN_RECORD = [*KEY, *(name for name in tables.EFFICIENCY_COLUMNS if name not in KEY)]
ROW_FIELDS = [_IN_RECORD.index(name) for name in tables.EFFICIENCY_COLUMNS]
IS_REAL = [ROW_COLUMNS[field][0] == REAL for field in ROW_FIELDS]
PROJECT_COLUMNS = [(TEXT, month_jobs.PROJ_ID), (TEXT, month_jobs.DATE), *JOB_COLUMNS]


def write_run(folder: Path, cluster: str, definition: int, jobs: Jobs, rows: Rows) -> None:
    """Write the rows of a month as records of the table and of its index, each in order of its keys.

    Parameters
    ----------
    folder
        Scratch folder of the month; it takes the records, their keys, and where each project and day begins.
    cluster, definition
        What all rows have in common.
    jobs, rows
        The month's jobs, and the rows of those that have one.
    """
    # In order of the key from the start, so that what is read for a row lies together.
    order = order_of(jobs.job_id[rows.job], jobs.start[rows.job])
    job = rows.job[order]
    integers = np.empty((10, len(job)), dtype=np.int64)
    integers[0], integers[1] = jobs.job_id[job], jobs.start[job]
    integers[_COUNTS], integers[_SEEN], integers[_REJECTED], integers[_MOST] = rows.numbers[order].T
    integers[_CORES], integers[_END], integers[_BOOKED] = jobs.cores[job], jobs.end[job], jobs.booked[job]
    integers[_DEFINITION] = definition
    reals = np.ascontiguousarray(rows.floats[order].T)
    save(folder / "keys.npy", integers[:2])
    whole = np.arange(len(job))
    checksums = _save_run(folder, "jobs", ROW_COLUMNS, integers, reals, jobs.texts, cluster, whole, job, ROW_FIELDS)
    project, projects = _codes(jobs, month_jobs.PROJ_ID, job)
    day, days = _codes(jobs, month_jobs.DATE, job)
    group = project * (len(days) + 1) + day
    # Sixteen bits are sorted digit by digit, which is many times as quick.
    small = len(projects) * (len(days) + 1) < 1 << 16
    order = np.argsort(group.astype(np.uint16) if small else group, kind="stable")
    _save_run(folder, "projects", PROJECT_COLUMNS, integers, reals, jobs.texts, cluster, order, job[order])
    begin = np.flatnonzero(np.diff(group[order], prepend=-1))
    keys = [(projects[project[i]], days[day[i]]) for i in order[begin].tolist()]
    digests = _digests(cluster, [name[:7] for name in days], day, checksums)
    groups = {"keys": keys, "begin": [*begin.tolist(), len(order)], "digests": digests}
    path = folder / "groups.json"
    with naming(path):
        path.write_text(json.dumps(groups), encoding="utf-8")


def _save_run(
    folder: Path,
    name: str,
    columns: list[tuple[int, int]],
    integers: Int64s,
    reals: npt.NDArray[np.float64],
    texts: pages.Texts,
    word: str,
    rows: Int64s,
    text_rows: Int64s,
    fields: list[int] | None = None,
) -> Int64s:
    """Write records in order of `rows`, a few at a time, so that they stay in the processor's cache on their way.

    Gives their checksums, if it is said which field each column of the table is.
    """
    checksums = np.empty(len(rows) if fields else 0, dtype=np.int64)
    ends, before = np.empty(len(rows), dtype=np.int64), 0
    path = folder / f"{name}.records"
    with naming(path), path.open("wb") as file:
        for at in range(0, len(rows), RECORDS_AT_ONCE):
            some = slice(at, at + RECORDS_AT_ONCE)
            found = pages.records(columns, integers, reals, texts, word, rows[some], text_rows[some])
            file.write(found.data.data)
            if fields:
                checksums[some] = page_sums.record_checksums(found, fields, IS_REAL)
            ends[some] = found.ends + before
            before += len(found.data)
    save(folder / f"{name}.npy", ends)
    return checksums


def _digests(cluster: str, months: list[str], day: Int64s, checksums: Int64s) -> dict[str, tuple[int, int]]:
    """Rows and sums by block of the table; all rows of a month are usually in one."""
    found: dict[str, tuple[int, int]] = {}
    names = sorted({*months})
    month = np.array([names.index(name) for name in months], dtype=np.int64)[day]
    for number, name in enumerate(names):
        some = checksums[month == number]
        if len(some):
            found[f"{cluster}/{name}"] = (len(some), int(some.sum()))
    return found


def load_digests(folder: Path) -> dict[str, tuple[int, int]]:
    """Rows and sums of the records that `write_run` has written.

    Parameters
    ----------
    folder
        Of the month.

    Returns
    -------
    dict
        By block, see `jobeff.store.row_sums`.
    """
    found = json.loads((folder / "groups.json").read_text(encoding="utf-8"))["digests"]
    return {block: (rows, total) for block, (rows, total) in found.items()}


def load_run(folder: Path, name: str) -> pages.Records:
    """Map the records that `write_run` has written.

    Parameters
    ----------
    folder, name
        Of the month; ``jobs`` or ``projects``.

    Returns
    -------
    Records
        Read as they are used.
    """
    ends = month_jobs.mapped(folder, name)
    data = np.memmap(folder / f"{name}.records", dtype=np.uint8, mode="c") if len(ends) else np.empty(0, np.uint8)
    return pages.Records(np.asarray(data), ends)


def _codes(jobs: Jobs, column: int, rows: Int64s) -> tuple[Int64s, list[str]]:
    """A text column as numbers in order of the texts, and the texts."""
    encoded = jobs.strings(column).dictionary_encode()
    words: list[str] = encoded.dictionary.to_pylist()
    order = sorted(range(len(words)), key=lambda i: words[i].encode())
    rank = np.empty(len(words), dtype=np.int64)
    rank[order] = np.arange(len(words))
    return rank[np.asarray(encoded.indices)][rows], [words[i] for i in order]
