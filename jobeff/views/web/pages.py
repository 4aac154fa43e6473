"""What stands on the pages of the site, of a project and of a user: tables and trends of reports.

Jobs are read once per page, and all its tables are made of them. They count on the day, and in the week, in which they
ended, as in all reports.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

import numpy as np

from jobeff.config import Config
from jobeff.errors import ConfigError
from jobeff.progress import QUIET, Progress
from jobeff.steps import columns
from jobeff.store import tables
from jobeff.views import report, report_jobs, report_select, report_sums
from jobeff.views.anonymous import Anonymous
from jobeff.views.report import Ask
from jobeff.views.report_select import Part, Selection
from jobeff.views.web import chart, recent, render
from jobeff.views.web.render import Links

DAYS, WEEKS = 30, 26
LINES, JOBS = 20, 20
NAMES = list(dict.fromkeys([*report_sums.COLUMNS, *report_jobs.NAMES, *recent.NAMES]))
TREND_NAMES = [*report_sums.COLUMNS, "day"]


@dataclass(frozen=True)
class Period:
    """Days of tables, and of the trend that ends with them.

    Attributes
    ----------
    since, until
        First and last day of tables.
    trend
        First day of the trend, a Monday.
    """

    since: date
    until: date
    trend: date

    @property
    def words(self) -> str:
        """For a heading."""
        return f"{self.since} to {self.until}"


@dataclass
class Jobs:
    """Jobs that have been read.

    Attributes
    ----------
    period
        Their days.
    tables, trend
        Month by month: of the period, with all columns; of the weeks of the trend, with those for sums.
    """

    period: Period
    tables: list[Part] = field(default_factory=list)
    trend: list[Part] = field(default_factory=list)


def period(config: Config, since: date | None = None, until: date | None = None) -> Period:
    """The days that are asked for.

    Parameters
    ----------
    config
        Of the site.
    since, until
        None: `DAYS` days up to the last one on which a job ended.

    Returns
    -------
    Period
        With `WEEKS` weeks of a trend, or as many as the days have.

    Raises
    ------
    ConfigError
        It begins after its end.
    """
    last = until or min(config.today, newest_day(config) or config.today)
    first = since or last - timedelta(days=DAYS - 1)
    if first > last:
        raise ConfigError("no day is in this time", why=f"it begins on {first}, after its end on {last}")
    monday = last - timedelta(days=last.weekday())
    begin = min(monday - timedelta(weeks=WEEKS - 1), first - timedelta(days=first.weekday()))
    return Period(first, last, begin)


def newest_day(config: Config) -> date | None:
    """The last day on which a job ended; None where none is known."""
    connection = tables.read_database(tables.database(config.root, "accounting"), "accounting")
    with contextlib.closing(connection):
        found: list[str] = []
        for cluster in {cluster for cluster, _ in columns.keys(config)}:
            found += connection.execute("select max(date) from jobs where cluster = ?", (cluster,)).fetchone()
        return date.fromisoformat(max(found)) if found else None


def read(
    config: Config, when: Period, progress: Progress = QUIET, also: tuple[str, ...] = (), **of: tuple[str, ...]
) -> Jobs:
    """Read jobs.

    Parameters
    ----------
    config, when
        Of the site; the days.
    progress
        Of making columns ready first.
    also
        More columns of the trend.
    of
        ``projects`` or ``users``, as for `Selection`.

    Returns
    -------
    Jobs
        None where those named have none in these days.
    """
    found = Jobs(when)
    for days, names, into in (
        (when.trend, [*TREND_NAMES, *also], found.trend), (when.since, NAMES, found.tables),
    ):  # fmt: skip
        with contextlib.suppress(ConfigError):  # it says that a name has no job in this time; then there is nothing
            into.extend(report_select.parts(config, Selection(days, when.until, **of), names, progress))
    return found


def divided(jobs: Jobs, name: str) -> Iterator[tuple[str, Jobs]]:
    """Jobs of each project.

    Parameters
    ----------
    jobs
        From `read`; the trend too has to have the column.
    name
        Column of text.

    Yields
    ------
    tuple
        Its value, and its jobs.
    """
    found: dict[str, Jobs] = {}
    for parts, which in ((jobs.tables, "tables"), (jobs.trend, "trend")):
        for part in parts:
            texts, code = part.texts(name).to_pylist(), part.numbers(name)
            order = np.argsort(code, kind="stable")
            begins = np.flatnonzero(np.diff(code[order], prepend=-1))
            for begin, end in zip(begins, np.append(begins[1:], len(order)), strict=True):
                value = texts[code[order[begin]]]
                getattr(found.setdefault(value, Jobs(jobs.period)), which).append(part.at(order[begin:end]))
    yield from sorted(found.items())


class Maker:
    """Makes the tables of one page.

    Parameters
    ----------
    config, jobs, links
        Of the site; what has been read; to other pages.
    anonymous
        Turns names; None to show them.
    """

    def __init__(self, config: Config, jobs: Jobs, links: Links, anonymous: Anonymous | None = None) -> None:
        self.config, self.jobs, self.links, self.anonymous = config, jobs, links, anonymous
        self.selection = Selection(jobs.period.since, jobs.period.until)

    def group(self, group: report.Group, title: str, limit: int | None = LINES) -> dict[str, Any]:
        """A line per project, user, ..."""
        ask = Ask(self.selection, limit=limit, anonymous=self.anonymous)
        found = report.of_parts(self.config, self.jobs.tables, group, ask)
        return {"title": title, **render.table(found, self.links, total=group != "cluster" or found.data.num_rows > 1)}

    def wasted(self, skip: Sequence[str] = (), limit: int = JOBS) -> dict[str, Any]:
        """The jobs that waste most."""
        ask = Ask(self.selection, limit=limit, anonymous=self.anonymous)
        found = report_jobs.of_parts(self.config, self.jobs.tables, ask)
        return {"title": "Jobs that wasted most core hours", **render.table(found, self.links, skip, total=False)}

    def newest(self, skip: Sequence[str] = (), limit: int = JOBS) -> dict[str, Any]:
        """The jobs that ended last."""
        found = recent.newest(self.config, self.jobs.tables, limit)
        return {"title": "Jobs that ended last", **render.table(found, self.links, skip)}

    def trend(self) -> dict[str, Any]:
        """Core hours by week."""
        ask = Ask(Selection(self.jobs.period.trend, self.jobs.period.until), "week")
        return chart.weeks(report.of_parts(self.config, self.jobs.trend, "cluster", ask))

    def sums(self) -> dict[str, Any]:
        """Of all jobs of the period, for the head of a page."""
        found = report.of_parts(self.config, self.jobs.tables, "cluster", Ask(self.selection))
        return dict(found.total) if found.data.num_rows else {}


def totals(sums: dict[str, Any]) -> list[tuple[str, str]]:
    """The few numbers at the head of a page.

    Parameters
    ----------
    sums
        From `Maker.sums`.

    Returns
    -------
    list of tuple
        What it is, and how much.
    """
    if not sums:
        return [("jobs ended", "0")]
    measured = 100 * sums["measured_core_hours"] / sums["core_hours"] if sums["core_hours"] else None
    efficiency = sums.get("efficiency_pct")
    return [
        ("jobs ended", f"{sums['jobs']:,.0f}"),
        ("core hours booked", f"{sums['core_hours']:,.0f}"),
        ("of them measured", "-" if measured is None else f"{measured:.0f} %"),
        ("efficiency of those", "-" if efficiency is None else f"{efficiency:.0f} %"),
        ("core hours wasted", f"{sums['wasted_core_hours']:,.0f}"),
    ]


def updates(config: Config) -> list[tuple[str, str]]:
    """When each table was last brought up to date.

    Parameters
    ----------
    config
        Of the site.

    Returns
    -------
    list of tuple
        Table, and local date and time; tables that are missing too.
    """
    found: dict[str, str] = {}
    for name in tables.SCHEMAS:
        path = tables.database(config.root, name)
        if name == "collected" or not path.is_file():
            continue
        connection = tables.read_database(path, name)
        with (
            contextlib.closing(connection),
            contextlib.suppress(sqlite3.OperationalError),
        ):  # an import has no such table
            for kind, day, time in connection.execute("select type, date, time from last_updated"):
                found[f"{name}/{kind}" if kind != name else name] = f"{day} {time}"
    return sorted(found.items())


def about_project(config: Config, name: str) -> list[tuple[str, str]]:
    """What the site says of a project.

    Parameters
    ----------
    config
        Of the site.
    name
        The project.

    Returns
    -------
    list of tuple
        What it is about, and what is known; empty where the project is in no database.
    """
    rows = {which: _row(config, which, name) for which in ("projects", "current_projects")}
    found = []
    known = rows["projects"]
    if known:
        ended = "" if known["active"] == "Y" else ", not active"
        found += [
            ("principal investigator", known["pi"]),
            ("deputy", known["deputy"]),
            ("technical contact", known["technical"]),
            ("members", known["members"]),
            ("runs", f"{known['start'] or '?'} to {known['end'] or '?'}{ended}"),
        ]
    current = json.loads(rows["current_projects"]["data"]) if rows["current_projects"] else {}
    for cluster, about in sorted(current.get("corehour", {}).items()):
        grant = about.get("allocation")
        of = f" of {grant:,.0f} granted" if grant is not None else ", no grant is known"
        found.append((f"30 days on {cluster}", f"{about.get('30day_usage') or 0:,.0f} core hours{of}"))
    return [(name, render.plain(str(value), 1000)) for name, value in found if value]


def _row(config: Config, name: str, project: str) -> dict[str, Any] | None:
    path = tables.database(config.root, name)
    if not path.is_file():
        return None
    connection = tables.read_database(path, name)
    with contextlib.closing(connection):
        connection.row_factory = sqlite3.Row
        row = connection.execute(f"select * from {name} where proj_id = ?", (project,)).fetchone()
        return dict(row) if row else None


def _head(config: Config, maker: Maker, when: Period) -> dict[str, Any]:
    return {"period": when, "totals": totals(maker.sums()), "weeks": maker.trend(), "zone": config.clock.zone.key}


def start(config: Config, jobs: Jobs, links: Links, anonymous: Anonymous | None = None) -> dict[str, Any]:
    """The first page, with all there is.

    Parameters
    ----------
    config, jobs, links
        Of the site; what has been read; to other pages.
    anonymous
        Turns names; None to show them.

    Returns
    -------
    dict
        For the template.
    """
    maker = Maker(config, jobs, links, anonymous)
    shown = [maker.group("cluster", "Clusters", None), maker.group("project", "Projects"), maker.group("user", "Users")]
    for table in shown[:-1]:
        table["notes"] = table["notes"][1:]  # what columns mean stands below the last of them
    return _head(config, maker, jobs.period) | {
        "title": "Jobs and what they used",
        "tables": [*shown, maker.wasted()],
        "updates": updates(config),
        "projects": [],
        "mine": "",
        "more": links.table("accounting", "jobs"),
    }


def own(config: Config, viewer: Any, jobs: Jobs, links: Links) -> dict[str, Any]:
    """The first page of somebody who sees their own alone.

    Parameters
    ----------
    config, jobs, links
        As for `start`; their own jobs.
    viewer
        Who looks.

    Returns
    -------
    dict
        For the template.
    """
    maker = Maker(config, jobs, links)
    shown = [maker.group("project", "Your jobs by project"), maker.newest(("user",)), maker.wasted(("user",))]
    return _head(config, maker, jobs.period) | {
        "title": "Your jobs and what they used",
        "tables": shown,
        "updates": updates(config),
        "projects": [(render.plain(name), links.project(name)) for name in sorted(viewer.projects)],
        "mine": links.user(viewer.name) or "",
        "more": None,
    }


def group(
    config: Config, what: str, name: str, jobs: Jobs, links: Links, anonymous: Anonymous | None = None
) -> dict[str, Any]:
    """The page of a project or of a user.

    Parameters
    ----------
    config, jobs, links, anonymous
        As for `start`.
    what
        ``project`` or ``user``.
    name
        Its name.

    Returns
    -------
    dict
        For the template.
    """
    maker = Maker(config, jobs, links, anonymous)
    skip = (what,)
    clusters = maker.group("cluster", "Clusters", None)
    other = maker.group("user", "Users") if what == "project" else maker.group("project", "Projects")
    shown = [*([clusters] if len(clusters["rows"]) > 1 else []), other, maker.group("state", "How jobs ended")]
    shown += [maker.wasted(skip)] if anonymous else [maker.newest(skip), maker.wasted(skip)]
    for table in shown[: shown.index(next(one for one in shown if one["title"] == "How jobs ended"))]:
        table["notes"] = table["notes"][1:]
    column = "proj_id" if what == "project" else "user"
    return _head(config, maker, jobs.period) | {
        "what": what,
        "name": anonymous.name(what, name) if anonymous else render.plain(name),
        "about": about_project(config, name) if what == "project" and not anonymous else [],
        "tables": shown,
        "more": links.table("accounting", "jobs", **{column: name}),
    }
