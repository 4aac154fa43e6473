"""Rows of the accounting database: added once, changed where another record of the same job says more."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from jobeff.sources.accounting import AccountingJob, ReadCounts
from jobeff.steps.site import StepResult

COUNTS = ("lines", "new", "changed", "unchanged", "never started", "running", "steps")
"""What a load of accounting counts, in the order it is shown in."""

_COLUMNS = ", ".join(AccountingJob._fields)
_PLACES = ", ".join("?" * len(AccountingJob._fields))
_KEY = "cluster, job_id, start"


def count_read(result: StepResult, counts: ReadCounts) -> None:
    """Add what was read to what a step has done.

    Parameters
    ----------
    result
        Added to.
    counts
        From reading a log.
    """
    result.count("lines", counts.lines)
    result.count("never started", counts.never_started)
    result.count("running", counts.running)
    result.count("steps", counts.steps)


def upsert(
    connection: sqlite3.Connection, jobs: Iterable[AccountingJob], result: StepResult, *, replace: bool = False
) -> None:
    """Add jobs; of two records of one job the one that ends later counts, whatever the order they come in.

    Where both end together the greater text decides: a line that was loaded before it was whole is less than the whole.

    Parameters
    ----------
    connection
        The accounting database, within `jobeff.store.sqlite.atomic`.
    jobs
        In the order of their log.
    result
        Its rows new, changed and unchanged are added to.
    replace
        These records win over those that are there.
    """
    connection.execute("create temp table incoming as select * from jobs limit 0")
    connection.execute(f"create unique index temp.incoming_key on incoming ({_KEY})")
    try:
        ranks = ("end", "submit", "limit_s", *AccountingJob._fields)
        excluded, incoming, old, new = (
            "(" + ", ".join(f"coalesce({side}.{name}, -1)" for name in ranks) + ")"
            for side in ("excluded", "incoming", "old", "new")
        )
        later = f"where {excluded} > {incoming}" if not replace else "where true"
        updates = ", ".join(f"{name} = excluded.{name}" for name in AccountingJob._fields)
        connection.executemany(
            f"""insert into incoming ({_COLUMNS}) values ({_PLACES})
                on conflict ({_KEY}) do update set {updates} {later}""",
            jobs,
        )
        total = connection.execute("select count(*) from incoming").fetchone()[0]
        same = " and ".join(f"old.{name} is new.{name}" for name in AccountingJob._fields)
        older = "" if replace else f"and {new} > {old}"
        # A changed row is taken out and put in again, so that its seq is a new one.
        changed = connection.execute(
            f"""insert into replaced (seq, cluster, proj_id, start, end, cores)
                select old.seq, old.cluster, old.proj_id, old.start, old.end, old.cores from incoming as new
                join jobs as old on old.cluster = new.cluster and old.job_id = new.job_id and old.start = new.start
                where not ({same}) {older}"""
        ).rowcount
        connection.execute(
            "delete from jobs where seq in (select seq from replaced order by id desc limit ?)", (changed,)
        )
        added = connection.execute(
            f"insert or ignore into jobs ({_COLUMNS}) select {_COLUMNS} from incoming order by rowid"
        ).rowcount
    finally:
        # Where the disk is full, SQLite itself has taken it back.
        connection.execute("drop table if exists temp.incoming")
    result.count("new", added - changed)
    result.count("changed", changed)
    result.count("unchanged", total - added)
