"""repair: rows of efficiency that nothing gives any more are named, and kept beside, under another name."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from jobeff.errors import JobeffError, SetAside, shown
from jobeff.steps.kept_rows import BLOCK, KEYS
from jobeff.steps.repair_databases import sums_of
from jobeff.steps.site import Site
from jobeff.store import tables
from jobeff.store.aside import damaged_name, set_aside


@contextlib.contextmanager
def watched(site: Site, path: Path, aside: SetAside) -> Iterator[None]:
    """Have efficiency computed anew within this, and name the rows that it has no more.

    Parameters
    ----------
    site
        Where to work.
    path
        The database; it may be damaged, or missing.
    aside
        Takes what is gone. The file that has it is set aside then.
    """
    with site.scratch() as folder:
        old = folder / path.name
        if path.exists():
            os.link(path, old)
        before = _rows(old)
        yield
        after = _rows(path)
        lacking = [block for block, count in before.items() if count > after.get(block, 0)]
        gone = {block: names for block in sorted(lacking) if (names := _gone(old, path, block))}
        for block, names in gone.items():
            why = (
                f"{len(names)} of {before[block]} rows are gone, {shown(names[0])} first: accounting does not have "
                f"their jobs any more, or no shard their samples; {damaged_name(path, old).name} has them"
            )
            aside.add("efficiency rows", block, why)
        if gone:
            set_aside(path, file=old)


def _rows(path: Path) -> dict[str, int]:
    """Rows that were written and are there, by block: cluster and month; of a database that cannot be read none."""
    try:
        with contextlib.closing(tables.read_database(path, "efficiency")) as connection:
            there = dict(connection.execute(f"select {BLOCK}, count(*) from jobs group by 1").fetchall())
            written = {block: rows for (table, block), (rows, _) in sums_of(connection).items() if table == "jobs"}
    except (JobeffError, sqlite3.Error, ValueError):
        return {}
    return {block: min(there[block], written[block]) for block in there.keys() & written.keys()}


def _gone(old: Path, new: Path, block: str) -> list[str]:
    """Jobs of a block that have no row any more, in order."""
    with contextlib.closing(tables.read_database(old, "efficiency")) as connection:
        jobs = sorted(connection.execute(f"select {', '.join(KEYS)} from jobs where {BLOCK} = ?", (block,)), key=repr)
    with contextlib.closing(tables.read_database(new, "efficiency")) as connection:
        found = "select 1 from jobs where cluster = ? and job_id = ? and start = ?"
        return ["/".join(map(str, job)) for job in jobs if connection.execute(found, job).fetchone() is None]
