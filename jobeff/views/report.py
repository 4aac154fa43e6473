"""Reports: jobs by project, user, cluster, state or name, and the jobs that waste most.

Of booked core hours a job used the larger of its shares of cores and memory, at most all; the rest is wasted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from jobeff.clock import iso_week
from jobeff.config import Config
from jobeff.errors import ConfigError, shown
from jobeff.progress import QUIET, Progress
from jobeff.steps import columns as steps_columns
from jobeff.views import report_select, report_sums
from jobeff.views.anonymous import Anonymous
from jobeff.views.report_select import Part, Selection
from jobeff.views.report_sums import PERCENTILES, Jobs, Sums
from jobeff.views.tables import Column, Table

Group = Literal["project", "user", "cluster", "state", "jobname"]
KINDS = {"project": "project", "user": "user", "jobname": "job", "node": "node"}
"""Columns with names of people and what is theirs, and what `jobeff.views.anonymous` calls them."""

NUMBERS = (
    Column("jobs", "jobs", "count", 1),
    Column("measured", "measured", "count", 2),
    Column("core_hours", "core hours", "hours"),
    Column("measured_core_hours", "", "hours"),
    Column("cpu_pct", "cpu %", "percent", 5),
    Column("memory_pct", "mem %", "percent", 6),
    Column("efficiency_pct", "eff %", "percent"),
    *(Column(f"efficiency_p{p}", f"{p} %", "percent", 3 if p == 50 else 4) for p in PERCENTILES),
    Column("wasted_core_hours", "wasted h", "hours"),
)
MEANING = (
    "cpu, mem: share of what was booked that was used, weighted by core hours; eff: the "
    "larger of the two for each job, at most 100 %; 25, 50, 75 %: so many jobs have less; "
    "wasted h: booked core hours x (1 - eff). All of measured jobs, except core hours."
)


@dataclass(frozen=True)
class Ask:
    """What is asked for, and how it shall be shown.

    Attributes
    ----------
    selection
        Which jobs.
    period
        A line per group and ``week`` or ``month``, in order of these; None for a line per group.
    min_core_hours
        Lines with fewer are left out.
    sort
        Name of a column: names go from A to Z, percentages begin with the lowest, all else with the largest; None for
        what the report is about.
    limit
        So many lines at most, of each period; None for all.
    anonymous
        Turns names; None to show them.
    """

    selection: Selection = field(default_factory=Selection)
    period: Literal["week", "month"] | None = None
    min_core_hours: float = 0
    sort: str | None = None
    limit: int | None = None
    anonymous: Anonymous | None = None


def by_group(config: Config, group: Group, ask: Ask, by_waste: bool = False, progress: Progress = QUIET) -> Table:
    """What each project, user, ... booked, and how much of it was used.

    Parameters
    ----------
    config
        Of the site.
    group
        What a line is of.
    ask
        Which jobs and lines.
    by_waste
        Begin with the most wasted core hours instead of the most booked ones.
    progress
        Of making columns ready first.

    Returns
    -------
    Table
        ``week`` or ``month`` where asked for; the group; and `NUMBERS`: ``jobs``, ``measured`` (jobs with samples),
        ``core_hours`` (booked by all jobs that started), ``measured_core_hours``; and of the measured ones
        ``cpu_pct``, ``memory_pct`` (of those whose limit is known), ``efficiency_pct``, ``efficiency_p25``, ``_p50``,
        ``_p75``, ``wasted_core_hours``. None where nothing was measured.

    Raises
    ------
    ConfigError
        What is asked for is not there.
    """
    check_sort(ask.sort, _columns(group, ask))
    names = [
        *report_sums.COLUMNS,
        *(() if group == "cluster" else (group,)),
        *(("day",) if ask.period == "week" else ()),
    ]
    return of_parts(config, report_select.parts(config, ask.selection, names, progress), group, ask, by_waste)


def of_parts(config: Config, parts: Iterable[Part], group: Group, ask: Ask, by_waste: bool = False) -> Table:
    """The same of jobs that have been read.

    Parameters
    ----------
    config, group, ask, by_waste
        As for `by_group`.
    parts
        Those jobs that `ask` selects.

    Returns
    -------
    Table
        As `by_group` gives it.
    """
    columns = _columns(group, ask)
    sums = Sums()
    for part in parts:
        code, labels = _groups(part, group)
        names, place = _periods(part, ask.period)
        sums.add(Jobs(part), code if place is None else code + place * len(labels), labels, names)
    found = sums.finish()
    found |= {group: found["label"], ask.period or "": pa.array(found["period"], pa.string())}
    data = pa.table({column.name: found[column.name] for column in columns})
    ask = replace(ask, sort=ask.sort or ("wasted_core_hours" if by_waste else "core_hours"))
    return finish(config, columns, data, ask, MEANING, _total(columns, found), data.num_rows)


def _columns(group: Group, ask: Ask) -> tuple[Column, ...]:
    key = Column(group, "job name" if group == "jobname" else group, "text")
    return (*((Column(ask.period, ask.period, "text"),) if ask.period else ()), key, *NUMBERS)


def _groups(part: Part, group: Group) -> tuple[npt.NDArray[np.int64], pa.Array]:
    if group == "cluster":
        return np.zeros(len(part), dtype=np.int64), pa.array([part.cluster])
    return part.numbers(group).astype(np.int64), part.texts(group)


def _periods(part: Part, period: str | None) -> tuple[list[str], npt.NDArray[np.int64] | None]:
    """Periods of a part, and in which of them each job ended."""
    return weeks_of(part) if period == "week" else ([part.month if period else ""], None)


def weeks_of(part: Part) -> tuple[list[str], npt.NDArray[np.int64]]:
    """ISO weeks of a part.

    Parameters
    ----------
    part
        With a column ``day``.

    Returns
    -------
    list of str
        Their names.
    ndarray
        In which of them each of its rows is.
    """
    days = range(1, 32)
    weeks = ["" for _ in days]
    for day in days:
        try:
            weeks[day - 1] = iso_week(f"{part.month}-{day:02}")
        except ValueError:  # the month is shorter
            weeks[day - 1] = weeks[day - 2]
    names = sorted(set(weeks))
    return names, np.array([0, *map(names.index, weeks)])[part.numbers("day")]


def check_sort(sort: str | None, columns: Sequence[Column]) -> None:
    """Refuse a column to sort by that is not there.

    Parameters
    ----------
    sort
        From the command line.
    columns
        Of the report.

    Raises
    ------
    ConfigError
        It is none of them.
    """
    names = [column.name for column in columns]
    if sort is not None and sort not in names:
        raise ConfigError(
            f"cannot sort by {shown(sort)!r}", why="there is no such column", todo=f"Columns are {', '.join(names)}"
        )


def finish(
    config: Config,
    columns: tuple[Column, ...],
    data: pa.Table,
    ask: Ask,
    meaning: str,
    total: dict[str, Any],
    lines: int,
) -> Table:
    """Turn names, leave out small lines, sort, cut.

    Parameters
    ----------
    config
        Of the site.
    columns
        Of the report.
    data
        A line each; NaN where a number is not known.
    ask
        With a column to sort by.
    meaning
        What stands below.
    total
        The last line.
    lines
        How many there would be without a limit.

    Returns
    -------
    Table
        What is to be shown.
    """
    table = pa.table(
        {column.name: hidden(config, ask.anonymous, column.name, data.column(column.name)) for column in columns}
    )
    table = table.filter(pc.greater_equal(table.column("core_hours"), ask.min_core_hours))
    table = table.take(_order(table, columns, ask))
    if ask.limit and ask.period:
        table = table.filter(pa.array(_place_in_run(table.column(ask.period)) < ask.limit))
    elif ask.limit:
        table = table.slice(0, ask.limit)
    notes = [meaning]
    if table.num_rows < lines:
        notes.append(f"{table.num_rows:,} of {lines:,} lines; the total is of all.")
    return Table(columns, table, tuple(notes), total, "" if table.num_rows else _empty(config, ask, lines))


def _empty(config: Config, ask: Ask, lines: int) -> str:
    """Why there is no line, and what to do."""
    if lines:
        return f"No line has {ask.min_core_hours:,g} core hours or more; ask for fewer with --min-core-hours."
    known = [month for _, month in steps_columns.keys(config)]
    if not known:
        return "No job is known; 'jobeff update' loads those that have ended."
    return f"No job{ask.selection.of()} ended {ask.selection}. Jobs are known from {min(known)} to {max(known)}."


def _order(table: pa.Table, columns: Sequence[Column], ask: Ask) -> pa.Array:
    """Places of lines: by period, then as asked, then by names."""
    kinds = {column.name: column.kind for column in columns}
    first = [name for name in (ask.period, ask.sort) if name]
    others = [name for name, kind in kinds.items() if kind == "text" and name not in first]
    rising = {name: kinds[name] in ("text", "percent") for name in (*first, *others)}
    keys = [(name, "ascending" if up else "descending") for name, up in rising.items()]
    return pc.sort_indices(table, sort_keys=keys)


def _place_in_run(values: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """How many of the same value stand directly before each."""
    code = np.asarray(values.combine_chunks().dictionary_encode().indices, dtype=np.int64)
    begin = np.flatnonzero(np.diff(code, prepend=-1))
    return np.arange(len(code)) - np.repeat(begin, np.diff(begin, append=len(code)))


def _total(columns: Sequence[Column], data: dict[str, Any]) -> dict[str, Any]:
    booked = np.nan_to_num(data["measured_core_hours"])
    total: dict[str, Any] = {}
    for column in columns:
        values = data[column.name]
        if column.kind in ("count", "hours"):
            total[column.name] = np.nansum(values)
        elif column.name in ("cpu_pct", "efficiency_pct") and booked.sum() > 0:
            total[column.name] = float((np.nan_to_num(values) * booked).sum() / booked.sum())
    return total


def hidden(config: Config, anonymous: Anonymous | None, column: str, values: Any) -> Any:
    """A column as it may be shown.

    Parameters
    ----------
    config
        Of the site.
    anonymous
        Turns names; None to show them.
    column, values
        Its name, and what stands in it.

    Returns
    -------
    array
        NaN as null.
    """
    array = values.combine_chunks()
    if pa.types.is_floating(array.type):
        array = pc.if_else(pc.is_nan(array), None, array)
    if anonymous is None:
        return array
    if column == "cluster":  # a virtual cluster is called after its project
        return pa.array([_hidden_cluster(config, anonymous, name) for name in array.to_pylist()], pa.string())
    if column in KINDS:
        return pa.array([anonymous.name(KINDS[column], name) for name in array.to_pylist()], pa.string())
    if column == "job":  # who may ask Slurm can tell whose a job id is
        return pa.array([anonymous.name("job", name) for name in array.to_pylist()], pa.string())
    return array


def _hidden_cluster(config: Config, anonymous: Anonymous, name: str) -> str:
    known = config.raw_cluster(name)
    return name if name == known else f"{known}.{anonymous.name('project', name[len(known) + 1 :])}"
