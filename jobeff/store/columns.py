"""Columns of the jobs of one cluster and month, for reports: accounting and efficiency side by side, in one file.

Beside it lies another with what the jobs of each day add up to, for trends. A file is made of the databases alone, and
can be deleted at any time. `jobeff.steps.columns` says when it is out of date.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from jobeff.store.files import atomic_write

VERSION = 2
NAMES = ("project", "user", "jobname", "state", "nodes")
"""Columns of text, each text once."""

_TEXT = pa.dictionary(pa.int32(), pa.string())
SCHEMA = pa.schema(
    [
        *((name, pa.int64()) for name in ("job_id", "start", "end", "cores")),
        ("day", pa.int8()),  # of the month
        ("array", pa.int64()),  # id of the job array, 0 where it is of none
        *((name, _TEXT) for name in NAMES),
        ("core_s", pa.float64()),
        # NaN: not measured; of mem_limit also: unknown.
        *((name, pa.float64()) for name in ("cpu_mean", "mem_peak", "mem_limit", "swap_peak")),
        *((name, pa.int64()) for name in ("cores_used_peak", "nodes_seen", "nodes_booked")),
    ]
)
DAYS = pa.schema(
    [
        ("day", pa.int8()),
        ("project", _TEXT),
        ("user", _TEXT),
        # Core seconds: booked by all jobs, booked by measured ones, and how much of these was used.
        *((name, pa.float64()) for name in ("core_s", "measured_core_s", "used_core_s")),
    ]
)
"""A row for each day, project and user that had a job."""

_REPEATED = (*NAMES, "cores", "day", "mem_limit", "nodes_booked", "nodes_seen")
ONE_ROW_GROUP = 1 << 26
"""More jobs than a month has, so that each text stands in a file once."""


def path_of(root: Path, cluster: str, month: str) -> Path:
    """Where the columns of a month lie.

    Parameters
    ----------
    root
        Data root.
    cluster, month
        Names that have passed `jobeff.names`.

    Returns
    -------
    Path
        ``db/report/<cluster>/<YYYY-MM>.parquet`` below it.
    """
    return root / "db" / "report" / cluster / f"{month}.parquet"


def days_path_of(root: Path, cluster: str, month: str) -> Path:
    """Where the sums of a month's days lie.

    Parameters
    ----------
    root, cluster, month
        As for `path_of`.

    Returns
    -------
    Path
        ``db/report/<cluster>/<YYYY-MM>.days.parquet`` below the root.
    """
    return root / "db" / "report" / cluster / f"{month}.days.parquet"


def table_of(columns: dict[str, Any]) -> pa.Table:
    """A table with the schema of the files.

    Parameters
    ----------
    columns
        Arrow or numpy arrays or lists by name of column; numbers may be None where they are not known.

    Returns
    -------
    pyarrow.Table
        One row per job, without nulls.
    """
    arrays = []
    for field in SCHEMA:
        values = columns[field.name]
        if field.name in NAMES:
            arrays.append(pa.array(values, pa.string()).dictionary_encode())
        elif pa.types.is_floating(field.type):
            arrays.append(pa.array(np.array(values, dtype=np.float64)))  # None becomes NaN
        else:
            arrays.append(pa.array(values, field.type))
    return pa.Table.from_arrays(arrays, schema=SCHEMA)


def write(path: Path, table: pa.Table, about: dict[str, Any]) -> None:
    """Write a month whole or not at all.

    Parameters
    ----------
    path
        From `path_of` or `days_path_of`.
    table
        With `SCHEMA` or `DAYS`.
    about
        Kept in the file, and asked for by `read`.
    """
    table = table.replace_schema_metadata({"jobeff": _said(about)})
    with atomic_write(path) as file:
        pq.write_table(
            table,
            file,
            compression="lz4",
            use_dictionary=[name for name in _REPEATED if name in table.schema.names],
            dictionary_pagesize_limit=1 << 30,
            row_group_size=ONE_ROW_GROUP,
            write_statistics=False,
            write_page_checksum=True,
        )


def read(path: Path, names: list[str], about: dict[str, Any]) -> pa.Table:
    """Read columns of a month, verifying every page.

    Parameters
    ----------
    path
        From `path_of` or `days_path_of`.
    names
        Of the columns.
    about
        What it was written with.

    Returns
    -------
    pyarrow.Table
        Each column in one piece.

    Raises
    ------
    Exception
        It is not there, damaged, or another month; nearly any, since pyarrow raises nearly any.
    """
    with pq.ParquetFile(path, pre_buffer=False, page_checksum_verification=True) as file:
        said = (file.schema_arrow.metadata or {}).get(b"jobeff")
        if said != _said(about).encode():
            raise ValueError("it is of another month, or of another jobeff")
        found = file.read(names).combine_chunks()
    known = {field.name: field.type for field in (*SCHEMA, *DAYS)}
    if [(field.name, field.type) for field in found.schema] != [(name, known[name]) for name in names]:
        raise ValueError("its columns are not those that were written")  # the footer has no checksum
    return found


def _said(about: dict[str, Any]) -> str:
    return json.dumps({"version": VERSION, **about}, sort_keys=True)
