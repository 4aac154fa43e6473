"""The jobs that ended last, newest first."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa

from jobeff.config import Config
from jobeff.views import attempts, report, report_jobs
from jobeff.views.report_select import Part
from jobeff.views.report_sums import Jobs
from jobeff.views.tables import Column, Table, untitled

COLUMNS = (
    Column("job", "job", "text"),
    Column("attempt", "attempt"),
    Column("ended", "ended", "text"),
    Column("state", "state", "text"),
    *(column for column in report_jobs.COLUMNS if column.name in ("project", "user", "jobname")),
    *(column for column in report_jobs.COLUMNS if column.name.endswith(("core_hours", "_pct"))),
)
NAMES = ("end", "state")
"""Columns that are read for it, beside those of `jobeff.views.report_jobs`."""


def newest(config: Config, parts: Iterable[Part], limit: int) -> Table:
    """Single jobs.

    Parameters
    ----------
    config
        Of the site.
    parts
        Jobs that have been read.
    limit
        So many at most.

    Returns
    -------
    Table
        `COLUMNS`; ``ended`` is local time.
    """
    found: list[tuple[int, dict[str, Any]]] = []
    for part in parts:
        end = part.numbers("end")
        found += _rows(config, part.at(np.sort(np.argsort(-end, kind="stable")[:limit])))
    found.sort(key=lambda one: (-one[0], one[1]["job"]))
    rows = [row for _, row in found[:limit]]
    numbered = attempts.numbers(config, [row["job"] for row in rows], [row["start"] for row in rows])
    data = {
        column.name: pa.array(
            [row[column.name] for row in rows], pa.string() if column.kind == "text" else pa.float64()
        )
        for column in COLUMNS
        if column.name != "attempt"
    }
    columns = COLUMNS if any(numbered) else untitled(COLUMNS, {"attempt"})
    return Table(
        columns, pa.table(data | {"attempt": pa.array(numbered, pa.int64())}), empty="No job ended in this time."
    )


def _rows(config: Config, part: Part) -> Iterable[tuple[int, dict[str, Any]]]:
    jobs = Jobs(part)
    texts = {name: part.texts(name).to_pylist() for name in ("state", "project", "user", "jobname")}
    columns: dict[str, list[Any]] = {
        name: [known[i] for i in part.numbers(name).tolist()] for name, known in texts.items()
    }
    for column in COLUMNS:
        if column.kind != "text" and column.name != "attempt":
            values = report.hidden(config, None, column.name, pa.chunked_array([_floats(jobs, len(part), column.name)]))
            columns[column.name] = values.to_pylist()
    numbers = (part.numbers(name).tolist() for name in ("job_id", "start", "end"))
    for i, (job_id, start, end) in enumerate(zip(*numbers, strict=True)):
        row = {name: values[i] for name, values in columns.items()}
        ended = datetime.fromtimestamp(end, config.clock.zone).strftime("%Y-%m-%d %H:%M")
        yield end, row | {"job": f"{part.cluster}/{job_id}", "start": start, "ended": ended}


def _floats(jobs: Jobs, count: int, name: str) -> pa.Array:
    return pa.array(report_jobs.numbers(jobs, count, name).astype(np.float64))
