"""Core hours by project, local day, month, week and cluster, kept up as accounting records come and go."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from datetime import date, timedelta
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from jobeff.clock import LAST_EPOCH_S, Clock, iso_week
from jobeff.errors import JobeffError
from jobeff.steps.site import Site, StepResult
from jobeff.store import tables
from jobeff.store.sqlite import atomic, identity, mark_updated

BATCH = 32_768
"""Jobs counted together. So many cannot overflow 64 bits: each has less than 2**31 cores, a day less than 2**17 s."""

CHUNK = 500_000
"""Days of jobs held in memory at one time, about."""

HOURS = "(sum(core_s >> 32) * 4294967296.0 + sum(core_s & 4294967295)) / 3600.0"
"""Core hours of days, in SQL. Exact up to 2**53 core seconds; beyond that it rounds, where a plain sum would fail."""

VERSION = 2
"""Of the accounting database, since when it says what it has replaced."""

KEY = "proj_id, {period}, cluster"

Int64s = npt.NDArray[np.int64]


class Counted(NamedTuple):
    """What days have been counted from.

    Attributes
    ----------
    accounting
        Identity of the accounting database.
    seq, replaced
        Newest record and newest replaced record.
    timezone
        Of the days.
    """

    accounting: int
    seq: int
    replaced: int
    timezone: str


class Jobs(NamedTuple):
    """Some jobs, one row each: pair of project and cluster (a number), epoch seconds, cores (negative: taken back)."""

    pair: Int64s
    start: Int64s
    end: Int64s
    cores: Int64s


class CoreSeconds(NamedTuple):
    """Core seconds of pairs on days, the latter counted from 1970-01-01; a pair's day can stand in several rows."""

    pair: Int64s
    day: Int64s
    core_s: Int64s


class Days:
    """Where the local days of a time zone begin.

    Parameters
    ----------
    clock
        Of the time zone.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._begin = lru_cache(maxsize=65_536)(self._begin_of)

    def _begin_of(self, day: int) -> int:
        try:
            return self._clock.day_begin(date(1970, 1, 1) + timedelta(day))
        except OverflowError:  # after the year 9999
            return LAST_EPOCH_S + 10 * 86_400

    def begins(self, first_s: int, last_s: int) -> tuple[int, Int64s]:
        """Begins of all days that some epochs are in, and more.

        Parameters
        ----------
        first_s, last_s
            The epochs.

        Returns
        -------
        int
            The first of these days, counted from 1970-01-01.
        ndarray of int64
            Begin of each, and of the day after the last.
        """
        # A local day is never further than one day from that of UTC.
        first, last = first_s // 86_400 - 2, last_s // 86_400 + 3
        return first, np.array([self._begin(day) for day in range(first, last + 1)], dtype=np.int64)


def split(jobs: Jobs, days: Days) -> Iterator[CoreSeconds]:
    """Split core seconds of jobs at local midnights, exactly.

    Parameters
    ----------
    jobs
        At most `BATCH`.
    days
        Of the time zone.

    Yields
    ------
    CoreSeconds
        In pieces of bounded size, however long the jobs are. Nothing is 0.
    """
    ran = jobs.end > jobs.start
    if not ran.any():
        return
    pair, start, end, cores = (column[ran] for column in jobs)
    base, begins = days.begins(int(start.min()), int(end.max()))
    first = np.searchsorted(begins, start, side="right") - 1
    last = np.searchsorted(begins, end, side="left") - 1
    several = first < last
    after = np.where(several, begins[first + 1], end)  # end of what lies in the first day
    ending = cores[several] * (end - begins[last])[several]
    yield _summed(np.r_[pair, pair[several]], np.r_[first, last[several]], np.r_[cores * (after - start), ending], base)
    whole = first + 1 < last
    yield from _whole_days(pair[whole], first[whole] + 1, last[whole], cores[whole], base, np.diff(begins))


def _summed(pair: Int64s, day: Int64s, core_s: Int64s, base: int) -> CoreSeconds:
    """One row for each pair and day."""
    order = np.lexsort((day, pair))
    pair, day, core_s = pair[order], day[order], core_s[order]
    new = np.flatnonzero(np.r_[True, (pair[1:] != pair[:-1]) | (day[1:] != day[:-1])])
    return CoreSeconds(pair[new], day[new] + base, np.add.reduceat(core_s, new))


def _whole_days(
    pair: Int64s, first: Int64s, after: Int64s, cores: Int64s, base: int, length: Int64s
) -> Iterator[CoreSeconds]:
    """Days that jobs fill from midnight to midnight: from `first`, before `after`.

    A pair's cores change only where a job's days begin or end, so jobs are not expanded into days one by one.
    """
    if not len(pair):
        return
    changes = _summed(np.r_[pair, pair], np.r_[first, after], np.r_[cores, -cores], 0)
    busy = np.cumsum(changes.core_s)  # comes back to 0 with the last change of each pair
    at = np.flatnonzero(busy)
    count = changes.day[at + 1] - changes.day[at]
    for some in np.split(np.arange(len(at)), np.flatnonzero(np.diff(np.cumsum(count) // CHUNK)) + 1):
        spans, times = at[some], count[some]
        within = np.arange(times.sum()) - np.repeat(np.cumsum(times) - times, times)
        day = np.repeat(changes.day[spans], times) + within
        core_s = np.repeat(busy[spans], times) * length[day]
        kept = core_s != 0  # a day that the calendar left out has no length
        yield CoreSeconds(np.repeat(changes.pair[spans], times)[kept], day[kept] + base, core_s[kept])


def open_accounting(site: Site) -> sqlite3.Connection:
    """Open the accounting database for reading.

    Parameters
    ----------
    site
        Whose.

    Returns
    -------
    sqlite3.Connection
        Within a transaction, so that all that is read is of one moment.

    Raises
    ------
    JobeffError
        There is none, or it is of an older jobeff.
    """
    path = tables.database(site.root, "accounting")
    accounting = tables.read_database(path, "accounting")
    if accounting.execute("pragma user_version").fetchone()[0] < VERSION:
        accounting.close()
        raise JobeffError(
            "cannot count core hours",
            where=str(path),
            why="an older jobeff wrote the database, and it does not say what it has replaced",
            safe="Nothing was changed",
            todo="'jobeff load slurm' brings it up to date",
        )
    accounting.execute("begin")
    return accounting


def count(
    site: Site, accounting: sqlite3.Connection, usage: sqlite3.Connection, result: StepResult, everything: bool
) -> None:
    """Bring days, months and weeks up to date with accounting, in one transaction.

    Parameters
    ----------
    site
        Where to work.
    accounting
        From `open_accounting`.
    usage
        The core-hour database, open for writing.
    result
        Jobs and rows are counted in it.
    everything
        Count from scratch.

    Raises
    ------
    JobeffError
        The database does not fit accounting; it is as it was.
    """
    clock = site.config.clock
    newest = Counted(
        identity(accounting),
        accounting.execute("select coalesce(max(seq), 0) from jobs").fetchone()[0],
        accounting.execute("select coalesce(max(id), 0) from replaced").fetchone()[0],
        clock.zone.key,
    )
    row = usage.execute("select accounting, seq, replaced, timezone from counted").fetchone()
    before = Counted(*row) if row else None
    scratch = everything or before is None or _is_another(before, newest)
    since = Counted(newest.accounting, 0, 0, newest.timezone) if before is None or scratch else before
    with atomic(usage):
        try:
            _gather(accounting, usage, since, newest, Days(clock), result, scratch)
            _write(usage, result, scratch)
        except sqlite3.IntegrityError as error:
            raise JobeffError(
                "core hours do not fit accounting",
                where=str(tables.database(site.root, "corehour_usage")),
                why="some day would have less than none, or more than 2**63 core seconds",
                safe="They are as they were before",
                todo="'jobeff summarise --all' counts them from scratch",
            ) from error
        usage.execute("delete from counted")
        usage.execute("insert into counted values (?, ?, ?, ?)", newest)
        for table in ("corehour_daily", "corehour_monthly", "corehour_weekly"):
            mark_updated(usage, table, clock)


def _is_another(before: Counted, newest: Counted) -> bool:
    """Whether what was counted is not the beginning of what there is: another database, an older copy, other days."""
    same = (before.accounting, before.timezone) == (newest.accounting, newest.timezone)
    return not same or newest.seq < before.seq or newest.replaced < before.replaced


def _gather(
    accounting: sqlite3.Connection,
    usage: sqlite3.Connection,
    since: Counted,
    newest: Counted,
    days: Days,
    result: StepResult,
    scratch: bool,
) -> None:
    """Have a temporary table ``delta`` of what each day gains or loses."""
    usage.execute(
        """create temp table delta (
             proj_id text not null, date text not null, cluster text not null,
             core_s integer not null check (typeof(core_s) = 'integer'), primary key (proj_id, date, cluster)
           ) without rowid"""
    )
    if scratch:
        usage.execute("insert into delta select proj_id, date, cluster, -core_s from corehour_daily")
    else:
        # A record that is newer than what was counted has never been counted.
        gone = accounting.execute(
            "select proj_id, cluster, start, end, -cores from replaced where id > ? and id <= ? and seq <= ?",
            (since.replaced, newest.replaced, since.seq),
        )
        result.count("taken back", _add(usage, gone, days))
    come = accounting.execute(
        "select proj_id, cluster, start, end, cores from jobs where seq > ? and nodes <> ''", (since.seq,)
    )
    result.count("jobs", _add(usage, come, days))
    usage.execute("delete from delta where core_s = 0")


def _add(usage: sqlite3.Connection, rows: sqlite3.Cursor, days: Days) -> int:
    """Add jobs to ``delta``; gives their number."""
    jobs = 0
    while some := rows.fetchmany(BATCH):
        jobs += len(some)
        numbers: dict[tuple[str, str], int] = {}
        pair = [numbers.setdefault(row[:2], len(numbers)) for row in some]
        _, _, start, end, cores = zip(*some, strict=True)
        columns = (np.array(column, dtype=np.int64) for column in (pair, start, end, cores))
        pairs = list(numbers)
        for piece in split(Jobs(*columns), days):
            usage.executemany(
                """insert into delta values (?, ?, ?, ?)
                   on conflict do update set core_s = core_s + excluded.core_s""",
                _records(piece, pairs),
            )
    return jobs


def _records(piece: CoreSeconds, pairs: list[tuple[str, str]]) -> Iterable[tuple[str, str, str, int]]:
    dates = piece.day.astype("datetime64[D]").astype(str).tolist()
    named = map(pairs.__getitem__, piece.pair.tolist())
    return (
        (proj_id, day, cluster, core_s)
        for (proj_id, cluster), day, core_s in zip(named, dates, piece.core_s.tolist(), strict=True)
    )


def _write(usage: sqlite3.Connection, result: StepResult, scratch: bool) -> None:
    """Write the days of ``delta``, and the months and weeks that they are in."""
    usage.execute(
        """create temp table fresh as
           select proj_id, date, cluster, coalesce(old.core_s, 0) + delta.core_s as core_s
           from delta left join corehour_daily as old using (proj_id, date, cluster)"""
    )
    result.count("days", _rewrite(usage, "corehour_daily", "date", "core_s"))
    usage.execute(
        "insert into touched (proj_id, cluster, date) select proj_id, cluster, min(date) from delta group by 1, 2"
    )
    for named, function in (("iso_week", iso_week), ("monday", _monday), ("sunday", _sunday)):
        usage.create_function(named, 1, lru_cache(maxsize=4096)(function), deterministic=True)
    for what, table, period, name, first, last in (
        (
            "months",
            "corehour_monthly",
            "month",
            "substr(date, 1, 7)",
            "substr(date, 1, 7)",
            "substr(date, 1, 7) || '-31'",
        ),
        ("weeks", "corehour_weekly", "week", "iso_week(date)", "monday(date)", "sunday(date)"),
    ):
        source = "delta"
        if scratch:
            usage.execute(f"delete from {table}")
            source = "corehour_daily"
        usage.execute(
            f"""create temp table fresh as
                select proj_id, {period}, cluster,
                       (select {HOURS} from corehour_daily as day where day.proj_id = span.proj_id
                        and day.date between first and last and day.cluster = span.cluster) as used
                from (select distinct proj_id, {name} as {period}, {first} as first, {last} as last, cluster
                      from {source}) as span"""
        )
        result.count(what, _rewrite(usage, table, period, "used"))


def _rewrite(usage: sqlite3.Connection, table: str, period: str, value: str) -> int:
    """Bring the rows of a table that ``fresh`` names up to date with it, and drop that; gives how many rows changed."""
    key = KEY.format(period=period)
    removed = usage.execute(
        f"delete from {table} where ({key}) in (select {key} from fresh where {value} is null or {value} = 0)"
    )
    written = usage.execute(
        f"""insert into {table} select * from fresh where {value} <> 0
            on conflict do update set {value} = excluded.{value} where {value} <> excluded.{value}"""
    )
    usage.execute("drop table fresh")
    return removed.rowcount + written.rowcount


def _monday(day: str) -> str:
    known = date.fromisoformat(day)
    return (known - timedelta(known.weekday())).isoformat()


def _sunday(day: str) -> str:
    known = date.fromisoformat(day)
    return date.fromordinal(min(known.toordinal() + 6 - known.weekday(), date.max.toordinal())).isoformat()
