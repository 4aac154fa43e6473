"""export databases: whole copies of the databases in another folder, for readers on other machines.

Databases are written on local disk, where locks and `fsync` can be relied on. A network file system gets each of them
under another name, renamed once it is whole: a reader there has the old one or the new one.
"""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

from jobeff.errors import ConfigError
from jobeff.steps.export import refuse_ours, told
from jobeff.steps.site import Site, StepResult, timed
from jobeff.store import tables
from jobeff.store.files import atomic_path

PUBLISHED = tuple(name for name in tables.SCHEMAS if name != "collected")
NOT_PUBLISHED = tables.database(Path(), "collected").name
"""The index that `collect` keeps for itself."""


def publish(site: Site, folder: Path) -> StepResult:
    """Copy the databases that are there.

    Parameters
    ----------
    site
        Where they are.
    folder
        Where the copies go; it is made if it is not there.

    Returns
    -------
    StepResult
        Databases copied and their bytes.

    Raises
    ------
    ConfigError
        A data root keeps its own files in the folder, ours or another one.
    """
    refuse_ours(site.config, folder)
    if (folder / NOT_PUBLISHED).exists():
        why, safe = f"a data root keeps its databases there: {NOT_PUBLISHED} is never copied", "Nothing was changed"
        raise ConfigError("cannot copy databases", where=str(folder), why=why, safe=safe, todo="Name another folder")
    with timed("export databases", "databases", "copied bytes") as result:
        sizes = {path: path.stat().st_size for name in PUBLISHED if (path := tables.database(site.root, name)).exists()}
        with site.progress.task("export databases", sum(sizes.values()), "bytes") as advance:
            for path, size in sizes.items():
                source = tables.read_if_there(path, path.stem)
                if source is not None:
                    _copy(source, folder / path.name)
                    result.count("databases")
                    result.count("copied bytes", (folder / path.name).stat().st_size)
                advance(size)
    return result


def _copy(source: sqlite3.Connection, copy: Path) -> None:
    with (
        contextlib.closing(source),
        told(copy),
        atomic_path(copy) as temporary,
        contextlib.closing(sqlite3.connect(temporary, isolation_level=None)) as target,
    ):
        target.execute("pragma journal_mode = off")  # nobody sees it before it is whole
        target.execute("pragma synchronous = off")
        source.backup(target)
