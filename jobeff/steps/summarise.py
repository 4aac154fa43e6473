"""summarise: core hours by day, week and month, their history, the current projects, and what reports read."""

from __future__ import annotations

from contextlib import closing

from jobeff.errors import JobeffError, LockedError, SourceError
from jobeff.sources import grants
from jobeff.steps import columns, corehour_history, corehours, current_projects
from jobeff.steps.site import Site, StepResult, timed
from jobeff.store import tables
from jobeff.store.locks import lock
from jobeff.store.sqlite import NoDatabaseError

COUNTS = (
    "jobs", "taken back", "days", "months", "weeks", "history rows",
    "projects", "new", "changed", "unchanged", "removed",
)  # fmt: skip


def summarise(site: Site, everything: bool = False) -> StepResult:
    """Bring core hours, their history, the current projects and the columns for reports up to date.

    Parameters
    ----------
    site
        Where to work.
    everything
        Count all of accounting again, instead of what is new in it.

    Returns
    -------
    StepResult
        Jobs counted and taken back; rows of days, months, weeks and history written or removed; current projects.
        Grants set aside.

    Raises
    ------
    JobeffError
        There is no accounting database.
    """
    with timed("summarise", *COUNTS) as result:
        granted = _grants(site, result)
        with lock(site.root, "corehour_usage"), closing(corehours.open_accounting(site)) as accounting:
            path = tables.database(site.root, "corehour_usage")
            with closing(tables.open_database(path, "corehour_usage")) as usage:
                corehours.count(site, accounting, usage, result, everything)
                accounting.rollback()  # the history does not need it, and who loads it waits
                with lock(site.root, "corehour_history"):
                    path = tables.database(site.root, "corehour_history")
                    with closing(tables.open_database(path, "corehour_history")) as history:
                        corehour_history.derive(site, usage, history, granted, result, everything)
        with lock(site.root, "current_projects"):
            current_projects.write(site, result)
        if tables.database(site.root, "efficiency").is_file():
            _refresh_columns(site, result)
    return result


def _refresh_columns(site: Site, result: StepResult) -> None:
    """Have the columns for reports ready in the morning; else the first report makes them."""
    try:
        columns.refresh(site.config, site.progress)
    except (LockedError, NoDatabaseError):  # a report is making them; or nothing has been computed yet
        pass
    except JobeffError as error:
        result.aside.add("columns for reports", str(tables.database(site.root, "efficiency")), str(error))


def _grants(site: Site, result: StepResult) -> dict[str, dict[str, float]]:
    """Today's grants by cluster; without those of a cluster whose file cannot be read."""
    found = {}
    for cluster in site.config.clusters.values():
        if cluster.grants is not None:
            try:
                found[cluster.name] = grants.read(cluster.grants, result.aside)
            except SourceError as error:
                result.aside.add("source", str(cluster.grants), str(error))
    return found
