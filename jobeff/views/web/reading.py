"""The jobs that a page is of: read once, for all its tables and its trend.

They count on the day, and in the week, in which they ended, as in all reports.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta

import numpy as np

from jobeff.clock import with_jobs
from jobeff.config import Config
from jobeff.errors import ConfigError
from jobeff.progress import QUIET, Progress
from jobeff.steps import columns
from jobeff.store import tables
from jobeff.views import report_jobs, report_select, report_sums
from jobeff.views.report_select import Part, Selection
from jobeff.views.web import recent

DAYS, WEEKS = 30, 26
NAMES = list(dict.fromkeys([*report_sums.COLUMNS, *report_jobs.NAMES, *recent.NAMES]))


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
    tables
        Month by month, those of the period.
    trend
        Month by month, what those of the weeks of the trend add up to by day, project and user.
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
    last = with_jobs(until or min(config.today, newest_day(config) or config.today))
    first = with_jobs(since) if since else last - timedelta(days=DAYS - 1)
    if first > last:
        why, todo = f"it begins on {first}, after its end on {last}", "Say an earlier --since, or a later --until"
        raise ConfigError("no day is in this time", why=why, todo=todo)
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


def read(config: Config, when: Period, progress: Progress = QUIET, **of: tuple[str, ...]) -> Jobs:
    """Read jobs.

    Parameters
    ----------
    config, when
        Of the site; the days.
    progress
        Of making columns ready first.
    of
        ``projects`` or ``users``, as for `Selection`.

    Returns
    -------
    Jobs
        None where those named have none in these days.
    """
    found = Jobs(when)
    chosen, weeks = (Selection(since, when.until, **of) for since in (when.since, when.trend))
    with contextlib.suppress(ConfigError):  # it says that a name has no job in this time; then there is nothing
        found.trend.extend(report_select.days(config, weeks, progress))
        found.tables.extend(report_select.parts(config, chosen, NAMES, progress))
    return found


def divided(jobs: Jobs, name: str) -> Iterator[tuple[str, Jobs]]:
    """Jobs of each project.

    Parameters
    ----------
    jobs
        From `read`.
    name
        ``project`` or ``user``.

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
