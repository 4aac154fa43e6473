"""Asking ``sacct`` for a cluster's jobs, day by day from where it stopped; each day is one transaction."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from jobeff.config import Cluster
from jobeff.errors import ConfigError, SourceError
from jobeff.sources import ask_sacct
from jobeff.sources.accounting import ReadCounts
from jobeff.steps.accounting_rows import count_read, upsert
from jobeff.steps.site import Site, StepResult
from jobeff.store.sqlite import atomic

DAY = timedelta(days=1)
FIRST_DAY = date(2000, 1, 1)
"""There was no Slurm before."""


@dataclass(frozen=True)
class Asking:
    """How ``sacct`` is asked.

    Attributes
    ----------
    since
        First day, UTC; needed the first time. An earlier one than the first time asks all days again from there.
    pause_s
        Seconds between two days, so that Slurm's database has time for others.
    """

    since: date | None = None
    pause_s: float = 1.0


@dataclass(frozen=True)
class _Asked:
    """Every day from `first` to `complete` has been asked after it had ended; None where none has."""

    first: date
    complete: date | None = None

    def upto(self, day: date) -> _Asked:
        return _Asked(self.first, max(day, self.complete or day))


def ask_days(site: Site, connection: sqlite3.Connection, cluster: Cluster, asking: Asking, result: StepResult) -> None:
    """Load a cluster's jobs up to now.

    Parameters
    ----------
    site
        Where to work.
    connection
        The accounting database.
    cluster
        The cluster to ask for.
    asking
        Since when, and how fast.
    result
        What is done is counted here.

    Raises
    ------
    SourceError
        ``sacct`` could not be asked; days before that one are loaded and will not be asked again.
    """
    asked = _begin(_known(connection, cluster.name), cluster.name, asking.since)
    days = list(_days(asked, cluster.sacct_overlap_days))
    unknown = _known(connection, cluster.name) is None
    with site.progress.task(f"ask sacct of {cluster.name}", len(days), "days") as advance:
        for day in days:
            if day is not days[0]:
                time.sleep(asking.pause_s)
            ended = day < today()
            counts, delimiter = ReadCounts(), ask_sacct.new_delimiter()
            with ask_sacct.ask(cluster.name, day, delimiter) as answer, atomic(connection):
                jobs = ask_sacct.read(
                    answer, delimiter, cluster=cluster.name, clock=site.config.clock,
                    where=f"sacct of {cluster.name}, {day}", aside=result.aside, counts=counts,
                )  # fmt: skip
                upsert(connection, jobs, result)
                unknown = unknown and not counts.lines
                asked = asked.upto(day) if ended else asked
                if not unknown:
                    _write(connection, cluster.name, asked)
            count_read(result, counts)
            result.count("days asked")
            advance(1)
    if unknown:
        raise SourceError(
            f"sacct knows no job of cluster {cluster.name}",
            why=f"none since {asked.first}",
            safe="No day counts as asked",
            todo="Name the cluster as 'sacctmgr list cluster' does, or take an earlier day with --since",
        )


def today() -> date:
    """The day that it is, UTC."""
    return datetime.now(UTC).date()


def _begin(known: _Asked | None, cluster: str, since: date | None) -> _Asked:
    if since is not None and not FIRST_DAY <= since <= today():
        why = f"{since} is not a day from {FIRST_DAY} to today"
        raise ConfigError("cannot ask sacct", why=why, safe="Nothing was asked", todo="Name another day with --since")
    if known is not None and (since is None or since >= known.first):
        return known
    if since is not None:
        return _Asked(since)
    raise SourceError(
        f"sacct was never asked of cluster {cluster}",
        why="so the day to begin with is not known",
        safe="Nothing was asked",
        todo="Say it once: jobeff load slurm --sacct --since YYYY-MM-DD",
    )


def _days(asked: _Asked, overlap: int) -> Iterator[date]:
    """Days to ask: from the last that was asked whole, some before it again, to the one that it is."""
    day = asked.first
    if asked.complete:
        day = max(day, asked.complete + DAY - overlap * DAY)
    while day <= today():
        yield day
        day += DAY


def _known(connection: sqlite3.Connection, cluster: str) -> _Asked | None:
    row = connection.execute("select first, complete from asked where cluster = ?", (cluster,)).fetchone()
    return _Asked(date.fromisoformat(row[0]), date.fromisoformat(row[1]) if row[1] else None) if row else None


def _write(connection: sqlite3.Connection, cluster: str, asked: _Asked) -> None:
    complete = asked.complete.isoformat() if asked.complete else None
    connection.execute("insert or replace into asked values (?, ?, ?)", (cluster, asked.first.isoformat(), complete))
