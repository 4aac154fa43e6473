"""What stands on the pages of the site, of a project and of a user: tables and trends of reports."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from jobeff.config import Config
from jobeff.views import report, report_jobs
from jobeff.views.anonymous import Anonymous
from jobeff.views.report import Ask
from jobeff.views.report_select import Selection
from jobeff.views.tables import Table
from jobeff.views.web import about, recent, render, trend
from jobeff.views.web.reading import Jobs, Period
from jobeff.views.web.render import Links

LINES, JOBS = 20, 20
LATER = "A job is shown once it has ended and the next nightly update has loaded it."


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
        found = self._clusters if group == "cluster" else report.of_parts(self.config, self.jobs.tables, group, ask)
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
        return trend.bars(trend.weeks(self.jobs.trend))

    def sums(self) -> dict[str, Any]:
        """Of all jobs of the period, for the head of a page."""
        return dict(self._clusters.total) if self._clusters.data.num_rows else {}

    @cached_property
    def _clusters(self) -> Table:
        ask = Ask(self.selection, anonymous=self.anonymous)
        return report.of_parts(self.config, self.jobs.tables, "cluster", ask)


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


def _head(config: Config, maker: Maker, when: Period, nobody: str) -> dict[str, Any]:
    """What stands above tables; in place of them, where there is nothing, that there is nothing, and what to do."""
    return {
        "period": when,
        "totals": totals(maker.sums()),
        "weeks": maker.trend(),
        "zone": config.clock.zone.key,
        "nothing": "" if maker.jobs.tables else f"{nobody} ended from {when.words}. {_todo(maker.links)}{LATER}",
    }


def _todo(links: Links) -> str:
    return "Choose other days above. " if links.search else ""


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
    return _head(config, maker, jobs.period, "No job") | {
        "title": "Jobs and what they used",
        "tables": [*shown, maker.wasted()],
        "updates": about.updates(config),
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
    return _head(config, maker, jobs.period, "None of your jobs") | {
        "title": "Your jobs and what they used",
        "tables": shown,
        "updates": about.updates(config),
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
    known_as = anonymous.name(what, name) if anonymous else render.plain(name)
    return _head(config, maker, jobs.period, f"No job of {what} {known_as}") | {
        "what": what,
        "name": known_as,
        "about": about.project(config, name) if what == "project" and not anonymous else [],
        "tables": shown,
        "more": links.table("accounting", "jobs", **{column: name}),
    }
