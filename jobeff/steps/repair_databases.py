"""repair: databases, made again from their sources and from what of the old ones is proven to be as it was written.

The new one is made beside, in a root of its own, so that the loaders that fill it are those of every night. It takes
the place of the old one when it is whole; the old one stays beside, under another name.
"""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from jobeff.errors import JobeffError, shown
from jobeff.progress import Advance
from jobeff.steps.load import load_slurm
from jobeff.steps.load_projects import load_projects
from jobeff.steps.load_records import load_corehours, load_storage
from jobeff.steps.site import Site, StepResult
from jobeff.store import tables
from jobeff.store.aside import damaged_name, set_aside
from jobeff.store.files import make_folder, remove_tree, sync_folder
from jobeff.store.locks import lock
from jobeff.store.sqlite import atomic

ROWS_AT_ONCE = 10_000
DIGESTS = "digests"


class Source(NamedTuple):
    """Where the rows of a database come from.

    Attributes
    ----------
    table, key
        The table, and what tells its rows apart.
    load
        Fills it.
    source
        Key in the configuration's ``sources`` without which there is nothing to load.
    lock
        What the lock of its writers is called.
    """

    table: str
    key: tuple[str, ...]
    load: Callable[[Site], StepResult]
    source: str | None
    lock: str


SOURCES = {
    "accounting": Source("jobs", ("cluster", "job_id", "start"), load_slurm, None, "accounting"),
    "projects": Source("projects", ("proj_id",), load_projects, "projects", "projects"),
    "storage_history": Source("storage_history", ("proj_id", "date"), load_storage, "storage", "storage_history"),
    "corehour_history": Source(
        "corehour_history", ("proj_id", "date", "cluster"), load_corehours, "corehours", "corehour_history"
    ),
}
"""Databases that are loaded; all others are computed from these and from the archive."""


Sums = dict[tuple[str, str], tuple[int, int]]
"""Rows and sum of their checksums, by table and block."""


def mend_loaded(site: Site, name: str, result: StepResult) -> Sums:
    """Make a database again that is loaded from sources.

    Parameters
    ----------
    site
        Where to work.
    name
        One of `SOURCES`.
    result
        Counts rows kept and loaded; takes those that nothing holds any more.

    Returns
    -------
    dict
        Blocks that were not as they were written, and what they should be.
    """
    path, source = tables.database(site.root, name), SOURCES[name]
    shadow = site.root / "db" / "repair"
    with lock(site.root, source.lock):
        remove_tree(shadow)
        make_folder(shadow / "db")
        new = tables.database(shadow, name)
        old = _Old(path, name)
        with contextlib.closing(old):
            with (
                contextlib.closing(tables.open_database(new, name)) as connection,
                site.progress.task(f"repair {name}", old.rows(), "rows") as advance,
            ):
                kept = old.salvage(connection, advance)
                result.count("rows kept", kept)
                if not old.tells(source.table):
                    result.aside.add(f"{name} rows", str(path), _untold(path, source, kept, old.aside))
            _load(Site(replace(site.config, root=shadow), site.workers, site.progress), source, result)
            with contextlib.closing(tables.open_database(new, name)) as connection:
                old.put_back(connection, source, result)
                there = connection.execute(f"select count(*) from {source.table}").fetchone()[0]
                result.count("rows there now", there)
        set_aside(path, keep=True)
        new.replace(path)
        sync_folder(path.parent)
        remove_tree(shadow)
    result.count("databases made again")
    return {block: old.wanted.get(block, (0, 0)) for block in old.unproven}


def _untold(path: Path, source: Source, kept: int, aside: str) -> str:
    """What to say of a database that does not tell which rows it had."""
    return (
        f"nothing tells which rows it had: {kept} could be read, all others come from the {loaded_name(source)}, and "
        f"rows that these no longer have are lost, if there were any. What is there now is whole. The old file is "
        f"{aside}; where rows are missing, put a backup in the place of {path.name} and run 'jobeff update'"
    )


def forget_unproven(site: Site, wanted: Sums, result: StepResult) -> bool:
    """Drop what of the core-hour history is not what it was, once it has been derived again: its grants are lost.

    Parameters
    ----------
    site
        Where to work.
    wanted
        From `mend_loaded`.
    result
        Takes what is lost.

    Returns
    -------
    bool
        Whether it has to be derived once more.
    """
    name, dropped = "corehour_history", False
    with (
        lock(site.root, name),
        contextlib.closing(tables.open_database(tables.database(site.root, name), name)) as history,
    ):
        for (table, block), sums in sorted(wanted.items()):
            query = f"from {name} where substr(date, 1, 7) = ? and grant is not null and loaded = 0"
            if table != name or sums_of(history).get((table, block)) == sums:
                continue
            with atomic(history):
                grants = history.execute(f"delete {query}", (block,)).rowcount
            there = history.execute(f"select count(*) from {name} where substr(date, 1, 7) = ?", (block,)).fetchone()[0]
            if there < sums[0] - grants:
                why = f"{sums[0] - grants - there} rows are lost: no source has them"
                result.aside.add(f"{name} row", block, why)
            if grants:
                why = f"{grants} grants that were recorded then cannot be told to be as they were written"
                result.aside.add(f"{name} row", block, why)
                dropped = True
    return dropped


def _load(site: Site, source: Source, result: StepResult) -> None:
    if source.source is not None and source.source not in site.config.sources:
        return
    try:
        loaded = source.load(site)
    except (JobeffError, OSError) as error:
        result.aside.add("source", loaded_name(source), str(error))
    else:
        result.aside.merge(loaded.aside)


def loaded_name(source: Source) -> str:
    """What a source is called in messages."""
    return source.source or "accounting logs"


class _Old:
    """A damaged database, as far as it can be read.

    Parameters
    ----------
    path, name
        The file, and which database it is.
    """

    def __init__(self, path: Path, name: str) -> None:
        self.path, self.name, self.aside = path, name, damaged_name(path).name
        self.unproven: set[tuple[str, str]] = set()
        self.wanted: Sums = {}
        self._connection: sqlite3.Connection | None = None
        with contextlib.suppress(sqlite3.Error):
            uri = f"{path.absolute().as_uri()}?mode=ro"
            self._connection = sqlite3.connect(uri, uri=True, isolation_level=None)
            self._connection.text_factory = _text
            # Where the statement of one table is damaged, the others are read all the same then.
            self._connection.execute("pragma writable_schema = on")

    def close(self) -> None:
        """Close it."""
        if self._connection is not None:
            self._connection.close()

    def rows(self) -> int:
        """How many rows it says it has; 0 where it does not."""
        sums = sums_of(self._connection)
        return sum(n for (table, _), (n, _) in sums.items() if table != "last_updated" and isinstance(n, int))

    def tells(self, table: str) -> bool:
        """Whether it says which rows it had, and be it that there were none; known once they are salvaged."""
        if not self.wanted and self._connection is not None:
            with contextlib.suppress(sqlite3.Error, ValueError):
                for one in (DIGESTS, table):
                    self._connection.execute(f"select 1 from {one}").fetchone()
                return True
        return bool(self.wanted)

    def salvage(self, new: sqlite3.Connection, advance: Advance) -> int:
        """Copy the rows that are proven to be as they were written; gives how many.

        Blocks whose sum is not what was noted as they were written are left to the sources. Where there are no sums,
        as in a database of an older jobeff, what can be read is taken.
        """
        blocks = tables.BLOCKS[self.name]  # another database may have been put in its place
        wanted = self.wanted = {key: sums for key, sums in sums_of(self._connection).items() if key[0] in blocks}
        kept = 0
        for (table,) in new.execute("select name from sqlite_master where type = 'table'").fetchall():
            if table not in (DIGESTS, "last_updated") and not table.startswith("sqlite_"):
                kept += self._copy(new, table, lambda _: True, advance=advance)
        if not wanted:
            if kept == 0:
                self._forget(new)
            return kept
        found = sums_of(new)
        for key in wanted.keys() - found.keys():  # its name may be what is damaged: the sum tells whose it is
            whose = [one for one in found.keys() - wanted.keys() if (one[0], found[one]) == (key[0], wanted[key])]
            if len(whose) == 1:
                wanted[whose[0]] = wanted.pop(key)
        for table, block in sorted(found.keys() | wanted.keys()):
            if table != "last_updated" and found.get((table, block)) != wanted.get((table, block)):
                self.unproven.add((table, block))
                kept -= self._delete(new, table, block)
        if self.unproven:
            self._forget(new)
        return kept

    def put_back(self, new: sqlite3.Connection, source: Source, result: StepResult) -> None:
        """Put rows back that no source holds, where with them their block is what it was; else name them."""
        wanted = self.wanted
        keys = ", ".join(f'"{key}"' for key in source.key)
        if self.name == "accounting":
            self._same_numbers(new)
        for table, block in sorted(self.unproven):
            if table != source.table or sums_of(new).get((table, block)) == wanted.get((table, block)):
                continue
            before = set(new.execute(f"select {keys} from {table} where {self._where(table)}", (block,)))
            grants = "where loaded = 0 and grant is not null" if self.name == "corehour_history" else ""
            self._copy(new, table, lambda one, block=block: one == block, grants)  # type: ignore[misc]
            if self.name == "corehour_history" or sums_of(new).get((table, block)) == wanted.get((table, block)):
                continue  # of the history, the rest is derived later, and then compared
            after = new.execute(f"select {keys} from {table} where {self._where(table)}", (block,))
            gone = [key for key in after if key not in before]
            where = " and ".join(f'"{key}" = ?' for key in source.key)
            new.execute("begin")
            new.executemany(f"delete from {table} where {where}", gone)
            new.execute("commit")
            rows = wanted.get((table, block), (0, 0))[0]
            have = len(before)
            if not gone and have < rows:
                result.aside.add(
                    f"{self.name} row", f"{table} {block}", f"{rows - have} rows are lost: no source has them"
                )
            of = f"of the {rows:,} rows that are summed together"
            why = f"no source has it, and nothing tells which {of} has changed; {self.aside} has it"
            for key in gone:
                result.aside.add(f"{self.name} row", shown("/".join(map(str, key))), why)

    def _same_numbers(self, new: sqlite3.Connection) -> None:
        """Give jobs that were loaded again the numbers that they had, which are part of the sums."""
        blocks = [block for table, block in self.unproven if table == "jobs"]
        mine = f"{self._block('jobs')} in ({', '.join('?' * len(blocks))})"
        try:
            assert self._connection is not None  # noqa: S101  (there were sums)
            old = self._connection.execute(
                f"select seq, cluster, job_id, start from jobs not indexed where {mine}", blocks
            ).fetchall()
        except (sqlite3.Error, ValueError, OverflowError):
            return
        highest = max([seq for seq, *_ in old if isinstance(seq, int)], default=0)
        highest = max(highest, new.execute("select coalesce(max(seq), 0) from jobs").fetchone()[0])
        known = set(new.execute(f"select cluster, job_id, start from jobs where {mine}", blocks))
        with atomic(new):  # out of the way of all numbers first
            new.execute(f"update jobs set seq = seq + ? where {mine}", (highest, *blocks))
            new.executemany("update or ignore jobs set seq = ? where cluster = ? and job_id = ? and start = ?", old)
            # What is left are jobs whose name or begin is what was damaged; logs give them in the same order again.
            free = [seq for seq, *key in old if tuple(key) not in known]
            without = new.execute("select seq from jobs where seq > ? order by seq", (highest,)).fetchall()
            if len(free) == len(without):
                pairs = [(seq, given) for seq, (given,) in zip(sorted(free), without, strict=True)]
                new.executemany("update or ignore jobs set seq = ? where seq = ?", pairs)

    def _copy(
        self, new: sqlite3.Connection, table: str, chosen: Callable[[str], bool], where: str = "",
        advance: Advance = lambda _: None,
    ) -> int:  # fmt: skip
        """Copy the rows of a table that can be read and are not there yet."""
        if self._connection is None:
            return 0
        about = new.execute(f'pragma table_info("{table}")').fetchall()
        names = [row[1] for row in about]
        columns = ", ".join(f'"{name}"' for name in names)
        block = self._block(table)
        places = ", ".join("?" * len(names))
        last_first = (
            ", ".join(f'"{row[1]}" desc' for row in sorted(about, key=lambda row: row[5]) if row[5]) or "rowid desc"
        )
        query = f'select {block}, {columns} from "{table}" not indexed {where}'
        rows = self._readable(query, f"{query} order by {last_first}")
        copied = 0
        new.execute("begin")
        while some := list(itertools.islice(rows, ROWS_AT_ONCE)):
            mine = [row[1:] for row in some if chosen(str(row[0]))]
            before = new.total_changes
            new.executemany(f'insert or ignore into "{table}" ({columns}) values ({places})', mine)
            copied += min(len(mine), new.total_changes - before)
            advance(len(some))
        new.execute("commit")
        return copied

    def _readable(self, *queries: str) -> Iterator[tuple[Any, ...]]:
        """Rows up to the first that cannot be read, and then from the last one back to it."""
        assert self._connection is not None  # noqa: S101  (the caller has looked)
        for query in queries:
            try:
                yield from self._connection.execute(query)
            except (sqlite3.Error, OverflowError, ValueError):
                continue  # what is between cannot be read; the sums tell what is missing
            return

    def _delete(self, new: sqlite3.Connection, table: str, block: str) -> int:
        new.execute("begin")
        gone = new.execute(f'delete from "{table}" where {self._where(table)}', (block,)).rowcount
        new.execute("commit")
        return gone

    def _forget(self, new: sqlite3.Connection) -> None:
        """Have the sources read from their beginning; what is there already is not taken again."""
        for table in ("loaded", "asked"):
            if new.execute("select 1 from sqlite_master where name = ?", (table,)).fetchone():
                if table == "asked":
                    new.execute("update asked set complete = null")
                else:
                    new.execute(f"delete from {table}")

    def _block(self, table: str) -> str:
        """SQL that gives the block of a row."""
        spec = tables.BLOCKS[self.name].get(table, ())
        parts = [f'"{column}"' if size is None else f'substr("{column}", 1, {size})' for column, size in spec]
        return " || '/' || ".join(parts) or "'all'"

    def _where(self, table: str) -> str:
        return f"{self._block(table)} = ?"


def sums_of(connection: sqlite3.Connection | None) -> Sums:
    """The sums that a database keeps.

    Parameters
    ----------
    connection
        The database, or None.

    Returns
    -------
    dict
        Of blocks that have rows; nothing where there are no sums that can be read.
    """
    try:
        rows = (
            connection.execute(f"select table_name, block, rows, sum from {DIGESTS}").fetchall() if connection else []
        )
    except (sqlite3.Error, ValueError):
        return {}
    return {(table, block): (count, total) for table, block, count, total in rows if count}


def _text(data: bytes) -> str | None:
    """A text; NULL where it is damaged, which no column of texts that matter takes."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None
