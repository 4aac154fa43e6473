"""compute: rows of efficiency that stay as they are: their samples cannot be read now, or are nowhere any more."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path

from jobeff.errors import JobeffError, SetAside, shown
from jobeff.steps.site import Site
from jobeff.store import archive, row_sums, shards, tables
from jobeff.store.aside import set_aside
from jobeff.store.sqlite import NoDatabaseError, atomic

COPIED = {
    "proj_id": "proj_id", "user": "user", "cores": "cores", "state": "jobstate", "date_finished": "date",
    "nodelist": "nodes", "end": "end",
}  # fmt: skip
"""Columns of an efficiency row, and those of accounting that they are copies of."""

BLOCK = "cluster || '/' || substr(date_finished, 1, 7)"
"""Of an efficiency row: what its checksums and messages are by."""

KEYS = ("cluster", "job_id", "start")
SAME = " and ".join(f'e."{mine}" is a."{theirs}"' for mine, theirs in COPIED.items())

Months = dict[tuple[str, str], int]
"""Rows by cluster and month of end."""


def by_month(efficiency: sqlite3.Connection) -> Months:
    """How many rows there are, as the sums over them say.

    Parameters
    ----------
    efficiency
        The database.

    Returns
    -------
    dict
        Of months that have rows.
    """
    if not row_sums.columns(efficiency, "digests"):  # an older jobeff has written it
        query = "select cluster, substr(date_finished, 1, 7), count(*) from jobs group by 1, 2"
        return {(cluster, month): rows for cluster, month, rows in efficiency.execute(query)}
    counts = (one for one in row_sums.stored(efficiency) if one[0] == "jobs" and isinstance(one[2], int) and one[2] > 0)
    return {(block[:-8], block[-7:]): rows for _, block, rows, _ in counts}


def without_source(
    site: Site, folder: Path, cluster: str, rows: Iterable[tuple[str, str]], known: set[str]
) -> set[str]:
    """Find months whose rows nothing gives anew: no node has a shard, and no archive is there that has been ingested.

    Parameters
    ----------
    site, folder
        Where to look, and in which generation of shards.
    cluster
        As accounting spells it.
    rows
        Clusters and months that have rows.
    known
        Months of it that are noted to have been ingested.

    Returns
    -------
    set of str
        Usually none; all other months are not looked for.
    """
    raw = site.config.raw_cluster(cluster)
    found = {month for name, month in rows if name == cluster}
    found -= known & archive.month_files(site.root, raw).keys()
    return found - shards.months_with(folder, raw) if found else found


class Old:
    """The efficiency database that a new one takes the place of; what it lacks counts for nothing.

    Parameters
    ----------
    site
        Whose.

    Attributes
    ----------
    rows
        Of it, by month.
    """

    def __init__(self, site: Site) -> None:
        self._site = site
        self._path = tables.database(site.root, "efficiency")
        self._why = ""
        self.rows: Months = {}
        try:
            with contextlib.suppress(NoDatabaseError), self._opened() as old:
                self.rows = by_month(old)
        except (JobeffError, sqlite3.Error) as error:
            self._why = str(error)

    def keep(self, new: sqlite3.Connection, waiting: Iterable[tuple[str, str]], gone: Iterable[tuple[str, str]]) -> int:
        """Take over rows that the new one does not have.

        Parameters
        ----------
        new
            The new database, with the rows that could be computed.
        waiting
            Clusters and months of accounting of which a shard could not be used; the next night computes them again.
        gone
            Those of which none will come: rows whose job accounting has otherwise now are left out.

        Returns
        -------
        int
            How many of what is gone.
        """
        waiting, gone = list(waiting), list(gone)
        if not self.rows or not waiting + gone:
            return 0
        columns = ", ".join(f'e."{name}"' for name in tables.EFFICIENCY_COLUMNS)
        query = f"""select {columns} from accounting.jobs as a cross join main.jobs as e using ({", ".join(KEYS)})
                    where a.cluster = ? and a.date between ? and ?"""
        insert = f"insert or ignore into jobs values ({', '.join('?' * len(tables.EFFICIENCY_COLUMNS))})"
        kept = 0
        with self._opened() as old, atomic(new):
            accounting = tables.database(self._site.root, "accounting").absolute()
            old.execute("attach ? as accounting", (f"{accounting.as_uri()}?mode=ro",))
            for cluster, month in waiting:
                new.executemany(insert, self._found(old, query, cluster, month))
            for cluster, month in gone:
                kept += new.executemany(insert, self._found(old, f"{query} and {SAME}", cluster, month)).rowcount
        return kept

    def _found(self, old: sqlite3.Connection, query: str, cluster: str, month: str) -> Iterator[tuple[object, ...]]:
        try:
            yield from old.execute(query, (cluster, f"{month}-01", f"{month}-31"))
        except sqlite3.Error as error:
            self._why = str(error)

    def name_lost(self, new: Path, aside: SetAside) -> None:
        """Say which rows nothing gives any more, and set the file aside that has them.

        Parameters
        ----------
        new
            The new database.
        aside
            Takes it.
        """
        lost = self._lost(new)
        if not lost and not self._why:
            return
        name = set_aside(self._path, keep=True).name
        for block, count, job in lost:
            why = (
                f"{count} rows are gone, {shown(job)} first: accounting does not have their jobs any more, or has them "
                f"otherwise, or nothing has their samples; {name} has them"
            )
            aside.add("efficiency rows", block, why)
        if self._why:
            why = f"the old one cannot be read, so nothing tells which rows it had; it is {name}: {self._why}"
            aside.add("efficiency rows", str(self._path), why)

    def _lost(self, new: Path) -> list[tuple[str, int, str]]:
        """Months that have fewer rows, how many of theirs are not there, and the first job; jobs can change months."""
        with contextlib.closing(tables.read_database(new, "efficiency")) as connection:
            now = by_month(connection)
        if not any(count > now.get(month, 0) for month, count in self.rows.items()):
            return []
        job = "cluster || '/' || job_id || '/' || start"
        query = f"""select {BLOCK}, count(*), min({job}) from main.jobs as e
                    where not exists (select 1 from new.jobs where {" and ".join(f"{k} = e.{k}" for k in KEYS)})
                    group by 1 order by 1"""
        try:
            with self._opened() as old:
                old.execute("attach ? as new", (f"{new.absolute().as_uri()}?mode=ro",))
                return old.execute(query).fetchall()
        except sqlite3.Error as error:
            self._why = str(error)
            return []

    def _opened(self) -> contextlib.closing[sqlite3.Connection]:
        return contextlib.closing(tables.read_database(self._path, "efficiency"))
