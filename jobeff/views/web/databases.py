"""The databases as Datasette reads them: for reading only, and the new one when the night has put one in its place."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from datasette.database import Database

from jobeff.config import Config
from jobeff.store import tables

OURS = "loaded", "replaced", "asked", "computed", "written", "digests", "reached", "counted", "touched"
"""Tables of bookkeeping, which are not listed."""

ABOUT = {
    "accounting": "One row per job and start, as accounting says it.",
    "efficiency": "One row per job with samples: what it used of what it had booked.",
    "projects": "What the site's project file says.",
    "storage_history": "Storage by project and day, bytes.",
    "corehour_history": "Grant, and core hours of the last 30 days, by project, day and cluster.",
    "corehour_usage": "Core hours by project, cluster and day, month, week, split at local midnight.",
    "current_projects": "One JSON document per project that is or was active within 26 weeks.",
}
UNITS = {
    "cpu_mean": "percent of the cores booked",
    "cpu_cores_used_percentile": "cores; 75th percentile over sampling times of those busier than 10 %",
    "cores": "booked",
    "mem_peak": "GiB, of the node with the largest peak / limit",
    "mem_median": "GiB, over all samples",
    "mem_limit": "GiB; null: unknown",
    "counts": "valid rows on the node that has most",
    "start": "epoch seconds",
    "end": "epoch seconds",
    "coverage": "share of the expected rows that is there",
    "rejected": "damaged rows, not used",
    "swap_peak": "GiB",
    "cores_used_peak": "most cores busier than 3 % at one time",
}


def metadata() -> dict[str, Any]:
    """What Datasette shows beside the tables.

    Returns
    -------
    dict
        Its metadata.
    """
    about: dict[str, Any] = {
        name: {"description": text, "tables": {table: {"hidden": True} for table in OURS}}
        for name, text in ABOUT.items()
    }
    about["efficiency"]["tables"]["jobs"] = {"columns": UNITS, "description": ABOUT["efficiency"]}
    about["accounting"]["tables"]["jobs"] = {"columns": {name: UNITS[name] for name in ("cores", "start", "end")}}
    return {"title": "jobeff", "databases": about}


class Following(Database):  # type: ignore[misc]
    """A database that is read anew once another file has its name."""

    def __init__(self, datasette: Any, path: Path, name: str) -> None:
        super().__init__(datasette, str(path), is_mutable=True)
        self._schema = name
        self._threads = threading.local()

    def connect(self, write: bool = False) -> sqlite3.Connection:
        """Open the file; Datasette asks for the right to write only where somebody has it write."""
        if write:
            raise sqlite3.OperationalError("the databases are for reading only")
        connection = tables.read_database(Path(self.path), self._schema)
        connection.execute("pragma query_only = 1")
        return connection

    async def execute_fn(self, fn: Callable[[sqlite3.Connection], Any]) -> Any:
        """Run something with this thread's connection."""

        def in_thread() -> Any:
            about = os.stat(self.path)  # noqa: PTH116  (a path of Datasette is a text)
            file = (about.st_dev, about.st_ino)
            if getattr(self._threads, "file", None) != file:
                before = getattr(self._threads, "connection", None)
                self._threads.file = None
                if before is not None:
                    before.close()
                connection = self.connect()
                self.ds._prepare_connection(connection, self.name)
                self._threads.connection, self._threads.file = connection, file
            return fn(self._threads.connection)

        return await asyncio.get_running_loop().run_in_executor(self.ds.executor, in_thread)


def follow(datasette: Any, config: Config) -> None:
    """Serve the databases there are: those that have come since, and not those that have gone.

    Parameters
    ----------
    datasette
        Of the site.
    config
        Says where they lie.
    """
    for name in ABOUT:
        path = tables.database(config.root, name)
        there, served = path.is_file(), name in datasette.databases
        if there and not served:
            datasette.add_database(Following(datasette, path, name), name=name)
        elif served and not there:
            with contextlib.suppress(KeyError):
                datasette.remove_database(name)
