"""The core-hour history: what each project could use and has used on a cluster, day by day."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import lru_cache

from jobeff.steps.site import Site, StepResult
from jobeff.store.sqlite import atomic, identity, mark_updated

WINDOW_DAYS = 30

Pair = tuple[str, str]
"""Project and cluster."""

Grants = Mapping[str, Mapping[str, float]]
"""Core hours per 30 days by cluster and project, of the clusters whose grant file could be read."""

_iso = lru_cache(maxsize=65_536)(lambda day: date.fromordinal(day).isoformat())
_ordinal = lru_cache(maxsize=65_536)(lambda day: date.fromisoformat(day).toordinal())


@dataclass
class _State:
    """How far the history is derived: from which core-hour database, up to which touched day, until which day."""

    usage: int
    touched: int
    date: str


def derive(
    site: Site,
    usage: sqlite3.Connection,
    history: sqlite3.Connection,
    grants: Grants,
    result: StepResult,
    everything: bool,
) -> None:
    """Bring the history up to date with the days of the core-hour database.

    A day has a row where core hours were used in the 30 days that end with it, or a grant was recorded on it. Grants
    are those of the day of the run; what was recorded on earlier days is kept. Rows of a site's own file are left
    alone.

    Parameters
    ----------
    site
        Where to work.
    usage, history
        Databases, open for writing.
    grants
        Of today.
    result
        Rows written or removed are counted in it.
    everything
        Derive all days.
    """
    today = site.config.today
    reached = _State(
        identity(usage),
        usage.execute("select coalesce(max(seq), 0) from sqlite_sequence where name = 'touched'").fetchone()[0],
        today.isoformat(),
    )
    row = history.execute("select usage, touched, date from reached").fetchone()
    before = _State(*row) if row else None
    if everything or before is None or not _follows(usage, before, reached):
        begins = dict.fromkeys(_all_pairs(usage, history), 1)
        before = None
    else:
        begins = _pending(usage, before, today)
    for cluster, granted in grants.items():
        rows = history.execute(
            "select proj_id from corehour_history where cluster = ? and date = ?", (cluster, reached.date)
        )
        for proj_id in {*granted, *(proj_id for (proj_id,) in rows)}:
            begins[proj_id, cluster] = min(begins.get((proj_id, cluster), date.max.toordinal()), today.toordinal())
    with atomic(history):
        if before is None:
            result.count(
                "history rows",
                history.execute("delete from corehour_history where date > ? and loaded = 0", (reached.date,)).rowcount,
            )
        with site.progress.task("core-hour history", len(begins), "projects") as advance:
            for pair, begin in sorted(begins.items()):
                # A grant file that cannot be read does not take back what it said earlier today.
                grant = (grants[pair[1]].get(pair[0]),) if pair[1] in grants else None
                result.count("history rows", _derive(usage, history, pair, begin, today.toordinal(), grant))
                advance(1)
        history.execute("delete from reached")
        history.execute("insert into reached values (?, ?, ?)", (reached.usage, reached.touched, reached.date))
        mark_updated(history, "corehour_history", site.config.clock)
    with atomic(usage):
        usage.execute("delete from touched where id <= ?", (reached.touched,))


def _follows(usage: sqlite3.Connection, before: _State, now: _State) -> bool:
    """Whether all that was touched since is still known, and no day has to be unsaid."""
    (kept,) = usage.execute("select count(*) from touched where id > ?", (before.touched,)).fetchone()
    return before.usage == now.usage and kept == now.touched - before.touched and before.date <= now.date


def _all_pairs(usage: sqlite3.Connection, history: sqlite3.Connection) -> set[Pair]:
    return {
        *usage.execute("select distinct proj_id, cluster from corehour_daily"),
        *history.execute("select distinct proj_id, cluster from corehour_history where loaded = 0"),
    }


def _pending(usage: sqlite3.Connection, before: _State, today: date) -> dict[Pair, int]:
    """First day to derive again, by project and cluster: those touched, and those whose days have gone on."""
    begins: dict[Pair, int] = {}
    done = _ordinal(before.date)
    if done < today.toordinal():
        rows = usage.execute(
            "select distinct proj_id, cluster from corehour_daily where date between ? and ?",
            (_iso(max(1, done + 2 - WINDOW_DAYS)), today.isoformat()),
        )
        begins = dict.fromkeys(rows, done + 1)
    for proj_id, cluster, first in usage.execute(
        "select proj_id, cluster, min(date) from touched where id > ? group by proj_id, cluster", (before.touched,)
    ):
        begins[proj_id, cluster] = min(begins.get((proj_id, cluster), date.max.toordinal()), _ordinal(first))
    return begins


def _derive(
    usage: sqlite3.Connection,
    history: sqlite3.Connection,
    pair: Pair,
    begin: int,
    today: int,
    grant: tuple[float | None] | None,
) -> int:
    """Write the rows of a pair from a day on, where they differ; gives how many did."""
    key = (pair[0], _iso(begin), _iso(today), pair[1])
    rows = history.execute(
        """select date, grant, "30day_usage", loaded from corehour_history
           where proj_id = ? and date between ? and ? and cluster = ?""",
        key,
    ).fetchall()
    old = {_ordinal(day): (granted, used) for day, granted, used, loaded in rows if not loaded}
    own = {_ordinal(day) for day, _, _, loaded in rows if loaded}
    days = usage.execute(
        "select date, core_s from corehour_daily where proj_id = ? and date between ? and ? and cluster = ?",
        (pair[0], _iso(max(1, begin + 1 - WINDOW_DAYS)), *key[2:]),
    )
    used = windows({_ordinal(day): core_s for day, core_s in days}, begin, today)
    written, removed = [], []
    for day in ({today, *used, *old} if grant else {*used, *old}) - own:
        granted = grant[0] if grant and day == today else old.get(day, (None,))[0]
        row = (granted, used.get(day, 0) / 3600)
        if row == (None, 0):
            if day in old:
                removed.append((pair[0], _iso(day), pair[1]))
        elif row != old.get(day):
            written.append((pair[0], _iso(day), pair[1], *row))
    history.executemany(
        """insert or replace into corehour_history (proj_id, date, cluster, grant, "30day_usage", loaded)
           values (?, ?, ?, ?, ?, 0)""",
        written,
    )
    history.executemany("delete from corehour_history where proj_id = ? and date = ? and cluster = ?", removed)
    return len(written) + len(removed)


def windows(seconds: Mapping[int, int], first: int, last: int) -> dict[int, int]:
    """Sum days over the 30 days that end with each.

    Parameters
    ----------
    seconds
        Core seconds by day, none of them 0; days are numbers.
    first, last
        Days that are asked for.

    Returns
    -------
    dict
        Core seconds by day, of the days that have any.
    """
    days = sorted(seconds)
    found: dict[int, int] = {}
    total = oldest = 0
    for number, begin in enumerate(days):
        total += seconds[begin]
        following = days[number + 1] if number + 1 < len(days) else last + 1
        for day in range(begin, min(following, begin + WINDOW_DAYS, last + 1)):
            while days[oldest] <= day - WINDOW_DAYS:
                total -= seconds[days[oldest]]
                oldest += 1
            if day >= first:
                found[day] = total
    return found
