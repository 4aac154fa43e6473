"""Core hours by project, local day, month, week and cluster, kept up as accounting records come and go."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from jobeff.clock import iso_week
from jobeff.engine.core_seconds import BATCH, CoreSeconds, Days, Jobs, split
from jobeff.errors import JobeffError
from jobeff.progress import Advance
from jobeff.steps.site import Site, StepResult
from jobeff.store import tables
from jobeff.store.sqlite import atomic, identity, mark_updated

HOURS = "(sum(core_s >> 32) * 4294967296.0 + sum(core_s & 4294967295)) / 3600.0"
"""Core hours of days, in SQL. Exact up to 2**53 core seconds; beyond that it rounds, where a plain sum would fail."""

VERSION = 2
"""Of the accounting database, since when it says what it has replaced."""

KEY = "proj_id, {period}, cluster"

NEW = "from jobs where seq > ? and nodes <> ''"
"""Records that core hours have not counted yet; those that never started have no nodes."""


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
            [(jobs,)] = accounting.execute(f"select count(*) {NEW}", (since.seq,)).fetchall()
            with site.progress.task("core hours", jobs, "jobs") as advance:
                _gather(accounting, usage, since, newest, Days(clock), result, scratch, advance)
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
    advance: Advance,
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
        result.count("taken back", _add(usage, gone, days, lambda _: None))
    come = accounting.execute(f"select proj_id, cluster, start, end, cores {NEW}", (since.seq,))
    result.count("jobs", _add(usage, come, days, advance))
    usage.execute("delete from delta where core_s = 0")


def _add(usage: sqlite3.Connection, rows: sqlite3.Cursor, days: Days, advance: Advance) -> int:
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
        advance(len(some))
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
    usage.create_function("iso_week", 1, iso_week, deterministic=True)
    # Julian days begin at noon, and day 0 was a Monday; the last week of the calendar has no Sunday.
    number, monday = "cast(julianday(date) + 0.5 as integer) / 7", "date(span * 7 - 0.5)"
    for what, table, period, span, name, first, last in (
        ("months", "corehour_monthly", "month", "substr(date, 1, 7)", "span", "span", "span || '-31'"),
        ("weeks", "corehour_weekly", "week", number, f"iso_week({monday})", monday, "date(span * 7 + 5.5)"),
    ):
        source = "delta"
        if scratch:
            usage.execute(f"delete from {table}")
            source = "corehour_daily"
        usage.execute(
            f"""create temp table fresh as
                select proj_id, {name} as {period}, cluster,
                       (select {HOURS} from corehour_daily as day where day.proj_id = spans.proj_id
                        and day.date between {first} and coalesce({last}, '9999-12-31') and day.cluster = spans.cluster
                       ) as used
                from (select distinct proj_id, {span} as span, cluster from {source}) as spans"""
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
