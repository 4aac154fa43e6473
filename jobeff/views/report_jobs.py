"""The single jobs that waste most; tasks of an array in one line."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from jobeff.config import Config
from jobeff.progress import QUIET, Progress
from jobeff.views import attempts, report, report_select, report_sums
from jobeff.views.report import Ask
from jobeff.views.report_select import Part
from jobeff.views.report_sums import Jobs, Sums
from jobeff.views.tables import Column, Table, untitled

COLUMNS = (
    Column("job", "job", "text", least=24),
    Column("attempt", "attempt", "count"),
    Column("tasks", "tasks", "count", 3),
    Column("measured", "", "count"),
    Column("project", "project", "text", 2, least=14),
    Column("user", "user", "text", 1, least=8),
    Column("jobname", "job name", "text", 4, least=11),
    Column("core_hours", "core hours", "hours"),
    Column("measured_core_hours", "", "hours"),
    Column("cpu_pct", "cpu %", "percent", 5),
    Column("memory_pct", "mem %", "percent", 6),
    Column("efficiency_pct", "eff %", "percent"),
    Column("wasted_core_hours", "wasted h", "hours"),
)
MADE = tuple(column for column in COLUMNS if column.name != "attempt")
NAMES = ("job_id", "start", "array", "project", "user", "jobname")
MEANING = (
    "cpu, mem: share of what was booked that was used; eff: the larger of the two, at "
    "most 100 %; wasted h: booked core hours x (1 - eff). 123_[*]: the tasks of an array."
)
ATTEMPT = "attempt: which run of an id that was requeued; 'jobeff job ID --attempt N' shows it."


def by_job(config: Config, ask: Ask, progress: Progress = QUIET) -> Table:
    """Jobs, those that waste most core hours first; the tasks of a job array are one line.

    Parameters
    ----------
    config
        Of the site.
    ask
        Which jobs and lines, with a limit.
    progress
        Of making columns ready first.

    Returns
    -------
    Table
        ``job`` (``cluster/123``, of an array ``cluster/123_[*]``), ``attempt`` (None where the id ran once), ``tasks``,
        ``measured`` (tasks with samples), ``project``, ``user``, ``jobname`` (of an array that of its first task), and
        the numbers of `jobeff.views.report.by_group`.

    Raises
    ------
    ConfigError
        What is asked for is not there.
    """
    report.check_sort(ask.sort, [column for column in COLUMNS if column.kind != "text"])
    return of_parts(config, report_select.parts(config, ask.selection, [*report_sums.COLUMNS, *NAMES], progress), ask)


def of_parts(config: Config, parts: Iterable[Part], ask: Ask) -> Table:
    """The same of jobs that have been read.

    Parameters
    ----------
    config, ask
        As for `by_job`.
    parts
        Those jobs that `ask` selects.

    Returns
    -------
    Table
        As `by_job` gives it.
    """
    ask = replace(ask, sort=ask.sort or "wasted_core_hours", period=None)
    arrays, tables = _Arrays(), []
    total = np.zeros(len(_TOTALS))
    lines = 0
    for part in parts:
        of_array, alone, jobs = part.numbers("array") > 0, part, Jobs(part)
        total += _totals(jobs)
        if of_array.any():
            arrays.add(part.at(np.flatnonzero(of_array)))
            alone = part.at(np.flatnonzero(~of_array))
            jobs = Jobs(alone)
        lines += len(alone)
        tables.append(_singles(alone, jobs, ask))
    tables.append(arrays.table())
    lines += tables[-1].num_rows
    found = pa.concat_tables(tables)
    tasks, measured, core_s, measured_core_s, cpu, used = total.tolist()
    last: dict[str, Any] = {
        "tasks": tasks, "measured": measured,
        "core_hours": core_s / 3600, "wasted_core_hours": max(0.0, measured_core_s - used) / 3600,
    }  # fmt: skip
    if measured_core_s > 0:
        last |= {"cpu_pct": 100 * cpu / measured_core_s, "efficiency_pct": 100 * used / measured_core_s}
    found = found.append_column("place", pa.array(range(found.num_rows), pa.int64()))
    table = report.finish(config, (*MADE, Column("place", "")), found, ask, MEANING, last, lines)
    # Names may have been turned; which attempt a line is of is told by what it was made of.
    before = found.take(table.data.column("place"))
    numbered = attempts.numbers(config, before.column("job").to_pylist(), before.column("start").to_pylist())
    data = table.data.append_column("attempt", pa.array(numbered, pa.int64()))
    notes = (*table.notes[:1], ATTEMPT, *table.notes[1:]) if any(numbered) else table.notes
    return _shortened(replace(table, columns=COLUMNS, data=data, notes=notes))


def _shortened(table: Table) -> Table:
    """Without titles of columns that say little: attempts where each id ran once, tasks where each line is one job."""
    tasks, numbers = table.data.column("tasks"), table.data.column("attempt")
    little = {"tasks"} if len(tasks) and pc.max(tasks).as_py() == 1 else set()
    little |= {"attempt"} if numbers.null_count == len(numbers) else set()
    return replace(table, columns=untitled(COLUMNS, little))


_TOTALS = ("jobs", "measured", "core_s", "measured_core_s", "cpu", "used_core_s")


def _totals(jobs: Jobs) -> npt.NDArray[np.float64]:
    booked = jobs.booked
    sums = (booked.sum(), (jobs.cpu * booked).sum(), (jobs.efficiency * booked).sum())
    return np.array([len(jobs.core_s), len(booked), jobs.core_s.sum(), *sums])


def _singles(part: Part, jobs: Jobs, ask: Ask) -> pa.Table:
    """Those of a part that can be among the lines to show."""
    sort = str(ask.sort)
    rows = np.flatnonzero(jobs.core_s >= 3600 * ask.min_core_hours)
    if ask.limit and len(rows) > ask.limit:
        rows = rows[_first(numbers(jobs, len(part), sort)[rows], sort.endswith("_pct"), ask.limit)]
    few = part.at(rows)
    found = Jobs(few)
    texts = {name: few.texts(name).take(pa.array(few.numbers(name))) for name in ("project", "user", "jobname")}
    names = [f"{few.cluster}/{job_id}" for job_id in few.numbers("job_id").tolist()]
    others = [column.name for column in MADE if column.kind != "text"]
    values = {name: numbers(found, len(few), name) for name in others}
    start = pa.array(few.numbers("start"), pa.int64())
    return _table({"job": pa.array(names, pa.string()), "start": start, **texts, **values})


def numbers(jobs: Jobs, count: int, name: str) -> npt.NDArray[Any]:
    """A column of single jobs.

    Parameters
    ----------
    jobs, count
        The jobs, and how many they are.
    name
        One of `COLUMNS` that holds numbers.

    Returns
    -------
    ndarray
        NaN where a job is not measured.
    """
    if name == "core_hours":
        return jobs.core_s / 3600
    if name == "tasks":
        return np.ones(count, dtype=np.int64)
    if name == "measured":
        measured = np.zeros(count, dtype=np.int64)
        measured[jobs.measured] = 1
        return measured
    found = np.full(count, 0.0 if name == "measured_core_hours" else np.nan)
    found[jobs.measured] = {
        "measured_core_hours": lambda: jobs.booked / 3600,
        "cpu_pct": lambda: 100 * jobs.cpu,
        "memory_pct": lambda: 100 * jobs.memory,
        "efficiency_pct": lambda: 100 * jobs.efficiency,
        "wasted_core_hours": lambda: (1 - jobs.efficiency) * jobs.booked / 3600,
    }[name]()
    return found


def _first(values: npt.NDArray[Any], rising: bool, limit: int) -> npt.NDArray[np.int64]:
    """Places of the first so many values were they sorted; of equal ones those that come first."""
    cost = values if rising else -values
    worst = np.partition(cost, limit - 1)[limit - 1]  # NaN stands last
    unknown = np.isnan(worst)
    better = np.flatnonzero(~np.isnan(cost) if unknown else cost < worst)
    equal = np.flatnonzero(np.isnan(cost) if unknown else cost == worst)
    return np.sort(np.concatenate([better, equal[: limit - len(better)]]))


def _table(data: dict[str, Any]) -> pa.Table:
    """Lines; NaN as it is, so that tables fit together."""
    return pa.table({name: data[name] for name in ("start", *(column.name for column in MADE))})


class _Arrays:
    """Adds up the tasks of job arrays. An id that came round again in other hands is another array."""

    def __init__(self) -> None:
        self._sums = Sums()
        self._names: dict[str, str] = {}

    def add(self, part: Part) -> None:
        """Add tasks."""
        code = np.unique(part.numbers("array"), return_inverse=True)[1]
        for name in ("project", "user"):
            code = code * len(part.texts(name)) + part.numbers(name)
        _, first, group = np.unique(code, return_index=True, return_inverse=True)
        texts = {
            name: part.texts(name).take(pa.array(part.numbers(name)[first])) for name in ("project", "user", "jobname")
        }
        arrays = part.numbers("array")[first].tolist()
        labels = []
        for array, project, user, name in zip(arrays, *(texts[name].to_pylist() for name in texts), strict=True):
            labels.append(json.dumps([part.cluster, array, project, user]))
            self._names.setdefault(labels[-1], name)
        self._sums.add(Jobs(part), group, pa.array(labels, pa.string()))

    def table(self) -> pa.Table:
        """A line per array."""
        found = self._sums.finish()
        labels = found["label"].to_pylist()
        keys = [json.loads(label) for label in labels]
        data = {
            **found,
            "tasks": found["jobs"],
            "start": pa.nulls(len(keys), pa.int64()),
            "job": pa.array([f"{cluster}/{array}_[*]" for cluster, array, _, _ in keys], pa.string()),
            "project": pa.array([key[2] for key in keys], pa.string()),
            "user": pa.array([key[3] for key in keys], pa.string()),
            "jobname": pa.array([self._names[label] for label in labels], pa.string()),
        }
        return _table(data)
