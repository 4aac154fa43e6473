"""What is known of each current project, in one row: people, storage, core hours, efficiency."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from datetime import date, timedelta
from typing import Any

from jobeff.steps.site import Site, StepResult
from jobeff.store import tables
from jobeff.store.sqlite import atomic, mark_updated

WEEKS = 26
"""A project is current for so long after it last used core hours."""

SPANS = {"1w": 7, "1m": 30, "6m": 7 * WEEKS}
"""Days that end with today."""

GROWTH_DAYS = 30

PROJECTS = "select start as start_date, end as end_date, pi, deputy, technical, type, members, active"
GENERAL = ("start_date", "end_date", "pi", "deputy", "technical", "type", "members", "active")
STORAGE = ("date", "usage", "quota", "noback_usage", "noback_quota", "inbox")

# Of a job the larger of its share of the cores and of the memory. Grouped in the order of the index, nothing is sorted;
# looking up each row is what takes the time.
WEIGHT = "cores * 1.0 * (end - start)"
EFFICIENCY = f"""
select cluster, date_finished, sum({WEIGHT}),
       sum({WEIGHT} * max(cpu_mean / 100, coalesce(mem_peak / mem_limit, 0)))
from jobs where proj_id = :proj_id and date_finished between :from_6m and :today
group by date_finished, cluster
"""


PUT = "insert or replace into current_projects values (?, ?, ?)"


def write(site: Site, result: StepResult) -> None:
    """Bring the table of current projects up to date: those active, and those with core hours in the last 26 weeks.

    Parameters
    ----------
    site
        Where to work; the caller holds the lock.
    result
        Rows are counted in it.
    """
    connection = tables.open_database(tables.database(site.root, "current_projects"), "current_projects")
    with contextlib.closing(connection), contextlib.ExitStack() as stack:
        sources = _Sources(site, stack)
        now = " ".join(site.config.clock.now())
        with atomic(connection):
            old = dict(connection.execute("select proj_id, data from current_projects"))
            current = sources.current()
            with site.progress.task("current projects", len(current), "projects") as advance:
                for proj_id in current:
                    data = json.dumps(sources.project(proj_id), ensure_ascii=False)
                    before = old.pop(proj_id, None)
                    result.count("projects")
                    result.count("unchanged" if data == before else "new" if before is None else "changed")
                    if data != before:
                        connection.execute(PUT, (proj_id, data, now))
                    advance(1)
            connection.executemany("delete from current_projects where proj_id = ?", ((gone,) for gone in old))
            result.count("removed", len(old))
            mark_updated(connection, "current_projects", site.config.clock)


class _Sources:
    """Where the numbers come from; a database that is not there yet knows nothing of any project."""

    def __init__(self, site: Site, stack: contextlib.ExitStack) -> None:
        names = ("projects", "storage_history", "corehour_usage", "corehour_history", "efficiency")
        self._databases = {name: _open(site, name, stack) for name in names}
        self._today = site.config.today
        self._days = {"today": self._today.isoformat()}
        for span, days in SPANS.items():
            self._days[f"from_{span}"] = (self._today - timedelta(days - 1)).isoformat()

    def _rows(self, name: str, query: str, proj_id: str = "", **more: str) -> list[tuple[Any, ...]]:
        database = self._databases[name]
        return database.execute(query, {"proj_id": proj_id, **self._days, **more}).fetchall() if database else []

    def current(self) -> list[str]:
        active = self._rows("projects", "select proj_id from projects where active = 'Y'")
        query = "select distinct proj_id from corehour_daily where date between :from_6m and :today"
        return sorted({proj_id for (proj_id,) in (*active, *self._rows("corehour_usage", query))})

    def project(self, proj_id: str) -> dict[str, Any]:
        rows = self._rows("projects", f"{PROJECTS} from projects where proj_id = :proj_id", proj_id)
        return {
            "general": dict(zip(GENERAL, rows[0] if rows else [None] * len(GENERAL), strict=True)),
            "storage": self._storage(proj_id),
            "corehour": self._corehours(proj_id),
        }

    def _storage(self, proj_id: str) -> dict[str, Any]:
        """Newest storage, and what it has more than the newest at least 30 days older."""
        query = (
            f"select {', '.join(STORAGE)} from storage_history where proj_id = :proj_id and date <= :until "
            "order by date desc limit 1"
        )
        found = self._rows("storage_history", query, proj_id, until=self._days["today"])
        newest = dict(zip(STORAGE, found[0] if found else [None] * len(STORAGE), strict=True))
        older: dict[str, Any] = {}
        if found:
            until = (date.fromisoformat(newest["date"]) - timedelta(GROWTH_DAYS)).isoformat()
            for row in self._rows("storage_history", query, proj_id, until=until):
                older = dict(zip(STORAGE, row, strict=True))
        for growth, usage in (("growth", "usage"), ("noback_growth", "noback_usage")):
            now, then = newest[usage], older.get(usage)
            newest[growth] = None if now is None or then is None else now - then
        return newest

    def _corehours(self, proj_id: str) -> dict[str, dict[str, Any]]:
        """By cluster, of those with a core hour or a grant in the last 26 weeks."""
        daily: dict[str, dict[int, int]] = {}
        query = """select cluster, date, core_s from corehour_daily
                   where proj_id = :proj_id and date between :from_6m and :today"""
        for cluster, day, core_s in self._rows("corehour_usage", query, proj_id):
            daily.setdefault(cluster, {})[self._ago(day)] = core_s
        history: dict[str, list[tuple[Any, ...]]] = {}
        query = """select cluster, date, grant, "30day_usage", loaded from corehour_history
                   where proj_id = :proj_id and date between :from_6m and :today order by date desc"""
        for cluster, *row in self._rows("corehour_history", query, proj_id):
            history.setdefault(cluster, []).append(tuple(row))
        measured: dict[str, list[tuple[int, float, float]]] = {}
        for cluster, day, weight, used in self._rows("efficiency", EFFICIENCY, proj_id):
            measured.setdefault(cluster, []).append((self._ago(day), weight, used))
        return {
            cluster: {
                "allocation": next((grant for _, grant, _, _ in history.get(cluster, []) if grant is not None), None),
                "30day_usage": self._month(history.get(cluster, [])),
                **{
                    f"{span}usage": sum(core_s for ago, core_s in daily.get(cluster, {}).items() if ago < days) / 3600
                    for span, days in SPANS.items()
                },
                **{f"{span}efficiency": _mean(measured.get(cluster, []), days) for span, days in SPANS.items()},
                "6mactivity": len({ago // 7 for ago in daily.get(cluster, {})}),
                "last_job_date": self._last_day(proj_id, cluster),
            }
            for cluster in sorted({*daily, *history})
        }

    def _ago(self, day: str) -> int:
        return (self._today - date.fromisoformat(day)).days

    def _month(self, rows: list[tuple[Any, ...]]) -> float | None:
        """30-day usage of the newest row; where that is a derived one of an earlier day, nothing was used since."""
        if not rows:
            return None
        day, _, used, loaded = rows[0]
        return used if loaded or day == self._days["today"] else 0.0

    def _last_day(self, proj_id: str, cluster: str) -> str | None:
        """The last day on which a job ran."""
        query = """select date from corehour_daily where proj_id = :proj_id and date <= :today and cluster = :cluster
                   order by date desc limit 1"""
        return next((day for (day,) in self._rows("corehour_usage", query, proj_id, cluster=cluster)), None)


def _mean(measured: list[tuple[int, float, float]], days: int) -> float | None:
    """Mean efficiency of so many days; None where jobs were not measured, or took no time."""
    weight = sum(weight for ago, weight, _ in measured if ago < days)
    return sum(used for ago, _, used in measured if ago < days) / weight if weight else None


def _open(site: Site, name: str, stack: contextlib.ExitStack) -> sqlite3.Connection | None:
    """A database for reading, within a transaction; None where there is nothing in it yet."""
    database = tables.read_if_there(tables.database(site.root, name), name)
    if database is not None:
        stack.enter_context(contextlib.closing(database)).execute("begin")
    return database
