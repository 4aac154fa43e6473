"""load storage, load corehours: statistics of a project and day into their databases.

Of two records of one project and day that differ, the one loaded last counts: within a file the later line, of files
loaded together the one whose name comes last, so that what was corrected later takes the place of what was wrong.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from jobeff.errors import SetAside, shown
from jobeff.sources import corehours, records, storage
from jobeff.sources.accounting import LogLines
from jobeff.steps import source_files
from jobeff.steps.site import Site, StepResult, timed
from jobeff.store import tables
from jobeff.store.locks import lock
from jobeff.store.sqlite import atomic, mark_updated
from jobeff.store.upsert import Incoming

COUNTS = ("records", "new", "changed", "unchanged", "repeated", "files unchanged")
GROUP_BYTES = 2**27
"""Files are loaded in transactions of about so much: many small ones together, else each would wait for the disk."""


@dataclass(frozen=True)
class Statistics:
    """What is loaded, and into which table of the database of that name."""

    source: str
    what: str
    table: str
    columns: tuple[records.Column, ...]
    loaded_column: bool = False


def load_storage(site: Site, files: Sequence[Path] = ()) -> StepResult:
    """Load storage statistics.

    Parameters
    ----------
    site
        Where to work.
    files
        Files, or folders of them; by default what the configuration names.

    Returns
    -------
    StepResult
        Records read; rows new, changed and unchanged; records set aside.

    Raises
    ------
    ConfigError
        Neither files nor a configured source.
    SourceError
        A file is missing or unreadable; nothing was loaded.
    """
    aside = SetAside()
    found = source_files.files(files or [source_files.configured(site.config, "storage")], "storage", aside)
    return _load(site, Statistics("storage", "storage", "storage_history", storage.COLUMNS), found, aside)


def load_corehours(site: Site, files: Sequence[Path] = ()) -> StepResult:
    """Load core-hour statistics that the site keeps itself; they take the place of derived ones.

    Parameters
    ----------
    site
        Where to work.
    files
        Files, or folders of them; by default what the configuration names, if it does.

    Returns
    -------
    StepResult
        As of `load_storage`; of a site that keeps none, nothing.

    Raises
    ------
    SourceError
        A file is missing or unreadable; nothing was loaded.
    """
    if not files and "corehours" not in site.config.sources:
        site.progress.line("load corehours: no file is given or configured; 'jobeff summarise' derives core hours")
        return StepResult("load corehours")
    aside = SetAside()
    found = source_files.files(files or [site.config.sources["corehours"]], "corehours", aside)
    clusters = list(site.config.clusters)
    columns = corehours.columns(clusters[0] if len(clusters) == 1 else None)
    return _load(
        site, Statistics("corehours", "core-hour", "corehour_history", columns, loaded_column=True), found, aside
    )


def _load(site: Site, kind: Statistics, files: Sequence[Path], aside: SetAside) -> StepResult:
    names = [column.name for column in kind.columns]
    key = [name for name in ("proj_id", "date", "cluster") if name in names]
    with timed(f"load {kind.source}", *COUNTS) as result, lock(site.root, kind.table):
        result.aside.merge(aside)
        connection = tables.open_database(tables.database(site.root, kind.table), kind.table)
        try:
            incoming = Incoming(connection, kind.table, [*names, *["loaded"] * kind.loaded_column], key)
            with site.progress.task(f"load {kind.source}", len(files), "files") as advance:
                for group in _groups(files):
                    with atomic(connection):
                        incoming.clear()
                        for path in group:
                            _read(connection, incoming, kind, path, result)
                            advance(1)
                        done = incoming.merge()
                    result.count("records", sum(done))
                    for what, number in done._asdict().items():
                        result.count(what, number)
            with atomic(connection):
                mark_updated(connection, kind.table, site.config.clock)
        finally:
            connection.close()
    return result


def _groups(files: Sequence[Path]) -> Iterator[list[Path]]:
    group: list[Path] = []
    size = 0
    for path in files:
        group.append(path)
        size += path.stat().st_size if path.exists() else 0
        if size >= GROUP_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def _read(connection: sqlite3.Connection, incoming: Incoming, kind: Statistics, path: Path, result: StepResult) -> None:
    """Gather what a file has more than when it was last read; where it cannot be read to its end, nothing of it."""
    aside, where = SetAside(), source_files.name_of(path)
    try:
        with incoming.whole(), path.open("rb") as stream:
            if (before := source_files.read_before(connection, path, stream)) is None:
                result.count("files unchanged")
                return
            mtime_ns = os.fstat(stream.fileno()).st_mtime_ns
            first = records.first_line(stream)
            stream.seek(before.bytes)
            lines = LogLines(stream, number=before.lines, offset=before.bytes)
            if first is None:
                aside.add(f"{kind.what} file", shown(where), "it is empty")
            else:
                reader = records.reader(first, kind.columns)
                rows = records.read(lines, reader, where=shown(where), kind=f"{kind.what} record", aside=aside)
                incoming.add((*row, 1) for row in rows) if kind.loaded_column else incoming.add(rows)
            source_files.remember(connection, path, stream, mtime_ns, lines.offset, lines.number)
    except records.FileRefusedError as error:
        result.aside.add(f"{kind.what} file", shown(where), str(error))
    except OSError as error:
        result.aside.add(f"{kind.what} file", shown(where), error.strerror or str(error))
    else:
        result.aside.merge(aside)
