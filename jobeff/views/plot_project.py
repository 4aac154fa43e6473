"""A project's weeks: core hours booked and used, and how well."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from typing import Any

from jobeff.clock import Clock, iso_week, with_jobs
from jobeff.config import Config
from jobeff.errors import JobeffError, shown
from jobeff.store import tables
from jobeff.views.plot import BLACK, BLUE, DPI, GREY, SKY, VERMILLION, cut, rendered, styled

WEEK = timedelta(days=7)
LONGEST_S = 8 * 86_400
"""No week is as long, clocks put back or not."""

# Each job is split at local midnight between Sunday and Monday. What a job used is taken to be the same all the time.
WEEKS = f"""
select weeks.week,
       sum(hours) as booked,
       sum(case when measured then hours else 0 end) as measured,
       sum(hours * cpu) as used,
       sum(hours * best) / sum(case when measured then hours end) as efficiency
from (
    select weeks.week, weeks.begin,
           jobs.cores * (min(jobs.end, weeks.after) - max(jobs.start, weeks.begin)) / 3600.0 as hours,
           seen.job_id is not null as measured,
           coalesce(seen.cpu_mean / 100, 0) as cpu,
           coalesce(max(seen.cpu_mean / 100, coalesce(seen.mem_peak / seen.mem_limit, 0)), 0) as best
    from accounting.jobs as jobs
    cross join temp.weeks as weeks
        on weeks.begin > jobs.start - {LONGEST_S} and weeks.begin < jobs.end and weeks.after > jobs.start
    left join main.jobs as seen
        on seen.cluster = jobs.cluster and seen.job_id = jobs.job_id and seen.start = jobs.start
    where jobs.proj_id = ? and jobs.end > jobs.start
) as weeks
group by weeks.week, weeks.begin
order by weeks.begin
"""


def weeks(config: Config, project: str, since: str = "", until: str = "") -> list[dict[str, Any]]:
    """What a project booked and used, by ISO week.

    Parameters
    ----------
    config
        Of the site.
    project
        Its name.
    since, until
        ISO dates within the first and last week; by default those of the project's jobs.

    Returns
    -------
    list of dict
        ``week``, ``booked`` (core hours), ``measured`` (those of jobs with samples), ``used`` (measured core hours x
        cpu_mean) and ``efficiency`` (of measured jobs, the larger share of cores and memory, weighted by core hours;
        None where nothing was measured). Weeks without jobs between others are there too.

    Raises
    ------
    JobeffError
        The project has no job.
    """
    connection = tables.read_database(tables.database(config.root, "efficiency"), "efficiency")
    with contextlib.closing(connection):
        accounting = tables.database(config.root, "accounting").absolute()
        tables.read_database(accounting, "accounting").close()  # tells what is wrong with it
        connection.execute("attach ? as accounting", (f"{accounting.as_uri()}?mode=ro",))
        connection.row_factory = sqlite3.Row
        span = connection.execute(
            "select min(start) as first, max(end) as last from accounting.jobs where proj_id = ? and end > start",
            (project,),
        ).fetchone()
        if span["first"] is None:
            raise JobeffError(
                f"accounting knows no job of project {shown(project)} that ran",
                todo="'jobeff report project' shows the projects that have some",
            )
        clock = config.clock
        first = with_jobs(date.fromisoformat(since or clock.day(span["first"])))
        last = with_jobs(date.fromisoformat(until or clock.day(span["last"] - 1)))
        connection.execute("create temp table weeks (begin integer primary key, after integer, week text)")
        connection.executemany("insert into temp.weeks values (?, ?, ?)", _weeks(first, last, clock))
        found = {row["week"]: dict(row) for row in connection.execute(WEEKS, (project,))}
        nothing = {"booked": 0.0, "measured": 0.0, "used": 0.0, "efficiency": None}
        return [
            found.get(week, {"week": week, **nothing})
            for (week,) in connection.execute("select week from temp.weeks order by begin")
        ]


def _weeks(first: date, last: date, clock: Clock) -> Iterator[tuple[int, int, str]]:
    monday = first - timedelta(days=first.weekday())
    while monday <= last:
        yield clock.day_begin(monday), clock.day_begin(monday + WEEK), iso_week(monday.isoformat())
        monday += WEEK


def plot(project: str, rows: Sequence[dict[str, Any]], form: str) -> bytes:
    """Plot a project's weeks.

    Parameters
    ----------
    project
        Its name.
    rows
        From `weeks`.
    form
        ``png`` or ``svg``.

    Returns
    -------
    bytes
        Of the file.

    Raises
    ------
    JobeffError
        There is no matplotlib.
    """
    with styled():
        from matplotlib.figure import Figure  # noqa: PLC0415  (an extra)

        width = min(16.0, max(7.5, 2.5 + 0.16 * len(rows)))
        figure = Figure(figsize=(width, 4.8), dpi=DPI)
        axis = figure.subplots()
        figure.subplots_adjust(left=0.85 / width, right=1 - 0.85 / width, top=0.83, bottom=0.27)
        places = range(len(rows))
        for name, color, hatch in (("booked", "#FFFFFF", "////"), ("measured", SKY, None), ("used", BLUE, None)):
            label = {"booked": "booked, not measured", "measured": "measured, not used", "used": "used by cores"}[name]
            look: dict[str, Any] = {"color": color, "edgecolor": GREY, "linewidth": 0.5, "hatch": hatch}
            axis.bar(places, [row[name] for row in rows], width=0.85, label=label, **look)
        axis.set_ylabel("core hours in the week")
        axis.set_xlim(-0.7, len(rows) - 0.3)
        axis.grid(False, axis="x")
        every = -(-len(rows) // max(1, int(width * 2.4)))
        axis.set_xticks(list(places)[::every], [row["week"] for row in rows][::every], rotation=60, ha="right")
        share = axis.twinx()
        share.grid(False)
        known = [(place, 100 * row["efficiency"]) for place, row in enumerate(rows) if row["efficiency"] is not None]
        parts = [float("nan") if row["efficiency"] is None else 100 * row["efficiency"] for row in rows]
        share.plot(places, parts, color=VERMILLION, marker="o", markersize=3, linewidth=1, label="efficiency")
        share.set_ylim(0, max([100, *(value for _, value in known)]) * 1.05)
        share.set_ylabel("efficiency, %")
        booked, used = sum(row["booked"] for row in rows), sum(row["used"] for row in rows)
        title = f"project {cut(project, int(6 * width))}: {rows[0]['week']} to {rows[-1]['week']}" if rows else project
        figure.text(0.3 / width, 0.975, title, fontsize=12, fontweight="bold", va="top")
        figure.text(
            0.3 / width,
            0.915,
            f"{booked:,.0f} core hours booked, {used:,.0f} used by cores; "
            "efficiency: the larger share of cores and memory",
            va="top",
            color=BLACK,
        )
        handles = [*axis.get_legend_handles_labels()[0], *share.get_legend_handles_labels()[0]]
        figure.legend(handles=handles, loc="lower center", ncols=4, frameon=False, fontsize=8.5)
        return rendered(figure, form)
