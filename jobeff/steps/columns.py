"""Columns for reports: brought up to date month by month with the accounting and efficiency databases.

Which months are out of date is told by what the databases count themselves: accounting numbers its records and those
that were replaced, and the efficiency database counts how often each month was written. The state that has been seen is
noted before a month is made again, and a month stands in it only while its file is whole and up to date; so a run may
die anywhere, and the files may be deleted.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobeff.clock import Clock
from jobeff.config import Config
from jobeff.errors import JobeffError, LockedError
from jobeff.names import is_month, is_name
from jobeff.progress import Progress
from jobeff.steps import columns_made
from jobeff.store import tables
from jobeff.store.files import atomic_write
from jobeff.store.locks import lock
from jobeff.store.sqlite import identity

if TYPE_CHECKING:
    import pyarrow as pa

DAY_S = 86_400
STATE_VERSION = 1
Key = tuple[str, str]
"""Cluster and month."""


@dataclass
class State:
    """What the columns have been made of.

    Attributes
    ----------
    accounting
        Identity of the database, its newest record, its newest replaced record.
    efficiency
        Identity of the database.
    months
        How often each month had been written when its columns were made.
    """

    accounting: tuple[int, int, int] = (0, 0, 0)
    efficiency: int = 0
    months: dict[Key, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Month:
    """The columns of a month, in a file that is up to date or, without one, in the databases."""

    config: Config
    cluster: str
    name: str
    in_file: bool

    def read(self, names: list[str]) -> pa.Table:
        """Read columns.

        Parameters
        ----------
        names
            Of `jobeff.store.columns.SCHEMA`.

        Returns
        -------
        pyarrow.Table
            Each in one piece; one row per job that started.
        """
        from jobeff.store import columns  # noqa: PLC0415  (who needs nothing made again shall not wait for it)

        found = self._read(columns.path_of(self.config.root, self.cluster, self.name), names)
        if found is None:
            with _databases(self.config) as connection:
                found = columns_made.of_jobs(connection, self.cluster, self.name).select(names)
        return found

    def days(self) -> pa.Table:
        """What the jobs of each day add up to, by project and user.

        Returns
        -------
        pyarrow.Table
            With `jobeff.store.columns.DAYS`.
        """
        from jobeff.store import columns  # noqa: PLC0415  (as above)

        found = self._read(columns.days_path_of(self.config.root, self.cluster, self.name), columns.DAYS.names)
        return columns_made.of_days(self.read(columns.SCHEMA.names)) if found is None else found

    def _read(self, path: Path, names: list[str]) -> pa.Table | None:
        from jobeff.store import columns  # noqa: PLC0415  (as above)

        if not self.in_file:
            return None
        try:
            return columns.read(path, names, _about(self.cluster, self.name))
        except Exception:  # pyarrow raises nearly anything; the databases have it all
            with contextlib.suppress(OSError):
                path.unlink()  # the next report has it made again
        return None


def months(config: Config, wanted: Callable[[str, str], bool], progress: Progress) -> list[Month]:
    """Find the months there are, having made the columns of those that are out of date.

    Parameters
    ----------
    config
        Of the site.
    wanted
        Told cluster and month, says whether the columns will be read.
    progress
        Says how many months have been made, of how many.

    Returns
    -------
    list of Month
        Those wanted, in order. Where their files cannot be written, they are read from the databases.

    Raises
    ------
    JobeffError
        A database is missing, or newer than this program.
    """
    with _databases(config) as connection:
        known = read_state(config.root)
        bring_up(connection, config.clock, known)
        there = [key for key in all_months(connection) if wanted(*key)]
    if not all(_has(config.root, known, key) for key in there):
        with contextlib.suppress(LockedError, OSError):  # somebody else is making them, or we may only read
            known = refresh(config, progress, wanted)
    return [Month(config, *key, _has(config.root, known, key)) for key in there]


def keys(config: Config) -> list[Key]:
    """Clusters and months in which jobs ended.

    Parameters
    ----------
    config
        Of the site.

    Returns
    -------
    list of tuple
        In order.

    Raises
    ------
    JobeffError
        As `months`.
    """
    with _databases(config) as connection:
        return all_months(connection)


def refresh(config: Config, progress: Progress, wanted: Callable[[str, str], bool] = lambda *_: True) -> State:
    """Make the columns of months that are out of date.

    Parameters
    ----------
    config, wanted, progress
        As for `months`.

    Returns
    -------
    State
        With the months whose files are up to date.

    Raises
    ------
    LockedError
        Another run is doing it.
    """
    from jobeff.store import columns  # noqa: PLC0415  (as above)

    root = config.root
    with lock(root, "report"):
        with _databases(config) as connection:
            state = read_state(root)
            stale = bring_up(connection, config.clock, state)
            there = [key for key in all_months(connection) if is_name(key[0])]
        for key in stale.difference(there):
            if is_name(key[0]) and is_month(key[1]):
                for path in _paths(root, key):
                    path.unlink(missing_ok=True)
        _write_state(root, state)
        todo = [key for key in there if wanted(*key) and not _has(root, state, key)]
        with progress.task("columns for reports", len(todo), "months") as advance:
            for key in todo:
                with _databases(config) as connection:
                    times, table = _written(connection).get(key, 0), columns_made.of_jobs(connection, *key)
                for path, content in zip(_paths(root, key), (table, columns_made.of_days(table)), strict=True):
                    columns.write(path, content, _about(*key))
                state.months[key] = times
                _write_state(root, state)
                advance(1)
    return state


def _has(root: Path, state: State, key: Key) -> bool:
    return key in state.months and is_name(key[0]) and all(path.is_file() for path in _paths(root, key))


def _paths(root: Path, key: Key) -> tuple[Path, Path]:
    """Files of a month: of its jobs, and of its days."""
    from jobeff.store import columns  # noqa: PLC0415  (as above)

    return columns.path_of(root, *key), columns.days_path_of(root, *key)


def bring_up(connection: sqlite3.Connection, clock: Clock, state: State) -> set[Key]:
    """Take out of a state what has changed since, and have it say what has been seen now.

    Parameters
    ----------
    connection
        From `_databases`.
    clock
        Of the site.
    state
        Changed.

    Returns
    -------
    set
        Clusters and months that it had and has no more.
    """
    (newest,) = connection.execute("select coalesce(max(seq), 0) from jobs").fetchone()
    (replaced,) = connection.execute("select coalesce(max(id), 0) from replaced").fetchone()
    accounting = (identity(connection), newest, replaced)
    (efficiency,) = connection.execute("pragma efficiency.application_id").fetchone()
    before = dict(state.months)
    same = (state.accounting[0], state.efficiency) == (accounting[0], efficiency)
    if not same or newest < state.accounting[1] or replaced < state.accounting[2]:
        state.months = {}
    else:
        written = _written(connection)
        changed = _changed(connection, clock, state.accounting)
        state.months = {
            key: times for key, times in before.items() if key not in changed and written.get(key, 0) == times
        }
    state.accounting, state.efficiency = accounting, efficiency
    return set(before) - set(state.months)


def _changed(connection: sqlite3.Connection, clock: Clock, since: tuple[int, int, int]) -> set[Key]:
    """Months of which accounting has other records than it had."""
    # Else SQLite would walk along an index that has both, instead of looking at what is new.
    query = "select distinct cluster, substr(date, 1, 7) from jobs not indexed where seq > ?"
    found: set[Key] = {(cluster, month) for cluster, month in connection.execute(query, (since[1],))}
    ends = connection.execute("select distinct cluster, end / ? from replaced where id > ?", (DAY_S, since[2]))
    for cluster, day in ends:  # which local day it ended on depends on the time zone that was set when it was loaded
        found.update((cluster, clock.month(max(0, day + more) * DAY_S)) for more in (-1, 0, 1, 2))
    return found


def _written(connection: sqlite3.Connection) -> dict[Key, int]:
    """How often compute has written each month of the efficiency database."""
    rows = connection.execute("select cluster, month, times from efficiency.written")
    return {(cluster, month): times for cluster, month, times in rows}


def all_months(connection: sqlite3.Connection) -> list[Key]:
    """Clusters and months in which accounting has jobs.

    Parameters
    ----------
    connection
        Of the accounting database.

    Returns
    -------
    list of tuple
        In order.
    """
    found: list[Key] = []
    # One look-up in the index (cluster, date) finds the next; comparing both at once would walk along it.
    cluster = _next(connection, "cluster", "cluster > ?", "")
    while cluster is not None:
        day = _next(connection, "date", "cluster = ? and date > ?", cluster, "")
        while day is not None:
            found.append((cluster, day[:7]))
            day = _next(connection, "date", "cluster = ? and date > ?", cluster, f"{day[:7]}-99")
        cluster = _next(connection, "cluster", "cluster > ?", cluster)
    return [key for key in found if is_month(key[1])]


def _next(connection: sqlite3.Connection, column: str, where: str, *values: str) -> str | None:
    found: str | None = connection.execute(f"select min({column}) from jobs where {where}", values).fetchone()[0]
    return found


@contextlib.contextmanager
def _databases(config: Config) -> Iterator[sqlite3.Connection]:
    """Accounting, with efficiency attached, both as they are at one time."""
    paths = {name: tables.database(config.root, name) for name in ("accounting", "efficiency")}
    tables.read_database(paths["efficiency"], "efficiency").close()  # tells what is wrong with it
    connection = tables.read_database(paths["accounting"], "accounting")
    try:
        connection.execute("attach ? as efficiency", (f"{paths['efficiency'].absolute().as_uri()}?mode=ro",))
        connection.execute("begin")
        for name, table, todo in (("main", "replaced", "load slurm"), ("efficiency", "written", "compute")):
            query = f"select count(*) from {name}.sqlite_master where type = 'table' and name = ?"
            if not connection.execute(query, (table,)).fetchone()[0]:
                raise JobeffError(
                    "cannot report",
                    where=str(paths["accounting" if name == "main" else name]),
                    why="an older jobeff wrote the database, and it does not say what has changed in it",
                    safe="Nothing was changed",
                    todo=f"'jobeff {todo}' brings it up to date",
                )
        yield connection
    finally:
        connection.close()


def _about(cluster: str, month: str) -> dict[str, Any]:
    return {"cluster": cluster, "month": month}


def _state_path(root: Path) -> Path:
    return root / "db" / "report" / "state.json"


def read_state(root: Path) -> State:
    """Read what the columns have been made of.

    Parameters
    ----------
    root
        Data root.

    Returns
    -------
    State
        Without months where there is none that can be read.
    """
    from jobeff.store import columns  # noqa: PLC0415  (as above)

    try:
        said = json.loads(_state_path(root).read_text(encoding="utf-8"))
        if said["version"] != [STATE_VERSION, columns.VERSION]:
            return State()
        identity_of, newest, replaced = said["accounting"]
        known = {
            (cluster, month): int(times)
            for cluster, of_cluster in said["months"].items()
            for month, times in of_cluster.items()
        }
        return State((int(identity_of), int(newest), int(replaced)), int(said["efficiency"]), known)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return State()


def _write_state(root: Path, state: State) -> None:
    from jobeff.store import columns  # noqa: PLC0415  (as above)

    by_cluster: dict[str, dict[str, int]] = {}
    for (cluster, month), times in sorted(state.months.items()):
        by_cluster.setdefault(cluster, {})[month] = times
    said = {
        "version": [STATE_VERSION, columns.VERSION],
        "accounting": list(state.accounting),
        "efficiency": state.efficiency,
        "months": by_cluster,
    }
    with atomic_write(_state_path(root)) as file:
        file.write(json.dumps(said, indent=1).encode())
